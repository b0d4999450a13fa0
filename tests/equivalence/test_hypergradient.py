"""Hypergradients of stacked lanes against central differences of the slow twin, in float64."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lanes import CLASSES, CONFIG, VALUES, lane, run, split
from sklearn.metrics import mean_pinball_loss
from torch import nn

from lanewise.engine import Engine, Goal, Lane, SplitTensors, reference
from lanewise.engine.hypergradient import CONTINUOUS
from lanewise.training import CLASS_LOSSES

RELATIVE = 1e-3  # of the derivative; measured: below 1e-5 but where a ReLU changes sides between two runs
STEP = 1e-5  # of a central difference, relative to the hyperparameter
BASE = {"lr": 3e-3, "weight_decay": 1e-2, "momentum": 0.8, "label_smoothing": 0.1}


@pytest.fixture
def double() -> Iterator[None]:
    """Torch's default type is float64 for a test."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def in_double(data: SplitTensors) -> SplitTensors:
    def wide(x: torch.Tensor) -> torch.Tensor:
        return x.double() if x.is_floating_point() else x

    return SplitTensors(
        tuple(map(wide, data.train)), wide(data.train_target), tuple(map(wide, data.valid)),
        wide(data.valid_target), data.scale,
    )  # fmt: skip


def valid_loss(one: Lane, data: SplitTensors, goal: Goal) -> float:
    """The slow twin's loss on the validation rows after the lane's last epoch."""
    _, module = reference.train(one, data, goal)
    module.eval()
    with torch.no_grad():
        out = module(*data.valid)
        if goal.loss in CLASS_LOSSES:
            return F.cross_entropy(out, data.valid_target).item()
        values, target = out.squeeze(-1), data.valid_target
        if goal.loss == "huber":
            return F.huber_loss(values, target, delta=one.config["huber_delta"]).item()
        if goal.loss == "quantile":
            return mean_pinball_loss(target, values, alpha=one.config["quantile_level"])
        return {"mse": F.mse_loss, "mae": F.l1_loss}[goal.loss](values, target).item()


def difference(one: Lane, name: str, data: SplitTensors, goal: Goal) -> float:
    """The central difference of the slow twin's validation loss."""
    value = float(one.config[name])
    step = STEP * value
    sides = [replace(one, config={**one.config, name: value + sign * step}) for sign in (1, -1)]
    up, down = (valid_loss(side, data, goal) for side in sides)
    return (up - down) / (2 * step)


def check(lanes: list[Lane], data: SplitTensors, goal: Goal = CLASSES) -> None:
    """Every lane's last report has its validation loss and the derivatives a difference finds."""
    reports = run(lanes, [data], goal)
    for one in lanes:
        last = reports[one.key][-1]
        assert last.scores["hyper/loss"] == pytest.approx(valid_loss(one, data, goal), rel=1e-5)
        for name in one.slopes:
            expected = difference(one, name, data, goal)
            assert expected != 0
            assert last.scores[f"hyper/{name}"] == pytest.approx(expected, rel=RELATIVE), name


def slopes_of(change: dict[str, Any], regression: bool = False) -> tuple[str, ...]:
    """The continuous hyperparameters that have an effect."""
    without = {"label_smoothing"} if regression else set()
    if {**CONFIG, **change}["optimizer"] in ("adam", "adamw"):
        without.add("momentum")
    return tuple(name for name in CONTINUOUS if name not in without)


def some_lanes(change: dict[str, Any], count: int = 3, regression: bool = False, **how: Any) -> list[Lane]:
    """Lanes of one shape with their own seeds, rates of learning and of dropout."""
    how = {"activation": nn.Tanh, "outputs": 1 if regression else 3, **how}
    config = {**BASE, **change}
    lanes = [lane(k, config=config, rate=0.1 * (k + 1), **how) for k in range(count)]
    slopes = slopes_of(change, regression)
    return [
        replace(
            one, shape="same", slopes=slopes, config={**one.config, "lr": config["lr"] * (1 + one.key / 3)}
        )
        for one in lanes
    ]  # keys are numbers


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "sgd", "lr": 0.05},
        {"optimizer": "sgd", "lr": 0.05, "nesterov": True},
        {"optimizer": "adam"},
        {"optimizer": "adamw"},
        {"optimizer": "rmsprop", "lr": 1e-3},
        {"clip": 0.2},
        {"class_weight": "balanced"},
        {"l1": 1e-3},
        {"mixing": "mixup", "mixing_alpha": 0.5},
        *({"schedule": s} for s in ("constant", "one_cycle", "warm_restarts", "cyclic", "step")),
    ],
    ids=str,
)
@pytest.mark.usefixtures("double")
def test_every_optimizer_with_dropout_agrees_with_central_differences(change: dict[str, Any]) -> None:
    check(some_lanes(change), in_double(split()))


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.SiLU])
@pytest.mark.usefixtures("double")
def test_networks_with_normalisation_agree(norm: str, activation: type[nn.Module]) -> None:
    # A bias before batch normalisation has no gradient but rounding, which Adam blows up to whole steps: sgd.
    change = {"optimizer": "sgd", "lr": 0.05} if norm == "batch" else {}
    check(some_lanes(change, norm=norm, activation=activation), in_double(split()))


