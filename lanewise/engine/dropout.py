"""Dropout whose masks come from outside, in the order of the calls in a forward pass; used by exchange and stack."""

from __future__ import annotations

import math

import torch
from torch import nn

from lanewise.engine.randomness import MaskStream, keep_threshold

_MOST = 2**15 - 1  # a 16-bit draw is at most this


class MaskSource:
    """Where the dropout layers of one network get their masks.

    Attributes:
        calls: Layer and size of every mask that was asked for, while they are recorded; else None.
        masks: Those of one pass, for lanes that are stacked; empty for no dropout.
        drawn: (rates, stream) of a lane that trains by itself: its masks are drawn when they are asked for, since
            the number of calls may depend on the data. None for no dropout.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[int, torch.Size]] | None = None
        self.masks: list[torch.Tensor] = []
        self.drawn: tuple[tuple[float, ...], MaskStream] | None = None

    def next(self, layer: int, shape: torch.Size, device: torch.device) -> torch.Tensor | None:
        """The next mask: 0, or 1 / (1 - rate); None for no dropout."""
        if self.calls is not None:
            self.calls.append((layer, shape))
            return None
        if self.drawn is not None:
            rates, stream = self.drawn
            count = math.prod(shape)
            bits = stream.draw(1, padded(count))[0, :count].view(shape).to(device)
            return scaled_masks(bits, *thresholds_and_scales(rates[layer]))
        return self.masks.pop(0) if self.masks else None


class LaneDropout(nn.modules.dropout._DropoutNd):
    """nn.Dropout, or that of whole channels, for lanes."""

    source: MaskSource
    place: int  # among the network's dropout layers
    channelwise: bool

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As the layer's own, but for where the mask comes from."""
        if not self.training:
            return input
        shape = input.shape[:2] + (1,) * (input.dim() - 2) if self.channelwise else input.shape
        mask = self.source.next(self.place, shape, input.device)
        if mask is None:
            return input
        return input.mul_(mask) if self.inplace else input * mask


def padded(count: int) -> int:
    """16-bit draws are made four at a time."""
    return -(-count // 4) * 4


def thresholds_and_scales(rate: float) -> tuple[int, float]:
    """The least 16-bit draw that keeps a unit, and by what what is kept is multiplied."""
    return min(keep_threshold(rate), _MOST), 1 / max(1 - rate, 1e-9) if rate < 1 else 0.0


def scaled_masks(
    bits: torch.Tensor, threshold: torch.Tensor | int, scale: torch.Tensor | float
) -> torch.Tensor:
    """Draws [...] (int16) as masks (float32)."""
    return (bits >= threshold).to(torch.float32).mul_(scale)
