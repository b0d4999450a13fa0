"""The hyperparameters of one study with their ranges; made from study and network, before the data is used.

A `Space` holds every hyperparameter, fixed ones too, parents before children. It knows which are active,
what the default is, and which configurations are the same. It is a value: `narrow` and `widen` return a
new one. It draws uniformly, but proposes nothing else: strategies live in search/.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lanewise import space_rules as rules
from lanewise.errors import StudyError
from lanewise.parameter import Parameter, same
from lanewise.study import Study, Value, training_defaults
from lanewise.training import LATER, TRANSFER

Config = dict[str, Value]


@dataclass(frozen=True)
class Space:
    """Hyperparameters, parents before children.

    Args:
        parameters: Name -> current range, narrowed where `narrow` was called. A `when` names other
            parameters of the same space.
        defaults: Name -> the default; where it lies outside the range, the nearest legal value takes its
            place, and where it is missing, the middle.
        original: Name -> the range before narrowing, where it differs.

    Raises:
        StudyError: A `when` names an unknown parameter, or conditions form a cycle.
    """

    parameters: Mapping[str, Parameter]
    defaults: Mapping[str, Value]
    original: Mapping[str, Parameter] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ordered = {name: self.parameters[name] for name in rules.parents_first(self.parameters)}
        original = {name: self.original.get(name, parameter) for name, parameter in ordered.items()}
        defaults = {
            name: wide.nearest(self.defaults[name]) if name in self.defaults else wide.middle()
            for name, wide in original.items()
        }
        for name, value in (("parameters", ordered), ("original", original), ("defaults", defaults)):
            object.__setattr__(self, name, value)

    def default(self, given: Mapping[str, Value] | None = None) -> Config:
        """The default configuration: what trial 0 trains. Narrowing does not change it.

        Args:
            given: Values that take the place of defaults, such as another optimizer; what becomes active
                with them is at its default too.
        """
        return self.active({**self.defaults, **(given or {})})

    def searched(self) -> tuple[str, ...]:
        """Names with more than one possible value that can be active, parents before children."""
        reachable = rules.reachable(self.original)
        return tuple(name for name, p in self.parameters.items() if p.kind != "fixed" and name in reachable)

    def wide(self, name: str) -> Parameter:
        """The range of `name` before narrowing."""
        self._known(name)
        return self.original[name]

    def is_active(self, name: str, config: Mapping[str, Value]) -> bool:
        """Whether `name` has an effect next to the values in `config`, which holds its active parents."""
        self._known(name)
        return all(
            parent in config and any(same(config[parent], value) for value in values)
            for parent, values in self.parameters[name].when.items()
        )

    def active(self, config: Mapping[str, Value]) -> Config:
        """Return `config` in the space's order and spelling, without hyperparameters that have no effect.

        Raises:
            StudyError: It holds a name that is not in the space.
        """
        for name in config:
            self._known(name)
        kept: Config = {}
        for name, wide in self.original.items():
            if name in config and self.is_active(name, kept):
                kept[name] = wide.canonical(config[name])
        return kept

    def complete(self, values: Mapping[str, Value]) -> Config:
        """Return the configuration of the drawn `values`: fixed hyperparameters added, inactive ones dropped.

        Raises:
            StudyError: An active hyperparameter has no value, or a name is unknown.
        """
        fixed = {name: p.value for name, p in self.parameters.items() if p.value is not None}
        config = self.active({**fixed, **values})
        for name in self.parameters:
            if name not in config and self.is_active(name, config):
                raise StudyError("a configuration lacks a value", where=name, rule="active ones have a value")
        return config

    def key(self, config: Mapping[str, Value]) -> str:
        """Canonical JSON of the active part: two configurations that train the same have the same key."""
        return json.dumps(self.active(config), sort_keys=True, separators=(",", ":"), allow_nan=False)

    def contains(self, config: Mapping[str, Value]) -> bool:
        """Whether every active hyperparameter has a legal value, by the un-narrowed ranges.

        Values of inactive hyperparameters do not matter; unknown names do.
        """
        if any(name not in self.original for name in config):
            return False
        active = self.active(config)
        return all(
            name in active and wide.legal(active[name])
            for name, wide in self.original.items()
            if self.is_active(name, active)
        )

    def narrow(self, name: str, low: float, high: float) -> Space:
        """Return the space with the current range of `name` cut to low..high (to whole steps).

        Raises:
            StudyError: `name` is no range, or nothing of its range is left.
        """
        wide = self._range(name)
        first, last = self.parameters[name].bounds
        return self._with(name, wide.cut(max(low, first), min(high, last)), low, high)

    def widen(self, name: str, factor: float) -> Space:
        """Return the space with the range of `name` grown by `factor` >= 1, at most to its original bounds.

        A logarithmic range becomes low / factor .. high * factor; any other becomes `factor` times as
        long about its middle.

        Raises:
            StudyError: `name` is no range, or the factor is below 1.
        """
        wide = self._range(name)
        if not (math.isfinite(factor) and factor >= 1):
            raise StudyError("a range cannot be widened so", where=name, given=factor, rule="factor >= 1")
        low, high = self.parameters[name].bounds
        by = (high - low) * (factor - 1) / 2
        low, high = (low / factor, high * factor) if wide.log else (low - by, high + by)
        return self._with(name, wide.cut(low, high), low, high)

    def sample_uniform(self, rng: np.random.Generator, *, wide: bool = False) -> Config:
        """Draw one configuration, every hyperparameter independently and uniformly on its scale.

        Args:
            rng: Every hyperparameter draws from it once, active or not, so that draws do not shift.
            wide: Draw from the un-narrowed ranges, for control trials.
        """
        ranges = self.original if wide else self.parameters
        return self.active({name: parameter.draw(rng) for name, parameter in ranges.items()})

    def at(self, shares: Mapping[str, float]) -> Config:
        """The configuration at a place of the unit cube.

        Args:
            shares: Name of each searched hyperparameter, active or not -> place on its scale, 0 <= place < 1.
        """
        places = dict.fromkeys(self.parameters, 0.0) | dict(shares)
        return self.active({name: p.at(places[name]) for name, p in self.parameters.items()})

    def product(
        self, values: Callable[[str], Iterable[Value]], names: Collection[str] | None = None
    ) -> Iterator[Config]:
        """Every combination of values once, the last name changing fastest; inactive names have none.

        Args:
            values: Name -> the values of this parameter, none twice, in its own spelling.
            names: Those that take part, with all that their conditions name; None: all.
        """
        taking_part = [name for name in self.parameters if names is None or name in names]

        def walk(place: int, config: Config) -> Iterator[Config]:
            if place == len(taking_part):
                yield config
            elif not self.is_active(taking_part[place], config):
                yield from walk(place + 1, config)
            else:
                for value in values(taking_part[place]):
                    yield from walk(place + 1, {**config, taking_part[place]: value})

        return walk(0, {})

    def to_json(self) -> dict[str, Any]:
        """The space as plain JSON values; `from_json` gives the equal space back."""
        plain: dict[str, Any] = {
            part: {name: p.model_dump(mode="json", exclude_defaults=True) for name, p in ranges.items()}
            for part, ranges in (("parameters", self.parameters), ("original", self.original))
        }
        return {**plain, "defaults": dict(self.defaults)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Space:
        """The space that `to_json` wrote."""
        parameters, original = (
            {name: Parameter.model_validate(p) for name, p in data[part].items()}
            for part in ("parameters", "original")
        )
        return cls(parameters, data["defaults"], original)

    def _known(self, name: str) -> None:
        if name not in self.original:
            raise rules.unknown(name, self.original, None)

    def _range(self, name: str) -> Parameter:
        wide = self.wide(name)
        if wide.listed:
            raise StudyError(
                "only a range can be narrowed or widened", where=name, given=wide.text(),
                remedy=f"give `{name}` low and high, or leave it as it is",
            )  # fmt: skip
        return wide

    def _with(self, name: str, parameter: Parameter | None, low: float, high: float) -> Space:
        if parameter is None:
            raise StudyError(
                "nothing is left of the range", where=name, given=f"{low:g} .. {high:g}",
                rule=f"it overlaps {self.parameters[name].text()}", remedy=f"change the range of `{name}`",
            )  # fmt: skip
        return replace(self, parameters={**self.parameters, name: parameter})


def build_space(
    study: Study, network_space: Mapping[str, Any], network_defaults: Mapping[str, Value]
) -> Space:
    """Put together the hyperparameters of training, of the network, and what the study says of them.

    The study wins over the network's ranges, and these over fixed defaults. Conditions add up: one given
    by the study is joined with those of the network and of `TRAINING_WHEN`.

    Args:
        study: The study.
        network_space: The network's own ranges, in the forms of the study file.
        network_defaults: Name -> default of each of the network's hyperparameters.

    Raises:
        StudyError: The study's `space` names something unknown, of a wrong type, out of bounds, without
            effect or in a cycle; with the line of the file.
        ModelError: The network's own space is wrong.
    """
    args = study.model.args
    own_defaults = {name: value for name, value in network_defaults.items() if name not in args}
    own = rules.network_ranges(study.model.name, network_space, own_defaults, args)
    first = training_defaults()
    later = {name: first.pop(name) for name in LATER}
    transfer = {name: first.pop(name) for name in TRANSFER}
    defaults: Config = {**first, **own_defaults, **later, **(transfer if study.model.pretrained else {})}
    rules.check_names(study, defaults)
    merged: dict[str, Parameter] = {}
    for name, default in defaults.items():
        inherited = rules.inherited(study, name, own, default)
        parameter = rules.fit(study, name, study.space.get(name, inherited), default)
        merged[name] = rules.join(study, name, parameter, inherited)
    merged = rules.without_constants(study, merged)
    rules.check_conditions(study, merged)
    space = Space(merged, defaults)
    enqueued(study, space)
    return space


def enqueued(study: Study, space: Space) -> tuple[Config, ...]:
    """The configurations of `search.enqueue`; what they leave out is at its default.

    Raises:
        StudyError: One names something unknown, without effect beside the others, or has a value outside the
            declared range; with the line of the file.
    """
    found = []
    for place, entry in enumerate(study.search.enqueue):
        values = {name: rules.enqueued_value(study, place, name, space.original) for name in entry}
        config = space.default(values)
        for name in values:
            if name not in config:
                raise rules.no_effect_enqueued(study, place, name, space.parameters, config)
        found.append(config)
    return tuple(found)
