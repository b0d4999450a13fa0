"""Schedule factors against torch.optim.lr_scheduler."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from lanewise.engine.schedules import Plateau, factors

PER_EPOCH, EPOCHS = 7, 12
TOTAL = PER_EPOCH * EPOCHS
CONFIG = {
    "min_lr_factor": 0.1, "warmup": 0.0, "restart_epochs": 3, "cycle_epochs": 4, "step_epochs": 5, "gamma": 0.3,
}  # fmt: skip


def torch_rates(make: object, total: int = TOTAL) -> list[float]:
    """Rates a torch scheduler gives a rate of 1 at each step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)  # type: ignore[operator]  # a scheduler class or a partial of one
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


TORCH = {
    "constant": lambda o: lr_scheduler.ConstantLR(o, factor=1.0),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, TOTAL, eta_min=0.1),
    "one_cycle": lambda o: lr_scheduler.OneCycleLR(o, 1.0, TOTAL, cycle_momentum=False),
    "warm_restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3 * PER_EPOCH, eta_min=0.1),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 0.1, 1.0, 2 * PER_EPOCH, cycle_momentum=False),
    "step": lambda o: lr_scheduler.StepLR(o, 5 * PER_EPOCH, 0.3),
}


@pytest.mark.parametrize("name", TORCH)
def test_factors_equal_torch_schedulers_from_any_step(name: str) -> None:
    expected = torch_rates(TORCH[name])
    config = {**CONFIG, "schedule": name}
    assert factors(config, np.arange(TOTAL), TOTAL, PER_EPOCH) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    late = factors(config, np.arange(30, 40), TOTAL, PER_EPOCH)
    assert late == pytest.approx(expected[30:40], rel=1e-6, abs=1e-9)


def test_warmup_rises_linearly_and_ramp_exponentially() -> None:
    t = np.arange(10)
    warm = factors({**CONFIG, "schedule": "constant", "warmup": 0.5}, t, 10, 5)
    assert warm == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1, 1])
    ramp = factors({"schedule": "ramp", "ramp_ratio": 1e9}, t, 10, 5)
    assert ramp == pytest.approx(10.0 ** np.arange(10))


@pytest.mark.parametrize("name", [*TORCH, "plateau"])
def test_every_schedule_warms_up(name: str) -> None:
    t, config = np.arange(TOTAL), {**CONFIG, "schedule": name}
    without = factors(config, t, TOTAL, PER_EPOCH)
    warm = factors({**config, "warmup": 0.25}, t, TOTAL, PER_EPOCH)
    assert warm == pytest.approx(without * np.minimum(1, (t + 1) / (0.25 * TOTAL)))
    assert (warm[21:] == without[21:]).all() and (warm[:20] < without[:20]).all()


@pytest.mark.parametrize("maximize", [True, False])
def test_plateau_equals_torch(maximize: bool) -> None:
    scores = [1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3] if maximize else [3, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    mode = "max" if maximize else "min"
    oracle = lr_scheduler.ReduceLROnPlateau(optimizer, mode, 0.5, 2, threshold=0.0)
    plateau = Plateau(0.5, 2, maximize)
    for score in scores:
        oracle.step(score)
        plateau.update(score)
        assert plateau.scale == optimizer.param_groups[0]["lr"]
    assert plateau.scale < 1
