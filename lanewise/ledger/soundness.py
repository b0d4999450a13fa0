"""Whether a ledger is whole: a sum over all rows, kept with them in the same transaction.

SQLite's own checks do not see every overwritten page: rows vanish or change and nothing complains. The sum is
added to with each row that comes and subtracted from with each that goes, so it costs microseconds, and
is compared when the ledger is opened.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_MODULUS = 1 << 64
# Columns of schema 2. One that came later counts where it holds something, so that sums of then still hold and a
# program of then may write beside us.
_FIRST = {"trials": 11}


@dataclass
class Tally:
    """How many rows there are, and the sum of their hashes modulo 2^64."""

    rows: int = 0
    total: int = 0

    def add(self, table: str, row: Iterable[Any]) -> None:
        """A row has come."""
        self.rows, self.total = self.rows + 1, (self.total + _hash(table, row)) % _MODULUS

    def remove(self, table: str, row: Iterable[Any]) -> None:
        """A row has gone."""
        self.rows, self.total = self.rows - 1, (self.total - _hash(table, row)) % _MODULUS

    def __str__(self) -> str:
        return f"{self.rows}:{self.total:016x}"

    @classmethod
    def of(cls, text: str | None) -> Tally:
        """From what `str` gave; an empty one of None."""
        if not text:
            return cls()
        rows, _, total = text.partition(":")
        return cls(int(rows), int(total, 16))


def _hash(table: str, row: Iterable[Any]) -> int:
    cells = list(row)
    while len(cells) > _FIRST.get(table, len(cells)) and cells[-1] is None:
        cells.pop()
    text = json.dumps([table, *cells], allow_nan=False)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
