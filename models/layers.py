"""Activation, normalisation, linear and convolution layers by name; used by the networks, trains nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "leaky_relu": nn.LeakyReLU,
}
NORMALISATIONS = ("none", "layer", "batch")
CHANNEL_NORMALISATIONS = ("none", "batch", "group", "layer")
GROUPS = 8  # of group normalisation, at most
INITIALISATIONS = (
    "default",
    "kaiming_uniform",
    "kaiming_normal",
    "xavier_uniform",
    "xavier_normal",
    "orthogonal",
)


def one_of(name: str, value: Any, known: Iterable[Any]) -> None:
    """Refuse a hyperparameter's value that is not among the known ones.

    Raises:
        ValueError: Names the hyperparameter, the value and what is known.
    """
    known = list(known)
    if value not in known:
        raise ValueError(f"{name}={value!r} is not one of {', '.join(map(str, known))}")


def at_least(lowest: int, **values: int) -> None:
    """Refuse a size that is no integer or is below `lowest`.

    Raises:
        ValueError: Names the hyperparameter and the value.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
            raise ValueError(f"{name}={value!r} is not an integer of at least {lowest}")


def normalisation_layers(kind: str, width: int) -> list[nn.Module]:
    """No layer or one layer, ready to be spread into nn.Sequential.

    Args:
        kind: One of NORMALISATIONS.
        width: Number of features it normalises.
    """
    one_of("normalisation", kind, NORMALISATIONS)
    if kind == "none":
        return []
    return [nn.LayerNorm(width) if kind == "layer" else nn.BatchNorm1d(width)]


def activation_layer(kind: str) -> nn.Module:
    """The activation of that name, one of ACTIVATIONS."""
    one_of("activation", kind, ACTIVATIONS)
    return ACTIVATIONS[kind]()


def channel_normalisation(kind: str, channels: int, dims: int) -> list[nn.Module]:
    """No layer or one layer behind a convolution, ready to be spread into nn.Sequential.

    "group" has the largest number of groups up to 8 that divides the channels (Wu and He 2018); "layer" is one
    group: all channels and places of a row together.

    Args:
        kind: One of CHANNEL_NORMALISATIONS.
        channels: Number of channels it normalises.
        dims: 1 for [B, C, L], 2 for [B, C, H, W].
    """
    one_of("normalisation", kind, CHANNEL_NORMALISATIONS)
    if kind == "none":
        return []
    if kind == "batch":
        return [nn.BatchNorm1d(channels) if dims == 1 else nn.BatchNorm2d(channels)]
    groups = 1 if kind == "layer" else max(g for g in range(1, GROUPS + 1) if channels % g == 0)
    return [nn.GroupNorm(groups, channels)]


def linear(
    d_in: int,
    d_out: int,
    *,
    bias: bool = True,
    initialisation: str = "default",
    activation: str | None = None,
) -> nn.Linear:
    """A linear layer whose start values fit what follows it; see `initialise`.

    Args:
        d_in: Number of inputs.
        d_out: Number of outputs.
        bias: Whether the layer has one.
        initialisation: One of INITIALISATIONS.
        activation: The activation behind the layer; None where none follows (gain 1).
    """
    layer = nn.Linear(d_in, d_out, bias=bias)
    initialise(layer, initialisation, activation)
    return layer


def convolution(
    dims: int,
    c_in: int,
    c_out: int,
    kernel_size: int,
    *,
    stride: int = 1,
    bias: bool = True,
    initialisation: str = "default",
    activation: str | None = None,
) -> nn.Conv1d | nn.Conv2d:
    """A convolution with zeros around its input, half a kernel on each side.

    Its output is as long as its input divided by the stride, rounded up; an even kernel adds one place.

    Args:
        dims: 1 for [B, C, L], 2 for [B, C, H, W].
        c_in: Channels that come in.
        c_out: Channels that go out.
        kernel_size: Places it sees along each axis.
        stride: Places from one output to the next.
        bias: Whether the layer has one.
        initialisation: One of INITIALISATIONS.
        activation: The activation behind the layer; None where none follows (gain 1).
    """
    kind = nn.Conv1d if dims == 1 else nn.Conv2d
    layer = kind(c_in, c_out, kernel_size, stride=stride, padding=kernel_size // 2, bias=bias)
    initialise(layer, initialisation, activation)
    return layer


def initialise(layer: nn.Linear | nn.Conv1d | nn.Conv2d, initialisation: str, activation: str | None) -> None:
    """Give a layer its start values.

    "default" is what torch does: uniform within 1/sqrt(d_in), weights and bias. The others set the bias to
    zero and the weights' variance to gain^2 / d_in (kaiming; He et al. 2015), 2 gain^2 / (d_in + d_out)
    (xavier; Glorot and Bengio 2010) or make the smaller side orthogonal times gain (Saxe et al. 2014). The
    gain is torch's for the activation; gelu and silu, for which torch has none, take that of relu. A
    convolution's d_in and d_out are channels times places of the kernel.

    Args:
        layer: It is changed in place.
        initialisation: One of INITIALISATIONS.
        activation: The activation behind the layer; None where none follows (gain 1).
    """
    one_of("initialisation", initialisation, INITIALISATIONS)
    if initialisation == "default":
        return
    nonlinearity: Any = {None: "linear", "gelu": "relu", "silu": "relu"}.get(activation, activation)
    slope = nn.LeakyReLU().negative_slope
    if initialisation.startswith("kaiming"):
        getattr(nn.init, f"{initialisation}_")(layer.weight, a=slope, nonlinearity=nonlinearity)
    else:
        gain = nn.init.calculate_gain(nonlinearity, slope)
        getattr(nn.init, f"{initialisation}_")(layer.weight, gain=gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
