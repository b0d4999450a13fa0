"""What a report consists of: sections of paragraphs, notes, tables, pictures and code, not yet a page.

Filled by `outcome.py`, `course.py` and `origin.py`; `page.py` writes it as HTML, `markdown.py` as Markdown,
so both say the same. All texts are plain: who writes them out escapes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind: str = "text"


@dataclass(frozen=True)
class Notes:
    """A list of (label, text): what to keep in mind."""

    items: tuple[tuple[str, str], ...]
    kind: str = "notes"


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        header: names of the columns; empty for a table of names and values.
        rows: cells as printed.
        caption: what to see.
        marked: positions of rows to stress.
        wordy: positions of columns that hold text and stand left; the first always does.
        folded: shown closed, opened by a click.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    marked: frozenset[int] = frozenset()
    wordy: frozenset[int] = frozenset()
    folded: bool = False
    kind: str = "table"


@dataclass(frozen=True)
class Picture:
    """An SVG element with its caption; `alt` says in words what it shows."""

    svg: str
    caption: str
    alt: str
    kind: str = "picture"


@dataclass(frozen=True)
class Code:
    """Lines to copy."""

    text: str
    kind: str = "code"


@dataclass(frozen=True)
class Links:
    """(label, address); only addresses a browser may open harmlessly get here."""

    items: tuple[tuple[str, str], ...]
    kind: str = "links"


Block = Text | Notes | Table | Picture | Code | Links


@dataclass(frozen=True)
class Section:
    """A titled part; `anchor` is its place in the page's address."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Card:
    """One figure under the verdict."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Document:
    """The whole report."""

    name: str
    date: str
    tone: str
    sentence: str
    registration: str
    asides: tuple[str, ...]
    cards: tuple[Card, ...]
    sections: tuple[Section, ...] = field(default=())


def section(anchor: str, title: str, blocks: Sequence[Block | None]) -> Section | None:
    """A section of the blocks there are; None if there is none."""
    there = tuple(b for b in blocks if b is not None)
    return Section(anchor, title, there) if there else None


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    caption: str = "",
    *,
    marked: Sequence[int] = (),
    wordy: Sequence[int] = (),
    folded: bool = False,
) -> Table | None:
    """A table of the rows there are; None if there is none."""
    if not rows:
        return None
    cells = tuple(tuple(row) for row in rows)
    return Table(tuple(header), cells, caption, frozenset(marked), frozenset({0, *wordy}), folded)
