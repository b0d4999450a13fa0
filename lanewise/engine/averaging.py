"""Averages of a lane's weights along its training, which are validated and kept in their place; used by plan and pool.

An average is one more row beside the weights. After every step it moves a share of the way to them, so that it
stays a weighted mean of the weights it has seen. Running statistics of batch normalisation are averaged with the
same shares. Training itself does not know of it. It draws nothing and holds no tensor.

Sources: ema: Polyak and Juditsky 1992; its weights 1, d, d^2 ... are divided by their sum as in Adam (Kingma and Ba
2015), so that it does not lean on the start. swa: Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and
Better Generalization" (arXiv 1803.05407), one model an epoch; but the learning rate is the schedule's, and running
statistics are averaged where the paper goes through the rows once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[np.float64]

AVERAGINGS = ("none", "ema", "swa")
MEAN = "mean"  # the row of the average; "mean.NAME" are its buffers


def averages(config: Mapping[str, Any]) -> bool:
    """Whether a lane of this configuration keeps an average."""
    return str(config["averaging"]) != "none"


def shares(config: Mapping[str, Any], epoch: int, steps: int, epochs: int) -> Array:
    """The share of the way that the average moves to the weights after each step of an epoch.

    Args:
        config: The lane's training hyperparameters.
        epoch: 0-based.
        steps: Of one epoch.
        epochs: Of the lane's whole plan.

    Returns:
        float64 [steps]; 1 where the average is the weights themselves, 0 where it stays.
    """
    if config["averaging"] == "ema":
        decay = float(config["ema_decay"])
        t = np.arange(epoch * steps + 1, (epoch + 1) * steps + 1, dtype=np.float64)
        moved: Array = (1 - decay) / (1 - decay**t)
        return moved
    start = epochs - max(1, round(float(config["swa_share"]) * epochs))
    only_last = np.zeros(steps)
    only_last[-1] = 1 / max(1, epoch - start + 1)
    return only_last


def plan_shares(rows: Sequence[Array], device: torch.device) -> list[torch.Tensor | None]:
    """The shares [K, 1] of some lanes after every step; None after a step where all averages stay.

    Args:
        rows: `shares` of each lane.
    """
    table = np.stack(rows, axis=1)
    columns = torch.from_numpy(table).to(torch.get_default_dtype()).unsqueeze(-1).to(device)
    return [column if row.any() else None for column, row in zip(columns, table, strict=True)]


def move(
    tensors: Mapping[str, torch.Tensor], running: Sequence[str], counted: Sequence[str], share: torch.Tensor
) -> None:
    """Move the averages, in place.

    Args:
        tensors: "flat", "mean" [K, P], and buffers "now.NAME" and "mean.NAME", each [K, ...].
        running: Names of the buffers that training changes.
        counted: Names of those that have no mean (counters): the average takes their present values.
        share: [K, 1].
    """
    tensors[MEAN].lerp_(tensors["flat"], share)
    for name in running:
        now = tensors[f"now.{name}"]
        tensors[f"{MEAN}.{name}"].lerp_(now, share.view(-1, *(1,) * (now.dim() - 1)))
    for name in counted:
        now, mean = tensors[f"now.{name}"], tensors[f"{MEAN}.{name}"]
        mean.copy_(torch.where(share.view(-1, *(1,) * (now.dim() - 1)) > 0, now, mean))
