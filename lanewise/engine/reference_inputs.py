"""The slow twin of augmentation and mixing: one row after another, with torch's own functions; used by reference.

It shares the draws with the fast path and nothing of what is done with them. It is never used to train.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from lanewise.engine.augmentation import amounts
from lanewise.engine.lane import Lane, SplitTensors
from lanewise.engine.mixing import draws
from lanewise.engine.randomness import generator


class SlowInputs:
    """What one lane sees in one epoch.

    Args:
        lane: The lane.
        epoch: 0-based.
        size: Steps of the epoch and rows of a batch.
        split: Its split.
    """

    def __init__(self, lane: Lane, epoch: int, size: tuple[int, int], split: SplitTensors) -> None:
        shape = split.train[0].shape[1:]
        self._config, self._present = lane.config, split.present
        self._amounts = amounts(lane.config, lane.seed, epoch, size, shape)
        self._noise = generator(lane.seed, "augment_noise", epoch)
        self._mixed = draws(lane.config, lane.seed, epoch, size, shape)

    def batch(
        self, step: int, inputs: Sequence[torch.Tensor], target: torch.Tensor
    ) -> tuple[list[torch.Tensor], list[tuple[float, torch.Tensor]]]:
        """Inputs of a step, and (share, target) of the parts of its loss."""
        first, *others = inputs
        if self._config["augmentation"] != "none":
            noise = torch.randn(first.shape, generator=self._noise) if self._config["augment_noise"] else None
            rows = [
                self._row(step, i, x, None if noise is None else noise[i]) for i, x in enumerate(first)
            ]
            first = torch.stack(rows)
        return self._mix(step, [first, *others], target)

    def _row(self, step: int, place: int, x: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """One row [C, H, W] or [C, L], changed."""
        own = {name: [part[step, place].item() for part in parts] for name, parts in self._amounts.items()}
        if own.get("flip_horizontal") == [True]:
            x = torch.stack([channel.fliplr() for channel in x])
        if own.get("flip_vertical") == [True]:
            x = torch.stack([channel.flipud() for channel in x])
        if "crop" in own:
            down, right = own["crop"]
            x = _cropped(x, int(down), int(right))
        if "turn" in own:
            x = _turned(x, *own["turn"])
        if "shift" in own:
            x = _cropped(x.unsqueeze(1), 0, int(own["shift"][0])).squeeze(1)
        if "contrast" in own:
            x = x * own["contrast"][0] + x.mean() * (1 - own["contrast"][0])
        if "brightness" in own:
            x = x + own["brightness"][0]
        if noise is not None:
            x = _noisy(x, float(self._config["augment_noise"]) * noise, self._present)
        if "cutout" in own:
            x = x.clone()
            spans = [
                slice(max(0, c - s // 2), max(0, c - s // 2 + s))
                for c, s in zip(own["cutout"][::2], own["cutout"][1::2], strict=True)
            ]
            x[(slice(None), *spans)] = 0.0
        return x

    def _mix(
        self, step: int, inputs: list[torch.Tensor], target: torch.Tensor
    ) -> tuple[list[torch.Tensor], list[tuple[float, torch.Tensor]]]:
        share, partner = float(self._mixed.share[step]), torch.from_numpy(self._mixed.partner[step])
        kind = self._config["mixing"]
        if kind == "none":
            return inputs, [(1.0, target)]
        if kind == "mixup":
            inputs = [share * x + (1 - share) * x[partner] if x.is_floating_point() else x for x in inputs]
        else:
            top, bottom, left, right = self._mixed.box[step].tolist()
            image = inputs[0].clone()
            image[:, :, top:bottom, left:right] = inputs[0][partner][:, :, top:bottom, left:right]
            inputs = [image, *inputs[1:]]
        if target.is_floating_point():
            return inputs, [(1.0, share * target + (1 - share) * target[partner])]
        return inputs, [(share, target), (1 - share, target[partner])]


def _cropped(x: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """[C, H, W] padded with its edges and cut out again."""
    most = max(abs(down), abs(right))
    padded = F.pad(x.unsqueeze(0), (most, most, most, most), mode="replicate")[0]
    height, width = x.shape[-2:]
    return padded[:, most - down : most - down + height, most - right : most - right + width]


def _turned(x: torch.Tensor, angle: float, down: float, right: float) -> torch.Tensor:
    """[C, H, W] through torch's affine grid, whose coordinates go from -1 to 1 along both sides."""
    height, width = x.shape[-2:]
    cos, sin = math.cos(angle), math.sin(angle)
    # Backwards: the move is undone, then the rotation; lengths in pixels, so the sides' ratio comes in.
    by_x, by_y = -2 * right / width, -2 * down / height
    ratio = height / width
    theta = torch.tensor(
        [[cos, -sin * ratio, cos * by_x - sin * ratio * by_y], [sin / ratio, cos, sin / ratio * by_x + cos * by_y]]
    )
    grid = F.affine_grid(theta.unsqueeze(0), [1, *x.shape], align_corners=False)
    return F.grid_sample(x.unsqueeze(0), grid, padding_mode="border", align_corners=False)[0]


def _noisy(x: torch.Tensor, noise: torch.Tensor, present: bool) -> torch.Tensor:
    if not present:
        return x + noise
    values, there = x[:-1], x[-1:]
    return torch.cat([values + noise[:-1] * there, there])
