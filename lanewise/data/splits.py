"""Which rows train, validate and test; after `target`, before `seal` and `dataset`. Works on positions only.

scikit-learn does the drawing, with the study's seed as it is: the stratified test rows are those of
`train_test_split(test_size=..., stratify=y, random_state=seed)`. Nothing here reads a feature.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lanewise.errors import DataError

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """Positions in the development rows.

    Attributes:
        name: "holdout", or "fold-1", "fold-2" ... counted through all repeats.
        train: int64 [N], increasing.
        valid: int64 [M], increasing; no position of `train`.
    """

    name: str
    train: I64
    valid: I64


@dataclass(frozen=True, eq=False)
class Grouping:
    """What a split must respect, one entry per row.

    Attributes:
        kind: stratified, random, group or time.
        codes: class codes int64 [N], None for regression.
        groups: group codes int64 [N] or None.
        times: float64 [N] or None.
        classes: names of the classes, for messages.
    """

    kind: str
    codes: I64 | None = None
    groups: I64 | None = None
    times: npt.NDArray[np.float64] | None = None
    classes: tuple[str, ...] = field(default=())

    def take(self, rows: I64) -> Grouping:
        """The same for some rows."""
        codes, groups = _rows_of(self.codes, rows), _rows_of(self.groups, rows)
        return Grouping(self.kind, codes, groups, _rows_of(self.times, rows), self.classes)


def _rows_of(values: npt.NDArray[Any] | None, rows: I64) -> npt.NDArray[Any] | None:
    return None if values is None else values[rows]


def cut(grouping: Grouping, rows: int, share: float, seed: int, *, what: str) -> tuple[I64, I64]:
    """Cut rows in two.

    Args:
        grouping: what the cut must respect.
        rows: number of rows.
        share: share of the rows that goes into the second part.
        seed: of the drawing; the cut by time draws nothing.
        what: the second part, for messages, such as "test".

    Returns:
        Two increasing arrays of positions, together all rows.

    Raises:
        DataError: One part would be empty or would lack a class.
    """
    from sklearn.model_selection import GroupShuffleSplit, train_test_split

    everything = np.arange(rows)
    if grouping.kind == "time":
        first, second = _cut_by_time(_known(grouping.times), share)
    elif grouping.kind == "group":
        groups = _known(grouping.groups)
        count = len(np.unique(groups))
        if count < 2:
            raise DataError(
                f"one group only: no {what} rows can be set apart", given=f"{count} group", rule="2 or more",
            )
        shuffled = GroupShuffleSplit(
            1, test_size=min(max(share, 1 / count), 1 - 1 / count), random_state=seed,
        )
        first, second = next(shuffled.split(everything, groups=groups))
    else:
        codes = grouping.codes if grouping.kind == "stratified" else None
        _check_room(grouping, rows, share, what)
        first, second = train_test_split(everything, test_size=share, random_state=seed, stratify=codes)
    if not len(first) or not len(second):
        raise DataError(f"no {what} rows can be set apart", given=f"{rows} rows", remedy="bring more rows")
    _check_classes(grouping, first, f"rows left beside the {what} rows")
    return np.sort(first).astype(np.int64), np.sort(second).astype(np.int64)


def make_folds(grouping: Grouping, rows: int, k: int, repeats: int, seed: int) -> list[Split]:
    """Cross-validation: k folds, repeated with other draws.

    Stratified and random folds are scikit-learn's Repeated(Stratified)KFold; groups stay whole. In time
    order each fold trains on what came strictly before it, and repeats would change nothing: there is one.

    Raises:
        DataError: A class or the groups are fewer than the folds, or a fold's training rows lack a class.
    """
    from sklearn import model_selection as ms

    everything = np.zeros((rows, 1))
    check_fold_room(grouping, rows, k)
    if grouping.kind == "time":
        pairs = _time_folds(_known(grouping.times), k)
    elif grouping.kind == "group":
        groups = _known(grouping.groups)
        pairs = []
        for repeat in range(repeats):
            if grouping.codes is None:
                splitter = ms.GroupKFold(k, shuffle=True, random_state=seed + repeat)
            else:
                splitter = ms.StratifiedGroupKFold(k, shuffle=True, random_state=seed + repeat)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # small classes: checked below, per fold
                pairs += list(splitter.split(everything, grouping.codes, groups))
    elif grouping.kind == "stratified":
        repeated = ms.RepeatedStratifiedKFold(n_splits=k, n_repeats=repeats, random_state=seed)
        pairs = list(repeated.split(everything, grouping.codes))
    else:
        pairs = list(ms.RepeatedKFold(n_splits=k, n_repeats=repeats, random_state=seed).split(everything))
    for number, (train, valid) in enumerate(pairs, 1):
        _check_classes(grouping, train, f"training rows of fold {number}")
        if not len(valid):
            raise DataError(f"fold {number} has no validation rows", remedy="lower `evaluate: folds:`")
    return [
        Split(f"fold-{number}", np.sort(train).astype(np.int64), np.sort(valid).astype(np.int64))
        for number, (train, valid) in enumerate(pairs, 1)
    ]


def check_fold_room(grouping: Grouping, rows: int, k: int) -> None:
    """Refuse folds that cannot be filled, rather than make fewer in silence.

    Raises:
        DataError: With the count that is too small.
    """
    remedy = f"lower `evaluate: folds:` below {k}, or bring more rows"
    if rows < k:
        raise DataError(
            f"there are {rows} development rows for {k} folds", rule="at least one row per fold",
            remedy=remedy,
        )
    if grouping.kind == "stratified" and grouping.codes is not None:
        counts = np.bincount(grouping.codes, minlength=len(grouping.classes))
        smallest = int(counts.argmin())
        if counts[smallest] < k:
            raise DataError(
                f"class `{grouping.classes[smallest]}` has {counts[smallest]} development rows for {k} folds",
                rule="each class has a row in every fold",
                remedy=f"{remedy}, merge or remove the class, or take a number target as `task: regression`",
            )
    if grouping.kind == "group":
        groups = len(np.unique(_known(grouping.groups)))
        if groups < k:
            raise DataError(
                f"there are {groups} groups in the development rows for {k} folds",
                rule="at least one group per fold", remedy=remedy,
            )
    if grouping.kind == "time":
        moments = len(np.unique(_known(grouping.times)))
        if moments < k + 1:
            raise DataError(
                f"there are {moments} different times in the development rows for {k} folds",
                rule="more times than folds", remedy=remedy,
            )


def split_fingerprint(parts: Sequence[I64]) -> str:
    """SHA-256 over row positions, part by part."""
    digest = hashlib.sha256(b"lanewise-split-1")
    for part in parts:
        digest.update(f"\0{len(part)}\0".encode())
        digest.update(np.ascontiguousarray(part, np.int64).tobytes())
    return digest.hexdigest()


def _known(values: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    if values is None:
        raise DataError(
            "this split needs a column that is not declared", remedy="declare `group:` or `time:`",
        )
    return values


def _cut_by_time(times: npt.NDArray[np.float64], share: float) -> tuple[I64, I64]:
    """The latest rows are the second part; rows of one moment stay on one side."""
    order = np.argsort(times, kind="stable")
    wanted = min(max(round(len(times) * (1 - share)), 1), len(times) - 1)
    boundary = times[order[wanted]]
    if boundary == times.min():  # then the first part would be empty: the moment after it starts the second
        later = times[times > boundary]
        if not len(later):
            raise DataError(
                "all rows have the same time: no later rows can be set apart", rule="2 or more times",
            )
        boundary = later.min()
    return np.flatnonzero(times < boundary), np.flatnonzero(times >= boundary)


def _time_folds(times: npt.NDArray[np.float64], k: int) -> list[tuple[I64, I64]]:
    """scikit-learn's TimeSeriesSplit over the different moments, each with its rows."""
    from sklearn.model_selection import TimeSeriesSplit

    moments, of_row = np.unique(times, return_inverse=True)
    return [
        (np.flatnonzero(np.isin(of_row, train)), np.flatnonzero(np.isin(of_row, valid)))
        for train, valid in TimeSeriesSplit(k).split(moments)
    ]


