"""Scores K lanes at once in torch, once per epoch; the fast twin of `metrics.py`, used by the engine.

Before it stands a pool's outputs on the validation rows, after it the pruner and the curve. It may not
let one lane's value depend on another lane, on K, on the padding of the rows or on the thread count:
counts and ranks are integers, and sums of floats go through `tree_sum`, which is made of elementwise
additions in an order that only the position in the row decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

# A chunk of lanes holds at most this many float64 outputs (32 MiB); the bits do not depend on it.
CHUNK_VALUES = 1 << 22
# Confidences are summed as integers of this unit, so their sum is exact in any order.
FIXED_POINT = 1 << 36
ECE_BINS = 15
PROBABILITY_FLOOR = torch.finfo(torch.float64).eps  # scikit-learn's clip in log_loss


def tree_sum(values: Tensor) -> Tensor:
    """Sums the last axis pairwise, in an order that K, padding and threads cannot change.

    The axis is padded with zeros to a power of two and halved until one value is left. A further zero
    or a further halving leaves every partial sum as it was.

    Args:
        values: float64 [..., N].

    Returns:
        float64 [...].
    """
    width = 1 << max(values.shape[-1] - 1, 0).bit_length()
    total = torch.nn.functional.pad(values, (0, width - values.shape[-1]))
    while width > 1:
        width //= 2
        total = total[..., :width] + total[..., width:]
    return total[..., 0]


def softmax(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax over the last axis whose bits depend on nothing but the row.

    Args:
        outputs: float64 [..., C].

    Returns:
        float64 [..., C] probabilities; [...] the sum of exp(output - largest output).
    """
    raised = torch.exp(outputs - outputs.amax(-1, keepdim=True))
    total = tree_sum(raised)
    return raised / total[..., None], total


class LaneBatch:
    """One chunk of lanes with what several metrics share, each worked out once.

    Args:
        outputs_KNC: logits, or standardised values with C = 1; any float type.
        target_KN: class codes (int64) or standardised values (float).
        n_K: number of rows of each lane; rows beyond it are padding and may hold anything.
        scale_K: unit of a regression target's deviation; None for 1.
    """

    def __init__(self, outputs_KNC: Tensor, target_KN: Tensor, n_K: Tensor, scale_K: Tensor | None) -> None:
        rows = torch.arange(target_KN.shape[1], device=target_KN.device)
        self.n = n_K.to(device=target_KN.device, dtype=torch.int64)
        self.mask = rows < self.n[:, None]
        self.finite = (torch.isfinite(outputs_KNC).all(-1) | ~self.mask).all(1)
        usable = self.mask & self.finite[:, None]
        self.outputs = torch.where(usable[..., None], outputs_KNC.double(), 0.0)
        self.target = torch.where(self.mask, target_KN, torch.zeros_like(target_KN))
        self.scale = torch.ones_like(self.n, dtype=torch.float64) if scale_K is None else scale_K.double()
        self.classes = outputs_KNC.shape[2]

    @cached_property
    def predicted(self) -> Tensor:
        """int64 [K, N]: the first class with the largest output."""
        return self.outputs.argmax(-1)

    @cached_property
    def hit(self) -> Tensor:
        """bool [K, N]: predicted class is the target; False on padding."""
        return (self.predicted == self.target) & self.mask

    def per_class(self, code_KN: Tensor, mask_KN: Tensor) -> Tensor:
        """int64 [K, C]: how often each class stands in `code_KN` where `mask_KN` holds."""
        lanes, bins = code_KN.shape[0], self.classes + 1
        lane = torch.arange(lanes, device=code_KN.device)[:, None]
        index = lane * bins + torch.where(mask_KN, code_KN, self.classes)
        counts = torch.bincount(index.reshape(-1), minlength=lanes * bins)
        return counts.reshape(lanes, bins)[:, : self.classes]

    @cached_property
    def counts(self) -> tuple[Tensor, Tensor, Tensor]:
        """int64 [K, C] each: hits, predictions and rows per class."""
        return (
            self.per_class(self.target, self.hit),
            self.per_class(self.predicted, self.mask),
            self.per_class(self.target, self.mask),
        )

    @cached_property
    def several(self) -> Tensor:
        """bool [K]: at least two classes occur in the target."""
        return (self.counts[2] > 0).sum(1) > 1

    @cached_property
    def softmax(self) -> tuple[Tensor, Tensor]:
        """float64 [K, N, C] probabilities, and [K, N] the sum of exp(output - largest output)."""
        return softmax(self.outputs)

    @property
    def probability(self) -> Tensor:
        """float64 [K, N, C]: softmax of the outputs."""
        return self.softmax[0]

    def mean(self, values_KN: Tensor) -> Tensor:
        """float64 [K]: the mean of each lane's own rows; nan where it has none."""
        return tree_sum(torch.where(self.mask, values_KN, 0.0)) / self.n

    def macro(self, values_KC: Tensor, present_KC: Tensor) -> Tensor:
        """float64 [K]: class 1 of two classes, else the mean over the classes present."""
        if self.classes == 2:
            return values_KC[:, 1]
        return tree_sum(torch.where(present_KC, values_KC, 0.0)) / present_KC.sum(1)

    @cached_property
    def present(self) -> Tensor:
        """bool [K, C]: classes that occur in the target or in the predictions."""
        return (self.counts[1] > 0) | (self.counts[2] > 0)


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """Quotient of counts, 0 where the divisor is 0 (scikit-learn's zero_division=0)."""
    return torch.where(below > 0, above.double() / below.clamp(min=1), 0.0)


