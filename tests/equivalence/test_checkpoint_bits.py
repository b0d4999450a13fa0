"""A lane that goes on from its checkpoint has the bits of one that was never stopped, beside other neighbours."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lanes import CLASSES, VALUES, lane, run, split
from test_search_bits import prepared

from lanewise.checkpoints import PRESENT, PREVIOUS, Checkpoints, FinishedLanes, decode, encode
from lanewise.engine.engine import Engine
from lanewise.engine.lane import Lane
from lanewise.folds import fold_trainer
from lanewise.model import resolve
from lanewise.trainer import Trainer

HOW = {"width": 13, "norm": "batch", "rate": 0.3}
FAMILIES = ("sgd", "adam", "adamw", "rmsprop")


def lanes(**how: Any) -> list[Lane]:
    """One for each optimiser and one that keeps its best epoch; all eight schedules, clipping, patience."""
    schedules = ("plateau", "one_cycle", "cosine", "warm_restarts", "cyclic", "step")
    config = [
        {"optimizer": FAMILIES[k % 4], "schedule": schedules[k], "momentum": 0.9, "clip": float(k % 2)}
        for k in range(6)
    ]
    made = [replace(lane(k, epochs=7, config=config[k], **HOW, **how), keep_best=k == 1) for k in range(6)]
    return [replace(made[0], patience=4), *made[1:]]


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("stop", [1, 3, 6])
def test_a_lane_resumed_from_its_checkpoint_has_the_same_bits(regression: bool, stop: int) -> None:
    data = [split(rows=150, regression=regression)]
    goal, how = (VALUES, {"outputs": 1}) if regression else (CLASSES, {})
    whole = run(lanes(**how), data, goal)
    engine = Engine(data, goal, lanes=6)
    for one in lanes(**how):
        engine.add(one)
    for _ in range(stop):
        engine.tick()
    running = [k for k in range(6) if len(whole[k]) > stop]
    kept = decode(encode({str(k): engine.state(k) for k in running}))

    again = Engine(data, goal, lanes=7)
    again.add(lane(77, epochs=1, **HOW, **how))  # somebody else, so that places differ
    for k in reversed(running):
        again.add(lanes(**how)[k], kept[str(k)])
    ends = {}
    for epoch in range(stop, 7):
        for report in again.tick():
            if report.key != 77:
                assert report == whole[report.key][epoch]
            if report.finished:
                ends[report.key] = again.take(report.key)
    taken = Engine(data, goal, lanes=1)
    taken.add(lanes(**how)[1])
    while not taken.tick()[0].finished:
        pass
    best = taken.take(1)
    assert (ends[1].best_epoch, ends[1].epochs) == (best.best_epoch, best.epochs)
    assert all(torch.equal(ends[1].weights[n], w) for n, w in best.weights.items())


def kept_at(folder: Path, epochs: list[int]) -> Checkpoints:
    """A folder with a checkpoint of one lane at each of the epochs."""
    engine = Engine([split()], CLASSES, lanes=1)
    engine.add(lane(1, epochs=9))
    writer = Checkpoints(folder, every_s=0.0)
    for epoch in range(1, max(epochs) + 1):
        engine.tick()
        if epoch in epochs:
            writer.write({"one": engine.state(1)})
            writer.finish()
    return Checkpoints(folder, every_s=0.0)


def epoch_of(found: Checkpoints, at_most: int) -> int | None:
    state = found.find("one", at_most)
    return None if state is None else state.epoch


def test_the_latest_checkpoint_that_is_not_past_the_record_is_used(tmp_path: Path) -> None:
    found = kept_at(tmp_path, [2, 4, 5])
    assert [epoch_of(found, at_most) for at_most in (9, 5, 4, 3)] == [5, 5, 4, None]
    assert found.find("another", 9) is None


@pytest.mark.parametrize("at", [0, 9, 400, -1, -33])
def test_a_damaged_checkpoint_is_never_used_and_the_one_before_is(
    tmp_path: Path, at: int, caplog: pytest.LogCaptureFixture
) -> None:
    found = kept_at(tmp_path, [2, 4])
    content = bytearray((tmp_path / PRESENT).read_bytes())
    content[at] ^= 1
    (tmp_path / PRESENT).write_bytes(content)
    assert epoch_of(found, 9) == 2
    assert "is not used: its SHA-256 is wrong" in caplog.text


@pytest.mark.parametrize("size", [0, 1, 40, 3000])
def test_a_cut_checkpoint_is_never_used(tmp_path: Path, size: int) -> None:
    found = kept_at(tmp_path, [2, 4])
    (tmp_path / PRESENT).write_bytes((tmp_path / PRESENT).read_bytes()[:size])
    (tmp_path / PREVIOUS).write_bytes(b"")
    assert epoch_of(found, 9) is None


def test_a_disk_that_refuses_keeps_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Row B2, at the last moment before the rename; tests/faults has it with a real full disk."""
    from lanewise import fault_points

    kept_at(tmp_path, [2])
    before = (tmp_path / PRESENT).read_bytes()
    fault_points.arm("ckpt_before_rename:1:ENOSPC")
    try:
        kept_at(tmp_path, [3])
    finally:
        fault_points.arm(None)
    assert (tmp_path / PRESENT).read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == [PRESENT]
    assert "no checkpoint (No space left on device); training goes on" in caplog.text


