"""The pieces of the facts: trial, candidate, range, ramp, and how each is read from its record.

Used by `facts.py`, and by the plots for their types. A value that is no finite number is None or nan here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lanewise.ledger import size_of
from lanewise.report.records import plain
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
    audited_from: int | None = None

    def course(self, key: str) -> list[float | None]:
        """One value per epoch of `train/loss` or `valid/<metric>`; None where it is no number."""
        return [finite(row.get(key)) for row in self.curve]

    def size(self, objective: str) -> float | None:
        """An objective beside the metric; None where it was not reported."""
        return finite(size_of(self.curve, objective))


@dataclass(frozen=True)
class Candidate:
    """A contender or baseline; `values` holds the objective in each fold that counts."""

    name: str
    kind: str
    values: list[float | None]

    @property
    def mean(self) -> float | None:
        """Mean over the folds; None where one has no value, for then it cannot be compared."""
        known = [v for v in self.values if v is not None]
        return math.fsum(known) / len(known) if known and len(known) == len(self.values) else None


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
    """What a hyperparameter may be: `low` to `high` (in steps of `step`), or `choices`."""

    name: str
    low: float | None
    high: float | None
    log: bool
    choices: tuple[Any, ...]
    whole: bool
    step: float | None = None

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


@dataclass(frozen=True)
class Round:
    """One round of a strategy: its first trial, its ranges, and how often it draws each choice."""

    number: int
    first: int
    ranges: dict[str, Range]
    weights: dict[str, list[float]]


@dataclass(frozen=True)
class Noise:
    """Scores of the default under several seeds, and the difference that seeds alone explain."""

    scores: int
    mean: float
    spread: float
    floor: float
    confidence: float


def mapping(value: Any) -> Json:
    """The value as a plain dict; an empty one where it is none."""
    found = plain(value)
    return found if isinstance(found, dict) else {}


def dicts(value: Any) -> list[Json]:
    """The dicts of a list."""
    return [part for part in value or [] if isinstance(part, dict)]


def read_ramp(name: str, record: Json) -> Ramp:
    """One optimiser's ramp; a curve that does not fit the rates is all nan."""
    rates = [rate for r in record.get("rates") or [] if (rate := finite(r)) is not None and rate > 0]

    def curve(key: str) -> list[float]:
        values = [math.nan if (found := finite(v)) is None else found for v in record.get(key) or []]
        return values if len(values) == len(rates) else [math.nan] * len(rates)

    ends = [finite(end) for end in record.get("interval") or []]
    interval = (ends[0], ends[1]) if len(ends) == 2 and ends[0] is not None and ends[1] is not None else None
    reason = str(record.get("reason") or "")
    return Ramp(name, rates, curve("median"), curve("low"), curve("high"), interval, reason)


def read_trial(record: Json) -> Trial:
    """A `TrialRecord` as JSON."""
    best, audited = record.get("best_epoch"), record.get("audited_from")
    return Trial(
        number=int(record.get("number") or 0),
        config=mapping(record.get("config")),
        state=str(record.get("state") or "failed"),
        reason=record.get("reason"),
        value=finite(record.get("value")),
        epochs=int(record.get("epochs") or 0),
        best_epoch=best if isinstance(best, int) else None,
        curve=[row for row in record.get("curve") or [] if isinstance(row, Mapping)],
        control=bool(record.get("control")),
        audited_from=audited if isinstance(audited, int) else None,
    )


def read_round(record: Json) -> Round:
    """A `Round` of the search as JSON; a range that narrowing left with one value has it at both ends."""
    ranges = {}
    for name, one in mapping(mapping(record.get("space")).get("parameters")).items():
        only = finite(one.get("value"))
        ranges[name] = read_range(name, one if only is None else {"low": one["value"], "high": one["value"]})
    return Round(
        number=int(finite(record.get("number")) or 0),
        first=int(finite(record.get("first")) or 0),
        ranges=ranges,
        weights={n: [finite(w) or 0.0 for w in ws] for n, ws in mapping(record.get("weights")).items()},
    )


def read_noise(record: Json) -> Noise | None:
    """A `NoiseFloor` as JSON; None where a number is missing."""
    mean, spread, floor, confidence = (finite(record.get(k)) for k in ("mean", "spread", "floor", "confidence"))
    if mean is None or spread is None or floor is None or confidence is None:
        return None
    return Noise(int(finite(record.get("scores")) or 0), mean, spread, floor, confidence)


def read_range(name: str, record: Json) -> Range:
    """A `Parameter` as JSON."""
    low, high, step = record.get("low"), record.get("high"), record.get("step")
    return Range(
        name=name,
        low=finite(low),
        high=finite(high),
        log=bool(record.get("log")),
        choices=tuple(record.get("choices") or ()),
        whole=all(isinstance(x, int | None) for x in (low, high, step)),
        step=finite(step),
    )
