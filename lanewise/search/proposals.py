"""The configuration of each trial: the default, the strategy's, a control draw, or a known one's duplicate.

Called by the loop, calls a strategy; trains nothing. A proposal is a pure function of the study, the
number and what was asked and told before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from lanewise.parameter import Parameter
from lanewise.search.random import trial_rng
from lanewise.search.records import Strategy, Told
from lanewise.space import Config, Space
from lanewise.study import Study, Value

# A strategy that repeats itself this often is in a small space: it gets an unseen configuration instead.
DUPLICATES_IN_A_ROW = 5
# Random draws before the space is gone through in order; they fail together only where little is left.
UNSEEN_DRAWS = 100


@dataclass(frozen=True)
class Proposal:
    """What a trial shall train.

    Args:
        key: `Space.key` of the configuration.
        control: Its `lr` came from the un-narrowed range.
        duplicate_of: The earlier trial with the same key, which stands for it.
    """

    config: Config
    key: str
    control: bool
    duplicate_of: int | None


class Proposals:
    """Proposes the configurations of one search."""

    def __init__(self, study: Study, space: Space, strategy: Strategy) -> None:
        self._seed, self._space, self._strategy = study.seed, space, strategy
        narrowed = "lr" in space.parameters and space.parameters["lr"] != space.wide("lr")
        self._control_share = study.lr_range.control_share if narrowed else 0.0

    def propose(
        self, number: int, history: Sequence[Told], seen: Mapping[str, int], duplicates: int
    ) -> Proposal | None:
        """The configuration of one trial.

        Args:
            number: Trial number; 0 is the default.
            history: What the strategy may know.
            seen: Key -> the first trial that had it.
            duplicates: How many trials directly before this one were duplicates.

        Returns:
            None where every configuration of the space has been tried.
        """
        if number == 0:
            return self._proposal(self._space.default(), False, seen)
        if duplicates >= DUPLICATES_IN_A_ROW:
            config = unseen(self._space, self._seed, number, seen)
            return None if config is None else self._proposal(config, False, seen)
        config = self._strategy.ask(number, history)
        control = "lr" in config and self.is_control(number)
        if control:
            config = self._space.active({**config, "lr": self._wide_lr(number)})
        return self._proposal(config, control, seen)

    def is_control(self, number: int) -> bool:
        """Whether this trial checks that narrowing `lr` lost nothing; drawn by number, never the default."""
        return number > 0 and trial_rng(self._seed, number, "control").random() < self._control_share

    def _wide_lr(self, number: int) -> Value:
        alone = Space({"lr": self._space.wide("lr").model_copy(update={"when": {}})}, {})
        return alone.sample_uniform(trial_rng(self._seed, number, "control lr"))["lr"]

    def _proposal(self, config: Config, control: bool, seen: Mapping[str, int]) -> Proposal:
        key = self._space.key(config)
        return Proposal(config, key, control, seen.get(key))


def unseen(space: Space, study_seed: int, number: int, seen: Mapping[str, int]) -> Config | None:
    """A configuration nobody asked for yet: a random one if some draws find it, else the first in order.

    Returns:
        None where there is none.
    """
    rng = trial_rng(study_seed, number, "unseen")
    for _ in range(UNSEEN_DRAWS):
        config = space.sample_uniform(rng)
        if space.key(config) not in seen:
            return config
    # One more than the known ones must hold an unknown one, so the walk is never longer than that.
    for config in islice(_every(space, len(seen) + 1), len(seen) + 1):
        if space.key(config) not in seen:
            return config
    return None


def _every(space: Space, limit: int) -> Iterator[Config]:
    """Every configuration once; of a continuous range, `limit` different values."""
    names = tuple(space.parameters)

    def walk(place: int, config: Config) -> Iterator[Config]:
        if place == len(names):
            yield space.active(config)
        elif not space.is_active(names[place], config):
            yield from walk(place + 1, config)
        else:
            for value in _values(space.parameters[names[place]], limit):
                yield from walk(place + 1, {**config, names[place]: value})

    return walk(0, {})


def _values(parameter: Parameter, limit: int) -> Iterator[Value]:
    if parameter.value is not None:
        yield parameter.value
    elif parameter.choices is not None:
        yield from parameter.choices
    elif parameter.low is not None and parameter.high is not None:
        low, high = parameter.low, parameter.high
        step = parameter.step or (1 if parameter.kind == "int" else None)
        count = limit if step is None else round((high - low) / step) + 1
        by = (high - low) / limit if step is None else step
        for position in range(count):
            yield min(low + position * by, high)  # 0.1 + 2 * 0.1 is above 0.3
