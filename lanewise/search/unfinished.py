"""What a trial that did not train to its end is worth to a model of scores; between the history and TPE.

A score after 5 epochs and one after 50 do not compare, and pruned trials are most of a search. So a model learns
from one epoch only: the highest one that enough trials have reached. Pure functions of the history; they propose
nothing.

Source: Falkner et al. 2018, "BOHB", ICML, section 3.2: the model of the largest budget with enough points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

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
        direction: Of the scores.
    """
    epoch = level(history, enough)
    if epoch is None:
        return list(history)
    best = max if direction == "maximize" else min
    return [
        replace(t, state="complete", value=best(t.curve[:epoch]), epochs=epoch, curve=t.curve[:epoch])
        if t.curve and (t.state == "complete" or (t.state != "failed" and t.epochs >= epoch))
        else t
        for t in history
    ]