@pytest.mark.parametrize("loss", ["mse", "huber", "mae", "quantile"])
@pytest.mark.usefixtures("double")
def test_regression_losses_agree(loss: str) -> None:
    goal, own = replace(VALUES, loss=loss), {"huber_delta": 0.5, "quantile_level": 0.8}
    check(some_lanes(own, regression=True), in_double(split(regression=True)), goal)


@pytest.mark.usefixtures("double")
def test_the_focal_loss_is_trained_on_and_cross_entropy_is_differentiated() -> None:
    lanes = [replace(one, slopes=("lr", "weight_decay")) for one in some_lanes({"focal_gamma": 2.0})]
    check(lanes, in_double(split()), replace(CLASSES, loss="focal"))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.usefixtures("double")
def test_other_data_and_longer_training_agree(seed: int) -> None:
    data = in_double(split(seed=seed, rows=120))
    check([replace(one, epochs=8) for one in some_lanes({"optimizer": "sgd", "lr": 0.05}, 2)], data)


def test_in_float32_the_derivatives_are_those_of_float64() -> None:
    """What a search uses: the same lanes in the engine's own type."""
    data = split()
    lanes = some_lanes({})
    wider = [replace(one, module=copy.deepcopy(one.module).double()) for one in lanes]
    narrow = run(lanes, [data])
    torch.set_default_dtype(torch.float64)
    try:
        wide = run(wider, [in_double(data)])
    finally:
        torch.set_default_dtype(torch.float32)
    for one in lanes:
        for name in ("loss", *one.slopes):
            a, b = (reports[one.key][-1].scores[f"hyper/{name}"] for reports in (narrow, wide))
            assert a == pytest.approx(b, rel=RELATIVE), name


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_lane_does_not_know_its_neighbours_nor_its_slopes(norm: str) -> None:
    """Bit for bit: alone, in chunks, beside a lane that diverges; and trained without slopes."""
    data = split()
    lanes = some_lanes({"clip": 0.5}, 5, norm=norm)
    lanes[2] = replace(lanes[2], config={**lanes[2].config, "optimizer": "sgd", "lr": 1e30, "clip": 0.0})
    together = run(lanes, [data])
    in_twos = run(lanes, [data], chunk=2)
    plain = run([replace(one, slopes=()) for one in lanes], [data])
    assert together[2][-1].failed
    for one in lanes:
        if one.key == 2:
            continue
        alone = run([one], [data])
        assert [r.scores for r in alone[one.key]] == [r.scores for r in together[one.key]]
        assert [r.scores for r in in_twos[one.key]] == [r.scores for r in together[one.key]]
        for report, bare in zip(together[one.key], plain[one.key], strict=True):
            assert report.train_loss == bare.train_loss
            assert report.scores["accuracy"] == bare.scores["accuracy"]


def test_a_lane_that_goes_on_from_its_state_has_the_same_slopes() -> None:
    data = split()
    (one, *_) = some_lanes({}, norm="batch")
    straight = run([one], [data])[one.key]
    first, second = Engine([data], CLASSES, lanes=1), Engine([data], CLASSES, lanes=1)
    first.add(one)
    first.tick()
    second.add(some_lanes({}, norm="batch")[0], first.state(one.key))
    rest = [*second.tick(), *second.tick()]
    assert [r.scores for r in rest] == [r.scores for r in straight[1:]]


def test_lanes_with_and_without_slopes_share_an_engine() -> None:
    data = split()
    lanes = some_lanes({})
    lanes[1] = replace(lanes[1], slopes=())
    reports = run(lanes, [data])
    assert "hyper/lr" in reports[0][-1].scores and "hyper/lr" not in reports[1][-1].scores


def test_a_network_that_vmap_refuses_has_the_slopes_of_its_stacked_twin() -> None:
    class Stubborn(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = super().forward(x)
            return out if out.sum().item() == out.sum().item() else out * 0  # .item() cannot be stacked

    found = {}
    for kind in (nn.Sequential, Stubborn):
        lanes = []
        for one in some_lanes({}):
            torch.manual_seed(one.key)
            module = kind(nn.Linear(7, 8), nn.Tanh(), nn.Linear(8, 3))
            lanes.append(replace(one, module=module, shape=kind.__name__))
        engine = Engine([split()], CLASSES, lanes=3)
        for one in lanes:
            engine.add(one)
        found[kind] = [report.scores for report in engine.tick()]
        assert [note for note in engine.notes if "one after another" in note] == (
            engine.notes if kind is Stubborn else []
        )
    for plain, refused in zip(*found.values(), strict=True):
        assert refused == pytest.approx(plain, rel=1e-4)
