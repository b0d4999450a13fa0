"""The records, read once: typed, checked for finite numbers, and with what every part of the page needs.

Before it stands `records.py`, after it verdict, plots and page. Missing parts are None or empty, so no
reader has to know which stages ran. It words nothing and draws nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lanewise.intervals import Interval, no_interval
from lanewise.report.records import Records, plain
from lanewise.report.wording import finite

Json = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """One trial; `value` is its best objective, in the metric's natural direction."""

    number: int
    config: Json
    state: str
    reason: str | None
    value: float | None
    epochs: int
    best_epoch: int | None
    curve: list[Mapping[str, Any]]
    control: bool

    def course(self, key: str) -> list[float | None]:
        """One value per epoch of `train/loss` or `valid/<metric>`; None where it is no number."""
        return [finite(row.get(key)) for row in self.curve]


@dataclass(frozen=True)
class Candidate:
    """A contender or baseline; `values` holds the objective in each fold."""

    name: str
    kind: str
    values: list[float | None]

    @property
    def mean(self) -> float | None:
        """Mean over the folds that have a value; None without any."""
        known = [v for v in self.values if v is not None]
        return math.fsum(known) / len(known) if known else None


@dataclass(frozen=True)
class Ramp:
    """One optimiser's range test: S rates, and the loss by rate, nan where training blew up."""

    name: str
    rates: list[float]
    median: list[float]
    low: list[float]
    high: list[float]
    interval: tuple[float, float] | None
    reason: str


@dataclass(frozen=True)
class Range:
    """What a hyperparameter may be: `low` to `high`, or `choices`."""

    name: str
    low: float | None
    high: float | None
    log: bool
    choices: tuple[Any, ...]
    whole: bool

    @property
    def searched(self) -> bool:
        """Whether there is more than one value."""
        return len(self.choices) > 1 or (
            self.low is not None and self.high is not None and self.low < self.high
        )

    def position(self, value: Any) -> float | None:
        """Where a value lies, 0 at low (or the first choice) and 1 at high; None where it has no place."""
        if self.choices:
            places = [i for i, one in enumerate(self.choices) if one == value and type(one) is type(value)]
            places = places or [i for i, one in enumerate(self.choices) if one == value]
            return places[0] / max(len(self.choices) - 1, 1) if places else None
        number = finite(value)
        if number is None or self.low is None or self.high is None or not self.low < self.high:
            return None
        if self.log:
            if number <= 0 or self.low <= 0:
                return None
            return math.log(number / self.low) / math.log(self.high / self.low)
        return (number - self.low) / (self.high - self.low)


