"""Counts of a network: worked by hand, and the same whatever the process has drawn before."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from lanewise.errors import ModelError
from lanewise.model import resolve
from lanewise.model_checks import TOY_LAYOUTS, ToyLayout
from lanewise.model_size import model_size
from lanewise.smoke import smoke
from lanewise.study import OBJECTIVES
from models import MODELS


def counted(network: Any, layout: ToyLayout, **hyper: Any) -> tuple[float, ...]:
    return tuple(model_size(resolve(network), layout, 3, hyper, OBJECTIVES).values())


def test_an_mlp_worked_by_hand() -> None:
    """Five numbers, two layers of 16, three classes; layer normalisation has two numbers for each unit."""
    layout = ToyLayout(categorical=(), cardinalities=())
    weights = 5 * 16 + 16 * 16 + 16 * 3
    assert counted("mlp", layout, width=16, depth=2) == (weights + 2 * (16 + 2 * 16) + 3, weights)


class Convolves(nn.Module):
    kinds: ClassVar[frozenset[str]] = frozenset({"image"})

    def __init__(self, input_shape: tuple[int, ...], n_outputs: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(input_shape[0], 4, 3, padding=1, bias=False)
        self.convolution.weight.requires_grad_(False)
        self.head = nn.Linear(4, n_outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.head(self.convolution(x).mean((2, 3)))
        return outputs


class Attends(nn.Module):
    kinds: ClassVar[frozenset[str]] = frozenset({"series"})

    def __init__(self, input_shape: tuple[int, ...], n_outputs: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(input_shape[0], 1, batch_first=True)
        self.head = nn.Linear(input_shape[0], n_outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.transpose(1, 2)
        found, _ = self.attention(rows, rows, rows, need_weights=False)
        outputs: torch.Tensor = self.head(found.mean(1))
        return outputs


def test_a_convolution_and_attention_worked_by_hand() -> None:
    """What is frozen is no parameter to train, but is multiplied all the same."""
    assert counted(Convolves, TOY_LAYOUTS["image"]) == (4 * 3 + 3, 12 * 12 * 4 * 9 + 4 * 3)
    c, t = TOY_LAYOUTS["series"].shape
    # query, key and value; their products; what they are mixed into; the head
    expected = t * c * 3 * c + 2 * t * t * c + t * c * c + c * 3
    assert counted(Attends, TOY_LAYOUTS["series"])[1] == expected


@pytest.mark.parametrize("name", MODELS)
def test_every_network_of_ours_has_the_parameters_that_the_smoke_test_finds(name: str) -> None:
    network = resolve(name)
    layout = TOY_LAYOUTS[min(network.kinds)]
    torch.manual_seed(7)
    before = torch.get_rng_state()
    sizes = model_size(network, layout, 3, {}, OBJECTIVES)
    assert torch.equal(torch.get_rng_state(), before)
    assert sizes["parameters"] == smoke(network, layout, 3, {})
    torch.manual_seed(8)
    assert sizes["multiply_adds"] > 0 and model_size(network, layout, 3, {}, OBJECTIVES) == sizes
    assert model_size(network, layout, 3, {}, ()) == {}


class NeedsTwo(nn.Module):
    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(n_features, n_outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) < 2:
            raise ValueError("one row")
        outputs: torch.Tensor = self.head(x)
        return outputs


def test_a_network_that_takes_no_single_row_is_refused_only_where_that_is_needed() -> None:
    network, layout = resolve(NeedsTwo), TOY_LAYOUTS["table"]
    assert model_size(network, layout, 3, {}, ("parameters",)) == {"parameters": 12 * 3 + 3}
    with pytest.raises(ModelError, match=r"(?s)ValueError for one row.*remove `multiply_adds`") as caught:
        model_size(network, layout, 3, {}, ("multiply_adds",))
    assert "one row" in str(caught.value)
