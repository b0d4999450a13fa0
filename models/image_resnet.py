"""Small residual network for images (He et al. 2016); written for one trial, trains nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from models.edges import EDGES, SobelEdges
from models.layers import activation_layer, at_least, channel_normalisation, convolution, linear, one_of


class ImageResNet(nn.Module):
    """A convolution; three stages of residual blocks, each with half the places and twice the channels; mean; head.

    Source: He, Zhang, Ren and Sun 2016, "Deep residual learning for image recognition", CVPR, section 4.2: the form
    for small images. A shortcut that changes its shape is a convolution of one place (their option B).

    Args:
        input_shape: Channels, height and width of an image.
        n_outputs: Number of classes, or 1 for regression.
        depth: Blocks of each stage; the paper's ResNet-20 has 3.
        channels: Channels of the first stage.
        activation: relu, gelu, silu, tanh or leaky_relu.
        normalisation: none, batch, group or layer.
        dropout: Share of units dropped in front of the head.
        channel_dropout: Share of channels dropped inside each block.
        initialisation: default (torch's), kaiming_uniform, kaiming_normal, xavier_uniform, xavier_normal or
            orthogonal.
        edges: none, or sobel: the length of each channel's gradient comes in as a further channel (models.edges).
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"image"})
    space: ClassVar[dict[str, Any]] = {
        "depth": {"low": 1, "high": 3},
        "channels": [8, 16],
        "dropout": {"low": 0.0, "high": 0.5},
        "channel_dropout": {"low": 0.0, "high": 0.3},
    }
    lane_parameters: ClassVar[frozenset[str]] = frozenset({"dropout", "channel_dropout", "initialisation"})

    def __init__(
        self,
        input_shape: Sequence[int],
        n_outputs: int,
        *,
        depth: int = 1,
        channels: int = 16,
        activation: str = "relu",
        normalisation: str = "batch",
        dropout: float = 0.0,
        channel_dropout: float = 0.0,
        initialisation: str = "default",
        edges: str = "none",
    ) -> None:
        super().__init__()
        one_of("edges", edges, EDGES)
        at_least(1, depth=depth, channels=channels, n_outputs=n_outputs)
        names = {"activation": activation, "normalisation": normalisation, "initialisation": initialisation}
        maps = [SobelEdges()] if edges == "sobel" else []
        self.first = nn.Sequential(
            *maps,
            convolution(
                2, (1 + len(maps)) * input_shape[0], channels, 3, bias=normalisation != "batch",
                initialisation=initialisation, activation=activation,
            ),
            *channel_normalisation(normalisation, channels, 2),
            activation_layer(activation),
        )  # fmt: skip
        blocks: list[nn.Module] = []
        c_in = channels
        for stage in range(3):
            c_out = channels * 2**stage
            for number in range(depth):
                stride = 2 if stage and not number else 1
                blocks.append(ResidualBlock(c_in, c_out, stride, channel_dropout=channel_dropout, **names))
                c_in = c_out
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.Dropout(dropout), linear(c_in, n_outputs, initialisation=initialisation))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [B, C, H, W] -> [B, n_outputs]."""
        outputs: torch.Tensor = self.head(self.blocks(self.first(x)).mean((2, 3)))
        return outputs


class ResidualBlock(nn.Module):
    """Two convolutions of 3 x 3 places beside a shortcut.

    Args:
        c_in: Channels that come in.
        c_out: Channels that go out.
        stride: 2 halves the image, 1 keeps it.
        activation: Its name.
        normalisation: Its name.
        channel_dropout: Share of channels dropped between the convolutions.
        initialisation: Its name.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        stride: int,
        *,
        activation: str,
        normalisation: str,
        channel_dropout: float,
        initialisation: str,
    ) -> None:
        super().__init__()
        bias = normalisation != "batch"  # it takes the mean away, so a bias would never get a gradient
        self.body = nn.Sequential(
            convolution(
                2, c_in, c_out, 3, stride=stride, bias=bias, initialisation=initialisation, activation=activation
            ),
            *channel_normalisation(normalisation, c_out, 2),
            activation_layer(activation),
            nn.Dropout2d(channel_dropout),
            convolution(2, c_out, c_out, 3, bias=bias, initialisation=initialisation, activation=activation),
            *channel_normalisation(normalisation, c_out, 2),
        )
        self.shortcut = nn.Sequential()
        if stride > 1 or c_in != c_out:
            self.shortcut = nn.Sequential(
                convolution(2, c_in, c_out, 1, stride=stride, bias=bias, initialisation=initialisation),
                *channel_normalisation(normalisation, c_out, 2),
            )
        self.activation = activation_layer(activation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> [B, c_out, H', W']; H' is H, or half of it, rounded up."""
        outputs: torch.Tensor = self.activation(self.body(x) + self.shortcut(x))
        return outputs
