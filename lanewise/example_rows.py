"""A few rows as JSON and back, with the kind of each column; the registry keeps its input example this way.

Kinds are what a caller may send: number, boolean, text, date. A gap is null. Nothing is fitted or predicted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from lanewise.errors import DataError

KINDS = ("number", "boolean", "date", "text")


def to_json(frame: pd.DataFrame) -> dict[str, Any]:
    """Rows as plain JSON: `columns` as [name, kind] pairs and `rows` as lists of values.

    Floats keep every bit; whole numbers become floats, because a gap would make them so.
    """
    kinds = [_kind(frame[name]) for name in frame.columns]
    cells = [_cells(frame[name], kind) for name, kind in zip(frame.columns, kinds, strict=True)]
    return {
        "columns": [[str(name), kind] for name, kind in zip(frame.columns, kinds, strict=True)],
        "rows": [list(row) for row in zip(*cells, strict=True)],
    }


def from_json(data: Mapping[str, Any]) -> pd.DataFrame:
    """What `to_json` wrote, as a frame [N, columns].

    Raises:
        DataError: A column is of an unknown kind.
    """
    columns = {}
    for place, (name, kind) in enumerate(data["columns"]):
        values = [row[place] for row in data["rows"]]
        if kind not in KINDS:
            raise DataError(
                "an example has a column of an unknown kind", where=name, given=kind, rule=", ".join(KINDS)
            )
        columns[name] = _column(values, kind)
    return pd.DataFrame(columns)


def _column(values: list[Any], kind: str) -> pd.Series:
    if kind == "number":
        return pd.Series([math.nan if value is None else value for value in values], dtype="float64")
    if kind == "date":
        return pd.Series(pd.to_datetime(pd.Series(values, dtype="object")), dtype="datetime64[us]")
    if kind == "boolean" and None not in values:
        return pd.Series(values, dtype="bool")
    return pd.Series(values, dtype="object" if kind == "boolean" else "str")


def _kind(values: pd.Series) -> str:
    if pd.api.types.is_bool_dtype(values.dtype):
        return "boolean"
    if pd.api.types.is_numeric_dtype(values.dtype):
        return "number"
    return "date" if pd.api.types.is_datetime64_any_dtype(values.dtype) else "text"


def _cells(values: pd.Series, kind: str) -> list[Any]:
    gaps = values.isna().tolist()
    if kind == "date" and getattr(values.dtype, "tz", None) is not None:
        values = values.dt.tz_convert("UTC").dt.tz_localize(None)
    convert = _TO_JSON[kind]
    return [None if gap else convert(value) for gap, value in zip(gaps, values.tolist(), strict=True)]


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise DataError(
            "an example row holds an infinite number", given=number, rule="examples are finite or empty"
        )
    return number


_TO_JSON: Mapping[str, Callable[[Any], Any]] = {
    "number": _number,
    "boolean": bool,
    "date": lambda value: value.isoformat(),
    "text": str,
}
