"""A convolution that runs lane after lane inside a stacked network; used by stack.

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


class LaneConvolution(nn.Module):
    """nn.Conv1d, nn.Conv2d or nn.Conv3d with zeros around the input, for lanes: x [B, C, ...] -> [B, C', ...]."""

    def __init__(self, original: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> None:
        super().__init__()
        self.weight, self.bias = original.weight, original.bias
        self._convolve = _FUNCTIONS[len(original.kernel_size)]
        self._how: tuple[Any, ...] = (original.stride, original.padding, original.dilation, original.groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not _functorch.is_batchedtensor(x) or not _functorch.is_batchedtensor(self.weight):
            return self._convolve(x, self.weight, self.bias, *self._how)
        level = _functorch.maybe_get_level(x)
        weights = stacked(self.weight).unbind()
        biases = (None,) * len(weights) if self.bias is None else stacked(self.bias).unbind()
        lanes = zip(stacked(x).unbind(), weights, biases, strict=True)
        out = torch.stack([self._convolve(own, weight, bias, *self._how) for own, weight, bias in lanes])
        return _functorch._add_batch_dim(out, 0, level)
