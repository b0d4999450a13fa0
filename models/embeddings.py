"""Numbers and category codes -> one flat vector per row; the first layer of every network here.

Each kind of embedding is a fixed handful of operations whatever the number of columns: for small
networks the number of operations is the cost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import nn

from models.layers import at_least, one_of

NUMERIC_EMBEDDINGS = ("none", "linear", "periodic", "bins")


def embedding_width(cardinalities: Sequence[int]) -> int:
    """The embedding dimension where none is asked for: 1.6 V^0.56 within 2..32, V the largest cardinality.

    The formula is fastai's rule of thumb (Howard and Gugger 2020); one dimension serves all columns, as in
    Gorishniy et al. 2021, so that they share one lookup.
    """
    return min(32, max(2, round(1.6 * math.pow(max(cardinalities), 0.56))))


class CategoryEmbedding(nn.Module):
    """One table for all category columns, looked up once.

    Column j's codes 0 to cardinalities[j] - 1 own the rows that start at offsets[j]. Code 0 (missing or
    unknown) starts at zero, so a value never met in training says nothing; the other rows start uniform
    within 1/sqrt(dim) (Gorishniy et al. 2021).

    Args:
        cardinalities: Number of codes of each column, code 0 included.
        dim: Numbers per code.
    """

    def __init__(self, cardinalities: Sequence[int], dim: int) -> None:
        super().__init__()
        for value in cardinalities:
            at_least(1, cardinality=value)
        self.width = len(cardinalities) * dim
        self.table = nn.Embedding(sum(cardinalities), dim)
        self.offsets: torch.Tensor
        self.register_buffer("offsets", torch.tensor([0, *accumulate(cardinalities)][:-1]))
        nn.init.uniform_(self.table.weight, -(dim**-0.5), dim**-0.5)
        with torch.no_grad():
            self.table.weight[self.offsets] = 0.0

    def forward(self, x_cat: torch.Tensor) -> torch.Tensor:
        """Codes int64 [B, Dc] -> [B, Dc * dim]."""
        rows = (x_cat + self.offsets).flatten()
        if rows.is_cuda:  # there index_select's gradient is summed in no fixed order, this one's is
            vectors: torch.Tensor = self.table(rows)
        else:  # stacked, a third of the time of an embedding, and the same bits at any number of lanes
            vectors = self.table.weight.index_select(0, rows)
        return vectors.reshape(x_cat.shape[0], self.width)


class LinearEmbedding(nn.Module):
    """Each number times its own vector plus its own bias, then ReLU ("LR" in Gorishniy et al. 2022).

    Args:
        n_numeric: Number of columns.
        dim: Numbers per column.
    """

    def __init__(self, n_numeric: int, dim: int) -> None:
        super().__init__()
        self.width = n_numeric * dim
        bound = dim**-0.5
        self.weight = nn.Parameter(torch.empty(n_numeric, dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_numeric, dim).uniform_(-bound, bound))

    def forward(self, x_num: torch.Tensor) -> torch.Tensor:
        """[B, Dn] -> [B, Dn * dim]."""
        return torch.addcmul(self.bias, x_num.unsqueeze(-1), self.weight).relu().flatten(1)


class PeriodicEmbedding(nn.Module):
    """Cosine and sine of each number at trained frequencies, then one linear layer for all columns and ReLU.

    "PLR(lite)" of Gorishniy et al. 2022, "On embeddings for numerical features in tabular deep learning":
    v = 2 pi c x with c drawn from a normal of deviation sigma, features [cos v, sin v].

    Args:
        n_numeric: Number of columns.
        dim: Numbers per column that come out.
        frequencies: Frequencies per column.
        sigma: Standard deviation of the frequencies at the start; the setting that matters most.
    """

    def __init__(self, n_numeric: int, dim: int, frequencies: int, sigma: float) -> None:
        super().__init__()
        if not sigma > 0:
            raise ValueError(f"frequency_sigma={sigma!r} is not above 0")
        self.width = n_numeric * dim
        self.frequencies = nn.Parameter(sigma * torch.randn(n_numeric, frequencies))
        self.mix = nn.Linear(2 * frequencies, dim)

    def forward(self, x_num: torch.Tensor) -> torch.Tensor:
        """[B, Dn] -> [B, Dn * dim]; the largest tensor between is [B, Dn, 2 * frequencies]."""
        angle = x_num.unsqueeze(-1) * (2 * math.pi * self.frequencies)
        waves = torch.cat([angle.cos(), angle.sin()], dim=-1)
        # Two dimensions, so that stacked weights are one batched product and are not copied once per row.
        mixed: torch.Tensor = self.mix(waves.flatten(0, 1))
        return mixed.relu().reshape(x_num.shape[0], self.width)


class BinEmbedding(nn.Module):
    """Piecewise linear encoding: one number per bin, 0 below the bin, 1 above it, linear within.

    The bins are the quantiles of a standard normal, so they hold equally many rows where `data: numbers: quantile`
    has made the columns normal. The first bin has no floor and the last no ceiling: no value is cut off.

    Source: Gorishniy et al. 2022, section 3.2, "PLE" with bins from quantiles.

    Args:
        n_numeric: Number of columns.
        bins: Bins per column, at least 2.
    """

    def __init__(self, n_numeric: int, bins: int) -> None:
        super().__init__()
        at_least(2, numeric_embedding_dim=bins)
        self.width = n_numeric * bins
        inner = torch.special.ndtri(torch.arange(1, bins, dtype=torch.float64) / bins)
        outer = torch.special.ndtri(torch.tensor([0.5 / bins], dtype=torch.float64))
        edges = torch.cat([outer, inner, -outer])
        floor, ceiling = torch.zeros(bins), torch.ones(bins)
        floor[0], ceiling[-1] = torch.finfo().min, torch.finfo().max  # not infinite: a stored state must be finite
        self.starts: torch.Tensor
        self.widths: torch.Tensor
        self.floor: torch.Tensor
        self.ceiling: torch.Tensor
        self.register_buffer("starts", edges[:-1].float())
        self.register_buffer("widths", edges.diff().float())
        self.register_buffer("floor", floor)
        self.register_buffer("ceiling", ceiling)

    def forward(self, x_num: torch.Tensor) -> torch.Tensor:
        """[B, Dn] -> [B, Dn * bins]."""
        share = (x_num.unsqueeze(-1) - self.starts) / self.widths
        return share.clamp(self.floor, self.ceiling).flatten(1)


class Interactions(nn.Module):
    """Adds `rank` products of two weighted sums of the inputs: pairwise interactions of low rank.

    Source: Rendle 2010, "Factorization machines", ICDM: the weight of a pair of columns is a product of rank `rank`.

    Args:
        d_in: Numbers per row that come in.
        rank: Products that are added.
    """

    def __init__(self, d_in: int, rank: int) -> None:
        super().__init__()
        self.width = d_in + rank
        self.left = nn.Linear(d_in, rank, bias=False)
        self.right = nn.Linear(d_in, rank, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, d_in] -> [B, d_in + rank], what came in first."""
        return torch.cat([x, self.left(x) * self.right(x)], dim=1)


