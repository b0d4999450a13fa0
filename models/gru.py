"""Recurrent network for series and texts (GRU); written for one trial, trains nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from models.layers import at_least, linear
from models.tokens import PADDING, TokenEmbedding


class GRU(nn.Module):
    """Gated recurrent units along time; the last state of each direction goes to a linear head.

    A text's padding does not move the state, so the last state is that after its last token.

    Source: Cho et al. 2014, "Learning phrase representations using RNN encoder-decoder", EMNLP, in the form of
    torch.nn.GRU, which torch.func.vmap does not take.

    Args:
        input_shape: Channels and length of a series, or the length of a text.
        n_tokens: Number of token codes of a text; 0 for a series.
        n_outputs: Number of classes, or 1 for regression.
        width: Units of each direction.
        bidirectional: Whether a second pass goes from the end to the start.
        dropout: Share of units dropped in front of the head.
        input_dropout: Share of the channels, or of the tokens of a text, dropped from the input.
        embedding_dim: Numbers per token (texts).
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"series", "text"})
    space: ClassVar[dict[str, Any]] = {
        "width": [32, 64, 128],
        "bidirectional": [False, True],
        "dropout": {"low": 0.0, "high": 0.6},
        "input_dropout": {"low": 0.0, "high": 0.3},
    }
    lane_parameters: ClassVar[frozenset[str]] = frozenset({"dropout", "input_dropout"})

    def __init__(
        self,
        input_shape: Sequence[int],
        n_tokens: int,
        n_outputs: int,
        *,
        width: int = 64,
        bidirectional: bool = True,
        dropout: float = 0.2,
        input_dropout: float = 0.0,
        embedding_dim: int = 64,
    ) -> None:
        super().__init__()
        at_least(1, width=width, n_outputs=n_outputs)
        self.tokens = TokenEmbedding(n_tokens, embedding_dim) if n_tokens else None
        self.input_dropout = nn.Dropout1d(input_dropout)
        d_in = embedding_dim if n_tokens else input_shape[0]
        self.directions = nn.ModuleList(Recurrence(d_in, width) for _ in range(1 + bidirectional))
        self.head = nn.Sequential(nn.Dropout(dropout), linear(width * (1 + bidirectional), n_outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Series [B, C, L], or token codes int64 [B, L] -> [B, n_outputs]."""
        there = None
        if self.tokens is None:
            steps = self.input_dropout(x).transpose(1, 2)
        else:
            there, steps = (x != PADDING).unsqueeze(-1), self.input_dropout(self.tokens(x))
        last = [
            direction(steps, there, backwards=bool(number)) for number, direction in enumerate(self.directions)
        ]
        outputs: torch.Tensor = self.head(torch.cat(last, dim=1))
        return outputs


class Recurrence(nn.Module):
    """One layer of gated recurrent units in one direction, with torch.nn.GRU's formulas and start values.

    Args:
        d_in: Numbers per step.
        width: Units.
    """

    def __init__(self, d_in: int, width: int) -> None:
        super().__init__()
        self.into, self.across = nn.Linear(d_in, 3 * width), nn.Linear(width, 3 * width)
        for tensor in self.parameters():
            nn.init.uniform_(tensor, -(width**-0.5), width**-0.5)
        self.width = width

    def forward(self, x: torch.Tensor, there: torch.Tensor | None, *, backwards: bool) -> torch.Tensor:
        """Steps [B, L, d_in], whether they are there [B, L, 1] (None: all) -> last state [B, width]."""
        into = self.into(x)
        state = x.new_zeros(x.shape[0], self.width)
        places = range(x.shape[1])
        for place in reversed(places) if backwards else places:
            in_r, in_z, in_n = into[:, place].chunk(3, dim=1)
            own_r, own_z, own_n = self.across(state).chunk(3, dim=1)
            reset, update = (in_r + own_r).sigmoid(), (in_z + own_z).sigmoid()
            new = (in_n + reset * own_n).tanh()
            moved = new + update * (state - new)
            state = moved if there is None else torch.where(there[:, place], moved, state)
        return state