def test_writing_takes_its_share_of_the_time_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("lanewise.checkpoints.time.monotonic", lambda: now[0])
    found = Checkpoints(tmp_path, every_s=30.0)

    def write(cost_s: float) -> None:
        monkeypatch.setattr(
            "lanewise.checkpoints._stacked", lambda _: now.__setitem__(0, now[0] + cost_s) or ({}, [])
        )
        found.write({})
        found.finish()

    assert not found.due()
    now[0] += 30
    assert found.due()
    write(0.05)
    now[0] += 5.1
    assert found.due(at_rung=True) and not found.due()
    now[0] += 25
    write(2.0)  # 2 s of writing want 133.3 s of training
    now[0] += 133
    assert not found.due() and not found.due(at_rung=True)
    now[0] += 1
    assert found.due()
    assert not Checkpoints(tmp_path, every_s=0.0).due(at_rung=True)


def test_what_is_written_is_what_stood_there_then(tmp_path: Path) -> None:
    """The training goes on, in place, while the file is written."""
    engine = Engine([split()], CLASSES, lanes=1)
    engine.add(lane(1, epochs=9))
    engine.tick()
    kept = Checkpoints(tmp_path, every_s=30.0)
    kept.write({"one": engine.state(1)})
    expected = decode(encode({"one": engine.state(1)}))["one"]
    for _ in range(3):
        engine.tick()
    assert not kept.due(stopping=False)
    found = kept.find("one", 99)
    assert found is not None and found.epoch == 1
    assert all(torch.equal(found.rows[name], expected.rows[name]) for name in expected.rows)
    assert not torch.equal(found.rows["flat"], engine.state(1).rows["flat"])


def test_finished_trainings_are_not_repeated_and_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row A5: folds that had ended before a kill are taken as they were; the others are trained."""
    study, dataset, space = prepared(tmp_path)
    splits = dataset.folds(3, 1, study.seed)
    jobs = [(space.default(), 7, split) for split in splits]
    jobs += [(space.default() | {"lr": 1e6}, 7, splits[0])]  # fails, and that is kept, too
    train = partial(fold_trainer, study, resolve("mlp"), dataset)
    whole = train()(jobs)
    assert whole[3][0] is None

    class Killed(Exception):
        pass

    def die_at_second(point: str) -> None:
        if point == "between_folds":
            seen.append(point)
            if len(seen) == 2:
                raise Killed

    seen: list[str] = []
    monkeypatch.setattr("lanewise.checkpoints.fault", die_at_second)
    with pytest.raises(Killed):
        train(FinishedLanes(tmp_path / "kept", "here"))(jobs)
    added: list[str | int] = []
    add = Trainer.add
    monkeypatch.setattr(Trainer, "add", lambda self, lane, state=None: added.append(lane.key) or add(self, lane))
    again = train(FinishedLanes(tmp_path / "kept", "here"))(jobs)
    first = len(added)
    assert 0 < first < 7  # of three trainings in two rounds and one that fails
    elsewhere = train(FinishedLanes(tmp_path / "kept", "other code"))(jobs)
    assert len(added) - first == 7
    for one, two, three in zip(whole, again, elsewhere, strict=True):
        assert one[1] == two[1] == three[1]
        if one[0] is not None:
            assert one[0].tobytes() == two[0].tobytes() == three[0].tobytes()
