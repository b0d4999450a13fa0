"""Bayesian optimisation with a Gaussian process, by Optuna; asked by the loop, knows results by its history only.

Every answer comes from a model fitted anew to the history, so it does not depend on what was asked before.

Sources: Snoek et al. 2012, "Practical Bayesian Optimization of Machine Learning Algorithms", NeurIPS; expected
improvement in logarithms, and of a batch with the trials that run: Ament et al. 2023, "Unexpected Improvements to
Expected Improvement for Bayesian Optimization", NeurIPS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import GPSampler, TPESampler
from optuna.trial import FrozenTrial

from lanewise.pruning import Direction
from lanewise.search.optuna_study import OptunaStudy, Ranges
from lanewise.search.random import RandomSearch, trial_seed
from lanewise.search.records import Told
from lanewise.space import Config, Space
from lanewise.study import Study


class GaussianProcess:
    """Largest expected improvement, in a Gaussian process over the hyperparameters that have no condition.

    The first `search.startup` results come from random search. A trial that runs counts with all values that the
    model holds possible, so the next one keeps away from it. A hyperparameter with a condition is drawn by TPE,
    given its parents. A pruned trial counts with the score it was stopped by, a failed one as the worst. A
    trial outside the current space is not told.
    """

    def __init__(self, study: Study, space: Space, direction: Direction) -> None:
        self._seed, self._startup = study.seed, study.search.startup
        self._sign = -1.0 if direction == "maximize" else 1.0
        self._space, self._ranges = space, Ranges(space)
        self._random = RandomSearch(study, space, direction)

    def ask(self, number: int, history: Sequence[Told]) -> Config:
        """The configuration from which the model of `history` expects the largest improvement."""
        inside = [trial for trial in history if self._ranges.hold(trial.config)]
        losses = losses_of(inside, self._sign)
        results = sum(trial.number in losses and trial.state != "failed" for trial in inside)
        if not self._ranges.all or results < self._startup:
            return self._random.ask(number, history)
        memory = OptunaStudy("minimize")
        for trial in inside:
            loss = losses.get(trial.number)
            memory.put(trial, self._ranges, None if loss is None else [loss])
        return memory.draw(self._space, _Sampler(self._ranges.joint, trial_seed(self._seed, number, "gp")))


def losses_of(history: Sequence[Told], sign: float) -> dict[int, float]:
    """What the model is fitted to: number of every trial that has ended -> loss.

    Args:
        history: Trials of all states.
        sign: 1 where smaller values are better, else -1.
    """
    found = {t.number: sign * t.value for t in history if t.state != "running" and t.value is not None}
    worst = max(found.values(), default=0.0)
    found |= {t.number: worst for t in history if t.state == "failed"}
    if not found:
        return {}
    warped = half_ranked(np.array([found[number] for number in sorted(found)]))
    return dict(zip(sorted(found), warped.tolist(), strict=True))


def half_ranked(losses: np.ndarray) -> np.ndarray:
    """Losses whose worse half is drawn in: networks diverge, and one loss of 1e6 would make all others equal.

    The better half stays. A loss above the median becomes median + s * q, q the normal quantile of its rank and
    s the root mean square distance of the better half from the median.

    Source: half-rank warping in Song et al. 2024, "The Vizier Gaussian Process Bandit Algorithm".

    Args:
        losses: [n], smaller is better.
    """
    from scipy.stats import norm, rankdata  # takes a second, which other strategies need not wait

    middle = float(np.median(losses))
    worse = losses > middle
    spread = float(np.sqrt(np.mean((losses[~worse] - middle) ** 2))) or 1.0  # all good ones may be equal
    quantiles = norm.ppf((rankdata(losses) - 0.5) / len(losses))
    return np.where(worse, middle + spread * quantiles, losses)


class _Sampler(GPSampler):
    """Optuna's sampler whose joint search space is given, as in `tpe`."""

    def __init__(self, joint: Mapping[str, BaseDistribution], seed: int) -> None:
        conditional = TPESampler(multivariate=True, constant_liar=True, seed=seed, n_startup_trials=0)
        super().__init__(
            seed=seed, independent_sampler=conditional, n_startup_trials=0, warn_independent_sampling=False
        )
        self._joint = joint

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return dict(self._joint)
