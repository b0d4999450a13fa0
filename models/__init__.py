"""The networks that ship with Lanewise: plain nn.Module, torch only, each written for one trial.

Adding one is a file and a line in MODELS. The entry-point group `lanewise.models` points here.
"""

from __future__ import annotations

from torch import nn

from models.mlp import MLP
from models.resnet import ResNet

MODELS: dict[str, type[nn.Module]] = {
    "mlp": MLP,
    "resnet": ResNet,
}
