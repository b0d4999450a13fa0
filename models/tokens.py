"""Token codes -> vectors; the first layer of every network for texts."""

from __future__ import annotations

import torch
from torch import nn

from models.layers import at_least

PADDING = 0  # the code of the places behind the end of a text


class TokenEmbedding(nn.Module):
    """One vector per token code; the vector of padding is zero and stays so.

    Args:
        n_tokens: Number of codes, padding (0) and unknown (1) included.
        dim: Numbers per token; they start uniform within 1/sqrt(dim).
    """

    def __init__(self, n_tokens: int, dim: int) -> None:
        super().__init__()
        at_least(1, n_tokens=n_tokens, embedding_dim=dim)
        self.table = nn.Embedding(n_tokens, dim)
        nn.init.uniform_(self.table.weight, -(dim**-0.5), dim**-0.5)
        with torch.no_grad():
            self.table.weight[PADDING] = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Codes int64 [B, L] -> [B, L, dim]."""
        codes = x.flatten()
        if codes.is_cuda:  # there index_select's gradient is summed in no fixed order, this one's is
            vectors: torch.Tensor = self.table(codes)
        else:  # stacked, a third of the time of an embedding, and the same bits at any number of lanes
            vectors = self.table.weight.index_select(0, codes)
        return vectors.reshape(*x.shape, -1) * (x != PADDING).unsqueeze(-1)
