"""What a network of the user's own may do while it trains, over whole runs.

A14 A15 A16 D1 D2 D6 D8 D10 D11 D12 D13 D14 D15 D16; D4 with real want of memory.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lanewise.testing import toy_classification

ROOT = Path(__file__).parents[2]
NETWORK = """\
import ctypes
import os
import signal
import sys
import time

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, n_features, n_outputs, width=8):
        super().__init__()
        self.width = width
        self.hidden, self.out = nn.Linear(n_features, width), nn.Linear(width, n_outputs)

    def forward(self, x):
        out = self.out(torch.relu(self.hidden(x)))
        if "CALM" in os.environ or not self.training:
            return out
        if self.width == 10:
            print("noise " * 20_000 + "\\nlogin with " + os.environ["DB_PASSWORD"])
            os.environ["CHANGED_BY_NETWORK"] = "1"
            os.chdir("/")
            torch.manual_seed(3)
            torch.set_default_dtype(torch.float64)
        if self.width == 11:
            ctypes.string_at(0)
        if self.width == 12:
            os._exit(3)
        if self.width == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.width == 14:
            time.sleep(1e9)
        if self.width == 15:
            sys.exit("I have had enough")
        return out


class Late(Net):
    def forward(self, x):
        if self.training and self.width == 9 and os.path.exists("now"):
            ctypes.string_at(0)
        if self.training and "DB_PASSWORD" in os.environ:
            print("token: " + os.environ["DB_PASSWORD"])
        return self.out(torch.relu(self.hidden(x)))


class Slow(Net):
    def forward(self, x):
        if x.shape[-2] > 8:
            time.sleep(0.5)
        return self.out(torch.relu(self.hidden(x)))


class Hungry(Net):
    def forward(self, x):
        if self.training and self.width != 8:  # more than the limit that the test sets
            torch.zeros(10**10)
        return self.out(torch.relu(self.hidden(x)))


class Hopeless(Net):
    def forward(self, x):
        if x.shape[-2] > 8:  # the batch that is tried before the search has 8 rows
            raise ValueError(f"no more than 8 rows, password {os.environ['DB_PASSWORD']}")
        return self.out(torch.relu(self.hidden(x)))


class Pair(Net):
    def forward(self, x):
        return self.out(torch.relu(self.hidden(x))), 0


class Deadly(Net):
    def forward(self, x):
        ctypes.string_at(0)


class Frozen(Net):
    def __init__(self, n_features, n_outputs):
        super().__init__(n_features, n_outputs)
        self.requires_grad_(False)
