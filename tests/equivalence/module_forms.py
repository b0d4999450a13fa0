"""Networks as users write them, with what lanes find hard in each; imported by test_module_forms.

All take 7 numbers and give 3 outputs. A class that must run one after another says by which reason (`refused`).
"""

from __future__ import annotations

import random
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

INPUTS, WIDTH, OUTPUTS = 7, 8, 3


class Plain(nn.Module):
    """Body, activation, head: the others change one thing each."""

    refused: ClassVar[str | None] = None
    gradient: ClassVar[bool] = True  # whether torch has forward-mode derivatives of all it does
    alone: ClassVar[bool] = True  # whether in evaluation a row's outputs do not depend on the other rows

    def __init__(self, rate: float = 0.3) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(INPUTS, WIDTH), nn.Linear(WIDTH, OUTPUTS)
        self.build(rate)

    def build(self, rate: float) -> None:
        """Further parts."""

    def hidden(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.body(x))

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.hidden(x))


# Dropout: one object in several places


class DropoutTwice(Plain):
    """`late` is registered first and called in between."""

    def build(self, rate: float) -> None:
        self.late, self.drop = nn.Dropout(rate / 2), nn.Dropout(rate)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.drop(self.late(self.drop(x).new_ones(()) * self.hidden(self.drop(x)))))


class DropoutOfTwoNames(Plain):
    def build(self, rate: float) -> None:
        self.first = nn.Dropout(rate)
        self.second = self.first
        self.inner = nn.Sequential(nn.Linear(WIDTH, WIDTH), self.first)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.second(self.inner(self.first(self.hidden(x)))))


class DropoutInPlace(Plain):
    def build(self, rate: float) -> None:
        self.drop = nn.Dropout(rate, inplace=True)

    def forward(self, x: torch.Tensor) -> Any:
        hidden = self.hidden(x) + 0.0
        self.drop(hidden)
        return self.head(hidden)


# Batch normalisation


class NormTwice(Plain):
    def build(self, rate: float) -> None:
        self.norm, self.more = nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.norm(torch.tanh(self.more(self.norm(self.hidden(x))))))


class NormOfTwoNames(Plain):
    def build(self, rate: float) -> None:
        self.norm = nn.BatchNorm1d(WIDTH, momentum=0.3)
        self.inner = nn.Sequential(nn.Linear(WIDTH, WIDTH), self.norm)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.inner(self.norm(self.hidden(x))))


class NormWithoutMomentum(Plain):
    """Its statistics are means over all batches."""

    def build(self, rate: float) -> None:
        self.norm = nn.BatchNorm1d(WIDTH, momentum=None)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.norm(self.hidden(x)))


class NormWithoutStatistics(Plain):
    alone = False

    def build(self, rate: float) -> None:
        self.norm = nn.BatchNorm1d(WIDTH, affine=False, track_running_stats=False)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.norm(self.hidden(x)))


