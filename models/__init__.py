"""The networks that ship with Lanewise: plain nn.Module, torch only, each written for one trial.

Adding one is a file and a line in MODELS. The entry-point group `lanewise.models` points here.
"""

from __future__ import annotations

from torch import nn

from models.cnn import CNN
from models.fcn import FCN
from models.gru import GRU
from models.image_resnet import ImageResNet
from models.mlp import MLP
from models.resnet import ResNet
from models.text_cnn import TextCNN
from models.transformer import Transformer

MODELS: dict[str, type[nn.Module]] = {
    "cnn": CNN,
    "fcn": FCN,
    "gru": GRU,
    "image_resnet": ImageResNet,
    "mlp": MLP,
    "resnet": ResNet,
    "text_cnn": TextCNN,
    "transformer": Transformer,
}
