"""Maps numbers to a normal distribution by their quantiles; part of preprocessing, kept as plain numbers.

scikit-learn's `QuantileTransformer` finds the quantiles; its transform is rebuilt here in numpy, so that a
stored model needs no pickle. A test holds the two equal.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy.special import ndtri

MOST_QUANTILES = 1000
_HUGE = 1e300
_EDGE = 1e-7  # sklearn's BOUNDS_THRESHOLD: how near to 0 or 1 a quantile may come before it turns infinite


def fit_quantiles(values: np.ndarray) -> np.ndarray:
    """Quantiles of one column.

    Args:
        values: float64 [N] without nan.

    Returns:
        float64 [Q], increasing, Q = min(N, 1000); zeros [1] for no values.
    """
    from sklearn.preprocessing import QuantileTransformer  # slow to import, and prediction does not need it

    if not len(values):
        return np.zeros(1)
    if np.abs(values).max() > _HUGE:  # differences of such values would overflow; a power of 2 loses no bit
        return fit_quantiles(values / 1024) * 1024
    count = min(MOST_QUANTILES, len(values))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = QuantileTransformer(n_quantiles=count, subsample=None).fit(values[:, None])
    return np.asarray(fitted.quantiles_[:, 0], np.float64)


def to_normal(values: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Values [N] -> float64 [N], standard normal on the rows the quantiles came from; nan stays.

    Unlike there, a column that is constant in the training rows becomes 0, not the edge of the range.

    Source: scikit-learn, `QuantileTransformer._transform_col` with output_distribution="normal".
    """
    if np.abs(quantiles).max() > _HUGE:
        values, quantiles = values / 1024, quantiles / 1024
    references = np.linspace(0, 1, len(quantiles)) if len(quantiles) > 1 else np.array([0.5])
    # The mean of the interpolation from both sides puts repeated values in the middle of their step.
    share = 0.5 * (
        np.interp(values, quantiles, references) - np.interp(-values, -quantiles[::-1], -references[::-1])
    )
    share = np.clip(share, 0.0, 1.0)  # rounding can leave it by 1e-17, and then the normal has no value
    if quantiles[0] < quantiles[-1]:
        share = np.where(values - _EDGE < quantiles[0], 0.0, share)
        share = np.where(values + _EDGE > quantiles[-1], 1.0, share)
    else:
        share = np.where(np.isnan(values), np.nan, 0.5)
    low, high = ndtri(_EDGE - np.spacing(1)), ndtri(1 - (_EDGE - np.spacing(1)))
    return np.asarray(np.clip(ndtri(share), low, high), np.float64)
