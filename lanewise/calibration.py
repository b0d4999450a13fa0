"""Makes predicted probabilities mean what they say, and chooses the threshold between two classes.

Before it stand the outputs of cross-validation (`evaluate.py`), on rows their networks did not train on; after
it `fitted.py`, which applies what was found. It may not see a sealed row, and it chooses no configuration: the
winner is fixed before anything here is fitted.

Temperature scaling: probabilities softmax(z / T) with one T > 0 for all classes, chosen by the log loss. It
changes no order of classes. Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", ICML
(arXiv 1706.04599), section 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lanewise.metrics import METRICS, probabilities

Array = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]

COLDEST, HOTTEST = 0.05, 20.0  # bounds of a temperature; rows that are all told apart would cool for ever
THRESHOLD_METRICS = ("f1", "mcc", "balanced_accuracy")  # those that a threshold of two classes can raise
TOLD = ("log_loss", "ece")
_SMALLEST = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Calibration:
    """How probabilities are corrected, and what that is worth on rows it was not fitted on.

    Attributes:
        temperature: by which the logarithms of the probabilities are divided; 1 leaves them.
        threshold: calibrated probability of the second of two classes from which that class is predicted; None
            predicts the most probable class.
        rows: out-of-fold predictions it was fitted on.
        before: log_loss, ece and the objective of those rows, uncorrected; None where undefined.
        after: the same with each fold corrected by what the other folds say (nested).
    """

    temperature: float = 1.0
    threshold: float | None = None
    rows: int = 0
    before: dict[str, float | None] = field(default_factory=dict)
    after: dict[str, float | None] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any] | None) -> Calibration | None:
        """Reads what `dataclasses.asdict` and JSON made of one; None stays None."""
        return None if record is None else cls(**record)

    def apply(self, probability_NC: Array) -> F64:
        """Calibrated probabilities [N, C]."""
        return heated(probability_NC, self.temperature)

    def labels(self, calibrated_NC: Array) -> npt.NDArray[np.int64]:
        """Predicted codes [N] of probabilities that `apply` returned."""
        return labels_of(calibrated_NC, self.threshold)


@dataclass(frozen=True)
class FoldOutputs:
    """What one fold's network said of rows it did not train on.

    Attributes:
        outputs: logits [N, C].
        target: codes [N].
        rows: which rows they are [N].
    """

    outputs: Array
    target: Array
    rows: Array


def heated(probability_NC: Array, temperature: float) -> F64:
    """Probabilities [N, C] at a temperature: softmax(log p / T), which for p = softmax(z) is softmax(z / T)."""
    given = np.asarray(probability_NC, dtype=np.float64)
    return given if temperature == 1.0 else probabilities(np.log(np.maximum(given, _SMALLEST)) / temperature)


def labels_of(probability_NC: Array, threshold: float | None) -> npt.NDArray[np.int64]:
    """Codes [N]: the most probable class, or by the threshold the second of two."""
    if threshold is None:
        return np.asarray(probability_NC.argmax(1), dtype=np.int64)
    return np.asarray(probability_NC[:, 1] >= threshold, dtype=np.int64)


def fit_temperature(probability_NC: Array, target_N: Array) -> float:
    """The temperature with the least mean log loss, from 0.05 to 20.

    The loss is convex in 1 / T, so there is one minimum.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    logs = np.log(np.maximum(probability_NC, _SMALLEST))
    own = logs[np.arange(len(target_N)), target_N]

    def loss(log_temperature: float) -> float:
        beta = math.exp(-log_temperature)
        return float(np.mean(logsumexp(logs * beta, axis=1) - own * beta))

    found = minimize_scalar(
        loss, bounds=(math.log(COLDEST), math.log(HOTTEST)), method="bounded", options={"xatol": 1e-6}
    )
    return math.exp(float(found.x))


