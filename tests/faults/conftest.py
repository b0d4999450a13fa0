"""What the tests of faults share: one Prefect server for all runs of a file, which then start in three seconds."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from after_a_crash import lanewise
from postgres import Postgres, binaries

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


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, server: dict[str, str]) -> Path:
    """The folder of a study that nobody disturbed."""
    folder = tmp_path_factory.mktemp("finished") / "study"
    done = lanewise(folder, server, "run")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL for the tests of one file."""
    if binaries() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    # Not in pytest's folder: every pytest that starts closes that one to the server's user.
    with tempfile.TemporaryDirectory(prefix="lanewise-postgres-") as folder:
        server = Postgres(Path(folder), "max_connections = 60\nfsync = off")
        try:
            yield server
        finally:
            server.stop()
