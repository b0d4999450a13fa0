"""Trains the winner on all development rows, and opens the seal once to score what was trained.

Before it stands `evaluate.py`, after it the registry. Training is passed in as a function; what comes out
is data (weights, preprocessing, names) that predicts on a CPU without the engine. It may not choose
anything: configuration, epochs, seeds and weights are frozen, and hashed, before the seal opens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from lanewise.calibration import Calibration
from lanewise.errors import SearchError
from lanewise.fitted import FittedModel
from lanewise.intervals import Interval, bootstrap_intervals, no_interval, point
from lanewise.metrics import metrics_for, resampled_scores, undefined
from lanewise.model import Network
from lanewise.trainer import full_split

if TYPE_CHECKING:
    from lanewise.data import Dataset
    from lanewise.space import Config

__all__ = [
    "FittedModel",
    "TestResult",
    "TrainFull",
    "member_seeds",
    "open_and_score",
    "refit",
]

Array = npt.NDArray[Any]
State = Mapping[str, Tensor]
# (configuration, seeds, epochs) -> one state_dict per seed, trained on every development row. The schedule
# keeps the study's planned length; training stops after `epochs` of it.
TrainFull = Callable[["Config", Sequence[int], int], Sequence[State]]

RESIDUALS = 500  # at most so many test rows are kept for the report


class SealedRows(Protocol):
    """What this stage needs of `lanewise.data.Seal`."""

    def open(self, frozen_configuration: str) -> tuple[pd.DataFrame, Array]: ...
    def openings(self) -> list[dict[str, Any]]: ...


@dataclass(frozen=True)
class TestResult:
    """What the sealed rows say of the winner and of the default, in the metrics' natural directions.

    Attributes:
        metric: the objective.
        scores: metric -> interval, of the winner's refit.
        default_scores: the same of the default's refit; empty where there is none.
        difference: the objective, winner minus default, on the same resampled rows.
        n: test rows.
        confusion: rows of the true class, columns of the predicted class; None for regression.
        residuals: [actual, predicted] of up to 500 rows; None for classes.
        opened_at: time the seal was opened, UTC, ISO 8601.
        frozen: hash of the two models the seal was opened with.
        openings: with how many different configurations these rows were ever opened, this one included;
            above 1 the scores may have been chosen among.
    """

    __test__ = False  # not for pytest, whatever its name

    metric: str
    scores: dict[str, Interval]
    default_scores: dict[str, Interval]
    difference: Interval
    n: int
    confusion: list[list[int]] | None
    residuals: list[list[float]] | None
    opened_at: str
    frozen: str
    openings: int

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> TestResult:
        """Reads what `dataclasses.asdict` and JSON made of a result."""
        fields = dict(record)
        for name in ("scores", "default_scores"):
            fields[name] = {metric: Interval(**found) for metric, found in record[name].items()}
        fields["difference"] = Interval(**record["difference"])
        return cls(**fields)


def member_seeds(seed: int, members: int) -> tuple[int, ...]:
    """Seeds of the refits, drawn apart from those of the folds."""
    return tuple(
        int(np.random.SeedSequence((seed, member, 1)).generate_state(1, np.uint32)[0])
        for member in range(members)
    )


def refit(
    dataset: Dataset,
    network: Network,
    config: Config,
    *,
    epochs: int,
    members: int,
    seed: int,
    train_full: TrainFull,
    calibration: Calibration | None = None,
) -> FittedModel:
    """Trains a frozen configuration on all development rows, once per member.

    No row is left to stop on, so the epochs come from cross-validation (`evaluate.median_epoch`). The
    schedule keeps its planned length and training stops at that epoch, as the folds' best epochs did.
    An epoch here has more steps than one of a fold, in proportion to the rows.

    Args:
        dataset: development rows.
        network: resolved.
        config: active hyperparameters.
        epochs: to train.
        members: refits with different seeds, whose predictions are averaged.
        seed: of the study.
        train_full: trains all members; see `TrainFull`.
        calibration: of the probabilities, fitted by cross-validation of this configuration.

    Raises:
        SearchError: a member's weights are not finite.
    """
    rows = full_split(dataset).train
    mean, deviation = dataset.target_scale(rows)
    seeds = member_seeds(seed, members)
    states = [
        {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}
        for state in train_full(config, seeds, epochs)
    ]
    if len(states) != members:
        raise ValueError(f"train_full returned {len(states)} states for {members} members")
    for member, state in enumerate(states):
        lost = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
        if lost:
            raise SearchError(
                "the refit on all development rows diverged",
                where=f"member {member}, seed {seeds[member]}",
                given=f"{lost[0]} is not finite",
                remedy="choose another seed or a narrower range of learning rates",
            )
    return FittedModel(
        network=network,
        config=dict(config),
        preprocessor=dataset.preprocess(rows),
        task=dataset.task,
        classes=tuple(dataset.classes),
        target_mean=float(mean),
        target_std=float(deviation),
        states=tuple(states),
        seeds=seeds,
        epochs=epochs,
        calibration=calibration,
    )


def open_and_score(
    seal: SealedRows,
    fitted: FittedModel,
    fitted_default: FittedModel | None,
    *,
    metric: str,
    confidence: float,
    bootstrap: int,
    seed: int,
) -> TestResult:
    """Opens the seal, once, with the hash of both models, and scores them on the sealed rows.

    Both models must be complete before this is called: their weights are part of the hash the seal
    records. Nothing may be chosen by what it returns, but for the gate between candidate and champion.

    Args:
        seal: test rows.
        fitted: the winner's refit.
        fitted_default: the default's refit; the same model when the default won; None where the default
            cannot be trained, and then there is nothing to compare with.
        metric: the objective.
        confidence: of the intervals.
        bootstrap: resamples.
        seed: of the study.
    """
    hashes = [model.frozen() for model in (fitted, fitted_default) if model is not None]
    frozen = hashlib.sha256(" ".join(hashes).encode()).hexdigest()
    frame, target = seal.open(frozen)
    opened_at = datetime.now(UTC).isoformat(timespec="seconds")
    target = np.asarray(target)
    ours = fitted.predict_array(frame)
    same = len(set(hashes)) == 1
    other = fitted if fitted_default is None or same else fitted_default
    theirs = ours if other is fitted else other.predict_array(frame)
    scores, default_scores, difference = _intervals(
        (fitted, other), target, (ours, theirs), metric, confidence, bootstrap, seed
    )
    if fitted_default is None:
        default_scores, difference = {}, no_interval(None, confidence, "the default could not be trained")
    elif same:
        difference = point(0.0, confidence, "the winner is the default")
    regression = fitted.task == "regression"
    return TestResult(
        metric=metric,
        scores=scores,
        default_scores=default_scores,
        difference=difference,
        n=len(target),
        confusion=None if regression else _confusion(target, fitted.labels(ours), ours.shape[1]),
        residuals=_residuals(target, ours, seed) if regression else None,
        opened_at=opened_at,
        frozen=frozen,
        openings=len({record["configuration"] for record in seal.openings()}),
    )


def _intervals(
    models: tuple[FittedModel, FittedModel],
    target: Array,
    predictions: tuple[Array, Array],
    metric: str,
    confidence: float,
    bootstrap: int,
    seed: int,
) -> tuple[dict[str, Interval], dict[str, Interval], Interval]:
    """Every metric's interval for both predictions, and the objective's difference, on the same draws."""
    names = metrics_for(models[0].task, metric)
    ours, theirs = predictions
    own_labels, other_labels = (
        None if model.task == "regression" else model.labels(found)
        for model, found in zip(models, predictions, strict=True)
    )

    def statistic(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        one = resampled_scores(names, target, ours, rows, own_labels)
        other = one if theirs is ours else resampled_scores(names, target, theirs, rows, other_labels)
        return np.column_stack([*one.values(), *other.values(), one[metric] - other[metric]])

    found = bootstrap_intervals(statistic, len(target), confidence=confidence, resamples=bootstrap, seed=seed)
    last = found[-1]
    found[-1] = Interval(last.estimate, last.low, last.high, confidence, f"paired {last.method}")
    for column, name in enumerate([*names, *names, metric]):
        if reason := undefined(name, target, len(models[0].classes) or None):
            found[column] = no_interval(None, confidence, reason)
    count = len(names)
    return (
        dict(zip(names, found[:count], strict=True)),
        dict(zip(names, found[count : 2 * count], strict=True)),
        found[-1],
    )


def _confusion(target: Array, labels: Array, classes: int) -> list[list[int]]:
    cells = np.bincount(target.astype(np.int64) * classes + labels, minlength=classes**2)
    return [[int(n) for n in row] for row in cells.reshape(classes, classes)]


def _residuals(target: Array, found: Array, seed: int) -> list[list[float]]:
    rows = np.arange(len(target))
    if len(rows) > RESIDUALS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, RESIDUALS, replace=False))
    return [[float(target[i]), float(found[i])] for i in rows]
