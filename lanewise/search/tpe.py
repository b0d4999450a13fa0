"""Tree-structured Parzen estimator, by Optuna; asked by the loop, told results only through its history.

Optuna is driven by ask and tell on a study in memory. That study is a cache of the history, so an answer
does not depend on what was asked before. Nothing outside this folder knows Optuna.

Source: Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization", NeurIPS; multivariate form:
Falkner et al. 2018, "BOHB", ICML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from lanewise.parameter import Parameter
from lanewise.pruning import Direction
from lanewise.search.random import RandomSearch, trial_seed
from lanewise.search.records import Told
from lanewise.space import Config, Space
from lanewise.study import Study, Value

_STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


class TPE:
    """TPE over all searched hyperparameters at once; running trials count as bad (constant liar).

    The first `search.startup` results come from random search. Conditional hyperparameters are drawn one
    by one, given their parents. A trial outside the current space (a control draw, or a default outside
    a narrowed range) is not told: it has no place in the densities.
    """

    def __init__(self, study: Study, space: Space, direction: Direction) -> None:
        self._seed, self._startup, self._direction = study.seed, study.search.startup, direction
        self._space = space
        self._random = RandomSearch(study, space, direction)
        self._distributions = {name: distribution_of(space.parameters[name]) for name in space.searched()}
        self._joint = {n: d for n, d in sorted(self._distributions.items()) if not space.parameters[n].when}
        self._told: list[Told] = []
        self._memory = _Memory(direction)

    def ask(self, number: int, history: Sequence[Told]) -> Config:
        """Draw from the densities of the good and the bad trials in `history`."""
        self._learn(history)
        if not self._distributions or self._memory.finished < self._startup:
            return self._random.ask(number, history)
        return self._space.complete(
            self._memory.draw(self._space, _Sampler(self._joint, trial_seed(self._seed, number, "tpe")))
        )

    def _learn(self, history: Sequence[Told]) -> None:
        """Bring Optuna's study up to `history`; begin anew where it is not a continuation."""
        before = self._told
        if len(history) < len(before) or not all(map(_continues, before, history)):
            before, self._memory = [], _Memory(self._direction)
        for place, trial in enumerate(history):
            known = before[place] if place < len(before) else None
            if known is None and self._has_place(trial.config):
                self._memory.start(trial, self._distributions)
            if trial.state != "running" and (known is None or known.state == "running"):
                self._memory.finish(trial)
        self._told = list(history)

    def _has_place(self, config: Config) -> bool:
        """Whether every searched value lies in its current range."""
        return all(
            within(self._space.parameters[name], config[name])
            for name in self._distributions
            if name in config
        )


class _Memory:
    """An Optuna study in memory that holds the told trials in the order of their numbers."""

    def __init__(self, direction: Direction) -> None:
        self._storage = InMemoryStorage()
        loud = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # it announces every study it makes
        try:
            self._study = optuna.create_study(storage=self._storage, direction=direction)
        finally:
            optuna.logging.set_verbosity(loud)
        self._study_id = self._storage.get_study_id_from_name(self._study.study_name)
        self._ids: dict[int, int] = {}  # trial number -> Optuna's id
        self.finished = 0  # complete and pruned ones: what the densities are made of

    def start(self, trial: Told, distributions: Mapping[str, BaseDistribution]) -> None:
        active = {name: d for name, d in distributions.items() if name in trial.config}
        template = create_trial(
            state=TrialState.RUNNING,
            params={name: trial.config[name] for name in active},
            distributions=active,
        )
        self._ids[trial.number] = self._storage.create_new_trial(self._study_id, template_trial=template)

    def finish(self, trial: Told) -> None:
        """Tell the end of a trial; one that has no place in the space was not started and is passed over."""
        held = self._ids.get(trial.number)
        if held is None:
            return
        if trial.state == "pruned" and trial.value is not None:
            # The best score up to the rung, by which it was stopped; TPE reads the last value and its epoch.
            self._storage.set_trial_intermediate_value(held, trial.epochs, trial.value)
        values = [trial.value] if trial.state == "complete" and trial.value is not None else None
        self._storage.set_trial_state_values(held, _STATES[trial.state], values)
        self.finished += trial.state != "failed"

    def draw(self, space: Space, sampler: TPESampler) -> Config:
        """Draw one configuration: define-by-run in the space's order, only what is active."""
        self._study.sampler = sampler
        trial = self._study.ask()
        drawn: Config = {}
        for name, parameter in space.parameters.items():
            if space.is_active(name, drawn):
                drawn[name] = _suggest(trial, name, parameter)
        # What is trained comes back with the next history: the draw may be replaced, or asked again. Failed
        # trials are invisible to TPE.
        self._study.tell(trial, state=TrialState.FAIL)
        return drawn


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


def distribution_of(parameter: Parameter) -> BaseDistribution:
    """A searched range as Optuna has it."""
    if parameter.choices is not None:
        return CategoricalDistribution(parameter.choices)
    assert parameter.low is not None and parameter.high is not None  # searched, so choices or a range
    if parameter.kind == "int":
        step = 1 if parameter.step is None else int(parameter.step)
        return IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log, step=step)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def _suggest(trial: optuna.Trial, name: str, parameter: Parameter) -> Value:
    if parameter.value is not None:
        return parameter.value
    distribution = distribution_of(parameter)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    if isinstance(distribution, FloatDistribution):
        return trial.suggest_float(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    chosen = trial.suggest_categorical(name, parameter.choices or ())
    assert chosen is not None  # the study has no empty choices
    return chosen


def within(parameter: Parameter, value: Value) -> bool:
    """Whether a value lies in a range or among its choices."""
    if parameter.low is None or parameter.high is None:
        return any(
            value == c and isinstance(value, bool) == isinstance(c, bool) for c in parameter.choices or ()
        )
    return not isinstance(value, str) and parameter.low <= value <= parameter.high
