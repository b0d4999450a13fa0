"""Tree-structured Parzen estimator, by Optuna; asked by the loop, told results only through its history.

Optuna is driven by ask and tell on a study in memory. That study is a cache of the history, so an answer
does not depend on what was asked before.

Source: Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization", NeurIPS; multivariate form:
Falkner et al. 2018, "BOHB", ICML; several objectives: Ozaki et al. 2022, "Multiobjective Tree-Structured Parzen
Estimator", Journal of Artificial Intelligence Research 73.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial

from lanewise.pruning import Direction
from lanewise.search.optuna_study import OptunaStudy, Ranges
from lanewise.search.random import RandomSearch, trial_seed
from lanewise.search.records import Told
from lanewise.search.unfinished import at_level
from lanewise.space import Config, Space
from lanewise.study import Study


class TPE:
    """TPE over all searched hyperparameters at once; running trials count as bad (constant liar).

    Where trials are pruned it learns from the highest epoch that `search.startup` of them have reached, see
    `unfinished`. The first `search.startup` results come from random search. Conditional hyperparameters are drawn one
    by one, given their parents. A trial outside the current space (a control draw, or a default outside
    a narrowed range) is not told: it has no place in the densities.
    """

    def __init__(self, study: Study, space: Space, direction: Direction) -> None:
        self._seed, self._startup, self._direction = study.seed, study.search.startup, direction
        self._space, self._ranges = space, Ranges(space)
        self._random = RandomSearch(study, space, direction)
        self._objectives = study.search.objectives
        self._told: list[Told] = []
        self._memory = OptunaStudy(direction, self._objectives)

    def ask(self, number: int, history: Sequence[Told]) -> Config:
        """Draw from the densities of the good and the bad trials in `history`."""
        self._learn(at_level(history, self._startup, self._direction))
        if not self._ranges.all or self._memory.finished < self._startup:
            return self._random.ask(number, history)
        return self._memory.draw(
            self._space, _Sampler(self._ranges.joint, trial_seed(self._seed, number, "tpe"))
        )

    def _learn(self, history: Sequence[Told]) -> None:
        """Bring Optuna's study up to `history`; begin anew where it is not a continuation."""
        before = self._told
        if len(history) < len(before) or not all(map(_continues, before, history)):
            before, self._memory = [], OptunaStudy(self._direction, self._objectives)
        for place, trial in enumerate(history):
            known = before[place] if place < len(before) else None
            if known is None and self._ranges.hold(trial.config):
                self._memory.put(trial, self._ranges, None)
            if trial.state != "running" and (known is None or known.state == "running"):
                self._memory.finish(trial)
        self._told = list(history)


class _Sampler(TPESampler):
    """TPE whose joint search space is given: Optuna would intersect all trials at every ask (5 ms of 20)."""

    def __init__(self, joint: Mapping[str, BaseDistribution], seed: int) -> None:
        super().__init__(multivariate=True, constant_liar=True, seed=seed, n_startup_trials=0)
        self._joint = joint

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return dict(self._joint)


def _continues(before: Told, now: Told) -> bool:
    """Whether `now` may follow `before`: the same trial, not changed after its end."""
    same = before.number == now.number and before.config == now.config
    return same and (before.state == "running" or (before.state, before.value) == (now.state, now.value))
