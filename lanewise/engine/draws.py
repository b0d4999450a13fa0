"""What lanes draw at random in the steps of one epoch beside order and augmentation; used by pool.

Stacked lanes get dropout masks, drawn ahead for many steps. Lanes that run one after another draw theirs when they are
asked for, from the same streams and in the same order; and what their network draws by itself is seeded by name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lanewise.engine.dropout import scaled_masks, thresholds_and_scales
from lanewise.engine.plan import Slot
from lanewise.engine.randomness import MaskStream, own_seed
from lanewise.engine.stack import LaneDraws, Noise, Stack

_MASK_BYTES = 2**22  # of dropout draws held at once for one lane


def masks_of(slots: Sequence[Slot], stack: Stack, steps: int, device: torch.device) -> Masks | OwnDraws:
    """What some lanes draw in their next epoch."""
    return Masks(slots, stack, steps, device) if stack.stacked else OwnDraws(slots)


def evaluation(slots: Sequence[Slot], stack: Stack, batch: int) -> Noise:
    """What some lanes draw on one batch of validation rows: no dropout."""
    if stack.stacked:
        return Noise()
    seeds = (own_seed(s.lane.seed, "evaluation", batch) for s in slots)
    return Noise(lanes=[LaneDraws(seed) for seed in seeds])


@dataclass
class OwnDraws:
    """The draws of lanes that run one after another."""

    slots: Sequence[Slot]

    def __post_init__(self) -> None:
        self._streams = [MaskStream(s.lane.seed, s.epoch) if max(s.rates, default=0) > 0 else None for s in self.slots]

    def at(self, step: int) -> Noise:
        """Of one step; steps are to be asked for in order, after the one before was taken."""
        lanes = []
        for slot, stream in zip(self.slots, self._streams, strict=True):
            if stream is not None:
                stream.mark()
            lanes.append(LaneDraws(own_seed(slot.lane.seed, slot.epoch, step), slot.rates, stream))
        return Noise(lanes=lanes)


class Masks:
    """Scaled dropout masks per step, from each lane's own stream; none where no lane drops anything."""

    def __init__(self, slots: Sequence[Slot], stack: Stack, steps: int, device: torch.device) -> None:
        self._stack, self._steps, self._device = stack, steps, device
        rates = np.array([s.rates for s in slots], dtype=np.float64).reshape(len(slots), -1)
        self._on = rates.size > 0 and bool((rates > 0).any())
        if not self._on:
            return
        self._lanes = [MaskStream(s.lane.seed, s.epoch) if max(s.rates) > 0 else None for s in slots]
        calls = [[thresholds_and_scales(row[owner]) for owner, _ in stack.mask_shapes] for row in rates]
        thresholds, scales = (np.array([[call[i] for call in row] for row in calls]) for i in (0, 1))
        self._thresholds = torch.from_numpy(thresholds.astype(np.int16)).to(device)  # [K, calls]
        self._scales = torch.from_numpy(scales.astype(np.float32)).to(device)
        self._width = sum(stack.mask_sizes)
        self._block = max(1, min(steps, _MASK_BYTES // (2 * self._width)))
        self._bits = torch.empty(0)

    def at(self, step: int) -> Noise:
        """One mask [K, *shape] per dropout call: 0, or 1 / (1 - rate)."""
        if not self._on:
            return Noise()
        within = step % self._block
        if within == 0:
            size = min(self._block, self._steps - step)
            full = torch.full((size, self._width), 2**15 - 1, dtype=torch.int16)
            drawn = [full if lane is None else lane.draw(size, self._width) for lane in self._lanes]
            self._bits = torch.stack(drawn, dim=1).to(self._device)  # [S, K, width]
        masks = []
        parts = torch.split(self._bits[within], self._stack.mask_sizes, dim=1)
        for call, (bits, (_, shape)) in enumerate(zip(parts, self._stack.mask_shapes, strict=True)):
            column = slice(call, call + 1)
            mask = scaled_masks(bits[:, : math.prod(shape)], self._thresholds[:, column], self._scales[:, column])
            masks.append(mask.view(-1, *shape))
        return Noise(masks=masks)
