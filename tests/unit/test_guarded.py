"""Lanes of which one fails: by an exception, by a process that ends, alone or only together."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from lanewise.checkpoints import Checkpoints
from lanewise.data import Dataset, prepare
from lanewise.ledger import Report
from lanewise.model import resolve
from lanewise.search.causes import LaneProcessError, cause_of
from lanewise.search.deaths import Deaths
from lanewise.search.guarded import GuardedLanes
from lanewise.search.lanes import SearchLanes
from lanewise.search.records import LaneRequest
from lanewise.study import Study, load_study
from lanewise.testing import toy_classification
from lanewise.trainer import Trainer

NETWORK = """\
import os
import sys

import torch
from torch import nn


class Net(nn.Module):
    calls = 0

    def __init__(self, n_features, n_outputs, width=8):
        super().__init__()
        self.width = width
        self.hidden, self.out = nn.Linear(n_features, width), nn.Linear(width, n_outputs)

    def forward(self, x):
        if self.training:
            Net.calls += 1
        late = Net.calls > 12
        if self.width == 13 and late:
            raise ValueError("width 13 with password=hunter2 " + os.environ.get("DB_PASSWORD", ""))
        if self.width == 14 and late:
            sys.exit(3)
        if self.width == 15 and late:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        if self.width == 16 and late:
            return self.hidden(x).reshape(-1)[:5]
        return self.out(torch.relu(self.hidden(x)))
