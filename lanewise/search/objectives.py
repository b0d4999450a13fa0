"""The several objectives of a search, and the trials that are best in them: the Pareto front.

The metric is the first objective; the others are counts of the network, each to be small, which a trial's first report
carries. Read by the strategies that learn from them, by the loop for its result, and by the copy for Optuna. It
chooses no winner: that is the best by the metric.

Source: Deb et al. 2002, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE Transactions on
Evolutionary Computation 6(2), section III, for dominance.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from lanewise.ledger import TrialRecord, size_of
from lanewise.pruning import Direction

Curve = Sequence[Mapping[str, float | None]]


def sizes_of(curve: Curve, objectives: Sequence[str]) -> tuple[float, ...] | None:
    """A trial's values of the objectives beside the metric; None where one is missing."""
    found = tuple(size for name in objectives if (size := size_of(curve, name)) is not None)
    return found if len(found) == len(objectives) else None


def compared(value: float | None, curve: Curve, objectives: Sequence[str]) -> tuple[float, ...] | None:
    """What a strategy compares: the metric, and the logarithm of every count; None where one is missing.

    Sizes span orders of magnitude. On a linear scale the distances between trials would be those between the
    largest networks, and a strategy that wants an even front would look there only. Dominance is the same.
    """
    sizes = sizes_of(curve, objectives)
    return None if value is None or sizes is None else (value, *map(math.log1p, sizes))


def directions_of(direction: Direction, objectives: Sequence[str]) -> tuple[Direction, ...]:
    """Of the metric, then of every other objective: small."""
    small: Direction = "minimize"
    return (direction, *(small for _ in objectives))


def pareto_front(
    trials: Sequence[TrialRecord],
    objectives: Sequence[str],
    direction: Direction,
    repeats: Collection[int] = (),
) -> tuple[int, ...]:
    """Numbers of the complete trials that no other one dominates, the best by the metric first.

    A trial dominates another one if it is nowhere worse and somewhere better; so of equal ones all are on the front. Of
    equal scores the smaller network comes first.

    Args:
        trials: Of a search; duplicates do not compete, nor does what has not completed.
        objectives: Beside the metric.
        direction: Of the metric.
        repeats: Numbers of the trials that repeat the default; they do not compete.
    """
    sign = -1.0 if direction == "maximize" else 1.0
    rows: list[tuple[float, ...]] = []
    for trial in trials:
        sizes = sizes_of(trial.curve, objectives)
        if trial.state == "complete" and trial.number not in repeats and trial.value is not None and sizes:
            rows.append((sign * trial.value, *sizes, trial.number))
    if not rows:
        return ()
    rows.sort()
    costs = np.array([row[:-1] for row in rows])
    # Of sorted rows a later one never dominates an earlier one, so each is held against the front so far.
    front: list[int] = []
    for place, cost in enumerate(costs):
        others = costs[front]
        if not bool(np.any(np.all(others <= cost, axis=1) & np.any(others < cost, axis=1))):
            front.append(place)
    return tuple(int(rows[place][-1]) for place in front)
