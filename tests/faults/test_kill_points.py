"""A run killed and ended at every fault point, one after another, ends where an undisturbed one ends.

Rows A1 to A7 and A11. The same checks are made by the long loop with random times, tests/soak/kill_loop.py.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from after_a_crash import Outcome, outcome

from flows.local_server import LocalServer
from lanewise.fault_points import POINTS
from lanewise.testing import toy_classification

ROOT = Path(__file__).parents[2]
STUDY = """\
data: {source: rows.csv, target: kind}
search: {trials: 16, lanes: 4, rung_first: 2, startup: 6}
train: {epochs: 10}
lr_range: {repeats: 2, steps: 20}
evaluate: {folds: 2, repeats: 1, finalists: 2, bootstrap: 100, baselines: false}
tracking: {checkpoint_seconds: 0.000001}
"""
# Where in its life a run is killed; a point in the search is met again by every run that goes on, so later.
ORDERS = [
    "holding_lock:1", "mid_epoch:3", "before_tell:2", "after_tell:3", "ckpt_before_rename:1", "in_sweep:1",
    "between_folds:1", "between_folds:2", "mid_refit:1", "before_upload:1", "mid_upload:1", "after_upload:1",
    "after_version:1", "before_alias:1", "after_alias:1", "mid_report:1",
]  # fmt: skip
PUBLISHING = [order for order in ORDERS if "load" in order or "version" in order or "alias" in order]


@pytest.fixture(scope="module")
def server(prefect_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """One Prefect server for all runs: each then starts in three seconds."""
    home = Path(shutil.copytree(prefect_template, tmp_path_factory.mktemp("prefect") / "home"))
    running = LocalServer(home)
    try:
        running.wait()
        yield running.client_environment() | {"PREFECT_HOME": str(home / "client")}
    finally:
        running.stop()


def lanewise(folder: Path, environment: dict[str, str], **more: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    if not (folder / "tiny.yaml").exists():
        frame = toy_classification(240)
        frame.columns = [*frame.columns[:-1], "kind"]
        frame.to_csv(folder / "rows.csv", index=False)
        (folder / "tiny.yaml").write_text(STUDY)
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", "run", "tiny.yaml"],
        cwd=folder,
        env={**os.environ, **environment, "PYTHONPATH": path, **more},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, server: dict[str, str]) -> tuple[Outcome, set[str]]:
    """What an uninterrupted run leaves behind, and the points it came by."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = lanewise(folder, server, LANEWISE_FAULT_TRACE=str(folder / "trace"))
    assert done.returncode == 0, done.stderr
    return outcome(folder, "tiny"), set((folder / "trace").read_text().split())


@pytest.mark.slow
def test_a_normal_run_comes_by_every_point(undisturbed: tuple[Outcome, set[str]]) -> None:
    """But the sweep's, which needs somebody dead: the next test comes by it."""
    assert undisturbed[1] == POINTS.keys() - {"in_sweep"}
    assert {order.split(":")[0] for order in ORDERS} == POINTS.keys()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("action", ["KILL", "TERM"])
def test_killed_at_every_point_it_ends_where_an_undisturbed_run_ends(
    tmp_path: Path, server: dict[str, str], undisturbed: tuple[Outcome, set[str]], action: str
) -> None:
    expected, _ = undisturbed
    assert expected.champion is not None
    folder, acknowledged = tmp_path / "run", 0
    before = tmp_path / "before publishing"
    for order, later in pairwise([*ORDERS, ""]):
        if action == "TERM" and order in PUBLISHING:  # one step, which is finished after the signal: each anew
            shutil.copytree(folder, before) if order == PUBLISHING[0] else shutil.rmtree(folder)
            shutil.copytree(before, folder, dirs_exist_ok=True)
        # There is a dead run to be swept only after a SIGKILL.
        now = "KILL" if later.startswith("in_sweep") else action
        run = lanewise(folder, server, LANEWISE_FAULT=f"{order}:{now}")
        code = -signal.SIGKILL if now == "KILL" else 128 + signal.SIGTERM
        assert run.returncode == code, f"{order}: {run.returncode}\n{run.stderr}"
        assert now == "KILL" or "the same command continues" in run.stderr
        assert "Traceback" not in run.stderr
        left = outcome(folder, "tiny", partial=True)
        assert left.ended >= acknowledged, f"{order}: trials that had ended are gone"
        assert left.champion in (None, expected.champion), f"{order}: an unknown or broken champion"
        acknowledged = left.ended
    last = lanewise(folder, server)
    assert last.returncode == 0, last.stderr
    assert outcome(folder, "tiny") == expected
