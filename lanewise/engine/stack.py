"""K copies of one network as one function of stacked tensors; used by pool, needs torch only.

The network is a plain nn.Module written for one trial. Its parameters become slices of one flat [K, P]
buffer, its forward runs under torch.func.vmap. Four kinds of layers are exchanged in a copy of the
module: dropout takes its mask from the lane's own random stream, batch normalisation returns its new
running statistics instead of writing them in place, which vmap cannot do, dense layers and convolutions
get a faster rule.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call, vmap

from lanewise.engine.convolution import LaneConvolution
from lanewise.engine.linear import LaneLinear

_ALIGN = 64  # a row is a whole number of vectors, so a lane's bits do not depend on where its row starts
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


class _LaneDropout(nn.Module):
    """Multiplies by masks handed in from outside: one per call in a forward pass."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.rate = float(original.p)  # type: ignore[arg-type]  # nn.Module attributes are untyped
        self.channelwise = not isinstance(original, nn.Dropout)
        self.sizes: list[torch.Size] = []
        self.masks: list[torch.Tensor] | None = None
        self.probing = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.probing:
            self.sizes.append(x.shape[:2] + (1,) * (x.dim() - 2) if self.channelwise else x.shape)
        if not self.training or not self.masks:
            return x
        return x * self.masks.pop(0)


