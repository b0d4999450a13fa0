"""Which hyperparameters of the best trials lie at an end of their range, and what to write to go beyond it.

Reads the facts; the caveats, the winner's table and the summary say what it finds, whatever the strategy. It
knows no trial but complete ones, and names no end beyond which nothing lies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lanewise.report.facts import Facts
from lanewise.report.parts import Range
from lanewise.report.wording import finite, short

EDGE = 0.05  # share of a range, on its scale, that counts as its edge
FEW = 3  # best trials of the search that are looked at besides the winner


@dataclass(frozen=True)
class Edge:
    """A hyperparameter whose best values lie at an end of its range.

    Attributes:
        name: of the hyperparameter.
        end: "lower" or "upper".
        words: where the winner's value is, or else those of the best trials.
        value: the one that is nearest to the end.
        limit: the end.
        remedy: the wider range as the study file has it; empty where the range test narrowed it.
        winners: whether it is the winner's value.
    """

    name: str
    end: str
    words: str
    value: Any
    limit: float
    remedy: str
    winners: bool

    @property
    def advice(self) -> str:
        """Parameter, value, end and remedy, in sentences."""
        whose = "" if self.winners else f" in most of the best {FEW} trials"
        place = f"{self.name} = {short(self.value)}{whose} is at the {self.end} end of"
        if not self.remedy:
            left = f"{place} the range that the range test left ({short(self.limit)})."
            return f"{left} The control trials drew from the whole range."
        lead = f"{place} its range ({short(self.limit)}): better values may lie beyond."
        return f"{lead} Write for example {self.remedy} in the study's space and run again."


def edges(facts: Facts) -> list[Edge]:
    """Searched numbers at an end of their range: the winner's, or those of most of the best few trials.

    The declared range counts first, then what the range test left of it.
    """
    found = []
    for name, wide in facts.wide_ranges.items():
        narrow = facts.ranges.get(name, wide)
        edge = _edge(facts, wide, narrowed=False)
        if edge is None and narrow != wide:
            edge = _edge(facts, narrow, narrowed=True)
        if edge is not None:
            found.append(edge)
    return found


def _edge(facts: Facts, one: Range, *, narrowed: bool) -> Edge | None:
    best = sorted(facts.complete, key=lambda t: (-facts.sign * (t.value or 0.0), t.number))[:FEW]
    for end, limit in (("lower", one.low), ("upper", one.high)):
        if limit is None or one.choices or _natural(one, end, limit):
            continue
        remedy = "" if narrowed else _wider(one, end)
        own = facts.winning_config.get(one.name)
        if facts.winner != "default" and _touches(one, own, end):
            return Edge(one.name, end, f"at the {end} end", own, limit, remedy, True)
        near = [v for t in best if _touches(one, v := finite(t.config.get(one.name)), end) and v is not None]
        if len(near) > FEW / 2:
            nearest = min(near) if end == "lower" else max(near)
            return Edge(one.name, end, f"best trials at the {end} end", nearest, limit, remedy, False)
    return None


def _touches(one: Range, value: Any, end: str) -> bool:
    """Whether a value is at an end; of whole numbers only the last one is, if there are more than two."""
    place = one.position(value)
    if place is None or one.low is None or one.high is None:
        return False
    off = abs(place - (0.0 if end == "lower" else 1.0))
    return off < 1e-9 and one.high - one.low > 1 if one.whole else off <= EDGE + 1e-9


def _natural(one: Range, end: str, limit: float) -> bool:
    """Whether nothing lies beyond an end: 0, one layer or unit, or the bound of a training hyperparameter."""
    if end == "lower" and (limit == 0 or (one.whole and limit == 1)):
        return True
    return limit == _bound(one.name, end)[0]


def _bound(name: str, end: str) -> tuple[float, bool]:
    """How far a hyperparameter of training goes, and whether the bound itself is not legal."""
    from lanewise.study import TRAINING

    one = TRAINING.get(name)
    if one is None:
        return (-math.inf, False) if end == "lower" else (math.inf, False)
    return (one.low, one.open_low) if end == "lower" else (one.high, one.open_high)


def _wider(one: Range, end: str) -> str:
    """The range grown beyond an end, as a line of the study: by a decade, or by half of its length."""
    assert one.low is not None and one.high is not None  # it has ends
    low, high, bound = one.low, one.high, _bound(one.name, end)
    sign, limit = (-1, low) if end == "lower" else (1, high)
    if one.log:
        beyond = limit * 10.0**sign
    else:
        step = one.step or (1.0 if one.whole else 0.0)
        half = (high - low) / 2
        beyond = limit + sign * (step * math.ceil(half / step) if step else half)
    if one.whole:
        beyond = max(beyond, 1.0) if low > 0 else beyond
    if not one.log and not one.whole and low >= 0 and limit < 1 and high <= 1:  # a share stays one
        beyond = max(beyond, 0.0) if end == "lower" else min(beyond, (high + 1) / 2)
    if sign * beyond >= sign * bound[0]:
        beyond = (limit + bound[0]) / 2 if bound[1] else bound[0]
    ends = {"low": low, "high": high, "low" if end == "lower" else "high": beyond}
    texts = [f"{key}: {_written(round(x) if one.whole else float(x))}" for key, x in ends.items()]
    texts += ["log: true"] * one.log + [f"step: {_written(one.step)}"] * (one.step is not None)
    return f"{one.name}: {{{', '.join(texts)}}}"


def _written(value: float | None) -> str:
    """A number as a study file has it: 20.0 where 20 would make a range of whole numbers."""
    text = short(value)
    return text if isinstance(value, int) or not text.lstrip("-").isdigit() else f"{text}.0"
