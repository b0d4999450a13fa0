"""Activation, normalisation and initialised linear layers by name; used by the networks, trains nothing."""

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


def linear(
    d_in: int,
    d_out: int,
    *,
    bias: bool = True,
    initialisation: str = "default",
    activation: str | None = None,
) -> nn.Linear:
    """A linear layer whose start values fit what follows it.

    "default" is what torch does: uniform within 1/sqrt(d_in), weights and bias. The others set the bias to
    zero and the weights' variance to gain^2 / d_in (kaiming; He et al. 2015), 2 gain^2 / (d_in + d_out)
    (xavier; Glorot and Bengio 2010) or make the smaller side orthogonal times gain (Saxe et al. 2014). The
    gain is torch's for the activation; gelu and silu, for which torch has none, take that of relu.

    Args:
        d_in: Number of inputs.
        d_out: Number of outputs.
        bias: Whether the layer has one.
        initialisation: One of INITIALISATIONS.
        activation: The activation behind the layer; None where none follows (gain 1).
    """
    one_of("initialisation", initialisation, INITIALISATIONS)
    layer = nn.Linear(d_in, d_out, bias=bias)
    if initialisation == "default":
        return layer
    nonlinearity: Any = {None: "linear", "gelu": "relu", "silu": "relu"}.get(activation, activation)
    slope = nn.LeakyReLU().negative_slope
    if initialisation.startswith("kaiming"):
        getattr(nn.init, f"{initialisation}_")(layer.weight, a=slope, nonlinearity=nonlinearity)
    else:
        gain = nn.init.calculate_gain(nonlinearity, slope)
        getattr(nn.init, f"{initialisation}_")(layer.weight, gain=gain)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
