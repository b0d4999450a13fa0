"""A metric the user wrote, named by its import path: loaded, tried, and put beside those of metrics.py.

Before it stands the study, after it whoever scores (trainer, folds, refit), which find it by its name. It is loaded as
a network is (lanewise.user_code). Each call gets one set of predictions, so lanes cannot know of each other.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lanewise.errors import ModelError, StudyError
from lanewise.metrics import CLASS_TASKS, OWN, Direction, Metric
from lanewise.model import seed_generators
from lanewise.process_guard import unchanged_process
from lanewise.study import Study
from lanewise.user_code import load_object, traceback_text

if TYPE_CHECKING:
    from lanewise.data import Dataset

Array = npt.NDArray[Any]
Function = Callable[[Array, Array], Any]

_ROWS = 64
_RULE = (
    "metric(target [N], prediction) -> a number; the prediction is probabilities [N, C], or values [N] for regression"
)
_DIRECTIONS = ("maximize", "minimize")
_log = logging.getLogger(__name__)


class OwnMetric:
    """The user's function, guarded: the process stays as it was, and what it draws is the same in every call.

    Args:
        name: As the study says it.
        function: (target [N], prediction) -> number.
    """

    def __init__(self, name: str, function: Function) -> None:
        self.name, self.function = name, function
        self._said = False  # why it is undefined somewhere is said once

    def score(self, target: Array, prediction: Array) -> float:
        """The metric, nan where the function says so.

        Raises:
            ModelError: It raises, or returns no number.
        """
        with unchanged_process():
            seed_generators(0)
            try:
                value = self.function(target.copy(), prediction.copy())
            except (Exception, SystemExit) as error:
                raise ModelError(
                    f"the metric raised {type(error).__name__}", where=self.name, given=traceback_text(error),
                    rule=_RULE, remedy="try it on a few rows of your own",
                ) from error  # fmt: skip
            try:
                if isinstance(value, str | bytes):
                    raise TypeError
                number = float(value)
            except (TypeError, ValueError, RuntimeError) as error:
                shape = getattr(value, "shape", None)
                given = f"a {type(value).__name__}" + (f" of shape {tuple(shape)}" if shape else "")
                raise ModelError(
                    f"the metric returned {given}, expected a number", where=self.name, rule=_RULE,
                    remedy="return float(...), the mean over the rows for instance",
                ) from error  # fmt: skip
        return number

    def full(self, target: Array, prediction: Array) -> float:
        """The metric on finite predictions; nan where it is undefined, which is also where it raises."""
        target, prediction = np.asarray(target), np.asarray(prediction, dtype=np.float64)
        if len(target) == 0 or not np.isfinite(prediction).all():
            return math.nan
        try:
            return self.score(target, prediction)
        except ModelError as error:
            if not self._said:
                _log.warning("%s is undefined on some %d rows: %s", self.name, len(target), error)
            self._said = True
            return math.nan


def use_own_metric(study: Study, dataset: Dataset) -> OwnMetric | None:
    """Make the study's own metric known by its name; None where the study's metric is one of Lanewise's.

    Raises:
        ModelError: It cannot be imported or called; it raises, or gives no number or nan on random rows.
        StudyError: Which direction is better is not said, or said twice and differently.
    """
    name = dataset.metric
    if ":" not in name:
        return None
    found = load_object(name, search_path=[study.base_dir])
    if not callable(found) or isinstance(found, type):
        raise ModelError(
            "this is not a metric", where=name, given=f"it is a {type(found).__name__}", rule=_RULE,
            remedy="name a function; of a class, an instance that can be called",
        )  # fmt: skip
    own = OwnMetric(name, found)
    regression = dataset.task == "regression"
    _try(own, dataset.n_outputs, regression)
    OWN[name] = Metric(
        name, ("regression",) if regression else CLASS_TASKS, direction_of(study, name, found),
        "value" if regression else "probability", own.full,
    )  # fmt: skip
    return own


def direction_of(study: Study, name: str, function: Function) -> Direction:
    """What the study says, or the function's attribute `direction`."""
    said, own = study.search.metric_direction, getattr(function, "direction", None)
    where = study.where("search", "metric")
    if own is not None and own not in _DIRECTIONS:
        raise StudyError(
            "the metric's attribute `direction` says no direction", where=name, given=repr(own)[:80],
            rule="maximize or minimize", remedy=f'write {name.partition(":")[2]}.direction = "maximize"',
        )  # fmt: skip
    if said and own and said != own:
        raise StudyError(
            "study and metric differ in what is better", where=where, given=f"{said}, and {own} in {name}",
            rule="one direction", remedy="remove `metric_direction`, or correct it",
        )  # fmt: skip
    chosen = said or own
    if chosen is None:
        raise StudyError(
            "nothing says whether more or less of the metric is better", where=where, given=name,
            rule="`metric_direction: maximize` or `minimize`, or the function's attribute `direction`",
            remedy="write `metric_direction: maximize` below it",
        )  # fmt: skip
    return chosen


def _try(own: OwnMetric, n_outputs: int, regression: bool) -> None:
    """Try random rows in which every class occurs."""
    rng = np.random.default_rng(0)
    rows = max(_ROWS, 4 * n_outputs)
    target: Array
    prediction: Array
    if regression:
        target, prediction = rng.normal(size=rows), rng.normal(size=rows)
    else:
        target = np.arange(rows) % n_outputs
        raised = np.exp(rng.normal(size=(rows, n_outputs)))
        prediction = raised / raised.sum(1, keepdims=True)
    value = own.score(target, prediction)
    if not math.isfinite(value):
        raise ModelError(
            f"the metric is {value} on random rows", where=own.name,
            rule="a finite number where every class occurs and all predictions are finite",
            remedy="look for a logarithm or a division of zero",
        )  # fmt: skip
