"""Training losses of stacked lanes; used by pool and by the slow twin."""

from __future__ import annotations

import torch
import torch.nn.functional as F

LOSSES = ("cross_entropy", "mse", "huber", "mae")


def lane_losses(
    kind: str,
    outputs: torch.Tensor,
    target: torch.Tensor,
    smoothing: torch.Tensor,
    class_weights: torch.Tensor | None,
) -> torch.Tensor:
    """Mean loss of each lane's batch, as torch.nn.functional computes it for one.

    Args:
        kind: One of LOSSES.
        outputs: [K, B, C] logits, or [K, B, 1] values.
        target: [K, B] class codes (int64) or values (float32).
        smoothing: Label smoothing [K].
        class_weights: [K, C], or None where no lane weighs its classes.

    Returns:
        [K].
    """
    if kind != "cross_entropy":
        values = outputs.squeeze(-1)
        if kind == "mse":
            return (values - target).square().mean(dim=1)
        # smooth_l1_loss is huber_loss at its threshold 1; the latter cannot be differentiated forward (torch 2.13)
        error = F.smooth_l1_loss if kind == "huber" else F.l1_loss
        return error(values, target, reduction="none").mean(dim=1)
    # log_softmax over a short last axis takes five times as long as logsumexp on a CPU
    log_p = outputs - torch.logsumexp(outputs, dim=-1, keepdim=True)
    picked = -log_p.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    rest = 1 - smoothing.unsqueeze(1)
    if class_weights is None:
        return (rest * picked - smoothing.unsqueeze(1) * log_p.mean(dim=-1)).mean(dim=1)
    weight = class_weights.gather(1, target)
    spread = -(log_p * class_weights.unsqueeze(1)).mean(dim=-1)
    total = (rest * weight * picked + smoothing.unsqueeze(1) * spread).sum(dim=1)
    return total / weight.sum(dim=1)


def balanced_weights(target: torch.Tensor, classes: int) -> torch.Tensor:
    """Class weights n / (classes * count), [classes] (scikit-learn's "balanced"); 0 for an absent class."""
    counts = torch.bincount(target.cpu(), minlength=classes).double()
    return torch.where(counts > 0, len(target) / (classes * counts), 0.0).to(torch.get_default_dtype())
