"""Several runs at once: sweepers of one dead run, two runs of one slot, two that register one name (H5, H6, H8)."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from after_a_crash import STUDY, environment_of, lanewise, outcome

pytestmark = pytest.mark.slow

HELD = 75


def at_once(calls: list[Callable[[], int]]) -> list[int]:
    """Exit codes of commands that were started together."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def rows(folder: Path, statement: str) -> list[tuple[str, float]]:
    with closing(sqlite3.connect(f"file:{folder}/mlruns/mlflow.db?mode=ro", uri=True)) as db:
        return db.execute(statement).fetchall()


def versions(folder: Path) -> dict[str, float]:
    """Version -> accuracy on the sealed rows."""
    return dict(
        rows(
            folder,
            "SELECT v.version, m.value FROM model_versions v JOIN metrics m"
            " ON m.run_uuid = v.run_id AND m.key = 'test/accuracy'",
        )
    )


def champions(folder: Path) -> list[str]:
    """What the alias `champion` names."""
    return [v for (v,) in rows(folder, "SELECT version FROM registered_model_aliases WHERE alias = 'champion'")]


@pytest.mark.timeout(300)
def test_h5_h8_eight_find_a_dead_run_at_once(tmp_path: Path, finished: Path, server: dict[str, str]) -> None:
    """Four would continue it, four repair it: one at a time does, and the trials are those of an undisturbed run."""
    folder = tmp_path / "run"
    killed = lanewise(folder, server, "run", LANEWISE_FAULT="after_tell:4:KILL")
    assert killed.returncode == -signal.SIGKILL
    runs = [lambda: lanewise(folder, server, "run").returncode] * 4
    repairs = [lambda: lanewise(folder, server, "verify", "--repair").returncode] * 4
    codes = at_once([call for pair in zip(runs, repairs, strict=True) for call in pair])
    # who finds it held by another says so; who finds it still unfinished after a repair (1) says that
    assert set(codes) <= {0, 1, HELD} and set(codes[::2]) <= {0, HELD}, codes
    last = lanewise(folder, server, "run")
    assert last.returncode == 0, last.stderr
    assert outcome(folder, "tiny") == outcome(finished, "tiny")
    assert len(versions(folder)) == 1
    assert lanewise(folder, server, "verify").returncode == 0


@pytest.mark.timeout(300)
def test_h6_two_runs_register_one_name_at_once(tmp_path: Path, server: dict[str, str]) -> None:
    """One is stopped just before it sets the alias, the other has compared itself with nothing by then."""
    folder = tmp_path / "run"
    lanewise(folder, server, "check")
    (folder / "poor.yaml").write_text(STUDY.replace("epochs: 10", "epochs: 1"))
    name = ["--set", "register.name=both"]
    poor = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "run", "poor.yaml", *name], cwd=folder, stderr=subprocess.PIPE, text=True,
        env=environment_of(server | {"LANEWISE_FAULT": "before_alias:1:STOP"}),
    )  # fmt: skip
    with ThreadPoolExecutor(1) as pool:
        try:
            until(lambda: state(poor.pid) == "T")
            good = pool.submit(lanewise, folder, server, "run", *name)
            until(lambda: len(versions(folder)) == 2)
            time.sleep(2.0)  # it waits for the lock, having found no champion
        finally:
            poor.send_signal(signal.SIGCONT)
        _, said = poor.communicate(timeout=60)
        assert poor.returncode == 0, said
        assert good.result().returncode == 0, good.result().stderr
    scores = versions(folder)
    assert len(scores) == 2
    (champion,) = champions(folder)
    assert scores[champion] == max(scores.values()) > min(scores.values())


def state(pid: int) -> str:
    """A letter as of proc_pid_stat(5): T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def until(what: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)
