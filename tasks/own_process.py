"""The child process for a network the user wrote, as a job needs it; for the stages that try or train one.

A network that comes with Lanewise needs none: it trains in this process. What runs in the child is
lanewise.search.worker's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from lanewise import lr_range
from lanewise.errors import ModelError
from lanewise.folds import Job as Fold
from lanewise.folds import Trained, fold_trainer
from lanewise.lr_range import LRCurve
from lanewise.prediction_time import prediction_ms
from lanewise.search.causes import LaneProcessError
from lanewise.search.child import ChildLanes
from lanewise.search.whole_stages import read_folds, read_refit
from lanewise.trainer import Trainer, choose_device, full_trainer, lane_count
from lanewise.training_checks import own_losses
from tasks.progress import Event, say

if TYPE_CHECKING:
    from lanewise.evaluate import TrainFolds
    from lanewise.refit import State, TrainFull
    from lanewise.space import Config
    from tasks.job import Workshop

SMOKE_LIMIT_S = 120.0
OUTPUT = "network-output.txt"


def needs_child(shop: Workshop) -> bool:
    """Whether the study's network, a loss or the metric is the user's own."""
    study = shop.study
    return ":" in study.model.name or ":" in study.search.metric or bool(own_losses(study))


def child_lanes(shop: Workshop, lanes: int, limit_s: float) -> ChildLanes:
    """Lanes in a child process, which is started when they are first used."""
    study = shop.study
    order = {
        "study": shop.job.study, "overrides": dict(shop.job.overrides), "definition": study.definition(),
        "data": shop.prepared.dataset.split_fingerprint, "lanes": lanes,
        "checkpoints": str(shop.records / "checkpoints"), "every_s": study.tracking.checkpoint_seconds,
    }  # fmt: skip
    return ChildLanes(order, shop.records / OUTPUT, limit_s)


def smoke_in_child(shop: Workshop) -> int:
    """Try one batch through the default network in a child; number of its parameters.

    Raises:
        ModelError: It does not fit the data, or ends or blocks the process.
    """
    study = shop.study
    child = child_lanes(shop, lane_count(study, choose_device(study)), SMOKE_LIMIT_S)
    try:
        return child.smoke(shop.space.default())
    except LaneProcessError as error:
        raise ModelError(
            f"network `{study.model.name}` cannot be tried on one batch",
            given=str(error),
            rule="a forward and a backward pass with its default configuration",
            remedy=f"look at {shop.records / OUTPUT}",
        ) from error
    finally:
        child.close()


def range_test(shop: Workshop) -> tuple[LRCurve, list[str]]:
    """The range test's curve, and notes on how it ran."""
    if not needs_child(shop):
        trainer = Trainer(shop.study, shop.network, shop.prepared.dataset)
        return lr_range.run(trainer, shop.space), trainer.notes
    try:
        with closing(_stage_lanes(shop)) as child:
            found = child.stage("ramp")
    except LaneProcessError as error:
        return LRCurve({}, None, [f"the range test was cut off, {error}; the declared range of lr is used"]), []
    return LRCurve.from_json(found["curve"]), found["notes"]


def fold_training(shop: Workshop) -> TrainFolds:
    """The function that cross-validation trains with."""
    if needs_child(shop):
        return partial(_folds_in_child, shop)
    return fold_trainer(shop.study, shop.network, shop.prepared.dataset, shop.finished_lanes("evaluate"))


def refit_training(shop: Workshop) -> TrainFull:
    """The function that the refit trains with."""
    if needs_child(shop):
        return partial(_refit_in_child, shop)
    return full_trainer(shop.study, shop.network, shop.prepared.dataset, shop.finished_lanes("register"))


def prediction_times(shop: Workshop, configs: Sequence[Config]) -> list[float | None]:
    """Milliseconds that each configuration's network takes for `prediction_time.ROWS` rows; None where it does not end.

    Measured on this machine, so nothing may depend on it but what a reader sees.
    """
    dataset, found = shop.prepared.dataset, list[float | None]()
    try:
        if not needs_child(shop):
            return [prediction_ms(shop.network, dataset.layout, dataset.n_outputs, config) for config in configs]
        with closing(_stage_lanes(shop)) as child:
            for config in configs:
                found.append(float(child.stage("prediction_ms", hyper=config)))
    except (LaneProcessError, ModelError) as error:
        say(Event("search", "note", f"the time of a prediction could not be measured: {error}"))
    return found + [None] * (len(configs) - len(found))


def _stage_lanes(shop: Workshop) -> ChildLanes:
    study = shop.study
    return child_lanes(shop, lane_count(study, choose_device(study)), study.search.trial_timeout_s)


def _kept(shop: Workshop, stage: str) -> tuple[str, str]:
    folder, context = shop.kept(stage)
    return str(folder), context


def _folds_in_child(shop: Workshop, folds: Sequence[Fold]) -> Trained:
    """All folds together; where that ends the child, each configuration alone, so that one takes no other along."""
    into = shop.records / "folds.result"

    def train(part: Sequence[Fold]) -> Trained:
        with closing(_stage_lanes(shop)) as child:
            named = [(config, seed, split.name) for config, seed, split in part]
            child.stage("folds", jobs=named, kept=_kept(shop, "evaluate"), into=str(into))
            found = read_folds(into)
        into.unlink()
        return found

    try:
        return train(folds)
    except LaneProcessError:
        pass  # whose doing it was shows below
    found: Trained = [(None, 0)] * len(folds)
    of_config: dict[str, list[int]] = {}
    for i, (config, _, _) in enumerate(folds):
        of_config.setdefault(json.dumps(config), []).append(i)
    for text, places in of_config.items():
        try:
            for i, result in zip(places, train([folds[i] for i in places]), strict=True):
                found[i] = result
        except LaneProcessError as error:
            say(Event("evaluate", "note", f"a configuration has no scores, {error}: {text}"))
    return found


def _refit_in_child(shop: Workshop, config: Config, seeds: Sequence[int], epochs: int) -> Sequence[State]:
    into = shop.records / "refit.result"
    try:
        with closing(_stage_lanes(shop)) as child:
            child.stage(
                "refit", config=config, seeds=list(seeds), epochs=epochs, kept=_kept(shop, "register"), into=str(into)
            )
            states = read_refit(into)
    except LaneProcessError as error:
        raise ModelError(
            f"network `{shop.study.model.name}` could not be trained on all development rows", given=str(error),
            rule="the process lives until the training ends", remedy=f"look at {shop.records / OUTPUT}",
        ) from error  # fmt: skip
    into.unlink()
    return states