def _check_room(grouping: Grouping, rows: int, share: float, what: str) -> None:
    """The counts `train_test_split` needs, in our words."""
    second = int(np.ceil(rows * share))
    if second < 1 or rows - second < 1:
        raise DataError(f"{rows} rows are too few to set {what} rows apart", remedy="bring more rows")
    if grouping.kind != "stratified" or grouping.codes is None:
        return
    counts = np.bincount(grouping.codes, minlength=len(grouping.classes))
    smallest = int(counts.argmin())
    if counts[smallest] < 2:
        raise DataError(
            f"class `{grouping.classes[smallest]}` has {counts[smallest]} row",
            rule="each class has 2 rows or more",
            remedy="merge or remove the class, or take a number target as `task: regression`",
        )
    if min(second, rows - second) < len(counts):
        raise DataError(
            f"{second} {what} rows of {rows} for {len(counts)} classes",
            rule="one row per class on each side",
            remedy=f"bring more rows, or change the share of {what} rows",
        )


def _check_classes(grouping: Grouping, rows: npt.NDArray[Any], what: str) -> None:
    """A network cannot learn a class it never sees."""
    if grouping.codes is None:
        return
    counts = np.bincount(grouping.codes[rows], minlength=len(grouping.classes))
    if (counts == 0).any():
        lacking = [name for name, count in zip(grouping.classes, counts, strict=True) if count == 0]
        raise DataError(
            f"the {what} lack the class `{lacking[0]}`",
            given=f"{len(rows)} rows, {len(lacking)} classes without a row",
            rule="every class occurs in all training rows",
            remedy="merge or remove the class, or change `split`, `group` or `time`",
        )
