"""`lanewise verify`, `status`, `resume` and `extend` on a real study: sound, damaged in every part, cut off.

Rows A1, A9, H9, H10, I1, I3, I4, and the checker that the users have for all of A.
"""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from after_a_crash import ROOT, STUDY, environment_of, lanewise, outcome

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """The study at its own path, put back afterwards: MLflow keeps absolute paths of artifacts."""
    shutil.copytree(finished, tmp_path / "whole")
    yield finished
    shutil.rmtree(finished)
    shutil.copytree(tmp_path / "whole", finished)


def checks(folder: Path, server: dict[str, str], *args: str) -> tuple[int, dict[str, dict[str, object]]]:
    done = lanewise(folder, server, "verify", "--json", *args)
    assert "Traceback" not in done.stderr, done.stderr
    found = json.loads(done.stdout)
    return done.returncode, {check["part"]: check for check in found}


def mlflow(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as db:
        assert db.execute(statement).rowcount > 0, statement
        db.commit()


def test_a_sound_study(finished: Path, server: dict[str, str]) -> None:
    code, found = checks(finished, server)
    assert code == 0 and all(check["ok"] for check in found.values()), found
    assert set(found) == {"ledger", "spool", "running", "mlflow", "champion", "prefect"}
    status = json.loads(lanewise(finished, server, "status", "--json").stdout)
    assert (status["state"], sum(status["trials"].values()), status["budget"]) == ("done", 16, 16)
    assert status["waiting"] == status["running"] == 0 and status["owner"] is None


def weights(folder: Path) -> Path:
    (path,) = (folder / "mlruns").rglob("artifacts/model/*.safetensors")
    return path


def flip(path: Path) -> None:
    """I1: one byte, in the middle of the numbers."""
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def run_of(trial: str) -> str:
    return f"(SELECT run_uuid FROM runs WHERE name = '{trial}' AND status = 'FINISHED')"


def test_where_mlflow_says_something_else_is_named(folder: Path, server: dict[str, str]) -> None:
    """A point missing, a point twice, another state, another value, a trial that is not there, one running."""
    for statement in (
        f"DELETE FROM metrics WHERE step=1 AND key='train/loss' AND run_uuid={run_of('trial-0001')}",
        "INSERT INTO metrics SELECT key, value, timestamp + 1, run_uuid, step, is_nan FROM metrics"
        f" WHERE step=1 AND run_uuid={run_of('trial-0002')}",
        f"UPDATE tags SET value='failed' WHERE key='lanewise.state' AND run_uuid={run_of('trial-0003')}",
        f"UPDATE metrics SET value=0.99 WHERE key='objective' AND run_uuid={run_of('trial-0000')}",
        f"UPDATE tags SET value='elsewhere' WHERE key='lanewise.spool' AND run_uuid={run_of('trial-0004')}",
    ):
        mlflow(folder, statement)
    code, found = checks(folder, server)
    assert code == 5
    says = str(found["mlflow"]["says"])
    for words in (
        "trial-0000: objective [0.99], not", "trial-0001: another curve", "trial-0002: another curve",
        "trial-0003: state failed, not", "trial-0004 is not there",
    ):  # fmt: skip
        assert words in says
    mlflow(folder, "UPDATE runs SET status='RUNNING' WHERE name='trial-0005'")
    assert checks(folder, server)[1]["running"] == {
        "part": "running", "ok": False, "says": "trial-0005 in MLflow", "remedy": "lanewise verify tiny.yaml --repair"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("part", "says", "damage"),
    [
        ("champion", "not what was stored", lambda f: flip(weights(f))),
        ("champion", "", lambda f: weights(f).unlink()),
        ("ledger", "is damaged", lambda f: next(f.rglob("ledger.db")).write_bytes(b"no database")),
    ],
)
def test_what_is_damaged_is_named(
    folder: Path, server: dict[str, str], part: str, says: str, damage: Callable[[Path], None]
) -> None:
    """I1, I2, B9: found, named, nothing repaired by itself."""
    damage(folder)
    code, found = checks(folder, server)
    assert code == 5
    assert not found[part]["ok"] and says in str(found[part]["says"]), found
    assert all(check["ok"] for name, check in found.items() if name not in (part, "mlflow")), found


def test_a_run_that_was_killed_is_swept_and_resumed(tmp_path: Path, server: dict[str, str], finished: Path) -> None:
    """A1, A9, H9: seen by status, closed by verify --repair, continued by resume, the same in the end."""
    folder = tmp_path / "study"
    killed = lanewise(folder, server, "run", LANEWISE_FAULT="after_tell:3:KILL")
    assert killed.returncode == -signal.SIGKILL
    status = json.loads(lanewise(folder, server, "status", "--json").stdout)
    assert status["state"] == "cut off" and status["running"] > 0
    code, found = checks(folder, server)
    assert code == 5 and not found["prefect"]["ok"], found
    code, found = checks(folder, server, "--repair")
    assert code == 0, found
    resumed = lanewise(folder, server, "resume")
    assert resumed.returncode == 0, resumed.stderr
    assert outcome(folder, "tiny") == outcome(finished, "tiny")
    assert checks(folder, server)[0] == 0
    again = lanewise(folder, server, "resume")
    assert again.returncode == 2 and "there is nothing to resume" in again.stderr


def test_h9_resume_while_it_runs(tmp_path: Path, server: dict[str, str], start_lanewise) -> None:
    """H9, A9: refused while its process lives, at once possible when that was killed."""
    folder = tmp_path / "study"
    lanewise(folder, server, "check")  # makes the study
    running = start_lanewise("run", str(folder / "tiny.yaml"), "--set", "search.trials=4000", **server)
    while not list(tmp_path.rglob(".lanewise/studies/tiny/rows-*/ledger.db")):
        assert running.poll() is None, running.communicate()
    home = next(tmp_path.rglob(".lanewise"))
    refused = lanewise(folder, server, "resume", "--set", f"tracking.home={home}")
    assert refused.returncode == 75 and f"held by process {running.pid} on" in refused.stderr
    status = lanewise(folder, server, "status", "--set", f"tracking.home={home}").stdout
    assert f"tiny: running, process {running.pid} on" in status
    running.kill()
    running.wait()
    status = lanewise(folder, server, "status", "--set", f"tracking.home={home}").stdout
    assert status.startswith("tiny: cut off\n")
    assert f"lanewise resume tiny.yaml --set tracking.home={home}\n" in status, "with what was given"


def test_extended_is_as_if_the_budget_had_been_larger(folder: Path, tmp_path: Path, server: dict[str, str]) -> None:
    """More budget for a finished study: the trial table of one that had it from the start."""
    whole = tmp_path / "larger"
    done = lanewise(whole, server, "run", study=STUDY.replace("trials: 16", "trials: 22"))
    assert done.returncode == 0, done.stderr
    few = lanewise(folder, server, "extend", "--trials", "16")
    assert few.returncode == 2 and "more than the 16 trials that have ended" in few.stderr
    extended = lanewise(folder, server, "extend", "--trials", "22")
    assert extended.returncode == 0, extended.stderr
    assert "write `search: {trials: 22}` into tiny.yaml" in extended.stdout
    table = outcome(folder, "tiny", partial=True).trials
    assert len(table) == 22
    assert table == outcome(whole, "tiny", partial=True).trials
    assert checks(folder, server)[0] == 0


def test_h10_a_missed_schedule_is_shown(finished: Path, server: dict[str, str]) -> None:
    """H10: the machine was off, or no worker ran, when the schedule came."""
    script = """
import sys
from datetime import UTC, datetime, timedelta
from prefect.client.orchestration import get_client
from prefect.states import Scheduled
from flows.tune import tune
with get_client(sync_client=True) as client:
    flow = client.create_flow(tune)
    made = client.create_deployment(flow_id=flow, name="nightly", entrypoint="flows.tune.tune")
    at = datetime.now(UTC) - timedelta(hours=3)
    client.create_flow_run_from_deployment(
        made, parameters={"study": "tiny.yaml"}, state=Scheduled(scheduled_time=at))
"""
    env = environment_of(server)
    subprocess.run([sys.executable, "-c", script], check=True, env=env, cwd=ROOT, capture_output=True)
    status = lanewise(finished, server, "status")
    assert "the run scheduled for" in status.stdout, status.stdout + status.stderr
