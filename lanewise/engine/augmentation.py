"""Random changes of training images and series, each lane with its own; used by plan, batch by batch.

A lane's draws come from streams of its own, one for each kind of change and epoch (randomness.py), so none depends on
a neighbour or on another change. A change is computed for the lanes that use it and no others. Validation rows
are never changed. What the changes are is in transforms.py.

Sources: flips and crops: He et al. 2016 (arXiv 1512.03385), section 4.2, with the edge repeated in place of zeros,
because the rows are standardised and 0 is a grey; cutout: DeVries and Taylor 2017 (arXiv 1708.04552), where 0, the
mean of the training rows, fills the hole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lanewise.engine.lane import Lane
from lanewise.engine.randomness import generator, numbers
from lanewise.engine.transforms import brightened, contrasted, flipped, moved, spans, turned

Array = npt.NDArray[Any]
Change = Callable[..., torch.Tensor]  # (x [N, C, ...], amounts [N] ...) -> x


def amounts(config: Mapping[str, Any], seed: int, epoch: int, size: tuple[int, int], shape: Sequence[int]) -> dict[
    str, tuple[Array, ...]
]:  # fmt: skip
    """What a lane's changes are in one epoch, but for the noise.

    Args:
        config: Its training hyperparameters.
        seed: Its seed.
        epoch: 0-based.
        size: Steps of the epoch and rows of a batch.
        shape: Of a row: (C, H, W) or (C, L).

    Returns:
        Change -> its amounts, each [steps, batch]; without the changes that are off.
    """
    kind, sides = str(config["augmentation"]), shape[1:]
    if kind == "none":
        return {}

    def uniform(name: str, count: int = 1) -> Array:
        return numbers(seed, f"augment_{name}", epoch).random((count, *size))

    def strength(name: str) -> float:
        return float(config[f"augment_{name}"])

    found: dict[str, tuple[Array, ...]] = {}
    if kind == "image":
        for name in ("flip_horizontal", "flip_vertical"):
            if strength(name):
                found[name] = (uniform(name)[0] < strength(name),)
        if most := int(strength("crop")):
            found["crop"] = tuple(np.floor(uniform("crop", 2) * (2 * most + 1)).astype(np.int64) - most)
        if strength("rotation") or strength("shift"):
            angle = (2 * uniform("rotation")[0] - 1) * math.radians(strength("rotation"))
            places = [(2 * u - 1) * strength("shift") * s for u, s in zip(uniform("shift", 2), sides, strict=True)]
            found["turn"] = (angle, *places)
        if strength("contrast"):
            found["contrast"] = (1 + (2 * uniform("contrast")[0] - 1) * strength("contrast"),)
        if strength("brightness"):
            found["brightness"] = ((2 * uniform("brightness")[0] - 1) * strength("brightness"),)
    elif strength("shift"):
        found["shift"] = (np.rint((2 * uniform("shift")[0] - 1) * strength("shift") * sides[0]).astype(np.int64),)
    if strength("cutout"):
        holes = []
        for u, side in zip(uniform("cutout", len(sides)), sides, strict=True):
            holes += [np.floor(u * side).astype(np.int64), np.full(size, max(1, round(strength("cutout") * side)))]
        found["cutout"] = tuple(holes)
    return found


def _crop(x: torch.Tensor, down: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return moved(moved(x, down, 2), right, 3)


def _cutout(x: torch.Tensor, *holes: torch.Tensor) -> torch.Tensor:
    hole = spans(x, 2, holes[0], holes[1])
    if x.dim() == 4:
        hole = hole & spans(x, 3, holes[2], holes[3])
    return x.masked_fill(hole, 0.0)


# In the order in which they are done; noise stands before the hole.
_BEFORE: dict[str, Change] = {
    "flip_horizontal": lambda x, on: flipped(x, on, -1),
    "flip_vertical": lambda x, on: flipped(x, on, -2),
    "crop": _crop,
    "turn": turned,
    "shift": lambda x, by: moved(x, by, 2),
    "contrast": contrasted,
    "brightness": brightened,
}


class Augmentation:
    """The changes of some lanes in one epoch.

    Args:
        lanes: Each lane and its epoch.
        present: Of each lane, whether the last channel of a series says where there is a value; gets no noise.
        size: Steps of the epoch and rows of a batch.
        shape: Of a row of the network's first input.
        device: Where the rows are.
    """

    def __init__(
        self,
        lanes: Sequence[tuple[Lane, int]],
        present: Sequence[bool],
        size: tuple[int, int],
        shape: Sequence[int],
        device: torch.device,
    ) -> None:
        self._device, self._batch, self._shape, self._present = device, size[1], tuple(shape), present
        all_of = [amounts(lane.config, lane.seed, epoch, size, shape) for lane, epoch in lanes]
        self._changes = []
        for name, change in (*_BEFORE.items(), ("cutout", _cutout)):
            rows = [k for k, own in enumerate(all_of) if name in own]
            if rows:
                parts = zip(*(all_of[k][name] for k in rows), strict=True)
                columns = [self._tensor(np.stack(part, axis=1)) for part in parts]  # [S, lanes, B] each
                self._changes.append((name, change, torch.tensor(rows, device=device), columns))
        self._noise = [
            (k, float(lane.config["augment_noise"]), generator(lane.seed, "augment_noise", epoch))
            for k, (lane, epoch) in enumerate(lanes)
            if lane.config["augmentation"] != "none" and lane.config["augment_noise"]
        ]

    def _tensor(self, values: Array) -> torch.Tensor:
        narrow = values.astype(np.float32) if values.dtype == np.float64 else values
        return torch.from_numpy(np.ascontiguousarray(narrow)).to(self._device)

    def at(self, step: int, x: torch.Tensor) -> torch.Tensor:
        """The batch x [K, B, ...] of a step, changed in place; steps are to be asked for in order, each once."""
        for name, change, rows, columns in self._changes:
            if name == "cutout":
                self._add_noise(x)
            part = x.index_select(0, rows)
            new = change(part.flatten(0, 1), *(column[step].flatten() for column in columns))
            x.index_copy_(0, rows, new.view_as(part))
        if not self._changes or self._changes[-1][0] != "cutout":
            self._add_noise(x)
        return x

    def _add_noise(self, x: torch.Tensor) -> None:
        for lane, strength, own in self._noise:
            drawn = torch.randn(self._batch, *self._shape, generator=own).to(self._device)
            if self._present[lane]:
                drawn = drawn * x[lane, :, -1:]  # no value, no noise
                drawn[:, -1] = 0.0
            x[lane] += strength * drawn