def _where(defined_K: Tensor, value_K: Tensor) -> Tensor:
    return torch.where(defined_K, value_K, torch.nan)


def _accuracy(b: LaneBatch) -> Tensor:
    return b.hit.sum(1).double() / b.n


def _balanced_accuracy(b: LaneBatch) -> Tensor:
    hits, _, rows = b.counts
    return _where(b.several, tree_sum(_ratio(hits, rows)) / (rows > 0).sum(1))


def _precision(b: LaneBatch) -> Tensor:
    hits, predicted, _ = b.counts
    return _where(b.several, b.macro(_ratio(hits, predicted), b.present))


def _recall(b: LaneBatch) -> Tensor:
    hits, _, rows = b.counts
    return _where(b.several, b.macro(_ratio(hits, rows), b.present))


def _specificity(b: LaneBatch) -> Tensor:
    hits, predicted, rows = b.counts
    others = b.n[:, None] - rows
    return _where(b.several, b.macro(_ratio(others - predicted + hits, others), b.present))


def _f1(b: LaneBatch) -> Tensor:
    hits, predicted, rows = b.counts
    return _where(b.several, b.macro(_ratio(2 * hits, predicted + rows), b.present))


def _mcc(b: LaneBatch) -> Tensor:
    """Matthews correlation for any number of classes (Gorodkin 2004), from integer counts."""
    hits, predicted, rows = b.counts
    covariance = hits.sum(1) * b.n - (predicted * rows).sum(1)
    spread = (b.n**2 - (predicted**2).sum(1)).double() * (b.n**2 - (rows**2).sum(1)).double()
    return _where(b.several, torch.where(spread > 0, covariance / torch.sqrt(spread.clamp(min=1.0)), 0.0))


def _rank_area(score_KN: Tensor, positive_KN: Tensor, mask_KN: Tensor) -> Tensor:
    """Area under the ROC curve from mid-ranks, in integers (Mann and Whitney 1947); nan for one class.

    Args:
        score_KN: float64, larger means more likely positive.
        positive_KN: bool, False on padding.
        mask_KN: bool, rows that count.

    Returns:
        float64 [K].
    """
    ordered, order = torch.where(mask_KN, score_KN, torch.inf).sort(1)
    positive = positive_KN.gather(1, order)
    place = torch.arange(score_KN.shape[1], device=score_KN.device).expand_as(order)
    changes = ordered[:, 1:] != ordered[:, :-1]
    edge = torch.ones_like(changes[:, :1])
    first = torch.where(torch.cat([edge, changes], 1), place, 0).cummax(1).values
    last = torch.where(torch.cat([changes, edge], 1), place, place.shape[1]).flip(1).cummin(1).values.flip(1)
    twice_ranks = torch.where(positive, first + last + 2, 0).sum(1)
    above = positive_KN.sum(1)
    below = mask_KN.sum(1) - above
    pairs = above * below
    area = (twice_ranks - above * (above + 1)).double() / (2 * pairs.clamp(min=1))
    return _where(pairs > 0, area)


