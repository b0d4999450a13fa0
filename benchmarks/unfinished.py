"""What a trial that did not train to its end is worth to a model of scores: rules that bench_search.py compares.

A score after 5 epochs and one after 50 do not compare, and pruned trials are most of a search. So a model
learns from one epoch only: the highest one that enough trials have reached. Pure functions of the history.

Source: Falkner et al. 2018, "BOHB", ICML, section 3.2: the model of the largest budget with enough points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from lanewise.pruning import Direction
from lanewise.search.records import Told


def level(history: Sequence[Told], enough: int) -> int | None:
    """The highest epoch that `enough` trials have reached; a complete trial has reached every epoch.

    Returns:
        None where every one of the `enough` furthest trials is complete, or there are fewer.
    """
    ends = sorted((t.epochs for t in history if t.state == "pruned"), reverse=True)
    complete = sum(trial.state == "complete" for trial in history)
    if complete >= enough or len(ends) < enough - complete:
        return None
    return ends[enough - complete - 1]


def at_level(history: Sequence[Told], enough: int, direction: Direction) -> list[Told]:
    """The history as it stood when each trial was at the level: scores of one epoch, which compare.

    Trials that have reached it, running ones too, count as complete there, with their best score up to it.
    A trial that was pruned before stays pruned: it was behind. One that has not reached it still runs.

    Args:
        history: As a strategy gets it.
        enough: Trials a model needs.
    """
    epoch = level(history, enough)
    if epoch is None:
        return list(history)
    best = max if direction == "maximize" else min
    return [
        replace(t, state="complete", value=best(t.curve[:epoch]), epochs=epoch, curve=t.curve[:epoch])
        if t.state == "complete" or (t.state != "failed" and t.epochs >= epoch)
        else t
        for t in history
    ]


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
