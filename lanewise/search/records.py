"""What passes between the search, its strategies, its trainer and its consumer; plain values only.

Reports and trial records, which are also the rows of the ledger, come from `lanewise.ledger`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from lanewise.ledger import Report, TrialRecord
from lanewise.noise import NoiseFloor
from lanewise.pruning import Direction
from lanewise.space import Config


@dataclass(frozen=True)
class LaneRequest:
    """A trial that wants a lane.

    Args:
        number: Trial number.
        config: Every active hyperparameter, fixed ones included.
        seed: Of initialisation, shuffling and dropout of this trial, below 2**32.
        epochs: Longest training.
        patience: Epochs without a better objective after which it ends; 0: off.
        slopes: Hyperparameters by which its reports carry the derivative of the validation loss (`hyper/NAME`).
    """

    number: int
    config: Config
    seed: int
    epochs: int
    patience: int
    slopes: tuple[str, ...] = ()


class Trainer(Protocol):
    """What the search needs of an engine.

    A lane's reports depend on its request only, never on its neighbours. What goes wrong in one lane is
    said in its report (`failed`); an exception ends the search. A lane stays occupied until `drop`, also
    after its last report.
    """

    @property
    def active(self) -> int:
        """Number of occupied lanes."""
        ...

    def free(self, request: LaneRequest) -> bool:
        """Whether there is an empty lane for this trial; depends on the occupied lanes only."""
        ...

    def saved(self, request: LaneRequest, at_most: int) -> int:
        """Epochs from which this trial can go on, of a checkpoint not past `at_most`; 0 where there is none."""
        ...

    def add(self, request: LaneRequest, epoch: int = 0) -> None:
        """Put the trial into an empty lane; with an epoch that `saved` named, as it stood after it."""
        ...

    def keep(self, *, at_rung: bool, stopping: bool) -> None:
        """Write down where the lanes stand, if it is time; called between ticks, the last one in the ledger.

        Args:
            at_rung: Trials were stopped in this tick.
            stopping: The search is going to be stopped now, so it is time.
        """
        ...

    def tick(self) -> Sequence[Report]:
        """Train one epoch of every occupied lane; one report for each."""
        ...

    def drop(self, number: int) -> None:
        """Empty the trial's lane."""
        ...


@dataclass(frozen=True)
class Told:
    """What a strategy may know of one trial.

    Args:
        value: Best objective so far, natural direction; None while there is none or where it failed.
        epochs: Epochs trained so far.
        curve: Objective by epoch.
        begun: Ticks of the search before its first epoch. A tick trains an epoch of every lane, so the trial
            had ended, or will be at this epoch, after `begun + epochs` ticks.
        rows: All that was reported, by epoch; None for what was not finite.
    """

    number: int
    config: Config
    state: Literal["running", "complete", "pruned", "failed"]
    value: float | None
    epochs: int
    curve: tuple[float, ...]
    begun: int = 0
    rows: Sequence[Mapping[str, float | None]] = ()


class Strategy(Protocol):
    """Proposes configurations."""

    def ask(self, number: int, history: Sequence[Told]) -> Config | None:
        """The configuration of a trial: a pure function of the study, `number` and `history`.

        It may be asked for one number more than once, each time with a longer history; only the last
        answer is trained. What a strategy remembers between two calls may only save time. None where there
        is nothing left to try: the search ends when its running trials have.

        Args:
            number: Trial number, from 1 (trial 0 is the default).
            history: The trials asked before, by number, without duplicates of others; running ones too. Trials
                of earlier studies come first, with numbers below 0.
        """
        ...


@dataclass(frozen=True)
class Round:
    """What a strategy in rounds drew from in one of them.

    Args:
        number: 0 is the round that draws from the space of the search.
        tick: Ticks of the search before it.
        first: Number of its first trial.
        trials: Number of its trials, duplicates left out.
        space: As JSON.
        weights: Hyperparameter -> how often each of its choices is drawn, in their order; those that are not
            named are drawn alike.
    """

    number: int
    tick: int
    first: int
    trials: int
    space: Mapping[str, Any] = field(repr=False)
    weights: Mapping[str, Sequence[float]]


@runtime_checkable
class FollowsSlopes(Protocol):
    """A strategy that needs derivatives of the validation loss in the reports (engine/hypergradient.py)."""

    slopes: tuple[str, ...]


@runtime_checkable
class InRounds(Protocol):
    """A strategy whose space changes from round to round."""

    def rounds(self, history: Sequence[Told]) -> tuple[Round, ...]:
        """The rounds in which at least one trial of `history` was asked for; pure, as `Strategy.ask`."""
        ...


@dataclass(frozen=True)
class Progress:
    """Where the search stands after a tick, and what happened in it.

    Args:
        done: Trials trained to their end.
        best_number: Trial with the best score seen so far, running and pruned ones included: a display.
            The result counts complete trials only.
        epochs_spent: Epochs trained, over all trials.
        epochs_full: What the trials of this search would take without pruning: a trial that ended by itself
            counts what it took, every other one (pruned, running, or still to be asked) a full training.
        eta_s: Estimated seconds to the end, None before there is an estimate.
        started: (number, configuration, seed) of the trials that began in this tick.
        reports: Its reports, by trial number.
        ended: The trials that ended in it, duplicates included, by number.
        replayed: Nothing was trained in this tick: a resumed search repeats what its ledger holds.
    """

    done: int
    pruned: int
    failed: int
    duplicates: int
    running: int
    best_number: int | None
    best_value: float | None
    epochs_spent: int
    epochs_full: int
    ticks: int
    elapsed_s: float
    eta_s: float | None
    started: tuple[tuple[int, Config, int], ...] = ()
    reports: tuple[Report, ...] = ()
    ended: tuple[TrialRecord, ...] = ()
    replayed: bool = False


