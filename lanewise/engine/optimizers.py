"""Optimisers over stacked parameters: one flat [K, P] buffer, one row per lane; used by pool.

Each family is a pair: `coefficients` turns a lane's hyperparameters and learning rates into numbers for
every step of an epoch, `update` applies one step in place to a group of rows. Every number that differs
between lanes is a [K, 1] column, so a row's bits depend on its own numbers only. torch.optim is the slow
twin (`reference.py`); the formulas are those of torch.optim.SGD, Adam, AdamW and RMSprop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[np.float64]

_TINY = 1e-30  # a rate of exactly 0 would divide by 0 in Adam's folded form


class Family(Protocol):
    """One optimiser: per-step coefficients of a lane, and the update of state buffers "first" and "second"."""

    def coefficients(self, config: Mapping[str, Any], lr_S: Array, first: int) -> Array: ...

    def update(
        self, p: torch.Tensor, g: torch.Tensor, state: Mapping[str, torch.Tensor], c: torch.Tensor
    ) -> None: ...


class SGD:
    """Stochastic gradient descent with momentum, Nesterov and L2 weight decay."""

    def coefficients(self, config: Mapping[str, Any], lr_S: Array, first: int) -> Array:
        """Columns: -rate, weight decay, momentum, share of the gradient added (Nesterov), momentum in the step."""
        momentum, nesterov = float(config["momentum"]), bool(config["nesterov"])
        ahead = (1.0, momentum) if nesterov else (0.0, 1.0)
        fixed = [float(config["weight_decay"]), momentum, *ahead]
        return np.column_stack([-lr_S, np.tile(fixed, (len(lr_S), 1))])

    def update(
        self, p: torch.Tensor, g: torch.Tensor, state: Mapping[str, torch.Tensor], c: torch.Tensor
    ) -> None:
        """p, g, state: [K, P]; c: [5, K, 1]."""
        velocity = state["first"]
        g.add_(p * c[1])
        velocity.mul_(c[2]).add_(g)
        p.add_(g.mul_(c[3]).add_(velocity * c[4]).mul_(c[0]))


class Adam:
    """Adam (Kingma and Ba 2015) with L2 weight decay, or decoupled decay (AdamW, Loshchilov and Hutter 2019)."""

    def __init__(self, decoupled: bool) -> None:
        self._decoupled = decoupled

    def coefficients(self, config: Mapping[str, Any], lr_S: Array, first: int) -> Array:
        """Columns: decay, 1 - beta1, 1 - beta2, and the two parts of the denominator divided by the step size.

        With t steps done, p -= s * m / (sqrt(v) * r + eps), s = lr / (1 - beta1^t), r = 1 / sqrt(1 - beta2^t);
        folding s into the denominator saves one pass over the parameters.
        """
        beta1, beta2, eps = float(config["beta1"]), float(config["beta2"]), float(config["eps"])
        decay = float(config["weight_decay"])
        t = np.arange(first + 1, first + 1 + len(lr_S), dtype=np.float64)
        size = np.maximum(lr_S / (1 - beta1**t), _TINY)
        root = 1 / np.sqrt(1 - beta2**t)
        shrink = 1 - lr_S * decay if self._decoupled else np.full_like(lr_S, decay)
        betas = np.tile([1 - beta1, 1 - beta2], (len(lr_S), 1))
        return np.column_stack([shrink, betas, root / size, eps / size])

    def update(
        self, p: torch.Tensor, g: torch.Tensor, state: Mapping[str, torch.Tensor], c: torch.Tensor
    ) -> None:
        """p, g, state: [K, P]; c: [5, K, 1]."""
        if self._decoupled:
            p.mul_(c[0])
        else:
            g.add_(p * c[0])
        state["first"].lerp_(g, c[1])
        state["second"].lerp_(g.mul_(g), c[2])
        denominator = torch.sqrt(state["second"], out=g).mul_(c[3]).add_(c[4])
        p.addcdiv_(state["first"], denominator, value=-1)


class RMSprop:
    """RMSprop (Hinton 2012) with momentum and L2 weight decay."""

    def coefficients(self, config: Mapping[str, Any], lr_S: Array, first: int) -> Array:
        """Columns: -rate, weight decay, momentum, 1 - alpha, eps."""
        fixed = [float(config[k]) for k in ("weight_decay", "momentum")]
        fixed += [1 - float(config["alpha"]), float(config["eps"])]
        return np.column_stack([-lr_S, np.tile(fixed, (len(lr_S), 1))])

    def update(
        self, p: torch.Tensor, g: torch.Tensor, state: Mapping[str, torch.Tensor], c: torch.Tensor
    ) -> None:
        """p, g, state: [K, P]; c: [5, K, 1]."""
        g.add_(p * c[1])
        state["second"].lerp_(g * g, c[3])
        state["first"].mul_(c[2]).addcdiv_(g, state["second"].sqrt().add_(c[4]))
        p.add_(state["first"] * c[0])


FAMILIES: dict[str, Family] = {
    "sgd": SGD(),
    "adam": Adam(decoupled=False),
    "adamw": Adam(decoupled=True),
    "rmsprop": RMSprop(),
}


def optimizer_groups(families: list[str]) -> list[tuple[str, slice]]:
    """Runs of equal names: (name, rows)."""
    starts = [i for i, f in enumerate(families) if i == 0 or f != families[i - 1]]
    return [(families[a], slice(a, b)) for a, b in zip(starts, [*starts[1:], len(families)], strict=True)]


def clip_rows(g: torch.Tensor, limit: torch.Tensor, trained: torch.Tensor | None = None) -> None:
    """Scale each lane's gradient down to its own norm limit (torch.nn.utils.clip_grad_norm_), in place.

    Args:
        g: Gradients [K, P], P a multiple of 64.
        limit: Greatest norms [K, 1]; infinity where a lane does not clip.
        trained: Gradients whose norm counts, where it is not all of them.
    """
    norms = squared_norms(g if trained is None else trained).sqrt()
    g.mul_((limit / (norms + 1e-6)).clamp_(max=1.0))


def squared_norms(g: torch.Tensor) -> torch.Tensor:
    """Squared norm [K, 1] of each lane's gradient, for g as in `clip_rows`."""
    # Blocks of one lane only: the same sum whoever stands beside it.
    blocks = (g * g).reshape(-1, 64).sum(dim=1)
    return blocks.reshape(g.shape[0], -1).sum(dim=1, keepdim=True)
