"""Edge maps of an image as further channels; in front of the networks for images, trains nothing."""

from __future__ import annotations

import torch
from torch import nn

EDGES = ("none", "sobel")


class SobelEdges(nn.Module):
    """Adds to each channel the length of its gradient: how much it changes at a place, in whatever direction.

    The gradient is Sobel's: differences over two places, smoothed across by 1, 2, 1, divided by 8 so that a slope
    of one per place has length one. Beyond its border the image goes on as at the border, so a frame is no edge.
    Sums of shifted images, no convolution: the same bits at any number of lanes, and a few passes.

    Source: Sobel and Feldman 1968, as in Duda and Hart 1973, "Pattern classification and scene analysis", page 271.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> [B, 2 C, H, W], the image's own channels first."""
        wide = torch.cat([x[..., :1], x, x[..., -1:]], dim=-1)
        wide = torch.cat([wide[..., :1, :], wide, wide[..., -1:, :]], dim=-2)
        up, middle, down = wide[..., :-2, :], wide[..., 1:-1, :], wide[..., 2:, :]
        smooth, slope = up + 2 * middle + down, down - up
        across = (smooth[..., 2:] - smooth[..., :-2]) / 8
        along = (slope[..., :-2] + 2 * slope[..., 1:-1] + slope[..., 2:]) / 8
        return torch.cat([x, (across.square() + along.square()).sqrt()], dim=-3)
