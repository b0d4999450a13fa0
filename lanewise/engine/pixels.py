"""Rows of images that stay 8-bit pixels, on the disk if they lie there, until a batch asks for them.

Stands in for a tensor float32 [N, C, H, W] of a split: `SplitTensors` may hold either, and the values are the same to
the bit. One array of pixels serves all splits; what a split's training rows decide is a table of 256 values a channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class PixelRows:
    """N rows of images.

    Attributes:
        pixels: uint8 [M, C, H, W], of all rows of the data set, on the CPU; may be mapped from a file.
        rows: int64 [N], which of them these are.
        levels: float32 [S, C, 256]: what a pixel's value becomes, by split.
        splits: int64 [N], the split of each row, 0 to S - 1.
        device: where batches go.
    """

    pixels: torch.Tensor
    rows: torch.Tensor
    levels: torch.Tensor
    splits: torch.Tensor
    device: torch.device = CPU

    @property
    def shape(self) -> torch.Size:
        """(N, C, H, W)."""
        return torch.Size((len(self.rows), *self.pixels.shape[1:]))

    def __len__(self) -> int:
        return len(self.rows)

    def dim(self) -> int:
        """Number of axes."""
        return self.pixels.dim()

    def is_floating_point(self) -> bool:
        """Batches are float32."""
        return True

    def to(self, device: torch.device) -> PixelRows:
        """The same rows, whose batches go to `device`; the pixels stay where they are."""
        return replace(self, levels=self.levels.to(device), device=device)

    def index_select(self, dim: int, index: torch.Tensor) -> torch.Tensor:
        """Rows by position, float32 [len(index), C, H, W] on the device."""
        assert dim == 0  # rows are all that is selected
        index = index.cpu()
        pixels = self.pixels.index_select(0, self.rows.index_select(0, index)).to(self.device)
        n, channels = pixels.shape[:2]
        first = self.splits.index_select(0, index).to(self.device).view(n, 1) * channels
        start = (first + torch.arange(channels, device=self.device)) * self.levels.shape[-1]
        place = pixels.to(torch.int64) + start.view(n, channels, 1, 1)
        return self.levels.view(-1).index_select(0, place.view(-1)).view(pixels.shape)

    def __getitem__(self, which: slice | torch.Tensor) -> torch.Tensor:
        index = torch.arange(len(self))[which] if isinstance(which, slice) else which
        return self.index_select(0, index)


Rows = torch.Tensor | PixelRows


def join(parts: Sequence[Rows]) -> Rows:
    """The rows of several splits one after another."""
    if len(parts) == 1:
        return parts[0]
    tensors = [part for part in parts if isinstance(part, torch.Tensor)]
    if len(tensors) == len(parts):
        return torch.cat(tensors)
    images = [part for part in parts if isinstance(part, PixelRows)]
    assert len(images) == len(parts) and len({part.pixels.data_ptr() for part in images}) == 1  # of one data set
    starts = [sum(len(part.levels) for part in images[:i]) for i in range(len(images))]
    return replace(
        images[0], rows=torch.cat([part.rows for part in images]), levels=torch.cat([part.levels for part in images]),
        splits=torch.cat([part.splits + start for part, start in zip(images, starts, strict=True)]),
    )  # fmt: skip
