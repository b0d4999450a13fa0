"""Cross-validates the finalists, the default and the baselines.

Before it stands the search's result, after it the refit. It orders the work and collects
the scores, which `judge.py` compares; the training is passed in as a function, so all candidates and
folds are lanes of one call. It may not touch the seal, and a score that is not finite is None.

What the numbers can and cannot say. The finalists were selected on the holdout, whose rows are among the
folds' rows, and the winner among them is chosen by the same folds that give its score. Both make the
winner's cross-validated score, and its lead over the default, somewhat optimistic (Cawley and Talbot
2010, "On over-fitting in model selection"). A network's number of epochs, one for all folds, is chosen on the
rows it is scored on; a baseline has no such choice. The sealed test in `refit.py` has none of this bias
and settles the matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from lanewise.baselines import baseline_names, baseline_prediction
from lanewise.calibration import Calibration, FoldOutputs, calibrate
from lanewise.errors import SearchError
from lanewise.intervals import Interval
from lanewise.judge import CAVEATS, Candidate, Contender, Evaluation, judge, median_epoch
from lanewise.metrics import Metric, find_metric, metric_named, metrics_for, probabilities, undefined

if TYPE_CHECKING:
    from lanewise.data import Arrays, Dataset, Split
    from lanewise.space import Config

__all__ = [
    "CAVEATS",
    "Candidate",
    "Contender",
    "Evaluation",
    "Interval",
    "TrainFolds",
    "choose_contenders",
    "evaluate",
    "fold_scores",
    "fold_seed",
    "median_epoch",
    "network_prediction",
]

Array = npt.NDArray[Any]
Scores = dict[str, float | None]
# (configuration, seed, split) of every lane -> its outputs [N, C] on the split's validation rows in
# their order (None when the lane failed) and its best epoch
TrainFolds = Callable[
    [Sequence[tuple["Config", int, "Split"]]], Sequence[tuple[npt.NDArray[np.float32] | None, int]]
]


class Trial(Protocol):
    """What evaluation reads of a search's `TrialRecord`."""

    @property
    def number(self) -> int: ...
    @property
    def config(self) -> Mapping[str, Any]: ...
    @property
    def state(self) -> str: ...
    @property
    def value(self) -> float | None: ...


def choose_contenders(trials: Iterable[Trial], direction: str, finalists: int) -> list[Contender]:
    """The default (trial 0) and the best complete trials, best first.

    A trial with the default's own configuration is the default. Equal values keep the order of the trials.

    Args:
        trials: records of the search, trial 0 among them whatever its state.
        direction: "maximize" or "minimize".
        finalists: how many trials beside the default.

    Raises:
        SearchError: there is no trial 0.
    """
    records = sorted(trials, key=lambda trial: trial.number)
    if not records or records[0].number != 0:
        raise SearchError(
            "the search has no trial 0", rule="trial 0 is the default", remedy="start the search again"
        )
    default = records[0]
    sign = -1 if direction == "maximize" else 1
    usable = [
        (sign * trial.value, trial)
        for trial in records[1:]
        if trial.state == "complete"
        and trial.value is not None
        and math.isfinite(trial.value)
        and dict(trial.config) != dict(default.config)
    ]
    best = [trial for _, trial in sorted(usable, key=lambda pair: pair[0])[:finalists]]
    return [
        Contender("default", dict(default.config), _finite(default.value)),
        *(Contender(f"trial-{t.number:04d}", dict(t.config), _finite(t.value)) for t in best),
    ]


def fold_seed(seed: int, fold: int) -> int:
    """The seed every contender trains a fold with, so they differ by their configuration only.

    Args:
        seed: of the study.
        fold: position of the split among all folds of all repeats.
    """
    return int(np.random.SeedSequence((seed, fold)).generate_state(1, np.uint32)[0])


def fold_scores(task: str, target: Array, prediction: Array, objective: str = "") -> Scores:
    """Every metric of the task on one set of predictions, and the objective where it is the user's own.

    Args:
        task: "binary", "multiclass" or "regression".
        target: codes or values [N].
        prediction: probabilities [N, C], or values [N] in the target's unit.

    Returns:
        The value per metric; None where it is undefined or not finite.
    """
    return {name: _finite(metric_named(name).full(target, prediction)) for name in metrics_for(task, objective)}


def network_prediction(task: str, outputs: Array, mean: float, std: float) -> npt.NDArray[np.float64]:
    """Turns a network's outputs [N, C] into probabilities [N, C], or values [N] in the target's unit."""
    if task == "regression":
        return np.asarray(outputs, dtype=np.float64)[:, 0] * std + mean
    return probabilities(outputs)


