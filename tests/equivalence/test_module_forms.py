"""Networks as users write them: stacked or one after another, they train as the plain module does with torch.optim.

Each form of module_forms.py against the slow twin, weights and buffers included, and its bits among neighbours.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from lanes import CLASSES, CONFIG, split
from module_forms import FORMS, Frozen
from test_lane_bits import bits

from lanewise.engine import Lane, reference
from lanewise.engine.engine import Engine
from lanewise.engine.stack import NotStackableError, Stack

TOLERANCE = 5e-5  # float32; a few epochs of a small network, other order of additions
REFUSED = [name for name, form in FORMS.items() if form.refused]


def lane(key: int, form: str, config: dict[str, Any] | None = None, epochs: int = 3) -> Lane:
    """A lane with its own seed, network, rate and dropout rate, that keeps its last epoch."""
    with torch.random.fork_rng():
        torch.manual_seed(key)
        module = FORMS[form](0.1 * (key % 4))
    # A bias before batch normalisation has no gradient but rounding, which Adam blows up to whole steps: sgd.
    own = {**CONFIG, "optimizer": "sgd", "lr": 0.02 * (1 + key / 7), **(config or {})}
    return Lane(key, 1000 + key, own, module, form, epochs, batch=16, keep_best=False)


def ended(lanes: list[Lane], data: Any, **how: Any) -> tuple[dict[Any, list[Any]], Engine]:
    """Lanes of equal length after their last tick: reports and the engine."""
    engine = Engine([data], CLASSES, lanes=len(lanes), **how)
    for one in lanes:
        engine.add(one)
    reports: dict[Any, list[Any]] = {one.key: [] for one in lanes}
    while engine.active:
        for report in engine.tick():
            reports[report.key].append(report)
    return reports, engine


def same_as_twin(lanes: list[Lane], data: Any) -> Engine:
    """Train them, and each by torch.optim; losses, scores, weights and buffers are compared."""
    twins = [replace(one, module=copy.deepcopy(one.module)) for one in lanes]
    curves, engine = ended(lanes, data)
    for twin in twins:
        expected, shown = reference.train(twin, data, CLASSES)
        reports, result = curves[twin.key], engine.take(twin.key)
        assert np.allclose([r.train_loss for r in reports], [e["train/loss"] for e in expected], rtol=TOLERANCE)
        if FORMS[twin.shape].alone:
            right = [e["accuracy"] for e in expected]
            assert [r.scores["accuracy"] for r in reports] == pytest.approx(right, abs=0.04)
        read = twin.module.state_dict()
        assert result.weights.keys() == read.keys()
        for name, value in shown.state_dict().items():
            if name.endswith("num_batches_tracked") and result.weights[name] == 0:
                continue  # of a layer that never reads it
            assert torch.allclose(result.weights[name], value, rtol=1e-3, atol=1e-5), name
    return engine


@pytest.mark.parametrize("form", FORMS)
def test_lanes_equal_the_slow_twin(form: str) -> None:
    engine = same_as_twin([lane(k, form) for k in range(3)], split())
    refused = FORMS[form].refused
    assert bool(engine.notes) == bool(refused), engine.notes
    if refused:
        (note,) = engine.notes
        assert note.startswith(f"{form}: lanes run one after another") and refused in note
        assert ". To have them stacked, " in note


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("form", FORMS)
def test_a_lane_has_the_same_bits_alone_and_among_neighbours(form: str, threads: int) -> None:
    """Alone, first and last of a whole chunk, and alone in the last chunk of five lanes."""
    data, before = split(rows=51), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        alone = {k: bits(ended([lane(k, form, epochs=2)], data)[0], k) for k in (1, 4)}
        for chunk in (5, 2):
            together, _ = ended([lane(k, form, epochs=2) for k in range(5)], data, chunk=chunk)
            for k, expected in alone.items():
                assert bits(together, k) == expected, f"lane {k}, chunk {chunk}"
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("form", ["Noise", "NumpyNoise", "OwnGenerator", "FunctionalDropout", "RecurrentDropout"])
def test_what_a_network_draws_is_the_lanes_own(form: str) -> None:
    """Two lanes of one seed draw the same, of two seeds not; and the process's generators stay where they were."""
    torch.manual_seed(5)
    state = torch.get_rng_state(), np.random.get_state()[1].tolist()
    same, other = replace(lane(0, form), key=1), replace(lane(0, form), key=2, seed=77)
    curves, _ = ended([lane(0, form), same, other], split())
    assert bits(curves, 0) == bits(curves, 1) != bits(curves, 2)
    assert torch.equal(torch.get_rng_state(), state[0]) and np.random.get_state()[1].tolist() == state[1]


