"""Hyperband: several kinds of successive halving side by side, from early and hard to no stopping at all.

Pure. Where early scores mislead, the brackets that judge late still find the slow starters; the price is
that only a part of the trials is stopped early.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import ceil

from lanewise.pruning.asha import Asha
from lanewise.pruning.rungs import Direction, Group


@dataclass(frozen=True)
class Hyperband:
    """Brackets of asynchronous successive halving; a trial's number says which bracket it is in.

    Bracket b leaves out the first b rungs, the last bracket has none. Trials are compared within their
    bracket only. Of every cycle of trials, the brackets get as many as Hyperband's brackets have, so that
    each may spend about as many epochs: of two rungs and factor 3, 9, 5 and 3 of 17.

    Source: Li et al. 2018, "Hyperband", JMLR 18, algorithm 1; asynchronous form: Li et al. 2020, "A System
    for Massively Parallel Hyperparameter Tuning", MLSys, section 3.3.

    Args:
        epochs: The rungs of bracket 0.
        factor: One trial in this many survives a rung (the papers' eta).
        direction: Whether higher or lower scores are better.
    """

    epochs: tuple[int, ...]
    factor: int
    direction: Direction

    def sizes(self) -> tuple[int, ...]:
        """Trials of each bracket in one cycle."""
        last = len(self.epochs)
        return tuple(ceil((last + 1) / (s + 1) * self.factor**s) for s in range(last, -1, -1))

    def bracket(self, number: int) -> int:
        """The bracket of a trial."""
        place = number % sum(self.sizes())
        for bracket, size in enumerate(self.sizes()):
            if place < size:
                return bracket
            place -= size
        raise AssertionError("a place in the cycle lies in one of its brackets")

    def group(self, number: int, epoch: int) -> Group | None:
        """The trials of a bracket are compared at its rungs."""
        bracket = self.bracket(number)
        return (bracket, epoch) if epoch in self.epochs[bracket:] else None

    def stops(
        self, arrived: Collection[int], scores: Mapping[int, float], complete: Collection[int]
    ) -> tuple[int, ...]:
        """As successive halving does; see `Pruner`."""
        return Asha(self.epochs, self.factor, self.direction).stops(arrived, scores)
