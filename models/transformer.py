"""Small transformer encoder for series and texts; written for one trial, trains nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from models.layers import activation_layer, at_least, linear
from models.tokens import PADDING, TokenEmbedding


class Transformer(nn.Module):
    """Steps with trained places; `depth` blocks of attention and two linear layers; the mean over time; a head.

    Source: Vaswani et al. 2017, "Attention is all you need", NeurIPS, the encoder, with normalisation in front of
    each part (Xiong et al. 2020, "On layer normalization in the transformer architecture", ICML).

    Args:
        input_shape: Channels and length of a series, or the length of a text.
        n_tokens: Number of token codes of a text; 0 for a series.
        n_outputs: Number of classes, or 1 for regression.
        depth: Blocks.
        width: Numbers per step; a multiple of `heads`.
        heads: Attention heads of a block.
        hidden_factor: Units between the two linear layers, as a multiple of `width`.
        activation: relu, gelu, silu, tanh or leaky_relu.
        dropout: Share of units dropped at the end of each part.
        input_dropout: Share of the steps dropped from the input.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"series", "text"})
    space: ClassVar[dict[str, Any]] = {
        "depth": {"low": 1, "high": 2},
        "width": [32, 64],
        "dropout": {"low": 0.0, "high": 0.5},
        "input_dropout": {"low": 0.0, "high": 0.3},
    }
    lane_parameters: ClassVar[frozenset[str]] = frozenset({"dropout", "input_dropout"})

    def __init__(
        self,
        input_shape: Sequence[int],
        n_tokens: int,
        n_outputs: int,
        *,
        depth: int = 1,
        width: int = 64,
        heads: int = 4,
        hidden_factor: float = 2.0,
        activation: str = "gelu",
        dropout: float = 0.1,
        input_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        at_least(1, depth=depth, width=width, heads=heads, n_outputs=n_outputs)
        if width % heads:
            raise ValueError(f"width={width!r} is not a multiple of heads={heads!r}")
        hidden = round(width * hidden_factor)
        at_least(1, hidden_units=hidden)
        self.tokens = TokenEmbedding(n_tokens, width) if n_tokens else None
        self.steps = None if n_tokens else linear(input_shape[0], width)
        self.places = nn.Parameter(0.02 * torch.randn(input_shape[-1], width))
        self.input_dropout = nn.Dropout1d(input_dropout)  # its channels are the steps of [B, L, width]
        self.blocks = nn.ModuleList(EncoderBlock(width, heads, hidden, activation, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = linear(width, n_outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Series [B, C, L], or token codes int64 [B, L] -> [B, n_outputs]."""
        if self.tokens is not None:
            there = (x != PADDING).to(self.places.dtype)
            steps = self.tokens(x)
        else:
            assert self.steps is not None  # a series
            there = x.new_ones(x.shape[0], x.shape[2])
            steps = self.steps(x.transpose(1, 2))
        steps = self.input_dropout(steps + self.places)
        for block in self.blocks:
            steps = block(steps, there)
        weight = there.unsqueeze(-1)
        mean = (self.norm(steps) * weight).sum(1) / weight.sum(1).clamp(min=1.0)
        outputs: torch.Tensor = self.head(mean)
        return outputs


class EncoderBlock(nn.Module):
    """Attention of every step to every step that is there, then two linear layers; each added to its input.

    Args:
        width: Numbers per step.
        heads: Attention heads.
        hidden: Units between the two linear layers.
        activation: Its name.
        dropout: Share of units dropped at the end of each part.
    """

    def __init__(self, width: int, heads: int, hidden: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.asked = linear(width, 3 * width)
        self.answer = nn.Sequential(linear(width, width), nn.Dropout(dropout))
        self.feed = nn.Sequential(
            nn.LayerNorm(width),
            linear(width, hidden),
            activation_layer(activation),
            linear(hidden, width),
            nn.Dropout(dropout),
        )

    def forward(self, x: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """Steps [B, L, width], 1 where one is there, else 0 [B, L] -> [B, L, width]."""
        rows, length, width = x.shape
        parts = self.asked(self.norm(x)).reshape(rows, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each [B, heads, L, width / heads]
        scores = query @ key.transpose(2, 3) / (width // self.heads) ** 0.5
        scores = scores + (there - 1)[:, None, None, :] * 1e9  # a row with no step attends to all alike
        mixed = scores.softmax(-1) @ value
        x = x + self.answer(mixed.transpose(1, 2).reshape(rows, length, width))
        outputs: torch.Tensor = x + self.feed(x)
        return outputs
