"""The search's requests as lanes of the real trainer; `run.search` and `recorded` train through it."""

from __future__ import annotations

from collections.abc import Sequence

from lanewise.ledger import Report
from lanewise.search.records import LaneRequest
from lanewise.trainer import Trainer


class SearchLanes:
    """A `records.Trainer` over `lanewise.trainer.Trainer`."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    @property
    def active(self) -> int:
        """Number of occupied lanes."""
        return self._trainer.active

    def free(self, request: LaneRequest) -> bool:
        """Whether there is an empty lane; every lane takes every shape."""
        return self._trainer.free > 0

    def add(self, request: LaneRequest) -> None:
        """Put the trial into an empty lane."""
        lane = self._trainer.lane(
            request.number,
            request.config,
            request.seed,
            epochs=request.epochs,
            patience=request.patience,
            keep_best=False,  # a search needs scores; the winner is trained again on its folds
        )
        self._trainer.add(lane)

    def tick(self) -> Sequence[Report]:
        """One epoch of every lane."""
        return [
            Report(int(r.key), r.epoch, r.train_loss, r.scores, r.finished, r.failed)
            for r in self._trainer.tick()
        ]

    def drop(self, number: int) -> None:
        """Empty the trial's lane."""
        self._trainer.drop(number)
