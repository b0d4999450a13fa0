"""All rows of a source, typed, with their target and what splits must respect; the first half of prepare.

Everything the study says of the columns is held against the columns that are there. Nothing is cut off or
fitted yet, and no statistic of a feature is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from lanewise.data.inference import Typed, infer_types
from lanewise.data.series import read_series
from lanewise.data.splits import Grouping
from lanewise.data.table import TARGET, DataWarning, Table, shown
from lanewise.data.target import Target, find_target
from lanewise.errors import DataError, StudyError
from lanewise.names import nearest
from lanewise.study import Data, Study

MIN_ROWS = 10
PARTS = {  # what a split column may say -> where the row goes
    "train": "train", "training": "train", "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid",
    "test": "test", "all": "",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Rows:
    """All rows with a target, typed."""

    frame: pd.DataFrame
    typed: Typed
    target: Target
    grouping: Grouping
    notes: tuple[DataWarning, ...]
    dropped: Mapping[str, str]
    given: npt.NDArray[np.str_] | None = None  # where each row goes: train, valid, test, or "" for open


def read_rows(table: Table, options: Data, study: Study | None) -> Rows:
    name = _check_columns(table, options, study)
    if options.max_rows is not None and table.rows > options.max_rows:
        raise DataError(
            "the source has more rows than the limit", where=table.name, given=f"{table.rows:,} rows",
            rule=f"at most {options.max_rows:,}", remedy="raise `data: max_rows:`",
        )
    if len(table.columns) < 2:
        raise DataError(
            "one column found", where=table.name, given=next(iter(table.columns))[:60],
            rule="a target and at least one more column",
            remedy="name the separator, as in `separator: \";\"`",
        )
    used = {column: values for column, values in table.columns.items() if column not in options.drop}
    typed = infer_types(replace(table, columns=used), options.types)
    target = find_target(
        typed.frame[name], typed.kinds[name], options.task, options.missing_target, table.place,
    )
    if len(target.kept) < MIN_ROWS:
        raise DataError(
            f"the data have {len(target.kept)} rows with a target", where=table.name,
            rule=f"at least {MIN_ROWS}, to train, validate and test", remedy="bring more rows",
        )
    grouping, notes = _grouping(typed, target, options, table)
    beside = [
        column for column in (name, options.group, options.time, options.split_column) if column is not None
    ]
    frame = typed.frame.drop(columns=beside).iloc[target.kept].reset_index(drop=True)
    if options.infinite == "error":
        _refuse_infinite(typed, frame, table)
    channels = tuple(column for column in frame.columns if typed.kinds[column] == "series")
    if channels:  # sealed rows too: what is wrong there must not wait until the seal is opened
        read_series(frame, channels, lambda row: table.place(int(target.kept[row])))
    dropped = dict.fromkeys(options.drop, "named under `drop`")
    for column, use in ((options.group, "group"), (options.time, "time"), (options.split_column, "split")):
        if column is not None:
            dropped[column] = f"it is the {use} column, which is no feature"
    given = _given(typed, target, options, table)
    told = (*table.notes, *typed.notes, *target.notes, *notes)
    return Rows(frame, typed, target, grouping, told, dropped, given)


def _given(typed: Typed, target: Target, options: Data, table: Table) -> npt.NDArray[np.str_] | None:
    """Where the source itself says that rows go."""
    if table.sealed is not None:
        return np.where(table.sealed, "test", "")[target.kept]
    if options.split_column is None:
        return None
    values = typed.frame[options.split_column].astype("str").str.strip().str.lower().fillna("")
    wrong = ~values.isin([*PARTS, ""]).to_numpy()
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"the split column `{options.split_column}` says neither train, valid nor test",
            where=table.place(row), given=repr(str(values.iloc[row]))[:60],
            rule="one of " + ", ".join(PARTS) + ", or empty", remedy="correct it, or remove `split_column`",
        )
    return np.array([PARTS.get(value, "") for value in values], dtype=str)[target.kept]


def _check_columns(table: Table, options: Data, study: Study | None) -> str:
    """Every column the study names exists; the target's name."""
    target = options.target or table.target
    if target is None:
        raise StudyError(
            "`target` is missing", where="data", rule="the column to predict is named",
            remedy="add `target: <column>`",
        )
    named = [("target", target), ("group", options.group), ("time", options.time)]
    named += [("split_column", options.split_column)]
    named += [("drop", column) for column in options.drop] + [("types", column) for column in options.types]
    for key, column in named:
        if column is None or column in table.columns:
            continue
        where = (study.where("data", key) if study is not None else None) or table.name
        near = nearest(column, table.columns)
        numeric = all(name.replace(".", "", 1).lstrip("+-").isdigit() for name in table.columns)
        first = "; the first line looks like numbers, is the header missing?" if numeric else ""
        raise DataError(
            f"`{key}` names a column the data do not have", where=where,
            given=f"{column}; the columns are {shown(list(table.columns), 12)}{first}",
            remedy=f"did you mean `{near}`?" if near else "correct the name",
        )
    if TARGET in table.columns:
        raise DataError(
            f"a column is named {TARGET}", where=table.name, rule="this name is taken",
            remedy="rename the column",
        )
    return target


