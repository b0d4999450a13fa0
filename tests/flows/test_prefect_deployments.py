"""The deployments of prefect.yaml on a real server with a real worker: by hand, by the clock, cancelled, killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.states import Cancelling

from flows.local_server import LocalServer
from lanewise.ledger import read_trials
from lanewise.owner import owner_in
from tasks.job import LOCK

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


@contextmanager
def asking(environment: dict[str, str]) -> Iterator[SyncPrefectClient]:
    """A client of the server."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    address = {
        PREFECT_API_URL: environment["PREFECT_API_URL"],
        PREFECT_API_AUTH_STRING: environment["PREFECT_API_AUTH_STRING"],
    }
    with temporary_settings(address), get_client(sync_client=True) as client:
        yield client


def states(environment: dict[str, str]) -> list[tuple[str, str]]:
    """(deployment, state) of every run that a deployment started, by start time."""
    with asking(environment) as client:
        names = {one.id: one.name for one in client.read_deployments()}
        runs = [r for r in client.read_flow_runs(limit=200) if r.deployment_id is not None]
        return [(names[r.deployment_id], r.state.name) for r in runs if r.deployment_id and r.state]


def prefect(project: Path, environment: dict[str, str], *args: str) -> None:
    """A command of Prefect's that must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *args],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def worker(project: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of the pool, leader of a process group of its own, which is ended if it still runs."""
    with (project / "worker.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "--no-prompt", "worker", "start", "--pool", "lanewise"],
            cwd=project,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
            # a worker that inherits an ignored SIGINT (a script's background job) ignores SIGTERM too
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(120)


def until(what: Callable[[], bool], seconds: float, project: Path) -> None:
    """Wait for something; what the worker said, if it does not come."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, (project / "worker.log").read_text()
        time.sleep(0.5)


@pytest.mark.slow
def test_by_hand_and_by_the_clock(project: Path, environment: dict[str, str]) -> None:
    prefect(project, environment, "work-pool", "create", "lanewise", "--type", "process")
    prefect(project, environment, "deploy", "--all")
    with worker(project, environment):
        prefect(project, environment, "deployment", "run", "tune/manual", "--param", "study=iris.yaml")

        # One may have come while the other was at work; it says so, and the next one does the work.
        def both() -> bool:
            found = set(states(environment))
            return ("nightly", "Completed") in found and bool(
                found & {("manual", "Completed"), ("manual", "Skipped")}
            )

        until(both, 150, project)
        assert not {state for _, state in states(environment)} & {"Failed", "Crashed"}
    assert (project / ".lanewise" / "studies" / "iris" / "report.html").exists()
    assert "stages" in {path.name for path in (project / ".lanewise").iterdir()}


LONG = STUDY.replace("trials: 2, lanes: 2", "trials: 40, lanes: 2, pruner: none").replace(
    "epochs: 2", "epochs: 60, patience: 0"
)


def ended(project: Path) -> int:
    """Trials of the long study that have ended, by its ledger."""
    ledgers = list(project.glob(".lanewise/studies/long/rows-*/ledger.db"))
    return len(read_trials(ledgers[0])) if ledgers else 0


def checked(project: Path, environment: dict[str, str]) -> str:
    """What `lanewise verify` says of the long study."""
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "verify", "long.yaml"],
        cwd=project, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return f"{done.returncode} {done.stdout}{done.stderr}"


@pytest.mark.slow
def test_c13_cancelled_from_prefect(project: Path, environment: dict[str, str]) -> None:
    """As SIGTERM: it stops after the present step, and the next run goes on with the same study."""
    (project / "long.yaml").write_text(LONG)
    prefect(project, environment, "work-pool", "create", "lanewise", "--type", "process")
    prefect(project, environment, "deploy", "--name", "manual")
    with worker(project, environment):
        prefect(project, environment, "deployment", "run", "tune/manual", "--param", "study=long.yaml")
        until(lambda: ended(project) > 2, 90, project)
        with asking(environment) as client:
            run = next(r for r in client.read_flow_runs() if r.deployment_id)
            client.set_flow_run_state(run.id, Cancelling())
        until(lambda: ("manual", "Cancelled") in states(environment), 60, project)
        before = ended(project)
        assert before < 40
        assert "stopping after this step" in (project / "worker.log").read_text()
        prefect(project, environment, "deployment", "run", "tune/manual", "--param", "study=long.yaml")
        until(lambda: ("manual", "Completed") in states(environment), 120, project)
    assert ended(project) == 40
    assert checked(project, environment).startswith("0 ")


def heartbeats(client: SyncPrefectClient) -> str:
    """The events of heartbeats that the server has, as JSON."""
    wanted = {"filter": {"event": {"name": ["prefect.flow-run.heartbeat"]}}}
    return client.request("POST", "/events/filter", json=wanted).text


@pytest.mark.slow
@pytest.mark.timeout(700)  # the sum of what it waits for on a busy machine; alone it takes three minutes
def test_c12_worker_killed(project: Path, environment: dict[str, str]) -> None:
    """Worker and run die at once: the automation sees it, and the schedule goes on with the study."""
    (project / "long.yaml").write_text(LONG.replace("trials: 40", "trials: 24"))
    text = yaml.safe_load((project / "prefect.yaml").read_text())
    nightly = text["deployments"][1]
    nightly["parameters"]["study"] = "long.yaml"
    nightly["schedules"] = [{"interval": 15, "active": True}]  # each one that is refused costs the server work
    (project / "prefect.yaml").write_text(yaml.safe_dump(text))
    automation = yaml.safe_load((ROOT / "docker" / "crashed-runs.yaml").read_text())
    assert automation["trigger"]["within"] == 90
    automation["trigger"]["within"] = 60  # heartbeats come every 30 s, and Prefect allows no shorter time
    (project / "crashed-runs.yaml").write_text(yaml.safe_dump(automation))
    prefect(project, environment, "automation", "create", "--from-file", "crashed-runs.yaml")
    prefect(project, environment, "work-pool", "create", "lanewise", "--type", "process")
    prefect(project, environment, "deploy", "--all")
    with worker(project, environment) as first:
        until(lambda: ended(project) > 2, 90, project)
        with asking(environment) as client:
            # the longest at work: a later one may be there that is about to say that the study is taken
            runs = [r for r in client.read_flow_runs(limit=200) if r.deployment_id and r.state_name == "Running"]
            run = min(runs, key=lambda r: r.start_time)
            until(lambda: str(run.id) in heartbeats(client), 60, project)
            assert client.read_flow_run(run.id).state_name == "Running"
            os.killpg(first.pid, signal.SIGKILL)
            # the run is in a session of its own and would go on to its end without the worker
            at_work = owner_in(project / ".lanewise" / "studies" / "long" / LOCK)
            assert at_work is not None
            os.kill(at_work.pid, signal.SIGKILL)
            assert ended(project) < 24
            until(lambda: client.read_flow_run(run.id).state_name == "Crashed", 180, project)
    with worker(project, environment):
        until(lambda: ("nightly", "Completed") in states(environment), 300, project)
    assert ended(project) == 24
    assert checked(project, environment).startswith("0 ")
