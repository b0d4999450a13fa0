"""Compares search strategies by what they found on the same study with the same seeds; after the searches.

It reads results of searches and trains nothing. Searches of one seed share their rows and their range test, so
strategies are compared seed by seed. What is compared is the score that selects: of two strategies the one
that tries more gains a little from luck, which only a sealed test could tell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from lanewise.intervals import Interval, corrected_t_interval, no_interval

Cost = Literal["epochs", "ticks", "seconds"]


class Step(NamedTuple):
    """An improvement: what had been spent by then, and the best complete trial's value from there on."""

    epochs: int
    ticks: int
    seconds: float
    value: float


@dataclass(frozen=True)
class Course:
    """One search: the best complete trial against what was spent, and the whole cost.

    Args:
        strategy: Its name.
        seed: Of the study.
        steps: Improvements in their order; at least one.
        epochs: Spent in all.
        seconds: Likewise.
        trials: Asked for.
        name: Of the study it is kept under.
    """

    strategy: str
    seed: int
    steps: tuple[Step, ...]
    epochs: int
    seconds: float
    trials: int
    name: str

    @classmethod
    def of(cls, name: str, strategy: str, seed: int, result: Mapping[str, Any]) -> Course:
        """The course of a search from its result as JSON."""
        steps = tuple(Step(i["epochs"], i["ticks"], i["seconds"], i["value"]) for i in result["improvements"])
        spent = int(result["epochs_spent"]), float(result["seconds"]), len(result["trials"])
        return cls(strategy, seed, steps, *spent, name)

    @property
    def final(self) -> float:
        """Value of the best complete trial."""
        return self.steps[-1].value

    def best_at(self, cost: Cost, spent: float) -> float | None:
        """The best complete trial when so much was spent; None before the first one."""
        found = [step.value for step in self.steps if getattr(step, cost) <= spent]
        return found[-1] if found else None

    def reached(self, cost: Cost, value: float, sign: float) -> float | None:
        """What was spent until a complete trial was at least as good as `value`; None where none was."""
        return next((getattr(step, cost) for step in self.steps if sign * step.value >= sign * value), None)


@dataclass(frozen=True)
class Standing:
    """One strategy.

    Args:
        strategy: Its name.
        courses: One for each seed, in their order.
        rank: Mean over the seeds of its place by the final value, 1 the best; equal values share their places.
        difference: Final value minus that of the first strategy, seed by seed; None for the first itself.
    """

    strategy: str
    courses: tuple[Course, ...]
    rank: float
    difference: Interval | None

    @property
    def mean(self) -> float:
        """Mean final value."""
        return sum(c.final for c in self.courses) / len(self.courses)


@dataclass(frozen=True)
class Comparison:
    """All strategies, best mean rank first.

    Args:
        study: Name of the study.
        metric: The objective.
        direction: "maximize" or "minimize".
        seeds: Of the searches.
        standings: By rank, then by mean, then in the order they were asked for.
    """

    study: str
    metric: str
    direction: str
    seeds: tuple[int, ...]
    standings: tuple[Standing, ...]

    @property
    def sign(self) -> float:
        """1 where higher values are better, else -1."""
        return 1.0 if self.direction == "maximize" else -1.0

    def curve(self, strategy: str, cost: Cost, points: int = 200) -> list[tuple[float, float, float, float]]:
        """(spent, median, lower, upper) of the best so far; the band is the middle half of the seeds.

        It begins where every seed has a complete trial, and ends where the last one ends.
        """
        courses = next(s.courses for s in self.standings if s.strategy == strategy)
        start = max(getattr(c.steps[0], cost) for c in courses)
        last = max([start, *(getattr(c, cost, getattr(c.steps[-1], cost)) for c in courses)])
        places = sorted({start, last, *(start + (last - start) * i / points for i in range(points + 1))})
        rows = []
        for spent in places:
            values = [c.best_at(cost, spent) for c in courses]
            known = sorted(v for v in values if v is not None)
            rows.append((float(spent), _quantile(known, 0.5), _quantile(known, 0.25), _quantile(known, 0.75)))
        return rows


def compare(study: str, metric: str, direction: str, courses: Sequence[Course], *, confidence: float) -> Comparison:
    """Rank strategies and measure their differences to the best of them.

    Args:
        study: Name of the study.
        metric: The objective.
        direction: "maximize" or "minimize".
        courses: Every strategy with every seed once.
        confidence: Of the intervals of differences.

    Raises:
        ValueError: A strategy lacks a seed that another one has.
    """
    sign = 1.0 if direction == "maximize" else -1.0
    seeds = tuple(dict.fromkeys(c.seed for c in courses))
    table = {(c.strategy, c.seed): c for c in courses}
    names = tuple(dict.fromkeys(c.strategy for c in courses))
    if len(table) != len(names) * len(seeds) or len(table) != len(courses):
        raise ValueError("every strategy has every seed once")
    ranks = dict.fromkeys(names, 0.0)
    for seed in seeds:
        for name, rank in _places({n: sign * table[n, seed].final for n in names}).items():
            ranks[name] += rank / len(seeds)
    found = [Standing(n, tuple(table[n, s] for s in seeds), ranks[n], None) for n in names]
    found.sort(key=lambda s: (s.rank, -sign * s.mean))
    first = found[0]
    rest = [replace(s, difference=_difference(s, first, confidence)) for s in found[1:]]
    return Comparison(study, metric, direction, seeds, (first, *rest))


def _difference(one: Standing, first: Standing, confidence: float) -> Interval:
    """Student's paired t interval: the corrected one without its correction, as seeds share no rows by design."""
    differences = [a.final - b.final for a, b in zip(one.courses, first.courses, strict=True)]
    if len(differences) > 1 and len(set(differences)) == 1:  # no spread says nothing of how sure it is
        return no_interval(differences[0], confidence, "the same difference with every seed")
    found = corrected_t_interval(differences, 0.0, confidence=confidence)
    return found if found.low is None else replace(found, method=f"paired t, {len(differences)} seeds")


def _places(values: Mapping[str, float]) -> dict[str, float]:
    """Place of each value from the best, 1; equal ones share the mean of theirs."""
    return {
        name: 1 + sum(v > value for v in values.values()) + (sum(v == value for v in values.values()) - 1) / 2
        for name, value in values.items()
    }


def _quantile(known: Sequence[float], share: float) -> float:
    """By linear interpolation between sorted values."""
    at = share * (len(known) - 1)
    low = math.floor(at)
    high = min(low + 1, len(known) - 1)
    return known[low] + (at - low) * (known[high] - known[low])