def fit_threshold(probability_N: Array, target_N: Array, metric: str) -> float:
    """The threshold with the best metric; of equal ones the nearest to 0.5.

    Args:
        probability_N: of the second class.
        target_N: codes 0 and 1.
        metric: one of `THRESHOLD_METRICS`.
    """
    order = np.argsort(-probability_N, kind="stable")
    sorted_p, hits = probability_N[order], target_N[order] == 1
    last = np.append(sorted_p[1:] != sorted_p[:-1], False)  # a cut lies between two different values
    cuts = np.flatnonzero(last)
    thresholds = (sorted_p[cuts] + sorted_p[cuts + 1]) / 2
    thresholds = np.where(thresholds > sorted_p[cuts + 1], thresholds, sorted_p[cuts])  # neighbouring floats
    true_hits = np.cumsum(hits)[cuts].astype(np.float64)
    thresholds = np.append(thresholds, 0.5)
    half = probability_N >= 0.5
    predicted = np.append(cuts + 1, half.sum()).astype(np.float64)
    true_hits = np.append(true_hits, (half & (target_N == 1)).sum())
    score = _scores(metric, true_hits, predicted, float(hits.sum()), float(len(hits)))
    best = np.flatnonzero(score >= score.max() - 1e-12)
    return float(thresholds[best[np.argmin(np.abs(thresholds[best] - 0.5))]])


def _scores(metric: str, true_hits: F64, predicted: F64, positive: float, n: float) -> F64:
    """The metric at each cut, from the counts of a table of two by two; 0 where it is undefined."""
    false_hits, missed = predicted - true_hits, positive - true_hits
    rejected = n - positive - false_hits
    if metric == "f1":
        top, bottom = 2 * true_hits, 2 * true_hits + false_hits + missed
    elif metric == "mcc":
        top = true_hits * rejected - false_hits * missed
        bottom = np.sqrt(predicted * positive * (n - positive) * (n - predicted))
    else:
        return (true_hits / max(positive, 1.0) + rejected / max(n - positive, 1.0)) / 2
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)


def calibrate(folds: Sequence[FoldOutputs], metric: str) -> Calibration | None:
    """Fits temperature and threshold on all out-of-fold rows, and tells on nested ones what they are worth.

    Either is kept only where the nested rows gain by it: few rows can make probabilities worse.

    Args:
        folds: of one configuration; a row may stand in several, as where folds are drawn repeatedly.
        metric: the objective; a threshold is chosen where it is one of `THRESHOLD_METRICS` and the classes
            are two.

    Returns:
        None with fewer than two folds: nothing could be told honestly.
    """
    if len(folds) < 2:
        return None
    given = [probabilities(fold.outputs) for fold in folds]
    if not all(np.isfinite(part).all() for part in given):
        return None
    cut = metric if given[0].shape[1] == 2 and metric in THRESHOLD_METRICS else None
    corrected, labels, plain = [], [], []
    for j, fold in enumerate(folds):
        others = [~np.isin(other.rows, fold.rows) for other in folds]
        learnt = np.concatenate([p[keep] for p, keep in zip(given, others, strict=True)])
        known = np.concatenate([o.target[keep] for o, keep in zip(folds, others, strict=True)])
        if not len(learnt):
            return None
        warm = heated(given[j], fit_temperature(learnt, known))
        limit = fit_threshold(learnt[:, 1], known, cut) if cut else None
        corrected.append(warm)
        labels.append(labels_of(given[j], limit))
        plain.append(given[j])
    target = np.concatenate([fold.target for fold in folds])
    pooled, nested = np.concatenate(plain), np.concatenate(corrected)
    before, after = _told(target, pooled, None, cut), _told(target, nested, np.concatenate(labels), cut)
    gained = _better(after["log_loss"], before["log_loss"], -1)
    temperature = fit_temperature(pooled, target) if gained else 1.0
    if not gained:
        after |= {name: before[name] for name in TOLD}
    threshold: float | None = None
    if cut and _better(after[cut], before[cut], 1):
        # Chosen on the probabilities as predict will give them; the order of rows is the same at every T.
        threshold = fit_threshold(heated(pooled, temperature)[:, 1], target, cut)
    elif cut:
        after[cut] = before[cut]
    return Calibration(temperature, threshold, len(target), before, after)


def _told(target: Array, probability: F64, labels: Array | None, cut: str | None) -> dict[str, float | None]:
    found = {name: METRICS[name].full(target, probability) for name in TOLD}
    if cut:
        found[cut] = METRICS[cut].full(target, probability if labels is None else labels)
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def _better(one: float | None, other: float | None, sign: int) -> bool:
    return one is not None and other is not None and sign * one > sign * other
