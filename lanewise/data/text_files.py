"""Reads CSV and its relatives into a `Table` of texts; called by `sources`, before `inference`.

It finds the encoding, the separator and the decimal sign, and refuses what does not hold together: rows of
another length than the header, double names, bytes that are no text. It never guesses a value.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from lanewise.data.encodings import decode
from lanewise.data.memory import check_memory
from lanewise.data.table import DataWarning, Table, shown
from lanewise.errors import DataError

SEPARATORS = (",", ";", "\t", "|")
_NAMED = {"\t": "tab"}
_SAMPLE = 256 * 1024
_BLOCK = 16 * 2**20
_COMMA_NUMBER = r"^$|^[+-]?\d+(,\d+)?([eE][+-]?\d+)?$"
_POINT_NUMBER = r"^[+-]?\d*\.?\d*([eE][+-]?\d+)?$"


def read_text(
    content: bytes, name: str, free: int, *, encoding: str = "auto", separator: str = "auto",
    decimal: str = "auto",
) -> Table:
    """Read a text table.

    Args:
        content: the whole file.
        name: what messages call it.
        free: bytes of memory that are free.
        encoding: a codec's name, or auto.
        separator: one character, or auto.
        decimal: ".", "," or auto.

    Raises:
        DataError: Not text, no rows, one column, a row of another length, double names, or too large.
    """
    text, used, notes = decode(content, name, encoding)
    header, separator = _header(text, name, separator)
    names, more = _names(header, name)
    check_memory(name, len(text), text.count(b"\n") * len(names), free)
    records = _parse(text, name, separator, len(names))
    rows = len(records) - 1
    if rows < 1:
        raise _no_rows(name)
    lines = _Lines(text, separator, rows + 1)
    columns = {column: records.column(i).slice(1) for i, column in enumerate(names)}
    sign, doubt = _decimal(columns, decimal, separator)
    settings = {
        "format": "text", "encoding": used, "separator": _NAMED.get(separator, separator), "decimal": sign,
    }
    return Table(columns, name, True, sign, settings, (*notes, *more, *doubt), lambda row: lines(row + 1))


def _lines_of(text: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(text), encoding="utf-8", newline="")


def _header(text: bytes, name: str, separator: str) -> tuple[list[str], str]:
    """The first record, and the separator: the one that most rows of the sample agree with the header on."""
    sample = text[:_SAMPLE]
    if len(text) > _SAMPLE:
        sample = sample[: sample.rfind(b"\n") + 1] or sample
    found: dict[str, tuple[float, int]] = {}
    headers: dict[str, list[str]] = {}
    for candidate in dict.fromkeys((*SEPARATORS, *(() if separator == "auto" else (separator,)))):
        records = [record for record in _records(sample.decode("utf-8", "ignore"), candidate) if record]
        if not records:
            continue
        headers[candidate], counts = records[0], Counter(len(record) for record in records[:1000])
        found[candidate] = (counts[len(records[0])] / min(len(records), 1000), len(records[0]))
    if not headers:
        raise DataError("the file has 0 rows", where=name, given="no text", remedy="bring a header and rows")
    several = {candidate: score for candidate, score in found.items() if score[1] > 1}
    best = max(several, key=lambda candidate: several[candidate]) if several else None
    if separator == "auto":
        used = best or ","
    elif len(headers[separator]) == 1 and best is not None:
        raise DataError(
            "one column found", where=name,
            given=f"separator {separator!r}, first line {headers[separator][0][:60]!r}",
            rule="a target and at least one more column",
            remedy=f"did you mean `separator: {json.dumps(best)}`?",
        )
    else:
        used = separator
    return headers[used], used


def _records(text: str, separator: str) -> Iterator[list[str]]:
    try:
        yield from csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    except csv.Error:  # a cell longer than the module's limit: what was read so far is sample enough
        return


def _names(header: list[str], name: str) -> tuple[list[str], list[DataWarning]]:
    """Column names, trimmed; refused if double, and given where there is none."""
    names = [column.strip() for column in header]
    double = [column for column, count in Counter(names).items() if count > 1 and column]
    if double:
        places = [str(position + 1) for position, column in enumerate(names) if column == double[0]]
        raise DataError(
            "column names appear twice", where=f"{name}, line 1",
            given=f"{shown(double)} (`{double[0]}` in columns {shown(places)})",
            rule="every column has its own name", remedy="rename them in the file",
        )
    notes = []
    for position, column in enumerate(names):
        if not column:
            names[position] = f"unnamed_{position + 1}"
            notes.append(DataWarning("unnamed", f"column {position + 1} has no name", names[position]))
    return names, notes


def _parse(text: bytes, name: str, separator: str, width: int) -> pa.Table:
    """All records as texts, the header as the first; a record of another width is an error with its line."""
    wrong: list[pcsv.InvalidRow] = []

    def stop(row: pcsv.InvalidRow) -> str:
        wrong.append(row)
        return "error"

    def read(block: int) -> pa.Table:
        return pcsv.read_csv(
            pa.BufferReader(text),
            pcsv.ReadOptions(use_threads=False, autogenerate_column_names=True, block_size=block),
            pcsv.ParseOptions(delimiter=separator, newlines_in_values=True, invalid_row_handler=stop),
            pcsv.ConvertOptions(
                strings_can_be_null=False, check_utf8=False,
                column_types={f"f{i}": pa.large_string() for i in range(width)},
            ),
        )

    try:
        try:
            return read(_BLOCK)
        except pa.ArrowInvalid as error:
            if wrong or "straddling" not in str(error):
                raise
            return read(len(text) + 1)  # a record longer than a block
    except pa.ArrowInvalid as error:
        if "Empty CSV" in str(error):  # a header without a line break
            raise _no_rows(name) from None
        if not wrong:
            raise DataError(
                "the file cannot be read as a text table", where=name, given=str(error)[:200],
            ) from None
    raise _ragged(text, name, separator, wrong[0])


def _no_rows(name: str) -> DataError:
    return DataError(
        "the file has 0 rows", where=name, given="a header and nothing below it", remedy="bring rows"
    )


def _ragged(text: bytes, name: str, separator: str, row: pcsv.InvalidRow) -> DataError:
    line = _Lines(text, separator, -1)(row.number - 1)
    kind = "longer" if row.actual_columns > row.expected_columns else "shorter"
    remedy = "correct the line; a cell that holds the separator needs double quotes"
    if row.text.count("\n") > 1 or row.text.count('"') % 2:
        remedy = "look for a double quote that is never closed in this line"
    return DataError(
        f"a row is {kind} than the header", where=f"{name}, line {line}",
        given=f"{row.actual_columns} cells: {row.text[:80]!r}",
        rule=f"{row.expected_columns} cells, as the header has", remedy=remedy,
    )


class _Lines:
    """Record (0-based, the header is 0) -> line (1-based); blank lines and quoted line breaks shift them."""

    def __init__(self, text: bytes, separator: str, records: int) -> None:
        self._separator = separator
        breaks = max(text.count(b"\n"), text.count(b"\r")) + (not text.endswith((b"\n", b"\r")))
        self._text = None if breaks == records else text  # kept only where lines are not simply counted

    def __call__(self, record: int) -> int:
        if self._text is None:
            return record + 1
        reader = csv.reader(_lines_of(self._text), delimiter=self._separator)
        seen, start = -1, 1
        try:
            for cells in reader:
                seen += bool(cells)
                if seen == record:
                    return start
                start = reader.line_num + 1
        except csv.Error:
            pass
        return start


def _decimal(
    columns: dict[str, pa.ChunkedArray], decimal: str, separator: str
) -> tuple[str, list[DataWarning]]:
    """The decimal sign: a comma if some column is all numbers with commas and none has a decimal point."""
    if decimal != "auto":
        return decimal, []
    commas: list[str] = []
    points: list[str] = []
    thousands: list[str] = []
    for name, values in columns.items():
        head = pc.utf8_trim_whitespace(values[:10_000])
        signed = head.filter(pc.match_substring_regex(head, "[.,]"))
        if not len(signed) or not _all_match(head, _COMMA_NUMBER + "|" + _POINT_NUMBER):
            continue
        if _all_match(signed, _POINT_NUMBER):
            points.append(name)
        else:
            # In a file separated by commas a quoted "1,234" is more likely one thousand than one.
            doubtful = separator == "," and _all_match(signed, r"^[+-]?\d{1,3},\d{3}$")
            (thousands if doubtful else commas).append(name)
    if commas and not points and not thousands:
        return ",", [DataWarning("decimal", f"numbers are read with a decimal comma, as in {shown(commas)}")]
    if not commas and not thousands:
        return ".", []
    message = f"commas in {shown(commas + thousands)} are not read as decimal signs"
    if points:
        message += f", since {shown(points)} have decimal points"
    return ".", [DataWarning("decimal", f'{message}; write `decimal: ","` if they are')]


def _all_match(values: pa.ChunkedArray, pattern: str) -> bool:
    return pc.all(pc.match_substring_regex(values, pattern)).as_py() is not False
