"""Opens what the study calls its source and gives it to the right reader; the first step of prepare.

A source is a file (text, Parquet, Feather, each also as .gz where text; series as .ts or .npz), a folder of images,
`sklearn:<name>` for the data sets that come with scikit-learn, or `pkg.module:function` of the user. What is
neither, or would not fit into memory, is refused before it is read. Nothing is downloaded.
"""

from __future__ import annotations

import os
import re
import stat
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from lanewise.data.arrow_files import plain, read_feather, read_parquet
from lanewise.data.image_reading import Progress, Reading, read_image_folder, read_image_index, settled
from lanewise.data.memory import BYTE_COST, check_memory, free_memory, memory_told
from lanewise.data.preprocessing import category_texts
from lanewise.data.series_files import read_npz, read_ts
from lanewise.data.table import Table, shown
from lanewise.data.text_files import read_text
from lanewise.errors import DataError, ModelError
from lanewise.names import nearest
from lanewise.study import Data

BUNDLED = ("breast_cancer", "diabetes", "digits", "iris", "wine")
_FUNCTION = re.compile(r"^[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*$")
_FEATHER, _PARQUET, _SECRET_PARQUET, _GZIP = b"ARROW1", b"PAR1", b"PARE", b"\x1f\x8b"
_FOREIGN = {
    b"PK\x03\x04": "a zip archive or an Excel file", b"FEA1": "an old Feather file (version 1)",
    b"BZh": "a bzip2 archive", b"\xfd7zXZ": "an xz archive", b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"SQLite f": "an SQLite database", b"\x89HDF": "an HDF5 file", b"\xd0\xcf\x11\xe0": "an old Excel file",
    b"%PDF": "a PDF", b"\x80\x04": "a pickle", b"\x80\x05": "a pickle",
}
_KINDS = (
    (stat.S_ISDIR, "a directory"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_READ = 2**20


def load_source(
    options: Data, base_dir: Path, images: Path | None = None, progress: Progress | None = None,
) -> Table:
    """The source of a study, with the rows of its `test_source` behind it.

    Args:
        options: how to read it, and its limits.
        base_dir: folder from which a relative path starts.
        images: folder where decoded images are kept; None keeps none.
        progress: told of every image that was decoded: how many, of how many.

    Raises:
        DataError, ModelError: As `load_table`; the two sources differ in columns.
    """
    table = load_table(options.source, options, base_dir, images, progress)
    if options.test_source is None:
        return table
    test = load_table(options.test_source, settled(table, options), base_dir, images, progress)
    if set(test.columns) != set(table.columns):
        odd = sorted(set(test.columns) ^ set(table.columns))
        raise DataError(
            "the test source has other columns", where=options.test_source, given=shown(odd),
            rule=f"the columns of {options.source}", remedy="bring the same columns in both",
        )
    columns = {}
    for name, values in table.columns.items():
        try:
            columns[name] = pa.chunked_array([*values.chunks, *test.columns[name].cast(values.type).chunks])
        except pa.ArrowException as error:
            raise DataError(
                f"column `{name}` of the test source has another type", where=options.test_source,
                given=str(error)[:100], rule=f"{values.type}, as in {options.source}",
            ) from None
    first = table.rows
    places = [table.place(row) for row in range(first)] + [test.place(row) for row in range(test.rows)]
    return replace(
        table, columns=columns, notes=(*table.notes, *test.notes), line_of=None, places=places,
        sealed=np.arange(first + test.rows) >= first,
    )


def load_table(
    source: str, options: Data, base_dir: Path, images: Path | None = None, progress: Progress | None = None,
) -> Table:
    """Read a source.

    Args:
        source: as in `data: source:`.
        options: how to read it, and its limits.
        base_dir: folder from which a relative path starts, and where the user's modules are looked for.
        images, progress: as in `load_source`.

    Raises:
        DataError: It is no table, too large, or broken; with place and remedy.
        ModelError: The user's function cannot be imported or raises.
    """
    with memory_told(source):
        if source.startswith("sklearn:"):
            return _bundled(source)
        if _FUNCTION.match(source) and not (base_dir / source).exists():
            return _from_function(source, base_dir)
        path = Path(source) if Path(source).is_absolute() else base_dir / source
        reading = Reading(options, images, progress)
        if path.is_dir():
            return read_image_folder(path, source, reading)[0]
        table = _from_file(path, source, options)
        if options.image_paths is not None:
            return read_image_index(table, path.parent, options.image_paths, reading)[0]
        return table


def _from_file(path: Path, source: str, options: Data) -> Table:
    content = _read_plain_file(path, source, options.max_bytes)
    start = content[:8]
    if path.suffix.lower() == ".npz":
        return read_npz(content, source, options.max_bytes)
    foreign = next((kind for mark, kind in _FOREIGN.items() if start.startswith(mark)), None)
    if foreign:
        raise DataError(
            f"the file is {foreign}", where=source, rule="CSV, CSV in gzip, Parquet or Feather",
            remedy="export the table as CSV or Parquet",
        )
    if start.startswith(_SECRET_PARQUET) or content.endswith(_SECRET_PARQUET):
        raise DataError("the Parquet file is encrypted", where=source, remedy="write it without encryption")
    suffix = path.suffix.lower()
    if suffix == ".ts":
        return read_ts(content, source, options.encoding)
    if start.startswith(_PARQUET):
        _check_suffix(source, suffix, "Parquet", (".parquet", ".pq"))
        return read_parquet(content, source, options.max_bytes, free_memory())
    if start.startswith(_FEATHER):
        _check_suffix(source, suffix, "Feather", (".feather", ".arrow", ".ipc"))
        return read_feather(content, source, options.max_bytes, free_memory())
    if suffix in (".parquet", ".pq", ".feather", ".arrow", ".ipc"):
        raise DataError(
            f"the file is named {suffix} but is not", where=source, given=f"first bytes {start[:4]!r}",
            remedy="give it the name of what it is, or write it again",
        )
    if start.startswith(_GZIP):
        content = _unzip(content, source, options.max_bytes)
    return read_text(
        content, source, free_memory(), encoding=options.encoding, separator=options.separator,
        decimal=options.decimal,
    )


def _check_suffix(source: str, suffix: str, kind: str, legal: tuple[str, ...]) -> None:
    if suffix not in legal and suffix not in ("", ".bin", ".data", ".dat"):
        raise DataError(
            f"the file is {kind} but is named {suffix}", where=source, remedy=f"rename it to {legal[0]}",
        )


def _read_plain_file(path: Path, source: str, limit: int) -> bytes:
    """The bytes of a regular file; everything else is refused without waiting for it."""
    try:
        # Opening a FIFO would wait for its writer: O_NONBLOCK returns, and fstat then tells what it is.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        raise DataError(
            "the source file does not exist", where=source, given=str(path), remedy=_near_file(path),
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(
            "the source file cannot be opened", where=source, given=reason,
            rule="a regular file that may be read", remedy="correct the path",
        ) from None
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            kind = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), "no file")
            raise DataError(
                f"the source is {kind}", where=source, rule="a regular file", remedy="name the table's file"
            )
        if found.st_size > limit:
            raise DataError(
                "the source is larger than the limit", where=source, given=f"{found.st_size:,} bytes",
                rule=f"at most {limit:,} bytes", remedy="raise `data: max_bytes:`, or use fewer rows",
            )
        check_memory(source, found.st_size, 0, free_memory())
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read(found.st_size)
    finally:
        os.close(handle)


