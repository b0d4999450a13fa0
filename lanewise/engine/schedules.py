"""Learning-rate schedules as factors of the lane's own step; used by pool, one trial at a time.

A factor multiplies the lane's base rate. All but `plateau` are closed forms of the step, so a lane can
start at any step. torch.optim.lr_scheduler is the oracle in the tests; its stateful schedulers are not
used because each lane has its own step counter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

SCHEDULES = ("constant", "cosine", "one_cycle", "warm_restarts", "cyclic", "step", "plateau", "ramp")


def factors(config: Mapping[str, Any], steps: npt.NDArray[np.int64], total: int, per_epoch: int) -> Array:
    """Factors of the base learning rate.

    Args:
        config: The lane's training hyperparameters.
        steps: int array [S], the lane's own 0-based optimiser steps.
        total: Steps of the lane's whole budget.
        per_epoch: Steps in one epoch.

    Returns:
        float64 array [S].

    Sources: cosine and warm restarts: Loshchilov and Hutter 2017 (arXiv 1608.03983); one cycle and
    cyclic: Smith 2017, 2018 (arXiv 1506.01186, 1708.07120); ramp: Smith 2017, the LR range test.
    """
    t = steps.astype(np.float64)
    kind = config["schedule"]
    floor = float(config.get("min_lr_factor", 0.0))
    if kind == "ramp":
        climb: Array = np.exp(np.log(float(config["ramp_ratio"])) * t / max(total - 1, 1))
        return climb
    if kind == "cosine":
        shape: Array = _cosine(t / total, floor)
    elif kind == "one_cycle":
        shape = _one_cycle(t, total)
    elif kind == "warm_restarts":
        period = int(config["restart_epochs"]) * per_epoch
        shape = _cosine((t % period) / period, floor)
    elif kind == "cyclic":
        shape = _triangle(t, int(config["cycle_epochs"]) * per_epoch, floor)
    elif kind == "step":
        shape = float(config["gamma"]) ** (t // (int(config["step_epochs"]) * per_epoch))
    else:  # constant, and plateau, whose factor depends on the scores and is the pool's
        shape = np.ones_like(t)
    return shape * _warmup(t, float(config.get("warmup", 0.0)) * total)


def _cosine(progress: Array, floor: float) -> Array:
    shape: Array = floor + (1 - floor) * 0.5 * (1 + np.cos(np.pi * progress))
    return shape


def _warmup(t: Array, length: float) -> Array:
    return np.minimum(1.0, (t + 1) / length) if length >= 1 else np.ones_like(t)


def _one_cycle(t: Array, total: int) -> Array:
    """From 1/25 of the rate up to it over 30 % of the steps, then down to 1/250,000 (torch's defaults)."""
    start, end = 1 / 25, 1 / 25 / 1e4
    peak = 0.3 * total - 1
    last = total - 1

    def anneal(a: float, b: float, share: Array) -> Array:
        shape: Array = b + (a - b) / 2 * (1 + np.cos(np.pi * share))
        return shape

    up = anneal(start, 1.0, t / peak) if peak > 0 else np.ones_like(t)
    down = anneal(1.0, end, (t - peak) / max(last - peak, 1e-12))
    return np.where(t <= peak, up, down)


def _triangle(t: Array, period: int, floor: float) -> Array:
    """From `floor` up to 1 and back within `period` steps (torch's CyclicLR, mode triangular)."""
    half = max(period / 2, 1)
    cycle = np.floor(1 + t / (2 * half))
    x = np.abs(t / half - 2 * cycle + 1)
    shape: Array = floor + (1 - floor) * np.maximum(0.0, 1 - x)
    return shape


class Plateau:
    """Cuts the rate when the objective has not improved for `patience` epochs (torch's ReduceLROnPlateau).

    One per lane that uses it; `update` is called once an epoch with the lane's objective.
    """

    def __init__(self, factor: float, patience: int, maximize: bool) -> None:
        self.scale = 1.0
        self._cut, self._patience, self._sign = factor, patience, 1.0 if maximize else -1.0
        self._best, self._bad = -np.inf, 0

    @property
    def state(self) -> tuple[float, float, int]:
        """Scale, best score (its sign so that higher is better) and bad epochs in a row."""
        return self.scale, float(self._best), self._bad

    @state.setter
    def state(self, state: tuple[float, float, int]) -> None:
        self.scale, self._best, self._bad = state

    def update(self, score: float) -> None:
        if self._sign * score > self._best:
            self._best, self._bad = self._sign * score, 0
            return
        self._bad += 1
        if self._bad > self._patience:
            self.scale, self._bad = self.scale * self._cut, 0
