"""How often the whole run was killed in the same epoch of the same trials; `guarded` writes and reads it.

A trial that takes the run's own process down, not only a child, would be trained again by every run that
continues. A small file beside the checkpoints says where the run stood; it is no record of results, and a run
without it only tries longer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


class Deaths:
    """The file, as the run before this one left it.

    Args:
        path: Where it lies; made at the first tick.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._left: dict[str, Any] = {}
        with suppress(OSError, ValueError):  # not there, or cut off while it was written
            found = json.loads(path.read_text(encoding="utf-8"))
            self._left = found if isinstance(found, dict) else {}
        self._now: dict[str, Any] = {}
        self._alone: tuple[int | None, int] = (None, 0)  # trial, runs in a row that ended while it was alone

    def begin(self, standing: Mapping[int, int]) -> tuple[int, int | None, int]:
        """Write down that a tick begins.

        Args:
            standing: Trial -> epochs trained.

        Returns:
            How many runs in a row ended in this very tick, the trial that the last of them trained alone, and how many
            in a row ended with that one: an end from outside hits now this one, now that one.
        """
        lanes = [[number, epoch] for number, epoch in sorted(standing.items())]
        same = self._left.get("lanes") == lanes
        left = self._left if same else {}
        earlier, self._alone = int(left.get("runs", 0)), (left.get("alone"), int(left.get("times", 0)))
        self._now = {"lanes": lanes, "runs": earlier + 1, "alone": None, "times": 0}
        # Ticks on the way to it, of lanes that are brought back to their epochs, do not reset the count.
        self._write()
        return (earlier, *self._alone)

    def alone(self, number: int) -> None:
        """Write down that a trial is trained with no other beside it."""
        if self._now:
            again = self._alone[1] if self._alone[0] == number else 0
            self._now |= {"alone": number, "times": again + 1}
            self._write()

    def remove(self) -> None:
        """The search is over."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        with suppress(OSError):  # a full disk: the ledger will say so
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self._now), encoding="utf-8")
