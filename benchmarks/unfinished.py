"""What a trial that did not train to its end is worth to a model of scores: rules that bench_search.py compares.

The product's own is `lanewise.search.unfinished`. Pure functions of the history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from lanewise.pruning import Direction
from lanewise.search.records import Told
from lanewise.search.unfinished import at_level


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


def learned(history: Sequence[Told], rule: str, enough: int, direction: Direction) -> list[Told]:
    """The history as a model of scores shall see it, by one of the rules that were compared."""
    if rule.startswith("rung"):
        return at_level(history, int(rule[4:] or enough), direction)
    if rule == "gain":
        return with_gain(history, direction)
    if rule == "drop":
        return [replace(t, state="failed", value=None) if t.state == "pruned" else t for t in history]
    return list(history)
