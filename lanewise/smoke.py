"""Tries one random batch through a network before a search spends anything; after model, before the engine.

It knows no data but their layout, and leaves the process as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from lanewise.errors import ModelError
from lanewise.model import Layout, Network, seed_generators
from lanewise.process_guard import unchanged_process
from lanewise.user_code import traceback_text

_ROWS = 8


def example_inputs(network: Network, layout: Layout, rows: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """A random batch of the kind the network takes.

    Returns:
        (x_num float32 [rows, Dn], x_cat int64 [rows, Dc]) for "split"; (x float32 [rows, D],) for "flat",
        where D = Dn + sum of the cardinalities; (x float32 [rows, *shape],) for images and series, (x int64
        [rows, L],) for texts.
    """
    generator = torch.Generator().manual_seed(seed)
    if layout.kind == "text":
        return (torch.randint(1, layout.tokens, (rows, *layout.shape), generator=generator),)
    if layout.kind != "table":
        return (torch.randn(rows, *layout.shape, generator=generator, dtype=torch.float32),)
    x_num = torch.randn(rows, len(layout.numeric), generator=generator, dtype=torch.float32)
    codes = [torch.randint(0, c, (rows,), generator=generator) for c in layout.cardinalities]
    if network.inputs == "split":
        return x_num, torch.stack(codes, 1) if codes else torch.zeros(rows, 0, dtype=torch.int64)
    hot = [nn.functional.one_hot(x, c).float() for x, c in zip(codes, layout.cardinalities, strict=True)]
    return (torch.cat([x_num, *hot], dim=1),)


def smoke(network: Network, layout: Layout, n_outputs: int, hyper: Mapping[str, Any], seed: int = 0) -> int:
    """Try one random batch forward, backward and in evaluation, before a search spends anything.

    Args:
        network: What `resolve` found.
        layout: Columns of the data.
        n_outputs: Number of classes, or 1 for regression.
        hyper: The configuration to try, the default for instance.
        seed: Of the module and the batch.

    Returns:
        Number of trainable parameters.

    Raises:
        ModelError: The module raises, returns no [rows, n_outputs] tensor of finite numbers, has nothing to
            train, or its outputs depend on no parameter.
    """
    module = network.build(layout, n_outputs, hyper, seed)
    if any(is_lazy(p) for p in module.parameters()):
        raise ModelError(
            f"network `{network.name}` has lazy layers, whose sizes are unknown before the first batch",
            rule="a module is complete when it is built",
            remedy="take the sizes from the data arguments",
        )
    trainable = [p for p in module.parameters() if p.requires_grad]
    if not trainable:
        frozen = sum(p.numel() for p in module.parameters())
        raise ModelError(
            f"network `{network.name}` has nothing to train",
            given=f"all of its {frozen} parameters are frozen" if frozen else "it has no parameters",
            rule="at least one parameter with requires_grad",
            remedy="register layers as attributes of the module",
        )
    with unchanged_process():
        seed_generators(seed)
        output = _run(network, module.train(), example_inputs(network, layout, _ROWS, seed))
        _check_output(network, output, _ROWS, n_outputs)
        _backward(network, output, trainable)
        with torch.no_grad():
            rows = _ROWS - 3
            output = _run(network, module.eval(), example_inputs(network, layout, rows, seed + 1))
        _check_output(network, output, rows, n_outputs)
    return sum(p.numel() for p in trainable)


def _backward(network: Network, output: torch.Tensor, trainable: list[nn.Parameter]) -> None:
    """Send a random gradient back and look at what arrives."""
    if not output.requires_grad:
        raise ModelError(
            f"the outputs of network `{network.name}` depend on no parameter",
            rule="a gradient must reach the parameters",
            remedy="remove detach() and no_grad() from forward",
        )
    try:
        torch.autograd.backward((output * torch.randn_like(output)).sum())
    except Exception as error:
        raise ModelError(
            f"the backward pass of network `{network.name}` raised {type(error).__name__}",
            given=traceback_text(error),
            remedy="avoid in-place operations in forward",
        ) from error
    if not all(p.grad is None or bool(p.grad.isfinite().all()) for p in trainable):
        raise ModelError(
            f"a gradient of network `{network.name}` is not finite on standard normal inputs",
            rule="gradients are finite",
            remedy="look for a division, a root or a logarithm of zero",
        )


def _run(network: Network, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    try:
        return module(*inputs)
    except (Exception, SystemExit) as error:
        shapes = " and ".join(f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}" for x in inputs)
        raise ModelError(
            f"forward of network `{network.name}` raised {type(error).__name__} for inputs {shapes}",
            given=traceback_text(error),
            remedy="correct forward, or the constructor's use of the data arguments",
        ) from error


def _check_output(network: Network, output: Any, rows: int, n_outputs: int) -> None:
    expected = f"({rows}, {n_outputs})"
    rule = f"a float tensor {expected}: a row per input row, " + (
        "a column per class" if n_outputs > 1 else "one column for the value"
    )
    if not isinstance(output, torch.Tensor):
        shown = f"a {type(output).__name__}"
        if isinstance(output, tuple | list):
            shown += f" of {len(output)}"
        raise ModelError(
            f"network `{network.name}` returned {shown}, expected {expected}",
            rule=rule,
            remedy="return the outputs alone",
        )
    shape = tuple(output.shape)
    if shape != (rows, n_outputs):
        remedy = "end with a layer of n_outputs units"
        if shape == (rows,) and n_outputs == 1:
            remedy = "keep the last dimension: remove squeeze(-1)"
        elif shape == (rows, 1) and n_outputs == 2:
            remedy = "two classes have two outputs"
        raise ModelError(
            f"network `{network.name}` returned {shape}, expected {expected}", rule=rule, remedy=remedy
        )
    if not output.is_floating_point():
        raise ModelError(f"network `{network.name}` returned {output.dtype}, expected float32", rule=rule)
    if not bool(output.isfinite().all()):
        raise ModelError(
            f"network `{network.name}` returned numbers that are not finite",
            rule=rule,
            given=f"{int((~output.isfinite()).sum())} of {output.numel()} for standard normal inputs",
            remedy="look for a division, a root or a logarithm of zero, or a too large initialisation",
        )
