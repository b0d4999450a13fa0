"""What a class must look like to be a network, and that building one is deterministic and leaves no trace."""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import random
import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from lanewise import model
from lanewise.errors import ModelError
from lanewise.model import Network, resolve
from lanewise.model_checks import TOY_LAYOUTS
from models.mlp import MLP


@dataclass(frozen=True)
class Columns:
    numeric: tuple[str, ...] = ("a", "b", "c")
    categorical: tuple[str, ...] = ("k", "m")
    cardinalities: tuple[int, ...] = (4, 3)
    kind: str = "table"
    shape: tuple[int, ...] = ()
    tokens: int = 0


LAYOUT = Columns()


class Flat(nn.Module):
    """The smallest network of a user: one tensor in."""

    space: ClassVar[dict[str, Any]] = {"width": [4, 8], "gate": {"low": 0.0, "high": 1.0}}
    lane_parameters: ClassVar[frozenset[str]] = frozenset({"gate"})

    def __init__(
        self, n_features: int, n_outputs: int, width: int = 4, gate: float = 0.5, bias: bool = True,
        kind: str = "plain", extra: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.body = nn.Linear(n_features, width, bias=bias)
        self.head = nn.Linear(width, n_outputs)
        self.given = {"n_features": n_features, "gate": gate, "kind": kind, "extra": extra}

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.body(x).relu())


def refused(target: Any, args: dict[str, Any] | None = None) -> str:
    with pytest.raises(ModelError) as caught:
        resolve(target, args)
    assert caught.value.exit_code == 4
    return str(caught.value)


def make(*, init: str = "", body: str = "", forward: str = "self, x_num, x_cat") -> type[nn.Module]:
    """A class whose signatures are those given; made from a namespace, since only signatures matter here."""
    names = [part.strip() for part in init.split(",") if part.strip()]
    code = {"__init__": _signature(["self", *names]), "forward": _signature(forward.split(", "))}
    return type("Made", (nn.Module,), code)


def _signature(names: list[str]) -> Any:
    def function(*args: Any, **kwargs: Any) -> None: ...

    parameters: list[inspect.Parameter] = []
    kind: Any = inspect.Parameter.POSITIONAL_OR_KEYWORD
    for text in names:
        name, _, default = text.partition("=")
        if name.startswith("**"):
            parameters.append(inspect.Parameter(name[2:], inspect.Parameter.VAR_KEYWORD))
        elif name.startswith("*"):
            kind = inspect.Parameter.KEYWORD_ONLY
        else:
            given = json.loads(default) if default else inspect.Parameter.empty
            parameters.append(inspect.Parameter(name, kind, default=given))
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what inspect reads
    return function


def test_registered_network_reads_its_contract_from_the_class() -> None:
    network = resolve("mlp")
    assert network.factory is MLP and network.name == "mlp"
    assert network.inputs == "split"
    assert network.data_arguments == ("n_numeric", "cardinalities", "n_outputs")
    assert network.defaults == MLP.__init__.__kwdefaults__
    assert network.space == MLP.space
    assert network.lane_parameters == MLP.lane_parameters


def test_own_class_is_read_like_ours() -> None:
    network = resolve(Flat)
    assert network.inputs == "flat"
    assert network.data_arguments == ("n_features", "n_outputs")
    assert network.defaults == {"width": 4, "gate": 0.5, "bias": True, "kind": "plain"}  # None is no value
    assert network.name.endswith(":Flat")


def test_args_are_constants_and_no_hyperparameters() -> None:
    network = resolve(Flat, {"gate": 0.25, "extra": [1, 2]})
    assert set(network.defaults) == {"width", "bias", "kind"}
    assert set(network.space) == {"width"} and network.lane_parameters == frozenset()
    built: Any = network.build(LAYOUT, 2, {}, 0)
    assert built.given == {"n_features": 3 + 7, "gate": 0.25, "kind": "plain", "extra": [1, 2]}
    with pytest.raises(ModelError, match="no hyperparameter `gate`"):
        network.build(LAYOUT, 2, {"gate": 0.5}, 0)


