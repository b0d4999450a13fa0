"""What every test has: quiet libraries, and for those that start whole runs a Prefect home made once."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

os.environ |= {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}
for name in ("PREFECT_API_URL", "PREFECT_HOME", "MLFLOW_TRACKING_URI"):
    os.environ.pop(name, None)


@pytest.fixture(scope="session")
def prefect_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Prefect home with its database made: eight seconds, once for all test processes."""
    from flows.local_server import LocalServer

    shared = tmp_path_factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else None
    home = (shared or tmp_path_factory.mktemp("prefect")) / "prefect-home"
    with home.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "made").exists():
            server = LocalServer(home)
            try:
                server.wait()
            finally:
                server.stop()
            (home / "made").touch()
    return home


@pytest.fixture
def prefect_home(prefect_template: Path, tmp_path: Path) -> Path:
    """A Prefect home of this test's own."""
    return Path(shutil.copytree(prefect_template, tmp_path / "prefect-home"))


@pytest.fixture
def toy_rows(tmp_path: Path) -> None:
    """rows.csv in the test's own folder: 120 made rows, their classes in the column `kind`."""
    from lanewise.testing import toy_classification

    frame = toy_classification(120)
    frame.columns = [*frame.columns[:-1], "kind"]
    frame.to_csv(tmp_path / "rows.csv", index=False)


Lanewise = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start_lanewise(prefect_home: Path, tmp_path: Path) -> Iterator[Lanewise]:
    """Start `lanewise ...` in the test's own folder; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*args: str, **environment: str) -> subprocess.Popen[str]:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *args],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path, "PREFECT_HOME": str(prefect_home), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def lanewise(start_lanewise: Lanewise) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `lanewise ...` to its end in the test's own folder."""

    def run(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = start_lanewise(*args, **environment)
        out, err = process.communicate(timeout=240)
        return subprocess.CompletedProcess(args, process.returncode, out, err)

    return run
