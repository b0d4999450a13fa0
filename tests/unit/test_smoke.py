"""One batch before the search: what comes back wrong is told in one message (fault rows D11, D12, D13)."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from lanewise.errors import ModelError
from lanewise.model import resolve
from lanewise.smoke import example_inputs, smoke


@dataclass(frozen=True)
class Columns:
    numeric: tuple[str, ...] = ("a", "b", "c")
    categorical: tuple[str, ...] = ("k", "m")
    cardinalities: tuple[int, ...] = (4, 3)
    kind: str = "table"
    shape: tuple[int, ...] = ()
    tokens: int = 0


LAYOUT = Columns()


class Plain(nn.Module):
    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(n_features, n_outputs)

    def forward(self, x: torch.Tensor) -> Any:
        return self.layer(x)


def with_end(end: Callable[[torch.Tensor], Any]) -> type[nn.Module]:
    return type("Ends", (Plain,), {"forward": lambda self, x: end(self.layer(x))})


def refused(cls: type[nn.Module], n_outputs: int = 3) -> str:
    with pytest.raises(ModelError) as caught:
        smoke(resolve(cls), LAYOUT, n_outputs, {})
    assert caught.value.exit_code == 4
    return str(caught.value)


def test_counts_the_trainable_parameters() -> None:
    assert smoke(resolve(Plain), LAYOUT, 3, {}) == 10 * 3 + 3


@pytest.mark.parametrize("name", ["mlp", "resnet"])
@pytest.mark.parametrize("n_outputs", [1, 2, 5])
@pytest.mark.parametrize("columns", [LAYOUT, Columns(cardinalities=(), categorical=()), Columns(numeric=())])
def test_own_networks_pass_on_every_kind_of_table(name: str, n_outputs: int, columns: Columns) -> None:
    assert smoke(resolve(name), columns, n_outputs, {}) > 0


@pytest.mark.parametrize(
    ("end", "n_outputs", "told"),
    [
        (lambda y: (y, y), 3, "returned a tuple of 2, expected (8, 3)"),
        (lambda y: {"logits": y}, 3, "returned a dict, expected (8, 3)"),
        (lambda y: None, 3, "returned a NoneType, expected (8, 3)"),
        (lambda y: y[:, :2], 3, "returned (8, 2), expected (8, 3)"),
        (lambda y: y.mean(), 3, "returned (), expected (8, 3)"),
        (lambda y: y.squeeze(-1), 1, "keep the last dimension"),
        (lambda y: y[:, :1], 2, "two classes have two outputs"),
        (lambda y: y.argmax(1, keepdim=True).expand(-1, 3), 3, "returned torch.int64, expected float32"),
        (lambda y: y / 0, 3, "numbers that are not finite"),
        (lambda y: y.detach(), 3, "depend on no parameter"),
        (lambda y: (y - y.detach()).sqrt(), 3, "a gradient of network"),
        (lambda y: y if len(y) == 8 else y[:1], 3, "returned (1, 3), expected (5, 3)"),
        (lambda y: y.reshape(4, 7), 3, "raised RuntimeError for inputs float32 [8, 10]"),
    ],
)
def test_wrong_output_is_told(end: Callable[[torch.Tensor], Any], n_outputs: int, told: str) -> None:
    assert told in refused(with_end(end), n_outputs)


def test_error_in_forward_shows_the_user_s_line_and_not_ours() -> None:
    class Breaks(Plain):
        def forward(self, x: torch.Tensor) -> Any:
            return self.layer(x[:, 1:])

    text = refused(Breaks)
    assert "forward of network" in text and "raised RuntimeError" in text
    assert "self.layer(x[:, 1:])" in text
    assert "_call_impl" not in text and "lanewise/smoke.py" not in text
    assert "mat1 and mat2 shapes cannot be multiplied" in text


def test_nothing_to_train_is_told() -> None:
    class Empty(nn.Module):
        def __init__(self, n_outputs: int) -> None:
            super().__init__()

        def forward(self, x: torch.Tensor) -> Any:
            return x[:, :3]

    class Frozen(Plain):
        def __init__(self, n_features: int, n_outputs: int) -> None:
            super().__init__(n_features, n_outputs)
            self.requires_grad_(False)

    class Lazy(Empty):
        def __init__(self, n_outputs: int) -> None:
            super().__init__(n_outputs)
            self.layer = nn.LazyLinear(n_outputs)

    assert "it has no parameters" in refused(Empty)
    assert "all of its 33 parameters are frozen" in refused(Frozen)
    assert "lazy layers" in refused(Lazy)


def test_forward_that_meddles_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    class Meddles(Plain):
        def forward(self, x: torch.Tensor) -> Any:
            torch.manual_seed(99)
            torch.set_default_dtype(torch.float64)
            os.environ["LANEWISE_TEST_NEW"] = "1"
            return self.layer(x)

    monkeypatch.delenv("LANEWISE_TEST_NEW", raising=False)
    before = torch.get_rng_state()
    smoke(resolve(Meddles), LAYOUT, 3, {})
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_default_dtype() == torch.float32 and "LANEWISE_TEST_NEW" not in os.environ


def test_example_inputs_are_of_the_layout_and_of_the_seed() -> None:
    x_num, x_cat = example_inputs(resolve("mlp"), LAYOUT, 200, seed=1)
    assert x_num.shape == (200, 3) and x_num.dtype == torch.float32
    assert x_cat.shape == (200, 2) and x_cat.dtype == torch.int64
    assert x_cat.amin(0).tolist() == [0, 0] and x_cat.amax(0).tolist() == [3, 2]
    (flat,) = example_inputs(resolve(Plain), LAYOUT, 200, seed=1)
    assert flat.shape == (200, 10)
    assert torch.equal(flat[:, :3], x_num)
    assert torch.equal(flat[:, 3:7].argmax(1), x_cat[:, 0]) and torch.equal(
        flat[:, 7:].argmax(1), x_cat[:, 1]
    )
    assert torch.equal(flat[:, 3:7].sum(1), torch.ones(200))
    again = example_inputs(resolve("mlp"), LAYOUT, 200, seed=1)
    other = example_inputs(resolve("mlp"), LAYOUT, 200, seed=2)
    assert torch.equal(again[0], x_num) and not torch.equal(other[0], x_num)
