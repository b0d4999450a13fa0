"""What the child process trains in one order: the range test, all folds, a refit; `worker` calls it.

Arrays come back as a file, which the parent reads with the functions below. Folds and refits that ended are
kept as the parent itself would keep them, so that a child that died is followed by one that goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from lanewise import lr_range
from lanewise.checkpoints import FinishedLanes, pack, unpack
from lanewise.data import Dataset
from lanewise.folds import Trained, fold_trainer
from lanewise.model import Network
from lanewise.space import build_space
from lanewise.study import Study
from lanewise.trainer import Trainer, full_trainer


class WholeStages:
    """Stages of one study, in the process they may take down.

    Args:
        study: The study.
        network: The user's.
        dataset: The development rows.
        ticked: Called after every epoch.
    """

    def __init__(
        self, study: Study, network: Network, dataset: Dataset, ticked: Callable[[], None]
    ) -> None:
        self._study, self._network, self._dataset, self._ticked = study, network, dataset, ticked

    def ramp(self) -> dict[str, Any]:
        """The range test: its curve as JSON, and notes on how the lanes ran."""
        trainer = Trainer(self._study, self._network, self._dataset, ticked=self._ticked)
        space = build_space(self._study, self._network.space, self._network.defaults)
        return {"curve": asdict(lr_range.run(trainer, space)), "notes": trainer.notes}

    def folds(
        self, jobs: Sequence[tuple[dict[str, Any], int, str]], kept: tuple[str, str], into: str
    ) -> None:
        """All folds; each job is a configuration, a seed and the name of a split."""
        wanted = self._study.evaluate
        splits = {s.name: s for s in self._dataset.folds(wanted.folds, wanted.repeats, self._study.seed)}
        train = fold_trainer(self._study, self._network, self._dataset, _kept(kept), self._ticked)
        found = train([(config, seed, splits[name]) for config, seed, name in jobs])
        tensors = {str(i): torch.from_numpy(outputs) for i, (outputs, _) in enumerate(found) if outputs is not None}
        Path(into).write_bytes(pack(tensors, [{"best_epoch": epoch} for _, epoch in found]))

    def refit(
        self, config: dict[str, Any], seeds: Sequence[int], epochs: int, kept: tuple[str, str], into: str
    ) -> None:
        """A refit's members."""
        train = full_trainer(self._study, self._network, self._dataset, _kept(kept), self._ticked)
        states = train(config, seeds, epochs)
        tensors = {f"{i}/{name}": tensor for i, state in enumerate(states) for name, tensor in state.items()}
        Path(into).write_bytes(pack(tensors, [{"member": i} for i in range(len(states))]))


def _kept(kept: tuple[str, str]) -> FinishedLanes:
    folder, context = kept
    return FinishedLanes(Path(folder), context)


def read_folds(path: Path) -> Trained:
    """What `WholeStages.folds` wrote."""
    tensors, index = unpack(path.read_bytes())
    return [
        (tensors[str(i)].numpy() if str(i) in tensors else None, entry["best_epoch"]) for i, entry in enumerate(index)
    ]


def read_refit(path: Path) -> list[Mapping[str, torch.Tensor]]:
    """What `WholeStages.refit` wrote."""
    tensors, index = unpack(path.read_bytes())
    states: list[dict[str, torch.Tensor]] = [{} for _ in index]
    for name, tensor in tensors.items():
        member, _, parameter = name.partition("/")
        states[int(member)][parameter] = tensor
    return list(states)
