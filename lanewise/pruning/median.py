"""The median rule: a trial stops when it is worse than the middle of those that were trained to their end.

Pure; comes after the first rung, at every epoch. While fewer than `LEAST` trials are complete it stops none,
so with as many lanes as trials it never does.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from statistics import median

from lanewise.pruning.rungs import Direction, Group, better

LEAST = 5  # complete trials whose median says something; Optuna's default


@dataclass(frozen=True)
class Median:
    """A trial stops if its best score so far is worse than the median of complete trials at that epoch.

    Complete trials count with their best score up to the epoch, too: that is their value if they had ended
    there. Those that had ended before it do not count.

    Source: Golovin et al. 2017, "Google Vizier", KDD, section 3.5.2, with the best score up to the epoch in
    place of the running average, as in Optuna's MedianPruner.

    Args:
        first: Epoch from which trials are judged.
        direction: Whether higher or lower scores are better.
    """

    first: int
    direction: Direction

    def group(self, number: int, epoch: int) -> Group | None:
        """All trials at an epoch are compared."""
        return (epoch,) if epoch >= self.first else None

    def stops(
        self, arrived: Collection[int], scores: Mapping[int, float], complete: Collection[int]
    ) -> tuple[int, ...]:
        """Those on the wrong side of the median; see `Pruner`."""
        ended = [scores[n] for n in set(complete) & scores.keys() if not math.isnan(scores[n])]
        if len(complete) < LEAST or not ended:
            return ()
        middle = median(ended)
        return tuple(
            n for n in sorted(set(arrived)) if math.isnan(scores[n]) or better(middle, scores[n], self.direction)
        )
