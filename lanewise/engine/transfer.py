"""Lanes that start from pretrained weights: what is frozen, until when, how fast the rest trains; used by pool.

Every element of a lane's parameters has a factor: 1, `pretrained_lr_factor` in what was taken from a file, 0 while
it is frozen. The factor is that of the learning rate in a group of torch.optim: an update is proportional to the rate,
decoupled weight decay included, so it is scaled as a whole. Gradients of frozen layers are computed and the
optimiser's means go on, so that a layer that thaws begins with means of its own and no step too large.

Sources: freezing and thawing: Yosinski et al. 2014, "How transferable are features in deep neural networks?" (arXiv
1411.1792); a rate for each group: Howard and Ruder 2018, "Universal Language Model Fine-tuning" (arXiv 1801.06146).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from lanewise.engine.lane import Lane

if TYPE_CHECKING:
    from lanewise.engine.stack import Stack


def factor(lane: Lane, name: str, epoch: int) -> float:
    """Of the learning rate of one parameter in one epoch.

    Args:
        lane: The lane.
        name: Of the parameter.
        epoch: 0-based.
    """
    if name in lane.frozen and epoch < int(lane.config["thaw_epoch"]):
        return 0.0
    return float(lane.config["pretrained_lr_factor"]) if name in lane.taken else 1.0


def factors_of(lanes: Sequence[tuple[Lane, int]], stack: Stack, device: torch.device) -> torch.Tensor | None:
    """The factors [K, P] of some lanes, each in its epoch; None where all are 1."""
    if not any(lane.taken for lane, _ in lanes):
        return None
    table = torch.tensor([[*(factor(lane, n, epoch) for n in stack.names), 1.0] for lane, epoch in lanes])
    if bool((table == 1).all()):
        return None
    sizes = torch.tensor([*stack.sizes, stack.padded - stack.size])
    return table.repeat_interleave(sizes, dim=1).to(device)


def trained_part(g: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Gradients [K, P] without those of frozen layers, for what is asked of the trained ones only: their norm."""
    return torch.where(factors == 0, 0.0, g)


def slow_down(p: torch.Tensor, before: torch.Tensor, factors: torch.Tensor) -> None:
    """Scale the way parameters [K, P] have just gone, in place; 0 leaves them where they were, 1 changes no bit."""
    moved = torch.where(factors == 0, before, before + factors * (p - before))
    p.copy_(torch.where(factors == 1, p, moved))