def _near_file(path: Path) -> str:
    try:
        near = nearest(path.name, (entry.name for entry in path.parent.iterdir()))
    except OSError:
        return f"there is no folder {path.parent}"
    return f"did you mean `{near}`?" if near else "correct the path; it starts at the study file's folder"


def _unzip(content: bytes, source: str, limit: int) -> bytes:
    """Gzip, by pieces, so that a small file cannot become a huge one."""
    limit = min(limit, free_memory() // BYTE_COST)
    parts, total, rest = [], 0, content
    try:
        while rest:
            step = zlib.decompressobj(wbits=31)
            piece = step.decompress(rest, _READ)
            while piece or step.unconsumed_tail:
                total += len(piece)
                if total > limit:
                    raise DataError(
                        "the source is larger than the limit when decompressed", where=source,
                        given=f"{len(content):,} bytes compressed",
                        rule=f"at most {limit:,} bytes decompressed",
                        remedy="raise `data: max_bytes:`, or use fewer rows",
                    )
                parts.append(piece)
                piece = step.decompress(step.unconsumed_tail, _READ)
            if not step.eof:
                raise DataError(
                    "the gzip file is cut off", where=source, given=f"{total:,} bytes came out",
                    remedy="copy or write it again",
                )
            rest = step.unused_data.lstrip(b"\0")
            if rest and not rest.startswith(_GZIP):
                break  # gzip ignores what follows the last member, and so do we
    except zlib.error as error:
        raise DataError(
            "the gzip file is damaged", where=source, given=str(error), remedy="copy or write it again",
        ) from None
    return b"".join(parts)


def _bundled(source: str) -> Table:
    """A data set that comes with scikit-learn; classes by their names."""
    from sklearn import datasets

    name = source.partition(":")[2]
    if name not in BUNDLED:
        near = nearest(name, BUNDLED)
        raise DataError(
            "no such data set in scikit-learn", where=source, given=name, rule="one of " + ", ".join(BUNDLED),
            remedy=f"did you mean `sklearn:{near}`?" if near else None,
        )
    bunch: Any = getattr(datasets, f"load_{name}")(as_frame=True)
    target = bunch.target
    if hasattr(bunch, "target_names") and name != "diabetes":
        target = pd.Series(np.asarray([str(label) for label in bunch.target_names], object)[bunch.target])
    return _from_frame(bunch.data.assign(target=target), source, target="target")


def _from_function(source: str, base_dir: Path) -> Table:
    """The frame a function of the user returns."""
    from lanewise.process_guard import unchanged_process  # these two bring torch, which files do not need
    from lanewise.user_code import load_object, traceback_text

    function = load_object(source, search_path=(base_dir,))
    if not callable(function):
        raise ModelError(
            "the source is no function", where=source, given=type(function).__name__,
            rule="a function without arguments that returns a pandas DataFrame",
        )
    with unchanged_process():
        try:
            frame = function()
        except (Exception, SystemExit) as error:
            raise ModelError(
                f"the source's function raised {type(error).__name__}", where=source,
                given=traceback_text(error), remedy="mend the function",
            ) from error
    return _from_frame(frame, source)


def _from_frame(frame: object, source: str, target: str | None = None) -> Table:
    if not isinstance(frame, pd.DataFrame):
        raise DataError(
            "the source returned no table", where=source, given=type(frame).__name__,
            rule="a pandas DataFrame", remedy="return a DataFrame",
        )
    return table_from_frame(frame, source, target)


def table_from_frame(frame: pd.DataFrame, name: str, target: str | None = None) -> Table:
    """A frame as a `Table`; its index is left out.

    Raises:
        DataError: No rows, double names, or a column whose values have no common type.
    """
    names = [str(column) for column in frame.columns]
    double = sorted(
        {column for column in names if names.count(column) > 1}
    ) if len(set(names)) < len(names) else []
    if double:
        raise DataError(
            "column names appear twice", where=name, given=shown(double),
            rule="every column has its own name", remedy="rename them",
        )
    if not len(frame):
        raise DataError("the source has 0 rows", where=name, remedy="bring rows")
    columns = {column: _array(frame.iloc[:, i], column, name) for i, column in enumerate(names)}
    return Table(columns, name, settings={"format": "frame"}, target=target)


def _array(values: pd.Series, column: str, name: str) -> pa.ChunkedArray:
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = category_texts(
            values.astype(object)
        )  # categories of numbers, too, were declared to be categories
    if pd.api.types.is_object_dtype(values.dtype):
        kinds = {type(value) for value in values if not (value is None or value is pd.NA or value != value)}
        if str in kinds and len(kinds) > 1:
            strange = (not (isinstance(v, str) or v is None or v is pd.NA or v != v) for v in values)
            row = next(i for i, is_strange in enumerate(strange) if is_strange)
            raise DataError(
                f"column `{column}` mixes texts with other types", where=f"{name}, row {row + 1}",
                given=f"{values.iloc[row]!r}"[:60], rule="all values of a column have one type",
                remedy="convert the column, for example with astype(str)",
            )
    try:
        array = pa.Array.from_pandas(values)
    except pa.ArrowException as error:
        raise DataError(
            f"column `{column}` holds values that are no table cells", where=name, given=str(error)[:100],
            rule="numbers, texts, true/false or dates", remedy="convert the column, or leave it out",
        ) from None
    return plain(array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array]), column, name)


