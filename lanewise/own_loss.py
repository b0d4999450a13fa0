"""A loss the user wrote, named by its import path; stands between it and the engine, which maps it over lanes.

It is loaded as a network is (lanewise.user_code) and tried on a few random rows before anything trains. The engine
decides whether it runs stacked or lane after lane (engine/own_losses.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from lanewise.errors import ModelError
from lanewise.process_guard import unchanged_process
from lanewise.user_code import load_object, traceback_text

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (outputs [B, C], target [B]) -> scalar

_ROWS = 8
_RULE = "loss(outputs [B, C], target [B]) -> a scalar tensor, the mean over the rows"


def load_loss(target: str, search_path: Sequence[str | Path]) -> Loss:
    """The function.

    Args:
        target: "pkg.module:function".
        search_path: Folders to look in after the installed packages.

    Raises:
        ModelError: It cannot be imported, or cannot be called.
    """
    found: Any = load_object(target, search_path=search_path)
    if not callable(found) or isinstance(found, type):
        raise ModelError(
            "this is not a loss", where=target, given=f"it is a {type(found).__name__}", rule=_RULE,
            remedy="name a function; of a class, an instance that can be called",
        )  # fmt: skip
    return found  # type: ignore[no-any-return]  # callable, and `try_loss` looks at what it returns


def try_loss(name: str, loss: Loss, n_outputs: int, regression: bool) -> None:
    """Try a few random rows forward and backward.

    Args:
        name: As the study says it, for errors.
        loss: What `load_loss` gave.
        n_outputs: Number of classes, or 1 for regression.
        regression: Whether targets are numbers (float32) and not codes of classes (int64).

    Raises:
        ModelError: It raises, returns no scalar, is not finite, or does not depend on the outputs.
    """
    own = torch.Generator().manual_seed(0)
    outputs = torch.randn(_ROWS, n_outputs, generator=own).requires_grad_()
    target = (
        torch.randn(_ROWS, generator=own)
        if regression
        else torch.randint(0, n_outputs, (_ROWS,), generator=own)
    )
    with unchanged_process():
        try:
            value = loss(outputs, target)
        except (Exception, SystemExit) as error:
            raise ModelError(
                f"the loss raised {type(error).__name__}", where=name, given=traceback_text(error), rule=_RULE,
                remedy="try it on a few rows of your own",
            ) from error  # fmt: skip
    said = None
    if not isinstance(value, torch.Tensor) or value.dim() != 0:
        shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        said, remedy = f"the loss returned {shape}, expected a scalar tensor", "end it with .mean()"
    elif not bool(torch.isfinite(value)):
        said, remedy = f"the loss is {value.item()} on random rows", "look for a logarithm or a division of zero"
    elif not value.requires_grad:
        said, remedy = "the loss does not depend on the outputs", "remove detach() and no_grad()"
    if said:
        raise ModelError(said, where=name, rule=_RULE, remedy=remedy)
