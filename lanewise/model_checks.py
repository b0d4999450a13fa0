"""The checks behind testing.check_model, each one question to a network.

They build it, run random batches through it and through the engine's stack; they train nothing.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from lanewise.engine.stack import QUIET, Stack, build_stack
from lanewise.errors import ModelError
from lanewise.model import Layout, Network, seed_generators
from lanewise.process_guard import unchanged_process
from lanewise.smoke import example_inputs, smoke
from lanewise.study import Value
from lanewise.user_code import traceback_text

Status = Literal["ok", "warn", "fail"]
_ROWS = 16
_TOLERANCE = 1e-5  # relative; float32 sums in another order differ by about 1e-6


@dataclass(frozen=True)
class ToyLayout:
    """Columns of made-up data."""

    numeric: tuple[str, ...] = ("a", "b", "c", "d", "e")
    categorical: tuple[str, ...] = ("k", "m")
    cardinalities: tuple[int, ...] = (4, 3)
    kind: str = "table"
    shape: tuple[int, ...] = ()
    tokens: int = 0


TOY_LAYOUTS = {
    "table": ToyLayout(),
    "image": ToyLayout((), (), (), "image", (1, 12, 12)),
    "series": ToyLayout((), (), (), "series", (2, 12)),
    "text": ToyLayout((), (), (), "text", (12,), 20),
}


@dataclass(frozen=True)
class CheckItem:
    """One check: what was tried, how it went, and what to change."""

    check: str
    status: Status
    text: str = ""


@dataclass(frozen=True)
class Case:
    """What every check works on: a network, columns, the configuration and other values to try."""

    network: Network
    layout: Layout
    n_outputs: int
    hyper: Mapping[str, Value]
    space: Mapping[str, Any]

    def build(self, seed: int = 0, **changes: Value) -> nn.Module:
        """A module without dropout, so that two passes may be compared."""
        module = self.network.build(self.layout, self.n_outputs, {**self.hyper, **changes}, seed)
        for part in module.modules():
            if isinstance(part, (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)):
                part.p = 0.0
        return module

    def inputs(self, seed: int = 0, rows: int = _ROWS) -> tuple[torch.Tensor, ...]:
        return example_inputs(self.network, self.layout, rows, seed)


def run_check(check: Callable[[Case], Iterator[CheckItem]], case: Case) -> list[CheckItem]:
    """What one check finds; an error inside it is a finding too."""
    items: list[CheckItem] = []
    try:
        with unchanged_process():
            items.extend(check(case))
    except ModelError as error:
        items.append(CheckItem(_title(check), "fail", str(error)))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - what the network raises is the finding
        items.append(
            CheckItem(_title(check), "fail", f"raised {type(error).__name__}{traceback_text(error)}")
        )
    return items


def _title(check: Callable[..., Any]) -> str:
    return (check.__doc__ or check.__name__).partition("\n")[0].rstrip(".")


def _verdict(check: Callable[..., Any], good: bool, text: str, status: Status = "fail") -> CheckItem:
    return CheckItem(_title(check), "ok") if good else CheckItem(_title(check), status, text)


def _state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {n: t.detach() for n, t in (*module.named_parameters(), *module.named_buffers())}


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True)


def _load(module: nn.Module, state: Mapping[str, torch.Tensor]) -> nn.Module:
    with torch.no_grad():
        for name, tensor in _state(module).items():
            tensor.copy_(state[name])
    return module


def _shaken(module: nn.Module, seed: int = 7) -> nn.Module:
    """Every parameter moved a little, so that nothing hides behind zeros at the start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float32))
    return module


@contextmanager
def _quiet(module: nn.Module) -> Iterator[nn.Module]:
    """The module in evaluation and without gradients."""
    was = module.training
    module.eval()
    with torch.no_grad():
        yield module
    module.train(was)


