"""Names the winner of cross-validation, by how much it leads, and how far the search's own score was off.

Before it stand the scores `evaluate.py` collected, after it the refit and the report. It only compares
numbers: a score is a finite float or None, and None never wins. It trains nothing and reads no data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lanewise.calibration import Calibration
from lanewise.errors import SearchError
from lanewise.folds import shared_epoch
from lanewise.intervals import Interval, corrected_t_interval, no_interval, point
from lanewise.metrics import Metric

if TYPE_CHECKING:
    from lanewise.space import Config

CAVEATS = (
    "The winner was chosen among the finalists by the same folds that score it, so its score and its lead "
    "are somewhat optimistic; the sealed test is not.",
    "The number of epochs is the folds' median best, chosen on the rows that are scored; a baseline has no "
    "such choice.",
    "The interval allows for overlapping training sets (Nadeau and Bengio 2003), not for the choice of a "
    "winner.",
)


@dataclass(frozen=True)
class Contender:
    """A configuration that enters cross-validation.

    Attributes:
        name: "default" or "trial-0042".
        config: its active hyperparameters.
        selection: its score on the search's holdout; None where it has none.
    """

    name: str
    config: Config
    selection: float | None

    @property
    def kind(self) -> str:
        """ "default" or "trial"."""
        return "default" if self.name == "default" else "trial"


@dataclass(frozen=True)
class Candidate:
    """One contender or baseline with its scores.

    Attributes:
        name: "default", "trial-0042" or a key of `BASELINES`.
        kind: "default", "trial" or "baseline".
        config: None for a baseline.
        scores: metric -> one value per fold in the metric's natural direction; None where undefined.
        best_epochs: one per fold, counted from 1; empty for a baseline.
        calibration: of the winner's and the default's probabilities; None for the others, and for numbers.
    """

    name: str
    kind: str
    config: dict[str, Any] | None
    scores: dict[str, list[float | None]]
    best_epochs: list[int]
    calibration: Calibration | None = None


@dataclass(frozen=True)
class Evaluation:
    """Who won cross-validation, by how much, and how far the search's own score was off.

    Attributes:
        metric: the objective.
        direction: "maximize" or "minimize"; all values are in the metric's natural direction.
        folds: folds of one repeat.
        repeats: how often the folds were drawn.
        candidates: contenders in the order given, then the baselines.
        winner: name of the winning contender.
        winner_minus_default: difference of the objective over folds.
        winner_minus_baseline: the same against the best baseline.
        overtuning: see `overtuning_of`.
        warnings: what a reader must know, one sentence each.
    """

    metric: str
    direction: str
    folds: int
    repeats: int
    candidates: tuple[Candidate, ...]
    winner: str
    winner_minus_default: Interval
    winner_minus_baseline: Interval
    overtuning: dict[str, Any]
    warnings: list[str]

    def candidate(self, name: str) -> Candidate:
        """The candidate of that name."""
        return next(c for c in self.candidates if c.name == name)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Evaluation:
        """Reads what `dataclasses.asdict` and JSON made of an evaluation."""
        fields = dict(record)
        fields["candidates"] = tuple(
            Candidate(**{**c, "calibration": Calibration.from_dict(c.get("calibration"))})
            for c in record["candidates"]
        )
        for name in ("winner_minus_default", "winner_minus_baseline"):
            fields[name] = Interval(**record[name])
        return cls(**fields)


def judge(
    metric: Metric,
    contenders: Sequence[Contender],
    candidates: tuple[Candidate, ...],
    *,
    counted: Sequence[int],
    test_train_ratio: float,
    folds: int,
    confidence: float,
    warnings: Sequence[str] = (),
) -> Evaluation:
    """Names the winner, compares it with the default and the best baseline, and measures overtuning.

    The winner is the contender with the best mean objective; the default wins unless a trial is strictly
    better. Who lacks a value in a fold that counts is compared with nobody.

    Args:
        metric: the objective.
        contenders: with their scores in the search.
        candidates: the contenders with their fold scores, then the baselines.
        counted: positions of the folds in which the objective is defined.
        test_train_ratio: rows scored per row trained on.
        folds: folds of one repeat.
        confidence: of the intervals.
        warnings: what is known so far.

    Raises:
        SearchError: no contender has a score in every fold that counts.
    """
    told = list(warnings)
    values = {c.name: _values(c, metric, counted) for c in candidates}
    means = {name: None if found is None else float(np.mean(found)) for name, found in values.items()}
    told += [
        f"{c.name} has no finite {metric.name} in some fold and is left out of the comparison."
        for c in candidates
        if counted and means[c.name] is None
    ]
    winner = _winner(metric, candidates, means, told)
    if winner == "default":
        told.append("No finalist beat the default; the default is kept.")
        lead = point(0.0, confidence, "the winner is the default")
    else:
        lead = _difference(values[winner], values["default"], "the default", test_train_ratio, confidence)
    rival = _best(metric, [c for c in candidates if c.kind == "baseline"], means)
    over = _difference(
        values[winner], values.get(rival or ""), rival or "a baseline", test_train_ratio, confidence
    )
    return Evaluation(
        metric=metric.name,
        direction=metric.direction,
        folds=folds,
        repeats=len(candidates[0].scores[metric.name]) // folds,
        candidates=candidates,
        winner=winner,
        winner_minus_default=lead,
        winner_minus_baseline=over,
        overtuning=overtuning_of(metric, contenders, means),
        warnings=told,
    )


def overtuning_of(
    metric: Metric, contenders: Sequence[Contender], means: Mapping[str, float | None]
) -> dict[str, Any]:
    """How far the search's own score of its choice was off, and what the choice cost.

    After Schneider, Bischl and Feurer (2025), "Overtuning in hyperparameter optimization" (AutoML, PMLR
    293). They compare the test errors of all incumbents; here only the finalists and the default have a
    second score, and it is cross-validation on rows that include the holdout: an approximation.

    Args:
        metric: the objective.
        contenders: with their scores in the search.
        means: name -> mean cross-validated score.

    Returns:
        trial: the contender the search itself would have chosen, by the holdout.
        selection, cross_validated: its two scores.
        gap: how much better the first is (positive: optimistic).
        default_gap: the same for the default, which nobody selected: how much of the gap is only the
            different rows.
        overtuning: cross-validated score lost against the best contender, 0 or more.
        relative: that over the best contender's gain on the default; above 1 the search's choice is
            worse than the default; None where no contender gains.
    """
    sign = 1 if metric.direction == "maximize" else -1
    scored = [c for c in contenders if c.selection is not None]
    if not scored:
        return {"trial": None, "selection": None, "cross_validated": None, "gap": None}
    chosen = max(scored, key=lambda c: sign * (c.selection or 0.0))
    default = next(c for c in contenders if c.kind == "default")

    def gap(contender: Contender) -> float | None:
        mean = means[contender.name]
        return None if mean is None or contender.selection is None else sign * (contender.selection - mean)

    known = [sign * mean for c in contenders if (mean := means[c.name]) is not None]
    own, base = means[chosen.name], means[default.name]
    lost = None if own is None else max(known) - sign * own
    gain = None if base is None else max(known) - sign * base
    return {
        "trial": chosen.name,
        "selection": chosen.selection,
        "cross_validated": own,
        "gap": gap(chosen),
        "default_gap": gap(default),
        "overtuning": lost,
        "relative": lost / gain if gain and lost is not None else None,
    }


def median_epoch(candidate: Candidate) -> int:
    """Epochs to train the refit for, those its folds were scored after: `trainer.shared_epoch`."""
    return shared_epoch(candidate.best_epochs)


def _values(candidate: Candidate, metric: Metric, counted: Sequence[int]) -> list[float] | None:
    """The objective in the folds that count; None where the candidate lacks one."""
    found = [candidate.scores[metric.name][j] for j in counted]
    values = [value for value in found if value is not None]
    return values if values and len(values) == len(found) else None


def _winner(
    metric: Metric,
    candidates: Sequence[Candidate],
    means: Mapping[str, float | None],
    warnings: Sequence[str],
) -> str:
    default = _best(metric, [c for c in candidates if c.kind == "default"], means)
    trial = _best(metric, [c for c in candidates if c.kind == "trial"], means)
    if default is None and trial is None:
        raise SearchError(
            "no candidate has a score in every fold",
            where="evaluate",
            given=" ".join(warnings) or None,
            rule=f"{metric.name} must be finite in each fold that counts",
            remedy="look at the failed lanes, or choose a metric that is defined in every fold",
        )
    if trial is None or (
        default is not None and not metric.better(_known(means[trial]), _known(means[default]))
    ):
        return default or ""
    return trial


def _best(metric: Metric, candidates: Sequence[Candidate], means: Mapping[str, float | None]) -> str | None:
    """Name with the best mean, the first of equals; None where nobody has one."""
    best: str | None = None
    for candidate in candidates:
        mean = means[candidate.name]
        if mean is not None and (best is None or metric.better(mean, _known(means[best]))):
            best = candidate.name
    return best


def _known(mean: float | None) -> float:
    assert mean is not None  # only names with a mean get here
    return mean


def _difference(
    one: list[float] | None, other: list[float] | None, name: str, ratio: float, confidence: float
) -> Interval:
    if one is None or other is None:
        return no_interval(None, confidence, f"{name} has no score to compare with")
    found = corrected_t_interval(np.subtract(one, other).tolist(), ratio, confidence=confidence)
    return Interval(found.estimate, found.low, found.high, confidence, f"{found.method}, against {name}")