class _LaneBatchNorm(nn.Module):
    """Batch normalisation that leaves its new running statistics in `fresh` (biased and unbiased as torch's)."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        if original.momentum is None or not original.track_running_stats:
            raise NotStackableError("batch normalisation without momentum or running statistics")
        self.eps, self.momentum = float(original.eps), float(original.momentum)  # type: ignore[arg-type]
        self.weight, self.bias = original.weight, original.bias
        self.register_buffer("running_mean", original.get_buffer("running_mean"))
        self.register_buffer("running_var", original.get_buffer("running_var"))
        self.fresh: tuple[torch.Tensor, torch.Tensor] | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        view = (1, -1) + (1,) * (x.dim() - 2)
        old_mean, old_var = self.get_buffer("running_mean"), self.get_buffer("running_var")
        mean, var = old_mean, old_var
        if self.training:
            dims = [d for d in range(x.dim()) if d != 1]
            mean = x.mean(dims)
            var = (x - mean.view(view)).square().mean(dims)
            n = x.numel() // x.shape[1]
            kept = 1 - self.momentum
            self.fresh = (
                kept * old_mean + self.momentum * mean,
                kept * old_var + self.momentum * (n / max(n - 1, 1)) * var,
            )
        x = (x - mean.view(view)) * torch.rsqrt(var.view(view) + self.eps)
        if not isinstance(self.weight, torch.Tensor) or not isinstance(self.bias, torch.Tensor):
            return x
        return x * self.weight.view(view) + self.bias.view(view)


class NotStackableError(Exception):
    """The network cannot run as stacked lanes; the message says why."""


def exchange(module: nn.Module) -> nn.Module:
    """A copy of `module` whose dropout, batch normalisation and dense layers suit vmap."""
    module = copy.deepcopy(module)
    swapped = _swap(module)
    for name, child in list(module.named_modules()):
        for part, grandchild in list(child.named_children()):
            new = _swap(grandchild)
            if new is not grandchild:
                setattr(child, part, new)
        if isinstance(child, nn.RNNBase) and child.dropout:
            raise NotStackableError(f"{name}: dropout inside {type(child).__name__}")
    return swapped


def _swap(module: nn.Module) -> nn.Module:
    if isinstance(module, _DROPOUTS):
        return _LaneDropout(module)
    if isinstance(module, _BATCH_NORMS):
        return _LaneBatchNorm(module)
    if type(module) is nn.Linear and module.bias is not None:
        return LaneLinear(module)
    if type(module) in _CONVOLUTIONS and module.padding_mode == "zeros":
        return LaneConvolution(module)  # type: ignore[arg-type]  # one of the three
    if isinstance(module, (nn.AlphaDropout, nn.FeatureAlphaDropout, nn.SyncBatchNorm)):
        raise NotStackableError(f"{type(module).__name__} has no form for lanes")
    return module


@dataclass(frozen=True)
class Weights:
    """What one lane starts from: flat parameters [P], buffers, and the rates of its dropout layers."""

    flat: torch.Tensor
    buffers: dict[str, torch.Tensor]
    rates: tuple[float, ...]


class Stack:
    """The stacked form of one network shape.

    Args:
        template: Any module of the shape; only its structure is used.
        sample: One batch of inputs on the CPU, to learn the sizes of the dropout masks.
        stacked: False runs the lanes one after another behind the same interface.
    """

    def __init__(self, template: nn.Module, sample: Sequence[torch.Tensor], *, stacked: bool = True) -> None:
        self._module = exchange(template)
        trained = {n: p for n, p in self._module.named_parameters() if p.requires_grad}
        self.names, self._shapes = list(trained), [p.shape for p in trained.values()]
        self.sizes = [p.numel() for p in trained.values()]
        self.size = sum(self.sizes)
        self.padded = -(-self.size // _ALIGN) * _ALIGN
        self._kept = {n for n, _ in self._module.named_buffers()}  # but for counters nobody reads
        modules = dict(self._module.named_modules())
        self._dropouts = [m for m in modules.values() if isinstance(m, _LaneDropout)]
        self._norms = {n: m for n, m in modules.items() if isinstance(m, _LaneBatchNorm)}
        self.running = tuple(  # the buffers that training changes
            f"{name}.{part}" if name else part
            for name in self._norms
            for part in ("running_mean", "running_var")
        )
        self.stacked = stacked
        self._map: Callable[[Lane], Lane] = vmap if stacked else _loop
        self._probe(sample)

    def _probe(self, sample: Sequence[torch.Tensor]) -> None:
        for dropout in self._dropouts:
            dropout.probing, dropout.sizes = True, []
        self._module.train()
        with torch.no_grad():
            self.outputs = tuple(self._module(*sample).shape[1:])
        self.mask_shapes = [(i, s) for i, d in enumerate(self._dropouts) for s in d.sizes]
        self.mask_sizes = [-(-math.prod(s) // 4) * 4 for _, s in self.mask_shapes]
        for dropout in self._dropouts:
            dropout.probing = False

    def read(self, module: nn.Module) -> Weights:
        """The start of a lane: `module`'s parameters and buffers, made flat.

        Raises:
            NotStackableError: The module's shapes are not those of the template.
        """
        tensors = dict(module.named_parameters())
        shapes = [tensors[n].shape for n in self.names if n in tensors]
        if shapes != self._shapes:
            raise NotStackableError("the networks of one pool differ in shape")
        flat = torch.zeros(self.padded)
        torch.cat([tensors[n].detach().reshape(-1) for n in self.names], out=flat[: self.size])
        frozen = {n: p.detach().clone() for n, p in tensors.items() if not p.requires_grad}
        buffers = {n: b.detach().clone() for n, b in module.named_buffers() if n in self._kept}
        rates = tuple(float(m.p) for m in module.modules() if isinstance(m, _DROPOUTS))
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
        masks: Sequence[torch.Tensor],
        inputs: Sequence[torch.Tensor],
        *,
        training: bool,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Outputs of K lanes.

        Args:
            flat: Parameters [K, padded].
            buffers: Buffers and frozen parameters, each [K, ...].
            masks: Scaled dropout masks [K, *shape], one per dropout call; empty for no dropout.
            inputs: Each [K, B, ...].
            training: Whether dropout and batch statistics are on.

        Returns:
            Outputs [K, B, ...] and the buffers that changed (running statistics).
        """
        parts = torch.split(flat, [*self.sizes, self.padded - self.size], dim=1)
        rows = flat.shape[0]
        params = {
            n: p.reshape(rows, *s) for n, p, s in zip(self.names, parts, self._shapes, strict=False)
        } | dict(buffers)
        self._module.train(training)

        def one(
            tensors: dict[str, torch.Tensor], own_masks: list[torch.Tensor], *own: torch.Tensor
        ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            self._hand_out(own_masks)
            out = functional_call(self._module, tensors, own)
            fresh = {}
            for name, norm in self._norms.items():
                if norm.fresh is not None:
                    prefix = f"{name}." if name else ""
                    fresh[prefix + "running_mean"], fresh[prefix + "running_var"] = norm.fresh
                    norm.fresh = None
            return out, fresh

        dtype = torch.get_default_dtype()
        try:
            return self._map(one)(params, list(masks), *inputs)
        finally:
            torch.set_default_dtype(dtype)  # a network that changes it must not change its neighbours' numbers

    def _hand_out(self, masks: list[torch.Tensor]) -> None:
        for index, dropout in enumerate(self._dropouts):
            own = [m for m, (owner, _) in zip(masks, self.mask_shapes, strict=False) if owner == index]
            dropout.masks = own or None


Lane = Callable[..., tuple[torch.Tensor, dict[str, torch.Tensor]]]


def _loop(function: Lane) -> Lane:
    """vmap's slow stand-in for networks it refuses: one lane after another."""

    def mapped(
        tensors: Mapping[str, torch.Tensor], masks: Sequence[torch.Tensor], *inputs: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        rows = inputs[0].shape[0]
        done = [
            function({n: t[k] for n, t in tensors.items()}, [m[k] for m in masks], *(x[k] for x in inputs))
            for k in range(rows)
        ]
        outputs = torch.stack([out for out, _ in done])
        return outputs, {n: torch.stack([fresh[n] for _, fresh in done]) for n in done[0][1]}

    return mapped
