"""Which columns the networks see and how wide they are; after `inference`, before `preprocessing`.

The layout is fixed once, from the development rows, so that every fold has tensors of the same shape.
The values behind it (means, medians, vocabularies) are fitted per split, elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from lanewise.data.table import DataWarning

MIN_COUNT = 2  # a category seen once teaches nothing but that row: it shares code 0 with the unknown ones
MAX_CATEGORIES = 255  # of a column with more, the most frequent keep a code of their own

# Parts of a date; the circles join December to January, Sunday to Monday and 23:59 to 0:00.
DATE_PARTS = ("days", "year_sin", "year_cos", "week_sin", "week_cos", "day_sin", "day_cos")


_DAY_US = 86_400_000_000


@dataclass(frozen=True)
class Layout:
    """The shape of a network's input, equal for all splits.

    Attributes:
        numeric: names of the columns of x_num: numbers, parts of dates, then missing indicators (0 or 1).
        categorical: names of the columns of x_cat.
        cardinalities: number of codes of each; code 0 is missing, rare or unknown.
        kind: "table", or "image", "series", "text": the network's one input is then of the shape below.
        shape: of one row's input: image (C, H, W), series (C, L), text (L,); empty for a table.
        tokens: number of token codes of a text, 0 (padding) and 1 (unknown) included.
    """

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    cardinalities: tuple[int, ...]
    kind: str = "table"
    shape: tuple[int, ...] = ()
    tokens: int = 0

    @property
    def n_features(self) -> int:
        """Width of the one-hot form: the numeric columns and one column per code."""
        return len(self.numeric) + sum(self.cardinalities)


@dataclass(frozen=True)
class Columns:
    """How source columns become a `Layout`.

    Attributes:
        numbers: columns used as numbers.
        dates: date column -> the parts that are used.
        categories: categorical columns.
        cardinalities: of the categorical columns.
        indicators: numbers and dates that get a missing indicator: those with a gap in the development rows.
        date_formats: date column -> format of its texts, for frames that bring texts.
        kind: of the layout; where it is no table, the fields above are empty.
        inputs: the column of the images or texts, or the columns of a series' channels.
        shape, tokens: of the layout.
        how: settings of reading them, plain JSON.
    """

    numbers: tuple[str, ...]
    dates: Mapping[str, tuple[str, ...]]
    categories: tuple[str, ...]
    cardinalities: tuple[int, ...]
    indicators: tuple[str, ...]
    date_formats: Mapping[str, str] = field(default_factory=dict)
    kind: str = "table"
    inputs: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    tokens: int = 0
    how: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """All source columns that are used."""
        return (*self.numbers, *self.dates, *self.categories, *self.inputs)

    @property
    def kinds(self) -> dict[str, str]:
        """Source column -> number, date, category, image, series or text."""
        of_table = {"number": self.numbers, "date": tuple(self.dates), "category": self.categories}
        return {name: kind for kind, names in (of_table | {self.kind: self.inputs}).items() for name in names}

    @property
    def number_names(self) -> tuple[str, ...]:
        """Names of the scaled columns: numbers, then parts of dates."""
        return (*self.numbers, *(f"{name} ({part})" for name, parts in self.dates.items() for part in parts))

    @property
    def layout(self) -> Layout:
        """The shape a network sees."""
        missing = (f"{name} (missing)" for name in self.indicators)
        return Layout(
            (*self.number_names, *missing), self.categories, self.cardinalities, self.kind, self.shape,
            self.tokens,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, read back by `from_json`."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Columns:
        """What `to_json` wrote."""
        return cls(
            tuple(data["numbers"]), {name: tuple(parts) for name, parts in data["dates"].items()},
            tuple(data["categories"]), tuple(data["cardinalities"]), tuple(data["indicators"]),
            dict(data["date_formats"]), data.get("kind", "table"), tuple(data.get("inputs", ())),
            tuple(data.get("shape", ())), data.get("tokens", 0), dict(data.get("how", {})),
        )


def frequent_categories(values: pd.Series) -> list[str]:
    """Categories that earn a code, most frequent first, then by name: of 2 rows or more, at most 255."""
    counts = [(-int(count), str(name)) for name, count in values.value_counts().items() if count >= MIN_COUNT]
    return [name for _, name in sorted(counts)[:MAX_CATEGORIES]]


def date_parts(values: pd.Series) -> dict[str, np.ndarray]:
    """Numbers that say a date: days since 1970 and places on the circles of year, week and day.

    Args:
        values: datetime64 [N]; missing allowed.

    Returns:
        part -> float64 [N], nan where the date is missing.
    """
    stamps = values.to_numpy("datetime64[us]")
    days = np.where(np.isnat(stamps), np.nan, stamps.astype(np.int64) / _DAY_US)
    whole = np.floor(days)
    circles = {
        "year": (values.dt.day_of_year.to_numpy(np.float64) - 1) / 365.25,
        "week": values.dt.day_of_week.to_numpy(np.float64) / 7,
        "day": days - whole,
    }
    parts = {"days": days}
    for name, turn in circles.items():
        parts[f"{name}_sin"], parts[f"{name}_cos"] = np.sin(2 * np.pi * turn), np.cos(2 * np.pi * turn)
    return parts


def plan_columns(
    frame: pd.DataFrame, kinds: Mapping[str, str], formats: Mapping[str, str]
) -> tuple[Columns, list[DataWarning]]:
    """Fix the layout from the development rows.

    Args:
        frame: development rows, used columns only, typed as `inference` leaves them.
        kinds: column -> number, category or date.
        formats: date column -> format of its texts.
    """
    notes: list[DataWarning] = []
    dates, cardinalities, indicators = {}, [], []
    for name in frame.columns:
        values = frame[name]
        if kinds[name] == "category":
            kept, different = frequent_categories(values), values.nunique()
            cardinalities.append(len(kept) + 1)
            rest = different - len(kept)
            if rest and different > MAX_CATEGORIES:
                notes.append(DataWarning(
                    "high_cardinality",
                    f"{different:,} categories; the {len(kept)} most frequent keep "
                    f"their own code, {rest:,} share code 0",
                    name,
                ))
            continue
        if values.isna().any():
            indicators.append(name)
        if kinds[name] == "date":
            parts = date_parts(values)
            # A part that never changes (no time of day, one year only) would be a constant input.
            dates[name] = tuple(
                part for part in DATE_PARTS if np.nanmax(parts[part]) - np.nanmin(parts[part]) > 1e-9
            )
    of_kind = {kind: tuple(n for n in frame.columns if kinds[n] == kind) for kind in ("number", "category")}
    return Columns(
        of_kind["number"], dates, of_kind["category"], tuple(cardinalities), tuple(indicators),
        {name: formats[name] for name in dates if name in formats},
    ), notes
