"""Optuna's side of a strategy: a study in memory that holds what was told, and the ranges as Optuna has them.

Used by the strategies that ask an Optuna sampler (tpe, gp, cmaes, nsga2). It decides nothing: the sampler does.
Nothing outside this folder knows Optuna.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState, create_trial

from lanewise.parameter import Parameter
from lanewise.pruning import Direction
from lanewise.search.objectives import compared, directions_of
from lanewise.search.records import Told
from lanewise.space import Config, Space
from lanewise.study import Value

_STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


class Ranges:
    """The searched part of a space as Optuna has it.

    Args:
        space: The space, narrowed if it was.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self.all = {name: distribution_of(space.parameters[name]) for name in space.searched()}
        # Those that every trial has; the samplers give them a joint model.
        self.joint = {n: d for n, d in sorted(self.all.items()) if not space.parameters[n].when}

    def hold(self, config: Config) -> bool:
        """Whether every searched value lies in its current range: a control draw need not, nor the default."""
        return all(within(self._space.parameters[n], config[n]) for n in self.all if n in config)

    def of(self, config: Config) -> dict[str, BaseDistribution]:
        """Name -> range of the searched hyperparameters that are active in `config`."""
        return {name: d for name, d in self.all.items() if name in config}


class OptunaStudy:
    """An Optuna study in memory; its trials lie in the order in which they were put in.

    Args:
        direction: Of the metric.
        objectives: Those beside it.
    """

    def __init__(self, direction: Direction, objectives: Sequence[str] = ()) -> None:
        self._objectives = objectives
        self._storage = InMemoryStorage()
        loud = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # it announces every study it makes
        try:
            self._study = optuna.create_study(
                storage=self._storage, directions=directions_of(direction, objectives)
            )
        finally:
            optuna.logging.set_verbosity(loud)
        self._study_id = self._storage.get_study_id_from_name(self._study.study_name)
        self._ids: dict[int, int] = {}  # trial number -> Optuna's id
        self.finished = 0  # complete and pruned ones: what the densities are made of

    def put(
        self,
        trial: Told,
        ranges: Ranges,
        values: Sequence[float] | None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Put in a trial as complete with values of the strategy's own making, or as running without them."""
        active = ranges.of(trial.config)
        template = create_trial(
            state=TrialState.RUNNING if values is None else TrialState.COMPLETE,
            values=values,
            params={name: trial.config[name] for name in active},
            distributions=active,
            system_attrs=dict(attributes or {}),
        )
        self._ids[trial.number] = self._storage.create_new_trial(self._study_id, template_trial=template)

    def finish(self, trial: Told) -> None:
        """Tell the end of a running trial as it was; one that was not put in is passed over."""
        held = self._ids.get(trial.number)
        if held is None:
            return
        if trial.state == "pruned" and trial.value is not None and not self._objectives:
            # The best score up to the rung, by which it was stopped; TPE reads the last value and its epoch.
            self._storage.set_trial_intermediate_value(held, trial.epochs, trial.value)
        values = compared(trial.value, trial.rows, self._objectives) if trial.state == "complete" else None
        lacking = trial.state == "complete" and values is None  # then it has no place beside the others
        self._storage.set_trial_state_values(held, TrialState.FAIL if lacking else _STATES[trial.state], values)
        self.finished += trial.state != "failed"

    def draw(self, space: Space, sampler: BaseSampler) -> Config:
        """Draw one configuration: define-by-run in the space's order, only what is active."""
        self._study.sampler = sampler
        trial = self._study.ask()
        drawn: Config = {}
        for name, parameter in space.parameters.items():
            if space.is_active(name, drawn):
                drawn[name] = _suggest(trial, name, parameter)
        # What is trained comes back with the next history: the draw may be replaced, or asked again. Failed
        # trials are invisible to samplers.
        self._study.tell(trial, state=TrialState.FAIL)
        return space.complete(drawn)


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
