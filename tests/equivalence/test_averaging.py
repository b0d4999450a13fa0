"""Averaged weights: against torch's AveragedModel and sums written out, beside other lanes, and over a stop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from lanes import CLASSES, ended, lane, run, split
from test_lane_bits import bits

from lanewise.checkpoints import decode, encode
from lanewise.engine import Engine, reference
from lanewise.engine.averaging import shares
from lanewise.study import training_defaults

EMA, SWA = {"averaging": "ema", "ema_decay": 0.8}, {"averaging": "swa", "swa_share": 0.5}
HOW = {"width": 13, "norm": "batch", "rate": 0.2}


@pytest.mark.parametrize("change", [EMA, {**EMA, "ema_decay": 0.0}, SWA, {**SWA, "swa_share": 1.0}], ids=str)
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_averaged_weights_and_running_statistics_equal_the_slow_twins(
    change: dict[str, Any], norm: str
) -> None:
    data = split()
    # A bias before batch normalisation has no gradient but rounding, which Adam blows up to whole steps: sgd.
    config = {"optimizer": "sgd", "lr": 0.05, **change}
    made = [lane(k, epochs=4, config=config, **{**HOW, "norm": norm}) for k in range(3)]
    lanes = [replace(one, keep_best=False) for one in made]
    engine = ended(lanes, data)
    for one in lanes:
        _, shown = reference.train(one, data, CLASSES)
        got = engine.take(one.key)
        for name, expected in shown.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            assert torch.allclose(got.weights[name], expected, rtol=1e-4, atol=1e-5), name
        with torch.no_grad():
            assert torch.allclose(got.outputs, shown(*data.valid), atol=1e-4)


def test_the_average_is_what_is_validated_and_kept() -> None:
    """A rate so large that single weights jump: the mean scores otherwise than they do."""
    data = split()
    config = {"optimizer": "sgd", "momentum": 0.0, "lr": 2.0, "schedule": "constant"}
    plain, mean = (lane(0, epochs=6, config={**config, **c}) for c in ({}, EMA))
    curve, _ = reference.train(mean, data, CLASSES)
    reports = run([mean], [data])[0]
    assert [r.scores["accuracy"] for r in reports] == pytest.approx([e["accuracy"] for e in curve], abs=1e-6)
    other = run([plain], [data])[0]
    assert [r.train_loss for r in other] == [r.train_loss for r in reports]  # training does not know of it
    assert [r.scores for r in other] != [r.scores for r in reports]
    kept = ended([mean], data).take(0)
    right = (kept.outputs.argmax(1) == data.valid_target).float().mean().item()
    assert right == pytest.approx(max(e["accuracy"] for e in curve))


def test_an_average_begins_as_the_weights_themselves() -> None:
    config = {**training_defaults(), **SWA}
    table = np.concatenate([shares(config, e, 3, 4) for e in range(4)])
    assert table.tolist() == [0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0.5]
    ema = np.concatenate([shares({**config, **EMA}, e, 3, 4) for e in range(4)])
    weights = np.zeros(12)
    for t, share in enumerate(ema):
        weights *= 1 - share
        weights[t] = share
    assert weights == pytest.approx(0.8 ** np.arange(12)[::-1] / (0.8 ** np.arange(12)).sum())


def test_bits_of_averaged_lanes_do_not_depend_on_neighbours() -> None:
    data = split(rows=150)
    lanes = [
        lane(k, epochs=4, config=[EMA, SWA, {}, {**EMA, "ema_decay": 0.5}][k % 4], **HOW) for k in range(9)
    ]
    together = run(lanes, [data])
    in_twos = run(lanes, [data], chunk=2)
    for one in lanes:
        assert bits(run([one], [data]), one.key) == bits(together, one.key) == bits(in_twos, one.key)


@pytest.mark.parametrize("keep_best", [True, False])
def test_an_averaged_lane_goes_on_from_its_checkpoint_into_a_running_pool(keep_best: bool) -> None:
    data = split()
    lanes = [
        replace(lane(k, epochs=5, config=c, **HOW), keep_best=keep_best) for k, c in enumerate((EMA, SWA))
    ]
    whole, kept = run(lanes, [data]), {}
    engine = Engine([data], CLASSES, lanes=2)
    for one in lanes:
        engine.add(one)
    for _ in range(3):
        engine.tick()
    kept = decode(encode({str(k): engine.state(k) for k in range(2)}))
    again = Engine([data], CLASSES, lanes=4)
    again.add(lane(77, epochs=9, config=EMA, **HOW))
    again.tick()
    for one in lanes:
        again.add(one, kept[str(one.key)])
    again.add(lane(78, epochs=9, config=SWA, **HOW))
    for epoch in (3, 4):
        for report in again.tick():
            assert report.key > 2 or report == whole[report.key][epoch]
    expected = ended(lanes, data)
    for one in lanes:
        a, b = again.take(one.key), expected.take(one.key)
        assert all(torch.equal(a.weights[n], w) for n, w in b.weights.items())
