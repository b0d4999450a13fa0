"""Batch normalisation that assigns its new running statistics, as vmap cannot write them in place; used by exchange."""

from __future__ import annotations

import torch
from torch import nn


class LaneBatchNorm(nn.modules.batchnorm._BatchNorm):
    """nn.BatchNorm1d, 2d or 3d with running statistics, for lanes: x [B, C, ...] -> [B, C, ...]."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As the layer's own; the running mean is of biased, the running variance of unbiased batch statistics."""
        x, view = input, (1, -1) + (1,) * (input.dim() - 2)
        mean, var = self.get_buffer("running_mean"), self.get_buffer("running_var")
        if self.training:
            old_mean, old_var = mean, var
            dims = [d for d in range(x.dim()) if d != 1]
            mean = x.mean(dims)
            var = (x - mean.view(view)).square().mean(dims)
            n = x.numel() // x.shape[1]
            momentum: float | torch.Tensor = 0.0 if self.momentum is None else float(self.momentum)
            if self.momentum is None:  # the mean over all batches
                self.num_batches_tracked = self.get_buffer("num_batches_tracked") + 1
                momentum = 1 / self.num_batches_tracked.to(x.dtype)
            self.running_mean = (1 - momentum) * old_mean + momentum * mean
            self.running_var = (1 - momentum) * old_var + momentum * (n / max(n - 1, 1)) * var
        x = (x - mean.view(view)) * torch.rsqrt(var.view(view) + self.eps)
        return x * self.weight.view(view) + self.bias.view(view) if self.affine else x
