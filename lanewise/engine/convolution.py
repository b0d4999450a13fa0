"""A convolution that runs lane after lane inside a stacked network; used by exchange.

vmap makes one grouped convolution of all lanes. On a CPU that is slower from the sizes on that people train (64 images
of 28 x 28 places, 8 lanes: 47 ms against 15), and with two threads its weight gradient's bits depend on the number
of lanes. One lane's convolution is one call whatever its neighbours do.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch._C import _functorch

from lanewise.engine.linear import stacked

_FUNCTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class LaneConvolution(nn.modules.conv._ConvNd):
    """nn.Conv1d, nn.Conv2d or nn.Conv3d with zeros around the input, for lanes: x [B, C, ...] -> [B, C', ...]."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As the layer's own."""
        x, weight, bias = input, self.weight, self.bias
        convolve = _FUNCTIONS[len(self.kernel_size)]
        how: tuple[Any, ...] = (self.stride, self.padding, self.dilation, self.groups)
        if not _functorch.is_batchedtensor(x) or not _functorch.is_batchedtensor(weight):
            return convolve(x, weight, bias, *how)
        level = _functorch.maybe_get_level(x)
        weights = stacked(weight).unbind()
        biases = (None,) * len(weights) if bias is None else stacked(bias).unbind()
        lanes = zip(stacked(x).unbind(), weights, biases, strict=True)
        out = torch.stack([convolve(own, weight, bias, *how) for own, weight, bias in lanes])
        return _functorch._add_batch_dim(out, 0, level)
