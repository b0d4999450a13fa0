"""The interval read from ramps whose answer is known by construction."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lanewise.lr_range import analyse, smooth

RATES = np.geomspace(1e-6, 10, 200)


def ramp(fall_at: float, blow_at: float, repeats: int = 5, noise: float = 0.02, seed: int = 0) -> np.ndarray:
    """Losses that are 2 up to `fall_at`, fall to 0.5 in log rate until `blow_at`, then explode."""
    rng = np.random.default_rng(seed)
    share = np.clip(np.log(RATES / fall_at) / np.log(blow_at / fall_at), 0, 1)
    loss = 2 - 1.5 * share + np.where(blow_at < RATES, 50 * np.log(RATES / blow_at) ** 2, 0)
    return loss + noise * rng.standard_normal((repeats, len(RATES)))


def test_the_interval_lies_between_first_descent_and_blow_up() -> None:
    curve = analyse(RATES, ramp(1e-4, 1e-1))
    assert curve.interval is not None
    low, high = curve.interval
    assert 1e-4 <= low <= 1e-3
    assert 0.05 <= high <= 0.3
    assert "where it stops falling" in curve.reason


def test_an_early_dip_is_not_the_start_of_the_descent() -> None:
    losses = ramp(1e-4, 1e-1)
    losses[:, 20:24] -= 1.0
    curve = analyse(RATES, losses)
    assert curve.interval is not None and 1e-4 <= curve.interval[0] <= 1e-3


def test_repeats_that_blow_up_to_nan_do_not_break_the_curve() -> None:
    losses = ramp(1e-4, 1e-1)
    losses[:, RATES > 0.5] = np.nan
    curve = analyse(RATES, losses)
    assert curve.interval is not None and 0.05 <= curve.interval[1] <= 0.3
    assert curve.median[-1] is None and all(m is None or math.isfinite(m) for m in curve.median)


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        (2 + 0.02 * np.random.default_rng(0).standard_normal((5, 200)), "flat"),
        (np.full((5, 200), np.nan), "diverges at once"),
        (2 + np.outer(np.ones(5), np.geomspace(1e-3, 1e9, 200)), "climbs without a fall"),
    ],
)
def test_curves_without_an_interval_say_why(losses: np.ndarray, said: str) -> None:
    curve = analyse(RATES, losses)
    assert curve.interval is None
    assert said in curve.reason


def test_a_narrow_interval_is_widened_downwards() -> None:
    curve = analyse(RATES, ramp(8e-3, 1e-2, noise=1e-4))
    assert curve.interval is not None
    assert curve.interval[1] / curve.interval[0] >= 3 * (1 - 1e-9)


def test_smoothing_by_hand() -> None:
    # weights 0.1 * 0.9^i, divided by their sum: (4 * 0.09 + 1 * 0.1) / 0.19
    assert smooth(np.array([[4.0, 1.0]])) == pytest.approx(np.array([[4.0, (4 * 0.09 + 0.1) / 0.19]]))
