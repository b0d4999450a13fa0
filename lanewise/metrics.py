"""Names, directions and slow, sure versions of every metric; `lane_metrics.py` has their fast twins.

Before it stands `model.py`, after it the engine, evaluation and refit. It scores one set of predictions
against one target on numpy arrays, with scikit-learn where scikit-learn has the metric. It may not
raise, warn or invent a value where a metric is undefined: it returns nan, and `undefined` says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lanewise.errors import StudyError
from lanewise.lane_metrics import CHUNK_VALUES, ECE_BINS, PROBABILITY_FLOOR, lane_scores, softmax
from lanewise.names import nearest

Array = npt.NDArray[Any]
Direction = Literal["maximize", "minimize"]
Needs = Literal["label", "probability", "value"]
CLASS_TASKS = ("binary", "multiclass")
# Metrics that ask how well classes are told apart say nothing when the target holds one class only.
TELLS_APART = frozenset({"balanced_accuracy", "precision", "recall", "specificity", "f1", "mcc", "roc_auc"})
SMALLEST = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class Metric:
    """One metric in its natural direction.

    Attributes:
        name: key in `METRICS`.
        tasks: tasks it fits.
        direction: "maximize" or "minimize".
        needs: "label", "probability" or "value".
        full: (target [N], prediction) -> float. The prediction is probabilities [N, C]; for a "label"
            metric also codes [N] (two classes unless a code above 1 occurs); values [N] for regression.
        lane: (outputs [K, N, C], target [K, N], n [K], scale [K] or None) -> float64 [K]; a user's
            own has none: it is called lane after lane.
    """

    name: str
    tasks: tuple[str, ...]
    direction: Direction
    needs: Needs
    full: Callable[[Array, Array], float]
    lane: Callable[..., Tensor] | None = None

    def better(self, one: float, other: float) -> bool:
        """Whether `one` is strictly better than `other`."""
        return one > other if self.direction == "maximize" else one < other


def undefined(name: str, target: Array, classes: int | None = None) -> str | None:
    """Says why a target leaves a metric without a value, or None where it has one.

    Args:
        name: key in `METRICS`.
        target: codes or values [N].
        classes: number of classes of the task; only roc_auc of three and more needs it.
    """
    if len(target) == 0:
        return "no rows"
    if name == "r2" and np.ptp(target) == 0:
        return "the target is constant in these rows"
    if name in TELLS_APART:
        found = len(np.unique(target))
        if found < 2:
            return "one class only in these rows"
        if name == "roc_auc" and classes is not None and found < classes:
            return f"{classes - found} of {classes} classes are missing in these rows"
    return None


def _labels(prediction: Array) -> Array:
    return prediction.argmax(1) if prediction.ndim == 2 else prediction


def _class_count(target: Array, prediction: Array) -> int:
    if prediction.ndim == 2:
        return int(prediction.shape[1])
    return max(2, int(max(target.max(initial=0), prediction.max(initial=0))) + 1)


def _accuracy(target: Array, prediction: Array) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(target, _labels(prediction)))


def _balanced_accuracy(target: Array, prediction: Array) -> float:
    """Mean recall of the classes in the target (Brodersen et al. 2010)."""
    from sklearn.metrics import recall_score

    return float(
        recall_score(target, _labels(prediction), labels=np.unique(target), average="macro", zero_division=0)
    )


def _by_class(name: str, target: Array, prediction: Array) -> float:
    """precision, recall or f1: class 1 of two classes, else the mean over the classes that occur."""
    from sklearn import metrics

    average = "binary" if _class_count(target, prediction) == 2 else "macro"
    function = getattr(metrics, f"{name}_score")
    return float(function(target, _labels(prediction), average=average, zero_division=0))


def _specificity(target: Array, prediction: Array) -> float:
    """Recall of the rows that are not of the class: class 1 of two, else the mean over those that occur."""
    labels = _labels(prediction)
    binary = _class_count(target, prediction) == 2
    rates = [
        np.mean(labels[target != code] != code) for code in ([1] if binary else np.union1d(target, labels))
    ]
    return float(np.mean(rates))


def _mcc(target: Array, prediction: Array) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(target, _labels(prediction)))


def _roc_auc(target: Array, prediction: Array) -> float:
    """Area under the ROC curve of class 1, or the mean of one class against the rest."""
    from sklearn.metrics import roc_auc_score

    classes = prediction.shape[1]
    if classes == 2:
        return float(roc_auc_score(target, prediction[:, 1]))
    return float(np.mean([roc_auc_score(target == code, prediction[:, code]) for code in range(classes)]))


def _log_loss(target: Array, prediction: Array) -> float:
    """Mean of -log p(own class), p clipped at the float64 epsilon as scikit-learn does."""
    own = prediction[np.arange(len(target)), target]
    return float(-np.log(np.maximum(own, PROBABILITY_FLOOR)).mean())


def _brier(target: Array, prediction: Array) -> float:
    """Mean squared distance to the one-hot target (Brier 1950): 0 to 2, halved to 0 to 1 for two classes."""
    miss = prediction - np.eye(prediction.shape[1])[target]
    total = float((miss * miss).sum(1).mean())
    return total / 2 if prediction.shape[1] == 2 else total


def _ece(target: Array, prediction: Array) -> float:
    """Expected calibration error in 15 bins of equal width (Guo et al. 2017, equation 3)."""
    confidence = prediction.max(1)
    gap = (_labels(prediction) == target) - confidence
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(int) - 1, 0, ECE_BINS - 1)
    return float(np.abs(np.bincount(bins, weights=gap, minlength=ECE_BINS)).sum() / len(target))


def _rmse(target: Array, prediction: Array) -> float:
    from sklearn.metrics import root_mean_squared_error

    return float(root_mean_squared_error(target, prediction))


def _mae(target: Array, prediction: Array) -> float:
    from sklearn.metrics import mean_absolute_error

    return float(mean_absolute_error(target, prediction))


def _r2(target: Array, prediction: Array) -> float:
    from sklearn.metrics import r2_score

    return float(r2_score(target, prediction))


def _guarded(
    name: str, needs: Needs, function: Callable[[Array, Array], float], target: Array, prediction: Array
) -> float:
    """Calls the metric where it is defined and the prediction is finite; nan elsewhere."""
    target = np.asarray(target)
    prediction = np.asarray(prediction, dtype=np.float64)
    if needs == "value":
        target, prediction = target.astype(np.float64), prediction.reshape(len(target))
    else:
        target = target.astype(np.int64)
        if needs == "probability" and prediction.ndim != 2:
            raise ValueError(f"{name} needs probabilities [N, C], given an array of shape {prediction.shape}")
        if prediction.ndim == 1 and np.isfinite(prediction).all():
            prediction = prediction.astype(np.int64)
    classes = prediction.shape[1] if prediction.ndim == 2 else None
    if undefined(name, target, classes) or not np.isfinite(prediction).all():
        return float("nan")
    return function(target, prediction)


def _lane(name: str, outputs: Tensor, target: Tensor, n: Tensor, scale: Tensor | None = None) -> Tensor:
    return lane_scores([name], outputs, target, n, scale)[name]


def _metric(
    name: str, direction: Direction, needs: Needs, function: Callable[[Array, Array], float]
) -> Metric:
    tasks = ("regression",) if needs == "value" else CLASS_TASKS
    return Metric(
        name, tasks, direction, needs, partial(_guarded, name, needs, function), partial(_lane, name)
    )


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _metric("accuracy", "maximize", "label", _accuracy),
        _metric("balanced_accuracy", "maximize", "label", _balanced_accuracy),
        _metric("precision", "maximize", "label", partial(_by_class, "precision")),
        _metric("recall", "maximize", "label", partial(_by_class, "recall")),
        _metric("specificity", "maximize", "label", _specificity),
        _metric("f1", "maximize", "label", partial(_by_class, "f1")),
        _metric("roc_auc", "maximize", "probability", _roc_auc),
        _metric("log_loss", "minimize", "probability", _log_loss),
        _metric("mcc", "maximize", "label", _mcc),
        _metric("brier", "minimize", "probability", _brier),
        _metric("ece", "minimize", "probability", _ece),
        _metric("rmse", "minimize", "value", _rmse),
        _metric("mae", "minimize", "value", _mae),
        _metric("r2", "maximize", "value", _r2),
    )
}


OWN: dict[str, Metric] = {}  # metrics users wrote, by import path; own_metric.py puts them in


def metrics_for(task: str, objective: str = "") -> tuple[str, ...]:
    """Names of the metrics that fit a task ("binary", "multiclass" or "regression"), an objective of one's own last."""
    fitting = tuple(name for name, metric in METRICS.items() if task in metric.tasks)
    return (*fitting, objective) if objective in OWN else fitting


