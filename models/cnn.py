"""Convolutional network for images; written for one trial, trains nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from models.edges import EDGES, SobelEdges
from models.layers import activation_layer, at_least, channel_normalisation, convolution, linear, one_of

POOLINGS = ("max", "average", "stride")


class CNN(nn.Module):
    """`depth` blocks of convolution, normalisation, activation, pooling, dropout; a dense layer; a linear head.

    Each block but those whose image is one place wide already halves the image, and has `growth` times the channels
    of the one before.

    Args:
        input_shape: Channels, height and width of an image.
        n_outputs: Number of classes, or 1 for regression.
        depth: Convolution blocks.
        channels: Channels of the first block.
        growth: Channels of a block as a multiple of those of the block before.
        kernel_size: Places a convolution sees along each axis; odd.
        pooling: max, average, or stride (the convolution itself skips every second place).
        activation: relu, gelu, silu, tanh or leaky_relu.
        normalisation: none, batch, group or layer.
        residual: Whether each block adds its input, through a convolution of one place, before its activation.
        dropout: Share of units dropped in front of the head.
        channel_dropout: Share of channels dropped after each block.
        width: Units of the dense layer; 0 for none.
        head: flatten (all places of the last block) or average (their mean).
        initialisation: default (torch's), kaiming_uniform, kaiming_normal, xavier_uniform, xavier_normal or
            orthogonal.
        edges: none, or sobel: the length of each channel's gradient comes in as a further channel (models.edges).
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"image"})
    # Few shapes: only trials of one shape train together.
    space: ClassVar[dict[str, Any]] = {
        "depth": {"low": 1, "high": 3},
        "channels": [8, 16, 32],
        "dropout": {"low": 0.0, "high": 0.6},
        "channel_dropout": {"low": 0.0, "high": 0.3},
    }
    lane_parameters: ClassVar[frozenset[str]] = frozenset({"dropout", "channel_dropout", "initialisation"})

    def __init__(
        self,
        input_shape: Sequence[int],
        n_outputs: int,
        *,
        depth: int = 2,
        channels: int = 16,
        growth: float = 2.0,
        kernel_size: int = 3,
        pooling: str = "max",
        activation: str = "relu",
        normalisation: str = "batch",
        residual: bool = False,
        dropout: float = 0.2,
        channel_dropout: float = 0.0,
        width: int = 64,
        head: str = "flatten",
        initialisation: str = "default",
        edges: str = "none",
    ) -> None:
        super().__init__()
        at_least(1, depth=depth, channels=channels, kernel_size=kernel_size, n_outputs=n_outputs)
        at_least(0, width=width)
        one_of("pooling", pooling, POOLINGS)
        one_of("head", head, ("flatten", "average"))
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size!r} is even; a block keeps the size of its image")
        one_of("edges", edges, EDGES)
        c_in, *size = input_shape
        blocks: list[nn.Module] = []
        if edges == "sobel":
            blocks.append(SobelEdges())
            c_in *= 2
        for number in range(depth):
            c_out = round(channels * growth**number)
            at_least(1, channels_of_a_block=c_out)
            halved = min(size) > 1
            blocks.append(
                Block(
                    c_in, c_out, kernel_size, pooling if halved else None,
                    activation=activation, normalisation=normalisation, residual=residual,
                    channel_dropout=channel_dropout, initialisation=initialisation,
                )
            )  # fmt: skip
            if halved:
                size = [-(-side // 2) if pooling == "stride" else side // 2 for side in size]
            c_in = c_out
        self.blocks = nn.Sequential(*blocks)
        self.average = head == "average"
        d_in = c_in if self.average else c_in * size[0] * size[1]
        dense: list[nn.Module] = []
        if width:
            dense = [
                linear(d_in, width, initialisation=initialisation, activation=activation),
                activation_layer(activation),
            ]
        self.head = nn.Sequential(
            *dense, nn.Dropout(dropout), linear(width or d_in, n_outputs, initialisation=initialisation)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [B, C, H, W] -> [B, n_outputs]."""
        x = self.blocks(x)
        outputs: torch.Tensor = self.head(x.mean((2, 3)) if self.average else x.flatten(1))
        return outputs


class Block(nn.Module):
    """Convolution, normalisation, activation, pooling and channel dropout.

    Args:
        c_in: Channels that come in.
        c_out: Channels that go out.
        kernel_size: Places the convolution sees along each axis.
        pooling: One of POOLINGS; None keeps the size.
        activation: Its name.
        normalisation: Its name.
        residual: Whether it adds its input, through a convolution of one place, before the activation.
        channel_dropout: Share of channels dropped at the end.
        initialisation: Its name.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel_size: int,
        pooling: str | None,
        *,
        activation: str,
        normalisation: str,
        residual: bool,
        channel_dropout: float,
        initialisation: str,
    ) -> None:
        super().__init__()
        stride = 2 if pooling == "stride" else 1
        # Batch normalisation takes the mean away, so a bias in front of it would never get a gradient.
        bias = normalisation != "batch"
        self.body = nn.Sequential(
            convolution(
                2, c_in, c_out, kernel_size, stride=stride, bias=bias,
                initialisation=initialisation, activation=activation,
            ),
            *channel_normalisation(normalisation, c_out, 2),
        )  # fmt: skip
        self.shortcut: nn.Module | None = None
        if residual:
            self.shortcut = convolution(
                2, c_in, c_out, 1, stride=stride, bias=False, initialisation=initialisation
            )
        after: list[nn.Module] = [activation_layer(activation)]
        if pooling in ("max", "average"):
            after.append(nn.MaxPool2d(2) if pooling == "max" else nn.AvgPool2d(2))
        self.after = nn.Sequential(*after, nn.Dropout2d(channel_dropout))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> [B, c_out, H', W']; H' is H, or half of it."""
        inner = self.body(x)
        if self.shortcut is not None:
            inner = inner + self.shortcut(x)
        outputs: torch.Tensor = self.after(inner)
        return outputs
