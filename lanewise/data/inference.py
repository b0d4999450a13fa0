"""Finds the type of every column - number, category, date - and reads it; after the readers, before `target`.

A column is what all its values can be read as; what the study says (`data: types:`) comes first. Nothing
is lost in silence: a value that cannot be read is an error with its line, a guess is a named warning.
No statistic is taken here, so it is safe to look at all rows, the test rows included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lanewise.data.dates import find_format, read_dates
from lanewise.data.table import DataWarning, Table, shown
from lanewise.errors import DataError

MISSING_WORDS = frozenset({
    "?", "-", "--", ".", "na", "n/a", "#n/a", "<na>", "nan", "-nan", "null", "none", "nil", "missing",
    "unknown",
})
_EXACT = 2.0**53  # from here on, neighbouring whole numbers share one float
_NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
_ZEROS = r"^[+-]?0\d+$"
_NUMBER_LIKE = r"^[^\d\s]{0,3}\s?\d[\d.,' ]*\s?[^\d\s]{0,3}$"
_SOME = 10  # different numbers from which on texts between them are strays, not categories


@dataclass(frozen=True)
class Typed:
    """All columns, read.

    Attributes:
        frame: numbers as float64 (missing: nan), dates as datetime64[us], all others as str.
        kinds: column -> number, category, date, text, series or image.
        formats: date column -> the format of its texts.
        notes: what the user should know.
        mixed: column -> what is wrong with it; only where faults were to be collected.
    """

    frame: pd.DataFrame
    kinds: Mapping[str, str]
    formats: Mapping[str, str]
    notes: tuple[DataWarning, ...]
    mixed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Column:
    kind: str
    values: pd.Series
    notes: tuple[DataWarning, ...] = ()
    form: str | None = None


def infer_types(
    table: Table, types: Mapping[str, str], *, formats: Mapping[str, str] | None = None, collect: bool = False
) -> Typed:
    """Type and read all columns of a table.

    Args:
        table: as a reader left it.
        types: column -> declared type.
        formats: date column -> format of its texts, where it is known (`Columns.date_formats` of a model).
        collect: keep columns with mixed types as categories and list them in `mixed`, instead of raising.

    Raises:
        DataError: A value does not fit its column's type, with the first such line.
    """
    columns: dict[str, _Column] = {}
    mixed: dict[str, str] = {}
    for name, values in table.columns.items():
        try:
            declared = types.get(name, table.kinds.get(name))
            columns[name] = _read(table, name, values, declared, (formats or {}).get(name))
        except DataError as error:
            if not collect:
                raise
            mixed[name] = f"{error.what}, {error.where}: {error.given}"
            columns[name] = _Column("category", _texts(values.cast(pa.large_string())))
    return Typed(
        pd.DataFrame({name: column.values for name, column in columns.items()}),
        {name: column.kind for name, column in columns.items()},
        {name: column.form for name, column in columns.items() if column.form is not None},
        tuple(note for column in columns.values() for note in column.notes),
        mixed,
    )


def _read(
    table: Table, name: str, values: pa.ChunkedArray, declared: str | None, form: str | None
) -> _Column:
    kind = values.type
    if declared in ("text", "series", "image"):
        return _Column(declared, _texts(values.cast(pa.large_string())))  # read by the kind's own file
    if pa.types.is_large_string(kind) or pa.types.is_string(kind):
        return _read_text(table, name, values, declared, form, guess=table.is_text)
    if pa.types.is_boolean(kind):
        if declared == "number":
            return _Column("number", _floats(values.cast(pa.uint8())))
        texts = pc.if_else(values, "True", "False")
        return _Column("category", _texts(texts.cast(pa.large_string())))
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        if declared in (None, "date"):
            naive = values.cast(pa.timestamp("us", tz=kind.tz if pa.types.is_timestamp(kind) else None))
            return _Column("date", read_dates(naive))
        return _read_text(table, name, values.cast(pa.large_string()), declared, None, guess=False)
    if pa.types.is_null(kind):
        return _Column(declared or "number", _floats(values.cast(pa.float64())))
    if declared == "category":
        return _Column("category", _texts(values.cast(pa.large_string())))
    if declared == "date":
        raise DataError(
            f"column `{name}` holds numbers, no dates", where=table.place(0), given=f"type {kind}",
            remedy="take it out of `types`",
        )
    if pa.types.is_integer(kind) and declared is None and len(values) > values.null_count:
        largest = max(abs(pc.min(values).as_py()), abs(pc.max(values).as_py()))
        if largest >= _EXACT:
            return _Column("category", _texts(values.cast(pa.large_string())), (_long(name),))
    return _Column("number", _floats(values))


def _read_text(
    table: Table, name: str, values: pa.ChunkedArray, declared: str | None, form: str | None, *, guess: bool
) -> _Column:
    """A column of texts; without `guess` (a file that stores types) texts are categories unless declared."""
    values = _gaps(values)
    if values.null_count == len(values):
        return _Column(declared or "number", _floats(pa.chunked_array([pa.nulls(len(values), pa.float64())])))
    if declared == "category" or (declared is None and not guess):
        return _category(name, values, declared)
    if declared == "date":
        return _date(table, name, values, form, strict=True) or _category(name, values, declared)
    pointed = pc.replace_substring(values, ",", ".") if table.decimal == "," else values
    try:
        numbers = pc.cast(pointed, pa.float64())
    except pa.ArrowInvalid:
        numbers = None
    if numbers is not None and pc.sum(pc.is_nan(numbers)).as_py() in (0, None):
        return _number(name, pointed, numbers, declared)
    return _stray(table, name, values, pointed, declared)


def _number(name: str, texts: pa.ChunkedArray, numbers: pa.ChunkedArray, declared: str | None) -> _Column:
    """All texts are numbers: a number, unless it would lose digits."""
    floats = _floats(numbers)
    if declared is None:
        finite = floats.to_numpy()[np.isfinite(floats.to_numpy())]
        if len(finite) and (finite == np.floor(finite)).all():  # only whole numbers can be ids
            if np.abs(finite).max() >= _EXACT and pc.any(
                pc.match_substring_regex(texts, r"^[+-]?\d{16,}$")
            ).as_py():
                return _Column("category", _texts(texts), (_long(name),))
            if pc.any(pc.match_substring_regex(texts, _ZEROS)).as_py():
                note = DataWarning(
                    "leading_zeros",
                    "whole numbers with leading zeros are kept as text; if they are numbers, "
                    f"write `types: {{{name}: number}}`",
                    name,
                )
                return _Column("category", _texts(texts), (note,))
    return _Column("number", floats)


def _stray(
    table: Table, name: str, values: pa.ChunkedArray, pointed: pa.ChunkedArray, declared: str | None,
) -> _Column:
    """Not all texts are numbers: missing words, strays between numbers, dates or categories."""
    counts = pc.value_counts(pointed.drop_null())
    texts, rows = counts.field("values"), counts.field("counts").to_numpy()
    is_number = pc.match_substring_regex(texts, _NUMBER).to_numpy(zero_copy_only=False)
    is_infinite = pc.match_substring_regex(
        texts, r"(?i)^\s*[+-]?inf(inity)?\s*$",
    ).to_numpy(zero_copy_only=False)
    is_number |= is_infinite
    others = texts.filter(pa.array(~is_number)).to_pylist() if is_number.any() else []
    if others and len(others) <= len(MISSING_WORDS) * 4 and all(
        text.lower() in MISSING_WORDS for text in others
    ):
        return _with_missing_words(name, pointed, others, int(rows[~is_number].sum()), declared)
    number_rows, different = int(rows[is_number].sum()), int(is_number.sum())
    share = number_rows / rows.sum()
    if declared == "number" or (share >= 0.5 and (different > _SOME or share >= 0.98)):
        raise _mixed(
            table, name, values, pc.invert(pc.is_in(pointed, texts.filter(pa.array(is_number)))), "number",
            number_rows,
        )
    if declared is None:
        dated = _date(table, name, values, None, strict=False)
        if dated is not None:
            return dated
    return _category(name, values, declared)


def _with_missing_words(
    name: str, texts: pa.ChunkedArray, words: list[str], rows: int, declared: str | None,
) -> _Column:
    blanked = pc.if_else(pc.is_in(texts, pa.array(words, texts.type)), pa.scalar(None, texts.type), texts)
    column = _number(name, blanked, pc.cast(blanked, pa.float64()), declared)
    note = DataWarning(
        "missing_words", f"{rows:,} cells with {shown(sorted(words))} between numbers are taken as missing",
        name,
    )
    return _Column(column.kind, column.values, (*column.notes, note))


def _category(name: str, values: pa.ChunkedArray, declared: str | None) -> _Column:
    """Texts as they are: only empty cells are missing, and words that often mean it are named."""
    notes = []
    if declared is None:
        different = pc.unique(values.drop_null())
        words = pc.is_in(
            pc.utf8_lower(different),
            pa.array(sorted(MISSING_WORDS - {"missing", "unknown"}), different.type),
        )
        found = different.filter(words).to_pylist()
        if found:
            rows = pc.sum(pc.is_in(values, pa.array(found, values.type))).as_py()
            notes.append(DataWarning(
                "kept_words",
                f"{rows:,} cells with {shown(sorted(found))} are kept as a category; if they mean "
                "missing, leave the cells empty",
                name,
            ))
        like = pc.match_substring_regex(different, _NUMBER_LIKE)
        if len(different) > _SOME and pc.mean(like.cast(pa.float64())).as_py() >= 0.8:
            example = different.filter(like)[0].as_py()
            notes.append(DataWarning(
                "number_like",
                f"looks like numbers with signs or units (`{example[:30]}`), but is used as a category; "
                "write plain numbers to use it as a number",
                name,
            ))
    return _Column("category", _texts(values), tuple(notes))


def _date(
    table: Table, name: str, values: pa.ChunkedArray, form: str | None, *, strict: bool
) -> _Column | None:
    """A date column, or None if its texts are no dates; when `strict` they must be."""
    found = (form, False) if form is not None else find_format(pc.unique(values.drop_null()))
    if found is None:
        if strict:
            raise _mixed(table, name, values, pa.chunked_array([pa.array([True] * len(values))]), "date", 0)
        return None
    form, ambiguous = found
    read = read_dates(values, form)
    wrong = read.isna().to_numpy() & pc.is_valid(values).to_numpy()
    if wrong.any():
        raise _mixed(
            table, name, values, pa.chunked_array([pa.array(wrong)]), "date", int(read.notna().sum()),
        )
    notes: tuple[DataWarning, ...] = ()
    if ambiguous:
        notes = (DataWarning(
            "date_order", f"day and month cannot be told apart; read as {form}", name,
        ),)
    return _Column("date", read, notes, form)


def _mixed(
    table: Table, name: str, values: pa.ChunkedArray, wrong: pa.ChunkedArray, kind: str, fitting: int,
) -> DataError:
    """The error for a value that does not fit, at its first place."""
    marks = pc.fill_null(wrong, False).to_numpy() & pc.is_valid(values).to_numpy()
    row = int(np.argmax(marks))
    present = len(values) - values.null_count
    rest = f"; {fitting:,} of {present:,} values are {kind}s" if fitting else ""
    return DataError(
        f"column `{name}` mixes {kind}s with other text" if fitting else f"column `{name}` holds no {kind}s",
        where=table.place(row), given=repr(str(values[row].as_py())[:60]) + rest,
        rule=f"all values of a {kind} column are {kind}s or empty",
        remedy=f"correct it there, or write `types: {{{name}: category}}`, or put the column under `drop`",
    )


def _long(name: str) -> DataWarning:
    return DataWarning(
        "long_integers",
        "whole numbers of 16 digits and more are kept as text, since a number would lose digits; "
        f"if they are numbers, write `types: {{{name}: number}}`",
        name,
    )


def _gaps(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Trimmed texts, missing where empty."""
    trimmed = pc.utf8_trim_whitespace(values.cast(pa.large_string()))
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.large_string()), trimmed)


def _texts(values: pa.ChunkedArray) -> pd.Series:
    return pd.Series(values.to_pandas(), dtype="str")


def _floats(values: pa.ChunkedArray) -> pd.Series:
    return pd.Series(np.array(values.cast(pa.float64()).to_numpy(), np.float64))
