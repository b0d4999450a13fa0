"""Trains the folds of cross-validation, each to the one epoch the refit will train to; used by evaluate.

Every (configuration, seed, split) is lanes of one call: one lane, or one for each member where the average
of several networks is registered, because what is scored must be what is registered. It scores nothing
but to choose the epoch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lanewise.checkpoints import FinishedLanes
from lanewise.engine import Lane, Report
from lanewise.errors import SearchError, StudyError
from lanewise.metrics import METRICS, find_metric, probabilities
from lanewise.trainer import MOST_LANES, Trainer, choose_device

if TYPE_CHECKING:
    from lanewise.data import Dataset, Split
    from lanewise.model import Network
    from lanewise.space import Config
    from lanewise.study import Study

Job = tuple["Config", int, "Split"]
Outputs = npt.NDArray[np.float32]
Trained = list[tuple[Outputs | None, int]]
MOST_BYTES = 2 << 30  # of averaged predictions, which are kept for every epoch


def fold_trainer(
    study: Study,
    network: Network,
    dataset: Dataset,
    finished: FinishedLanes | None = None,
    ticked: Callable[[], None] | None = None,
) -> Callable[[Sequence[Job]], Trained]:
    """The function `evaluate` trains with.

    Args:
        finished: Where folds that ended are kept for a call that is cut off; not used for averages.
        ticked: As for `Trainer`.
    """

    def train(jobs: Sequence[Job]) -> Trained:
        splits = list({split.name: split for _, _, split in jobs}.values())
        lanes = MOST_LANES[choose_device(study)]
        trainer = Trainer(study, network, dataset, splits, lanes=lanes, ticked=ticked)
        place = {split.name: i for i, split in enumerate(splits)}
        if study.registration.members > 1:
            return _averages(trainer, place, jobs)
        return _singles(trainer, place, jobs, finished)

    return train


def _singles(
    trainer: Trainer, place: Mapping[str, int], jobs: Sequence[Job], finished: FinishedLanes | None
) -> Trained:
    """Train every fold twice: to find its best epoch, then to the one epoch the folds agree on.

    Those outputs are scored: each fold at its own best epoch would flatter the configuration whose scores
    jump most from epoch to epoch.
    """
    first = trainer.train_all(
        [trainer.lane(i, config, seed, split=place[s.name]) for i, (config, seed, s) in enumerate(jobs)],
        finished,
    )
    best: dict[str, list[int]] = {}
    keys = [_text(config) for config, _, _ in jobs]
    for key, result in zip(keys, first, strict=True):
        best.setdefault(key, []).append(result.best_epoch if result else 0)
    again = {
        i: trainer.lane(
            f"{i}/again", config, seed, split=place[s.name], stop=shared_epoch(best[keys[i]]), patience=0,
            keep_best=False,
        )
        for i, (config, seed, s) in enumerate(jobs)
        if first[i] is not None
    }  # fmt: skip
    scored = dict(zip(again, trainer.train_all(list(again.values()), finished), strict=True))
    found: Trained = []
    for i, result in enumerate(first):
        again_i = scored.get(i)
        if result is None or again_i is None:
            found.append((None, 0))
        else:
            found.append((again_i.outputs.numpy(), result.best_epoch))
    return found


def _averages(trainer: Trainer, place: Mapping[str, int], jobs: Sequence[Job]) -> Trained:
    """Train all members of every fold to the end, then choose the epoch by the average of their predictions.

    An average gains from longer training than any of its members, so theirs would be the wrong epoch.

    Raises:
        StudyError: The predictions of all epochs do not fit into memory.
    """
    study, dataset = trainer.study, trainer.dataset
    members, epochs = study.registration.members, study.train.epochs
    shapes = [(epochs, len(split.valid), dataset.n_outputs) for _, _, split in jobs]
    size = 4 * sum(map(math.prod, shapes))
    if size > MOST_BYTES:
        raise StudyError(
            "averages of networks need too much memory to be cross-validated", where="register.members",
            given=f"{size / 2**30:.1f} GiB for {len(jobs)} folds of {epochs} epochs",
            rule=f"at most {MOST_BYTES >> 30} GiB",
            remedy="fewer epochs, folds or finalists, or `members: 1`",
        )  # fmt: skip
    averages = [np.zeros(shape, np.float32) for shape in shapes]
    failed: set[int] = set()
    lanes = [
        trainer.lane(
            f"{i}/{m}", config, _member_seed(seed, m), split=place[split.name], patience=0, keep_best=False,
            watched=True,
        )
        for i, (config, seed, split) in enumerate(jobs)
        for m in range(members)
    ]  # fmt: skip
    for report in _reports(trainer, lanes):
        i = int(str(report.key).partition("/")[0])
        if report.failed or report.outputs is None:
            failed.add(i)
        else:
            averages[i][report.epoch - 1] += _prediction(dataset, report.outputs.numpy()) / members
    best: dict[str, list[int]] = {}
    for i, (config, _, split) in enumerate(jobs):
        best.setdefault(_text(config), []).append(
            0 if i in failed else _best_epoch(dataset, split, averages[i])
        )
    found: Trained = []
    seen = dict.fromkeys(best, 0)
    for i, (config, _, _) in enumerate(jobs):
        key = _text(config)
        own, seen[key] = best[key][seen[key]], seen[key] + 1
        if i in failed:
            found.append((None, 0))
        else:
            found.append((_outputs(dataset, averages[i][shared_epoch(best[key]) - 1]), own))
    return found


def shared_epoch(best_epochs: Sequence[int]) -> int:
    """The epoch folds agree on: the median of their best ones, rounded up; 0 marks a fold that failed.

    Raises:
        SearchError: Every fold failed.
    """
    found = [epoch for epoch in best_epochs if epoch > 0]
    if not found:
        raise SearchError(
            "a configuration has no best epoch in any fold", rule="its loss stays finite in one fold"
        )
    return math.ceil(float(np.median(found)))


def _reports(trainer: Trainer, lanes: Sequence[Lane]) -> Iterator[Report]:
    """Train lanes to their end, refilling as they finish."""
    waiting = list(reversed(lanes))
    while waiting or trainer.active:
        while waiting and trainer.free > 0:
            trainer.add(waiting.pop())
        yield from trainer.tick()


def _member_seed(seed: int, member: int) -> int:
    return int(np.random.SeedSequence((seed, member)).generate_state(1, np.uint32)[0])


def _text(config: Config) -> str:
    return json.dumps(config, sort_keys=True)


def _prediction(dataset: Dataset, outputs: Outputs) -> npt.NDArray[Any]:
    """What is averaged: probabilities, or standardised values."""
    return outputs if dataset.task == "regression" else probabilities(outputs)


def _outputs(dataset: Dataset, average: Outputs) -> Outputs:
    """Outputs of one network that would predict the average."""
    if dataset.task == "regression":
        return average
    return np.log(np.maximum(average, np.finfo(np.float32).tiny))


def _best_epoch(dataset: Dataset, split: Split, average: Outputs) -> int:
    """The epoch whose average has the best objective, from 1; log loss decides between equal ones."""
    metric, target = find_metric(dataset.metric, dataset.task), dataset.target[split.valid]
    mean, deviation = dataset.target_scale(split.train)
    sign = 1.0 if metric.direction == "maximize" else -1.0
    ranked: list[tuple[float, float, int]] = []
    for epoch, prediction in enumerate(average.astype(np.float64), 1):
        if dataset.task == "regression":
            value, tie = metric.full(target, prediction[:, 0] * deviation + mean), 0.0
        else:
            value, tie = metric.full(target, prediction), -METRICS["log_loss"].full(target, prediction)
        ranked.append((sign * value if math.isfinite(value) else -math.inf, tie, -epoch))
    return -max(ranked)[2]
