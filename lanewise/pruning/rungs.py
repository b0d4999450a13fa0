"""What every pruner shares: where rungs stand, which score is better, who must be spared.

Pure functions; they know no trial but by its number and score.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Literal, Protocol

Direction = Literal["maximize", "minimize"]
Group = tuple[int, ...]


class Pruner(Protocol):
    """Says which trials stop. Pure: no clock, no random numbers, no memory."""

    def group(self, number: int, epoch: int) -> Group | None:
        """Which trials a trial is compared with after this epoch; None: it is not judged now.

        Trials are compared within equal groups; the last entry of a group is the epoch.
        """
        ...

    def stops(
        self, arrived: Collection[int], scores: Mapping[int, float], complete: Collection[int]
    ) -> tuple[int, ...]:
        """Numbers of the trials that stop, ascending.

        Args:
            arrived: Numbers of the trials that came to the group in this tick.
            scores: Trial number -> best score up to the epoch of the group, of every trial that ever came to
                it, `arrived` included. NaN never survives and takes no place.
            complete: Trials that were trained to their end.
        """
        ...


class NoPruner:
    """Every trial is trained to its end."""

    def group(self, number: int, epoch: int) -> Group | None:
        """No trial is judged."""
        return None

    def stops(
        self, arrived: Collection[int], scores: Mapping[int, float], complete: Collection[int]
    ) -> tuple[int, ...]:
        """None."""
        return ()


def rungs(first: int, factor: int, epochs: int) -> tuple[int, ...]:
    """Epochs at which trials may be stopped: first, first * factor, ... up to half of a training.

    Args:
        first: Epoch of the first rung.
        factor: Each rung is this many times later than the one before.
        epochs: Length of a full training. A rung in its second half would save little and cost finalists:
            with the rungs 5, 15, 45 of 50, 1 to 3 of 50 trials were left to choose from.
    """
    found = []
    epoch = first
    while 2 * epoch <= epochs:
        found.append(epoch)
        epoch *= factor
    return tuple(found)


def better(a: float, b: float, direction: Direction) -> bool:
    """Whether score `a` beats score `b`."""
    return a > b if direction == "maximize" else a < b


def spare(standing: Mapping[int, tuple[int, float | None]], direction: Direction) -> int:
    """The trial that must go on where stopping all of `standing` would leave none to complete.

    Args:
        standing: Trial number -> (epochs trained, best score or None); not empty.
        direction: Whether higher or lower scores are better.

    Returns:
        The furthest one; of equally far ones the best, then the first.
    """
    sign = -1.0 if direction == "maximize" else 1.0

    def rank(number: int) -> tuple[int, float, int]:
        epochs, score = standing[number]
        return -epochs, math.inf if score is None else sign * score, number

    return min(standing, key=rank)
