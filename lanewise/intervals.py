"""Intervals around a score or a difference: bootstrap over test rows, corrected t over folds.

Before it stand scores, after it evaluation, refit and the report. It knows no metric, no model and no
file: it takes numbers, or a function from rows to numbers, and returns an `Interval`. It may not give a
number it cannot stand for: where an interval is undefined its ends are None and `method` says why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
# rows int64 [B, n] -> values of M statistics on each of B samples, [B, M]
Statistic = Callable[[npt.NDArray[np.int64]], Values]

ROWS_AT_ONCE = 2_000_000  # indices drawn at once, 16 MB; the draws do not depend on it
JACKKNIFE_ROWS = 1_000  # the jackknife scores n samples of n - 1 rows
LOST_SHARE = 0.05  # more undefined resamples than this, and the rest no longer stand for the sample


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval, in the unit and direction of what was estimated.

    Attributes:
        estimate: the value on all rows or folds; None where undefined.
        low: lower end, None where undefined.
        high: upper end, None where undefined.
        confidence: for example 0.95.
        method: how the ends were found, or why there are none.
    """

    estimate: float | None
    low: float | None
    high: float | None
    confidence: float
    method: str


def point(estimate: float, confidence: float, reason: str) -> Interval:
    """An interval of no width, for a value that is known by definition; `reason` names why."""
    return Interval(estimate, estimate, estimate, confidence, reason)


def no_interval(estimate: float | None, confidence: float, reason: str) -> Interval:
    """An interval without ends; `reason` says why, and a non-finite estimate becomes None."""
    known = estimate is not None and math.isfinite(estimate)
    return Interval(estimate if known else None, None, None, confidence, reason)


def bootstrap_intervals(
    statistic: Statistic, rows: int, *, confidence: float, resamples: int, seed: int
) -> list[Interval]:
    """Bootstrap intervals of M statistics of `rows` independent rows, all on the same resamples.

    The ends are bias-corrected and accelerated (BCa, Efron 1987, "Better bootstrap confidence intervals").
    The acceleration comes from the jackknife; above `JACKKNIFE_ROWS` rows, where it is next to nothing
    (it falls with 1/sqrt(n)), and where it is undefined, it is taken as 0 (BC). Resamples in which a
    statistic is undefined (nan) are left out; there is no interval when they are more than 5 %, or when
    no resample differs, as with an accuracy of 1. A difference of two models is a statistic like any
    other: both are scored on the same rows, so it is a paired bootstrap. The interval speaks of the
    sampling of these rows only, not of training again with other seeds.

    Args:
        statistic: int64 [B, n] row numbers -> float64 [B, M]; nan where undefined.
        rows: number of rows, n.
        confidence: for example 0.95.
        resamples: bootstrap samples.
        seed: of the resampling.

    Returns:
        M intervals; `method` is "bootstrap BCa" or "bootstrap BC", or says why there are no ends.
    """
    estimates = statistic(np.arange(rows)[None])[0]
    if rows == 0:
        return [no_interval(None, confidence, "no rows") for _ in estimates]
    draws = _draws(statistic, rows, resamples, seed)
    without = _jackknife(statistic, rows) if 2 < rows <= JACKKNIFE_ROWS else None
    return [
        _interval(float(estimates[m]), draws[:, m], None if without is None else without[:, m], confidence)
        for m in range(len(estimates))
    ]


def corrected_t_interval(
    differences: Sequence[float], test_train_ratio: float, *, confidence: float
) -> Interval:
    """Corrected resampled t interval of a mean difference over J folds of (repeated) k-fold.

    The folds' training sets overlap, so the plain variance of the mean is too small. Nadeau and Bengio
    (2003), "Inference for the generalization error", section 5, replace 1/J by 1/J + n_test/n_train:
    mean +- t(J-1) * sqrt((1/J + n_test/n_train) * s^2), s^2 the sample variance of the differences.
    Bouckaert and Frank (2004) show it for repeated k-fold.

    Args:
        differences: one per fold, each of the same two models on the same rows.
        test_train_ratio: rows scored per row trained on, 1/(k-1) in k-fold.
        confidence: for example 0.95.

    Returns:
        The interval; without ends where fewer than two folds have a value.
    """
    from scipy import stats

    values = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("differences must be finite; leave out the folds without a value")
    folds = len(values)
    if folds < 2:
        estimate = float(values[0]) if folds else None
        return no_interval(estimate, confidence, f"{folds} folds with a value; at least 2 are needed")
    mean = float(values.mean())
    error = math.sqrt((1 / folds + test_train_ratio) * float(values.var(ddof=1)))
    reach = float(stats.t.ppf((1 + confidence) / 2, folds - 1)) * error
    return Interval(mean, mean - reach, mean + reach, confidence, f"corrected resampled t, {folds} folds")


def _interval(estimate: float, draws: Values, without: Values | None, confidence: float) -> Interval:
    """One statistic's interval from its resamples [B] and its jackknife values [n]."""
    if not math.isfinite(estimate):
        return no_interval(None, confidence, "undefined on these rows")
    kept = draws[np.isfinite(draws)]
    lost = len(draws) - len(kept)
    if lost > LOST_SHARE * len(draws) or len(kept) < 2:
        return no_interval(estimate, confidence, f"undefined in {lost} of {len(draws)} bootstrap resamples")
    if kept.min() == kept.max():
        return no_interval(
            estimate, confidence, "no resample differs: the bootstrap cannot say how sure it is"
        )
    share = float(np.mean(kept < estimate) + np.mean(kept <= estimate)) / 2
    if not 0 < share < 1:
        return no_interval(estimate, confidence, "all resamples lie on one side of the estimate")
    acceleration = None if without is None else _acceleration(without)
    low, high = np.quantile(kept, _levels(share, acceleration or 0.0, confidence))
    method = "bootstrap BC" if acceleration is None else "bootstrap BCa"
    return Interval(estimate, float(low), float(high), confidence, method)


def _levels(share: float, acceleration: float, confidence: float) -> Values:
    """The two levels at which BCa reads the resamples, for the share of them below the estimate."""
    from scipy import stats

    bias = stats.norm.ppf(share)
    reach = bias + stats.norm.ppf([(1 - confidence) / 2, (1 + confidence) / 2])
    return np.asarray(stats.norm.cdf(bias + reach / (1 - acceleration * reach)), dtype=np.float64)


def _acceleration(without: Values) -> float | None:
    """Efron's jackknife estimate; None where leaving a row out makes it undefined or never changes it."""
    if not np.isfinite(without).all():
        return None
    away = without.mean() - without
    spread = float((away**2).sum())
    return float((away**3).sum()) / (6 * spread**1.5) if spread > 0 else None


def _draws(statistic: Statistic, rows: int, resamples: int, seed: int) -> Values:
    """The statistics of each bootstrap sample, [resamples, M]."""
    generator = np.random.default_rng(seed)
    step = max(1, ROWS_AT_ONCE // rows)
    return np.concatenate(
        [
            statistic(generator.integers(rows, size=(min(step, resamples - start), rows)))
            for start in range(0, resamples, step)
        ]
    )


def _jackknife(statistic: Statistic, rows: int) -> Values:
    """The statistics with each row left out in turn, [rows, M]."""
    every = np.arange(rows)
    kept = every[None, :-1]
    step = max(1, ROWS_AT_ONCE // rows)
    return np.concatenate(
        [statistic(kept + (kept >= every[start : start + step, None])) for start in range(0, rows, step)]
    )
