"""K copies of one network as one function of stacked tensors; used by pool, needs torch only.

The network is a plain nn.Module written for one trial. Its parameters become slices of one flat [K, P]
buffer, its forward runs under torch.func.vmap, with layers that suit lanes (exchange.py). What a forward in training
changes in buffers (running statistics, counters) is returned and not written, so it is a function of its arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.func import vmap

from lanewise.engine.batch_norm import LaneBatchNorm
from lanewise.engine.dropout import MaskSource, padded
from lanewise.engine.exchange import dropouts, exchange
from lanewise.engine.randomness import (
    MaskStream,
    drawing_from,
    own_generators,
    seed_generators_of,
    watched_draws,
)
from lanewise.engine.refusals import NotStackableError, why

_ALIGN = 64  # a row is a whole number of vectors, so a lane's bits do not depend on where its row starts

Changes = dict[str, torch.Tensor]
Lane = Callable[..., tuple[torch.Tensor, Changes]]


@dataclass(frozen=True)
class LaneDraws:
    """What a lane that runs by itself draws in one forward.

    Args:
        seed: Of what its network draws by itself.
        rates: Of its dropout layers.
        stream: Their decisions; every forward draws the same ones, from the stream's mark on. None for no dropout.
    """

    seed: int
    rates: tuple[float, ...] = ()
    stream: MaskStream | None = None


@dataclass(frozen=True)
class Noise:
    """What K lanes draw in one forward.

    Args:
        masks: For stacked lanes: scaled dropout masks [K, *shape], one per dropout call; empty for no dropout.
        lanes: For lanes that run one after another, one each; empty: what they draw by itself is seeded by 0.
    """

    masks: Sequence[torch.Tensor] = field(default=())
    lanes: Sequence[LaneDraws] = field(default=())


QUIET = Noise()


@dataclass(frozen=True)
class Weights:
    """What one lane starts from: flat parameters [P], buffers, and the rates of its dropout layers."""

    flat: torch.Tensor
    buffers: dict[str, torch.Tensor]
    rates: tuple[float, ...]


def build_stack(module: nn.Module, sample: Sequence[torch.Tensor]) -> tuple[Stack, str | None]:
    """The stacked form of a module's shape, or lanes one after another where vmap refuses it, and then why.

    Args:
        module: Any module of the shape.
        sample: One batch of inputs on the CPU.
    """
    try:
        stack = Stack(module, sample)
        weights = stack.read(module)
        buffers = {n: b.unsqueeze(0) for n, b in weights.buffers.items()}
        inputs = [x.unsqueeze(0) for x in sample]
        flat = weights.flat.unsqueeze(0).requires_grad_()
        out, _ = stack.forward(flat, buffers, QUIET, inputs, training=True)
        torch.autograd.backward(out.float().square().mean())
        with torch.no_grad():
            stack.forward(flat, buffers, QUIET, inputs, training=False)
    except Exception as error:  # noqa: BLE001 - vmap refuses in many ways; the module alone was smoke-tested
        return Stack(module, sample, stacked=False), why(error)
    return stack, None


class Stack:
    """The stacked form of one network shape.

    Args:
        template: Any module of the shape; only its structure is used.
        sample: One batch of inputs on the CPU, to learn the sizes of the dropout masks.
        stacked: False runs the lanes one after another behind the same interface.

    Attributes:
        running: Buffers with fractions that training changes, as running statistics.
        counted: Other buffers that training changes, as counters.

    Raises:
        NotStackableError: A network to be stacked draws where vmap does not see it, or has dropout inside recurrence.
    """

    def __init__(self, template: nn.Module, sample: Sequence[torch.Tensor], *, stacked: bool = True) -> None:
        self._source = MaskSource()
        self._module = exchange(template, self._source)
        trained = {n: p for n, p in self._module.named_parameters() if p.requires_grad}
        self.names, self._shapes = list(trained), [p.shape for p in trained.values()]
        self.sizes = [p.numel() for p in trained.values()]
        self.size = sum(self.sizes)
        self.padded = -(-self.size // _ALIGN) * _ALIGN
        unread = {  # counters of batch normalisation that nobody reads
            f"{n}.num_batches_tracked".removeprefix(".")
            for n, m in self._module.named_modules()
            if isinstance(m, LaneBatchNorm) and m.momentum is not None
        }
        self._kept = {n: b.is_floating_point() for n, b in self._module.named_buffers() if n not in unread}
        self._places = self._find_places()
        self.stacked = stacked
        for part in self._module.modules():
            if stacked and isinstance(part, nn.RNNBase) and part.dropout:
                raise NotStackableError(f"dropout inside {type(part).__name__}")
        self._probe(sample)

    def _find_places(self) -> dict[str, list[tuple[dict[str, Any], str]]]:
        """Where each tensor that a lane brings stands in the module: what is tied stands in several places.

        torch.func.functional_call loses ties once a module with two names is in it (torch 2.13).
        """
        names = {id(b): n for n, b in self._module.named_buffers() if n in self._kept}
        names |= {id(p): n for n, p in self._module.named_parameters()}
        places: dict[str, list[tuple[dict[str, Any], str]]] = {name: [] for name in names.values()}
        for part in self._module.modules():
            for table in (part._parameters, part._buffers):
                for key, tensor in table.items():
                    if id(tensor) in names:
                        places[names[id(tensor)]].append((table, key))
        return places

    def _call(self, tensors: Changes, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, Changes]:
        """The module with other tensors in its places: its outputs, and the buffers it assigned or wrote."""
        before = [(table, key, table[key]) for places in self._places.values() for table, key in places]
        given = {n: t.clone() if n in self._written else t for n, t in tensors.items()}
        for name, places in self._places.items():
            for table, key in places:
                table[key] = given[name]
        try:
            out: torch.Tensor = self._module(*inputs)
            after = {n: [table[key] for table, key in self._places[n]] for n in self._kept}
        finally:
            for table, key, tensor in before:
                table[key] = tensor
        changed = {n: next((t for t in found if t is not given[n]), given[n]) for n, found in after.items()}
        return out, {n: t for n, t in changed.items() if t is not tensors[n]}

    def _probe(self, sample: Sequence[torch.Tensor]) -> None:
        """Learn the outputs' shape, the dropout calls, and which buffers a forward changes."""
        self._written: set[str] = set()  # buffers written in place, in training or evaluation
        self.mask_shapes: list[tuple[int, torch.Size]] = []
        self._source.calls = self.mask_shapes
        changed = self._changed_by(sample, training=True)
        self._source.calls = None
        self.mask_sizes = [padded(math.prod(shape)) for _, shape in self.mask_shapes]
        self._changed_by(sample, training=False)
        self.running: list[str] = []
        self.counted: list[str] = []
        self._remember(changed)

    def _changed_by(self, sample: Sequence[torch.Tensor], *, training: bool) -> list[str]:
        """The buffers that one forward changes; what it does to seeds is undone."""
        before = {n: (b, b._version, b.clone()) for n, b in self._module.named_buffers() if n in self._kept}
        self._module.train(training)
        with torch.no_grad(), drawing_from(0, torch.device("cpu")), watched_draws() as drew:
            self.outputs = tuple(self._module(*(x.clone() for x in sample)).shape[1:])
        if self.stacked and (drew or own_generators(self._module)):
            raise NotStackableError("it draws from a generator of numpy, of Python or of its own")
        now = dict(self._module.named_buffers())
        assigned = [n for n, (tensor, _, _) in before.items() if now[n] is not tensor]
        written = [
            n
            for n, (tensor, version, value) in before.items()
            if tensor._version != version or not torch.equal(tensor, value)
        ]
        self._written.update(written)
        return [*assigned, *written]

    def _remember(self, changed: Iterable[str]) -> None:
        """Note which buffers training changes; one that changes only in some steps is noted when it does."""
        for name in changed:
            known = self.running if self._kept[name] else self.counted
            if name not in known:
                known.append(name)

    def read(self, module: nn.Module) -> Weights:
        """The start of a lane: `module`'s parameters and buffers, made flat.

        Raises:
            NotStackableError: The module's shapes, or what is frozen in it, are not those of the template.
        """
        tensors = dict(module.named_parameters())
        trained = {n: p.shape for n, p in tensors.items() if p.requires_grad}
        if list(trained) != self.names or list(trained.values()) != self._shapes:
            raise NotStackableError("the networks of one pool differ in shape, or in what is frozen")
        flat = torch.zeros(self.padded)
        torch.cat([tensors[n].detach().reshape(-1) for n in self.names], out=flat[: self.size])
        frozen = {n: p.detach().clone() for n, p in tensors.items() if not p.requires_grad}
        buffers = {n: b.detach().clone() for n, b in module.named_buffers() if n in self._kept}
        rates = tuple(float(m.p) for m in dropouts(module))  # type: ignore[arg-type]  # nn.Module is untyped
        return Weights(flat, frozen | buffers, rates)

    def restore(
        self, module: nn.Module, flat: torch.Tensor, buffers: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Write one lane's flat parameters [padded] and buffers into its own module; its state_dict (CPU)."""
        parts = torch.split(flat[: self.size].detach().cpu(), self.sizes)
        tensors = dict(module.named_parameters()) | dict(module.named_buffers())
        with torch.no_grad():
            for name, part, shape in zip(self.names, parts, self._shapes, strict=True):
                tensors[name].copy_(part.view(shape))
            for name, value in buffers.items():
                tensors[name].copy_(value.detach().cpu())
        return {n: t.detach().clone() for n, t in module.state_dict().items()}

    def forward(
        self,
        flat: torch.Tensor,
        buffers: Mapping[str, torch.Tensor],
        noise: Noise,
        inputs: Sequence[torch.Tensor],
        *,
        training: bool,
    ) -> tuple[torch.Tensor, Changes]:
        """Outputs of K lanes.

        Args:
            flat: Parameters [K, padded].
            buffers: Buffers and frozen parameters, each [K, ...].
            noise: What the lanes draw.
            inputs: Each [K, B, ...].
            training: Whether dropout and batch statistics are on.

        Returns:
            Outputs [K, B, ...] and the buffers that changed; none in evaluation, which changes nothing.
        """
        parts = torch.split(flat, [*self.sizes, self.padded - self.size], dim=1)
        rows = flat.shape[0]
        params = {
            n: p.reshape(rows, *s) for n, p, s in zip(self.names, parts, self._shapes, strict=False)
        } | dict(buffers)
        self._module.train(training)

        def one(tensors: Changes, masks: Sequence[torch.Tensor], *own: torch.Tensor) -> tuple[torch.Tensor, Changes]:
            self._source.masks = list(masks)
            out, changed = self._call(tensors, own)
            return out, changed if training else {}

        dtype = torch.get_default_dtype()
        try:
            if self.stacked:
                out, changed = vmap(one)(params, list(noise.masks), *inputs)
            else:
                out, changed = self._one_by_one(one, params, noise, inputs)
        finally:
            torch.set_default_dtype(dtype)  # a network that changes it must not change its neighbours' numbers
        self._remember(changed)
        return out, changed

    def _one_by_one(
        self, one: Lane, params: Mapping[str, torch.Tensor], noise: Noise, inputs: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, Changes]:
        """vmap's slow stand-in for networks it refuses."""
        rows = inputs[0].shape[0]
        done = []
        for k, draws in enumerate(noise.lanes or [LaneDraws(0)] * rows):
            if draws.stream is not None:
                draws.stream.rewind()
            self._source.drawn = None if draws.stream is None else (draws.rates, draws.stream)
            seed_generators_of(self._module, draws.seed)
            with drawing_from(draws.seed, inputs[0].device):
                # Copies: with a slice that does not begin where its memory does the last bits may be others.
                done.append(one({n: t[k] for n, t in params.items()}, [], *(x[k].clone() for x in inputs)))
        outputs = torch.stack([out for out, _ in done])
        names = dict.fromkeys(n for _, changed in done for n in changed)
        changes = {n: torch.stack([c.get(n, params[n][k]) for k, (_, c) in enumerate(done)]) for n in names}
        return outputs, changes
