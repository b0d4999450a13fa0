"""Writes tables for people: CSV that a spreadsheet shows and does not run. Reads and decides nothing."""

from __future__ import annotations

import pandas as pd

_STARTS = ("=", "+", "-", "@", "\t", "\r")


def safe_csv(frame: pd.DataFrame) -> str:
    """A frame as CSV in which no text starts a formula: such a cell or name gets a leading apostrophe.

    Numbers stay as they are, negative ones too. Source: OWASP, "CSV Injection".
    """
    safe = frame.rename(columns=lambda name: _harmless(str(name)))
    for position, kind in enumerate(frame.dtypes):
        if not (pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_datetime64_any_dtype(kind)):
            values = frame.iloc[:, position].astype(object).map(_harmless, na_action="ignore")
            safe.isetitem(position, values.to_numpy())
    # With this line end, cells that hold \r or \n are quoted; then lines end as Unix tools like them.
    return safe.to_csv(index=False, lineterminator="\r\n").replace("\r\n", "\n")


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_STARTS) else value
