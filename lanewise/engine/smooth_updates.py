"""The updates of `optimizers` as functions that can be differentiated; used by hypergradient.

The engine's own updates work in place on folded numbers, which is fast and has no derivative. These are the
textbook forms: torch.optim.SGD, Adam, AdamW and RMSprop. Every hyperparameter is a column [K, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

Columns = Mapping[str, torch.Tensor]
# (p, g, first, second [K, P], columns) -> p, first, second after the step
Update = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, Columns],
    tuple[torch.Tensor, torch.Tensor, torch.Tensor],
]


def root(x: torch.Tensor) -> torch.Tensor:
    """Square root whose derivative at 0 is 0: weights that never got a gradient have no part in anything."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0).sqrt(), 0.0)


def _sgd(
    p: torch.Tensor, g: torch.Tensor, first: torch.Tensor, second: torch.Tensor, c: Columns
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = g + c["weight_decay"] * p
    first = c["momentum"] * first + g
    ahead = g + c["momentum"] * first
    return p - c["rate"] * torch.where(c["nesterov"] > 0, ahead, first), first, second


def _adam(
    p: torch.Tensor, g: torch.Tensor, first: torch.Tensor, second: torch.Tensor, c: Columns
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return _adam_step(p, g + c["weight_decay"] * p, first, second, c)


def _adamw(
    p: torch.Tensor, g: torch.Tensor, first: torch.Tensor, second: torch.Tensor, c: Columns
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return _adam_step(p * (1 - c["rate"] * c["weight_decay"]), g, first, second, c)


def _adam_step(
    p: torch.Tensor, g: torch.Tensor, first: torch.Tensor, second: torch.Tensor, c: Columns
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    first = first + (1 - c["beta1"]) * (g - first)
    second = second + (1 - c["beta2"]) * (g.square() - second)
    denominator = root(second) / (1 - c["beta2"] ** c["t"]).sqrt() + c["eps"]
    return p - c["rate"] / (1 - c["beta1"] ** c["t"]) * first / denominator, first, second


def _rmsprop(
    p: torch.Tensor, g: torch.Tensor, first: torch.Tensor, second: torch.Tensor, c: Columns
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = g + c["weight_decay"] * p
    second = second + (1 - c["alpha"]) * (g.square() - second)
    first = c["momentum"] * first + g / (root(second) + c["eps"])
    return p - c["rate"] * first, first, second


UPDATES: dict[str, Update] = {"sgd": _sgd, "adam": _adam, "adamw": _adamw, "rmsprop": _rmsprop}
