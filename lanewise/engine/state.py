"""A lane between two epochs: what a checkpoint keeps of it; made and taken in by pool, written by nobody here.

Random numbers are drawn by name (randomness.py), so no generator is part of it, and a lane that goes on from
its state has the bits of one that was never stopped.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

OPTIMIZER = ("first", "second")  # state buffers of every optimiser family


@dataclass(frozen=True)
class LaneState:
    """All that a lane's next epoch depends on, beside its configuration and seed.

    Args:
        epoch: Epochs trained.
        best_epoch: The best of them; 0 before there is one.
        best_score: Its ranked score.
        plateau: Scale, best score and bad epochs of a plateau schedule; None for the others.
        rows: "flat", "first", "second" and, where the best epoch's weights are kept, "best": [P] each; the
            average of a lane that has one as "mean", the tangents of a lane with slopes.
        buffers: The network's own buffers, "now.NAME" and perhaps "best.NAME" and "mean.NAME".
    """

    epoch: int
    best_epoch: int
    best_score: tuple[float, ...]
    plateau: tuple[float, float, int] | None
    rows: dict[str, torch.Tensor]
    buffers: dict[str, torch.Tensor]