@pytest.mark.parametrize("form", ["Counter", "CentreInPlace", "CentreAssigned", "NormTwice", "NormWithoutMomentum"])
@pytest.mark.parametrize("averaging", [{"averaging": "ema", "ema_decay": 0.8}, {"averaging": "swa", "swa_share": 0.6}])
def test_averages_of_buffers_equal_the_slow_twins(form: str, averaging: dict[str, Any]) -> None:
    same_as_twin([lane(k, form, averaging, epochs=4) for k in range(3)], split())


@pytest.mark.parametrize("form", ["Counter", "CentreInPlace", "CentreAssigned", "DropoutTwice", "NormTwice", "Noise"])
def test_a_lane_goes_on_from_its_state_with_the_same_bits(form: str) -> None:
    data = split()
    straight, _ = ended([lane(0, form)], data)
    first, second = (Engine([data], CLASSES, lanes=1) for _ in range(2))
    first.add(lane(0, form))
    first.tick()
    second.add(lane(0, form), first.state(0))
    rest = [*second.tick(), *second.tick()]
    assert bits({0: rest}, 0) == bits({0: straight[0][1:]}, 0)


@pytest.mark.parametrize("form", [name for name, cls in FORMS.items() if cls.gradient])
def test_a_lane_trains_as_ever_under_hypergradients(form: str) -> None:
    """They run every step a second time; buffers and draws may not notice."""
    data = split()
    plain, engine = ended([lane(k, form) for k in range(2)], data)
    sloped, other = ended([replace(lane(k, form), slopes=("lr", "weight_decay")) for k in range(2)], data)
    for key in (0, 1):
        for one, two in zip(plain[key], sloped[key], strict=True):
            assert one.train_loss == two.train_loss and one.scores["accuracy"] == two.scores["accuracy"]
            assert np.isfinite(two.scores["hyper/lr"]) and two.scores["hyper/lr"] != 0
        weights = engine.take(key).weights
        assert all(torch.equal(weights[n], w) for n, w in other.take(key).weights.items())


@pytest.mark.parametrize("form", ["CentreAssigned", "Noise", "DataDependent", "NormTwice", "Frozen"])
def test_hypergradients_equal_a_difference(form: str) -> None:
    """The loss of two rates a little apart, over their difference."""
    data, rate, apart = split(), 0.02, 2e-3
    config = {"momentum": 0.0, "warmup": 0.0, "weight_decay": 0.0, "clip": 0.0}
    made = [replace(lane(0, form, {**config, "lr": rate + d}), key=i, slopes=("lr",)) for i, d in
            enumerate((-apart, 0.0, apart))]  # fmt: skip
    curves, _ = ended(made, data)
    below, at, above = (curves[i][-1].scores for i in range(3))
    expected = (above["hyper/loss"] - below["hyper/loss"]) / (2 * apart)
    assert at["hyper/lr"] == pytest.approx(expected, rel=0.05)


def test_frozen_parameters_have_no_update_and_no_decay() -> None:
    one = lane(0, "Frozen", {"weight_decay": 0.5, "l1": 0.1, "optimizer": "adamw"})
    before = copy.deepcopy(one.module.state_dict())
    _, engine = ended([one, lane(1, "Frozen")], split())
    after = engine.take(0).weights
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved == {"head.weight", "head.bias", "scale", "norm.running_mean", "norm.running_var"}


def test_lanes_that_freeze_other_parts_are_not_of_one_shape() -> None:
    template, other = Frozen(), Frozen()
    other.body.requires_grad_(True)
    stack = Stack(template, [torch.randn(8, 7)])
    assert stack.read(Frozen()).flat.shape == (stack.padded,)
    with pytest.raises(NotStackableError, match="in what is frozen"):
        stack.read(other)


def test_evaluation_changes_no_buffer() -> None:
    counted, _ = ended([lane(0, "Counter")], split())
    always, engine = ended([lane(0, "CountsAlways")], split())
    steps = engine.take(0).weights["steps"].item()
    assert steps == 3 * 4  # epochs x batches of training
    assert [r.train_loss for r in always[0]] == [r.train_loss for r in counted[0]]