def metric_named(name: str) -> Metric:
    """A metric by its name, a user's own that is in use too."""
    return METRICS[name] if name in METRICS else OWN[name]


def find_metric(name: str, task: str) -> Metric:
    """Looks a metric up by the name a study gives.

    Raises:
        StudyError: no metric of that name, or it does not fit the task.
    """
    fitting = metrics_for(task)
    if name in fitting or name in OWN:
        return metric_named(name)
    near = nearest(name, fitting)
    raise StudyError(
        f"the metric {name!r} does not fit a {task} task" if name in METRICS else f"no metric {name!r}",
        where="search.metric",
        given=name,
        rule=f"one of {', '.join(fitting)}",
        remedy=f"write {near!r}" if near else "choose one of these names, or 'auto'",
    )


def probabilities(outputs_NC: Array) -> npt.NDArray[np.float64]:
    """Softmax of logits, with the bits the lane metrics see, so equal rows tie in both.

    Args:
        outputs_NC: logits, any float type.

    Returns:
        float64 [N, C]; nan in a row with a logit that is not finite.
    """
    logits = torch.from_numpy(np.array(outputs_NC, dtype=np.float64))
    usable = torch.isfinite(logits).all(1, keepdim=True)
    return torch.where(usable, softmax(logits)[0], torch.nan).numpy()


