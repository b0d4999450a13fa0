"""A lane does not know its neighbours: the same bits whatever the number, place and fate of the others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from lanes import CLASSES, VALUES, lane, run, split
from torch import nn

from lanewise.engine.engine import Engine

ODD = {"width": 13}


def bits(reports: dict[Any, list[Any]], key: int) -> list[Any]:
    """Everything a lane reported, as exact floats."""
    return [(r.epoch, r.train_loss.hex(), {n: v.hex() for n, v in r.scores.items()}) for r in reports[key]]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "how",
    [
        {},
        ODD,
        {**ODD, "norm": "layer", "activation": nn.GELU},
        {**ODD, "norm": "batch", "activation": nn.SiLU, "rate": 0.3},
        {"width": 64, "rate": 0.2, "activation": nn.Tanh},
        {"width": 130, "norm": "batch"},
    ],
    ids=str,
)
def test_bits_do_not_depend_on_the_number_of_lanes_threads_or_chunks(
    how: dict[str, Any], threads: int
) -> None:
    data = split(rows=330)
    before = torch.get_num_threads()
    alone = {k: bits(run([lane(k, epochs=2, **how)], [data]), k) for k in (0, 5, 63)}
    torch.set_num_threads(threads)
    try:
        for count, chunk in ((1, None), (7, None), (64, 64), (64, 24)):
            together = run([lane(k, epochs=2, **how) for k in range(count)], [data], chunk=chunk)
            for k, expected in alone.items():
                if k < count:
                    assert bits(together, k) == expected, f"lane {k} of {count}, chunk {chunk}"
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_bits_do_not_depend_on_neighbours_of_other_optimisers(optimizer: str) -> None:
    data = split()
    own = {"optimizer": optimizer, "clip": 0.5, "class_weight": "balanced", "schedule": "plateau"}
    alone = bits(run([lane(3, config=own, **ODD)], [data]), 3)
    names = ["sgd", "adam", "adamw", "rmsprop"]
    mixed = [lane(k, config={"optimizer": names[k % 4]}, **ODD) for k in range(12) if k != 3]
    assert bits(run([*mixed[:7], lane(3, config=own, **ODD), *mixed[7:]], [data]), 3) == alone


def test_bits_do_not_depend_on_neighbours_with_other_losses_and_penalties() -> None:
    data = split()
    alone = bits(run([lane(3, **ODD)], [data]), 3)
    others = [lane(k, config={"l1": 0.1 * k, "class_weight": "balanced"}, **ODD) for k in range(3)]
    assert bits(run([*others, lane(3, **ODD)], [data]), 3) == alone
    values, goal = split(regression=True), replace(VALUES, loss="huber")
    how = {**ODD, "outputs": 1}
    alone = bits(run([lane(3, **how)], [values], goal), 3)
    others = [lane(k, config={"huber_delta": 0.1 + k}, **how) for k in range(3)]
    assert bits(run([lane(3, **how), *others], [values], goal), 3) == alone


def test_bits_do_not_depend_on_diverging_dropped_or_refilled_neighbours() -> None:
    data = split()
    alone = bits(run([lane(2, epochs=6, rate=0.2)], [data]), 2)
    engine = Engine([data], CLASSES, lanes=8)
    for k in range(4):
        config = {"optimizer": "sgd", "momentum": 0.0, "lr": 1e30} if k == 1 else None
        engine.add(lane(k, epochs=6, config=config, rate=0.2))
    seen: list[Any] = []
    failed = {}
    for tick in range(6):
        for report in engine.tick():
            if report.key == 2:
                seen.append(report)
            if report.failed:
                failed[report.key] = report.failed
        if tick == 1:
            engine.drop(0)
            engine.add(lane(20, epochs=2, rate=0.2))
        if tick == 3:
            engine.add(lane(21, epochs=1, rate=0.2))
    assert bits({2: seen}, 2) == alone
    assert list(failed) == [1] and failed[1].startswith("nonfinite loss at epoch 1, step")


def test_two_lanes_of_one_seed_and_configuration_are_one_lane_twice() -> None:
    data = split()
    twin = replace(lane(4, rate=0.3), key=99)
    reports = run([lane(4, rate=0.3), lane(1, rate=0.3), twin], [data])
    assert bits(reports, 4) == bits(reports, 99)
    assert bits(reports, 4) != bits(reports, 1)


def test_taken_weights_are_those_of_the_best_epoch() -> None:
    data = split()
    one = lane(0, epochs=8, config={"schedule": "constant", "lr": 0.05}, norm="batch")
    engine = Engine([data], CLASSES, lanes=1)
    engine.add(one)
    history = []
    while True:
        report = engine.tick()[0]
        history.append(report.scores["accuracy"])
        if report.finished:
            break
    result = engine.take(0)
    best = max(range(len(history)), key=lambda i: (history[i], -i)) + 1
    assert result.best_epoch == best == report.best_epoch
    module = lane(0, norm="batch").module
    module.load_state_dict(result.weights)
    module.eval()
    with torch.no_grad():
        outputs = module(*data.valid)
    assert torch.allclose(outputs, result.outputs, atol=1e-5)
    right = (outputs.argmax(1) == data.valid_target).float().mean().item()
    assert right == pytest.approx(history[best - 1])


def test_epochs_of_equal_objective_are_decided_by_the_tie_score() -> None:
    data = split()
    seen: list[float] = []

    def score(outputs: torch.Tensor, *_: torch.Tensor) -> dict[str, torch.Tensor]:
        seen.append([3.0, 2.0, 1.0, 2.0][len(seen)])
        return {"same": torch.zeros(len(outputs)), "loss": torch.full((len(outputs),), seen[-1])}

    goal = replace(CLASSES, score=score, objective="same", tie="loss")
    reports = run([lane(0, epochs=4)], [data], goal)[0]
    assert [r.best_epoch for r in reports] == [1, 2, 3, 3]


def test_patience_stops_a_lane_that_does_not_improve() -> None:
    data = split()
    still = replace(lane(0, epochs=30, config={"lr": 1e-12}), patience=4)
    reports = run([still, lane(1, epochs=3)], [data])
    assert len(reports[0]) == 5 and reports[0][-1].finished and reports[0][-1].best_epoch == 1
    assert len(reports[1]) == 3


@pytest.mark.parametrize("threads", [1, 2])
def test_a_lone_lane_with_one_output_has_the_bits_it_has_among_others(threads: int) -> None:
    """One output alone goes through BLAS as a vector's product: a replayed regression would differ."""
    data = [split(rows=330, regression=True)]
    how = {**ODD, "norm": "batch", "rate": 0.2, "outputs": 1}
    together = run([lane(k, **how) for k in range(9)], data, VALUES)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        alone = run([lane(4, **how)], data, VALUES)
    finally:
        torch.set_num_threads(before)
    assert bits(alone, 4) == bits(together, 4)
