"""Series as arrays: cells that list numbers -> float32 [N, C, L], scaled by the training rows; after `inference`.

A channel is a column whose cells are texts such as `0.1, 0.2, ?`; `?` is a missing value. The longest series of the
development rows says how long the network's input is; what is longer is cut at its end, and counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lanewise.data.columns import Columns, Layout
from lanewise.data.preprocessing import F32, F64, I64, mean_and_deviation, standardised
from lanewise.data.table import DataWarning, shown
from lanewise.errors import DataError

_BETWEEN = re.compile(r"[,;\s]+")
_MISSING = frozenset({"", "?", "nan", "na"})


@dataclass(frozen=True, eq=False)
class SeriesPreprocessor:
    """Scaling of one set of training rows.

    Attributes:
        columns: the channels and the shape; `how["present"]` says that a last channel is 1 where there is a value.
        means, deviations: float64 [C], of all values of the training rows.
    """

    columns: Columns
    means: F64
    deviations: F64

    @property
    def layout(self) -> Layout:
        """The shape of what `transform` returns."""
        return self.columns.layout

    def transform(self, frame: pd.DataFrame) -> tuple[F32, I64]:
        """Arrays for a network.

        Args:
            frame: [N] rows with at least the channels' columns.

        Returns:
            x_num float32 [N, C, L], 0 where there is no value; x_cat int64 [N, 0].

        Raises:
            DataError: A channel is missing, or a cell lists no numbers.
        """
        channels, length = len(self.columns.inputs), self.columns.shape[1]
        x = np.zeros((len(frame), *self.columns.shape), np.float32)
        for row, values in enumerate(read_series(frame, self.columns.inputs)):
            values = values[:, :length]
            there = ~np.isnan(values)
            scaled = standardised(values, self.means[:, None], self.deviations[:, None])
            x[row, :channels, : values.shape[1]] = np.where(there, scaled, 0.0)
            if self.columns.how["present"]:
                x[row, channels, : values.shape[1]] = there.all(axis=0)
        return x, np.zeros((len(frame), 0), np.int64)

    def unseen(self, frame: pd.DataFrame) -> dict[str, int]:
        """What new rows have that the training rows had not -> number of rows."""
        length = self.columns.shape[1]
        read = read_series(frame, self.columns.inputs)
        counts = {f"series longer than {length}, cut": sum(v.shape[1] > length for v in read)}
        if not self.columns.how["present"]:  # without that channel a gap looks like the mean
            counts[f"series shorter than {length}, filled up with the mean"] = sum(v.shape[1] < length for v in read)
            counts["series with missing values, taken as the mean"] = sum(bool(np.isnan(v).any()) for v in read)
        return {what: count for what, count in counts.items() if count}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; floats keep every bit."""
        moments = {"means": self.means.tolist(), "deviations": self.deviations.tolist()}
        return {"columns": self.columns.to_json(), **moments}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SeriesPreprocessor:
        """What `to_json` wrote; it transforms to the same bits."""
        moments = (np.asarray(data[name], np.float64) for name in ("means", "deviations"))
        return cls(Columns.from_json(data["columns"]), *moments)


def plan_series(frame: pd.DataFrame) -> tuple[Columns, list[DataWarning]]:
    """The shape of series, from the development rows.

    Args:
        frame: development rows, one column for each channel.

    Raises:
        DataError: A cell lists no numbers, the channels of a row differ in length, or a row has no value.
    """
    names = tuple(str(name) for name in frame.columns)
    read = read_series(frame, names)
    lengths = np.array([values.shape[1] for values in read])
    gaps = sum(int(np.isnan(values).any()) for values in read)
    longest, shortest = int(lengths.max()), int(lengths.min())
    present = bool(gaps) or longest != shortest
    notes = []
    if longest != shortest:
        said = f"series of {shortest} to {longest} values; a channel says where the shorter ones end"
        notes.append(DataWarning("unequal_lengths", said))
    if gaps:
        notes.append(DataWarning("missing_values", f"{gaps:,} series have missing values; a channel says where"))
    shape = (len(names) + present, longest)
    return Columns((), {}, (), (), (), {}, "series", names, shape, 0, {"present": present}), notes


def fit_series(frame: pd.DataFrame, columns: Columns) -> SeriesPreprocessor:
    """Fit on a frame that holds the training rows and no others: mean and deviation of each channel."""
    joined = np.concatenate(read_series(frame, columns.inputs), axis=1)
    moments = [mean_and_deviation(channel[~np.isnan(channel)]) for channel in joined]
    means, deviations = (np.array(values, np.float64) for values in zip(*moments, strict=True))
    return SeriesPreprocessor(columns, means, deviations)


def read_series(
    frame: pd.DataFrame, names: tuple[str, ...], place: Callable[[int], str] = lambda row: f"row {row + 1}"
) -> list[npt.NDArray[np.float64]]:
    """Every row's channels, float64 [C, L], nan where missing.

    Args:
        frame: [N] rows.
        names: the channels' columns.
        place: where a person finds row i (0-based), for messages.

    Raises:
        DataError: A column is missing; a cell lists no numbers; channels of a row differ in length.
    """
    absent = [name for name in names if name not in frame.columns]
    if absent:
        raise DataError(
            "channels are missing", given=f"no {shown(absent)}", rule="the channels the model was fitted on",
            remedy="bring series with the same channels",
        )
    channels = [[_numbers(cell, name, row, place) for row, cell in enumerate(frame[name])] for name in names]
    rows = []
    for row, values in enumerate(zip(*channels, strict=True)):
        if len({len(v) for v in values}) > 1:
            raise DataError(
                "the channels of a series differ in length", where=place(row),
                given=", ".join(str(len(v)) for v in values[:8]), rule="all channels of a row are equally long",
                remedy="fill the shorter ones up with `?`",
            )
        rows.append(np.stack(values))
        if np.isnan(rows[-1]).all():
            raise DataError(
                "a series has no value", where=place(row), rule="at least one number",
                remedy="remove the row",
            )
    return rows


def _numbers(cell: object, name: str, row: int, place: Callable[[int], str]) -> npt.NDArray[np.float64]:
    texts = _BETWEEN.split(cell.strip().strip("[]()").strip()) if isinstance(cell, str) else [""]
    try:
        values = np.array([np.nan if text.lower() in _MISSING else float(text) for text in texts])
    except ValueError:
        wrong = next(text for text in texts if not _is_number(text))
        raise DataError(
            f"column `{name}` holds a cell that is no series", where=place(row), given=repr(wrong)[:60],
            rule="numbers with commas between them; ? for a missing one", remedy="correct it there",
        ) from None
    if np.isinf(values).any():
        raise DataError(
            f"column `{name}` holds an infinite number", where=place(row), rule="numbers are finite",
            remedy="correct it, or write ? for a missing value",
        )
    return values


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text.lower() in _MISSING
    return True