"""
STUDY = """\
seed: 235
data: {source: rows.csv, target: kind}
model: {name: "net:Net"}
space: {width: {choices: [8, 9, 10, 11, 12, 13, 14, 15]}, lr: {low: 0.001, high: 0.01, log: true}}
search: {trials: 8, strategy: random, pruner: none, lanes: 8, max_retries: 1, trial_timeout_s: 15.0}
train: {epochs: 2}
lr_range: {enabled: false}
evaluate: {folds: 2, repeats: 1, finalists: 1, bootstrap: 100, baselines: false}
"""
SECRET = "CANARY_9f3"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return study_in(tmp_path / "study")


def study_in(folder: Path) -> Path:
    folder.mkdir()
    frame = toy_classification(120)
    frame.columns = [*frame.columns[:-1], "kind"]
    frame.to_csv(folder / "rows.csv", index=False)
    (folder / "net.py").write_text(NETWORK)
    (folder / "tiny.yaml").write_text(STUDY)
    return folder


def start(folder: Path, server: dict[str, str], *args: str, **more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DB_PASSWORD": SECRET, **server, **more}
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *args],
        cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def run(folder: Path, server: dict[str, str], *args: str, **more: str) -> tuple[int, str]:
    process = start(folder, server, "run", "tiny.yaml", *args, **more)
    said, _ = process.communicate(timeout=240)
    return process.returncode, said


def trials(folder: Path) -> list[dict[str, Any]]:
    (path,) = folder.glob(".lanewise/studies/tiny/rows-*/ledger.db")
    with closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        rows = [dict(row) for row in database.execute("SELECT * FROM trials ORDER BY number")]
        for row in rows:
            row["width"] = json.loads(row["config"])["width"]
            found = database.execute(
                "SELECT * FROM reports WHERE number = ? ORDER BY epoch", (row["number"],)
            )
            row["reports"] = [tuple(report) for report in found]
    return rows


def test_a_network_that_crashes_exits_hangs_or_meddles_harms_its_own_trial_only(
    tmp_path: Path, server: dict[str, str]
) -> None:
    """A15 A16 D6 D8 D10 D11: and the trials beside it have the bits they have beside calm ones. D15: a flat ramp."""
    wild, calm = study_in(tmp_path / "wild"), study_in(tmp_path / "calm")
    code, said = run(wild, server)
    assert code == 0, said
    flat = ["enabled=true", "low=1e-12", "high=1e-11", "steps=20", "repeats=2"]
    code, said_calm = run(calm, server, *(f"--set=lr_range.{text}" for text in flat), CALM="1")
    assert code == 0, said_calm
    assert "the loss stays flat; the declared range of lr is used" in said_calm
    reasons = {
        11: "killed by SIGSEGV",
        12: "exit: the network ended its process with code 3",
        13: "killed by SIGKILL (out of memory?)",
        14: "timeout: no epoch within 15 s",
        15: "exit: the network called sys.exit(I have had enough)",
    }
    told = trials(wild)
    assert {8, 9, *reasons} <= {t["width"] for t in told}, "the seed was chosen to draw every kind of network"
    for trial, beside_calm in zip(told, trials(calm), strict=True):
        if trial["width"] in reasons:
            assert (trial["state"], trial["reason"]) == ("failed", reasons[trial["width"]])
        elif trial["width"] in (8, 9):
            assert trial["state"] == "complete"
            assert trial["reports"] == beside_calm["reports"]
    (output,) = wild.glob(".lanewise/studies/tiny/rows-*/network-output.txt")
    assert output.stat().st_size < 1024**2
    assert "thrown away" in output.read_text()
    assert not [path for path in wild.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert SECRET not in said


def test_a_network_that_crashes_in_the_range_test_or_in_folds(folder: Path, server: dict[str, str]) -> None:
    """A15, after and before the search: a configuration has no scores, the others have theirs; D10 there too."""
    choices = ["--set", "model.name=net:Late", "--set", "space.width={choices: [8, 9]}", "--set", "search.trials=6"]
    choices += ["--set", "evaluate.finalists=6"]
    process = start(folder, server, "search", "tiny.yaml", *choices)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert {t["width"] for t in trials(folder)} == {8, 9} and {t["state"] for t in trials(folder)} == {"complete"}
    (folder / "now").touch()
    code, said = run(folder, server, *choices)
    assert code == 0, said
    crashed = {json.dumps(json.loads(t["config"])) for t in trials(folder) if t["width"] == 9}
    notes = {line.split("killed by SIGSEGV: ")[1] for line in said.splitlines() if "has no scores" in line}
    assert notes == crashed and "champion" in said, said
    ramp = ["--set", "lr_range.enabled=true", "--set", "name=other", "--set", "space.width=9"]
    process = start(folder, server, "lr-range", "tiny.yaml", *choices, *ramp)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 4 and "cannot be tried on one batch" in said, said
    assert not [path for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert SECRET not in said


def test_a_network_that_crashes_in_the_refit(folder: Path, server: dict[str, str]) -> None:
    """A15: exit 4 with the place to look; all that was found before is kept."""
    study = ["--set", "model.name=net:Late", "--set", "space.width=9"]
    code, said = run(folder, server, *study)
    assert code == 0, said
    (folder / "now").touch()
    code, said = run(folder, server, *study, "--set", "register.gate_margin=0.1")  # the stages before are reused
    assert code == 4 and "could not be trained on all development rows" in said and "killed by SIGSEGV" in said, said
    (folder / "now").unlink()
    code, said = run(folder, server, *study, "--set", "register.gate_margin=0.1")
    assert code == 0 and len(trials(folder)) == 8, said


def children_of(parent: int) -> list[int]:
    """Processes of a network that a run has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            stat = (path / "stat").read_text().rpartition(")")[2].split()
            command = (path / "cmdline").read_bytes()
        except OSError:
            continue
        if int(stat[1]) == parent and b"lanewise.search.worker" in command:
            found.append(int(path.name))
    return found