class Inputs(nn.Module):
    """Both kinds of inputs -> one flat vector per row; `width` is its length.

    Args:
        n_numeric: Number of numeric columns, may be 0.
        cardinalities: Number of codes of each category column, may be empty.
        embedding_dim: Numbers per category code; 0 for `embedding_width`'s rule.
        numeric_embedding: One of NUMERIC_EMBEDDINGS; "none" takes the numbers as they are.
        numeric_embedding_dim: Numbers per numeric column (linear, periodic), or bins.
        frequencies: Frequencies per numeric column (periodic).
        frequency_sigma: Deviation of the frequencies at the start (periodic).
        interactions: Products of two weighted sums that are added to the vector; 0 for none.

    Raises:
        ValueError: There are no columns at all, or a value is out of its bounds.
    """

    def __init__(
        self,
        n_numeric: int,
        cardinalities: Sequence[int],
        *,
        embedding_dim: int,
        numeric_embedding: str,
        numeric_embedding_dim: int,
        frequencies: int,
        frequency_sigma: float,
        interactions: int,
    ) -> None:
        super().__init__()
        one_of("numeric_embedding", numeric_embedding, NUMERIC_EMBEDDINGS)
        at_least(0, embedding_dim=embedding_dim, interactions=interactions)
        at_least(1, numeric_embedding_dim=numeric_embedding_dim, frequencies=frequencies)
        if not n_numeric and not cardinalities:
            raise ValueError("the data have no input columns")
        self.numbers: LinearEmbedding | PeriodicEmbedding | BinEmbedding | None = None
        self.categories: CategoryEmbedding | None = None
        self.use_numbers = n_numeric > 0
        self.width = n_numeric
        if n_numeric and numeric_embedding == "linear":
            self.numbers = LinearEmbedding(n_numeric, numeric_embedding_dim)
        if n_numeric and numeric_embedding == "periodic":
            self.numbers = PeriodicEmbedding(n_numeric, numeric_embedding_dim, frequencies, frequency_sigma)
        if n_numeric and numeric_embedding == "bins":
            self.numbers = BinEmbedding(n_numeric, numeric_embedding_dim)
        if self.numbers is not None:
            self.width = self.numbers.width
        if cardinalities:
            self.categories = CategoryEmbedding(
                cardinalities, embedding_dim or embedding_width(cardinalities)
            )
            self.width += self.categories.width
        self.interactions = Interactions(self.width, interactions) if interactions else None
        if self.interactions is not None:
            self.width = self.interactions.width

    def forward(self, x_num: torch.Tensor, x_cat: torch.Tensor) -> torch.Tensor:
        """[B, Dn] and int64 [B, Dc] -> [B, width]."""
        numbers = x_num if self.numbers is None else self.numbers(x_num)
        if self.categories is None:
            vector = numbers
        else:
            codes = self.categories(x_cat)
            vector = torch.cat([numbers, codes], dim=1) if self.use_numbers else codes
        return vector if self.interactions is None else self.interactions(vector)
