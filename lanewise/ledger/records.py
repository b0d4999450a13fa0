"""What a ledger keeps of a search, and its rows: nothing here reads or writes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lanewise.space import Config

State = Literal["complete", "pruned", "failed", "duplicate"]

SIZE = "size/"  # before the name of a count in the first report of a trial: `size/parameters`


@dataclass(frozen=True)
class Report:
    """One epoch of one lane.

    Args:
        number: Trial number.
        epoch: Epochs trained so far, from 1.
        train_loss: Mean training loss of the epoch; may be NaN or infinite, which fails the trial.
        scores: `valid/<metric>` -> value, natural direction; NaN where undefined. In a search with several
            objectives the first epoch's has `size/<objective>`, too.
        finished: The lane has trained its last epoch (all of them, or out of patience).
        failed: Why the lane cannot go on, else None.
    """

    number: int
    epoch: int
    train_loss: float
    scores: Mapping[str, float]
    finished: bool = False
    failed: str | None = None


@dataclass(frozen=True)
class TrialRecord:
    """What became of one trial.

    Args:
        value: Best objective over its epochs, natural direction; that of the original for a duplicate;
            None where it failed. Only complete trials compete: a pruned one's value is of a short training.
        epochs: Epochs trained; 0 for a duplicate.
        curve: One mapping for each epoch: `train/loss` and `valid/<metric>`; None for NaN and infinity.
        control: Its learning rate came from the un-narrowed range.
        seconds: Wall-clock time from its first tick to its last, beside its neighbours.
        duplicate_of: The trial with the same configuration, which was trained in its place.
        audited_from: The epoch at which the pruner would have stopped it; it went on as a sample, see
            `search.audit`. For the strategy and the pruner it was stopped there.
    """

    number: int
    config: Config
    seed: int
    state: State
    reason: str | None = None
    value: float | None = None
    epochs: int = 0
    best_epoch: int | None = None
    curve: list[dict[str, float | None]] = field(default_factory=list)
    control: bool = False
    seconds: float = 0.0
    duplicate_of: int | None = None
    audited_from: int | None = None


def size_of(curve: Sequence[Mapping[str, float | None]], objective: str) -> float | None:
    """A trial's value of an objective beside the metric, from its curve; None where it was not reported."""
    return curve[0].get(SIZE + objective) if curve else None


def curve_row(report: Report) -> dict[str, float | None]:
    """One entry of a trial's curve: its training loss and scores, None for what is not finite."""
    return {"train/loss": finite(report.train_loss)} | {k: finite(v) for k, v in report.scores.items()}


def finite(value: float) -> float | None:
    """The value, or None where it is NaN or infinite: those are never stored. -0.0 is 0.0, as in SQLite."""
    return value + 0.0 if math.isfinite(value) else None


@dataclass(frozen=True)
class Reading:
    """What a ledger holds at one moment.

    Args:
        definition: As the study began; see `definition`.
        trials: Every trial that has ended, by number.
        running: Numbers of those that have begun and not ended.
    """

    definition: Mapping[str, Any]
    trials: list[TrialRecord]
    running: list[int]


def trial_row(trial: TrialRecord) -> tuple[Any, ...]:
    """The trial's columns, each of the type it is read back with; its curve is in its reports."""
    return (
        trial.number, json.dumps(trial.config), trial.seed, int(trial.control), trial.state, trial.reason,
        None if trial.value is None else float(trial.value) + 0.0, trial.epochs, trial.best_epoch,
        float(trial.seconds), trial.duplicate_of, trial.audited_from,
    )  # fmt: skip


def start_row(number: int, config: Config, seed: int) -> tuple[Any, ...]:
    """The columns of a trial that has begun."""
    return (number, json.dumps(config), seed, 0, "running", None, None, 0, None, 0.0, None, None)


def trial_of(row: tuple[Any, ...], curve: list[dict[str, float | None]]) -> TrialRecord:
    """A trial from its columns; of its reports later ones may be of a run with more budget."""
    number, config, seed, control, state, reason, value, epochs, best_epoch, seconds, *later = row
    duplicate_of, audited_from = later
    return TrialRecord(
        number, json.loads(config), seed, state, reason, value, epochs, best_epoch, curve[:epochs],
        bool(control), seconds, duplicate_of, audited_from,
    )  # fmt: skip


def report_row(report: Report) -> tuple[Any, ...]:
    """The report's columns; NaN and infinity are None."""
    scores = json.dumps({name: finite(value) for name, value in report.scores.items()}, allow_nan=False)
    loss = finite(report.train_loss)
    return (
        report.number, report.epoch, None if loss is None else float(loss), scores, int(report.finished),
        report.failed,
    )  # fmt: skip


def report_of(row: tuple[Any, ...]) -> Report:
    """A report from its columns; NaN stands for every value that was not finite."""
    number, epoch, train_loss, scores, finished, failed = row
    read = {name: _or_nan(value) for name, value in json.loads(scores).items()}
    return Report(number, epoch, _or_nan(train_loss), read, bool(finished), failed)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
