"""A user's loss over stacked lanes; used by pool. Where vmap refuses the function, it is called lane after lane."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.func import vmap

from lanewise.engine.refusals import why

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class OwnLosses:
    """The losses [K] of outputs [K, B, C] and targets [K, B] by a function written for one lane.

    Args:
        function: (outputs [B, C], target [B]) -> scalar.
        outputs: Of one lane, like those it will get, [B, C].
        target: Of one lane [B].

    Attributes:
        note: Why it does not run stacked; None where it does.
    """

    def __init__(self, function: Loss, outputs: torch.Tensor, target: torch.Tensor) -> None:
        self._function = function
        self._mapped: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = vmap(function)
        self.note: str | None = None
        try:
            two = torch.stack([outputs, outputs]).requires_grad_()
            torch.autograd.backward(self._mapped(two, torch.stack([target, target])).sum())
        except Exception as error:  # noqa: BLE001 - vmap refuses in many ways; the function alone was tried
            name = getattr(function, "__name__", type(function).__name__)
            self.note = f"{name}: the loss runs one lane after another, {why(error)}"
            self._mapped = self._one_by_one

    def __call__(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self._mapped(outputs, target)

    def _one_by_one(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return torch.stack([self._function(o, t) for o, t in zip(outputs, target, strict=True)])
