"""The records, read once: typed, checked for finite numbers, and with what every part of the page needs.

Before it stands `records.py`, after it verdict, plots and page. Missing parts are None or empty, so no
reader has to know which stages ran. It words nothing and draws nothing.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

from lanewise.intervals import Interval, no_interval
from lanewise.report.parts import (
    Candidate,
    Json,
    Noise,
    Ramp,
    Range,
    Round,
    Trial,
    dicts,
    mapping,
    read_noise,
    read_ramp,
    read_range,
    read_round,
    read_trial,
)
from lanewise.report.records import Records, plain
from lanewise.report.wording import finite


class Facts:
    """Everything the report says, read from `Records`.

    Attributes:
        study, dataset, search, evaluation, test, version, curve: the parts as plain dicts, empty if missing.
        timings: stage -> seconds.
        links, environment, replays: as in `Records`.
    """

    def __init__(self, records: Records) -> None:
        self.study = mapping(records.study)
        self.dataset = mapping(records.dataset)
        self.search = mapping(records.search)
        self.evaluation = mapping(records.evaluation)
        self.test = mapping(records.test)
        self.version = mapping(records.version)
        self.curve = mapping(records.lr_curve)
        self.timings = {k: s for k, v in mapping(records.timings).items() if (s := finite(v)) is not None}
        self.links: dict[str, str] = {k: str(v) for k, v in mapping(records.links).items()}
        self.environment: dict[str, str] = {
            k: str(v) for k, v in mapping(records.environment).items() if v is not None
        }
        self.replays = None if records.replays is None else dicts(plain(records.replays))

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
        return str(self._target.get("name") or mapping(self.study.get("data")).get("target") or "")

    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes in the order of their codes."""
        return list(self.class_counts)

    @cached_property
    def class_counts(self) -> dict[str, int]:
        """Class -> development rows, in the order of the codes; empty for regression."""
        return {name: int(finite(count) or 0) for name, count in mapping(self._target.get("classes")).items()}

    @property
    def _target(self) -> Json:
        return mapping(self.dataset.get("target"))

    @cached_property
    def trials(self) -> list[Trial]:
        """All trials by number."""
        return sorted((read_trial(t) for t in dicts(self.search.get("trials"))), key=lambda t: t.number)

    @cached_property
    def complete(self) -> list[Trial]:
        """Trials trained to their end with a value; duplicates and repeats of the default left out."""
        repeats = set(self.search.get("repeats") or [])
        ended = (t for t in self.trials if t.state == "complete" and t.value is not None)
        return [t for t in ended if t.number not in repeats]

    @cached_property
    def objectives(self) -> list[str]:
        """Those beside the metric that every trial on the front has a value of."""
        return [str(name) for name in self.search.get("objectives") or []]

    @cached_property
    def front(self) -> list[Trial]:
        """The trials that no other one dominates, best by the metric first; empty where there is one objective."""
        named = (self.trial(number) for number in self.search.get("front") or [])
        known = (t for t in named if t is not None and t.value is not None)
        return [t for t in known if self.objectives and all(t.size(name) is not None for name in self.objectives)]

    @cached_property
    def prediction_ms(self) -> dict[int, float]:
        """Trial on the front -> milliseconds of a prediction, where they were measured."""
        found = mapping(self.search.get("prediction_ms")).items()
        return {int(n): ms for n, value in found if n.isdigit() and (ms := finite(value)) is not None}

    @property
    def noise(self) -> Noise | None:
        """What the seeds of the default said of noise."""
        return read_noise(mapping(self.search.get("noise")))

    @cached_property
    def ties(self) -> list[Trial]:
        """The best complete trial and those that are not further from it than the noise floor, best first."""
        ranked = sorted(self.complete, key=lambda t: (-self.sign * (t.value or 0.0), t.number))
        if self.noise is None or not ranked:
            return []
        best, floor = ranked[0].value or 0.0, self.noise.floor
        return [t for t in ranked if abs((t.value or 0.0) - best) <= floor]

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
        for candidate in dicts(self.evaluation.get("candidates")):
            if candidate.get("name") == self.winner and candidate.get("config"):
                return mapping(candidate["config"])
        return self.winning_trial.config if self.winning_trial else {}

    @cached_property
    def candidates(self) -> list[Candidate]:
        """Contenders and baselines; a fold in which nobody has the objective does not count."""
        records = dicts(self.evaluation.get("candidates"))
        rows = [[finite(v) for v in mapping(r.get("scores")).get(self.metric) or []] for r in records]
        folds = max(map(len, rows), default=0)
        counted = [j for j in range(folds) if any(j < len(row) and row[j] is not None for row in rows)]
        return [
            Candidate(
                str(record.get("name") or ""),
                str(record.get("kind") or ""),
                [row[j] if j < len(row) else None for j in counted],
            )
            for record, row in zip(records, rows, strict=True)
        ]

    @property
    def winning_candidate(self) -> Json:
        """The winner's record of cross-validation; empty where there is none."""
        records = dicts(self.evaluation.get("candidates"))
        return next((r for r in records if r.get("name") == self.winner), {})

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
        return interval(mapping(self.test.get(part)).get(metric or self.metric))

    @cached_property
    def confusion(self) -> list[list[int]]:
        """Sealed rows by true (row) and predicted class; empty where there is none."""
        rows = self.test.get("confusion") or []
        whole = all(isinstance(row, list) and len(row) == len(rows) for row in rows)
        return [[int(finite(n) or 0) for n in row] for row in rows] if whole else []

    @cached_property
    def grid(self) -> list[Json]:
        """The cells of a grid, each with its configuration, state and value; empty for other strategies."""
        return [cell for cell in dicts(plain(self.search.get("grid"))) if isinstance(cell.get("config"), dict)]

    @cached_property
    def ramps(self) -> list[Ramp]:
        """The range test by optimiser."""
        found = [
            read_ramp(name, mapping(family)) for name, family in mapping(self.curve.get("families")).items()
        ]
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
            name: read_range(name, mapping(r))
            for name, r in mapping(mapping(self.search.get("space")).get(part)).items()
        }
        return {name: r for name, r in found.items() if r.searched and name in self._active}

    @cached_property
    def rounds(self) -> list[Round]:
        """The rounds of a strategy that has them; what only ever had one value is left out."""
        found = [read_round(record) for record in dicts(self.search.get("rounds"))]
        return [replace(r, ranges={n: x for n, x in r.ranges.items() if n in self.wide_ranges}) for r in found]

    @cached_property
    def _active(self) -> set[str]:
        """Hyperparameters that had an effect in at least one trial."""
        return {name for trial in self.trials for name in trial.config}


def direction_of(metric: str) -> str | None:
    """Direction of a metric by its name; None for an unknown one."""
    from lanewise.metrics import METRICS, OWN

    found = METRICS.get(metric) or OWN.get(metric)
    return found.direction if found else None


def interval(value: Any) -> Interval:
    """An interval from its record; without a value where there is none."""
    record = mapping(value)
    confidence = finite(record.get("confidence")) or 0.95
    method = str(record.get("method") or "")
    estimate, low, high = (finite(record.get(key)) for key in ("estimate", "low", "high"))
    if low is None or high is None:
        return no_interval(estimate, confidence, method)
    return Interval(estimate, low, high, confidence, method)
