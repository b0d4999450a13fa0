"""docs/faults.md: every row is there once, and the tests it names exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
# The matrix that the promises were made against; gaps in the numbers are its own.
ROWS = {
    "A": range(1, 19),
    "B": range(1, 19),
    "C": [1, 2, 3, *range(5, 17)],
    "D": [*range(1, 5), *range(6, 18)],
    "F": [1, 2, 4, 6, 7, 9],
    "G": [1, 2, 3, *range(5, 16)],
    "H": [*range(1, 7), *range(8, 11)],
    "I": [*range(1, 7), 8],
    "S": range(1, 23),
    "T": range(1, 10),
}


def rows() -> list[tuple[str, str]]:
    """(row, its last cell)."""
    return re.findall(r"^\| ([A-Z]\d+) \|.*\| ([^|]+) \|$", PAGE, re.MULTILINE)


def test_every_row_is_there_once() -> None:
    assert [row for row, _ in rows()] == [f"{letter}{number}" for letter, of in ROWS.items() for number in of]


def test_every_row_has_a_test_or_says_why_not() -> None:
    bare = [row for row, cell in rows() if "::" not in cell and not cell.startswith(("open", "cannot "))]
    assert not bare


def test_every_named_test_exists() -> None:
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE))
    assert len(named) > 80
    trees = {path: ast.walk(ast.parse((ROOT / path).read_text())) for path in {path for path, _ in named}}
    functions = {
        path: {node.name for node in nodes if isinstance(node, ast.FunctionDef)} for path, nodes in trees.items()
    }
    assert not sorted(f"{path}::{name}" for path, name in named if name not in functions[path])
