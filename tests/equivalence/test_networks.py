"""Every network that ships: stacked lanes against the slow twin, and their bits among neighbours.

Dropout of units and of channels, batch statistics, embeddings, recurrence and attention included.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from lanes import CLASSES, CONFIG, run

from lanewise.engine import Lane, SplitTensors, reference
from models import MODELS

TOLERANCE = 5e-5  # float32; two epochs of a small network, other order of additions
TABLE: dict[str, Any] = {"n_numeric": 4, "cardinalities": (3, 5), "n_outputs": 3}
IMAGE: dict[str, Any] = {"input_shape": (1, 8, 8), "n_outputs": 3}
SERIES: dict[str, Any] = {"input_shape": (2, 12), "n_tokens": 0, "n_outputs": 3}
TEXT: dict[str, Any] = {"input_shape": (12,), "n_tokens": 20, "n_outputs": 3}
# rates that differ between lanes are named by the lane; the rest makes the network small
NETWORKS: dict[str, tuple[str, dict[str, Any], dict[str, Any], tuple[str, ...]]] = {
    "cnn": ("cnn", IMAGE, {"channels": 4, "width": 8}, ("dropout", "channel_dropout")),
    "cnn-group": (
        "cnn", IMAGE,
        {"channels": 4, "width": 0, "normalisation": "group", "pooling": "average", "residual": True, "kernel_size": 5},
        ("dropout",),
    ),
    "cnn-stride": ("cnn", IMAGE, {"channels": 4, "pooling": "stride", "head": "average"}, ("dropout",)),
    "cnn-edges": ("cnn", IMAGE, {"channels": 4, "width": 8, "edges": "sobel"}, ("dropout", "channel_dropout")),
    "image_resnet-edges": ("image_resnet", IMAGE, {"channels": 4, "edges": "sobel"}, ("dropout", "channel_dropout")),
    "mlp-bins": ("mlp", TABLE, {"width": 8, "numeric_embedding": "bins", "numeric_embedding_dim": 3}, ("dropout",)),
    "mlp-interactions": ("mlp", TABLE, {"width": 8, "interactions": 4}, ("dropout",)),
    "resnet-both": (
        "resnet", TABLE,
        {"width": 8, "interactions": 3, "numeric_embedding": "bins", "numeric_embedding_dim": 4},
        ("dropout", "residual_dropout"),
    ),
    "image_resnet": ("image_resnet", IMAGE, {"channels": 4}, ("dropout", "channel_dropout")),
    "fcn": ("fcn", SERIES, {"channels": 4}, ("dropout",)),
    "fcn-text": ("fcn", TEXT, {"channels": 4, "embedding_dim": 6, "normalisation": "layer"}, ("dropout",)),
    "gru": ("gru", SERIES, {"width": 5}, ("dropout", "input_dropout")),
    "gru-text": ("gru", TEXT, {"width": 5, "embedding_dim": 6}, ("dropout", "input_dropout")),
    "text_cnn": ("text_cnn", TEXT, {"channels": 5, "embedding_dim": 6}, ("dropout", "token_dropout")),
    "transformer": ("transformer", SERIES, {"width": 8, "heads": 2}, ("dropout", "input_dropout")),
    "transformer-text": ("transformer", TEXT, {"width": 8, "heads": 2}, ("dropout", "input_dropout")),
}  # fmt: skip


def rows(data: dict[str, Any], count: int = 48) -> SplitTensors:
    """Random rows; three quarters train."""
    g = torch.Generator().manual_seed(0)
    tokens = data.get("n_tokens")
    if "n_numeric" in data:
        codes = [torch.randint(0, n, (count,), generator=g) for n in data["cardinalities"]]
        x = [torch.randn(count, data["n_numeric"], generator=g), torch.stack(codes, dim=1)]
    else:
        shape = (count, *data["input_shape"])
        x = [torch.randint(0, tokens, shape, generator=g) if tokens else torch.randn(shape, generator=g)]
    y = torch.randint(0, 3, (count,), generator=g)
    cut = 3 * count // 4
    return SplitTensors(tuple(one[:cut] for one in x), y[:cut], tuple(one[cut:] for one in x), y[cut:])


def lane(key: int, which: str, epochs: int = 2) -> Lane:
    """A lane with its own seed, network, learning rate and dropout rates."""
    name, data, hyper, rates = NETWORKS[which]
    drawn = dict.fromkeys(rates, 0.1 * (key % 5))
    with torch.random.fork_rng():
        torch.manual_seed(key)
        module = MODELS[name](**data, **hyper, **drawn)
    config = {**CONFIG, "lr": 1e-3 * (1 + key / 7)}
    return Lane(key, 1000 + key, config, module, which, epochs, batch=16)


def bits(reports: list[Any]) -> list[Any]:
    """Everything a lane reported, as exact floats."""
    return [(r.epoch, r.train_loss.hex(), {n: v.hex() for n, v in r.scores.items()}) for r in reports]


@pytest.mark.parametrize("which", NETWORKS)
def test_stacked_lanes_equal_the_slow_twin(which: str) -> None:
    data = rows(NETWORKS[which][1])
    lanes = [lane(k, which) for k in range(3)]
    curves = run(lanes, [data])
    for one in lanes:
        expected, _ = reference.train(lane(int(one.key), which), data, CLASSES)
        got = [r.train_loss for r in curves[one.key]]
        assert np.allclose(got, [e["train/loss"] for e in expected], rtol=TOLERANCE)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("which", NETWORKS)
def test_a_lane_has_the_same_bits_alone_and_among_neighbours(which: str, threads: int) -> None:
    data = rows(NETWORKS[which][1])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        alone = {k: bits(run([lane(k, which)], [data])[k]) for k in (0, 4)}
        for count, chunk in ((5, None), (17, 8)):
            together = run([lane(k, which) for k in range(count)], [data], chunk=chunk)
            for k, expected in alone.items():
                assert bits(together[k]) == expected, f"lane {k} of {count}, chunk {chunk}"
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("which", NETWORKS)
def test_no_network_falls_back_to_one_after_another(which: str) -> None:
    from lanewise.engine.engine import Engine

    engine = Engine([rows(NETWORKS[which][1])], CLASSES, lanes=2)
    engine.add(lane(0, which, epochs=1))
    engine.tick()
    assert engine.notes == []
