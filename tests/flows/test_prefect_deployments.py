"""Both deployments of prefect.yaml on a real server with a real worker: started by hand, and by the clock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.local_server import LocalServer

ROOT = Path(__file__).parents[2]
STUDY = """\
data: {source: "sklearn:iris"}
search: {trials: 2, lanes: 2}
train: {epochs: 2}
lr_range: {enabled: false}
evaluate: {folds: 2, repeats: 1, finalists: 1, bootstrap: 100, baselines: false}
"""


def test_prefect_yaml_says_what_the_schedule_needs() -> None:
    text = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    manual, nightly = text["deployments"]
    assert (manual["name"], nightly["name"]) == ("manual", "nightly")
    assert "schedules" not in manual
    assert nightly["schedules"][0]["cron"]
    for deployment in text["deployments"]:
        assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a study and this prefect.yaml, but for its schedule: every five seconds."""
    (tmp_path / "iris.yaml").write_text(STUDY)
    text: dict[str, Any] = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    nightly = text["deployments"][1]
    nightly["schedules"] = [{"interval": 5, "active": True}]
    nightly["parameters"]["study"] = "iris.yaml"
    (tmp_path / "prefect.yaml").write_text(yaml.safe_dump(text))
    return tmp_path


@pytest.fixture
def environment(
    prefect_home: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    monkeypatch.setenv("PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS", "2")
    server = LocalServer(prefect_home, ui=True)
    try:
        server.wait()
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        client = server.client_environment() | {"PREFECT_HOME": str(project / "client"), "PYTHONPATH": path}
        yield {**os.environ, **client, "PREFECT_WORKER_QUERY_SECONDS": "1"}
    finally:
        server.stop()


def states(environment: dict[str, str]) -> list[tuple[str, str]]:
    """(deployment, state) of every run that a deployment started, by start time."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    address = {
        PREFECT_API_URL: environment["PREFECT_API_URL"],
        PREFECT_API_AUTH_STRING: environment["PREFECT_API_AUTH_STRING"],
    }
    with temporary_settings(address), get_client(sync_client=True) as client:
        names = {one.id: one.name for one in client.read_deployments()}
        runs = [r for r in client.read_flow_runs(limit=200) if r.deployment_id is not None]
        return [(names[r.deployment_id], r.state.name) for r in runs if r.deployment_id and r.state]


@pytest.mark.slow
def test_by_hand_and_by_the_clock(project: Path, environment: dict[str, str]) -> None:
    prefect = [sys.executable, "-m", "prefect", "--no-prompt"]

    def call(*args: str) -> str:
        done = subprocess.run(
            [*prefect, *args],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    call("work-pool", "create", "lanewise", "--type", "process")
    call("deploy", "--all")
    log = (project / "worker.log").open("w")
    worker = subprocess.Popen(
        [*prefect, "worker", "start", "--pool", "lanewise"],
        cwd=project,
        env=environment,
        stdout=log,
        stderr=log,
        # a worker that inherits an ignored SIGINT (a script's background job) ignores SIGTERM too
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        call("deployment", "run", "tune/manual", "--param", "study=iris.yaml")
        wanted = {("manual", "Completed"), ("nightly", "Completed")}
        deadline = time.monotonic() + 150
        # One may have come while the other was at work; it says so, and the next one does the work.
        while not wanted <= set(states(environment)) and time.monotonic() < deadline:
            if ("manual", "Skipped") in states(environment):
                wanted = {("manual", "Skipped"), ("nightly", "Completed")}
            time.sleep(1)
        found = set(states(environment))
        assert wanted <= found, (project / "worker.log").read_text()
        assert not {state for _, state in found} & {"Failed", "Crashed"}
    finally:
        worker.terminate()
        worker.wait(120)
        log.close()
    assert (project / ".lanewise" / "studies" / "iris" / "report.html").exists()
    assert "stages" in {path.name for path in (project / ".lanewise").iterdir()}
