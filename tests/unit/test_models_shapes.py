"""The networks for images, series and texts against torch's own layers, hand-written twins and hand-worked counts."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import nn

from lanewise.space import build_space
from lanewise.study import Study
from models import MODELS
from models.cnn import CNN
from models.edges import SobelEdges
from models.fcn import FCN
from models.gru import GRU, Recurrence
from models.image_resnet import ImageResNet
from models.layers import INITIALISATIONS, channel_normalisation, convolution
from models.text_cnn import TextCNN
from models.tokens import TokenEmbedding
from models.transformer import EncoderBlock, Transformer

IMAGE: dict[str, Any] = {"input_shape": (1, 8, 8), "n_outputs": 3}
SERIES: dict[str, Any] = {"input_shape": (2, 9), "n_tokens": 0, "n_outputs": 3}
TEXT: dict[str, Any] = {"input_shape": (9,), "n_tokens": 11, "n_outputs": 3}
BUILT = [
    ("cnn", IMAGE), ("image_resnet", IMAGE), ("fcn", SERIES), ("fcn", TEXT), ("gru", SERIES), ("gru", TEXT),
    ("transformer", SERIES), ("transformer", TEXT), ("text_cnn", TEXT),
]  # fmt: skip


def inputs(data: dict[str, Any], rows: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    if data.get("n_tokens"):
        codes = torch.randint(1, data["n_tokens"], (rows, *data["input_shape"]), generator=generator)
        codes[0, 4:] = 0  # a short text
        return codes
    return torch.randn(rows, *data["input_shape"], generator=generator)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("name", "data"), BUILT)
def test_outputs_have_the_shape_and_depend_on_every_row_alone(name: str, data: dict[str, Any]) -> None:
    net = MODELS[name](**data).eval()
    x = inputs(data)
    out = net(x)
    assert out.shape == (6, 3)
    torch.testing.assert_close(net(x[2:3]), out[2:3], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(out[1], out[2])


@pytest.mark.parametrize(("name", "data"), BUILT)
def test_own_space_is_legal(name: str, data: dict[str, Any]) -> None:
    cls: Any = MODELS[name]
    defaults = cls.__init__.__kwdefaults__  # all hyperparameters are keyword-only
    study = Study.model_validate({"name": "s", "data": {"source": "x.csv", "target": "y"}})
    space = build_space(study, cls.space, defaults)
    assert {n: v for n, v in space.default().items() if n in defaults} == defaults
    assert set(cls.space) <= set(space.searched())


def test_cnn_is_the_sequential_of_its_layers() -> None:
    net = CNN((1, 8, 8), 3, depth=2, channels=4, width=5, dropout=0.0)
    twin = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(8 * 2 * 2, 5), nn.ReLU(), nn.Linear(5, 3),
    )  # fmt: skip
    with torch.no_grad():
        for to, source in zip(twin.parameters(), net.parameters(), strict=True):
            to.copy_(source)
    torch.testing.assert_close(net(inputs(IMAGE)), twin(inputs(IMAGE)))


@pytest.mark.parametrize(
    ("hyper", "expected"),
    [
        # blocks 9 * 4 + 8 and 9 * 4 * 8 + 16; dense 8 * 2 * 2 * 5 + 5; head 5 * 3 + 3
        ({}, 44 + 304 + 165 + 18),
        ({"normalisation": "none"}, 40 + 296 + 165 + 18),
        ({"residual": True}, 44 + 4 + 304 + 32 + 165 + 18),
        ({"head": "average"}, 44 + 304 + 45 + 18),
        ({"width": 0}, 44 + 304 + 32 * 3 + 3),
        ({"edges": "sobel"}, 44 + 36 + 304 + 165 + 18),  # two channels come in
        ({"pooling": "stride", "kernel_size": 5}, 108 + 816 + 165 + 18),
        ({"depth": 5, "growth": 1.0, "width": 0}, 44 + 4 * (144 + 8) + 15),  # 8, 4, 2, 1, 1, 1 places
    ],
    ids=str,
)
def test_cnn_parameters_counted_by_hand(hyper: dict[str, Any], expected: int) -> None:
    net = CNN((1, 8, 8), 3, **{"depth": 2, "channels": 4, "width": 5, **hyper})
    assert count(net) == expected
    assert net.eval()(inputs(IMAGE)).shape == (6, 3)


def test_edges_are_sobel_s() -> None:
    x = torch.randn(2, 3, 9, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    out = SobelEdges()(x)
    assert torch.equal(out[:, :3], x)
    for b, c in np.ndindex(2, 3):
        along, across = (ndimage.sobel(x[b, c].numpy(), axis, mode="nearest") for axis in (0, 1))
        np.testing.assert_allclose(out[b, 3 + c].numpy(), np.hypot(along, across) / 8, rtol=1e-12)


def test_odd_images_keep_their_places() -> None:
    for pooling, places in (("max", 3), ("stride", 4)):  # 7 / 2 rounded down, and up
        net = CNN((2, 7, 5), 3, depth=1, channels=4, width=0, pooling=pooling)
        assert net.head[-1].in_features == 4 * places * (2 if pooling == "max" else 3)
        assert net(torch.randn(2, 2, 7, 5)).shape == (2, 3)


def test_image_resnet_20_has_the_size_of_the_paper() -> None:
    net = ImageResNet((3, 32, 32), 10, depth=3)
    layers = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and m.weight.shape[-1] != 1]
    assert len(layers) == 20
    assert round(count(net) / 1e6, 2) == 0.27
    assert net.first(torch.zeros(1, 3, 32, 32)).shape == (1, 16, 32, 32)
    assert net.blocks(net.first(torch.zeros(1, 3, 32, 32))).shape == (1, 64, 8, 8)


def test_a_residual_block_adds_its_input() -> None:
    net = ImageResNet((1, 8, 8), 3, channels=4, normalisation="none")
    block: Any = net.blocks[0]
    x = torch.randn(2, 4, 8, 8)
    first, second = block.body[0], block.body[3]
    inner = F.conv2d(F.relu(F.conv2d(x, first.weight, first.bias, padding=1)), second.weight, second.bias, padding=1)
    torch.testing.assert_close(block(x), F.relu(inner + x))


def test_fcn_is_that_of_the_paper() -> None:
    net = FCN((1, 24), 0, 2, channels=128)
    kernels = [(m.out_channels, m.kernel_size[0]) for m in net.modules() if isinstance(m, nn.Conv1d)]
    assert kernels == [(128, 8), (256, 5), (128, 3)]
    x = torch.randn(4, 1, 24)
    expected = x
    for conv, norm in ((net.blocks[0], net.blocks[1]), (net.blocks[4], net.blocks[5]), (net.blocks[8], net.blocks[9])):
        expected = F.conv1d(F.pad(expected, (conv.kernel_size[0] // 2,) * 2), conv.weight)
        mean, var = expected.mean((0, 2)), expected.var((0, 2), unbiased=False)
        expected = F.relu((expected - mean[:, None]) / (var[:, None] + norm.eps).sqrt())
    torch.testing.assert_close(net(x), net.head(expected.mean(2)), rtol=1e-4, atol=1e-5)


def test_text_cnn_takes_the_largest_answer_of_each_convolution() -> None:
    net = TextCNN((9,), 11, 3, embedding_dim=4, channels=2).eval()
    x = inputs(TEXT)
    table = net.tokens.table.weight.detach().clone()
    table[0] = 0
    vectors = table[x].transpose(1, 2)
    found = []
    for conv in net.convolutions:
        around = F.pad(vectors, (conv.kernel_size[0] // 2,) * 2)
        answer = F.relu(F.conv1d(around, conv.weight, conv.bias))
        found.append(answer.max(2).values)
    assert [conv.kernel_size[0] for conv in net.convolutions] == [3, 4, 5]
    torch.testing.assert_close(net(x), net.head(torch.cat(found, 1)))


@pytest.mark.parametrize("backwards", [False, True])
def test_the_recurrence_is_torch_s_gru(backwards: bool) -> None:
    own, theirs = Recurrence(3, 5), nn.GRU(3, 5, batch_first=True)
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(own.into.weight)
        theirs.bias_ih_l0.copy_(own.into.bias)
        theirs.weight_hh_l0.copy_(own.across.weight)
        theirs.bias_hh_l0.copy_(own.across.bias)
    x = torch.randn(4, 7, 3)
    _, last = theirs(x.flip(1) if backwards else x)
    torch.testing.assert_close(own(x, None, backwards=backwards), last[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["gru", "transformer"])
def test_padding_changes_nothing(name: str) -> None:
    cls: Any = MODELS[name]
    short, long = (cls((length,), 11, 3).eval() for length in (6, 9))
    state = {n: t for n, t in short.state_dict().items() if n != "places"}
    if name == "transformer":
        state["places"] = torch.cat([short.places.detach(), torch.randn(3, 64)])
    long.load_state_dict(state)
    x = inputs(TEXT)[:, :6]
    torch.testing.assert_close(long(F.pad(x, (0, 3))), short(x), rtol=1e-5, atol=1e-6)


def test_an_encoder_block_is_torch_s_encoder_layer() -> None:
    own = EncoderBlock(8, 2, 16, "gelu", 0.0)
    theirs = nn.TransformerEncoderLayer(8, 2, 16, 0.0, F.gelu, batch_first=True, norm_first=True)
    pairs = {
        "self_attn.in_proj_weight": own.asked.weight, "self_attn.in_proj_bias": own.asked.bias,
        "self_attn.out_proj.weight": own.answer[0].weight, "self_attn.out_proj.bias": own.answer[0].bias,
        "linear1.weight": own.feed[1].weight, "linear1.bias": own.feed[1].bias,
        "linear2.weight": own.feed[3].weight, "linear2.bias": own.feed[3].bias,
        "norm1.weight": own.norm.weight, "norm1.bias": own.norm.bias,
        "norm2.weight": own.feed[0].weight, "norm2.bias": own.feed[0].bias,
    }  # fmt: skip
    theirs.load_state_dict({name: tensor.detach() for name, tensor in pairs.items()})
    x, there = torch.randn(3, 5, 8), torch.ones(3, 5)
    there[0, 3:] = 0
    expected = theirs(x, src_key_padding_mask=there == 0)
    torch.testing.assert_close(own(x, there), expected, rtol=1e-5, atol=1e-5)


def test_an_empty_text_has_finite_outputs_and_gradients() -> None:
    for name in ("fcn", "gru", "transformer", "text_cnn"):
        net: Any = MODELS[name]((5,), 7, 2)
        out = net(torch.zeros(2, 5, dtype=torch.int64))
        torch.autograd.backward(out.sum())
        assert torch.isfinite(out).all()
        assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


def test_padding_has_a_zero_vector_that_training_leaves() -> None:
    layer = TokenEmbedding(5, 3)
    x = torch.tensor([[1, 0], [4, 2]])
    out = layer(x)
    assert out[0, 1].eq(0).all() and torch.equal(out[1, 0], layer.table.weight[4])
    torch.autograd.backward(out.square().sum())
    assert layer.table.weight.grad is not None and layer.table.weight.grad[0].eq(0).all()


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("kind", ["none", "batch", "group", "layer"])
def test_channel_normalisation_by_hand(kind: str, dims: int) -> None:
    x = torch.randn(4, 12, *(5,) * dims)
    layers = nn.Sequential(*channel_normalisation(kind, 12, dims))
    groups = {"group": 6, "layer": 1}.get(kind)  # of up to 8, 6 is the largest that divides 12
    expected = x
    if kind == "batch":
        places = (0, *range(2, 2 + dims))
        expected = (x - x.mean(places, keepdim=True)) / (x.var(places, unbiased=False, keepdim=True) + 1e-5).sqrt()
    if groups:
        grouped = x.reshape(4, groups, -1)
        expected = (grouped - grouped.mean(2, keepdim=True)) / (
            grouped.var(2, unbiased=False, keepdim=True) + 1e-5
        ).sqrt()
    torch.testing.assert_close(layers(x), expected.reshape(x.shape), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scheme", [s for s in INITIALISATIONS if s not in ("default", "orthogonal")])
def test_a_convolution_starts_with_the_deviation_its_paper_gives(scheme: str) -> None:
    torch.manual_seed(0)
    layer = convolution(2, 40, 60, 3, initialisation=scheme, activation="relu")
    d_in, d_out = 40 * 9, 60 * 9
    fan = d_in if scheme.startswith("kaiming") else (d_in + d_out) / 2
    assert layer.bias is not None and layer.bias.eq(0).all()
    assert layer.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.02)


@pytest.mark.parametrize(
    ("name", "data", "hyper", "said"),
    [
        ("cnn", IMAGE, {"pooling": "min"}, "pooling='min' is not one of max, average, stride"),
        ("cnn", IMAGE, {"edges": "canny"}, "edges='canny' is not one of none, sobel"),
        ("image_resnet", IMAGE, {"edges": "canny"}, "edges='canny' is not one of none, sobel"),
        ("cnn", IMAGE, {"head": "last"}, "head='last' is not one of flatten, average"),
        ("cnn", IMAGE, {"depth": 0}, "depth=0 is not an integer of at least 1"),
        ("cnn", IMAGE, {"growth": 0.01}, "channels_of_a_block=0 is not an integer of at least 1"),
        ("cnn", IMAGE, {"kernel_size": 4}, "kernel_size=4 is even; a block keeps the size of its image"),
        ("cnn", IMAGE, {"normalisation": "rms"}, "normalisation='rms' is not one of none, batch, group, layer"),
        ("image_resnet", IMAGE, {"channels": 0}, "channels=0 is not an integer of at least 1"),
        ("fcn", SERIES, {"activation": "rleu"}, "activation='rleu' is not one of relu"),
        ("gru", SERIES, {"width": 0}, "width=0 is not an integer of at least 1"),
        ("transformer", SERIES, {"width": 30}, "width=30 is not a multiple of heads=4"),
        ("text_cnn", TEXT, {"widths": 0}, "widths=0 is not an integer of at least 1"),
        ("text_cnn", TEXT, {"initialisation": "he"}, "initialisation='he' is not one of default"),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_by_name(name: str, data: dict[str, Any], hyper: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        MODELS[name](**data, **hyper)


def test_gru_reads_both_ways() -> None:
    net = GRU((2, 9), 0, 3, dropout=0.0)
    x = inputs(SERIES)
    forward, backward = net.directions
    steps = x.transpose(1, 2)
    expected = torch.cat([forward(steps, None, backwards=False), backward(steps.flip(1), None, backwards=False)], 1)
    torch.testing.assert_close(net(x), net.head(expected))


def test_transformer_knows_places_and_counts_them() -> None:
    net = Transformer((2, 9), 0, 3, dropout=0.0).eval()
    x = inputs(SERIES)
    assert net.places.shape == (9, 64)
    assert not torch.allclose(net(x), net(x.flip(2)))
    with torch.no_grad():
        net.places.zero_()
    torch.testing.assert_close(net(x), net(x.flip(2)), rtol=1e-4, atol=1e-5)  # without places, time has no order
