"""The pruner that a study names."""

from __future__ import annotations

from lanewise.pruning.asha import Asha
from lanewise.pruning.hyperband import Hyperband
from lanewise.pruning.median import Median
from lanewise.pruning.rungs import Direction, NoPruner, Pruner, rungs
from lanewise.study import Study


def pruner_of(study: Study, direction: Direction) -> Pruner:
    """The pruner of a study.

    Args:
        study: Its `search` and `train.epochs` are used.
        direction: Whether higher or lower scores are better.
    """
    search = study.search
    if search.pruner == "none":
        return NoPruner()
    if search.pruner == "median":
        return Median(search.rung_first, direction)
    epochs = rungs(search.rung_first, search.rung_factor, study.train.epochs)
    algorithm = Asha if search.pruner == "asha" else Hyperband
    return algorithm(epochs, search.rung_factor, direction)
