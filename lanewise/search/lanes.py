"""The search's requests as lanes of the real trainer; `guarded` trains through it, here or in `worker`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from lanewise.checkpoints import Checkpoints
from lanewise.engine import LaneState
from lanewise.ledger import SIZE, Report
from lanewise.model_size import model_size
from lanewise.process_guard import unchanged_process
from lanewise.search.records import LaneRequest
from lanewise.space import Config
from lanewise.trainer import Trainer


class SearchLanes:
    """A `records.Trainer` over `lanewise.trainer.Trainer`.

    Args:
        trainer: Trains the lanes.
        checkpoints: Where they are kept; None keeps none.
        remember: Remember in memory where every lane stood after its last epoch: for networks that may raise
            at any time. It costs a copy of the lanes, and an exception then costs an epoch.
    """

    def __init__(
        self, trainer: Trainer, checkpoints: Checkpoints | None = None, *, remember: bool = False
    ) -> None:
        self._trainer, self._checkpoints, self._remember = trainer, checkpoints, remember
        self._running: dict[int, str] = {}  # trial -> what it is, in one text
        self._remembered: dict[int, tuple[str, LaneState]] = {}
        self._sizes: dict[str, dict[str, float]] = {}  # network shape -> what the first report of a trial says of it
        self._size_of: dict[int, dict[str, float]] = {}  # trial -> the same, until it has been said

    @property
    def notes(self) -> list[str]:
        """What a user should know about how lanes run."""
        return self._trainer.notes

    @property
    def active(self) -> int:
        """Number of occupied lanes."""
        return self._trainer.active

    def free(self, request: LaneRequest) -> bool:
        """Whether there is an empty lane; every lane takes every shape."""
        return self._trainer.free > 0

    def saved(self, request: LaneRequest, at_most: int) -> int:
        """Epochs from which the trial can go on."""
        state = self._find(request, at_most)
        return state.epoch if state else 0

    def _find(self, request: LaneRequest, at_most: int) -> LaneState | None:
        text = identity(request)
        known, near = self._remembered.get(request.number, ("", None))
        found = [near if known == text and near and near.epoch <= at_most else None]
        if self._checkpoints and (found[0] is None or found[0].epoch < at_most):
            found.append(self._checkpoints.find(text, at_most))
        return max((s for s in found if s), key=lambda state: state.epoch, default=None)

    def add(self, request: LaneRequest, epoch: int = 0) -> None:
        """Put the trial into an empty lane, as it stood after an epoch that `saved` named."""
        with self._guard():
            lane = self._trainer.lane(
                request.number,
                request.config,
                request.seed,
                epochs=request.epochs,
                patience=request.patience,
                slopes=tuple(request.slopes),
                keep_best=False,  # a search needs scores; the winner is trained again on its folds
            )
            if not epoch:
                self._size_of[request.number] = self._size(request.config, lane.shape)
            self._trainer.add(lane, self._find(request, epoch) if epoch else None)
        self._running[request.number] = identity(request)

    def _size(self, config: Config, shape: str) -> dict[str, float]:
        """The objectives beside the metric; trials of one shape share them."""
        if shape not in self._sizes:
            told, data = self._trainer, self._trainer.dataset
            wanted = told.study.search.objectives
            found = model_size(told.network, data.layout, told.outputs, config, wanted)
            self._sizes[shape] = {SIZE + name: count for name, count in found.items()}
        return self._sizes[shape]

    def tick(self) -> Sequence[Report]:
        """One epoch of every lane."""
        with self._guard():
            told = self._trainer.tick()
        reports = []
        for r in told:
            number = int(r.key)
            scores = r.scores | self._size_of.pop(number, {})
            reports.append(Report(number, r.epoch, r.train_loss, scores, r.finished, r.failed))
        for report in reports:
            if report.finished:
                self._running.pop(report.number, None)
        if self._remember:
            for number in self._running:
                self.put_aside(number)
        return reports

    def _guard(self) -> AbstractContextManager[None]:
        """Undoes what a network does to the process, so that the lane after it does not meet it."""
        return unchanged_process() if self._remember else nullcontext()

    def keep(self, *, at_rung: bool, stopping: bool) -> None:
        """Write down where the lanes stand, if it is time."""
        if self._checkpoints and self._checkpoints.due(at_rung=at_rung, stopping=stopping):
            self._checkpoints.write({text: self._trainer.state(n) for n, text in self._running.items()})
            if stopping:
                self._checkpoints.finish()

    def drop(self, number: int) -> None:
        """Empty the trial's lane."""
        self._running.pop(number, None)
        self._size_of.pop(number, None)
        self._trainer.drop(number)

    def restart(self, chunk: int | None) -> None:
        """Forget all lanes, whatever state training was left in; step at most `chunk` at once from now on."""
        self._running, self._size_of = {}, {}
        self._trainer.restart(chunk)
        if self._checkpoints:
            self._checkpoints.reread()

    def put_aside(self, number: int) -> None:
        """Remember where a lane stands."""
        state = self._trainer.state(number)
        rows, buffers = (
            {name: tensor.cpu().clone() for name, tensor in tensors.items()}
            for tensors in (state.rows, state.buffers)
        )
        self._remembered[number] = (self._running[number], replace(state, rows=rows, buffers=buffers))

    def remembered(self, number: int) -> tuple[str, LaneState]:
        """What a lane is, in one text, and where it stood when it was last put aside."""
        return self._remembered[number]

    def forget(self, number: int) -> None:
        """The lane's state is not asked for again."""
        self._remembered.pop(number, None)


def identity(request: LaneRequest) -> str:
    """The whole request as text: a state is given back to the very same trial only."""
    return json.dumps(vars(request), sort_keys=True)