class Facts:
    """Everything the report says, read from `Records`.

    Attributes:
        study, dataset, search, evaluation, test, version, curve: the parts as plain dicts, empty if missing.
        timings: stage -> seconds.
        links, environment: as in `Records`.
    """

    def __init__(self, records: Records) -> None:
        self.study = _part(records.study)
        self.dataset = _part(records.dataset)
        self.search = _part(records.search)
        self.evaluation = _part(records.evaluation)
        self.test = _part(records.test)
        self.version = _part(records.version)
        self.curve = _part(records.lr_curve)
        self.timings = {k: s for k, v in _part(records.timings).items() if (s := finite(v)) is not None}
        self.links: dict[str, str] = {k: str(v) for k, v in _part(records.links).items()}
        self.environment: dict[str, str] = {
            k: str(v) for k, v in _part(records.environment).items() if v is not None
        }

    @property
    def name(self) -> str:
        """The study's name."""
        return str(self.study.get("name") or self.version.get("name") or "study")

    @property
    def seed(self) -> int | None:
        """The study's seed."""
        seed = self.study.get("seed")
        return seed if isinstance(seed, int) else None

    @cached_property
    def metric(self) -> str:
        """The objective; empty if no stage named it."""
        for part in (self.evaluation, self.search, self.test, self.dataset):
            if part.get("metric"):
                return str(part["metric"])
        return ""

    @cached_property
    def direction(self) -> str:
        """ "maximize" or "minimize"."""
        for part in (self.evaluation, self.search):
            if part.get("direction"):
                return str(part["direction"])
        return direction_of(self.metric) or "maximize"

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is."""
        return 1 if self.direction == "maximize" else -1

    @property
    def task(self) -> str:
        """ "binary", "multiclass", "regression" or empty."""
        return str(self._target.get("task") or "")

    @property
    def target(self) -> str:
        """Name of the target column, or empty."""
        return str(self._target.get("name") or _part(self.study.get("data")).get("target") or "")

    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes in the order of their codes."""
        return list(self.class_counts)

    @cached_property
    def class_counts(self) -> dict[str, int]:
        """Class -> development rows, in the order of the codes; empty for regression."""
        return {name: int(finite(count) or 0) for name, count in _part(self._target.get("classes")).items()}

    @property
    def _target(self) -> Json:
        return _part(self.dataset.get("target"))

    @cached_property
    def trials(self) -> list[Trial]:
        """All trials by number."""
        return sorted((_trial(t) for t in _parts(self.search.get("trials"))), key=lambda t: t.number)

    @cached_property
    def complete(self) -> list[Trial]:
        """Trials trained to their end with a value, duplicates left out."""
        return [t for t in self.trials if t.state == "complete" and t.value is not None]

    def trial(self, number: int | None) -> Trial | None:
        """The trial of that number."""
        return next((t for t in self.trials if t.number == number), None)

    @cached_property
    def default(self) -> Trial | None:
        """Trial 0."""
        return self.trial(0)

    @cached_property
    def winner(self) -> str:
        """Name of the configuration that goes on: "default", "trial-0042" or empty."""
        if self.evaluation.get("winner"):
            return str(self.evaluation["winner"])
        best = self.best_trial
        return "" if best is None else "default" if best.number == 0 else f"trial-{best.number:04d}"

    @cached_property
    def best_trial(self) -> Trial | None:
        """The best complete trial of the search."""
        named = self.trial(self.search.get("best")) if isinstance(self.search.get("best"), int) else None
        if named is not None and named.state == "complete":
            return named
        return max(self.complete, key=lambda t: (self.sign * (t.value or 0.0), -t.number), default=None)

    @cached_property
    def winning_trial(self) -> Trial | None:
        """The search's record of the winner."""
        if self.winner == "default":
            return self.default
        tail = self.winner.removeprefix("trial-")
        return self.trial(int(tail)) if tail.isdigit() else None

    @cached_property
    def winning_config(self) -> Json:
        """Active hyperparameters of the winner."""
        for candidate in _parts(self.evaluation.get("candidates")):
            if candidate.get("name") == self.winner and candidate.get("config"):
                return _part(candidate["config"])
        return self.winning_trial.config if self.winning_trial else {}

    @cached_property
    def candidates(self) -> list[Candidate]:
        """Contenders and baselines of the cross-validation."""
        return [
            Candidate(
                str(c.get("name") or ""),
                str(c.get("kind") or ""),
                [finite(v) for v in _part(c.get("scores")).get(self.metric) or []],
            )
            for c in _parts(self.evaluation.get("candidates"))
        ]

    def candidate(self, name: str) -> Candidate | None:
        """The candidate of that name."""
        return next((c for c in self.candidates if c.name == name), None)

    @cached_property
    def best_baseline(self) -> Candidate | None:
        """The baseline with the best mean."""
        known = [c for c in self.candidates if c.kind == "baseline" and c.mean is not None]
        return max(known, key=lambda c: self.sign * (c.mean or 0.0), default=None)

    @property
    def over_default(self) -> Interval:
        """Winner minus default over the folds."""
        return interval(self.evaluation.get("winner_minus_default"))

    @property
    def over_baseline(self) -> Interval:
        """Winner minus the best baseline over the folds."""
        return interval(self.evaluation.get("winner_minus_baseline"))

    @property
    def sealed_difference(self) -> Interval:
        """Winner minus default on the sealed rows."""
        return interval(self.test.get("difference"))

    def sealed(self, part: str, metric: str | None = None) -> Interval:
        """A score on the sealed rows; `part` is "scores" or "default_scores"."""
        return interval(_part(self.test.get(part)).get(metric or self.metric))

    @cached_property
    def confusion(self) -> list[list[int]]:
        """Sealed rows by true (row) and predicted class; empty where there is none."""
        rows = self.test.get("confusion") or []
        whole = all(isinstance(row, list) and len(row) == len(rows) for row in rows)
        return [[int(finite(n) or 0) for n in row] for row in rows] if whole else []

    @cached_property
    def ramps(self) -> list[Ramp]:
        """The range test by optimiser."""
        found = [_ramp(name, _part(family)) for name, family in _part(self.curve.get("families")).items()]
        return [ramp for ramp in found if ramp.rates]

    @cached_property
    def ranges(self) -> dict[str, Range]:
        """The searched hyperparameters as they were searched, narrowed where they were."""
        return self._ranges("parameters")

    @cached_property
    def wide_ranges(self) -> dict[str, Range]:
        """The same before the range test narrowed any."""
        return self._ranges("original") or self.ranges

    def _ranges(self, part: str) -> dict[str, Range]:
        found = {
            name: _range(name, _part(r))
            for name, r in _part(_part(self.search.get("space")).get(part)).items()
        }
        return {name: r for name, r in found.items() if r.searched}


