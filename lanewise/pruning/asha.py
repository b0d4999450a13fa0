"""Asynchronous successive halving: a rung keeps one trial in `factor` of all that ever reached it.

Pure functions of the scores handed in: a search that is replayed stops the same trials. It trains nothing
and knows no configuration.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from lanewise.pruning.rungs import Direction, Group


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
        epochs: The rungs.
        factor: One trial in this many survives a rung (the paper's eta).
        direction: Whether higher or lower scores are better.
    """

    epochs: tuple[int, ...]
    factor: int
    direction: Direction

    def group(self, number: int, epoch: int) -> Group | None:
        """All trials at a rung are compared."""
        return (epoch,) if epoch in self.epochs else None

    def stops(
        self, arrived: Collection[int], scores: Mapping[int, float], complete: Collection[int] = ()
    ) -> tuple[int, ...]:
        """Those that are not among the best of all that ever came to the rung; see `Pruner`."""
        sign = -1.0 if self.direction == "maximize" else 1.0
        ranked = sorted(sign * score for score in scores.values() if not math.isnan(score))
        last = ranked[max(1, len(ranked) // self.factor) - 1] if ranked else -math.inf
        return tuple(n for n in sorted(set(arrived)) if not sign * scores[n] <= last)
