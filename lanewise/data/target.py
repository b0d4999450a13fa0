"""The column to predict: its task, its codes or values, and the metric; after `inference`, before `splits`.

How the task is found (`data: task:` decides otherwise):

* texts, true/false: binary with two values, else multiclass;
* numbers with two different values: binary;
* whole numbers that are exactly 0..k-1 or 1..k with k <= 20: multiclass, as class codes are written so;
* all other numbers: regression.

How the metric is found (`search: metric:` decides otherwise): rmse for regression; accuracy for classes,
unless the smallest class has under a fifth of an even share (two classes: under 10 % of the rows). Then
roc_auc for two classes, which needs no threshold, and balanced_accuracy for more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lanewise.data.preprocessing import category_texts
from lanewise.data.table import DataWarning
from lanewise.errors import DataError, StudyError
from lanewise.study import CLASS_METRICS, VALUE_METRICS

MOST_CODES = 20  # whole numbers 0..k-1 or 1..k up to this k are class codes
MOST_CLASSES = 1000
_FAR = 1000  # times the width of the middle half of the values
SMALL_SHARE = 0.2  # of an even share: below it, a class counts as rare


@dataclass(frozen=True, eq=False)
class Target:
    """The target of all rows that have one.

    Attributes:
        name: its column.
        task: binary, multiclass or regression.
        values: class codes int64 [N], or values float64 [N].
        classes: the labels as texts, in the order of their codes; empty for regression.
        kept: positions of the rows that have a target, int64 [N].
        notes: what the user should know.
    """

    name: str
    task: str
    values: npt.NDArray[Any]
    classes: tuple[str, ...]
    kept: npt.NDArray[np.int64]
    notes: tuple[DataWarning, ...] = ()


def find_target(values: pd.Series, kind: str, task: str, missing: str, place: Any) -> Target:
    """Decide the task and code the target.

    Args:
        values: the column, as `inference` typed it.
        kind: number, category or date.
        task: auto, binary, multiclass or regression.
        missing: "error" or "drop" rows without a target.
        place: row -> where a person finds it.

    Raises:
        DataError: Missing or infinite values, one value only, or values that do not fit the task.
    """
    name, notes = str(values.name), []
    gaps = values.isna().to_numpy()
    if gaps.all():
        raise DataError(f"the target `{name}` is empty", given=f"{len(values)} rows without a value")
    if gaps.any():
        count = f"{gaps.sum():,} of {len(gaps):,} rows have no target"
        if missing == "error":
            raise DataError(
                f"the target `{name}` has gaps", where=place(int(np.argmax(gaps))),
                given=f"{count}, this one first", rule="every row has a target",
                remedy="fill them in, or write `missing_target: drop` to leave these rows out",
            )
        notes.append(DataWarning("target_missing", f"{count}; they are left out", name))
    kept = np.flatnonzero(~gaps).astype(np.int64)
    present = values.iloc[kept]
    if kind == "date":
        raise DataError(
            f"the target `{name}` is a date", rule="a class or a number",
            remedy="compute a number such as days, or name another target",
        )
    if kind == "number" and np.isinf(present.to_numpy()).any():
        row = int(kept[np.argmax(np.isinf(present.to_numpy()))])
        raise DataError(
            f"the target `{name}` is infinite", where=place(row), rule="targets are finite",
            remedy="correct or remove the row",
        )
    found, reason = guess_task(present, kind)
    if task == "auto" and reason:
        notes.append(DataWarning("task", f"taken as {found}: {reason}", name))
    chosen = found if task == "auto" else task
    if chosen == "regression":
        numbers = _numbers(present, kind)
        return Target(name, chosen, numbers, (), kept, (*notes, *_far(name, numbers)))
    codes, classes = _codes(present, kind)
    _check_classes(name, chosen, classes, len(present))
    return Target(name, chosen, codes, classes, kept, tuple(notes))


def guess_task(values: pd.Series, kind: str) -> tuple[str, str]:
    """The task of a target without gaps, and the reason where numbers leave room for doubt, else ""."""
    different = values.unique()
    if len(different) < 2:
        raise DataError(
            f"the target `{values.name}` has one value only", given=repr(str(different[0]))[:80],
            rule="two or more different values",
        )
    if kind != "number":
        return ("binary" if len(different) == 2 else "multiclass"), ""
    different = np.sort(np.asarray(different, np.float64))
    count = len(different)
    if count == 2:
        return "binary", "two different numbers"
    whole = bool((different == np.floor(different)).all())
    if whole and count <= MOST_CODES and different[0] in (
        0.0, 1.0,
    ) and different[-1] - different[0] == count - 1:
        ends = f"{different[0]:.0f} to {different[-1]:.0f}"
        return "multiclass", f"the whole numbers {ends} look like class codes"
    if whole and count <= MOST_CODES:
        return "regression", f"{count} different whole numbers from {different[0]:.0f} to {different[-1]:.0f}"
    return "regression", ""


def pick_metric(
    task: str, codes: npt.NDArray[Any], classes: Sequence[str], wanted: str = "auto",
) -> tuple[str, str]:
    """The metric of a study and why.

    Args:
        task: binary, multiclass or regression.
        codes: the target's codes; unused for regression.
        classes: the labels.
        wanted: the study's `search: metric:`.

    Raises:
        StudyError: The wanted metric does not fit the task.
    """
    legal = VALUE_METRICS if task == "regression" else CLASS_METRICS
    if wanted != "auto":
        if wanted not in legal and ":" not in wanted:  # the user's own fits if it runs, which is tried
            raise StudyError(
                f"the metric {wanted} does not fit the task {task}", where="search.metric", given=wanted,
                rule="one of " + ", ".join(legal), remedy="change `search: metric:` or `data: task:`",
            )
        return wanted, "declared"
    if task == "regression":
        return "rmse", "the standard for numbers"
    share = np.bincount(codes, minlength=len(classes)).min() / len(codes)
    if share >= SMALL_SHARE / len(classes):
        return "accuracy", f"the smallest class has {share:.1%} of the rows"
    name = "roc_auc" if task == "binary" else "balanced_accuracy"
    return name, f"the smallest class has {share:.1%} of the rows, under a fifth of an even share"


def _numbers(values: pd.Series, kind: str) -> npt.NDArray[np.float64]:
    if kind != "number":
        raise DataError(
            f"the target `{values.name}` is no number",
            given=f"{str(values.iloc[0])!r} and {values.nunique() - 1:,} other values",
            rule="regression needs numbers", remedy="write `task: multiclass`, or correct the column",
        )
    numbers = values.to_numpy(np.float64)
    if numbers.min() == numbers.max():
        raise DataError(
            f"the target `{values.name}` has one value only", given=f"{numbers[0]:g}",
            rule="two or more different values",
        )
    return numbers


def _far(name: str, numbers: npt.NDArray[np.float64]) -> list[DataWarning]:
    """Values so far out that one of them would decide every score."""
    quarter = numbers / 4  # so that no difference overflows
    low, middle, high = np.quantile(quarter, (0.25, 0.5, 0.75))
    far = np.abs(quarter - middle) / _FAR > high - low
    if high == low or not far.any():
        return []
    message = f"{far.sum():,} values more than {_FAR:,} times the middle half's width away; are they right?"
    return [DataWarning("far_targets", message, name)]


def _codes(values: pd.Series, kind: str) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Codes in the order of the labels; numbers in the order of numbers, so that 10 comes after 9."""
    different = np.sort(np.asarray(values.unique(), np.float64 if kind == "number" else object))
    codes = pd.Index(different).get_indexer(pd.Index(values))
    return codes.astype(np.int64), tuple(category_texts(pd.Series(different)))


def _check_classes(name: str, task: str, classes: tuple[str, ...], rows: int) -> None:
    if len(classes) < 2:
        raise DataError(
            f"the target `{name}` has one class only", given=f"`{classes[0]}`", rule="two or more classes",
        )
    if task == "binary" and len(classes) != 2:
        raise DataError(
            f"the target `{name}` has {len(classes)} classes", rule="binary means two classes",
            given=", ".join(classes[:5]) + (" ..." if len(classes) > 5 else ""),
            remedy="write `task: multiclass`, or correct the labels",
        )
    if len(classes) > max(2, min(MOST_CLASSES, rows // 2)):
        raise DataError(
            f"the target `{name}` has {len(classes):,} different values in {rows:,} rows",
            rule=f"at most {MOST_CLASSES} classes, of 2 rows or more on average",
            remedy="name another target; for numbers write `task: regression`",
        )
