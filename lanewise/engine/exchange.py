"""A copy of a network whose layers suit lanes; used by stack, needs torch only.

Four kinds of torch's own layers are exchanged: dropout takes its masks from the lane's random stream, batch
normalisation assigns its running statistics instead of writing them in place, dense layers and convolutions get a
faster rule. Only the layer's class changes, to one derived from it: names, hooks, attributes, isinstance and what is
shared stay as they were. A layer whose forward is the user's own is left alone.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache

from torch import nn

from lanewise.engine.batch_norm import LaneBatchNorm
from lanewise.engine.convolution import LaneConvolution
from lanewise.engine.dropout import LaneDropout, MaskSource
from lanewise.engine.linear import LaneLinear

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def exchange(module: nn.Module, source: MaskSource) -> nn.Module:
    """The copy; its dropout layers ask `source`."""
    module = copy.deepcopy(module)
    for place, layer in enumerate(list(dropouts(module))):
        _become(layer, LaneDropout)
        layer.source, layer.place = source, place  # type: ignore[assignment]  # it is a LaneDropout now
        layer.channelwise = not isinstance(layer, nn.Dropout)  # type: ignore[assignment]
    for layer in module.modules():
        forward = type(layer).forward
        if forward is nn.Linear.forward and layer.bias is not None:
            _become(layer, LaneLinear)
        elif forward in [c.forward for c in _CONVOLUTIONS] and layer.padding_mode == "zeros":
            _become(layer, LaneConvolution)
        elif forward is nn.BatchNorm1d.forward and layer.running_mean is not None:
            _become(layer, LaneBatchNorm)
    return module


def dropouts(module: nn.Module) -> Iterator[nn.Module]:
    """The dropout layers that are exchanged, each once; the same ones in every module of a shape."""
    forwards = [c.forward for c in _DROPOUTS]
    return (m for m in module.modules() if type(m).forward in forwards)


def _become(layer: nn.Module, form: type[nn.Module]) -> None:
    object.__setattr__(layer, "__class__", _derived(form, type(layer)))  # type: ignore[arg-type]  # classes can be hashed


@cache
def _derived(form: type[nn.Module], cls: type[nn.Module]) -> type[nn.Module]:
    return type(cls.__name__, (form, cls), {"__module__": cls.__module__})
