"""Fits what a network must beat: no model, a linear model and gradient boosting, from scikit-learn.

Before it stand the arrays of one split, after it `evaluate.py`. Each baseline is fitted on the training
rows and predicts the validation rows, on one thread and with a fixed seed, so its bits do not depend on
the machine's cores. It may not see the validation target, tune anything or take long.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from lanewise.data import Arrays, Layout

Prediction = npt.NDArray[np.float64]
_NUMBERS = ("x_num_train", "x_num_valid")

ROUNDS = 200  # boosting rounds at most
TREES = 1_000  # trees at most; several classes grow one tree per class and round
STOPPING_ROWS = 2_000  # from here on a tenth of the training rows decides when to stop
MOST_COLUMNS = 256  # of an image or a series that boosting is tried on: its time grows with them
MOST_NUMBERS = 2**25  # of all images or series: from here on a linear model takes minutes and GiB for every fold
MOST_BINS = 255  # scikit-learn's limit for a categorical column; wider ones are split as numbers


def baseline_names(layout: Layout, rows: int) -> tuple[str, ...]:
    """The baselines for data of a layout: no boosting of texts, wide images and series; of huge ones only a guess.

    Args:
        layout: of the data.
        rows: development rows.
    """
    if layout.kind in ("image", "series") and rows * math.prod(layout.shape) > MOST_NUMBERS:
        return ("dummy",)
    wide = layout.kind == "text" or math.prod(layout.shape) > MOST_COLUMNS
    return tuple(name for name in BASELINES if not (wide and name == "gradient_boosting"))


def as_table(arrays: Arrays, layout: Layout) -> Arrays:
    """Images and series as one column per number; tables and texts as they are."""
    if layout.kind not in ("image", "series"):
        return arrays
    flat = {name: getattr(arrays, name).reshape(len(getattr(arrays, name)), -1) for name in _NUMBERS}
    return replace(arrays, **flat)


@dataclass(frozen=True)
class _Problem:
    """One split, as scikit-learn wants it."""

    arrays: Arrays
    cardinalities: Sequence[int]
    classes: int  # 0 for regression
    seed: int
    tokens: int = 0  # codes of a text; the other codes are a table's

    @property
    def target(self) -> npt.NDArray[Any]:
        return self.arrays.y_train


def baseline_prediction(
    name: str, arrays: Arrays, layout: Layout, classes: int, seed: int
) -> Prediction:
    """Fits one baseline on a split's training rows and predicts its validation rows.

    A class that is missing from the training rows gets probability 0. Where only one class is left,
    every baseline is the dummy.

    Args:
        name: key in `BASELINES`.
        arrays: one split.
        layout: what its arrays are.
        classes: number of classes of the task; 0 for regression.
        seed: of the boosting's own validation rows.

    Returns:
        float64 probabilities [N, classes], or values [N] in the target's own unit.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

    table = as_table(arrays, layout)
    problem = _Problem(table, tuple(layout.cardinalities), classes, seed, layout.tokens)
    if classes and len(np.unique(problem.target)) < 2:
        name = "dummy"
    with threadpool_limits(1), warnings.catch_warnings():
        # "Not converged" is no news about a baseline; the cap on iterations is there to keep it quick.
        warnings.simplefilter("ignore")
        return BASELINES[name](problem)


def _dummy(problem: _Problem) -> Prediction:
    """Class shares or the mean of the training rows."""
    from sklearn.dummy import DummyClassifier, DummyRegressor

    model = DummyClassifier(strategy="prior") if problem.classes else DummyRegressor(strategy="mean")
    arrays = problem.arrays
    model.fit(np.zeros((len(problem.target), 1)), problem.target)
    return _finished(model, np.zeros((len(arrays.y_valid), 1)), problem)


def _linear(problem: _Problem) -> Prediction:
    """Logistic or ridge regression on scaled numbers and one column per category, or per token that is there."""
    from scipy import sparse
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    arrays = problem.arrays
    scaler = StandardScaler().fit(arrays.x_num_train) if arrays.x_num_train.shape[1] else None
    encoder = OneHotEncoder(categories=[np.arange(c) for c in problem.cardinalities])

    def design(numbers: npt.NDArray[Any], codes: npt.NDArray[Any]) -> Any:
        if problem.tokens:
            rows, places = np.nonzero(codes)
            there = (np.ones(len(rows)), (rows, codes[rows, places]))
            return sparse.csr_matrix(there, shape=(len(codes), problem.tokens)).minimum(1)
        parts = [np.zeros((len(numbers), 1))]  # a table without numbers has a matrix too
        if scaler is not None:
            parts.append(scaler.transform(numbers).astype(np.float64))
        if not codes.shape[1]:
            return np.hstack(parts)
        return sparse.hstack([*parts, encoder.fit_transform(codes)], format="csr")

    model: Any = LogisticRegression(max_iter=200) if problem.classes else Ridge(alpha=1.0)
    model.fit(design(arrays.x_num_train, arrays.x_cat_train), problem.target)
    return _finished(model, design(arrays.x_num_valid, arrays.x_cat_valid), problem)


def _gradient_boosting(problem: _Problem) -> Prediction:
    """Histogram gradient boosting (scikit-learn's LightGBM-like trees) at its defaults, capped in rounds."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    arrays, classes = problem.arrays, problem.classes
    settings = {
        "max_iter": ROUNDS if classes <= 2 else max(20, min(ROUNDS, TREES // classes)),
        "early_stopping": _can_stop_early(problem),
        "random_state": problem.seed,
        "categorical_features": np.array(
            [False] * arrays.x_num_train.shape[1] + [c <= MOST_BINS for c in problem.cardinalities]
        ),
    }
    model = (
        HistGradientBoostingClassifier(**settings) if classes else HistGradientBoostingRegressor(**settings)
    )
    train = np.hstack([arrays.x_num_train, arrays.x_cat_train.astype(np.float32)])
    if not train.shape[1]:
        return _dummy(problem)
    model.fit(train, problem.target)
    return _finished(model, np.hstack([arrays.x_num_valid, arrays.x_cat_valid.astype(np.float32)]), problem)


def _can_stop_early(problem: _Problem) -> bool:
    """Enough rows for a tenth of them to judge, and rows of each class to share out."""
    if len(problem.target) < STOPPING_ROWS:
        return False
    if not problem.classes:
        return True
    rows = np.bincount(problem.target)
    rows = rows[rows > 0]
    return bool(rows.min() >= 2 and len(rows) <= len(problem.target) // 10)


def _finished(model: Any, inputs: Any, problem: _Problem) -> Prediction:
    """Probabilities with a column for every class of the task, or values in the target's unit."""
    if not problem.classes:
        values = np.asarray(model.predict(inputs), dtype=np.float64).reshape(-1)
        return values * float(problem.arrays.target_std) + float(problem.arrays.target_mean)
    found = np.zeros((inputs.shape[0], problem.classes))
    found[:, model.classes_] = model.predict_proba(inputs)
    return found


BASELINES: dict[str, Callable[[_Problem], Prediction]] = {
    "dummy": _dummy,
    "linear": _linear,
    "gradient_boosting": _gradient_boosting,
}
