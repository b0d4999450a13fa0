"""A network and a table of one's own, for 02_own_network.yaml; found by name, knows nothing of Lanewise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import nn


class Gated(nn.Module):
    """One gated layer; an ordinary module for one trial. The study file says what is searched.

    Args:
        n_features: Columns after one-hot coding; filled in by Lanewise.
        n_outputs: Classes, or 1 for a number; filled in by Lanewise.
        width: Units.
        activation: tanh or relu.
        dropout: Share of units dropped.
    """

    # Trials that differ in these alone train side by side; activation and width change code or shape.
    lane_parameters = frozenset({"dropout"})

    def __init__(
        self, n_features: int, n_outputs: int, width: int = 32, activation: str = "tanh", dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.body = nn.Linear(n_features, 2 * width)
        self.activation = nn.Tanh() if activation == "tanh" else nn.ReLU()
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(width, n_outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features [B, n_features] -> logits [B, n_outputs]."""
        value, gate = self.body(x).chunk(2, dim=1)
        logits: torch.Tensor = self.head(self.drop(self.activation(value) * gate.sigmoid()))
        return logits


def orders() -> pd.DataFrame:
    """600 orders with the column `late`, made up: late when far and heavy, or by a slow carrier.

    One in twenty answers is turned round, so no model can be right more often than about 95 times of 100.
    """
    rng = np.random.default_rng(7)
    rows = 600
    far = rng.uniform(5, 900, rows)
    heavy = rng.gamma(2.0, 8.0, rows)
    carrier = rng.choice(["north", "south", "post"], rows, p=[0.4, 0.4, 0.2])
    late = (far * heavy > 6_000) | ((carrier == "post") & (far > 400))
    late ^= rng.random(rows) < 0.05
    return pd.DataFrame(
        {
            "distance_km": far.round(1),
            "weight_kg": np.where(rng.random(rows) < 0.04, np.nan, heavy.round(2)),
            "carrier": carrier,
            "late": np.where(late, "yes", "no"),
        }
    )
