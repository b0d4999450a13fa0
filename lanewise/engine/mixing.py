"""Mixup and cutmix: training rows blended with others of their batch, each lane in its own way; used by plan and pool.

A lane draws one share for each step from its own stream, and a partner for every row. Lanes that do not mix keep their
rows and their bits. Of classes the two losses are mixed, which for cross-entropy is the loss of the mixed targets;
of numbers the targets.

Sources: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization" (arXiv 1710.09412); Yun et al. 2019, "CutMix:
Regularization Strategy to Train Strong Classifiers with Localizable Features" (arXiv 1905.04899).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lanewise.engine.lane import Lane
from lanewise.engine.randomness import numbers

Losses = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

MIXINGS = ("none", "mixup", "cutmix")


@dataclass(frozen=True)
class Batch:
    """One step's rows: inputs, each [K, B, ...], targets [K, B], and the classes they were mixed with.

    `share` [K] is the first target's share; None where no lane mixes.
    """

    inputs: list[torch.Tensor]
    target: torch.Tensor
    partner: torch.Tensor | None = None
    share: torch.Tensor | None = None


@dataclass(frozen=True)
class Draws:
    """What one lane mixes in one epoch.

    Args:
        share: Of the row itself [S].
        partner: Place in the batch of each row's partner [S, B].
        box: top, bottom, left, right of the part that cutmix takes from the partner [S, 4]; empty for mixup.
    """

    share: npt.NDArray[np.float64]
    partner: npt.NDArray[np.int64]
    box: npt.NDArray[np.int64]


def draws(
    config: Mapping[str, Any], seed: int, epoch: int, size: tuple[int, int], shape: Sequence[int]
) -> Draws:
    """What a lane mixes in an epoch of `size` (steps, rows of a batch), for rows of a shape."""
    steps, batch = size
    places = np.tile(np.arange(batch), (steps, 1))
    box = np.zeros((steps, 4), dtype=np.int64)
    if config["mixing"] == "none":
        return Draws(np.ones(steps), places, box)
    rng = numbers(seed, "mixing", epoch)
    alpha = float(config["mixing_alpha"])
    share = rng.beta(alpha, alpha, steps)
    partner = rng.permuted(places, axis=1)
    if config["mixing"] == "cutmix":
        centre = rng.random((steps, 2))
        sides = np.array(shape[-2:])
        half = (np.sqrt(1 - share)[:, None] * sides).astype(np.int64) // 2
        middle = (centre * sides).astype(np.int64)
        low, high = np.clip(middle - half, 0, sides), np.clip(middle + half, 0, sides)
        box = np.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]], axis=1)
        share = 1 - np.prod(high - low, axis=1) / np.prod(sides)
    return Draws(share, partner, box)


class Mixing:
    """The mixing of some lanes in one epoch.

    Args:
        lanes: Each lane and its epoch; at least one mixes.
        size: Steps of the epoch and rows of a batch.
        shape: Of a row of the network's first input.
        device: Where the rows are.
    """

    def __init__(
        self,
        lanes: Sequence[tuple[Lane, int]],
        size: tuple[int, int],
        shape: Sequence[int],
        device: torch.device,
    ) -> None:
        own = [draws(lane.config, lane.seed, epoch, size, shape) for lane, epoch in lanes]
        dtype = torch.get_default_dtype()
        self._share = torch.from_numpy(np.stack([d.share for d in own], axis=1)).to(device, dtype)  # [S, K]
        first = size[1] * np.arange(len(own)).reshape(-1, 1)
        partner = np.stack([d.partner for d in own], axis=1) + first  # in the flattened batch
        self._partner = torch.from_numpy(partner).to(device)  # [S, K, B]
        self._box = torch.from_numpy(np.stack([d.box for d in own], axis=1)).to(device)  # [S, K, 4]
        blends = [lane.config["mixing"] == "mixup" for lane, _ in lanes]
        self._blends = torch.tensor(blends, device=device)
        self._cuts = any(lane.config["mixing"] == "cutmix" for lane, _ in lanes)

    def at(self, step: int, inputs: Sequence[torch.Tensor], target: torch.Tensor) -> Batch:
        """The mixed batch of a step."""
        share, partner = self._share[step], self._partner[step].flatten()
        mixed = []
        for x in inputs:
            if not x.is_floating_point():  # a table without categories has such an input, of no columns
                mixed.append(x)
                continue
            other = x.flatten(0, 1).index_select(0, partner).view_as(x)
            own = share.view(-1, *(1,) * (x.dim() - 1))
            blends = self._blends.view(own.shape)
            blended = torch.where(blends, own * x + (1 - own) * other, x)
            mixed.append(torch.where(self._inside(step, x), other, blended) if self._cuts else blended)
        other_target = target.flatten().index_select(0, partner).view_as(target)
        if target.is_floating_point():
            own = share.unsqueeze(1)
            both = torch.where(own < 1, own * target + (1 - own) * other_target, target)
            return Batch(mixed, both)
        return Batch(mixed, target, other_target, share)

    def _inside(self, step: int, x: torch.Tensor) -> torch.Tensor:
        """bool [K, 1, 1, H, W]: the part that cutmix takes from the partner."""
        top, bottom, left, right = (side.view(-1, 1, 1) for side in self._box[step].unbind(1))
        y = torch.arange(x.shape[-2], device=x.device).view(1, -1, 1)
        z = torch.arange(x.shape[-1], device=x.device).view(1, 1, -1)
        return ((y >= top) & (y < bottom) & (z >= left) & (z < right)).view(-1, 1, 1, *x.shape[-2:])


def mixes(config: Mapping[str, Any]) -> bool:
    """Whether a lane of this configuration mixes its rows."""
    return str(config["mixing"]) != "none"


def batch_losses(losses: Losses, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Mean loss [K] of each lane's batch, mixed or not; `losses` takes outputs [K, B, C] and targets [K, B]."""
    loss = losses(outputs, batch.target)
    if batch.partner is None or batch.share is None:
        return loss
    other = losses(outputs, batch.partner)
    return torch.where(batch.share < 1, batch.share * loss + (1 - batch.share) * other, loss)
