"""A whole run from the command line, and what happens when it is cut off; Prefect's server is a real one."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from lanewise.owner import hold

TINY = """\
data: {source: rows.csv, target: kind}
search: {trials: 4, lanes: 2}
train: {epochs: 4}
lr_range: {repeats: 2, steps: 20}
evaluate: {folds: 2, repeats: 1, finalists: 1, bootstrap: 100}
"""
LONG = TINY.replace("trials: 4", "trials: 4000, pruner: none").replace(
    "epochs: 4", "epochs: 200, patience: 0"
)
STAGES = ("prepare", "lr_range", "search", "evaluate", "register", "report")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    from lanewise.testing import toy_classification

    frame = toy_classification(120)
    frame.columns = [*frame.columns[:-1], "kind"]
    frame.to_csv(tmp_path / "rows.csv", index=False)
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def query(database: Path, sql: str) -> list[tuple]:
    with sqlite3.connect(database) as connection:
        return connection.execute(sql).fetchall()


def wait_for(process: subprocess.Popen[str], text: str, limit_s: float = 90) -> str:
    """Read the run's lines until one holds the text."""
    assert process.stderr is not None
    deadline, seen = time.monotonic() + limit_s, ""
    while time.monotonic() < deadline:
        line = process.stderr.readline()
        seen += line
        if text in line:
            return seen
        if not line and process.poll() is not None:
            break
    raise AssertionError(f"no {text!r} in:\n{seen}")


def server_of(home: Path) -> list[int]:
    """Process ids of local servers that work for this home."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                settings = (entry / "environ").read_bytes()
            except OSError:
                continue
            if b"local_server.py" in command and f"PREFECT_HOME={home}\0".encode() in settings + b"\0":
                found.append(int(entry.name))
    return found


@pytest.mark.slow
def test_whole_run_then_nothing_to_do(lanewise, study: Path, prefect_home: Path) -> None:
    first = lanewise("run", str(study))
    assert first.returncode == 0, first.stderr
    folder = study.parent / ".lanewise" / "studies" / "tiny"
    assert [s for s in STAGES if f" {s}: " in first.stderr] == list(STAGES)
    assert "unchanged" not in first.stderr
    assert str(folder / "report.html") in first.stdout
    assert "<html" in (folder / "report.html").read_text()
    runs = query(study.parent / "mlruns" / "mlflow.db", "select name, status from runs")
    assert not [name for name, status in runs if status == "RUNNING"]
    assert {f"trial-{n:04d}" for n in range(4)} | {
        "pipeline",
        "lr-range",
        "fold-1",
        "fold-2",
        "final",
    } <= dict(runs).keys()

    second = lanewise("run", str(study))
    assert second.returncode == 0, second.stderr
    assert len(re.findall("unchanged, reused", second.stderr)) == len(STAGES)
    assert second.stdout == first.stdout
    assert query(study.parent / "mlruns" / "mlflow.db", "select name, status from runs") == runs

    flows = query(
        prefect_home / "prefect.db",
        "select f.name, r.state_name from flow_run r join flow f on f.id = r.flow_id",
    )
    assert sorted(flows) == sorted([(name, "Completed") for name in ("tune", *STAGES)] * 2)
    states = query(prefect_home / "prefect.db", "select state_name, count(*) from task_run group by 1")
    assert dict(states)["Reused"] == len(STAGES)
    assert set(dict(states)) == {"Completed", "Reused"}  # nothing was lost when the server stopped
    await_end(prefect_home)

    # The folds score what is registered: an average is cross-validated anew.
    averaged = lanewise("run", str(study), "--set", "register.members=2")
    assert averaged.returncode == 0, averaged.stderr
    assert re.findall(r"(\w+): unchanged, reused", averaged.stderr) == ["prepare", "lr_range", "search"]
    await_end(prefect_home)


@pytest.mark.slow
def test_nothing_stored_is_a_pickle(lanewise, study: Path, prefect_home: Path) -> None:
    """Neither results nor the exception of a failed run; Prefect keeps those by its own choice."""
    assert lanewise("run", str(study), "--set", "data.target=nothing").returncode in (2, 3)
    kept = [p for p in (prefect_home / "storage").rglob("*") if p.is_file()]
    assert kept, "Prefect no longer keeps exceptions: the test looks at the wrong place"
    for path in kept:
        content = json.loads(path.read_text())
        json.loads(content["result"]) if isinstance(content, dict) and "result" in content else content


@pytest.mark.slow
def test_cut_off_in_every_way_then_done(start_lanewise, study: Path, prefect_home: Path) -> None:
    """Ctrl-C, SIGTERM, SIGKILL, and at last the local server killed under a run, which does not notice."""
    study.write_text(LONG)
    reports = 0
    for number, code, words in (
        (signal.SIGINT, 130, "stopping after this step"),
        (signal.SIGTERM, 143, "stopping after this step"),
        (signal.SIGKILL, -9, ""),
    ):
        run = start_lanewise("run", str(study))
        seen = wait_for(run, "search: ")
        assert ("lr_range: unchanged, reused" in seen) == (reports > 0)
        begun = time.monotonic()
        run.send_signal(number)
        _, err = run.communicate(timeout=30)
        assert run.returncode == code, err
        assert time.monotonic() - begun < 10
        assert words in err
        assert code == -9 or "the same command continues" in err
        (ledger,) = study.parent.glob(".lanewise/studies/tiny/rows-*/ledger.db")
        found = query(ledger, "select count(*) from reports")[0][0]
        assert found >= max(reports, 1), "what was written as ended is kept"
        reports = found
        await_end(prefect_home)
    flows = "select state_type from flow_run"
    assert ("RUNNING",) in query(prefect_home / "prefect.db", flows)

    last = start_lanewise("run", str(study), "--set", "search.trials=6")
    seen = wait_for(last, "lr_range: unchanged, reused")
    (server,) = server_of(prefect_home)
    os.kill(server, signal.SIGKILL)
    _, err = last.communicate(timeout=200)
    assert last.returncode == 0, seen + err
    assert set(query(prefect_home / "prefect.db", flows)) == {("COMPLETED",), ("CRASHED",)}
    runs = query(study.parent / "mlruns" / "mlflow.db", "select name, status from runs")
    assert not [name for name, status in runs if status == "RUNNING"]
    finished = [name for name, status in runs if status == "FINISHED" and name.startswith("trial-")]
    assert len(finished) == len(set(finished)), "a trial counts once"


def await_end(home: Path) -> None:
    """The local server ends with its run, however that ended."""
    deadline = time.monotonic() + 10
    while server_of(home) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert server_of(home) == []


def test_held_study(lanewise, study: Path) -> None:
    """H1: the second run is told who holds the study."""
    with hold(study.parent / ".lanewise" / "studies" / "tiny" / "run.lock"):
        held = lanewise("run", str(study))
    assert held.returncode == 75, held.stderr
    assert f"held by process {os.getpid()} on {socket.gethostname()} since 20" in held.stderr
    assert "Traceback" not in held.stderr
