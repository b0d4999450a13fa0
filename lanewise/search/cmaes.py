"""Covariance matrix adaptation, an evolution strategy for ranges, by the library cmaes; asked by the loop.

The distribution is computed anew from the history, so an answer does not depend on what was asked before.

Source: Hansen 2016, "The CMA Evolution Strategy: A Tutorial", arXiv:1604.00772.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from cmaes import CMA
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial

from lanewise.pruning import Direction
from lanewise.search.generations import ended, population_of
from lanewise.search.optuna_study import OptunaStudy, Ranges
from lanewise.search.random import RandomSearch, trial_seed
from lanewise.search.records import Told
from lanewise.space import Config, Space
from lanewise.study import Study

SIGMA = 0.3  # of the first distribution, in widths of the ranges: the tutorial's advice


class CMAES:
    """A normal distribution over the ranges that have no condition, moved to where results were better.

    The first `search.startup` results come from random search; the best of them is the first mean. Results are
    told in the order in which they came, `search.population` at a time; no lane waits for a generation to end.
    Choices, and what has a condition, are drawn by TPE, one by one. A pruned trial counts with the score it
    was stopped by; a failed one, or one outside the current space, has no place.
    """

    def __init__(self, study: Study, space: Space, direction: Direction) -> None:
        self._seed, self._startup, self._direction = study.seed, study.search.startup, direction
        self._sign = -1.0 if direction == "maximize" else 1.0
        self._space, self._ranges = space, Ranges(space)
        joint = self._ranges.joint.items()
        self._names = tuple(n for n, d in joint if not isinstance(d, CategoricalDistribution))
        self._population = population_of(study, len(self._names))
        self._random = RandomSearch(study, space, direction)

    def ask(self, number: int, history: Sequence[Told]) -> Config:
        """One draw from the distribution that the results have made."""
        results = [trial for trial in ended(history) if self._ranges.hold(trial.config)]
        if not self._ranges.all or len(results) < self._startup:
            return self._random.ask(number, history)
        seed = trial_seed(self._seed, number, "cmaes")
        ranges: Config = {}
        if self._names:
            cma = self.distribution(results)
            cma.reseed_rng(seed)
            shares = np.minimum(cma.ask(), np.nextafter(1.0, 0.0)).tolist()
            ranges = {n: self._space.parameters[n].at(x) for n, x in zip(self._names, shares, strict=True)}
        memory = OptunaStudy(self._direction)
        for trial in history:
            if self._ranges.hold(trial.config):
                memory.put(trial, self._ranges, None)
                if trial.state != "running":
                    memory.finish(trial)
        given = {name: self._ranges.joint[name] for name in self._names}
        return memory.draw(self._space, _Sampler(given, ranges, seed))

    def distribution(self, results: Sequence[Told]) -> CMA:
        """The distribution after all full generations of `results`, which are in the order they came."""
        best = min(results[: self._startup], key=lambda trial: self._sign * (trial.value or 0.0))
        cma = CMA(
            mean=self._place(best), sigma=SIGMA, bounds=np.array([[0.0, 1.0]] * len(self._names)),
            population_size=self._population, seed=0, n_max_resampling=10 * len(self._names),
        )  # fmt: skip
        rest = results[self._startup :]
        for first in range(0, len(rest) - self._population + 1, self._population):
            generation = rest[first : first + self._population]
            cma.tell([(self._place(t), self._sign * (t.value or 0.0)) for t in generation])
        return cma

    def _place(self, trial: Told) -> np.ndarray:
        """Where a configuration lies in the unit cube of the ranges."""
        return np.array([self._space.parameters[name].share(trial.config[name]) for name in self._names])


class _Sampler(TPESampler):
    """TPE for all but some values, which are given."""

    def __init__(self, joint: Mapping[str, BaseDistribution], given: Config, seed: int) -> None:
        super().__init__(multivariate=True, constant_liar=True, seed=seed, n_startup_trials=0)
        self._joint, self._given = joint, given

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return dict(self._joint)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return dict(self._given)