def _output(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    with _quiet(module):
        output: torch.Tensor = module(*(x.clone() for x in inputs))
        return output


def _seeded(case: Case) -> Iterator[CheckItem]:
    """The same seed builds the same module."""
    one, two, other = (_state(case.build(seed)) for seed in (1, 1, 2))
    same = one.keys() == two.keys() and all(torch.equal(one[n], two[n]) for n in one)
    yield _verdict(_seeded, same, "draw start values from torch's generator, not from the clock or files")
    if same and all(torch.equal(one[n], other[n]) for n in one):
        text = "another seed changes nothing: remove manual_seed from the constructor"
        yield CheckItem("another seed builds another module", "warn", text)


def _all_state_known(case: Case) -> Iterator[CheckItem]:
    """All that is random at the start is in parameters and buffers."""
    one = _shaken(case.build(1))
    two = _load(case.build(2), _state(one))
    good = _same(_output(one, case.inputs()), _output(two, case.inputs()))
    text = (
        "two seeds differ though their parameters and buffers are equal: "
        "keep tensors with register_buffer, not as plain attributes"
    )
    yield _verdict(_all_state_known, good, text)


def _inputs_kept(case: Case) -> Iterator[CheckItem]:
    """The inputs are not written to."""
    inputs = case.inputs()
    before = [x.clone() for x in inputs]
    case.build()(*inputs)
    good = all(torch.equal(x, y) for x, y in zip(inputs, before, strict=True))
    yield _verdict(_inputs_kept, good, "forward changes its inputs in place; write x = x + 1, not x += 1")


def _only_dropout_draws(case: Case) -> Iterator[CheckItem]:
    """Nothing is random in training but nn.Dropout modules."""
    outputs = []
    for seed in (1, 2):
        module = _shaken(case.build()).train()
        seed_generators(seed)
        outputs.append(module(*case.inputs()))
    text = (
        "two passes differ with every nn.Dropout at p=0: its trials will train one after another, each with draws from "
        "its own seed. Use nn.Dropout modules in place of F.dropout and other noise"
    )
    yield _verdict(_only_dropout_draws, _same(*outputs), text, "warn")


def _rows_apart(case: Case) -> Iterator[CheckItem]:
    """In evaluation a row's output does not depend on the other rows."""
    module = _shaken(case.build())
    with torch.no_grad():
        module.train()(*case.inputs(3))  # moves running statistics away from their start
    inputs = case.inputs()
    whole = _output(module, inputs)
    alone = torch.cat([_output(module, tuple(x[i : i + 1] for x in inputs)) for i in range(4)])
    turned = _output(module, tuple(x.flip(0) for x in inputs)).flip(0)
    text = "in evaluation use fixed or running statistics, and do not normalise over dimension 0"
    yield _verdict(_rows_apart, _same(whole[:4], alone) and _same(whole, turned), text)


def _gradients_arrive(case: Case) -> Iterator[CheckItem]:
    """A gradient reaches every parameter."""
    module = _shaken(case.build()).train()
    output = module(*case.inputs(rows=64))
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(0))
    (output * weights).sum().backward()
    lost = [
        n for n, p in module.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())
    ]
    text = (
        f"{', '.join(lost[:5])} {'has' if len(lost) == 1 else 'have'} none: use it in forward, or remove it"
    )
    yield _verdict(_gradients_arrive, not lost, text)


def _returns_logits(case: Case) -> Iterator[CheckItem]:
    """The outputs are logits, not probabilities."""
    if case.n_outputs < 2:
        return
    output = _output(_shaken(case.build()), case.inputs())
    summed = output.sum(dim=1)
    good = bool((output < 0).any()) or not (_same(summed, torch.ones_like(summed)))
    text = "every row sums to one: remove the softmax at the end, the loss contains it"
    yield _verdict(_returns_logits, good, text, "warn")


def _stacked_pass(
    stack: Stack, modules: list[nn.Module], inputs: list[tuple[torch.Tensor, ...]]
) -> tuple[torch.Tensor, torch.Tensor, set[str]]:
    """Outputs [K, B, C], gradients [K, P] and the operations that vmap runs one lane at a time."""
    weights = [stack.read(m) for m in modules]
    flat = torch.stack([w.flat for w in weights]).requires_grad_()
    buffers = {n: torch.stack([w.buffers[n] for w in weights]) for n in weights[0].buffers}
    together = [torch.stack(x) for x in zip(*inputs, strict=True)]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        outputs, _ = stack.forward(flat, buffers, QUIET, together, training=True)
        (gradient,) = torch.autograd.grad(outputs.square().sum(), flat)
    found = (re.search(r"batching rule for (\S+?)\.? ", str(w.message)) for w in said)
    return outputs, gradient, {match[1] for match in found if match}