def test_build_takes_training_hyperparameters_in_its_stride_and_refuses_others() -> None:
    network = resolve(Flat)
    built: Any = network.build(LAYOUT, 3, {"width": 8, "lr": 0.1, "batch_size": 32}, 0)
    assert built.body.weight.shape == (8, 10) and built.head.weight.shape == (3, 8)
    with pytest.raises(ModelError) as caught:
        network.build(LAYOUT, 3, {"widht": 8}, 0)
    assert "no hyperparameter `widht`" in str(caught.value)
    assert "did you mean `width`?" in str(caught.value)


def test_build_is_a_function_of_its_arguments_and_leaves_the_generators_alone() -> None:
    network = resolve("mlp")
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index]  # legacy tuple
    one = network.build(LAYOUT, 2, {}, 7).state_dict()
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])  # type: ignore[index]  # legacy tuple
    torch.rand(100)  # what ran before does not matter
    two = network.build(LAYOUT, 2, {}, 7).state_dict()
    other = network.build(LAYOUT, 2, {}, 8).state_dict()
    assert all(torch.equal(one[n], two[n]) for n in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])
    big = 2**63 - 1
    assert network.build(LAYOUT, 2, {}, big).state_dict()["head.weight"].isfinite().all()


def test_build_equals_the_class_called_by_hand_under_the_seed() -> None:
    built = resolve("mlp").build(LAYOUT, 2, {"width": 16}, 5).state_dict()
    torch.manual_seed(5)
    twin = MLP(3, (4, 3), 2, width=16).state_dict()
    assert all(torch.equal(built[n], twin[n]) for n in twin)


def test_constructor_that_raises_is_told_with_its_lines_and_hyperparameters() -> None:
    with pytest.raises(ModelError) as caught:
        resolve("mlp").build(LAYOUT, 2, {"activation": "rleu"}, 0)
    text = str(caught.value)
    assert "the constructor of network `mlp` raised ValueError" in text
    assert "activation='rleu' is not one of relu" in text
    assert "models/layers.py" in text and "lanewise/model.py" not in text


def test_constructor_that_exits_does_not_end_the_process() -> None:
    class Leaves(Flat):
        def __init__(self, n_features: int, n_outputs: int) -> None:
            raise SystemExit(3)

    Leaves.space, Leaves.lane_parameters = {}, frozenset()
    with pytest.raises(ModelError, match="raised SystemExit"):
        resolve(Leaves).build(LAYOUT, 2, {}, 0)


def test_static_key_leaves_out_lane_parameters_and_training_only() -> None:
    network = resolve("mlp")
    key = network.static_key
    assert key({}) == key({"dropout": 0.4, "initialisation": "orthogonal", "frequency_sigma": 3.0, "lr": 0.5})
    assert key({}) == key({"depth": network.defaults["depth"]})
    assert key({}) != key({"width": 64}) and key({"width": 64}) != key({"width": 256})
    assert json.loads(key({"width": 64})) == {
        n: (64 if n == "width" else v)
        for n, v in network.defaults.items()
        if n not in network.lane_parameters
    }


def test_unknown_name_gives_the_nearest_and_all() -> None:
    text = refused("mpl")
    assert "there is no network `mpl`" in text and "did you mean `mlp`?" in text and "mlp, resnet" in text
    assert "my_net:Tiny" in refused("my_net.Tiny")


def test_other_packages_may_add_networks_but_not_replace_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def point(name: str, value: str) -> importlib.metadata.EntryPoint:
        return importlib.metadata.EntryPoint(name, value, model.ENTRY_POINTS)

    points = [point("tiny", "a_plugin:Flat"), point("mlp", "a_plugin:Flat"), point("gone", "no_such:X")]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)
    monkeypatch.setitem(sys.modules, "a_plugin", SimpleNamespace(Flat=Flat))
    assert resolve("tiny").factory is Flat
    assert resolve("mlp").factory is MLP
    text = refused("gone")
    assert "could not be loaded: gone (no_such:X): ModuleNotFoundError" in text


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("json:JSONDecoder", "it is a class"),
        ("json:loads", "it is a function"),
        ("string:digits", "it is a str"),
    ],
)
def test_what_is_no_module_is_refused(target: str, told: str) -> None:
    text = refused(target)
    assert "this is not a network" in text and told in text


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        ("n_features, n_outputs, hidden", "nothing fills the constructor's argument `hidden`"),
        ("in_features, n_outputs", "rename it to `n_features`"),
        ("n_features, num_classes", "rename it to `n_outputs`"),
        ("n_numerc, n_outputs", "rename it to `n_numeric`"),
        ("n_features, n_outputs, lr=0.1", "`lr` has the name of a hyperparameter of training"),
    ],
)
def test_constructor_arguments_must_be_filled(init: str, expected: str) -> None:
    assert expected in refused(make(init=init))


