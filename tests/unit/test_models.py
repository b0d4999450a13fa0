"""The shipped networks against hand-written twins, hand-worked counts and properties."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lanewise.space import build_space
from lanewise.study import Study
from models import MODELS
from models.embeddings import (
    BinEmbedding,
    CategoryEmbedding,
    Interactions,
    LinearEmbedding,
    PeriodicEmbedding,
    embedding_width,
)
from models.layers import ACTIVATIONS, INITIALISATIONS, linear
from models.mlp import MLP
from models.resnet import ResNet

CARDS = (4, 3)
TABLES = ("mlp", "resnet")  # networks for tables


def batch(
    rows: int = 12, n_numeric: int = 5, cards: tuple[int, ...] = CARDS
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    codes = [torch.randint(0, c, (rows,), generator=generator) for c in cards]
    x_cat = torch.stack(codes, 1) if codes else torch.zeros(rows, 0, dtype=torch.int64)
    return torch.randn(rows, n_numeric, generator=generator), x_cat


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def plain_inputs(net: Any, x_num: torch.Tensor, x_cat: torch.Tensor) -> torch.Tensor:
    """Numbers and embedded codes, one column at a time, through one-hot products."""
    table, start, parts = net.inputs.categories.table.weight, 0, [x_num]
    for column, cardinality in enumerate(CARDS):
        parts.append(F.one_hot(x_cat[:, column], cardinality).float() @ table[start : start + cardinality])
        start += cardinality
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp_is_the_sequential_of_the_same_weights(activation: str) -> None:
    net = MLP(5, CARDS, 3, depth=2, width=8, activation=activation, normalisation="layer", dropout=0.0)
    twin = nn.Sequential(
        nn.Linear(5 + 2 * 3, 8), nn.LayerNorm(8), ACTIVATIONS[activation](),
        nn.Linear(8, 8), nn.LayerNorm(8), ACTIVATIONS[activation](), nn.Linear(8, 3),
    )  # fmt: skip
    own = [p for n, p in net.named_parameters() if not n.startswith("inputs")]
    with torch.no_grad():
        for to, source in zip(twin.parameters(), own, strict=True):
            to.copy_(source)
    x_num, x_cat = batch()
    assert net.inputs.categories is not None
    assert net.inputs.categories.table.embedding_dim == 3  # round(1.6 * 4 ** 0.56) = round(3.48)
    torch.testing.assert_close(net(x_num, x_cat), twin(plain_inputs(net, x_num, x_cat)))


def test_mlp_residual_adds_each_block_but_the_first() -> None:
    net = MLP(5, CARDS, 3, depth=3, width=8, normalisation="none", dropout=0.0, residual=True)
    x_num, x_cat = batch()
    x = plain_inputs(net, x_num, x_cat)
    linears = [block[0] for block in net.blocks]  # type: ignore[index]  # blocks are Sequentials
    x = F.relu(F.linear(x, linears[0].weight, linears[0].bias))
    for layer in linears[1:]:
        x = x + F.relu(F.linear(x, layer.weight, layer.bias))
    torch.testing.assert_close(net(x_num, x_cat), F.linear(x, net.head.weight, net.head.bias))


@pytest.mark.parametrize("training", [True, False])
def test_resnet_is_the_formula_of_the_paper(training: bool) -> None:
    net = ResNet(5, CARDS, 2, depth=2, width=8, hidden_factor=1.5, dropout=0.0).train(training)
    x_num, x_cat = batch()

    def norm(x: torch.Tensor, layer: Any) -> Any:
        mean, var = (x.mean(0), x.var(0, unbiased=False)) if training else (0.0, 1.0)
        return (x - mean) / (torch.as_tensor(var) + layer.eps).sqrt() * layer.weight + layer.bias

    def dense(x: torch.Tensor, layer: Any) -> Any:
        return x @ layer.weight.T + (0 if layer.bias is None else layer.bias)

    blocks: Any = net.blocks
    x = dense(plain_inputs(net, x_num, x_cat), net.first)
    for normalise, into, act, _, out, _ in blocks:
        assert isinstance(act, nn.ReLU)
        assert into.out_features == 12  # 8 * 1.5
        x = x + dense(F.relu(dense(norm(x, normalise), into)), out)
    expected = dense(F.relu(norm(x, net.head[0])), net.head[2])
    torch.testing.assert_close(net(x_num, x_cat), expected)


@pytest.mark.parametrize(
    ("hyper", "expected"),
    [
        # inputs 5 + 2 columns * 3 = 11; table 7 * 3 = 21
        ({"depth": 1, "width": 8, "normalisation": "none"}, 21 + (11 * 8 + 8) + (8 * 3 + 3)),
        ({"depth": 2, "width": 8, "normalisation": "layer"}, 21 + (11 * 8 + 8 + 16) + (64 + 8 + 16) + 27),
        ({"depth": 2, "width": 8, "normalisation": "batch"}, 21 + (11 * 8 + 16) + (64 + 16) + 27),  # no bias
        ({"depth": 1, "width": 8, "normalisation": "none", "embedding_dim": 5}, 35 + (15 * 8 + 8) + 27),
        # numbers become 5 * 4 = 20: inputs 26; weights and biases 2 * 20
        (
            {"depth": 1, "width": 8, "normalisation": "none", "numeric_embedding": "linear",
             "numeric_embedding_dim": 4},
            21 + 40 + (26 * 8 + 8) + 27,
        ),
        # 5 * 6 frequencies, one shared layer 12 -> 4
        (
            {"depth": 1, "width": 8, "normalisation": "none", "numeric_embedding": "periodic",
             "numeric_embedding_dim": 4, "frequencies": 6},
            21 + 30 + (12 * 4 + 4) + (26 * 8 + 8) + 27,
        ),
        # bins have no weights; 20 + 6 inputs, and 3 products of 26 + 26 weights
        (
            {"depth": 1, "width": 8, "normalisation": "none", "numeric_embedding": "bins",
             "numeric_embedding_dim": 4, "interactions": 3},
            21 + 3 * 52 + (29 * 8 + 8) + 27,
        ),
    ],
)  # fmt: skip
def test_mlp_parameters_counted_by_hand(hyper: dict[str, Any], expected: int) -> None:
    assert count(MLP(5, CARDS, 3, **hyper)) == expected


@pytest.mark.parametrize(
    ("normalisation", "expected"),
    [
        # first 11 * 8; block: norm 16, 8 * 16 + 16, 16 * 8; head: norm 16, 8 * 3 + 3
        ("batch", 21 + 88 + (16 + 144 + 128) + 16 + 27),
        ("layer", 21 + 96 + (16 + 144 + 136) + 16 + 27),
        ("none", 21 + 96 + (144 + 136) + 27),
    ],
)
def test_resnet_parameters_counted_by_hand(normalisation: str, expected: int) -> None:
    assert count(ResNet(5, CARDS, 3, depth=1, width=8, normalisation=normalisation)) == expected


def test_periodic_embedding_is_the_formula_column_by_column() -> None:
    layer = PeriodicEmbedding(3, 4, frequencies=5, sigma=0.5)
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(1))
    columns = []
    for j in range(3):
        v = 2 * math.pi * x[:, j : j + 1] * layer.frequencies[j]
        columns.append(F.relu(layer.mix(torch.cat([torch.cos(v), torch.sin(v)], dim=1))))
    torch.testing.assert_close(layer(x), torch.cat(columns, dim=1))


def test_linear_embedding_is_the_formula_column_by_column() -> None:
    layer = LinearEmbedding(3, 4)
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(1))
    columns = [F.relu(x[:, j : j + 1] * layer.weight[j] + layer.bias[j]) for j in range(3)]
    torch.testing.assert_close(layer(x), torch.cat(columns, dim=1))


def test_bins_worked_by_hand() -> None:
    layer = BinEmbedding(2, 2)  # quartiles of a normal: from -0.6745 to 0 to 0.6745
    x = torch.tensor([[0.0, -0.33724488], [0.67448975, -1.3489795], [1.3489795, 0.0]])
    expected = [[1, 0, 0.5, 0], [1, 1, -1, 0], [1, 2, 1, 0]]
    torch.testing.assert_close(layer(x), torch.tensor(expected, dtype=torch.float32), atol=1e-6, rtol=1e-6)


def test_bins_hold_equally_many_rows_of_a_normal_column_and_lose_no_order() -> None:
    x = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0))
    encoded = BinEmbedding(1, 5)(x)
    begun = (encoded[:, 1:] > 0).float().mean(0)  # above the quantiles 0.2, 0.4, 0.6 and 0.8
    torch.testing.assert_close(begun, torch.tensor([0.8, 0.6, 0.4, 0.2]), atol=0.015, rtol=0)
    order = x.flatten().argsort()
    assert (encoded.sum(1)[order].diff() >= 0).all()


def test_interactions_are_products_of_two_weighted_sums() -> None:
    layer = Interactions(3, 2)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    for b in range(5):
        for r in range(2):
            pairs = sum(layer.left.weight[r, i] * layer.right.weight[r, j] * x[b, i] * x[b, j]
                        for i in range(3) for j in range(3))  # fmt: skip
            torch.testing.assert_close(layer(x)[b, 3 + r], torch.as_tensor(pairs))
    assert torch.equal(layer(x)[:, :3], x)


def test_start_values_of_the_embeddings() -> None:
    torch.manual_seed(0)
    periodic = PeriodicEmbedding(40, 4, frequencies=50, sigma=0.25)
    assert periodic.frequencies.std().item() == pytest.approx(0.25, rel=0.05)
    table = CategoryEmbedding((500, 500), 16).table.weight
    assert table[0].eq(0).all() and table[500].eq(0).all()  # code 0 of both columns says nothing
    assert table.abs().max().item() <= 0.25 and table.std().item() == pytest.approx(0.5 / 12**0.5, rel=0.05)


def test_code_zero_says_nothing_and_columns_do_not_mix() -> None:
    layer = CategoryEmbedding((4, 3), 2)
    x = torch.tensor([[0, 0], [3, 0], [0, 2]])
    out = layer(x)
    assert out[0].eq(0).all()
    assert out[1, 2:].eq(0).all() and out[2, :2].eq(0).all()
    assert torch.equal(out[1, :2], layer.table.weight[3]) and torch.equal(out[2, 2:], layer.table.weight[6])


@pytest.mark.parametrize(("largest", "expected"), [(2, 2), (3, 3), (10, 6), (100, 21), (1000, 32)])
def test_embedding_width_worked_by_hand(largest: int, expected: int) -> None:
    # 1.6 V^0.56 = 2.36, 2.96, 5.81, 21.1, 76.6
    assert embedding_width((2, largest)) == expected


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("numeric", ["none", "linear", "periodic"])
def test_columns_may_be_permuted_with_their_weights(name: str, numeric: str) -> None:
    net: Any = MODELS[name](5, CARDS, 3, numeric_embedding=numeric, width=8).eval()
    other: Any = MODELS[name](5, CARDS, 3, numeric_embedding=numeric, width=8).eval()
    other.load_state_dict(net.state_dict())
    order = torch.tensor([3, 0, 4, 1, 2])
    dim = 1 if numeric == "none" else 8
    first = other.blocks[0][0] if name == "mlp" else other.first
    with torch.no_grad():
        wide = first.weight[:, : 5 * dim].unflatten(1, (5, dim))[:, order].flatten(1)
        first.weight[:, : 5 * dim] = wide.clone()
        if numeric == "linear":
            other.inputs.numbers.weight.copy_(other.inputs.numbers.weight[order].clone())
            other.inputs.numbers.bias.copy_(other.inputs.numbers.bias[order].clone())
        if numeric == "periodic":
            other.inputs.numbers.frequencies.copy_(other.inputs.numbers.frequencies[order].clone())
    x_num, x_cat = batch()
    torch.testing.assert_close(net(x_num, x_cat), other(x_num[:, order], x_cat))


class _Count(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves the class untyped
    calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("numeric", ["none", "linear", "periodic"])
def test_operations_do_not_grow_with_the_columns(name: str, numeric: str) -> None:
    calls = []
    for n_numeric, cards in ((2, (3, 3)), (40, (3,) * 30)):
        net = MODELS[name](n_numeric, cards, 3, numeric_embedding=numeric, width=8).eval()
        inputs = batch(6, n_numeric, cards)
        with torch.no_grad(), _Count() as counter:  # type: ignore[no-untyped-call]  # torch's class is untyped
            net(*inputs)
        calls.append(counter.calls)
    assert calls[0] == calls[1]


@pytest.mark.parametrize("activation", [None, "relu", "gelu", "silu", "tanh", "leaky_relu"])
@pytest.mark.parametrize("scheme", [s for s in INITIALISATIONS if s != "default"])
def test_initialisation_has_the_deviation_its_paper_gives(scheme: str, activation: str | None) -> None:
    torch.manual_seed(0)
    d_in, d_out = 400, 200
    layer = linear(d_in, d_out, initialisation=scheme, activation=activation)
    gain = {None: 1.0, "tanh": 5 / 3, "leaky_relu": math.sqrt(2 / (1 + 0.01**2))}.get(
        activation, math.sqrt(2)
    )
    assert layer.bias.eq(0).all()
    if scheme == "orthogonal":
        product = layer.weight @ layer.weight.T
        torch.testing.assert_close(product, gain**2 * torch.eye(d_out), rtol=1e-4, atol=1e-4)
        return
    fan = d_in if scheme.startswith("kaiming") else (d_in + d_out) / 2
    assert layer.weight.std().item() == pytest.approx(gain / math.sqrt(fan), rel=0.02)
    if scheme.endswith("uniform"):
        assert layer.weight.abs().max().item() <= gain * math.sqrt(3 / fan) * (1 + 1e-6)


def test_default_initialisation_is_torch_s() -> None:
    torch.manual_seed(3)
    ours = linear(7, 5, activation="tanh")
    torch.manual_seed(3)
    theirs = nn.Linear(7, 5)
    assert torch.equal(ours.weight, theirs.weight) and torch.equal(ours.bias, theirs.bias)


@pytest.mark.parametrize("name", TABLES)
def test_initialisation_keeps_the_shapes(name: str) -> None:
    shapes = {
        scheme: {n: t.shape for n, t in MODELS[name](5, CARDS, 3, initialisation=scheme).state_dict().items()}
        for scheme in INITIALISATIONS
    }
    assert all(found == shapes["default"] for found in shapes.values())


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_dropout_layers_are_there_at_every_rate(name: str, rate: float) -> None:
    net = MODELS[name](5, CARDS, 3, depth=2, dropout=rate)
    rates = [m.p for m in net.modules() if isinstance(m, nn.Dropout)]
    assert rates == ([rate] * 2 if name == "mlp" else [rate, 0.0] * 2)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("numeric", ["none", "linear", "periodic", "bins"])
@pytest.mark.parametrize(("n_numeric", "cards"), [(5, ()), (0, CARDS)])
def test_one_kind_of_column_may_be_absent(
    name: str, numeric: str, n_numeric: int, cards: tuple[int, ...]
) -> None:
    net = MODELS[name](n_numeric, cards, 3, numeric_embedding=numeric).eval()
    x_num, x_cat = batch(6, n_numeric, cards)
    out = net(x_num, x_cat)
    assert out.shape == (6, 3)
    changed = net(x_num + 1, x_cat) if n_numeric else net(x_num, (x_cat + 1) % 3)
    assert not torch.allclose(out, changed)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize(
    ("hyper", "said"),
    [
        ({"activation": "rleu"}, "activation='rleu' is not one of relu, gelu, silu, tanh, leaky_relu"),
        ({"normalisation": "group"}, "normalisation='group' is not one of none, layer, batch"),
        ({"initialisation": "he"}, "initialisation='he' is not one of default"),
        ({"numeric_embedding": "plr"}, "numeric_embedding='plr' is not one of none, linear, periodic, bins"),
        (
            {"numeric_embedding": "bins", "numeric_embedding_dim": 1},
            "numeric_embedding_dim=1 is not an integer of at least 2",
        ),
        ({"interactions": -1}, "interactions=-1 is not an integer of at least 0"),
        ({"depth": 0}, "depth=0 is not an integer of at least 1"),
        ({"width": 12.5}, "width=12.5 is not an integer"),
        ({"embedding_dim": -1}, "embedding_dim=-1 is not an integer of at least 0"),
        ({"dropout": 1.5}, "dropout"),
        ({"numeric_embedding": "periodic", "frequency_sigma": 0.0}, "frequency_sigma=0.0 is not above 0"),
        ({"n_numeric": 0, "cardinalities": ()}, "the data have no input columns"),
        ({"cardinalities": (3, 0)}, "cardinality=0 is not an integer of at least 1"),
    ],
)
def test_wrong_values_are_refused_by_name(name: str, hyper: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        MODELS[name](**{"n_numeric": 5, "cardinalities": CARDS, "n_outputs": 3, **hyper})


@pytest.mark.parametrize("name", TABLES)
def test_own_space_is_legal_and_wakes_sigma_with_periodic(name: str) -> None:
    cls: Any = MODELS[name]
    defaults = cls.__init__.__kwdefaults__  # all hyperparameters are keyword-only
    table = {"source": "x.csv", "target": "y"}
    study = Study.model_validate({"name": "s", "data": table})
    space = build_space(study, cls.space, defaults)
    own = {n: v for n, v in space.default().items() if n in defaults}
    assert own == {n: v for n, v in defaults.items() if n != "frequency_sigma"}
    assert {"depth", "width", "dropout"} <= set(space.searched())
    wanted = {"numeric_embedding": ["none", "periodic"]}
    study = Study.model_validate({"name": "s", "data": table, "space": wanted})
    space = build_space(study, cls.space, defaults)
    config = {**space.default(), "numeric_embedding": "periodic", "frequency_sigma": 1.0}
    assert space.active(config)["frequency_sigma"] == 1.0


def test_embedding_gradients_have_the_same_bits_at_any_number_of_lanes() -> None:
    generator = torch.Generator().manual_seed(0)
    layer = CategoryEmbedding((4, 3), 5)
    weights = torch.randn(8, 7, 5, generator=generator)
    codes = torch.stack([batch(64)[1].roll(k, 0) for k in range(8)])
    pull = torch.randn(8, 64, 10, generator=generator)

    def one(weight: torch.Tensor, x_cat: torch.Tensor) -> Any:
        return torch.func.functional_call(layer, {"table.weight": weight}, (x_cat,))

    def gradients(lanes: slice) -> torch.Tensor:
        own = weights[lanes].clone().requires_grad_()
        outputs = torch.func.vmap(one)(own, codes[lanes])
        return torch.autograd.grad((outputs * pull[lanes]).sum(), own)[0]

    together = gradients(slice(0, 8))
    assert all(torch.equal(together[k], gradients(slice(k, k + 1))[0]) for k in range(8))
    for k in range(8):  # and they are those of torch's own embedding
        weight = weights[k].clone().requires_grad_()
        looked_up = F.embedding(codes[k] + layer.offsets, weight).flatten(1)
        torch.testing.assert_close(together[k], torch.autograd.grad((looked_up * pull[k]).sum(), weight)[0])
