"""Convolutional network for texts (Kim 2014); written for one trial, trains nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from models.layers import activation_layer, at_least, convolution, linear
from models.tokens import TokenEmbedding


class TextCNN(nn.Module):
    """Token vectors; convolutions of several widths side by side; the largest answer of each over the text; a head.

    Source: Kim 2014, "Convolutional neural networks for sentence classification", EMNLP: widths 3, 4 and 5, 100
    channels each, dropout 0.5 in front of the head.

    Args:
        input_shape: Length of a text, in tokens.
        n_tokens: Number of token codes, padding (0) and unknown (1) included.
        n_outputs: Number of classes, or 1 for regression.
        embedding_dim: Numbers per token.
        channels: Channels of each width.
        shortest: Tokens the narrowest convolution sees.
        widths: Number of widths, each one token wider than the one before.
        activation: relu, gelu, silu, tanh or leaky_relu.
        dropout: Share of the answers dropped in front of the head.
        token_dropout: Share of the tokens dropped from a text.
        initialisation: default (torch's), kaiming_uniform, kaiming_normal, xavier_uniform, xavier_normal or
            orthogonal; of the convolutions and the head.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"text"})
    space: ClassVar[dict[str, Any]] = {
        "embedding_dim": [64, 128],
        "channels": [50, 100],
        "dropout": {"low": 0.2, "high": 0.8},
        "token_dropout": {"low": 0.0, "high": 0.5},
    }
    lane_parameters: ClassVar[frozenset[str]] = frozenset({"dropout", "token_dropout", "initialisation"})

    def __init__(
        self,
        input_shape: Sequence[int],
        n_tokens: int,
        n_outputs: int,
        *,
        embedding_dim: int = 128,
        channels: int = 100,
        shortest: int = 3,
        widths: int = 3,
        activation: str = "relu",
        dropout: float = 0.5,
        token_dropout: float = 0.1,
        initialisation: str = "default",
    ) -> None:
        super().__init__()
        at_least(1, channels=channels, shortest=shortest, widths=widths, n_outputs=n_outputs)
        self.tokens = TokenEmbedding(n_tokens, embedding_dim)
        self.token_dropout = nn.Dropout1d(token_dropout)  # its channels are the tokens of [B, L, dim]
        self.convolutions = nn.ModuleList(
            convolution(
                1, embedding_dim, channels, shortest + i, initialisation=initialisation, activation=activation
            )
            for i in range(widths)
        )
        self.activation = activation_layer(activation)
        self.dropout = nn.Dropout(dropout)
        self.head = linear(widths * channels, n_outputs, initialisation=initialisation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Token codes int64 [B, L] -> [B, n_outputs]."""
        vectors = self.token_dropout(self.tokens(x)).transpose(1, 2)
        found = [self.activation(part(vectors)).amax(2) for part in self.convolutions]
        outputs: torch.Tensor = self.head(self.dropout(torch.cat(found, dim=1)))
        return outputs
