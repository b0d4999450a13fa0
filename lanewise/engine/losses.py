"""Training losses of stacked lanes; used by pool and by the slow twin.

Every lane has its own numbers (`Terms`); which loss it is, is the pool's. Penalties on weights are here too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from lanewise.training import CLASS_LOSSES, VALUE_LOSSES

LOSSES = (*CLASS_LOSSES, *VALUE_LOSSES)

_SURE = 1e-12  # least 1 - p of the focal loss: a power of 0 has no derivative


@dataclass(frozen=True)
class Terms:
    """The numbers of the losses, one of each lane: [K], but for the weights of classes.

    Args:
        smoothing: Label smoothing of cross_entropy.
        focus: Exponent of focal.
        delta: Threshold of huber.
        level: Level of quantile.
        class_weights: [K, C], or None where no lane weighs its classes.
    """

    smoothing: torch.Tensor
    focus: torch.Tensor
    delta: torch.Tensor
    level: torch.Tensor
    class_weights: torch.Tensor | None = None

    @classmethod
    def of(
        cls, configs: Sequence[Mapping[str, Any]], device: torch.device, class_weights: torch.Tensor | None
    ) -> Terms:
        """The numbers of some lanes, from their configurations."""

        def column(name: str) -> torch.Tensor:
            return torch.tensor([float(c[name]) for c in configs], device=device)

        return cls(
            column("label_smoothing"),
            column("focal_gamma"),
            column("huber_delta"),
            column("quantile_level"),
            class_weights,
        )


def lane_losses(kind: str, outputs: torch.Tensor, target: torch.Tensor, terms: Terms) -> torch.Tensor:
    """Mean loss of each lane's batch, as torch.nn.functional computes it for one.

    Args:
        kind: One of LOSSES.
        outputs: [K, B, C] logits, or [K, B, 1] values.
        target: [K, B] class codes (int64) or values (float32).
        terms: The lanes' numbers.

    Returns:
        [K].

    Sources: focal: Lin et al. 2017, "Focal Loss for Dense Object Detection" (arXiv 1708.02002), over classes;
    quantile: Koenker and Bassett 1978, the check function.
    """
    if kind not in CLASS_LOSSES:
        return _value_losses(kind, outputs.squeeze(-1) - target, terms)
    # log_softmax over a short last axis takes five times as long as logsumexp on a CPU
    log_p = outputs - torch.logsumexp(outputs, dim=-1, keepdim=True)
    picked = -log_p.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    weights = terms.class_weights
    if kind == "focal":
        losses = (-torch.expm1(-picked)).clamp(min=_SURE) ** terms.focus.unsqueeze(1) * picked
        if weights is None:
            return losses.mean(dim=1)
        weight = weights.gather(1, target)
        return (weight * losses).sum(dim=1) / weight.sum(dim=1)
    smoothing = terms.smoothing
    rest = 1 - smoothing.unsqueeze(1)
    if weights is None:
        return (rest * picked - smoothing.unsqueeze(1) * log_p.mean(dim=-1)).mean(dim=1)
    weight = weights.gather(1, target)
    spread = -(log_p * weights.unsqueeze(1)).mean(dim=-1)
    total = (rest * weight * picked + smoothing.unsqueeze(1) * spread).sum(dim=1)
    return total / weight.sum(dim=1)


def _value_losses(kind: str, error: torch.Tensor, terms: Terms) -> torch.Tensor:
    """Mean loss [K] of errors [K, B], output minus target."""
    if kind == "mse":
        return error.square().mean(dim=1)
    if kind == "quantile":
        level = terms.level.unsqueeze(1)
        return torch.where(error < 0, -level * error, (1 - level) * error).mean(dim=1)
    if kind not in ("mae", "huber"):
        raise ValueError(f"no loss {kind}")
    if kind == "mae":
        return F.l1_loss(error, torch.zeros_like(error), reduction="none").mean(dim=1)
    # huber_loss cannot be differentiated forward (torch 2.13); smooth_l1_loss is the same at the threshold 1
    scaled = error / terms.delta.unsqueeze(1)
    losses = F.smooth_l1_loss(scaled, torch.zeros_like(scaled), reduction="none").mean(dim=1)
    return terms.delta.square() * losses


def l1_penalties(configs: Sequence[Mapping[str, Any]], device: torch.device) -> torch.Tensor | None:
    """Each lane's L1 penalty [K, 1]; None where no lane has one."""
    penalties = [float(c["l1"]) for c in configs]
    return torch.tensor(penalties, device=device).unsqueeze(1) if max(penalties) > 0 else None


def with_l1(g: torch.Tensor, p: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
    """Gradients [K, P] of the loss plus penalty [K, 1] times the sum of |p|; 0 leaves a row as it is."""
    return torch.where(penalty > 0, g + penalty * p.sign(), g)


def balanced_weights(target: torch.Tensor, classes: int) -> torch.Tensor:
    """Class weights n / (classes * count), [classes] (scikit-learn's "balanced"); 0 for an absent class."""
    counts = torch.bincount(target.cpu(), minlength=classes).double()
    return torch.where(counts > 0, len(target) / (classes * counts), 0.0).to(torch.get_default_dtype())
