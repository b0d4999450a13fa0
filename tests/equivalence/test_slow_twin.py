"""Stacked lanes against the slow twin (torch.optim, plain modules, one trial at a time)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from lanes import CLASSES, VALUES, lane, run, split
from torch import nn

from lanewise.engine import reference

TOLERANCE = 2e-5  # float32; three epochs of a small network, other order of additions


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "sgd", "momentum": 0.0},
        {"optimizer": "sgd", "momentum": 0.9, "lr": 0.05},
        {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "lr": 0.05},
        {"optimizer": "adam"},
        {"optimizer": "adamw"},
        {"optimizer": "rmsprop", "lr": 1e-3},
        {"optimizer": "rmsprop", "momentum": 0.0, "lr": 1e-3},
        {"clip": 0.2},
        {"label_smoothing": 0.1},
        {"class_weight": "balanced"},
        {"class_weight": "balanced", "label_smoothing": 0.2},
        {"l1": 1e-3},
        {"l1": 0.05, "clip": 0.5, "optimizer": "sgd", "lr": 0.05},
        *({"schedule": s} for s in ("constant", "one_cycle", "warm_restarts", "cyclic", "step", "plateau")),
    ],
    ids=str,
)
def test_training_equals_torch_optim(change: dict[str, object]) -> None:
    data = split()
    lanes = [lane(k, config=change) for k in range(5)]
    curves = run(lanes, [data])
    for one in lanes:
        expected, _ = reference.train(one, data, CLASSES)
        got = [r.train_loss for r in curves[one.key]]
        assert np.allclose(got, [e["train/loss"] for e in expected], rtol=TOLERANCE)
        assert [r.scores["accuracy"] for r in curves[one.key]] == pytest.approx(
            [e["accuracy"] for e in expected], abs=1e-6
        )


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh])
def test_networks_with_dropout_and_normalisation_equal_the_plain_module(
    norm: str, activation: type[nn.Module]
) -> None:
    data = split()
    how = {"norm": norm, "activation": activation}
    lanes = [lane(k, rate=0.1 * k, **how) for k in range(4)]
    shared = [type(one)(**{**one.__dict__, "shape": "same"}) for one in lanes]  # rates differ, shape does not
    curves = run(shared, [data])
    for one in shared:
        expected, _ = reference.train(one, data, CLASSES)
        got = [r.train_loss for r in curves[one.key]]
        assert np.allclose(got, [e["train/loss"] for e in expected], rtol=TOLERANCE)


@pytest.mark.parametrize("weight", ["none", "balanced"])
def test_focal_loss_with_its_own_gamma_in_every_lane(weight: str) -> None:
    data, goal = split(), replace(CLASSES, loss="focal")
    lanes = [lane(k, config={"focal_gamma": g, "class_weight": weight}) for k, g in enumerate((0, 0.5, 2, 5))]
    curves = run(lanes, [data], goal)
    for one in lanes:
        expected, _ = reference.train(one, data, goal)
        got = [r.train_loss for r in curves[one.key]]
        assert np.allclose(got, [e["train/loss"] for e in expected], rtol=TOLERANCE)
    plain = run([lanes[0]], [data])
    assert np.allclose([r.train_loss for r in curves[0]], [r.train_loss for r in plain[0]], rtol=TOLERANCE)


REGRESSION: dict[str, list[dict[str, float]]] = {
    "mse": [{}] * 3, "mae": [{}] * 3,
    "huber": [{"huber_delta": d} for d in (0.1, 1.0, 3.0)],
    "quantile": [{"quantile_level": q} for q in (0.1, 0.5, 0.95)],
}  # fmt: skip


@pytest.mark.parametrize("loss", REGRESSION)
def test_regression_losses_and_scaled_scores(loss: str) -> None:
    data = split(regression=True)
    goal = type(VALUES)(**{**VALUES.__dict__, "loss": loss})
    lanes = [lane(k, config=own, outputs=1) for k, own in enumerate(REGRESSION[loss])]
    curves = run(lanes, [data], goal)
    for one in lanes:
        expected, _ = reference.train(one, data, goal)
        for report, epoch in zip(curves[one.key], expected, strict=True):
            assert report.train_loss == pytest.approx(epoch["train/loss"], rel=TOLERANCE)
            assert report.scores["mse"] == pytest.approx(epoch["mse"], rel=1e-4)


def test_each_lane_trains_on_its_own_split() -> None:
    splits = [split(seed=s, rows=rows) for s, rows in ((0, 90), (1, 92), (2, 90))]
    lanes = [type(one)(**{**one.__dict__, "split": k % 3}) for k, one in enumerate(lane(k) for k in range(6))]
    curves = run(lanes, splits)
    for one in lanes:
        expected, _ = reference.train(one, splits[one.split], CLASSES)
        got = [r.train_loss for r in curves[one.key]]
        assert np.allclose(got, [e["train/loss"] for e in expected], rtol=TOLERANCE)
        assert curves[one.key][-1].scores["accuracy"] == pytest.approx(expected[-1]["accuracy"], abs=1e-6)


def test_a_network_that_vmap_refuses_runs_one_after_another_with_the_same_result() -> None:
    class Stubborn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(7, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = self.body(x)
            return out if out.sum().item() == out.sum().item() else out * 0  # .item() cannot be stacked

    from lanewise.engine.engine import Engine

    data = split()
    lanes = []
    for k in range(3):
        torch.manual_seed(k)
        lanes.append(type(lane(0))(**{**lane(k).__dict__, "module": Stubborn(), "shape": "stubborn"}))
    engine = Engine([data], CLASSES, lanes=3)
    for one in lanes:
        engine.add(one)
    got = {r.key: r.train_loss for r in engine.tick()}
    assert "one after another" in engine.notes[0]
    for one in lanes:
        expected, _ = reference.train(type(one)(**{**one.__dict__, "stop": 1}), data, CLASSES)
        assert got[one.key] == pytest.approx(expected[0]["train/loss"], rel=TOLERANCE)