def _roc_auc(b: LaneBatch) -> Tensor:
    if b.classes == 2:
        return _rank_area(b.probability[..., 1], b.mask & (b.target == 1), b.mask)
    areas = [_rank_area(b.probability[..., c], b.mask & (b.target == c), b.mask) for c in range(b.classes)]
    return tree_sum(torch.stack(areas, 1)) / b.classes


def _log_loss(b: LaneBatch) -> Tensor:
    _, total = b.softmax
    own = b.outputs.gather(2, b.target[..., None])[..., 0] - b.outputs.amax(-1)
    ceiling = -torch.log(torch.tensor(PROBABILITY_FLOOR, dtype=torch.float64)).item()
    return b.mean((torch.log(total) - own).clamp(max=ceiling))


def _brier(b: LaneBatch) -> Tensor:
    code = torch.arange(b.classes, device=b.target.device)
    miss = b.probability - (b.target[..., None] == code).double()
    total = b.mean(tree_sum(miss * miss))
    return total / 2 if b.classes == 2 else total


def _ece(b: LaneBatch) -> Tensor:
    confidence = b.probability.amax(-1)
    bins = (torch.ceil(confidence * ECE_BINS).long() - 1).clamp(0, ECE_BINS - 1)
    gap = torch.round((b.hit.double() - confidence) * FIXED_POINT).long()
    gap = torch.where(b.mask, gap, 0)
    sums = torch.zeros(gap.shape[0], ECE_BINS, dtype=torch.int64, device=gap.device)
    return sums.scatter_add_(1, bins, gap).abs().sum(1).double() / FIXED_POINT / b.n


def _rmse(b: LaneBatch) -> Tensor:
    miss = b.outputs[..., 0] - b.target.double()
    return torch.sqrt(b.mean(miss * miss)) * b.scale


def _mae(b: LaneBatch) -> Tensor:
    return b.mean((b.outputs[..., 0] - b.target.double()).abs()) * b.scale


def _r2(b: LaneBatch) -> Tensor:
    target = b.target.double()
    miss = b.outputs[..., 0] - target
    away = target - b.mean(target)[:, None]
    highest = torch.where(b.mask, target, -torch.inf).amax(1)
    lowest = torch.where(b.mask, target, torch.inf).amin(1)
    return _where(highest > lowest, 1 - b.mean(miss * miss) / b.mean(away * away))


LANE_FUNCTIONS: dict[str, Callable[[LaneBatch], Tensor]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "precision": _precision,
    "recall": _recall,
    "specificity": _specificity,
    "f1": _f1,
    "roc_auc": _roc_auc,
    "log_loss": _log_loss,
    "mcc": _mcc,
    "brier": _brier,
    "ece": _ece,
    "rmse": _rmse,
    "mae": _mae,
    "r2": _r2,
}


def lane_scores(
    names: Sequence[str], outputs_KNC: Tensor, target_KN: Tensor, n_K: Tensor, scale_K: Tensor | None = None
) -> dict[str, Tensor]:
    """Scores every lane with every named metric; what they share is worked out once.

    A lane with a non-finite output on one of its rows scores nan everywhere, and so does a lane whose
    target leaves the metric undefined (see `metrics.undefined`); its neighbours are not touched.

    Args:
        names: keys of `metrics.METRICS` that fit the task.
        outputs_KNC: logits, or standardised values with C = 1.
        target_KN: class codes (int64) or standardised values (float).
        n_K: int, rows of each lane; rows beyond it are padding.
        scale_K: standard deviation of each lane's training target, for rmse and mae in its unit.

    Returns:
        float64 [K] per name, on the device of the outputs.
    """
    lanes, rows, classes = outputs_KNC.shape
    step = max(1, CHUNK_VALUES // max(rows * classes, 1))
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    with torch.no_grad():
        for start in range(0, lanes, step):
            part = slice(start, start + step)
            batch = LaneBatch(
                outputs_KNC[part], target_KN[part], n_K[part], None if scale_K is None else scale_K[part]
            )
            usable = batch.finite & (batch.n > 0)
            for name in names:
                found[name].append(_where(usable, LANE_FUNCTIONS[name](batch)))
        empty = torch.zeros(0, dtype=torch.float64, device=outputs_KNC.device)
        return {name: torch.cat(values) if values else empty for name, values in found.items()}