def direction_of(metric: str) -> str | None:
    """Direction of a metric by its name; None for an unknown one."""
    from lanewise.metrics import METRICS

    return METRICS[metric].direction if metric in METRICS else None


def interval(value: Any) -> Interval:
    """An interval from its record; without a value where there is none."""
    record = _part(value)
    confidence = finite(record.get("confidence")) or 0.95
    method = str(record.get("method") or "")
    estimate, low, high = (finite(record.get(key)) for key in ("estimate", "low", "high"))
    if low is None or high is None:
        return no_interval(estimate, confidence, method)
    return Interval(estimate, low, high, confidence, method)


def _part(value: Any) -> Json:
    found = plain(value)
    return found if isinstance(found, dict) else {}


def _parts(value: Any) -> list[Json]:
    return [part for part in value or [] if isinstance(part, dict)]


def _ramp(name: str, record: Json) -> Ramp:
    rates = [rate for r in record.get("rates") or [] if (rate := finite(r)) is not None and rate > 0]

    def curve(key: str) -> list[float]:
        values = [math.nan if (found := finite(v)) is None else found for v in record.get(key) or []]
        return values if len(values) == len(rates) else [math.nan] * len(rates)

    ends = [finite(end) for end in record.get("interval") or []]
    interval = (ends[0], ends[1]) if len(ends) == 2 and ends[0] is not None and ends[1] is not None else None
    reason = str(record.get("reason") or "")
    return Ramp(name, rates, curve("median"), curve("low"), curve("high"), interval, reason)


def _trial(record: Json) -> Trial:
    best = record.get("best_epoch")
    return Trial(
        number=int(record.get("number") or 0),
        config=_part(record.get("config")),
        state=str(record.get("state") or "failed"),
        reason=record.get("reason"),
        value=finite(record.get("value")),
        epochs=int(record.get("epochs") or 0),
        best_epoch=best if isinstance(best, int) else None,
        curve=[row for row in record.get("curve") or [] if isinstance(row, Mapping)],
        control=bool(record.get("control")),
    )


def _range(name: str, record: Json) -> Range:
    low, high, step = record.get("low"), record.get("high"), record.get("step")
    return Range(
        name=name,
        low=finite(low),
        high=finite(high),
        log=bool(record.get("log")),
        choices=tuple(record.get("choices") or ()),
        whole=all(isinstance(x, int | None) for x in (low, high, step)),
    )
