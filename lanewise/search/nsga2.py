"""Evolution: parents are crossed and mutated, the better ones survive (NSGA-II), by Optuna; asked by the loop.

Which trials make a generation is read from the history, so an answer does not depend on what was asked before.

Source: Deb et al. 2002, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE Transactions on
Evolutionary Computation 6(2); with one objective its ranks are the order of the scores, with several the best are
those that no other dominates, and of equal rank those that stand farthest from their neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import NSGAIISampler
from optuna.trial import FrozenTrial

from lanewise.pruning import Direction
from lanewise.search.generations import ended, population_of
from lanewise.search.objectives import compared
from lanewise.search.optuna_study import OptunaStudy, Ranges
from lanewise.search.random import RandomSearch, trial_seed
from lanewise.search.records import Told
from lanewise.space import Config, Space
from lanewise.study import Study


class NSGA2:
    """Children of the best trials so far: each value from one of two parents, or drawn anew.

    Results are told in the order in which they came; every `search.population` of them are a generation. The
    first one is random search. After each, the best of it and of its parents, as many as a generation has,
    are the next parents. No lane waits for a generation to end: its children are born until it is full.
    Hyperparameters with a condition are drawn at random, given their parents. A pruned trial counts with the
    score it was stopped by; a failed one, or one outside the current space, has no place.
    """

    def __init__(self, study: Study, space: Space, direction: Direction) -> None:
        self._seed, self._direction, self._objectives = study.seed, direction, study.search.objectives
        self._space, self._ranges = space, Ranges(space)
        self._population = population_of(study, len(self._ranges.all))
        self._random = RandomSearch(study, space, direction)

    def ask(self, number: int, history: Sequence[Told]) -> Config:
        """A child of the last full generation's survivors."""
        inside = [trial for trial in ended(history) if self._ranges.hold(trial.config)]
        valued = ((t, compared(t.value, t.rows, self._objectives)) for t in inside)
        results = [(trial, values) for trial, values in valued if values is not None]
        if not self._ranges.all or len(results) < self._population:
            return self._random.ask(number, history)
        memory = OptunaStudy(self._direction, self._objectives)
        for place, (trial, values) in enumerate(results):
            memory.put(trial, self._ranges, values, {GENERATION: place // self._population})
        sampler = _Sampler(self._ranges.joint, self._population, trial_seed(self._seed, number, "nsga2"))
        return memory.draw(self._space, sampler)


class _Sampler(NSGAIISampler):
    """Optuna's sampler whose joint search space is given, as in `tpe`."""

    def __init__(self, joint: Mapping[str, BaseDistribution], population: int, seed: int) -> None:
        super().__init__(population_size=population, seed=seed)
        self._joint = joint

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return dict(self._joint)


GENERATION = _Sampler._get_generation_key()  # where Optuna keeps a trial's generation
