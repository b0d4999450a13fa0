"""A dense layer that vmap runs as one batched product with the bias in it; used by exchange.

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


class LaneLinear(nn.Linear):
    """nn.Linear with a bias, for lanes: x [..., I] -> [..., O]."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As nn.Linear."""
        x, weight, bias = input, self.weight, self.bias  # read once: a parametrised weight is computed when read
        if not (
            _functorch.is_batchedtensor(x) and _functorch.is_batchedtensor(weight) and _functorch.is_batchedtensor(bias)
        ):
            return F.linear(x, weight, bias)
        level = _functorch.maybe_get_level(x)
        x_K, weight_K, bias_K = (stacked(t) for t in (x, weight, bias))
        rows = x_K.reshape(x_K.shape[0], -1, x_K.shape[-1])
        out = torch.baddbmm(bias_K.unsqueeze(1), rows, weight_K.transpose(1, 2))
        return _functorch._add_batch_dim(out.view(*x_K.shape[:-1], out.shape[-1]), 0, level)


def stacked(x: torch.Tensor) -> torch.Tensor:
    """The lanes of a batched tensor, [K, ...]."""
    return _functorch.get_unwrapped(x).movedim(_functorch.maybe_get_bdim(x), 0)