CellState = Literal["done", "pruned", "retrying", "impossible", "missing"]


@dataclass(frozen=True)
class Cell:
    """One cell of a grid.

    Args:
        config: Every active hyperparameter, fixed ones included.
        state: `done`: trained to its end. `pruned`: stopped because it was behind. `retrying`: it failed, and is
            to be trained again. `impossible`: it failed every time. `missing`: not tried, still running, or cut
            off by a budget.
        trials: Numbers of the trials that trained it and ended, first to last.
        value: Of the last one; None where it failed or there is none.
        reason: Why the last one was pruned or failed.
    """

    config: Config
    state: CellState
    trials: tuple[int, ...] = ()
    value: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Improvement:
    """A complete trial that was better than all complete trials before it, and what had been spent by then.

    Args:
        ticks: Of the search.
        epochs: Summed over all trials.
        seconds: Of the search.
        trial: Its number.
        value: Its objective.
    """

    ticks: int
    epochs: int
    seconds: float
    trial: int
    value: float


@dataclass(frozen=True)
class Missed:
    """How many of the trials that the pruner dropped would have been among the best; see `search.audit`.

    Args:
        best: Among how many: they beat the trial of this rank among those that were never dropped.
        bar: The score of that trial.
        seen: How many of the audited trials did.
        low: Fewest of all dropped trials that agree with what was seen, at the confidence of the audit.
        high: Most of them.
    """

    best: int
    bar: float
    seen: int
    low: int
    high: int


@dataclass(frozen=True)
class RungRanks:
    """How well the scores at a rung rank the trials as they end.

    Args:
        epoch: Of the rung.
        tau: Kendall's tau-b, an estimate for all trials as if none had been dropped: 1 is the same order,
            0 no relation. Of two trials without equal scores, a share of (1 + tau) / 2 ends in the order of the rung.
        trials: From how many.
    """

    epoch: int
    tau: float
    trials: int


@dataclass(frozen=True)
class Audit:
    """What the trials that went on in spite of the pruner say of it.

    Args:
        share: Of the dropped trials that is drawn.
        confidence: Of the intervals.
        dropped: Trials that the pruner stopped or would have stopped, but for `late`.
        audited: Those of them that were drawn; they were trained on to their end.
        late: Dropped trials that do not count, drawn or not: they began when the budget had no whole training left.
        missed: One for each number of best trials that is looked at.
        rungs: By epoch; empty where too little was trained on.
        cost: Epochs that audited trials trained after their stop.
        saved: Estimated epochs that the other dropped trials would have trained; None where none was audited.
    """

    share: float
    confidence: float
    dropped: int
    audited: int
    late: int
    missed: tuple[Missed, ...]
    rungs: tuple[RungRanks, ...]
    cost: int
    saved: int | None


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Args:
        metric: The objective, resolved.
        trials: Every trial by number, duplicates included.
        best: Number of the best complete trial that is no repeat; of equal ones the first, with several objectives
            the smallest.
        epochs_spent: Epochs trained, over all trials; those trained again after a crash count once.
        epochs_full: As in `Progress`.
        seconds: Wall-clock time of searching, over all runs that took part.
        lanes: Most trials that trained side by side.
        space: The space searched, as JSON.
        ending: Why it ended, in words.
        rounds: Of a strategy in rounds, every one of them.
        grid: What became of every cell of a grid; None for other strategies.
        repeats: Numbers of the trials that trained the default once more; they do not compete.
        noise: What the default's seeds say; None where it has too few scores.
        audit: What the audit says of the pruner; None where there is none.
        improvements: When the best complete trial changed, the first one among them; in the order of ticks.
        earlier: Trials of earlier studies that the strategy was told before its own.
        chosen: Which strategy `auto` became, and why; None where the study names one.
        pretrained: What was taken of pretrained weights and how they narrowed the space, in sentences.
        objectives: Those beside the metric, each to be small; a trial has them in its curve (`ledger.size_of`).
        front: With `objectives`, the numbers of the trials that no other one dominates, best by the metric first.
    """

    metric: str
    direction: Direction
    trials: tuple[TrialRecord, ...]
    best: int
    epochs_spent: int
    epochs_full: int
    seconds: float
    lanes: int
    strategy: str
    space: Mapping[str, Any] = field(repr=False)
    ending: str
    rounds: tuple[Round, ...] = ()
    grid: tuple[Cell, ...] | None = None
    repeats: tuple[int, ...] = ()
    noise: NoiseFloor | None = None
    audit: Audit | None = None
    improvements: tuple[Improvement, ...] = ()
    earlier: int = 0
    chosen: str | None = None
    pretrained: tuple[str, ...] = ()
    objectives: tuple[str, ...] = ()
    front: tuple[int, ...] = ()
