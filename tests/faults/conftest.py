"""What the tests of faults share: one Prefect server for all runs of a file, which then start in three seconds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.local_server import LocalServer


@pytest.fixture(scope="module")
def server(prefect_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment of runs that use it."""
    home = Path(shutil.copytree(prefect_template, tmp_path_factory.mktemp("prefect") / "home"))
    running = LocalServer(home)
    try:
        running.wait()
        yield running.client_environment() | {"PREFECT_HOME": str(home / "client")}
    finally:
        running.stop()
