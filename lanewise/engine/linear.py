"""A dense layer that vmap runs as one batched product with the bias in it; used by stack.

vmap's own rule for F.linear takes 1.6 times as long (64 lanes, 64 x 64 x 64, forward and backward): it
adds the bias in a pass of its own and reduces its gradient through a general sum. An autograd.Function
with a vmap rule would be the public way; its Python overhead is 0.2 ms a layer and step, more than the
products of eight lanes, so the lanes are unwrapped and wrapped again by hand.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch._C import _functorch


class LaneLinear(nn.Module):
    """nn.Linear with a bias, for lanes: x [..., I] -> [..., O]."""

    def __init__(self, original: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = original.weight, original.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not _functorch.is_batchedtensor(x) or not _functorch.is_batchedtensor(self.weight):
            return F.linear(x, self.weight, self.bias)
        level = _functorch.maybe_get_level(x)
        x_K, weight, bias = (stacked(t) for t in (x, self.weight, self.bias))
        rows = x_K.reshape(x_K.shape[0], -1, x_K.shape[-1])
        out = torch.baddbmm(bias.unsqueeze(1), rows, weight.transpose(1, 2))
        return _functorch._add_batch_dim(out.view(*x_K.shape[:-1], out.shape[-1]), 0, level)


def stacked(x: torch.Tensor) -> torch.Tensor:
    """The lanes of a batched tensor, [K, ...]."""
    return _functorch.get_unwrapped(x).movedim(_functorch.maybe_get_bdim(x), 0)
