"""Lanes on a CUDA device: equal to the slow twin, and a lane's bits do not depend on its neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from lanes import CLASSES, lane, run, split

from lanewise.engine import reference

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
def test_cuda_training_equals_torch_optim_on_the_cpu(optimizer: str, norm: str) -> None:
    data = split()
    lanes = [lane(k, config={"optimizer": optimizer, "lr": 1e-3}, norm=norm, rate=0.2) for k in range(5)]
    curves = run(lanes, [data], device="cuda")
    for one in lanes:
        expected, _ = reference.train(one, data, CLASSES)
        got = [r.train_loss for r in curves[one.key]]
        assert np.allclose(got, [e["train/loss"] for e in expected], rtol=1e-3)


@pytest.mark.parametrize(
    "how", [{"width": 13}, {"width": 64, "rate": 0.2}, {"width": 130, "norm": "batch"}], ids=str
)
def test_bits_do_not_depend_on_the_number_of_lanes_on_cuda(how: dict[str, Any]) -> None:
    data = split(rows=330)

    def losses(count: int, key: int) -> list[str]:
        lanes = [lane(k, epochs=2, **how) for k in range(max(count, key + 1)) if count > 1 or k == key]
        return [r.train_loss.hex() for r in run(lanes, [data], device="cuda")[key]]

    alone = losses(1, 5)
    assert losses(7, 5) == alone
    assert losses(64, 5) == alone


def test_bf16_trains_close_to_float32_on_cuda() -> None:
    data = split(rows=330)
    full = run([lane(0, epochs=5, width=64)], [data], device="cuda")[0][-1].train_loss
    half = run([lane(0, epochs=5, width=64)], [data], device="cuda", precision="bf16")[0][-1].train_loss
    assert half == pytest.approx(full, rel=0.1)
