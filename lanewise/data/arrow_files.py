"""Reads Parquet and Feather files into a `Table`; called by `sources`, before `inference`.

Both formats can hide a huge table in a small file (one repeated value, a compressed run of zeros). So the
size is computed from the file's own directory first, and repeated texts are spread out only when they fit.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
import pyarrow.parquet as pq

from lanewise.data.memory import check_memory
from lanewise.data.table import Table, shown
from lanewise.errors import DataError

_DICTIONARY, _BATCH = 2, 3  # kinds of messages in an Arrow file


def read_parquet(content: bytes, name: str, limit: int, free: int) -> Table:
    """Read a Parquet file.

    Args:
        content: the whole file.
        name: what messages call it.
        limit: most bytes the columns may take (`data: max_bytes:`).
        free: bytes of memory that are free.

    Raises:
        DataError: Cut off, encrypted, nested columns, double names or too large.
    """
    try:
        schema = pq.ParquetFile(pa.BufferReader(content)).schema_arrow
        _check_schema(schema, name)
        # A text column repeats its values: as a dictionary it cannot grow before it is measured.
        file = pq.ParquetFile(
            pa.BufferReader(content), read_dictionary=[f.name for f in schema if _is_text(f.type)],
        )
        meta = file.metadata
        _check_rows(meta.num_rows, name)
        stored = sum(
            meta.row_group(g).column(c).total_uncompressed_size for g in range(
                meta.num_row_groups
            ) for c in range(meta.num_columns)
        )
        cells = meta.num_rows * len(schema)
        size = max(stored, meta.num_rows * sum(_width(field.type) for field in schema))
        _check_size(size, cells, name, limit, free)
        columns = {}
        for field in schema:
            column = file.read(columns=[field.name], use_threads=False).column(0)
            size += _text_size(column)
            _check_size(size, cells, name, limit, free)
            columns[field.name] = plain(column, field.name, name)
    except (pa.ArrowException, OSError) as error:
        raise _broken("Parquet", name, error) from None
    return _table(columns, name, "parquet")


def read_feather(content: bytes, name: str, limit: int, free: int) -> Table:
    """Read a Feather file (version 2, the Arrow file format); arguments and errors as `read_parquet`."""
    try:
        buffer = pa.py_buffer(content)
        reader = pa.ipc.open_file(buffer)
        _check_schema(reader.schema, name)
        batches = list(_messages(buffer))
        rows, size = sum(rows for rows, _ in batches), sum(size for _, size in batches)
        _check_rows(rows, name)
        cells = rows * len(reader.schema)
        _check_size(size, cells, name, limit, free)
        read = reader.read_all()
        columns = {}
        for field in reader.schema:
            size += _text_size(read.column(field.name))
            _check_size(size, cells, name, limit, free)
            columns[field.name] = plain(read.column(field.name), field.name, name)
    except (pa.ArrowException, OSError, struct.error) as error:
        raise _broken("Feather", name, error) from None
    return _table(columns, name, "feather")


def plain(values: pa.ChunkedArray, column: str, name: str) -> pa.ChunkedArray:
    """A column in a type `inference` knows: large_string, bool, integers, float64, timestamp or null.

    Raises:
        DataError: The type has no such form (lists, structs, bytes, complex numbers).
    """
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
        if not _is_text(kind.value_type):  # a category of numbers is a category: it was declared as one
            values = values.cast(pa.large_string())
        kind = values.type
    if _is_text(kind):
        return values.cast(pa.large_string())
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind):
        return values
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        floats = values.cast(pa.float64())
        # nan in a file means missing; as null it is seen by everything below.
        return pc.if_else(pc.is_nan(floats), pa.scalar(None, pa.float64()), floats)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return values.cast(pa.timestamp("us", kind.tz if pa.types.is_timestamp(kind) else None), safe=False)
    if pa.types.is_duration(kind):
        return pc.divide(values.cast(pa.duration("us"), safe=False).cast(pa.int64()).cast(pa.float64()), 1e6)
    if pa.types.is_time(kind):
        return pc.divide(values.cast(pa.time64("us"), safe=False).cast(pa.int64()).cast(pa.float64()), 1e6)
    raise _no_cells(column, kind, name)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _width(kind: pa.DataType) -> int:
    """Bytes of one value in memory after reading; of a text only its offset."""
    try:
        return int(max(kind.bit_width // 8, 1))
    except ValueError:
        return 8


def _text_size(values: pa.ChunkedArray) -> int:
    """Bytes a dictionary column of texts takes when every row has its own copy."""
    if not pa.types.is_dictionary(values.type) or not _is_text(values.type.value_type):
        return 0
    total = 0
    for chunk in values.chunks:
        lengths = pc.fill_null(pc.binary_length(chunk.dictionary).cast(pa.int64()), 0)
        total += pc.sum(lengths.take(chunk.indices)).as_py() or 0
    return int(total)


def _messages(buffer: pa.Buffer) -> Iterator[tuple[int, int]]:
    """Rows and decompressed bytes of every batch of an Arrow file, read from the messages' own headers.

    Source: Arrow columnar format, sections "Encapsulated message format" and "Compression", and the
    flatbuffer schemas Message.fbs: Message (header_type 1, header 2), DictionaryBatch (data 1), RecordBatch
    (length 0, buffers 2, compression 3).
    """
    for message in pa.ipc.MessageReader.open_stream(buffer.slice(8)):
        meta = memoryview(message.metadata)
        table = struct.unpack_from("<I", meta, 0)[0]
        kind_at = _field(meta, table, 1)
        kind = meta[kind_at] if kind_at else 0
        if kind not in (_DICTIONARY, _BATCH) or message.body is None:
            continue
        batch = _follow(meta, _field(meta, table, 2))
        if kind == _DICTIONARY:
            batch = _follow(meta, _field(meta, batch, 1))
        length_at = _field(meta, batch, 0)
        rows = struct.unpack_from("<q", meta, length_at)[0] if length_at and kind == _BATCH else 0
        compressed, buffers_at = _field(meta, batch, 3), _field(meta, batch, 2)
        size = _decompressed(
            meta, message.body, buffers_at,
        ) if compressed and buffers_at else message.body.size
        yield rows, size


def _decompressed(meta: memoryview, body: pa.Buffer, at: int) -> int:
    """Bytes the buffers of one compressed batch take in memory: each starts with its full length, or -1."""
    vector, total, data = _follow(meta, at), 0, memoryview(body)
    for number in range(struct.unpack_from("<I", meta, vector)[0]):
        offset, length = struct.unpack_from("<qq", meta, vector + 4 + 16 * number)
        if length >= 8:
            full = struct.unpack_from("<q", data, offset)[0]
            total += full if full >= 0 else length
    return total


def _follow(meta: memoryview, at: int) -> int:
    """Where the flatbuffer offset at this position leads."""
    return at + int(struct.unpack_from("<I", meta, at)[0])


def _field(meta: memoryview, table: int, number: int) -> int:
    """Position of a field of a flatbuffer table, 0 where it has its default."""
    vtable = table - struct.unpack_from("<i", meta, table)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", meta, vtable)[0]:
        return 0
    offset = int(struct.unpack_from("<H", meta, vtable + 4 + 2 * number)[0])
    return table + offset if offset else 0


def _check_schema(schema: pa.Schema, name: str) -> None:
    double = sorted(
        {column for column in schema.names if schema.names.count(column) > 1}
    ) if len(set(schema.names)) < len(schema.names) else []
    if double:
        raise DataError(
            "column names appear twice", where=name, given=shown(double),
            rule="every column has its own name", remedy="rename them",
        )
    for field in schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        bytes_kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
        if pa.types.is_nested(kind) or any(is_kind(kind) for is_kind in bytes_kinds):
            raise _no_cells(field.name, kind, name)


def _no_cells(column: str, kind: pa.DataType, name: str) -> DataError:
    held = "nested values" if pa.types.is_nested(kind) else "values that are no table cells"
    return DataError(
        f"column `{column}` holds {held}",
        where=name, given=f"type {kind}"[:100], rule="numbers, texts, true/false or dates",
        remedy="spread it over plain columns, or leave it out of the file",
    )


def _check_rows(rows: int, name: str) -> None:
    if rows < 1:
        raise DataError("the file has 0 rows", where=name, remedy="bring rows")


def _check_size(size: int, cells: int, name: str, limit: int, free: int) -> None:
    if size > limit:
        raise DataError(
            "the source is larger than the limit when decompressed", where=name, given=f"{size:,} bytes",
            rule=f"at most {limit:,} bytes", remedy="raise `data: max_bytes:`, or use fewer rows or columns",
        )
    check_memory(name, size, cells, free)


def _broken(kind: str, name: str, error: Exception) -> DataError:
    text = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
    fault = "encrypted" if "crypt" in text.lower() else "cut off or damaged"
    what = f"the {kind} file is {fault}"
    return DataError(what, where=name, given=text, remedy="copy or write it again, without encryption")


def _table(columns: dict[str, pa.ChunkedArray], name: str, form: str) -> Table:
    # pandas stores its row labels under this name; they are no column of the user's.
    kept = {column: values for column, values in columns.items() if not column.startswith("__index_level_")}
    return Table(kept, name, settings={"format": form})
