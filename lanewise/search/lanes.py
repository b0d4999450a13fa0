"""The search's requests as lanes of the real trainer; `run.search` and `recorded` train through it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from lanewise.checkpoints import Checkpoints
from lanewise.ledger import Report
from lanewise.search.records import LaneRequest
from lanewise.trainer import Trainer


class SearchLanes:
    """A `records.Trainer` over `lanewise.trainer.Trainer`.

    Args:
        trainer: Trains the lanes.
        checkpoints: Where they are kept; None keeps none.
    """

    def __init__(self, trainer: Trainer, checkpoints: Checkpoints | None = None) -> None:
        self._trainer, self._checkpoints = trainer, checkpoints
        self._running: dict[int, str] = {}  # trial -> what it is, in one text

    @property
    def active(self) -> int:
        """Number of occupied lanes."""
        return self._trainer.active

    def free(self, request: LaneRequest) -> bool:
        """Whether there is an empty lane; every lane takes every shape."""
        return self._trainer.free > 0

    def saved(self, request: LaneRequest, at_most: int) -> int:
        """Epochs from which the trial can go on."""
        state = self._checkpoints.find(_identity(request), at_most) if self._checkpoints else None
        return state.epoch if state else 0

    def add(self, request: LaneRequest, epoch: int = 0) -> None:
        """Put the trial into an empty lane, as it stood after an epoch that `saved` named."""
        lane = self._trainer.lane(
            request.number,
            request.config,
            request.seed,
            epochs=request.epochs,
            patience=request.patience,
            keep_best=False,  # a search needs scores; the winner is trained again on its folds
        )
        self._running[request.number] = _identity(request)
        state = None
        if epoch and self._checkpoints:
            state = self._checkpoints.find(self._running[request.number], epoch)
        self._trainer.add(lane, state)

    def tick(self) -> Sequence[Report]:
        """One epoch of every lane."""
        reports = [
            Report(int(r.key), r.epoch, r.train_loss, r.scores, r.finished, r.failed)
            for r in self._trainer.tick()
        ]
        for report in reports:
            if report.finished:
                self._running.pop(report.number, None)
        return reports

    def keep(self, *, at_rung: bool, stopping: bool) -> None:
        """Write down where the lanes stand, if it is time."""
        if self._checkpoints and self._checkpoints.due(at_rung=at_rung, stopping=stopping):
            self._checkpoints.write({text: self._trainer.state(n) for n, text in self._running.items()})

    def drop(self, number: int) -> None:
        """Empty the trial's lane."""
        self._running.pop(number, None)
        self._trainer.drop(number)


def _identity(request: LaneRequest) -> str:
    """The whole request as text: a state is given back to the very same trial only."""
    return json.dumps(vars(request), sort_keys=True)