"""


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Study, Dataset]:
    frame = toy_classification(120)
    frame.columns = [*frame.columns[:-1], "kind"]
    frame.to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "guarded_net.py").write_text(NETWORK)
    (tmp_path / "s.yaml").write_text(
        "data: {source: rows.csv, target: kind}\nmodel: {name: guarded_net:Net}\nsearch: {trials: 4, lanes: 4}\n"
    )
    study = load_study(tmp_path / "s.yaml", {"tracking.home": str(tmp_path / "home")})
    monkeypatch.delitem(sys.modules, "guarded_net", raising=False)
    return study, prepare(study).dataset


def guarded(study: Study, dataset: Dataset, checkpoints: Checkpoints | None, remember: bool) -> GuardedLanes:
    network = resolve("guarded_net:Net", search_path=[study.base_dir])
    network.factory.calls = 0  # type: ignore[attr-defined]
    return GuardedLanes(SearchLanes(Trainer(study, network, dataset), checkpoints, remember=remember), 4)


def train(lanes: Any, widths: Sequence[int], ticks: int = 6) -> dict[int, list[Report]]:
    for number, width in enumerate(widths):
        lanes.add(LaneRequest(number, {"width": width, "lr": 0.01}, number + 7, 20, 0))
    seen: dict[int, list[Report]] = {number: [] for number in range(len(widths))}
    for _ in range(ticks):
        for report in lanes.tick():
            seen[report.number].append(report)
            if report.failed:
                lanes.drop(report.number)
        lanes.keep(at_rung=False, stopping=False)
    return seen


@pytest.mark.parametrize("remember", [False, True])
@pytest.mark.parametrize(
    ("width", "reason"),
    [
        (13, "exception: ValueError: width 13 with password=hunter2 ***"),
        (14, "exit: the network called sys.exit(3)"),
        (15, "oom: CUDA out of memory. Tried to allocate 20.00 GiB"),
        (16, "exception: "),
    ],
)
def test_one_lane_fails_and_its_neighbours_keep_their_bits(
    prepared: tuple[Study, Dataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    width: int,
    reason: str,
    remember: bool,
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "CANARY_9f3")
    checkpoints = None if remember else Checkpoints(tmp_path / "kept", 1e-9)
    seen = train(guarded(*prepared, checkpoints, remember), [8, width, 9, 8])
    alone = train(guarded(*prepared, None, False), [8, 8, 9, 8])
    for neighbour in (0, 2, 3):
        assert seen[neighbour] == alone[neighbour]
        assert len(seen[neighbour]) == 6
    last = seen[1][-1]
    assert last.failed is not None and last.failed.startswith(reason)
    assert 1 < last.epoch == len(seen[1]) < 6 and math.isnan(last.train_loss)


class Fragile:
    """Lanes that die when `dies` says so; their state is the epoch alone."""

    def __init__(self, dies: Callable[[Fragile], BaseException | None]) -> None:
        self.dies, self.epochs, self.kept, self.chunks = dies, dict[int, int](), dict[int, int](), [None]

    def saved(self, request: LaneRequest, at_most: int) -> int:
        return self.kept.get(request.number, 0)

    def add(self, request: LaneRequest, epoch: int = 0) -> None:
        self.epochs[request.number] = epoch

    def drop(self, number: int) -> None:
        self.epochs.pop(number, None)

    def forget(self, number: int) -> None:
        self.kept.pop(number, None)

    def put_aside(self, number: int) -> None:
        self.kept[number] = self.epochs[number]

    def keep(self, *, at_rung: bool, stopping: bool) -> None: ...

    def restart(self, chunk: Any) -> None:
        self.epochs, self.chunks = {}, [*self.chunks, chunk]

    def tick(self) -> list[Report]:
        error = self.dies(self)
        if error is not None:
            raise error
        self.epochs = {n: e + 1 for n, e in self.epochs.items()}
        return [Report(n, e, 0.5, {"valid/accuracy": 1.0 / e}) for n, e in sorted(self.epochs.items())]


def test_a_lane_that_ends_its_process_is_tried_three_times_then_it_is_a_poison_trial() -> None:
    """A18."""
    deaths: list[list[int]] = []

    def dies(lanes: Fragile) -> BaseException | None:
        if lanes.epochs.get(1) != 2:
            return None
        deaths.append(sorted(lanes.epochs))
        return LaneProcessError("killed by SIGKILL", worth_another=True)

    seen = train(GuardedLanes(Fragile(dies), 4), [8, 9, 10], ticks=5)
    assert [r.failed for r in seen[1]] == [None, None, "killed by SIGKILL, 3 times alone: a poison trial"]
    assert [len(seen[n]) for n in (0, 2)] == [5, 5]
    assert deaths == [[0, 1, 2], [1], [1], [1]]


class KilledError(BaseException):
    """Stands for the end of this process."""


def test_a_trial_that_kills_the_whole_run_is_found_by_the_runs_that_continue(tmp_path: Path) -> None:
    """A18: three runs end in the same epoch, three more with the same trial alone; the next knows which it is."""
    ends: list[list[int]] = []

    def dies(lanes: Fragile) -> BaseException | None:
        if lanes.epochs.get(1) != 2:
            return None
        ends.append(sorted(lanes.epochs))
        return KilledError()

    for run in range(7):
        guarded_lanes = GuardedLanes(Fragile(dies), 4, 3, Deaths(tmp_path / "deaths.json"))
        for number in range(3):
            guarded_lanes.add(LaneRequest(number, {"width": 8, "lr": 0.01}, number + 7, 20, 0))
        for _ in range(2):
            guarded_lanes.tick()
        if run < 6:
            with pytest.raises(KilledError):
                guarded_lanes.tick()
    assert ends == [[0, 1, 2]] * 3 + [[1]] * 3
    reports = {r.number: r for r in guarded_lanes.tick()}
    reason = reports[1].failed
    assert reason == (
        "the run was killed 6 times in this epoch, 3 times in a row while this trial trained alone: a poison trial"
    )
    assert [reports[n].epoch for n in (0, 2)] == [3, 3] and not reports[0].failed
    guarded_lanes.drop(1)
    assert [(r.number, r.epoch, r.failed) for r in guarded_lanes.tick()] == [(0, 4, None), (2, 4, None)]


def test_a_run_that_is_killed_from_outside_blames_no_trial(tmp_path: Path) -> None:
    """Killed again and again in one long epoch, now while this trial is alone, now while another: none has failed."""
    victims = iter([None, None, None, 0, 1, 0, 2, 2, 1])

    for _ in range(9):
        victim = next(victims)

        def dies(lanes: Fragile, victim: int | None = victim) -> BaseException | None:
            together = len(lanes.epochs) > 1
            hit = lanes.epochs.get(1) == 2 if together else lanes.epochs.get(victim) == 2
            return KilledError() if hit and together == (victim is None) else None

        guarded_lanes = GuardedLanes(Fragile(dies), 4, 3, Deaths(tmp_path / "deaths.json"))
        for number in range(3):
            guarded_lanes.add(LaneRequest(number, {"width": 8, "lr": 0.01}, number + 7, 20, 0))
        for _ in range(2):
            guarded_lanes.tick()
        with pytest.raises(KilledError):
            guarded_lanes.tick()
    guarded_lanes = GuardedLanes(Fragile(lambda _: None), 4, 3, Deaths(tmp_path / "deaths.json"))
    for number in range(3):
        guarded_lanes.add(LaneRequest(number, {"width": 8, "lr": 0.01}, number + 7, 20, 0))
    assert not [r.failed for _ in range(5) for r in guarded_lanes.tick() if r.failed]


def test_a_run_killed_once_in_a_while_trains_as_ever(tmp_path: Path) -> None:
    deaths = Deaths(tmp_path / "deaths.json")
    assert deaths.begin({0: 1}) == (0, None, 0)
    assert deaths.begin({0: 2}) == (0, None, 0)
    assert Deaths(tmp_path / "deaths.json").begin({0: 2}) == (1, None, 0)
    again = Deaths(tmp_path / "deaths.json")
    assert again.begin({0: 1}) == (0, None, 0)
    (tmp_path / "deaths.json").write_text("{")
    assert Deaths(tmp_path / "deaths.json").begin({0: 1}) == (0, None, 0)


def test_a_lane_that_died_by_accident_goes_on() -> None:
    left = [LaneProcessError("killed by SIGKILL", worth_another=True)] * 2

    def dies(lanes: Fragile) -> BaseException | None:
        return left.pop() if left and lanes.epochs.get(1) == 2 else None

    seen = train(GuardedLanes(Fragile(dies), 4), [8, 9, 10], ticks=5)
    assert [len(reports) for reports in seen.values()] == [5, 5, 5]
    assert not any(r.failed for reports in seen.values() for r in reports)


def test_lanes_too_large_together_step_in_smaller_groups() -> None:
    lanes = Fragile(
        lambda lanes: (
            torch.OutOfMemoryError("CUDA out of memory")
            if len(lanes.epochs) > 2 and (lanes.chunks[-1] or 9) > 1
            else None
        )
    )
    seen = train(GuardedLanes(lanes, 4), [8, 9, 10, 11], ticks=5)
    assert [len(reports) for reports in seen.values()] == [5] * 4
    assert not any(r.failed for reports in seen.values() for r in reports)
    assert lanes.chunks[-1] == 1


def test_reasons_are_one_short_line_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_TOKEN", "CANARY_9f3")
    error = ValueError("at postgresql://me:CANARY_1@host/db with CANARY_9f3 " + "x" * 1000 + "\nsecond line")
    reason = cause_of(error).reason
    assert "CANARY" not in reason and "second" not in reason and len(reason) == 300
    assert cause_of(MemoryError()).reason == "oom"
    host = RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory")
    assert cause_of(host).reason.startswith("oom: ")
