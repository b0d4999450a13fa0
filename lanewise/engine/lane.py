"""What goes into a pool and what comes out: lanes, splits, reports, results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from lanewise.engine.pixels import Rows

# (outputs [K, N, C], target [K, N], rows of each lane [K], scale of each lane's target [K]) -> name -> [K]
Score = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], Mapping[str, torch.Tensor]]


@dataclass(frozen=True)
class SplitTensors:
    """One split's rows as tensors: inputs a tuple of [N, ...] each, target [N] (int64 codes or float32).

    Images may be `PixelRows` in place of a tensor.

    `scale` is the standard deviation by which a regression target was divided; scores are in its unit. `present`
    says that the last channel of a series is 1 where there is a value and 0 where there is none.
    """

    train: tuple[Rows, ...]
    train_target: torch.Tensor
    valid: tuple[Rows, ...]
    valid_target: torch.Tensor
    scale: float = 1.0
    present: bool = False


@dataclass(frozen=True)
class Lane:
    """One trial for the engine.

    Args:
        key: Unique among the lanes of an engine.
        seed: Decides order of rows and dropout; the module is already initialised from it.
        config: Training hyperparameters (optimizer, lr, weight_decay, schedule, clip ...), all present.
        module: The network, on the CPU.
        shape: Lanes of equal shape text may be stacked; says all that is static but the batch size.
        epochs: Length of the whole plan, which the schedule follows.
        batch: Rows in a batch.
        patience: Stop after so many epochs without a better objective; 0 is never.
        split: Index of the split it trains on.
        stop: Stop after this epoch though the plan is longer; None for the whole plan.
        keep_best: Keep the weights of the best epoch; False keeps the last epoch's.
        scored: False where the validation rows mean nothing (a refit on all rows); a plateau schedule then
            keeps its rate.
        watched: Its reports carry its outputs on the validation rows.
        slopes: Hyperparameters by which its reports carry the derivative of the validation loss (hypergradient.py).
        taken: Parameters that started from pretrained weights and train at a rate of their own (transfer.py).
        frozen: Those of them that do not train until they thaw.
    """

    key: int | str
    seed: int
    config: Mapping[str, Any]
    module: nn.Module
    shape: str
    epochs: int
    batch: int
    patience: int = 0
    split: int = 0
    stop: int | None = None
    keep_best: bool = True
    scored: bool = True
    watched: bool = False
    slopes: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """One lane's epoch: mean training loss over its batches and validation scores; nan where undefined.

    A watched lane's has the outputs [N, C] on its validation rows, too.
    """

    key: int | str
    epoch: int
    train_loss: float
    scores: dict[str, float]
    finished: bool = False
    failed: str | None = None
    best_epoch: int | None = None
    step_losses: tuple[float, ...] = field(default=(), repr=False)
    outputs: torch.Tensor | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class LaneResult:
    """A lane at its end: the kept epoch's weights and its outputs [N, C] on its validation rows."""

    key: int | str
    weights: dict[str, torch.Tensor]
    best_epoch: int
    epochs: int
    outputs: torch.Tensor


@dataclass(frozen=True)
class Goal:
    """The loss, the scores of an epoch, and which of them decides the best epoch.

    `tie` names a score, lower is better, that decides between epochs of equal objective: accuracy on few
    rows has many equal epochs, and the first of them is rarely the best trained. `own` is a loss the user wrote,
    (outputs [B, C], target [B]) -> scalar; `loss` is then its name. `further` gives one lane's scores that
    are not computed for all lanes at once, from (index of its split, outputs [N, C] on its validation rows).
    """

    loss: str
    score: Score
    objective: str
    maximize: bool
    classes: int = 0
    tie: str | None = None
    own: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None
    further: Callable[[int, torch.Tensor], Mapping[str, float]] | None = None