class ActivatedNorm(nn.BatchNorm1d):
    """As timm's BatchNormAct2d: a subclass with a forward of its own."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.num_batches_tracked.add_(1)
        out = F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )
        return F.silu(out)


class NormWithOwnForward(Plain):
    gradient = False

    def build(self, rate: float) -> None:
        self.norm = ActivatedNorm(WIDTH)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.norm(self.body(x)))


class FrozenNorm(Plain):
    """It stays in evaluation, as in fine-tuning."""

    def build(self, rate: float) -> None:
        self.norm = nn.BatchNorm1d(WIDTH)

    def train(self, mode: bool = True) -> FrozenNorm:
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.norm(self.hidden(x)))


# Buffers of its own


class Counter(Plain):
    """A whole number, counted in place, that warms the outputs up."""

    steps: torch.Tensor

    def build(self, rate: float) -> None:
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> Any:
        if self.training:
            self.steps += 1
        return super().forward(x) * (1 + 1 / (1 + self.steps.float()))


class CentreAssigned(Plain):
    """A running mean, assigned."""

    centre: torch.Tensor

    def build(self, rate: float) -> None:
        self.register_buffer("centre", torch.zeros(WIDTH))

    def forward(self, x: torch.Tensor) -> Any:
        hidden = self.hidden(x)
        if self.training:
            self.centre = 0.9 * self.centre + 0.1 * hidden.mean(0).detach()
        return self.head(hidden - self.centre)


class CentreInPlace(CentreAssigned):
    """The same, written in place."""

    def forward(self, x: torch.Tensor) -> Any:
        hidden = self.hidden(x)
        if self.training:
            with torch.no_grad():
                self.centre.mul_(0.9).add_(0.1 * hidden.mean(0))
        return self.head(hidden - self.centre.clone())


class CountsAlways(Counter):
    """It counts in evaluation too; that is not kept."""

    def forward(self, x: torch.Tensor) -> Any:
        self.steps = self.steps + 1
        return Plain.forward(self, x) * (1 + 1 / (1 + self.steps.float()))


class OwnConstants(Plain):
    """Random features: a buffer that differs from lane to lane and does not change."""

    projection: torch.Tensor

    def build(self, rate: float) -> None:
        self.register_buffer("projection", torch.randn(INPUTS, INPUTS))

    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(x @ self.projection)


# Weights that are shared or fixed


class Tied(Plain):
    """One matrix in and out, and one layer twice."""

    def build(self, rate: float) -> None:
        self.inner, self.back = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.back.weight = self.inner.weight
        self.again = self.inner

    def forward(self, x: torch.Tensor) -> Any:
        hidden = torch.tanh(self.back(torch.tanh(self.again(self.inner(self.hidden(x))))))
        return self.head(hidden @ self.inner.weight.T)


class Frozen(Plain):
    """A part that is not trained, with statistics that go on."""

    def build(self, rate: float) -> None:
        self.norm = nn.BatchNorm1d(INPUTS)
        for part in (self.body, self.norm):
            part.requires_grad_(False)
        self.scale = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.hidden(self.norm(x)) * self.scale)


class WeightNorm(Plain):
    gradient = False

    def build(self, rate: float) -> None:
        self.inner = nn.utils.parametrizations.weight_norm(nn.Linear(WIDTH, WIDTH))

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(torch.tanh(self.inner(self.hidden(x))))


class SpectralNorm(WeightNorm):
    """Its power iteration writes into buffers with out=."""

    refused = "out"

    def build(self, rate: float) -> None:
        self.inner = nn.utils.parametrizations.spectral_norm(nn.Linear(WIDTH, WIDTH))


# Layers by their class


class ByClass(Plain):
    """Its forward asks what its layers are, and a hook changes what one gives."""

    def build(self, rate: float) -> None:
        self.layers = nn.ModuleList([nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.Dropout(rate)])
        self.layers[0].register_forward_hook(_doubled)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.hidden(x)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                x = x[:, : layer.in_features]
            if isinstance(layer, (nn.Linear, nn.BatchNorm1d, nn.Dropout)):
                x = layer(x)
        return self.head(x)


def _doubled(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
    return 2 * output


class ScaledLinear(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return F.linear(input, self.weight / self.weight.norm(), self.bias)


class OwnLinear(Plain):
    def build(self, rate: float) -> None:
        self.inner = ScaledLinear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(torch.tanh(self.inner(self.hidden(x))))


# Draws of its own: one after another, from the lane's generator


class Noise(Plain):
    refused = "random operation"

    def hidden(self, x: torch.Tensor) -> torch.Tensor:
        hidden = super().hidden(x)
        return hidden + 0.1 * torch.randn_like(hidden) if self.training else hidden


class Bernoulli(Plain):
    """Stochastic depth beside a dropout layer."""

    refused = "random operation"

    def build(self, rate: float) -> None:
        self.inner, self.drop = nn.Linear(WIDTH, WIDTH), nn.Dropout(rate)

    def forward(self, x: torch.Tensor) -> Any:
        hidden = self.drop(self.hidden(x))
        more = torch.tanh(self.inner(hidden))
        if self.training:
            more = more * x.new_empty(len(x), 1).bernoulli_(0.7) / 0.7
        return self.head(hidden + more)


class FunctionalDropout(Plain):
    refused = "random operation"

    def hidden(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(super().hidden(x), 0.4, self.training)


class AlphaDropout(Plain):
    refused = "random operation"

    def build(self, rate: float) -> None:
        self.drop = nn.AlphaDropout(0.2)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.drop(F.selu(self.body(x))))


class NumpyNoise(Plain):
    refused = "generator of numpy"

    def hidden(self, x: torch.Tensor) -> torch.Tensor:
        scale = 1 + 0.1 * np.random.rand() + 0.1 * random.random() if self.training else 1.0
        return super().hidden(x) * scale


class OwnGenerator(Plain):
    refused = "generator"

    def build(self, rate: float) -> None:
        self.source, self.numbers = torch.Generator().manual_seed(3), np.random.default_rng(3)

    def hidden(self, x: torch.Tensor) -> torch.Tensor:
        hidden = super().hidden(x)
        if not self.training:
            return hidden
        return hidden * (1 + 0.1 * torch.rand(hidden.shape, generator=self.source)) * self.numbers.uniform(0.9, 1.1)


class RecurrentDropout(Plain):
    gradient = False
    refused = "dropout inside LSTM"

    def build(self, rate: float) -> None:
        self.cells = nn.LSTM(1, WIDTH, num_layers=2, dropout=0.3, batch_first=True)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.cells(x.unsqueeze(-1))[0][:, -1])


class AttentionDropout(Plain):
    gradient = False
    refused = "random operation"

    def build(self, rate: float) -> None:
        self.attention = nn.MultiheadAttention(WIDTH, 2, dropout=0.2, batch_first=True)
        self.embed = nn.Linear(1, WIDTH)

    def forward(self, x: torch.Tensor) -> Any:
        tokens = self.embed(x.unsqueeze(-1))
        return self.head(self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1))


class Attention(AttentionDropout):
    """torch's own block; in evaluation it has a fast path that vmap does not know."""

    refused = None

    def build(self, rate: float) -> None:
        self.embed = nn.Linear(1, WIDTH)
        self.attention = nn.TransformerEncoderLayer(WIDTH, 2, 16, dropout=0.0, batch_first=True)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.attention(self.embed(x.unsqueeze(-1))).mean(1))


