"""Iterative random search: random draws in rounds whose space tightens around the best; asked by the loop.

A round begins when enough trials have ended, and learns from the scores of that very tick: those of the
trials that ended, and of those that still ran as far as they had come. Every trial knows in which tick it
began, so the rounds are read anew from any history and do not depend on when they are asked for. This
module draws and narrows; it never leaves the study's declared ranges.

Sources: iterated narrowing of random search around elite configurations, as in López-Ibáñez et al. 2016, "The
irace package: Iterated racing for automatic algorithm configuration", Operations Research Perspectives 3;
random draws: Bergstra and Bengio 2012, JMLR 13.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lanewise.parameter import Parameter, same
from lanewise.pruning import Direction
from lanewise.search.random import trial_rng
from lanewise.search.records import Round, Told
from lanewise.space import Config, Space
from lanewise.study import Study, Value

FEWEST_ELITES = 5  # with three, chance cut ranges of what does not matter, and searches ended worse
ELITE_SHARE = 0.25  # of a round's trials: so many elites there are, but at most half of all that were seen
FEWEST_VALUES = 3  # of elites, from which a range or the weights of choices are learnt
EDGE = 0.05  # share of a range, on its scale, that counts as its edge
NARROWEST = 0.05  # share of its declared range, on its scale, that is always left of a range

_BEFORE = -1  # the tick of round 0: trials of earlier studies ended by tick 0, so they begin later rounds

Weights = Mapping[str, tuple[float, ...]]  # of the choices of a parameter, in their order


@dataclass(frozen=True)
class _Found:
    """What one round may draw, and when it began: in ticks."""

    tick: int
    space: Space
    weights: Weights


class Iterative:
    """Random search in rounds of `search.round_trials` ended trials.

    Round 0 draws as random search does. Each later round takes the best trials seen so far, its elites; of a
    range it draws from `quantile_box`, of choices by `reweighted`. A hyperparameter that fewer than three elites
    have stays as it was.
    """

    def __init__(self, study: Study, space: Space, direction: Direction) -> None:
        self._seed, self._space = study.seed, space
        self._sign = -1.0 if direction == "maximize" else 1.0
        self._size = study.search.round_trials
        self._elites = max(FEWEST_ELITES, math.ceil(ELITE_SHARE * self._size))
        self._history: tuple[Told, ...] = ()
        self._found: list[_Found] = []

    def ask(self, number: int, history: Sequence[Told]) -> Config:
        """One draw from the space of the latest round in `history`."""
        found = self._rounds(history)[-1]
        rng = trial_rng(self._seed, number, "ask")
        drawn = {
            name: parameter.draw(rng)
            if name not in found.weights
            else parameter.listed[_weighted(found.weights[name], float(rng.random()))]
            for name, parameter in found.space.parameters.items()
        }
        return found.space.active(drawn)

    def rounds(self, history: Sequence[Told]) -> tuple[Round, ...]:
        """The rounds in which at least one trial of `history` was asked for, first round first."""
        told = []
        found = self._rounds(history)
        for place, one in enumerate(found):
            until = found[place + 1].tick if place + 1 < len(found) else math.inf
            numbers = [t.number for t in history if one.tick <= t.begun < until and t.number >= 0]
            if numbers:
                space, weights = one.space.to_json(), {n: list(w) for n, w in one.weights.items()}
                told.append(Round(place, max(one.tick, 0), min(numbers), len(numbers), space, weights))
        return tuple(told)

    def _rounds(self, history: Sequence[Told]) -> list[_Found]:
        """Every round up to the present; those known from a shorter history are kept where they still hold."""
        if not self._found or not self._continued_by(history):
            self._found = [_Found(_BEFORE, self._space, {})]
        self._history = tuple(history)
        ends = sorted(_end(told) for told in history if told.state != "running")
        for place in range(len(self._found), len(ends) // self._size + 1):
            tick = ends[place * self._size - 1]
            before = self._found[-1]
            if tick == before.tick:  # so many ended in one tick that they began two rounds
                self._found.append(before)
                continue
            space, weights = tightened(before.space, before.weights, self._best(history, tick))
            self._found.append(_Found(tick, space, weights))
        return self._found

    def _continued_by(self, history: Sequence[Told]) -> bool:
        """Whether the rounds that are known hold for `history` too: nothing before the last one is new."""
        last = self._found[-1].tick
        later = history[len(self._history) :]
        if len(history) < len(self._history) or any(t.begun < last or _ended(t, last) for t in later):
            return False
        return all(
            old == new
            or (
                old.state == "running"
                and (old.number, old.config, old.begun) == (new.number, new.config, new.begun)
                and old.curve[: max(last - old.begun, 0)] == new.curve[: max(last - old.begun, 0)]
                and not _ended(new, last)
            )
            for old, new in zip(self._history, history, strict=False)
        )

    def _best(self, history: Sequence[Told], tick: int) -> list[Config]:
        """Configurations of the elites as they stood after a tick, best first."""
        ranked = []
        for told in history:
            seen = told.curve[: max(tick - told.begun, 0)]
            so_far = self._sign * min((self._sign * s for s in seen), default=math.nan)
            score = told.value if _ended(told, tick) else so_far
            if score is not None and not math.isnan(score):
                ranked.append((self._sign * score, told.number, told.config))
        ranked.sort(key=lambda r: r[:2])
        return [config for _, _, config in ranked[: min(self._elites, len(ranked) // 2)]]


def _end(told: Told) -> int:
    """The tick after which a trial had ended: a tick trains one epoch of every lane."""
    return told.begun + told.epochs


def _ended(told: Told, tick: int) -> bool:
    return told.state != "running" and _end(told) <= tick


def tightened(space: Space, weights: Weights, elites: Sequence[Config]) -> tuple[Space, Weights]:
    """The space and the weights of choices of the round after one that drew from `space`.

    Args:
        space: Of the round before.
        weights: Likewise.
        elites: The best configurations, best first.
    """
    ranges, found = dict(space.parameters), dict(weights)
    for name in space.searched():
        parameter, values = space.parameters[name], [elite[name] for elite in elites if name in elite]
        if len(values) < FEWEST_VALUES:
            continue
        if parameter.choices is not None:
            found[name] = reweighted(parameter.choices, values)
        else:
            ranges[name] = quantile_box(parameter, space.wide(name), [float(v) for v in values])
    return replace(space, parameters=ranges), found


def quantile_box(current: Parameter, declared: Parameter, values: Sequence[float]) -> Parameter:
    """The range of which the lowest and the highest value are the 1/(n+1) and n/(n+1) quantiles.

    So on the parameter's scale it is their span and a margin of span/(n - 1) on either side: the unbiased
    estimate of the ends of a uniform distribution, which does not shrink where a parameter does not matter.
    It grows beyond `current` only to hold a value, or where the best value lies in the outer 5 % of
    `current`: then to a decade beyond that end on a logarithmic scale, else by half of `current`. It never
    grows beyond `declared`, keeps a step on either side of the values, and 5 % of `declared`.

    Source: Weibull's plotting positions, i/(n + 1) for the i-th of n sorted values.

    Args:
        current: The range of the round before.
        declared: The study's own range.
        values: At least two, best first.
    """

    def scaled(value: float) -> float:
        return math.log(value) if declared.log else float(value)

    def value_at(place: float) -> float:
        return math.exp(min(place, 700.0)) if declared.log else place  # e^710 is infinite

    low, high = scaled(min(values)), scaled(max(values))
    first, last = map(scaled, current.bounds)
    bottom, top = map(scaled, declared.bounds)
    margin = max((high - low) / (len(values) - 1), (NARROWEST * (top - bottom) - (high - low)) / 2)
    left, right = max(low - margin, min(low, first)), min(high + margin, max(high, last))
    best, reach = scaled(values[0]), math.log(10) if declared.log else (last - first) / 2
    if best - first <= EDGE * (last - first):
        left = min(left, first - reach)
    if last - best <= EDGE * (last - first):
        right = max(right, last + reach)
    step = declared.step or (1 if declared.kind == "int" else 0)
    first, last = (min(values) - step, max(values) + step) if step else (math.inf, -math.inf)
    return declared.cut(min(value_at(left), first), max(value_at(right), last)) or current


def reweighted(choices: Sequence[Value], values: Sequence[Value]) -> tuple[float, ...]:
    """How often each choice is drawn: (elites that have it + 1) / (elites + choices), so none dies.

    Source: Laplace's rule of succession.
    """
    counts = [sum(same(choice, value) for value in values) for choice in choices]
    return tuple((count + 1) / (len(values) + len(choices)) for count in counts)


def _weighted(weights: Sequence[float], share: float) -> int:
    """The part of 0..1, cut by weights that sum to 1, in which `share` lies."""
    return min(int(np.searchsorted(np.cumsum(weights), share, side="right")), len(weights) - 1)
