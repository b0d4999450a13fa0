"""A run killed and ended at every fault point, one after another, ends where an undisturbed one ends.

Rows A1 to A7 and A11. The same checks are made by the long loop with random times, tests/soak/kill_loop.py.
"""

from __future__ import annotations

import shutil
import signal
from itertools import pairwise
from pathlib import Path

import pytest
from after_a_crash import Outcome, lanewise, outcome

from lanewise.fault_points import POINTS

# Where in its life a run is killed; a point in the search is met again by every run that goes on, so later.
ORDERS = [
    "holding_lock:1", "mid_epoch:3", "before_tell:2", "after_tell:3", "ckpt_before_rename:1", "in_sweep:1",
    "between_folds:1", "between_folds:2", "mid_refit:1", "before_upload:1", "mid_upload:1", "after_upload:1",
    "after_version:1", "before_alias:1", "after_alias:1", "mid_report:1",
]  # fmt: skip
PUBLISHING = [order for order in ORDERS if "load" in order or "version" in order or "alias" in order]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, server: dict[str, str]) -> tuple[Outcome, set[str]]:
    """What an uninterrupted run leaves behind, and the points it came by."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = lanewise(folder, server, "run", LANEWISE_FAULT_TRACE=str(folder / "trace"))
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
        if action == "TERM" and order in PUBLISHING:
            # Publishing is one step, which is finished after the signal: each point from before it.
            shutil.copytree(folder, before) if order == PUBLISHING[0] else shutil.rmtree(folder)
            shutil.copytree(before, folder, dirs_exist_ok=True)
        # There is a dead run to be swept only after a SIGKILL.
        now = "KILL" if later.startswith("in_sweep") else action
        run = lanewise(folder, server, "run", LANEWISE_FAULT=f"{order}:{now}")
        code = -signal.SIGKILL if now == "KILL" else 128 + signal.SIGTERM
        assert run.returncode == code, f"{order}: {run.returncode}\n{run.stderr}"
        assert now == "KILL" or "the same command continues" in run.stderr
        assert "Traceback" not in run.stderr
        left = outcome(folder, "tiny", partial=True)
        assert left.ended >= acknowledged, f"{order}: trials that had ended are gone"
        assert left.champion in (None, expected.champion), f"{order}: an unknown or broken champion"
        acknowledged = left.ended
    last = lanewise(folder, server, "run")
    assert last.returncode == 0, last.stderr
    assert outcome(folder, "tiny") == expected
