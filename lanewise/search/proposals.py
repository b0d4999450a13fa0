"""The configuration of each trial: the default, one enqueued, the strategy's, a control draw, or a duplicate.

Called by the loop, calls a strategy; trains nothing. A proposal is a pure function of the study, the
number and what was asked and told before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from lanewise.parameter import Parameter
from lanewise.search.grid import Grid
from lanewise.search.random import trial_rng
from lanewise.search.records import Strategy, Told
from lanewise.space import Config, Space, enqueued
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
        retry_of: The earlier trial with the same key, which failed; it is trained again, with a seed of its own.
        repeat: It trains the default once more, under another seed, for the noise floor.
    """

    config: Config
    key: str
    control: bool
    duplicate_of: int | None
    retry_of: int | None = None
    repeat: bool = False


class Proposals:
    """Proposes the configurations of one search."""

    def __init__(self, study: Study, space: Space, strategy: Strategy) -> None:
        self._seed, self._space, self._strategy = study.seed, space, strategy
        self._enqueued = enqueued(study, space)
        self.grid = strategy if isinstance(strategy, Grid) else None
        self._defaults = max(1, study.search.noise_seeds)
        narrowed = "lr" in space.parameters and space.parameters["lr"] != space.wide("lr")
        # A control draw would leave a hole in a grid.
        self._control_share = study.lr_range.control_share if narrowed and self.grid is None else 0.0

    def propose(
        self, number: int, history: Sequence[Told], seen: Mapping[str, int], duplicates: int
    ) -> Proposal | None:
        """The configuration of one trial.

        Args:
            number: Trial number; 0 is the default, and so are the next ones up to `search.noise_seeds`.
            history: What the strategy may know.
            seen: Key -> the first trial that had it.
            duplicates: How many trials directly before this one were duplicates.

        Returns:
            None where every configuration of the space has been tried, or the strategy has none at this time.
        """
        if number < self._defaults:
            default = self._space.default()
            return Proposal(default, self._space.key(default), False, None, repeat=number > 0)
        if number < self._defaults + len(self._enqueued):
            return self._proposal(self._enqueued[number - self._defaults], False, seen)
        if self.grid is not None:
            cell = self.grid.ask(number, history)
            return None if cell is None else self._cell(cell, seen)
        if duplicates >= DUPLICATES_IN_A_ROW:
            found = unseen(self._space, self._seed, number, seen)
            return None if found is None else self._proposal(found, False, seen)
        asked = self._strategy.ask(number, history)
        if asked is None:
            return None
        control = "lr" in asked and self.is_control(number)
        if control:
            asked = self._space.active({**asked, "lr": self._wide_lr(number)})
        return self._proposal(asked, control, seen)

    def _cell(self, cell: Config, seen: Mapping[str, int]) -> Proposal:
        """A cell of the grid: it is asked for a second time only where it failed, and then trained again."""
        proposal = self._proposal(cell, False, seen)
        return replace(proposal, duplicate_of=None, retry_of=proposal.duplicate_of)

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
    limit = len(seen) + 1
    for config in islice(space.product(lambda name: _values(space.parameters[name], limit)), limit):
        if space.key(config) not in seen:
            return space.active(config)
    return None


def _values(parameter: Parameter, limit: int) -> Iterable[Value]:
    """Every value; `limit` different ones of a continuous range."""
    every = parameter.every()
    return parameter.spread(max(limit, 2)) if every is None else every
