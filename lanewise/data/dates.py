"""Reads dates from texts; part of `inference`. One column has one format, tried in a fixed order."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

_ISO = "ISO8601"
# Formats by the shape of the text; where two share a shape (day or month first) both are tried.
_FORMATS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"^\d{4}-\d{1,2}-\d{1,2}([T ]\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?\s?(Z|[+-]\d{2}:?\d{2})?)?$", (_ISO,)),
    (r"^\d{4}/\d{1,2}/\d{1,2}$", ("%Y/%m/%d",)),
    (r"^\d{4}/\d{1,2}/\d{1,2} \d{1,2}:\d{2}$", ("%Y/%m/%d %H:%M",)),
    (r"^\d{4}/\d{1,2}/\d{1,2} \d{1,2}:\d{2}:\d{2}$", ("%Y/%m/%d %H:%M:%S",)),
    (r"^\d{1,2}\.\d{1,2}\.\d{4}$", ("%d.%m.%Y",)),
    (r"^\d{1,2}\.\d{1,2}\.\d{4} \d{1,2}:\d{2}$", ("%d.%m.%Y %H:%M",)),
    (r"^\d{1,2}\.\d{1,2}\.\d{4} \d{1,2}:\d{2}:\d{2}$", ("%d.%m.%Y %H:%M:%S",)),
    (r"^\d{1,2}/\d{1,2}/\d{4}$", ("%m/%d/%Y", "%d/%m/%Y")),
    (r"^\d{1,2}/\d{1,2}/\d{4} \d{1,2}:\d{2}$", ("%m/%d/%Y %H:%M", "%d/%m/%Y %H:%M")),
    (r"^\d{1,2}/\d{1,2}/\d{4} \d{1,2}:\d{2}:\d{2}$", ("%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M:%S")),
    (r"^\d{1,2}-\d{1,2}-\d{4}$", ("%d-%m-%Y", "%m-%d-%Y")),
    (r"^[A-Za-z]+ \d{1,2}, \d{4}$", ("%B %d, %Y", "%b %d, %Y")),
    (r"^\d{1,2}[ -][A-Za-z]+[ -]\d{4}$", ("%d %B %Y", "%d %b %Y", "%d-%b-%Y")),
)
_ENOUGH = 0.5  # share of the different texts that must look like dates before strays among them are errors


def find_format(texts: pa.Array) -> tuple[str, bool] | None:
    """The format of a column's different texts, and whether day and month could be swapped; None if no dates.

    The format that reads most texts wins, and of two that read the same the first.
    """
    if not len(texts):
        return None
    sample = texts[:1000]
    for pattern, formats in _FORMATS:
        if pc.mean(pc.match_substring_regex(sample, pattern).cast(pa.float64())).as_py() < _ENOUGH:
            continue
        read = {form: int(read_dates(texts, form).notna().sum()) for form in formats}
        most = max(read.values())
        if most < _ENOUGH * len(texts):
            return None
        best = [form for form in formats if read[form] == most]
        return best[0], len(best) > 1 and "%m" in best[0]
    return None


def read_dates(values: pa.Array | pa.ChunkedArray, form: str | None = None) -> pd.Series:
    """Texts (by `form`) or timestamps as datetime64[us] in UTC without zone; missing where not readable."""
    series: pd.Series = values.to_pandas()
    if form is not None:
        series = pd.to_datetime(series, format=form, errors="coerce", utc=True)
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        series = series.dt.tz_convert("UTC").dt.tz_localize(None)
    return series.astype("datetime64[us]")
