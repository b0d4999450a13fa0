"""Residual network for tables (Gorishniy et al. 2021); written for one trial, trains nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from models.embeddings import Inputs
from models.layers import activation_layer, at_least, linear, normalisation_layers


class ResNet(nn.Module):
    """The ResNet of "Revisiting deep learning models for tabular data" (Gorishniy et al. 2021, section 3.2).

    x = linear(inputs); `depth` times x = x + dropout(linear(dropout(act(linear(norm(x)))))); then
    linear(act(norm(x))).

    Args:
        n_numeric: Number of numeric columns.
        cardinalities: Number of codes of each category column, code 0 (missing or unknown) included.
        n_outputs: Number of classes, or 1 for regression.
        depth: Residual blocks.
        width: Units between the blocks.
        hidden_factor: Units inside a block, as a multiple of `width`.
        activation: relu, gelu, silu, tanh or leaky_relu.
        normalisation: none, layer or batch.
        dropout: Share of units dropped inside a block.
        residual_dropout: Share of units dropped at the end of a block.
        embedding_dim: Numbers per category code; 0 for a rule by the largest cardinality.
        numeric_embedding: none, linear, periodic or bins (models.embeddings).
        numeric_embedding_dim: Numbers per numeric column (linear, periodic), or bins.
        frequencies: Frequencies per numeric column (periodic).
        frequency_sigma: Deviation of the frequencies at the start (periodic).
        interactions: Products of two weighted sums of the inputs that come in beside them; 0 for none.
        initialisation: default (torch's), kaiming_uniform, kaiming_normal, xavier_uniform, xavier_normal or
            orthogonal; of the blocks, the first layer and the head.
    """

    space: ClassVar[dict[str, Any]] = {
        "depth": {"low": 1, "high": 4},
        "width": [64, 128, 256],
        "dropout": {"low": 0.0, "high": 0.5},
        "residual_dropout": {"low": 0.0, "high": 0.5},
        "numeric_embedding": "none",
        "frequency_sigma": {
            "low": 0.01,
            "high": 10.0,
            "log": True,
            "when": {"numeric_embedding": "periodic"},
        },
    }
    lane_parameters: ClassVar[frozenset[str]] = frozenset(
        {"dropout", "residual_dropout", "initialisation", "frequency_sigma"}
    )

    def __init__(
        self,
        n_numeric: int,
        cardinalities: Sequence[int],
        n_outputs: int,
        *,
        depth: int = 2,
        width: int = 128,
        hidden_factor: float = 2.0,
        activation: str = "relu",
        normalisation: str = "batch",
        dropout: float = 0.2,
        residual_dropout: float = 0.0,
        embedding_dim: int = 0,
        numeric_embedding: str = "none",
        numeric_embedding_dim: int = 8,
        frequencies: int = 16,
        frequency_sigma: float = 0.1,
        interactions: int = 0,
        initialisation: str = "default",
    ) -> None:
        super().__init__()
        at_least(1, depth=depth, width=width, n_outputs=n_outputs)
        self.inputs = Inputs(
            n_numeric,
            cardinalities,
            embedding_dim=embedding_dim,
            numeric_embedding=numeric_embedding,
            numeric_embedding_dim=numeric_embedding_dim,
            frequencies=frequencies,
            frequency_sigma=frequency_sigma,
            interactions=interactions,
        )
        hidden = round(width * hidden_factor)
        at_least(1, hidden_units=hidden)
        # Batch normalisation takes constants away, and every reader of x starts with one: no bias for them.
        bias = normalisation != "batch"
        self.first = linear(self.inputs.width, width, bias=bias, initialisation=initialisation)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *normalisation_layers(normalisation, width),
                linear(width, hidden, initialisation=initialisation, activation=activation),
                activation_layer(activation),
                nn.Dropout(dropout),
                linear(hidden, width, bias=bias, initialisation=initialisation),
                nn.Dropout(residual_dropout),
            )
            for _ in range(depth)
        )
        self.head = nn.Sequential(
            *normalisation_layers(normalisation, width),
            activation_layer(activation),
            linear(width, n_outputs, initialisation=initialisation),
        )

    def forward(self, x_num: torch.Tensor, x_cat: torch.Tensor) -> torch.Tensor:
        """Numbers [B, Dn] and codes int64 [B, Dc] -> [B, n_outputs]."""
        x = self.first(self.inputs(x_num, x_cat))
        for block in self.blocks:
            x = x + block(x)
        outputs: torch.Tensor = self.head(x)
        return outputs
