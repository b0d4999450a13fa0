"""Which lanes stop at a rung: asynchronous successive halving; fed by the search, which drops the lanes.

Pure functions of the scores handed in: no clock, no random numbers, no memory, so a search that is
replayed stops the same trials. It trains nothing and knows no configuration.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

Direction = Literal["maximize", "minimize"]


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


@dataclass(frozen=True)
class Asha:
    """Asynchronous successive halving in its stopping form.

    A trial that reaches a rung goes on if its score is among the best 1/factor of all scores seen at that
    rung so far, or equals one of them (accuracy on few rows has many equal scores). Trials that reach it
    in the same tick are entered together and judged after, so lanes that march in step are halved as a
    synchronous cohort would be.

    Source: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", MLSys, algorithm 2
    with promotion turned into stopping (a lane cannot be paused and come back).

    Args:
        factor: One trial in this many survives a rung (the paper's eta).
        direction: Whether higher or lower scores are better.
    """

    factor: int
    direction: Direction

    def stops(self, arrived: Collection[int], scores: Mapping[int, float]) -> tuple[int, ...]:
        """Numbers of the trials that stop, ascending.

        Args:
            arrived: Numbers of the trials that reached the rung in this tick.
            scores: Trial number -> score at this rung, of every trial that ever reached it, `arrived`
                included. NaN never survives and takes no place.
        """
        sign = -1.0 if self.direction == "maximize" else 1.0
        ranked = sorted(sign * score for score in scores.values() if not math.isnan(score))
        last = ranked[max(1, len(ranked) // self.factor) - 1] if ranked else -math.inf
        return tuple(n for n in sorted(set(arrived)) if not sign * scores[n] <= last)


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
