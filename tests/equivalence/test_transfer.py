"""Pretrained layers: frozen, thawed and slowed down as parameter groups of torch.optim do it; lanes keep their bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from lanes import CLASSES, ended, lane, run, split
from test_lane_bits import bits

from lanewise.checkpoints import decode, encode
from lanewise.engine import Engine, Lane, reference

TAKEN = ("0.weight", "0.bias", "1.weight", "1.bias", "4.weight", "4.bias")  # all but the last layer
FIRST = ("0.weight", "0.bias")
HOW: dict[str, Any] = {"width": 13, "norm": "layer", "rate": 0.2}


def transferred(
    key: int, config: dict[str, Any], frozen: tuple[str, ...], taken: tuple[str, ...] = TAKEN, **how: Any
) -> Lane:
    """A lane of five epochs that keeps its last one."""
    one = lane(key, epochs=5, config=config, **(how or HOW))
    return replace(one, keep_best=False, taken=taken, frozen=frozen)


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "sgd", "lr": 0.05},
        {"optimizer": "sgd", "lr": 0.05, "nesterov": True, "clip": 0.2},
        {"optimizer": "adam"},
        {"optimizer": "adam", "clip": 0.1, "l1": 1e-3},
        {"optimizer": "adamw", "weight_decay": 0.1},
        {"optimizer": "adamw", "schedule": "plateau"},
        {"optimizer": "rmsprop", "lr": 1e-3},
    ],
    ids=str,
)
def test_training_equals_groups_of_torch_optim(change: dict[str, Any]) -> None:
    """Lanes that thaw at other epochs, train at other rates, and one from scratch, in one pool."""
    data = split()
    wanted = [((), 1, 0.3), (FIRST, 2, 1.0), (TAKEN, 3, 0.1), (TAKEN, 5, 2.0)]
    lanes = [
        transferred(k, {**change, "thaw_epoch": thaw, "pretrained_lr_factor": rate}, frozen)
        for k, (frozen, thaw, rate) in enumerate(wanted)
    ]
    lanes.append(replace(lane(9, epochs=5, config=change, **HOW), keep_best=False))
    curves, engine = run(lanes, [data]), ended(lanes, data)
    for one in lanes:
        expected, shown = reference.train(one, data, CLASSES)
        got = [r.train_loss for r in curves[one.key]]
        assert got == pytest.approx([e["train/loss"] for e in expected], rel=5e-5)
        weights = engine.take(one.key).weights
        for name, tensor in shown.state_dict().items():
            assert torch.allclose(weights[name], tensor, rtol=1e-4, atol=2e-5), name


def test_running_statistics_follow_the_rows_also_where_a_layer_is_frozen() -> None:
    data = split()
    config = {"optimizer": "sgd", "lr": 0.05, "thaw_epoch": 5}
    one = transferred(0, config, TAKEN, width=13, norm="batch")
    _, shown = reference.train(one, data, CLASSES)
    weights, expected = ended([one], data).take(0).weights, shown.state_dict()
    assert torch.equal(weights["1.weight"], torch.ones(13)) and not torch.equal(weights["8.bias"], torch.zeros(3))
    assert torch.allclose(weights["1.running_mean"], expected["1.running_mean"], atol=1e-5)
    assert not torch.allclose(weights["1.running_mean"], torch.zeros(13))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_a_frozen_layer_keeps_its_bits_until_it_thaws(optimizer: str) -> None:
    """Weight decay, momentum and an L1 penalty do not move it either; what is not frozen moves."""
    data = split()
    config = {"optimizer": optimizer, "weight_decay": 0.3, "l1": 0.01, "thaw_epoch": 3}
    one = transferred(0, config, FIRST)
    start = {n: t.clone() for n, t in one.module.state_dict().items()}
    engine = Engine([data], CLASSES, lanes=1)
    engine.add(one)
    for epoch in range(1, 6):
        engine.tick()
        if epoch == 5:
            break
        flat = engine.state(0).rows["flat"]
        first = flat[: start["0.weight"].numel()].view_as(start["0.weight"])
        assert torch.equal(first, start["0.weight"]) == (epoch <= 3)
    weights = engine.take(0).weights
    assert not any(torch.equal(weights[name], start[name]) for name in ("0.weight", "4.weight", "8.weight"))


def test_a_thawed_layer_takes_no_step_larger_than_its_rate() -> None:
    """Adam's means go on while a layer is frozen: without them its first step would be several times the rate."""
    data = split()
    config = {"optimizer": "adam", "weight_decay": 0.0, "schedule": "constant", "warmup": 0.0, "lr": 1e-3,
              "thaw_epoch": 4, "beta2": 0.999}  # fmt: skip
    one = transferred(0, config, FIRST)
    engine = Engine([data], CLASSES, lanes=1)
    engine.add(replace(one, epochs=6))
    rows = []
    for _ in range(5):
        engine.tick()
        rows.append(engine.state(0).rows["flat"].clone())
    size = 7 * 13 + 13
    steps = 2  # of an epoch
    moved = (rows[4] - rows[3])[:size].abs()
    assert 0 < moved.max() < 1.5 * steps * float(one.config["lr"])


def test_without_freezing_and_at_the_full_rate_nothing_is_different() -> None:
    data = split()
    plain = lane(0, epochs=4, **HOW)
    assert bits(run([plain], [data]), 0) == bits(run([replace(plain, taken=TAKEN)], [data]), 0)


def test_bits_do_not_depend_on_neighbours() -> None:
    data = split(rows=150)
    kinds: list[tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]] = [
        ({"thaw_epoch": 2}, TAKEN, TAKEN),
        ({}, (), ()),
        ({"pretrained_lr_factor": 0.1, "optimizer": "sgd"}, (), TAKEN),
        ({"thaw_epoch": 9, "clip": 0.3}, FIRST, FIRST),
    ]
    lanes = [transferred(k, *kinds[k % 4]) for k in range(9)]
    together = run(lanes, [data])
    in_twos = run(lanes, [data], chunk=2)
    for one in lanes:
        assert bits(run([one], [data]), one.key) == bits(together, one.key) == bits(in_twos, one.key)


def test_a_lane_thaws_after_a_checkpoint_as_without() -> None:
    data = split()
    one = transferred(0, {"thaw_epoch": 3, "pretrained_lr_factor": 0.5}, TAKEN)
    whole = run([one], [data])[0]
    engine = Engine([data], CLASSES, lanes=1)
    engine.add(one)
    for _ in range(2):
        engine.tick()
    kept = decode(encode({"0": engine.state(0)}))
    again = Engine([data], CLASSES, lanes=2)
    again.add(transferred(7, {}, ()))
    again.tick()
    again.add(transferred(0, {"thaw_epoch": 3, "pretrained_lr_factor": 0.5}, TAKEN), kept["0"])
    for epoch in (2, 3, 4):
        assert next(r for r in again.tick() if r.key == 0) == whole[epoch]