def resampled_scores(
    names: Sequence[str], target: Array, prediction: Array, rows_BN: Array, labels: Array | None = None
) -> dict[str, npt.NDArray[np.float64]]:
    """Scores many resamples of one prediction at once: each resample is a lane.

    Args:
        names: metrics of one task.
        target: codes or values [N].
        prediction: probabilities [N, C], or values [N] for regression.
        rows_BN: int, the rows of each of B resamples.
        labels: codes [N] that metrics of labels score; None is the most probable class.

    Returns:
        float64 [B] per name; nan where a resample leaves the metric undefined.
    """
    own = {
        name: np.array([OWN[name].full(np.asarray(target)[rows], np.asarray(prediction)[rows]) for rows in rows_BN])
        for name in names
        if name in OWN
    }
    asked, names = names, [name for name in names if name not in own]
    shaped = np.array(prediction, dtype=np.float64).reshape(len(target), -1)
    probable = METRICS[names[0]].needs != "value"
    outputs = torch.from_numpy(np.log(np.maximum(shaped, SMALLEST)) if probable else shaped)
    chosen = [name for name in names if labels is not None and METRICS[name].needs == "label"]
    if labels is not None and (labels == shaped.argmax(1)).all():
        chosen = []
    decided = torch.nn.functional.one_hot(torch.from_numpy(labels), shaped.shape[1]).double() if chosen else outputs
    rest = [name for name in names if name not in chosen]
    wanted = torch.from_numpy(np.array(target, dtype=np.int64 if probable else np.float64))
    step = max(1, CHUNK_VALUES // max(rows_BN.shape[1] * shaped.shape[1], 1))
    parts = []
    for start in range(0, len(rows_BN), step):
        rows = torch.from_numpy(np.ascontiguousarray(rows_BN[start : start + step], dtype=np.int64))
        n = torch.full((len(rows),), rows.shape[1])
        parts.append(lane_scores(rest, outputs[rows], wanted[rows], n))
        if chosen:
            parts[-1] |= lane_scores(chosen, decided[rows], wanted[rows], n)
    found = {name: torch.cat([part[name] for part in parts]).numpy() for name in names} | own
    return {name: found[name] for name in asked}