def _grouping(
    typed: Typed, target: Target, options: Data, table: Table,
) -> tuple[Grouping, list[DataWarning]]:
    """What splits respect: declared, or time, group, classes, nothing, in this order."""
    kind = options.split
    if kind == "auto":
        kind = "stratified" if target.classes else "random"
        kind = "time" if options.time else "group" if options.group else kind
    if kind == "stratified" and not target.classes:
        raise StudyError(
            "`split: stratified` with a number target", where="data.split",
            rule="stratified splits need classes", remedy="write `split: random`",
        )
    codes = target.values if target.classes else None
    groups: npt.NDArray[np.int64] | None = None
    times: npt.NDArray[np.float64] | None = None
    if options.group is not None:
        values = _complete(typed.frame[options.group], "group", table).iloc[target.kept]
        groups = pd.factorize(values)[0].astype(np.int64)
    if options.time is not None:
        values = _complete(typed.frame[options.time], "time", table).iloc[target.kept]
        if typed.kinds[options.time] == "category":
            raise DataError(
                f"the time column `{options.time}` holds texts", given=repr(str(values.iloc[0]))[:60],
                rule="dates or numbers", remedy=f"correct it, or write `types: {{{options.time}: date}}`",
            )
        is_date = typed.kinds[options.time] == "date"
        times = np.asarray(values.astype("int64") if is_date else values, np.float64)
    notes = []
    for unused in [use for use in ("group", "time") if getattr(options, use) and kind != use]:
        column = getattr(options, unused)
        message = f"rows are split by {kind}: the {unused} column `{column}` has no effect on it"
        notes.append(DataWarning("split", message))
    return Grouping(kind, codes, groups, times, target.classes), notes


def _complete(values: pd.Series, use: str, table: Table) -> pd.Series:
    gaps = values.isna().to_numpy()
    if gaps.any():
        raise DataError(
            f"the {use} column `{values.name}` has gaps", where=table.place(int(np.argmax(gaps))),
            given=f"{gaps.sum():,} rows without a value", rule=f"every row has a {use}",
            remedy="fill them in, or remove the rows",
        )
    return values


def _refuse_infinite(typed: Typed, frame: pd.DataFrame, table: Table) -> None:
    for column in (c for c in frame.columns if typed.kinds[c] == "number"):
        infinite = np.isinf(typed.frame[column].to_numpy())
        if infinite.any():
            raise DataError(
                f"column `{column}` holds infinite numbers", where=table.place(int(np.argmax(infinite))),
                given=f"{infinite.sum():,} cells; a number beyond 1.8e308 counts too",
                rule="numbers are finite", remedy="correct them, leave them empty, or write `infinite: clip`",
            )
