"""Writes a document as Markdown, for Prefect's artifacts and MLflow: its texts and tables, no pictures.

Fed by `document.py`. Every text is escaped: what a user named can neither format, link, load an image nor
leave its table cell.
"""

from __future__ import annotations

import re

from lanewise.report.document import Block, Code, Document, Links, Notes, Picture, Table, Text
from lanewise.report.origin import harmless

_SPECIAL = re.compile(r"([\\`*_\[\]|~$])")  # inside a line only these can format or break a table
_BLOCK = re.compile(
    r"^(?:([#+=-])|(\d+)([.)])(?=\s|$))"
)  # at its start these make a heading, a rule or a list


def to_markdown(document: Document) -> str:
    """The document as Markdown."""
    parts = [f"# {escaped(document.name)}", f"**{escaped(document.sentence)}**"]
    parts += [_line(text) for text in (document.registration, *document.asides) if text]
    if document.cards:
        parts.append(_table(("", "value", ""), [(c.label, c.value, c.note) for c in document.cards], {0, 2}))
    for section in document.sections:
        blocks = [text for block in section.blocks if (text := _block(block))]
        if blocks:
            parts += [f"## {escaped(section.title)}", *blocks]
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """The text so that Markdown and HTML show it as it is."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _SPECIAL.sub(r"\\\1", text)
    return re.sub(r"(?i)(https?|ftp)(:)(//)|\b(www)(\.)", _unlinked, text)


def _line(text: str) -> str:
    """A text that starts a line."""
    return _BLOCK.sub(lambda m: f"\\{m[1]}" if m[1] else f"{m[2]}\\{m[3]}", escaped(text))


def _unlinked(match: re.Match[str]) -> str:
    """An address that a reader with automatic links does not turn into one."""
    return f"{match[1]}&#58;{match[3]}" if match[1] else f"{match[4]}&#46;"


def _block(block: Block) -> str:
    if isinstance(block, Text):
        return _line(block.text)
    if isinstance(block, Notes):
        return "\n".join(f"- **{escaped(label)}**: {escaped(text)}" for label, text in block.items)
    if isinstance(block, Table):
        width = max(len(row) for row in block.rows)
        header = block.header or ("",) * width
        text = _table(header, block.rows, block.wordy)
        return f"{_line(block.caption)}\n\n{text}" if block.caption else text
    if isinstance(block, Code):
        longest = max((len(run) for run in re.findall(r"`+", block.text)), default=0)
        fence = "`" * max(3, longest + 1)
        return f"{fence}\n{block.text}\n{fence}"
    if isinstance(block, Links):
        return "\n".join(
            f"- [{escaped(label)}](<{_address(address)}>)"
            for label, address in block.items
            if harmless(address)
        )
    assert isinstance(block, Picture)  # pictures are for the page
    return ""


def _address(address: str) -> str:
    return re.sub(r"[<>\s\\]", lambda m: f"%{ord(m[0]):02X}", address)


def _table(header: tuple[str, ...], rows: object, wordy: object) -> str:
    assert isinstance(rows, list | tuple) and isinstance(wordy, set | frozenset)  # from a Table or from cards
    rule = "|".join(" --- " if i in wordy else " ---: " for i in range(len(header)))
    lines = [" | ".join(escaped(cell) for cell in row) for row in (header, *rows)]
    return "\n".join([f"| {lines[0]} |", f"|{rule}|", *(f"| {line} |" for line in lines[1:])])