def _stacks(case: Case) -> Iterator[CheckItem]:
    """Stacked lanes give what one by one gives."""
    modules = [_shaken(case.build(seed), seed).train() for seed in (1, 2)]
    inputs = [case.inputs(seed) for seed in (3, 4)]
    stack, refused = build_stack(modules[0], inputs[0])
    if refused:
        yield CheckItem(_title(_stacks), "warn", f"its trials will train one after another, slowly; {refused}")
        return
    outputs, gradient, slow = _stacked_pass(stack, modules, inputs)
    good = True
    for lane, (module, own) in enumerate(zip(modules, inputs, strict=True)):
        alone = module(*own)
        trained = [p for p in module.parameters() if p.requires_grad]
        grads = torch.autograd.grad(alone.square().sum(), trained, allow_unused=True, materialize_grads=True)
        row = torch.cat([g.reshape(-1) for g in grads])
        scale = row.abs().max().clamp(min=1e-12)
        good &= _same(outputs[lane], alone) and _same(gradient[lane, : len(row)] / scale, row / scale)
    text = "outputs or gradients differ: keep everything that changes in parameters and buffers"
    yield _verdict(_stacks, good, text)
    if slow:
        text = f"{', '.join(sorted(slow))} runs one lane at a time under vmap: use another operation"
        yield CheckItem("Every operation has a form for lanes", "warn", text)


def _skeleton(module: nn.Module) -> list[tuple[Any, ...]]:
    """Names, shapes and kinds of all parameters, buffers and layers."""
    tensors = [(n, tuple(t.shape), t.dtype, t.requires_grad) for n, t in module.named_parameters()]
    tensors += [(n, tuple(t.shape), t.dtype, False) for n, t in module.named_buffers()]
    return [*tensors, *((n, type(m).__qualname__) for n, m in module.named_modules())]


def _other_values(case: Case, name: str) -> list[Value]:
    """Legal values of a hyperparameter that differ from its default, as far as they can be known."""
    given, default = case.space.get(name), case.network.defaults[name]
    values: list[Any] = []
    if isinstance(given, Mapping):
        values = [given.get("low"), given.get("high"), *given.get("choices", ())]
    elif isinstance(given, list | tuple):
        values = list(given)
    elif isinstance(default, bool):
        values = [not default]
    elif "dropout" in name:
        values = [0.0, 0.5]
    return [v for v in values if v is not None and v != default]


def _lane_claims(case: Case) -> Iterator[CheckItem]:
    """What lane_parameters names changes only dropout rates and start values."""
    tried: list[str] = []
    untried: list[str] = []
    for name in sorted(case.network.lane_parameters):
        values = _other_values(case, name)
        (tried if values else untried).append(name)
        for value in values:
            one, two = _shaken(case.build(1)), case.build(2, **{name: value})
            same = _skeleton(one) == _skeleton(two)
            if same:
                two = _load(two, _state(one))
                same = _same(_output(one, case.inputs()), _output(two, case.inputs()))
            if not same:
                text = f"`{name}`={value!r} changes the shape or the code: take it out of lane_parameters"
                yield CheckItem(_title(_lane_claims), "fail", text)
                return
    text = ", ".join(tried) or "none to try"
    if untried:
        text += f"; not tried, as no other value is known: {', '.join(untried)}"
    yield CheckItem(_title(_lane_claims), "ok", text)


def _missed_claims(case: Case) -> Iterator[CheckItem]:
    """Every dropout rate that could be in lane_parameters is."""
    missed = []
    for name in case.network.defaults:
        if name in case.network.lane_parameters or "dropout" not in name:
            continue
        values = _other_values(case, name)
        if values and all(_skeleton(case.build()) == _skeleton(case.build(0, **{name: v})) for v in values):
            missed.append(name)
    text = f"add {', '.join(missed)} if it sets only nn.Dropout rates: its trials would train side by side"
    yield _verdict(_missed_claims, not missed, text, "warn")


def _narrow_tables(case: Case) -> Iterator[CheckItem]:
    """It runs on numbers alone and on categories alone."""
    full = case.layout
    if full.kind != "table":
        return
    for kind, layout in (
        ("numbers", ToyLayout(tuple(full.numeric) or ("a",), (), ())),
        ("categories", ToyLayout((), tuple(full.categorical) or ("k",), tuple(full.cardinalities) or (3,))),
    ):
        try:
            smoke(case.network, layout, case.n_outputs, case.hyper)
        except ModelError as error:
            yield CheckItem(f"It runs on {kind} alone", "warn", str(error))
            return
    yield CheckItem(_title(_narrow_tables), "ok")


CHECKS: tuple[Callable[[Case], Iterator[CheckItem]], ...] = (
    _seeded, _all_state_known, _inputs_kept, _only_dropout_draws, _rows_apart, _gradients_arrive,
    _returns_logits, _stacks, _lane_claims, _missed_claims, _narrow_tables,
)  # fmt: skip