def runs(pid: int) -> bool:
    """Whether a process is there, and not merely unburied by whoever adopted it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_child_ends_with_its_parent(folder: Path, server: dict[str, str]) -> None:
    """A14: also in the middle of an epoch that takes minutes."""
    process = start(folder, server, "run", "tiny.yaml", "--set", "model.name=net:Slow")
    until = time.monotonic() + 100
    while not (found := children_of(process.pid)):
        assert process.poll() is None and time.monotonic() < until, process.communicate()[0]
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    until = time.monotonic() + 5
    while any(runs(pid) for pid in found) and time.monotonic() < until:
        time.sleep(0.05)
    assert not [pid for pid in found if runs(pid)]


def test_all_trials_fail(folder: Path, server: dict[str, str]) -> None:
    """D14: exit 6 with the commonest reasons, in which no secret stands; nothing is registered."""
    code, said = run(folder, server, "--set", "model.name=net:Hopeless", "--set", "search.max_failures=5")
    assert code == 6, said
    assert "trials in a row failed" in said
    assert "x exception: ValueError: no more than 8 rows, password ***" in said
    assert SECRET not in said
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as database:
        assert database.execute("SELECT count(*) FROM model_versions").fetchone() == (0,)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Pair", "returned a tuple of 2, expected (8, 3)"),
        ("Frozen", "has nothing to train"),
        ("Deadly", "killed by SIGSEGV"),
    ],
)
def test_a_network_that_cannot_be_trained_is_refused_before_the_search(
    folder: Path, server: dict[str, str], name: str, says: str
) -> None:
    """D12 D13: exit 4, no trial begun; nor does the run die with it (A15)."""
    space = [] if name != "Frozen" else ["--set", "space={lr: {low: 0.001, high: 0.01}}"]
    code, said = run(folder, server, "--set", f"model.name=net:{name}", *space)
    assert code == 4, said
    assert says in said
    assert not list(folder.glob(".lanewise/studies/tiny/rows-*/ledger.db"))


def test_a_trial_whose_numbers_are_not_finite_fails_and_is_never_the_best(
    folder: Path, server: dict[str, str]
) -> None:
    """D1 D2. D15: the ramp diverges at once."""
    (folder / "tiny.yaml").write_text(
        STUDY.replace('"net:Net"', "mlp")
        .replace(
            "width: {choices: [8, 9, 10, 11, 12, 13, 14, 15]}, ",
            "optimizer: {choices: [sgd]}, weight_decay: {low: 50.0, high: 100.0}, ",
        )
        .replace("low: 0.001, high: 0.01", "low: 0.001, high: 1000.0")
        .replace("epochs: 2", "epochs: 8")
        .replace("trials: 8", "trials: 12, metric: log_loss")
    )
    ramp = ["enabled=true", "low=100.0", "high=1000.0", "steps=20", "repeats=2"]
    code, said = run(folder, server, *(f"--set=lr_range.{text}" for text in ramp))
    assert code == 0, said
    assert "the declared range of lr is used" in said
    told = trials(folder)
    failed = [t for t in told if t["state"] == "failed"]
    assert failed and all(t["reason"].startswith("nonfinite") and t["value"] is None for t in failed)
    assert all(len(t["reports"]) == t["epochs"] for t in failed)
    best = min((t for t in told if t["state"] == "complete"), key=lambda t: t["value"])
    assert f"trial {best['number']})" in said


def test_a_trial_that_needs_more_memory_than_there_is_fails_and_the_next_ones_do_not(
    folder: Path, server: dict[str, str]
) -> None:
    """D4: the host's allocator refuses. D16: and pruning leaves one trial that completes."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({24 * 1024**3},) * 2); "
    (folder / "sitecustomize.py").write_text(limit)
    code, said = run(
        folder, server, "--set", "model.name=net:Hungry", "--set", "space.width={choices: [8, 9]}",
        "--set", "search.pruner=asha", "--set", "search.rung_first=1", "--set", "search.rung_factor=100",
        PYTHONPATH=os.pathsep.join([str(folder), str(ROOT)]),
    )  # fmt: skip
    assert code == 0, said
    told = trials(folder)
    assert {t["width"] for t in told} == {8, 9}
    for trial in told:
        if trial["width"] == 9:
            assert trial["state"] == "failed" and trial["reason"].startswith("oom: ")
        else:
            assert trial["state"] in ("complete", "pruned")
    assert any(t["state"] == "complete" for t in told) and any(t["state"] == "pruned" for t in told)
