"""Intervals against scipy, hand-worked numbers, and what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lanewise import intervals
from lanewise.intervals import (
    Interval,
    bootstrap_intervals,
    corrected_t_interval,
    no_interval,
    point,
)


def bootstrap_interval(statistic, rows, **settings):
    (found,) = bootstrap_intervals(statistic, rows, **settings)
    return found


SETTINGS = {"confidence": 0.9, "resamples": 4000, "seed": 7}


def mean_of(sample):
    return lambda rows: sample[rows].mean(1)[:, None]


def test_bootstrap_equals_scipy():
    sample = np.random.default_rng(1).exponential(size=60)  # skewed, so BCa differs from percentiles
    ours = bootstrap_interval(mean_of(sample), 60, **SETTINGS)
    theirs = stats.bootstrap(
        (sample,), np.mean, confidence_level=0.9, n_resamples=4000, method="BCa", rng=7, vectorized=True
    ).confidence_interval
    assert ours.method == "bootstrap BCa" and ours.estimate == pytest.approx(sample.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9)


def test_above_the_limit_only_the_bias_is_corrected(monkeypatch):
    """With a share p of the draws below the estimate, the levels are Phi(2 z(p) -+ 1.644854)."""
    monkeypatch.setattr(intervals, "JACKKNIFE_ROWS", 0)
    sample = np.random.default_rng(1).exponential(size=60)
    draws = sample[np.random.default_rng(7).integers(60, size=(4000, 60))].mean(1)
    z = 2 * stats.norm.ppf(np.mean(draws < sample.mean()))
    expected = np.quantile(draws, stats.norm.cdf([z - 1.6448536, z + 1.6448536]))
    ours = bootstrap_interval(mean_of(sample), 60, **SETTINGS)
    assert ours.method == "bootstrap BC" and (ours.low, ours.high) == pytest.approx(tuple(expected))


def test_a_biased_statistic_has_its_estimate_inside():
    """Resampling adds noise, so the spread between two halves is larger in the resamples than it was."""
    sample = np.random.default_rng(9).normal(size=400)

    def apart(rows):
        return np.abs(sample[rows][:, ::2].mean(1) - sample[rows][:, 1::2].mean(1))[:, None]

    found = bootstrap_interval(apart, 400, **SETTINGS)
    assert found.low <= found.estimate <= found.high


def test_chunks_do_not_change_the_draws(monkeypatch):
    sample = np.random.default_rng(2).normal(size=45)
    whole = bootstrap_interval(mean_of(sample), 45, **SETTINGS)
    monkeypatch.setattr(intervals, "ROWS_AT_ONCE", 100)
    assert bootstrap_interval(mean_of(sample), 45, **SETTINGS) == whole


def test_intervals_of_large_samples_cover():
    """About 90 of 100 intervals of confidence 0.9 hold the true mean; 80 to 98 is 3 deviations."""
    rng, inside = np.random.default_rng(3), 0
    for seed in range(100):
        sample = rng.normal(size=1100)
        found = bootstrap_interval(mean_of(sample), 1100, confidence=0.9, resamples=200, seed=seed)
        assert found.method == "bootstrap BC"
        inside += found.low <= 0 <= found.high
    assert 80 <= inside <= 98


def test_paired_difference_is_narrower_than_the_parts():
    rng = np.random.default_rng(4)
    hard = rng.normal(size=300)
    one, other = hard + 0.1 + 0.01 * rng.normal(size=300), hard
    alone = bootstrap_interval(mean_of(one), 300, **SETTINGS)
    both = bootstrap_interval(lambda rows: mean_of(one)(rows) - mean_of(other)(rows), 300, **SETTINGS)
    assert both.estimate == pytest.approx((one - other).mean())
    assert 0.09 < both.low < both.estimate < both.high < 0.11
    assert both.high - both.low < (alone.high - alone.low) / 20


def test_where_the_bootstrap_knows_nothing_it_says_so():
    perfect = bootstrap_interval(mean_of(np.ones(40)), 40, **SETTINGS)
    assert (perfect.estimate, perfect.low, perfect.high) == (1, None, None)
    assert perfect.method == "no resample differs: the bootstrap cannot say how sure it is"
    sample = np.arange(40.0)
    top = bootstrap_interval(lambda rows: np.array([[len(set(r))] for r in sample[rows]]), 40, **SETTINGS)
    assert (top.estimate, top.low) == (40, None)
    assert top.method == "all resamples lie on one side of the estimate"


def test_undefined_resamples_are_left_out_or_refused():
    def undefined_where(share):
        def statistic(rows):
            values = np.linspace(0, 1, len(rows)) if len(rows) > 1 else np.array([0.5])
            if len(rows) > 20:
                values[: int(share * len(rows))] = np.nan
            return values[:, None]

        return statistic

    few = bootstrap_interval(undefined_where(0.04), 10, confidence=0.9, resamples=500, seed=0)
    assert few.low is not None and few.low < few.high
    many = bootstrap_interval(undefined_where(0.06), 10, confidence=0.9, resamples=500, seed=0)
    assert (many.estimate, many.low, many.high) == (0.5, None, None)
    assert many.method == "undefined in 30 of 500 bootstrap resamples"


def test_undefined_estimate_and_no_rows():
    nan = bootstrap_interval(lambda rows: np.full((len(rows), 1), np.inf), 10, **SETTINGS)
    assert nan == Interval(None, None, None, 0.9, "undefined on these rows")
    assert bootstrap_interval(lambda rows: np.zeros((len(rows), 1)), 0, **SETTINGS).method == "no rows"


def test_several_statistics_share_the_resamples():
    sample = np.random.default_rng(8).normal(size=50)
    both = bootstrap_intervals(
        lambda rows: np.column_stack([sample[rows].mean(1), sample[rows].max(1)]), 50, **SETTINGS
    )
    assert both[0] == bootstrap_interval(mean_of(sample), 50, **SETTINGS)
    assert both[1].high <= sample.max() == both[1].estimate


def test_jackknife_leaves_each_row_out_once(monkeypatch):
    monkeypatch.setattr(intervals, "ROWS_AT_ONCE", 11)
    sample = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    found = intervals._jackknife(lambda rows: sample[rows].sum(1), 5)
    assert found.tolist() == [30, 29, 27, 23, 15]


def test_corrected_t_by_hand():
    """Differences 1, 2, 3, 4: mean 2.5, s^2 = 5/3; 4 folds of ratio 1/3 give (1/4 + 1/3) * 5/3 = 35/36.

    t(3) at 0.975 is 3.182446.
    """
    found = corrected_t_interval([1, 2, 3, 4], 1 / 3, confidence=0.95)
    reach = 3.182446305 * math.sqrt(35 / 36)
    assert (found.low, found.estimate, found.high) == pytest.approx((2.5 - reach, 2.5, 2.5 + reach))
    assert found.method == "corrected resampled t, 4 folds"


def test_corrected_t_without_correction_is_the_plain_t_interval():
    values = np.random.default_rng(6).normal(size=10)
    plain = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    found = corrected_t_interval(list(values), 0.0, confidence=0.9)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high))
    assert corrected_t_interval(list(values), 0.25, confidence=0.9).low < found.low


def test_corrected_t_of_too_few_folds_has_no_ends():
    one = corrected_t_interval([0.5], 0.25, confidence=0.95)
    assert (one.estimate, one.low, one.high) == (0.5, None, None) and "at least 2" in one.method
    assert corrected_t_interval([], 0.25, confidence=0.95).estimate is None
    with pytest.raises(ValueError, match="finite"):
        corrected_t_interval([0.5, math.nan], 0.25, confidence=0.95)


def test_named_intervals():
    assert point(0.0, 0.95, "the winner is the default") == Interval(
        0.0, 0.0, 0.0, 0.95, "the winner is the default"
    )
    assert no_interval(math.inf, 0.95, "diverged").estimate is None
