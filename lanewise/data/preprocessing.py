"""Turns a frame into arrays by values fitted on training rows only; after `columns`, before `dataset`.

A `Preprocessor` is data: it goes into JSON and comes back the same to the last bit, which is how a
registered model carries it. It fits nothing by itself and never looks at a target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lanewise.data.columns import Columns, Layout, date_parts, frequent_categories
from lanewise.data.quantiles import fit_quantiles, to_normal
from lanewise.data.table import shown
from lanewise.errors import DataError

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

FURTHEST = 1e6  # in deviations: so that one absurd cell cannot overflow a float32 network


@dataclass(frozen=True, eq=False)
class Preprocessor:
    """Fitted values of one set of training rows.

    Attributes:
        columns: which source columns are used.
        numbers: "standard" or "quantile".
        infinite: "error" or "clip" (to the training rows' largest and smallest finite value).
        medians, means, deviations, lows, highs: float64 [D], one per `columns.number_names`.
        quantiles: per number name, float64 [Q]; empty unless `numbers` is "quantile".
        vocabularies: per categorical column its categories; code = position + 1.
    """

    columns: Columns
    numbers: str
    infinite: str
    medians: F64
    means: F64
    deviations: F64
    lows: F64
    highs: F64
    quantiles: tuple[F64, ...]
    vocabularies: tuple[tuple[str, ...], ...]

    @property
    def layout(self) -> Layout:
        """The shape of what `transform` returns."""
        return self.columns.layout

    def transform(self, frame: pd.DataFrame) -> tuple[F32, I64]:
        """Arrays for a network.

        Args:
            frame: [N] rows with at least the used columns; texts that are numbers or dates are read as such.

        Returns:
            x_num float32 [N, Dn], finite; x_cat int64 [N, Dc], 0 for missing, rare and unknown categories.

        Raises:
            DataError: A column is missing, or holds texts or infinity where numbers belong.
        """
        self._check(frame)
        raw_ND, missing_NI = numbers_of(frame, self.columns)
        if self.infinite == "clip":
            raw_ND = np.clip(raw_ND, self.lows, self.highs)
        elif np.isinf(raw_ND).any():
            self._refuse_infinite(raw_ND)
        filled = np.where(np.isnan(raw_ND), self.medians, raw_ND)
        if self.numbers == "quantile":
            for column, quantiles in enumerate(self.quantiles):
                filled[:, column] = to_normal(filled[:, column], quantiles)
        scaled = standardised(filled, self.means, self.deviations)
        x_num = np.concatenate([scaled, missing_NI.astype(np.float32)], axis=1)
        named = zip(self.columns.categories, self.vocabularies, strict=True)
        codes = [self._codes(frame[name], vocabulary) for name, vocabulary in named]
        x_cat = np.stack(codes, axis=1) if codes else np.zeros((len(frame), 0), np.int64)
        return x_num, x_cat

    def unseen(self, frame: pd.DataFrame) -> dict[str, int]:
        """Categorical column -> rows whose category has no code of its own; only columns with such rows."""
        counts = {}
        for name, vocabulary in zip(self.columns.categories, self.vocabularies, strict=True):
            unknown = (self._codes(frame[name], vocabulary) == 0) & frame[name].notna().to_numpy()
            if unknown.any():
                counts[name] = int(unknown.sum())
        return counts

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; floats keep every bit."""
        arrays = {name: getattr(self, name).tolist() for name in _ARRAYS}
        return {
            "columns": self.columns.to_json(), "numbers": self.numbers, "infinite": self.infinite, **arrays,
            "quantiles": [q.tolist() for q in self.quantiles],
            "vocabularies": [list(v) for v in self.vocabularies],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Preprocessor:
        """What `to_json` wrote; it transforms to the same bits."""
        return cls(
            columns=Columns.from_json(data["columns"]), numbers=data["numbers"], infinite=data["infinite"],
            **{name: np.asarray(data[name], np.float64) for name in _ARRAYS},
            quantiles=tuple(np.asarray(q, np.float64) for q in data["quantiles"]),
            vocabularies=tuple(tuple(v) for v in data["vocabularies"]),
        )

    def _check(self, frame: pd.DataFrame) -> None:
        absent = [name for name in self.columns.names if name not in frame.columns]
        if absent:
            raise DataError(
                "columns are missing", given=f"no {shown(absent)}",
                rule="the columns the model was fitted on",
                remedy="add them; a value that is not known may be left empty",
            )

    def _refuse_infinite(self, raw_ND: F64) -> None:
        row, column = np.argwhere(np.isinf(raw_ND))[0]
        raise DataError(
            f"column `{self.columns.number_names[column]}` holds an infinite number", where=f"row {row + 1}",
            given=str(raw_ND[row, column]), rule="numbers are finite", remedy="correct it, or leave it empty",
        )

    def _codes(self, values: pd.Series, vocabulary: Sequence[str]) -> I64:
        texts = category_texts(values, vocabulary)
        return (pd.Index(list(vocabulary), dtype="str").get_indexer(pd.Index(texts)) + 1).astype(np.int64)


_ARRAYS = ("medians", "means", "deviations", "lows", "highs")


def fit_preprocessor(frame: pd.DataFrame, columns: Columns, numbers: str, infinite: str) -> Preprocessor:
    """Fit on a frame that holds the training rows and no others.

    Missing numbers become the median. "standard" scales by mean and deviation of the values that are there
    (population deviation, as scikit-learn's StandardScaler); "quantile" maps them to a normal distribution.
    A constant column, which a fold can have, becomes 0.

    Args:
        frame: training rows [N].
        columns: the layout's columns.
        numbers: "standard" or "quantile".
        infinite: "error" or "clip".
    """
    raw_ND, _ = numbers_of(frame, columns)
    there = [raw_ND[np.isfinite(raw_ND[:, d]), d] for d in range(raw_ND.shape[1])]
    lows = np.array([v.min() if len(v) else 0.0 for v in there])
    highs = np.array([v.max() if len(v) else 0.0 for v in there])
    with np.errstate(over="ignore"):  # the mean of the two middle values can overflow; the clip mends it
        medians = np.clip([np.median(v) if len(v) else 0.0 for v in there], lows, highs)
    quantiles: tuple[F64, ...] = ()
    moments = [(0.0, 1.0)] * len(there)
    if numbers == "quantile":
        quantiles = tuple(fit_quantiles(v) for v in there)
    else:
        moments = [mean_and_deviation(v) for v in there]
    vocabularies = tuple(
        tuple(sorted(frequent_categories(frame[name])[: cardinality - 1]))
        for name, cardinality in zip(columns.categories, columns.cardinalities, strict=True)
    )
    means, deviations = (
        np.array(m, np.float64) for m in (zip(*moments, strict=True) if moments else ((), ()))
    )
    return Preprocessor(
        columns, numbers, infinite, medians, means, deviations, lows, highs, quantiles, vocabularies,
    )


def mean_and_deviation(values: F64) -> tuple[float, float]:
    """Mean and population deviation; (0, 1) without values, deviation 1 where all are equal.

    Computed on values divided by the largest, whose squares cannot overflow.
    """
    if not len(values):
        return 0.0, 1.0
    largest = float(np.abs(values).max())
    if largest == 0.0 or values.min() == values.max():
        return float(values[0]), 1.0
    unit = values / largest
    deviation = float(unit.std()) * largest
    # Below this, the spread is rounding: scaling by it would blow noise up to full size.
    noise = 10 * np.finfo(np.float64).eps * largest
    return float(unit.mean()) * largest, deviation if deviation > noise else 1.0


def standardised(values: F64, means: F64 | float, deviations: F64 | float) -> F32:
    """Values in deviations from the mean, float32, at most 1e6 from 0."""
    with np.errstate(over="ignore"):  # an overflow is infinite, and then clipped
        return np.clip((values - means) / deviations, -FURTHEST, FURTHEST).astype(np.float32)


def numbers_of(frame: pd.DataFrame, columns: Columns) -> tuple[F64, F64]:
    """Numbers and parts of dates float64 [N, D], nan where missing; missing indicators float64 [N, I]."""
    parts = [as_numbers(frame[name]) for name in columns.numbers]
    gaps = {name: np.isnan(values) for name, values in zip(columns.numbers, parts, strict=True)}
    for name, kept in columns.dates.items():
        dates = as_dates(frame[name], columns.date_formats.get(name))
        gaps[name] = dates.isna().to_numpy()
        of_date = date_parts(dates)
        parts.extend(of_date[part] for part in kept)
    raw = np.stack(parts, axis=1) if parts else np.zeros((len(frame), 0))
    missing = [gaps[name].astype(np.float64) for name in columns.indicators]
    return raw, np.stack(missing, axis=1) if missing else np.zeros((len(frame), 0))


def as_numbers(values: pd.Series) -> F64:
    """A column as float64 [N], nan where missing; texts are read as numbers.

    Raises:
        DataError: A value is no number.
    """
    if pd.api.types.is_numeric_dtype(values.dtype):
        return values.to_numpy(np.float64, na_value=np.nan)
    read = pd.to_numeric(values.replace("", np.nan), errors="coerce")
    wrong = (read.isna() & values.notna() & (values != "")).to_numpy()
    if wrong.any():
        raise _unreadable(values, wrong, "number")
    return read.to_numpy(np.float64, na_value=np.nan)


def as_dates(values: pd.Series, form: str | None) -> pd.Series:
    """A column as datetime64 [N] in UTC without zone; texts are read by `form`, else as ISO 8601.

    Raises:
        DataError: A value is no date.
    """
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        local: pd.Series = values.dt.tz_convert("UTC").dt.tz_localize(None)
        return local
    if pd.api.types.is_datetime64_dtype(values.dtype):
        return values
    texts = values.replace("", None)
    read: pd.Series = pd.to_datetime(texts, format=form or "ISO8601", errors="coerce", utc=True)
    wrong = (read.isna() & texts.notna()).to_numpy()
    if wrong.any():
        raise _unreadable(values, wrong, "date")
    naive: pd.Series = read.dt.tz_localize(None)
    return naive


def _unreadable(values: pd.Series, wrong: npt.NDArray[np.bool_], kind: str) -> DataError:
    row = int(np.argmax(wrong))
    return DataError(
        f"column `{values.name}` holds a value that is no {kind}", where=f"row {row + 1}",
        given=repr(values.iloc[row])[:80], rule=f"the column is a {kind}",
        remedy="correct it, or leave it empty",
    )


def category_texts(values: pd.Series, vocabulary: Sequence[str] = ()) -> pd.Series:
    """A column as texts, missing where missing: 3.0 becomes "3", or "3.0" where the vocabulary has it so."""
    if isinstance(values.dtype, pd.StringDtype):
        return values
    if pd.api.types.is_bool_dtype(values.dtype):
        lower = "true" in vocabulary or "false" in vocabulary
        return values.map(
            {True: "true", False: "false"} if lower else {True: "True", False: "False"}
        ).astype("str")
    pointed = any(text.endswith(".0") for text in vocabulary)

    def text(value: object) -> object:
        if isinstance(value, float | np.floating):
            value = float(value)
            return str(int(value)) if value.is_integer() and not pointed else repr(value)
        return f"{value}.0" if pointed and isinstance(value, int | np.integer) else str(value)

    return values.map(text, na_action="ignore").astype("str")


def one_hot(layout: Layout, x_num: F32, x_cat: I64) -> F32:
    """x_num beside one column per code of every category: float32 [N, n_features]."""
    out = np.zeros((len(x_num), layout.n_features), np.float32)
    out[:, : x_num.shape[1]] = x_num
    starts = x_num.shape[1] + np.concatenate([[0], np.cumsum(layout.cardinalities)[:-1]]).astype(np.int64)
    if x_cat.shape[1]:
        np.put_along_axis(out, x_cat + starts, 1.0, axis=1)
    return out
