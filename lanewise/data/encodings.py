"""Finds out in which encoding a text file is written and decodes it; the first step of `text_files`."""

from __future__ import annotations

import codecs
import itertools
import re

from lanewise.data.table import DataWarning
from lanewise.errors import DataError

_SAMPLE = 256 * 1024
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)
# Encodings real tables come in; more would only give short samples more ways to be misread.
_LEGACY = ["cp1252", "cp1250", "cp1251", "iso8859_15", "koi8_r", "shift_jis", "gb18030", "big5", "euc_kr"]
_LATIN = ("cp1250", "cp1252", "iso8859_15")
# Letters of Polish, Czech and others where Western European encodings have signs such as the pound's.
_SLAVIC = re.compile(
    rb"[A-Za-z][\x9a\x9c\x9d\x9e\x9f\xb3\xb9\xbe\xbf][a-z]|[\x8c\x8d\x8f\xa3\xa5\xaf][a-z\xe0-\xff]"
)


def decode(content: bytes, name: str, encoding: str) -> tuple[bytes, str, list[DataWarning]]:
    """The text as UTF-8 bytes, the encoding it had, and a note where that was guessed."""
    if not content.strip():
        raise DataError(
            "the file has 0 rows", where=name, given="an empty file", remedy="bring a header and rows",
        )
    notes: list[DataWarning] = []
    if encoding == "auto":
        encoding, sure = _find_encoding(content)
        if not sure:
            notes.append(
                DataWarning(
                    "encoding", f"read as {encoding}, by its looks; if letters are wrong, write `encoding:`",
                )
            )
    try:
        if codecs.lookup(encoding).name == "utf-8":
            _check_utf8(content)
            text = content
        else:
            text = content.decode(encoding).encode()
    except (UnicodeError, LookupError) as error:
        at = getattr(error, "start", 0)
        line = content[:at].count(b"\n") + 1
        raise DataError(
            f"the file is not {encoding}", where=f"{name}, line {line}",
            given=f"byte {content[at:at + 1].hex() or '?'} at position {at}",
            remedy="write the file's encoding as `encoding:`, or save it as UTF-8",
        ) from None
    if b"\0" in text:
        line = text[: text.index(b"\0")].count(b"\n") + 1
        raise DataError(
            "the file is not text", where=f"{name}, line {line}", given="a zero byte",
            rule="CSV, Parquet or Feather", remedy="export the table as CSV",
        )
    return text.removeprefix(codecs.BOM_UTF8), encoding, notes


def _find_encoding(content: bytes) -> tuple[str, bool]:
    """The encoding, and whether it is certain."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return encoding, True
    sample = content[:_SAMPLE]
    zeros = sample[0::2].count(0), sample[1::2].count(0)
    # In UTF-16 every second byte of Latin letters is zero.
    if max(zeros) > len(sample) // 8 and min(zeros) < max(zeros) // 8:
        return ("utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"), False
    if b"\0" in sample:
        return "utf-8", True  # and refused right after, as no text
    try:
        _check_utf8(content)
        return "utf-8", True
    except UnicodeError:
        pass
    from charset_normalizer import from_bytes

    # Only the lines that are not ASCII tell encodings apart.
    lines = re.finditer(rb"[^\n]*[\x80-\xff][^\n]*", content)
    telling = b"\n".join(line.group() for line in itertools.islice(lines, 5_000))[:_SAMPLE]
    found = from_bytes(telling, cp_isolation=_LEGACY).best()
    encoding = found.encoding if found is not None else "cp1252"
    if encoding in _LATIN:  # few bytes differ between these; letters inside words decide
        encoding = "cp1250" if _SLAVIC.search(telling) else "cp1252"
    return encoding, False


def _check_utf8(content: bytes) -> None:
    if not content.isascii():
        content.decode("utf-8")
