"""Multilayer perceptron for tables; written for one trial, trains nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from models.embeddings import Inputs
from models.layers import activation_layer, at_least, linear, normalisation_layers


class MLP(nn.Module):
    """`depth` blocks of linear, normalisation, activation, dropout, and a linear head.

    Args:
        n_numeric: Number of numeric columns.
        cardinalities: Number of codes of each category column, code 0 (missing or unknown) included.
        n_outputs: Number of classes, or 1 for regression.
        depth: Hidden blocks.
        width: Units per block.
        activation: relu, gelu, silu, tanh or leaky_relu.
        normalisation: none, layer or batch.
        dropout: Share of units dropped after each activation.
        residual: Whether each block but the first adds its input to its output.
        embedding_dim: Numbers per category code; 0 for a rule by the largest cardinality.
        numeric_embedding: none, linear, periodic or bins (models.embeddings).
        numeric_embedding_dim: Numbers per numeric column (linear, periodic), or bins.
        frequencies: Frequencies per numeric column (periodic).
        frequency_sigma: Deviation of the frequencies at the start (periodic).
        interactions: Products of two weighted sums of the inputs that come in beside them; 0 for none.
        initialisation: default (torch's), kaiming_uniform, kaiming_normal, xavier_uniform, xavier_normal or
            orthogonal; of the blocks and the head.
    """

    # Few shapes: only trials of one shape train together. What is not here stays at its default until a
    # study names it; the range of frequency_sigma wakes when a study lets numeric_embedding be periodic.
    space: ClassVar[dict[str, Any]] = {
        "depth": {"low": 1, "high": 4},
        "width": [64, 128, 256],
        "dropout": {"low": 0.0, "high": 0.5},
        "numeric_embedding": "none",
        "frequency_sigma": {
            "low": 0.01,
            "high": 10.0,
            "log": True,
            "when": {"numeric_embedding": "periodic"},
        },
    }
    lane_parameters: ClassVar[frozenset[str]] = frozenset({"dropout", "initialisation", "frequency_sigma"})

    def __init__(
        self,
        n_numeric: int,
        cardinalities: Sequence[int],
        n_outputs: int,
        *,
        depth: int = 2,
        width: int = 128,
        activation: str = "relu",
        normalisation: str = "layer",
        dropout: float = 0.1,
        residual: bool = False,
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
        blocks, d_in = [], self.inputs.width
        for _ in range(depth):
            # Batch normalisation takes the mean away, so a bias in front of it would never get a gradient.
            bias = normalisation != "batch"
            blocks.append(
                nn.Sequential(
                    linear(d_in, width, bias=bias, initialisation=initialisation, activation=activation),
                    *normalisation_layers(normalisation, width),
                    activation_layer(activation),
                    nn.Dropout(dropout),
                )
            )
            d_in = width
        self.blocks = nn.ModuleList(blocks)
        self.residual = residual
        self.head = linear(d_in, n_outputs, initialisation=initialisation)

    def forward(self, x_num: torch.Tensor, x_cat: torch.Tensor) -> torch.Tensor:
        """Numbers [B, Dn] and codes int64 [B, Dc] -> [B, n_outputs]."""
        x = self.inputs(x_num, x_cat)
        for index, block in enumerate(self.blocks):
            x = x + block(x) if self.residual and index else block(x)
        outputs: torch.Tensor = self.head(x)
        return outputs