def test_an_argument_that_args_fill_is_fine() -> None:
    assert resolve(make(init="n_outputs, hidden, lr=0.1"), {"hidden": 3, "lr": 0.2}).defaults == {}


@pytest.mark.parametrize(
    ("args", "expected"),
    [({"n_outputs": 3}, "`n_outputs` is set by the data"), ({"widht": 3}, "did you mean `width`?")],
)
def test_wrong_args_are_refused(args: dict[str, Any], expected: str) -> None:
    assert expected in refused(Flat, args)


@pytest.mark.parametrize(
    ("forward", "expected"),
    [
        ("self, x_num, x_cat", "split"),
        ("self, x_num, x_cat=null", "split"),
        ("self, numbers, codes, scale=1", "split"),
        ("self, x", "flat"),
        ("self, x, scale=1", "flat"),
    ],
)
def test_inputs_follow_from_forward(forward: str, expected: str) -> None:
    assert resolve(make(forward=forward)).inputs == expected


@pytest.mark.parametrize("forward", ["self", "self, a, b, c", "self, x, *, mask"])
def test_forward_that_cannot_take_the_inputs_is_refused(forward: str) -> None:
    text = refused(make(forward=forward))
    assert "`forward` does not take the inputs" in text and "forward(x_num, x_cat)" in text


def test_class_without_forward_is_refused() -> None:
    assert "no `forward`" in refused(type("Empty", (nn.Module,), {}))


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"space": {"widht": [1, 2]}}, "`space` names `widht`"),
        ({"space": ["width"]}, "`space` is a list"),
        ({"space": {"extra": [1]}}, "`space` names `extra`"),
        ({"lane_parameters": {"dropout"}}, "`lane_parameters` names `dropout`"),
        ({"lane_parameters": "gate"}, "`lane_parameters` is a str"),
    ],
)
def test_class_attributes_must_name_hyperparameters(attributes: dict[str, Any], expected: str) -> None:
    assert expected in refused(type("Wrong", (Flat,), attributes))


def test_arguments_handed_on_by_a_subclass_are_seen() -> None:
    class Wider(Flat):
        def __init__(self, width: int = 32, **kwargs: Any) -> None:
            super().__init__(width=width, **kwargs)

    network = resolve(Wider)
    assert network.defaults == {"width": 32, "gate": 0.5, "bias": True, "kind": "plain"}
    built: Any = network.build(LAYOUT, 2, {"gate": 0.1}, 0)
    assert built.body.out_features == 32 and built.given["gate"] == 0.1


def test_a_network_can_be_compared_and_is_frozen() -> None:
    one: Network = resolve("mlp")
    assert one == resolve("mlp") and one != resolve("resnet")
    with pytest.raises(AttributeError):
        one.name = "other"  # type: ignore[misc]  # that is the point


@pytest.mark.parametrize(
    ("name", "kind", "fits", "proposed"),
    [
        ("mlp", "text", "fcn, gru, text_cnn, transformer", "text_cnn"),
        ("cnn", "series", "fcn, gru, transformer", "fcn"),
        ("fcn", "image", "cnn, image_resnet", "cnn"),
        ("gru", "table", "mlp, resnet", "mlp"),
    ],
)
def test_a_network_for_other_data_is_refused_with_those_that_fit(
    name: str, kind: str, fits: str, proposed: str
) -> None:
    with pytest.raises(ModelError) as caught:
        resolve(name).build(TOY_LAYOUTS[kind], 2, {}, seed=0)
    assert caught.value.rule is not None and caught.value.rule.startswith(f"one of {fits}, or a class")
    assert caught.value.remedy == f"write `model: {{name: {proposed}}}`"