def evaluate(
    dataset: Dataset,
    contenders: Sequence[Contender],
    splits: Sequence[Split],
    train_fn: TrainFolds,
    *,
    folds: int,
    baselines: bool,
    confidence: float,
    seed: int,
    calibrated: bool = True,
) -> Evaluation:
    """Trains every contender on every fold in one call, scores all, and judges (`judge.judge`).

    A fold whose rows leave the objective undefined is left out for all and named in the warnings.

    Args:
        dataset: development rows.
        contenders: from `choose_contenders`; the default is one of them.
        splits: the folds of all repeats.
        train_fn: trains all lanes; see `TrainFolds`.
        folds: folds of one repeat; in time order there is one repeat whatever the study says.
        baselines: whether to fit the baselines.
        confidence: of the intervals.
        seed: of the study.
        calibrated: whether to fit the calibration of the winner's and the default's probabilities.

    Raises:
        SearchError: no contender has a score in every fold that counts.
    """
    metric = find_metric(dataset.metric, dataset.task)
    warnings: list[str] = []
    jobs = [(c.config, fold_seed(seed, j), split) for c in contenders for j, split in enumerate(splits)]
    results = list(train_fn(jobs))
    if len(results) != len(jobs):
        raise ValueError(f"train_fn returned {len(results)} results for {len(jobs)} lanes")
    candidates = _candidates(dataset, contenders, splits, results, baselines, seed, warnings)
    counted = _counted_folds(metric, dataset, splits, warnings)
    found = judge(
        metric,
        contenders,
        candidates,
        counted=counted,
        test_train_ratio=float(np.mean([len(split.valid) / len(split.train) for split in splits])),
        folds=folds,
        confidence=confidence,
        warnings=warnings,
    )
    if not calibrated or dataset.task == "regression":
        return found
    names = [c.name for c in contenders]
    fits = {
        name: _calibration(dataset, splits, results[names.index(name) * len(splits) :])
        for name in {found.winner, "default"}
    }
    return replace(
        found, candidates=tuple(replace(c, calibration=fits.get(c.name)) for c in found.candidates)
    )


def _calibration(
    dataset: Dataset, splits: Sequence[Split], results: Sequence[tuple[Array | None, int]]
) -> Calibration | None:
    """Of one contender, whose lanes come first in `results`."""
    folds = [
        FoldOutputs(outputs, dataset.target[split.valid], split.valid)
        for split, (outputs, _) in zip(splits, results, strict=False)
        if outputs is not None
    ]
    return calibrate(folds, dataset.metric)


def _candidates(
    dataset: Dataset,
    contenders: Sequence[Contender],
    splits: Sequence[Split],
    results: Sequence[tuple[npt.NDArray[np.float32] | None, int]],
    baselines: bool,
    seed: int,
    warnings: list[str],
) -> tuple[Candidate, ...]:
    """Scores the lanes' outputs and fits the baselines, split after split, as their arrays are large."""
    names = baseline_names(dataset.layout, dataset.rows) if baselines else ()
    if names == ("dummy",):
        warnings.append("The data are too large for a linear or boosted baseline: there is a guess only.")
    scores: dict[str, list[Scores]] = {name: [] for name in [*(c.name for c in contenders), *names]}
    for j, split in enumerate(splits):
        target, scale = dataset.target[split.valid], dataset.target_scale(split.train)
        for i, contender in enumerate(contenders):
            outputs = results[i * len(splits) + j][0]
            scores[contender.name].append(_network_scores(dataset, target, outputs, scale))
        if not names:
            continue
        arrays = dataset.targets(split) if names == ("dummy",) else dataset.arrays(split)
        for name in names:
            scores[name].append(_baseline_scores(name, dataset, target, arrays, fold_seed(seed, j), warnings))
    found = []
    for i, c in enumerate(contenders):
        epochs = [int(epoch) for _, epoch in results[i * len(splits) : (i + 1) * len(splits)]]
        found.append(Candidate(c.name, c.kind, dict(c.config), _columns(scores[c.name]), epochs))
    return (*found, *(Candidate(name, "baseline", None, _columns(scores[name]), []) for name in names))


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _columns(rows: Sequence[Scores]) -> dict[str, list[float | None]]:
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def _network_scores(
    dataset: Dataset, target: Array, outputs: Array | None, scale: tuple[float, float]
) -> Scores:
    if outputs is None:
        return dict.fromkeys(metrics_for(dataset.task, dataset.metric))
    prediction = network_prediction(dataset.task, outputs, *scale)
    return fold_scores(dataset.task, target, prediction, dataset.metric)


def _baseline_scores(
    name: str, dataset: Dataset, target: Array, arrays: Arrays, seed: int, warnings: list[str]
) -> Scores:
    classes = 0 if dataset.task == "regression" else len(dataset.classes)
    try:
        prediction = baseline_prediction(name, arrays, dataset.layout, classes, seed)
    except ValueError as error:  # scikit-learn refuses odd tables so; a baseline must not end a study
        told = f"The baseline {name} could not be fitted: {error}"
        warnings += [told] if told not in warnings else []
        return dict.fromkeys(metrics_for(dataset.task, dataset.metric))
    return fold_scores(dataset.task, target, prediction, dataset.metric)


def _counted_folds(
    metric: Metric, dataset: Dataset, splits: Sequence[Split], warnings: list[str]
) -> list[int]:
    """Positions of the folds whose rows give the objective a value; the others are named."""
    counted = []
    for j, split in enumerate(splits):
        reason = undefined(metric.name, dataset.target[split.valid], len(dataset.classes) or None)
        if reason is None:
            counted.append(j)
        else:
            warnings.append(f"{metric.name} is undefined in {split.name}: {reason}; the fold is left out.")
    return counted
