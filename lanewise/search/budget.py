"""When a search has had enough: trials, epochs, seconds, or no progress; asked by the loop at ticks.

Trials and epochs are counted, so a search ends at the same tick on every machine; seconds are wall-clock
time, the only budget whose result depends on the machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lanewise.ledger import TrialRecord
from lanewise.pruning import Direction
from lanewise.study import Search

_SPENT = "the budget of "


def cut_off(trial: TrialRecord) -> bool:
    """Whether a trial was stopped because a budget was spent: with a larger one it would have gone on."""
    return trial.state == "pruned" and (trial.reason or "").startswith(_SPENT)


@dataclass(frozen=True)
class Budget:
    """The budgets of a study; None: no limit.

    Args:
        trials: Trials asked, duplicates included.
        epochs: Epochs trained, over all trials; never exceeded, but to let one trial complete.
        seconds: Wall-clock time; looked at between ticks, so exceeded by up to one.
        planned: Trials that are asked for where their number is no budget: those of a grid.
    """

    trials: int | None
    epochs: int | None
    seconds: float | None
    planned: int | None = None

    @classmethod
    def of(cls, search: Search, planned: int | None = None) -> Budget:
        """The budgets of the study's `search` section; of a grid, which fits into its trials, `planned` counts."""
        return cls(None if planned is not None else search.trials, search.epochs, search.seconds, planned)

    @property
    def expected(self) -> int | None:
        """How many trials there will be, as far as that can be said."""
        return self.trials if self.planned is None else self.planned

    def another_trial(self, asked: int) -> bool:
        """Whether the number of trials leaves room for one more."""
        return self.trials is None or asked < self.trials

    def spent_by(self, running: int, epochs: int, seconds: float) -> str | None:
        """Which budget one more epoch of `running` trials would exceed, in words."""
        if self.epochs is not None and epochs + running > self.epochs:
            return f"{_SPENT}{self.epochs} epochs is spent"
        if self.seconds is not None and seconds >= self.seconds:
            return f"{_SPENT}{self.seconds:g} seconds is spent"
        return None

    def share(self, trials: float, epochs: int, seconds: float) -> float:
        """Share of the budget that is spent, 0 to 1, by the budget that is furthest spent.

        Args:
            trials: Trials done, running ones by their share of a full training.
        """
        pairs = ((trials, self.expected), (epochs, self.epochs), (seconds, self.seconds))
        return min(1.0, max((spent / limit for spent, limit in pairs if limit), default=0.0))


def stalled(values: Sequence[float | None], direction: Direction, floor: float, patience: int) -> bool:
    """Whether the last `patience` trials brought no progress; 0: never.

    Progress is a value better than that of the last progress by more than the floor, so small steps count
    when they add up.

    Args:
        values: Best objective of each trial in the order in which they ended; None where it failed.
        direction: Whether higher or lower values are better.
        floor: Largest difference that is noise.
        patience: Trials.
    """
    sign, best, since = (-1.0 if direction == "maximize" else 1.0), math.inf, 0
    for value in values:
        if value is not None and sign * value < best - floor:
            best, since = sign * value, 0
        else:
            since += 1
    return 0 < patience <= since
