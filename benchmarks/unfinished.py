"""What a trial that did not train to its end is worth to a model of scores: two rules that bench_search.py compares.

The product's own, which was better, is `lanewise.search.unfinished`. Pure functions of the history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from lanewise.pruning import Direction
from lanewise.search.records import Told


def with_gain(history: Sequence[Told], direction: Direction) -> list[Told]:
    """Pruned trials as complete ones, with the median gain of complete trials from their last epoch on.

    Args:
        history: As a strategy gets it.
    """
    best = max if direction == "maximize" else min
    complete = [t for t in history if t.state == "complete" and t.value is not None]
    gains: dict[int, float] = {}

    def gain(epoch: int) -> float:
        if epoch not in gains:
            gains[epoch] = median(t.value - best(t.curve[:epoch]) for t in complete if t.value is not None)
        return gains[epoch]

    if not complete:
        return list(history)
    return [
        replace(t, state="complete", value=t.value + gain(t.epochs))
        if t.state == "pruned" and t.value is not None
        else t
        for t in history
    ]


def learned(history: Sequence[Told], rule: str, direction: Direction) -> list[Told]:
    """The history as a model of scores shall see it, by a rule that was compared with the product's own."""
    if rule == "gain":
        return with_gain(history, direction)
    return [replace(t, state="failed", value=None) if t.state == "pruned" else t for t in history]
