"""A loss the user wrote: stacked lanes against the slow twin and torch's own, and one that vmap refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lanes import CLASSES, VALUES, lane, run, split
from test_lane_bits import bits

from lanewise.engine import Engine, reference

TOLERANCE = 2e-5


def multi_margin(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Multi-class hinge loss, written without indexing by masks."""
    own = outputs.gather(1, target[:, None])
    margins = (1 + outputs - own).clamp(min=0)
    return (margins.sum(1) - 1).mean() / outputs.shape[1]


def log_cosh(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return torch.log(torch.cosh(outputs[:, 0] - target)).mean()


def stubborn(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the rows of the classes that occur; a shape that depends on values cannot be stacked."""
    return F.cross_entropy(outputs[target >= 0], target[target >= 0])


@pytest.mark.parametrize("own", [multi_margin, stubborn])
@pytest.mark.parametrize("change", [{}, {"mixing": "mixup", "mixing_alpha": 1.0, "clip": 0.5}], ids=str)
def test_own_losses_of_classes_equal_the_slow_twins(own: Any, change: dict[str, Any]) -> None:
    data, goal = split(), replace(CLASSES, loss=f"here:{own.__name__}", own=own)
    lanes = [lane(k, config=change if k else {}) for k in range(3)]
    curves = run(lanes, [data], goal)
    for one in lanes:
        expected, _ = reference.train(one, data, goal)
        got = [r.train_loss for r in curves[one.key]]
        assert np.allclose(got, [e["train/loss"] for e in expected], rtol=TOLERANCE)
        assert bits(run([one], [data], goal), one.key) == bits(curves, one.key)


def test_an_own_loss_of_numbers_equals_the_slow_twins() -> None:
    data, goal = split(regression=True), replace(VALUES, loss="here:log_cosh", own=log_cosh)
    lanes = [lane(k, outputs=1) for k in range(3)]
    curves = run(lanes, [data], goal)
    for one in lanes:
        expected, _ = reference.train(one, data, goal)
        got = [r.train_loss for r in curves[one.key]]
        assert np.allclose(got, [e["train/loss"] for e in expected], rtol=TOLERANCE)


def test_losses_that_torch_has_too_train_the_same() -> None:
    data = split()
    margin = torch.nn.MultiMarginLoss()
    out, target = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    assert multi_margin(out, target) == pytest.approx(margin(out, target).item())
    plain = run([lane(0)], [data])[0]
    own = run([lane(0)], [data], replace(CLASSES, loss="here:stubborn", own=stubborn))[0]
    assert [r.train_loss for r in own] == pytest.approx([r.train_loss for r in plain], rel=TOLERANCE)


def test_a_loss_that_vmap_refuses_is_said_to_run_one_after_another() -> None:
    for own, refused in ((stubborn, True), (multi_margin, False)):
        engine = Engine([split()], replace(CLASSES, loss="here:own", own=own), lanes=2)
        engine.add(lane(0, epochs=1))
        engine.tick()
        assert [note.startswith("stubborn: the loss runs one lane after another") for note in engine.notes] == (
            [True] if refused else []
        )
