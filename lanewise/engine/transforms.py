"""Changes of images [N, C, H, W] and series [N, C, L] whose amounts are given, one for each row; used by augmentation.

They draw nothing. Every row is computed by itself and in the same way whatever N is, so a lane's bits do not depend
on its neighbours; that is why the affine grid is written out here (F.affine_grid is a product of matrices). What
comes into view at an edge repeats the edge. Rows must not need gradients.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def flipped(x: torch.Tensor, on: torch.Tensor, dim: int) -> torch.Tensor:
    """x with the rows mirrored along a dimension where `on`, bool [N]."""
    return torch.where(_per_row(on, x), x.flip(dim), x)


def moved(x: torch.Tensor, by: torch.Tensor, dim: int) -> torch.Tensor:
    """x moved along a dimension by whole places, int64 [N]; positive: towards higher indices."""
    size = x.shape[dim]
    index = (torch.arange(size, device=x.device) - by.unsqueeze(1)).clamp(0, size - 1)  # [N, size]
    shape = [x.shape[0], *(1,) * (x.dim() - 1)]
    shape[dim] = size
    return x.gather(dim, index.view(shape).expand_as(x))


def turned(x: torch.Tensor, angle: torch.Tensor, down: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Images turned about their centres and then moved, with bilinear interpolation.

    Args:
        x: [N, C, H, W].
        angle: Radians, counter-clockwise as seen, [N].
        down, right: Pixels, [N].
    """
    height, width = x.shape[-2:]
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    y = torch.arange(height, device=x.device, dtype=x.dtype).view(1, -1, 1) - middle_y - down.view(-1, 1, 1)
    x_ = torch.arange(width, device=x.device, dtype=x.dtype).view(1, 1, -1) - middle_x - right.view(-1, 1, 1)
    cos, sin = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
    source_y, source_x = cos * y + sin * x_ + middle_y, cos * x_ - sin * y + middle_x
    grid = torch.stack([(2 * source_x + 1) / width - 1, (2 * source_y + 1) / height - 1], dim=-1)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def contrasted(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Distances from each image's own mean over pixels and channels, multiplied by a factor [N]."""
    mean = x.flatten(1).mean(dim=1)
    return _per_row(mean, x) + _per_row(factor, x) * (x - _per_row(mean, x))


def brightened(x: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """x with an amount [N] added to every pixel."""
    return x + _per_row(by, x)


def spans(x: torch.Tensor, dim: int, centre: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    """bool, to be broadcast to x: places along a dimension in a span of a size [N] around a centre [N], int64."""
    place = torch.arange(x.shape[dim], device=x.device)
    first = (centre - size // 2).unsqueeze(1)
    inside = (place >= first) & (place < first + size.unsqueeze(1))  # [N, size of dim]
    shape = [x.shape[0], *(1,) * (x.dim() - 1)]
    shape[dim] = x.shape[dim]
    return inside.view(shape)


def _per_row(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return values.view(-1, *(1,) * (x.dim() - 1))
