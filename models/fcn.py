"""Fully convolutional network for series; written for one trial, trains nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from models.layers import activation_layer, at_least, channel_normalisation, convolution, linear
from models.tokens import TokenEmbedding


class FCN(nn.Module):
    """Three blocks of convolution along time, normalisation, activation, dropout; the mean over time; a linear head.

    Source: Wang, Yan and Oates 2017, "Time series classification from scratch with deep neural networks", IJCNN:
    128, 256 and 128 channels, kernels of 8, 5 and 3, batch normalisation.

    Args:
        input_shape: Channels and length of a series, or the length of a text.
        n_tokens: Number of token codes of a text; 0 for a series.
        n_outputs: Number of classes, or 1 for regression.
        channels: Channels of the first and last block; the middle one has twice as many.
        kernel_size: Places the first convolution sees; the others see 5/8 and 3/8 of that.
        activation: relu, gelu, silu, tanh or leaky_relu.
        normalisation: none, batch, group or layer.
        dropout: Share of channels dropped after each block.
        embedding_dim: Numbers per token (texts).
        initialisation: default (torch's), kaiming_uniform, kaiming_normal, xavier_uniform, xavier_normal or
            orthogonal.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"series", "text"})
    space: ClassVar[dict[str, Any]] = {
        "channels": [16, 32, 64, 128],
        "kernel_size": [5, 8],
        "dropout": {"low": 0.0, "high": 0.4},
    }
    lane_parameters: ClassVar[frozenset[str]] = frozenset({"dropout", "initialisation"})

    def __init__(
        self,
        input_shape: Sequence[int],
        n_tokens: int,
        n_outputs: int,
        *,
        channels: int = 64,
        kernel_size: int = 8,
        activation: str = "relu",
        normalisation: str = "batch",
        dropout: float = 0.0,
        embedding_dim: int = 64,
        initialisation: str = "default",
    ) -> None:
        super().__init__()
        at_least(1, channels=channels, kernel_size=kernel_size, n_outputs=n_outputs)
        self.tokens = TokenEmbedding(n_tokens, embedding_dim) if n_tokens else None
        c_in = embedding_dim if n_tokens else input_shape[0]
        blocks: list[nn.Module] = []
        for c_out, share in ((channels, 8), (2 * channels, 5), (channels, 3)):
            # Batch normalisation takes the mean away, so a bias in front of it would never get a gradient.
            blocks += [
                convolution(
                    1, c_in, c_out, max(1, round(kernel_size * share / 8)), bias=normalisation != "batch",
                    initialisation=initialisation, activation=activation,
                ),
                *channel_normalisation(normalisation, c_out, 1),
                activation_layer(activation),
                nn.Dropout1d(dropout),
            ]  # fmt: skip
            c_in = c_out
        self.blocks = nn.Sequential(*blocks)
        self.head = linear(c_in, n_outputs, initialisation=initialisation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Series [B, C, L], or token codes int64 [B, L] -> [B, n_outputs]."""
        if self.tokens is not None:
            x = self.tokens(x).transpose(1, 2)
        outputs: torch.Tensor = self.head(self.blocks(x).mean(2))
        return outputs
