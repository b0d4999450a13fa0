"""A grid whose cells raise, run out of memory and are killed, over whole runs: every cell is accounted for, once."""

from __future__ import annotations

import hashlib
import itertools
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from after_a_crash import environment_of, lanewise, outcome

from lanewise.ledger import read_trials

WIDTHS, ACTS, BIASES, SHIFTS = (6, 7, 8, 9), ("relu", "tanh", "gelu"), (True, False), (0.0, 0.5)
CELLS = list(itertools.product(WIDTHS, ACTS, BIASES, SHIFTS))
DEFAULT = (8, "relu", True, 0.0)
# Which cells fail is chosen by a hash of their configuration: 4 always, 3 in their first trial, 1 for want of memory.
CHOSEN = sorted((c for c in CELLS if c != DEFAULT), key=lambda c: hashlib.sha256(repr(c).encode()).digest())
ALWAYS, AT_FIRST, HUNGRY = CHOSEN[:4], CHOSEN[4:7], CHOSEN[7]
ALL_TRIALS = 40 + 3 * 2 + 5 * 3  # those that fail always have three
NETWORK = f"""\
import os
from pathlib import Path

import torch
from torch import nn

ALWAYS, AT_FIRST, HUNGRY = {ALWAYS!r}, {AT_FIRST!r}, {HUNGRY!r}


class Net(nn.Module):
    def __init__(self, n_features, n_outputs, width=8, act="relu", bias=True, shift=0.0):
        super().__init__()
        self.cell, self.act, self.shift = (width, act, bias, shift), getattr(nn.functional, act), shift
        self.hidden = nn.Linear(n_features, width, bias=bias)
        self.out = nn.Linear(width, n_outputs)
        if self.cell in AT_FIRST and self._first_trial():
            raise ValueError("not at the first attempt")

    def _first_trial(self):
        # The weights come from the trial's own seed: they say which trial it is, also when it is built anew.
        mine = float(self.out.bias.detach()[0]).hex()
        note = Path(__file__).with_name("first-" + "-".join(map(str, self.cell)))
        try:
            with note.open("x") as file:
                file.write(mine)
        except FileExistsError:
            pass
        return note.read_text() == mine

    def forward(self, x):
        if self.training and self.cell in ALWAYS:
            raise ValueError("never")
        if self.training and self.cell == HUNGRY:
            raise torch.OutOfMemoryError("no room for this one")
        return self.out(self.act(self.hidden(x) + self.shift))
"""
STUDY = f"""\
seed: 11
data: {{source: rows.csv, target: kind}}
model: {{name: "net:Net"}}
space:
  lr: 0.01
  weight_decay: 0.0
  width: {list(WIDTHS)}
  act: {list(ACTS)}
  bias: [true, false]
  shift: {list(SHIFTS)}
search: {{strategy: grid, lanes: 12, max_retries: 2, pruner: none}}
train: {{epochs: 3}}
lr_range: {{enabled: false}}
evaluate: {{folds: 2, repeats: 1, finalists: 1, bootstrap: 100, baselines: false}}
tracking: {{checkpoint_seconds: 0.000001}}
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def cell_of(config: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(config[name] for name in ("width", "act", "bias", "shift"))


def prepared(folder: Path) -> Path:
    folder.mkdir()
    (folder / "net.py").write_text(NETWORK)
    return folder


def searched(
    folder: Path, server: dict[str, str], *args: str, command: str = "search"
) -> subprocess.CompletedProcess[str]:
    return lanewise(folder, server, command, *args, study=STUDY)


def ended(folder: Path) -> int:
    (path, *_) = [*folder.glob(".lanewise/studies/tiny/rows-*/ledger.db"), None]
    if path is None:
        return 0
    try:
        return len(read_trials(path))
    except Exception:  # it is just being made
        return 0


def kill_when(folder: Path, server: dict[str, str], trials: int) -> None:
    """Run the study and kill it as soon as so many trials have ended."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "search", "tiny.yaml"],
        cwd=folder, env=environment_of(server), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    until = time.monotonic() + 200
    while ended(folder) < trials:
        assert process.poll() is None and time.monotonic() < until, process.communicate()[0]
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL and ended(folder) < ALL_TRIALS


def expected(cell: tuple[Any, ...]) -> tuple[Sequence[str], str | None]:
    """States of the trials of a cell, first to last, and why the last one failed."""
    if cell in ALWAYS:
        return ["failed"] * 3, "exception: ValueError: never"
    if cell == HUNGRY:
        return ["failed"] * 3, "oom: no room for this one"
    return ["failed", "complete"] if cell in AT_FIRST else ["complete"], None


def test_a_grid_with_failing_cells_that_is_killed_three_times_is_whole(
    tmp_path: Path, server: dict[str, str]
) -> None:
    """48 cells, 7 that raise, 1 without memory, 3 kills; and it is the grid that nobody killed, bit for bit."""
    killed, straight = prepared(tmp_path / "killed"), prepared(tmp_path / "straight")
    done = searched(straight, server)
    assert done.returncode == 0, done.stdout + done.stderr
    lanewise(killed, server, "check", study=STUDY)  # makes its rows
    for trials in (3, 20, 45):
        kill_when(killed, server, trials)
    done = searched(killed, server)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "grid of 48 cells (4 of width, 3 of act, 2 of bias, 2 of shift)" in done.stdout + done.stderr
    assert "48 cells: 43 done, 5 impossible" in done.stdout + done.stderr
    found = outcome(killed, "tiny")
    assert found.trials == outcome(straight, "tiny").trials
    assert len(found.trials) == ALL_TRIALS
    by_cell: dict[tuple[Any, ...], list[dict[str, Any]]] = {cell: [] for cell in CELLS}
    for trial in found.trials:
        by_cell[cell_of(trial["config"])].append(trial)
    for cell, trials in by_cell.items():
        states, reason = expected(cell)
        assert [t["state"] for t in trials] == states, cell
        if reason is not None:
            assert reason in trials[-1]["reason"]
        assert len({t["seed"] for t in trials}) == len(trials)
    # in MLflow, too, every trial has ended once (`outcome` looks for runs that are there twice)
    assert not found.running
    names = Counter(name for name in found.histories if name.startswith("trial-"))
    assert names == Counter(f"trial-{t['number']:04d}" for t in found.trials if t["state"] == "complete")


def test_a_grid_with_missing_cells_is_not_done(tmp_path: Path, server: dict[str, str]) -> None:
    folder = prepared(tmp_path / "study")
    cut = searched(folder, server, "--set", "search.epochs=120")
    assert cut.returncode == 6, cut.stdout + cut.stderr
    of, _, listed = cut.stderr.partition(" of 48 cells missing")
    missing = int(of.split()[-1])
    assert 0 < missing < 48 and listed.count("width ") == min(missing, 20)
    before = ended(folder)
    counts = json.loads(searched(folder, server, "--json", command="status").stdout)["grid"]
    assert sum(counts.values()) == 48 and counts["missing"] + counts.get("retrying", 0) == missing
    again = searched(folder, server)
    assert again.returncode == 0, again.stdout + again.stderr
    assert ended(folder) > before and "48 cells: 43 done, 5 impossible" in again.stdout + again.stderr