# What vmap refuses


class DataDependent(Plain):
    """Which way it goes, and whether it drops, depends on the batch."""

    refused = "data-dependent control flow"

    def build(self, rate: float) -> None:
        self.inner, self.drop = nn.Linear(WIDTH, WIDTH), nn.Dropout(rate)

    def forward(self, x: torch.Tensor) -> Any:
        hidden = self.hidden(x)
        if hidden.mean() > 0:
            hidden = self.drop(torch.tanh(self.inner(hidden)))
        return self.head(self.drop(hidden))


class MaskAsIndex(Plain):
    refused = "dynamic shape"

    def hidden(self, x: torch.Tensor) -> torch.Tensor:
        hidden = super().hidden(x)
        positive = torch.zeros_like(hidden)
        positive[hidden > 0] = hidden[hidden > 0]
        return positive


class RefusedInEvaluation(Plain):
    """It clips at a number it reads, in evaluation only."""

    refused = ".item()"

    def forward(self, x: torch.Tensor) -> Any:
        out = super().forward(x)
        return out if self.training else out.clamp(max=self.head.weight.abs().max().item() * 100)


class WritesIntoZeros(Plain):
    refused = "inplace"

    def hidden(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.zeros(len(x), WIDTH)
        out[:, : WIDTH // 2] = super().hidden(x)[:, : WIDTH // 2]
        return out


FORMS: dict[str, type[Plain]] = {
    cls.__name__: cls
    for cls in list(globals().values())
    if isinstance(cls, type) and issubclass(cls, Plain)
}
