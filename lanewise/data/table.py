"""A table as it was read, before anything is decided about it; the readers make it, `inference` types it.

A `Table` knows where each row stood, so that every later complaint can name a line. It holds no rule
about types, targets or splits, and it never changes a value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lanewise.errors import DataError

TARGET = "__lanewise_target__"  # the target beside its features; no source column may have this name


@dataclass(frozen=True)
class DataWarning:
    """Something in the data the user should know of, but that stops nothing.

    Attributes:
        code: short fixed name, such as `constant` or `leak`.
        message: one sentence for people, with numbers.
        column: the column it is about, or None for the table as a whole.
    """

    code: str
    message: str
    column: str | None = None


@dataclass(frozen=True)
class Table:
    """Columns as read from a source.

    Attributes:
        columns: name -> values, all of the same length; texts of a text file, or typed values.
        name: the source, as messages show it.
        is_text: whether the values are the texts of a file whose types are still to be found.
        decimal: decimal sign of numbers in text.
        settings: how it was read (separator, encoding ...), for the report.
        notes: what the reader noticed.
        line_of: row (0-based) -> line of the file (1-based); None where there are no lines.
        target: the column a bundled data set wants predicted, or None.
        kinds: column -> kind, where the reader knows it: series, image.
        sealed: True for rows that came from the study's `test_source`, bool [N]; None without one.
        places: where each row came from, in place of its number; empty where there are only numbers.
    """

    columns: Mapping[str, pa.ChunkedArray]
    name: str
    is_text: bool = False
    decimal: str = "."
    settings: Mapping[str, str] | None = None
    notes: tuple[DataWarning, ...] = ()
    line_of: Callable[[int], int] | None = None
    target: str | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)
    places: Sequence[str] = ()
    sealed: npt.NDArray[np.bool_] | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def place(self, row: int) -> str:
        """Where a person finds row `row` (0-based): `a.csv, line 18`, or `a.parquet, row 17`, from 1."""
        if self.places:
            return self.places[row]
        spot = f"row {row + 1}" if self.line_of is None else f"line {self.line_of(row)}"
        return f"{self.name}, {spot}"


def fingerprint(table: Table) -> str:
    """SHA-256 over every name, type and value of a table, in order: any change of any cell changes it.

    Chunks do not matter. A text file and a Parquet file of the same values differ: their types do.
    """
    total = hashlib.sha256(b"lanewise-table-1")
    for name, values in table.columns.items():
        total.update(f"\0{len(name)}:{name}\0{values.type}\0{len(values)}\0".encode())
        for digest in _column_digests(values):
            total.update(digest)
    return total.hexdigest()


def _column_digests(values: pa.ChunkedArray) -> tuple[bytes, bytes]:
    """Digests of the lengths or validity of a column's values, and of the values."""
    shape, content = hashlib.sha256(), hashlib.sha256()
    for chunk in values.chunks:
        if not len(chunk):
            continue
        if pa.types.is_string(chunk.type) or pa.types.is_large_string(chunk.type):
            chunk = chunk.cast(pa.large_string())
            # Lengths beside the bytes: "ab","c" and "a","bc" are different columns. Missing has length -1.
            shape.update(
                pc.fill_null(pc.binary_length(chunk).cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
            )
            offsets = np.frombuffer(chunk.buffers()[1], np.int64)[
                chunk.offset : chunk.offset + len(chunk) + 1
            ]
            if chunk.buffers()[2] is not None and chunk.null_count == 0:
                content.update(memoryview(chunk.buffers()[2])[offsets[0] : offsets[-1]])
            else:
                content.update("".join(text for text in chunk.to_pylist() if text is not None).encode())
        else:
            shape.update(pc.is_null(chunk).to_numpy(zero_copy_only=False).tobytes())
            content.update(_numbers(chunk).tobytes())
    return shape.digest(), content.digest()


def _numbers(chunk: pa.Array) -> np.ndarray:
    """The values of a chunk that holds no texts, as plain bytes; missing ones as zero."""
    if pa.types.is_boolean(chunk.type):
        chunk = chunk.cast(pa.uint8())
    elif pa.types.is_temporal(chunk.type):
        chunk = chunk.view(pa.int64() if chunk.type.bit_width == 64 else pa.int32())
    filled = pc.fill_null(chunk, 0) if chunk.null_count else chunk
    return np.ascontiguousarray(filled.to_numpy(zero_copy_only=False))


@contextmanager
def placed(name: str) -> Iterator[None]:
    """Give errors that name no place the name of the source."""
    try:
        yield
    except DataError as error:
        if error.where is not None:
            raise
        raise DataError(
            error.what, where=name, given=error.given, rule=error.rule, remedy=error.remedy
        ) from error.__cause__


def shown(names: Sequence[object], most: int = 8) -> str:
    """`a, b, c` for messages; of a long list the first and how many more there are."""
    listed = ", ".join(str(name) for name in names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"
