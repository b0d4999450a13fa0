"""Turns configurations into lanes: the one bridge from study, data and network to the engine.

Range test, search, cross-validation and refit all train through it, with different lanes. It decides
nothing: it builds the seeded module, picks the split's tensors, and passes reports on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from lanewise.data import ImagePreprocessor, Split, network_inputs, stored_rows
from lanewise.engine import Engine, Goal, Lane, LaneResult, LaneState, PixelRows, Report, SplitTensors
from lanewise.engine.randomness import stream_seed
from lanewise.errors import SearchError
from lanewise.lane_metrics import lane_scores
from lanewise.metrics import METRICS, find_metric, probabilities
from lanewise.own_loss import load_loss
from lanewise.own_metric import use_own_metric
from lanewise.pretrained import Pretrained, Taken
from lanewise.study import Study, training_defaults
from lanewise.training_checks import check_training

if TYPE_CHECKING:
    from lanewise.checkpoints import FinishedLanes
    from lanewise.data import Arrays, Dataset, Layout
    from lanewise.model import Network
    from lanewise.space import Config

WATCHED = {"classes": ("accuracy", "log_loss"), "regression": ("rmse", "r2")}  # beside the objective
_FILLING = ("random", "sobol", "grid")  # strategies that learn nothing from results
MOST_LANES = {"cpu": 64, "cuda": 256}


def lane_count(study: Study, device: str) -> int:
    """How many trials train side by side, by rule and not by clock, so that a study is repeatable.

    A strategy that learns nothing fills the device. One that learns needs rounds to learn from: it gets a
    fifth of its trials at once, at least 8.
    """
    if study.search.lanes != "auto":
        return int(study.search.lanes)
    most = MOST_LANES[device]
    if study.search.trials is None:
        return most
    wanted = study.search.trials if study.search.strategy in _FILLING else max(8, study.search.trials // 5)
    return min(wanted, most)


def choose_device(study: Study) -> str:
    """The device the study asks for; "auto" takes a GPU where there is one."""
    if study.train.device != "auto":
        return study.train.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def prepare_torch(study: Study) -> None:
    """Set thread count and arithmetic once per process, before anything trains."""
    torch.set_num_threads(study.train.threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def split_tensors(arrays: Arrays, layout: Layout, inputs: str) -> SplitTensors:
    """One split's arrays as the engine's tensors: one input for images, series, texts and one-hot tables."""
    sides = []
    for x_num, x_cat in (
        (arrays.x_num_train, arrays.x_cat_train),
        (arrays.x_num_valid, arrays.x_cat_valid),
    ):
        parts = network_inputs(layout, inputs, x_num, x_cat)
        sides.append(tuple(torch.from_numpy(np.ascontiguousarray(p)) for p in parts))
    y_train, y_valid = (torch.from_numpy(np.ascontiguousarray(y)) for y in (arrays.y_train, arrays.y_valid))
    return SplitTensors(sides[0], y_train, sides[1], y_valid, float(arrays.target_std))


def image_rows(
    dataset: Dataset, split: Split, pixels: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64]
) -> SplitTensors:
    """One split of images whose pixels stay where they lie; the same values as `split_tensors`, to the bit.

    Args:
        dataset: development rows.
        split: which train and validate.
        pixels: uint8 [M, C, H, W], mapped from the disk.
        rows: int64 [N], which of them each development row is.
    """
    fitted, (mean, deviation) = dataset.preprocess(split.train), dataset.target_scale(split.train)
    assert isinstance(fitted, ImagePreprocessor)  # stored pixels are images
    base, levels = torch.from_numpy(pixels), torch.from_numpy(fitted.levels)[None]

    def side(which: npt.NDArray[np.int64]) -> tuple[tuple[PixelRows, ...], torch.Tensor]:
        own = torch.from_numpy(rows[which])
        y = torch.from_numpy(np.ascontiguousarray(dataset.scaled_target(which, mean, deviation)))
        return (PixelRows(base, own, levels, torch.zeros_like(own)),), y

    return SplitTensors(*side(split.train), *side(split.valid), deviation)


class Trainer:
    """Lanes of one study.

    Args:
        study: The study.
        network: The resolved network.
        dataset: The development rows.
        splits: The splits trials may name by index; None is the search's own holdout.
        lanes: Most lanes at once; None follows the study.
        ticked: Called after every tick, for who waits for a sign of life.

    Raises:
        StudyError: The study's loss, augmentation, mixing or metric does not fit the data.
        ModelError: A loss or a metric the user wrote cannot be used, or pretrained weights do not fit the network.
    """

    def __init__(
        self,
        study: Study,
        network: Network,
        dataset: Dataset,
        splits: Sequence[Split] | None = None,
        *,
        lanes: int | None = None,
        ticked: Callable[[], None] | None = None,
    ) -> None:
        check_training(study, dataset, network.inputs)
        self._own_metric = use_own_metric(study, dataset)
        prepare_torch(study)
        self._ticked = ticked
        self.study, self.network, self.dataset = study, network, dataset
        self.device = choose_device(study)
        self.splits = list(splits) if splits is not None else [dataset.holdout]
        self.outputs = dataset.n_outputs
        self._pretrained = Pretrained.of(study, network, dataset)
        self._lanes = lanes or lane_count(study, self.device)
        present = bool(dataset.columns.how.get("present", False))
        stored = stored_rows(dataset.frame, dataset.columns)
        self._tensors = [
            replace(split_tensors(dataset.arrays(s), dataset.layout, network.inputs), present=present)
            if stored is None
            else image_rows(dataset, s, *stored)
            for s in self.splits
        ]
        self._engines: dict[str, Engine] = {}
        self._keys: list[Any] = []
        self._chunk: int | None = None  # lanes that step at once; None is measured
        self._said: list[str] = []  # notes of engines that were given up

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the scores of every epoch, the objective first."""
        kind = "regression" if self.dataset.task == "regression" else "classes"
        return tuple(dict.fromkeys((self.dataset.metric, *WATCHED[kind])))

    def _engine(self, loss: str) -> Engine:
        if loss not in self._engines:
            metric, names = find_metric(self.dataset.metric, self.dataset.task), self.metrics

            def score(
                outputs: torch.Tensor, target: torch.Tensor, n_K: torch.Tensor, scale: torch.Tensor
            ) -> Mapping[str, torch.Tensor]:
                found = lane_scores([n for n in names if n in METRICS], outputs, target, n_K, scale)
                return {f"valid/{name}": values for name, values in found.items()}

            tie = None if self.dataset.task == "regression" else "valid/log_loss"
            goal = Goal(
                loss, score, f"valid/{metric.name}", metric.direction == "maximize", self.outputs, tie
            )
            if self._own_metric is not None:
                goal = replace(goal, further=self._own_score)
            if ":" in loss:  # the user's own
                goal = replace(goal, own=load_loss(loss, [self.study.base_dir]))
            self._engines[loss] = Engine(
                self._tensors,
                goal,
                lanes=self._lanes,
                device=self.device,
                precision=self.study.train.precision,
                chunk=self._chunk,
            )
        return self._engines[loss]

    def _own_score(self, index: int, outputs: torch.Tensor) -> dict[str, float]:
        """The user's metric on one lane's outputs [N, C], targets and values in the target's unit."""
        assert self._own_metric is not None
        split = self.splits[index]
        mean, deviation = self.dataset.target_scale(split.train)
        given = outputs.numpy().astype(np.float64)
        prediction = given[:, 0] * deviation + mean if self.dataset.task == "regression" else probabilities(given)
        value = self._own_metric.score(self.dataset.target[split.valid], prediction)
        return {f"valid/{self.dataset.metric}": value}

    def complete(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration with every training hyperparameter in it, inactive ones at their defaults."""
        full = training_defaults() | dict(config)
        if full["loss"] == "auto":
            full["loss"] = "mse" if self.dataset.task == "regression" else "cross_entropy"
        return full

    def lane(
        self,
        key: int | str,
        config: Config,
        seed: int,
        *,
        split: int = 0,
        epochs: int | None = None,
        stop: int | None = None,
        patience: int | None = None,
        keep_best: bool = True,
        scored: bool = True,
        watched: bool = False,
        slopes: tuple[str, ...] = (),
    ) -> Lane:
        """A lane for one configuration; its network is initialised from the seed, then from pretrained weights."""
        full = self.complete(config)
        module = self.network.build(self.dataset.layout, self.outputs, config, stream_seed(seed, "init"))
        taken = self._pretrained.start(module, full) if self._pretrained else Taken()
        return Lane(
            key=key,
            seed=seed,
            config=full,
            module=module,
            shape=self.network.static_key(config),
            epochs=epochs or self.study.train.epochs,
            batch=int(full["batch_size"]),
            patience=self.study.train.patience if patience is None else patience,
            split=split,
            stop=stop,
            keep_best=keep_best,
            scored=scored,
            watched=watched,
            slopes=slopes,
            taken=taken.layers,
            frozen=taken.frozen,
        )

    @property
    def free(self) -> int:
        """Lanes that may still be added before the next tick."""
        return self._lanes - self.active

    @property
    def active(self) -> int:
        """Lanes that will train at the next tick."""
        return sum(engine.active for engine in self._engines.values())

    @property
    def notes(self) -> list[str]:
        """What a user should know about how lanes run."""
        weights = list(self._pretrained.words()) if self._pretrained else []
        notes = [note for engine in self._engines.values() for note in engine.notes]
        return list(dict.fromkeys([*weights, *self._said, *notes]))

    def restart(self, chunk: int | None = None) -> None:
        """Forget all lanes, also those an exception left half way; step at most `chunk` at once from now on."""
        self._said = self.notes
        self._engines, self._keys, self._chunk = {}, [], chunk
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def add(self, lane: Lane, state: LaneState | None = None) -> None:
        """Train `lane` from the next tick on, from a state if one is given."""
        self._engine(str(lane.config["loss"])).add(lane, state)
        self._keys.append(lane.key)

    def tick(self) -> list[Report]:
        """One epoch of every active lane, reports in the order the lanes were added."""
        reports = {r.key: r for engine in self._engines.values() if engine.active for r in engine.tick()}
        if self._ticked is not None:
            self._ticked()
        self._keys = [k for k in self._keys if k in reports]
        return [reports[k] for k in self._keys]

    def drop(self, key: int | str) -> None:
        """Stop a lane and forget it."""
        self._keys = [k for k in self._keys if k != key]
        for engine in self._engines.values():
            engine.drop(key)

    def state(self, key: int | str) -> LaneState:
        """Where an active lane stands; its tensors are views that the next tick changes."""
        return next(e for e in self._engines.values() if e.holds(key)).state(key)

    def take(self, key: int | str) -> LaneResult:
        """A finished lane's weights and validation outputs; call before the next tick."""
        return next(e for e in self._engines.values() if e.holds(key)).take(key)

    def train_all(
        self, lanes: Sequence[Lane], finished: FinishedLanes | None = None
    ) -> list[LaneResult | None]:
        """Train lanes to their end, refilling as they finish; None where one failed.

        Args:
            lanes: Named by different keys.
            finished: Where lanes that ended are kept; those of a call that was cut off are not trained again.
        """
        results: dict[int | str, LaneResult | None] = {}
        by_key = {lane.key: lane for lane in lanes}
        for lane in lanes:
            known = finished.find(lane, rows_of(self.splits[lane.split])) if finished else None
            if known is not None:
                results[lane.key] = known[0]
        waiting = [lane for lane in reversed(lanes) if lane.key not in results]
        while waiting or self.active:
            while waiting and self.free > 0:
                self.add(waiting.pop())
            ended = {r.key: None if r.failed else self.take(r.key) for r in self.tick() if r.finished}
            results |= ended
            if finished and ended:
                lane_of = {k: (by_key[k], rows_of(self.splits[by_key[k].split])) for k in ended}
                finished.keep([(*lane_of[k], result) for k, result in ended.items()])
        return [results[lane.key] for lane in lanes]


def rows_of(split: Split) -> str:
    """Which rows a split trains and validates on, as a hash."""
    return hashlib.sha256(split.train.tobytes() + b"/" + split.valid.tobytes()).hexdigest()[:16]


def full_split(dataset: Dataset) -> Split:
    """All development rows to train on; the first stands in as validation row and decides nothing.

    For the engine, which scores every epoch and so needs a row; `Dataset.everything` has none.
    """
    rows = np.arange(len(dataset.target), dtype=np.int64)
    return Split("all", rows, rows[:1])


def full_trainer(
    study: Study,
    network: Network,
    dataset: Dataset,
    finished: FinishedLanes | None = None,
    ticked: Callable[[], None] | None = None,
) -> Callable[[Config, Sequence[int], int], list[dict[str, torch.Tensor]]]:
    """The function `refit` trains with: the members are lanes, stopped after the given epoch of the plan."""

    def train(config: Config, seeds: Sequence[int], epochs: int) -> list[dict[str, torch.Tensor]]:
        trainer = Trainer(study, network, dataset, [full_split(dataset)], lanes=len(seeds), ticked=ticked)
        plan = max(epochs, study.train.epochs)
        lanes = [
            trainer.lane(i, config, seed, epochs=plan, stop=epochs, patience=0, keep_best=False, scored=False)
            for i, seed in enumerate(seeds)
        ]
        weights = []
        for result in trainer.train_all(lanes, finished):
            if result is None:
                raise SearchError(
                    "a refit of the winner diverged on all development rows",
                    rule="its loss stays finite, as it did in every fold",
                    remedy="lower the upper bound of lr, or set clip",
                )
            weights.append(result.weights)
        return weights

    return train
