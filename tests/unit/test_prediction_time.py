"""The time of a prediction: larger networks take longer, and the process is left as it was."""

from __future__ import annotations

import time
from typing import ClassVar

import pytest
import torch
from torch import nn

from lanewise.model import resolve
from lanewise.model_checks import TOY_LAYOUTS
from lanewise.prediction_time import ROWS, prediction_ms


class Sleeps(nn.Module):
    """Takes `ms` for a prediction, which it counts; in training it would raise."""

    rows: ClassVar[list[int]] = []

    def __init__(self, n_features: int, n_outputs: int, *, ms: int = 5) -> None:
        super().__init__()
        self.head = nn.Linear(n_features, n_outputs)
        self.ms = ms

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not self.training and torch.is_inference_mode_enabled()
        torch.randn(1)
        self.rows.append(len(x))
        time.sleep(self.ms / 1000)
        outputs: torch.Tensor = self.head(x)
        return outputs


@pytest.mark.parametrize(("ms", "passes"), [(5, 10), (300, 5)])  # with the one to warm up; after a second no more
def test_the_time_is_that_of_one_pass(ms: int, passes: int) -> None:
    Sleeps.rows.clear()
    before = torch.get_rng_state()
    found = prediction_ms(resolve(Sleeps), TOY_LAYOUTS["table"], 3, {"ms": ms})
    assert ms <= found < 2 * ms + 50
    assert Sleeps.rows == [ROWS] * passes
    assert torch.equal(torch.get_rng_state(), before) and not torch.is_inference_mode_enabled()
