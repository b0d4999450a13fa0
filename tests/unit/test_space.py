"""The space: defaults, conditions, keys, narrowing, uniform draws, and what a study may say of it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from lanewise.errors import StudyError
from lanewise.parameter import Parameter
from lanewise.space import Config, Space, build_space
from lanewise.study import TRAINING, Data, Model, Study
from lanewise.training import TRANSFER

NETWORK_SPACE = {
    "width": [32, 64, 128],
    "depth": {"low": 1, "high": 4},
    "dropout": {"low": 0, "high": 0.5, "step": 0.1},
    "embedding": ["none", "periodic"],
    "sigma": {"low": 0.01, "high": 10.0, "log": True, "when": {"embedding": "periodic"}},
}
NETWORK_DEFAULTS: Config = {
    "width": 64, "depth": 2, "dropout": 0.1, "embedding": "none", "sigma": 1.0, "activation": "relu",
    "norm": True,
}  # fmt: skip


def study(**space: object) -> Study:
    """A study made in Python with this space."""
    return Study.model_validate({"name": "s", "data": {"source": "a.csv", "target": "y"}, "space": space})


def built(**space: object) -> Space:
    return build_space(study(**space), NETWORK_SPACE, NETWORK_DEFAULTS)


# --- building


def test_the_default_study_searches_rate_decay_and_the_networks_ranges() -> None:
    space = built()
    assert space.searched() == ("lr", "weight_decay", "width", "depth", "dropout", "embedding", "sigma")
    assert set(space.parameters) == set(TRAINING) - set(TRANSFER) | set(NETWORK_DEFAULTS)
    assert space.parameters["lr"].bounds == (1e-5, 1e-1)
    assert space.default() == {
        "optimizer": "adamw", "lr": 1e-3, "weight_decay": 1e-4, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8,
        "schedule": "cosine", "warmup": 0.0, "min_lr_factor": 0.0, "clip": 0.0, "batch_size": 64,
        "loss": "auto",
        "label_smoothing": 0.0, "class_weight": "none", "l1": 0.0, "averaging": "none",
        "mixing": "none", "augmentation": "none",
        "width": 64, "depth": 2, "dropout": 0.1,
        "embedding": "none", "activation": "relu", "norm": True,
    }  # fmt: skip


def test_the_study_wins_over_the_network() -> None:
    space = built(width=16, depth=[1, 8], lr=0.5, activation=["relu", "tanh"])
    assert (space.parameters["width"].kind, space.parameters["depth"].listed) == ("fixed", (1, 8))
    assert space.searched() == ("weight_decay", "depth", "dropout", "embedding", "sigma", "activation")
    assert (space.default()["width"], space.default()["depth"], space.default()["lr"]) == (16, 1, 0.5)


def test_values_take_the_type_of_the_default() -> None:
    space = built(dropout={"low": 0, "high": 1}, width=[16, 32.0], clip=[0, 1], depth=3.0)
    assert space.parameters["dropout"].kind == "float"
    assert [type(v) for v in space.parameters["width"].listed] == [int, int]
    assert [type(v) for v in space.parameters["clip"].listed] == [float, float]
    assert type(space.default()["depth"]) is int


def test_a_single_choice_is_a_fixed_value() -> None:
    assert built(width=[48]).parameters["width"].kind == "fixed"


def test_training_conditions_hold_by_themselves() -> None:
    space = built(
        optimizer=["sgd", "adamw"], momentum={"low": 0.5, "high": 0.9}, schedule=["step", "constant"]
    )
    sgd = space.default({"optimizer": "sgd", "schedule": "step"})
    assert {"momentum", "nesterov", "step_epochs", "gamma"} <= set(sgd)
    assert not {"beta1", "beta2", "eps", "alpha", "min_lr_factor", "restart_epochs"} & set(sgd)
    assert sgd["momentum"] == 0.9
    adamw = space.default({"schedule": "constant"})
    assert {"beta1", "beta2", "eps"} <= set(adamw)
    assert not {"momentum", "nesterov", "gamma", "step_epochs"} & set(adamw)


def test_conditions_add_up() -> None:
    space = built(
        optimizer=["sgd", "rmsprop", "adam"],
        momentum={"low": 0.5, "high": 0.9, "when": {"optimizer": ["sgd", "adam"], "depth": [1, 2]}},
        sigma={"low": 1, "high": 2, "when": {"width": 128}},
    )
    assert space.parameters["momentum"].when == {"optimizer": ("sgd",), "depth": (1, 2)}
    assert space.parameters["sigma"].when == {"embedding": ("periodic",), "width": (128,)}
    assert space.parameters["sigma"].bounds == (1.0, 2.0)


def test_a_condition_on_a_constant_is_settled() -> None:
    def with_embedding(value: str) -> Space:
        plain = Study(name="s", data=Data(source="a", target="y"), model=Model(args={"embedding": value}))
        return build_space(plain, NETWORK_SPACE, NETWORK_DEFAULTS)

    assert with_embedding("periodic").parameters["sigma"].when == {}
    assert "sigma" in with_embedding("periodic").searched()
    assert "sigma" not in with_embedding("none").parameters
    assert "embedding" not in with_embedding("none").parameters


def test_what_can_never_be_active_is_not_searched() -> None:
    assert "sigma" not in built(embedding="none").searched()
    assert "sigma" in built(embedding="periodic").searched()


# --- configurations


def test_equal_configurations_have_one_key() -> None:
    space = built(optimizer=["sgd", "adamw"], momentum=[0.5, 0.9])
    default = space.default()
    assert (
        space.key(default)
        == space.key({**default, "momentum": 0.5})
        == space.key(dict(reversed(default.items())))
    )
    assert space.key(default) == space.key(
        {**default, "depth": 2.0, "warmup": 0, "dropout": 0.30000000000000004 - 0.2}
    )
    assert space.key(default) != space.key({**default, "depth": 3})
    sgd = space.default({"optimizer": "sgd"})
    assert space.key(sgd) != space.key({**sgd, "momentum": 0.5})
    assert json.loads(space.key(default)) == default
    assert '"lr":0.001,' in space.key(default)


def test_contains_by_hand() -> None:
    space = built(optimizer=["sgd", "adamw"], momentum=[0.5, 0.9])
    default = space.default()
    assert space.contains(default)
    for changes, legal in [
        ({"lr": 1e-5}, True), ({"lr": 9e-6}, False), ({"lr": "x"}, False), ({"lr": True}, False),
        ({"width": 64.0}, True), ({"width": 63}, False), ({"depth": 2.5}, False), ({"depth": 5}, False),
        ({"dropout": 0.3}, True), ({"dropout": 0.35}, False), ({"norm": 1}, False), ({"momentum": 7.0}, True),
        ({"optimizer": "sgd"}, False), ({"optimizer": "sgd", "momentum": 0.5, "nesterov": False}, True),
        ({"unknown": 1}, False), ({"lr": math.nan}, False),
    ]:  # fmt: skip
        assert space.contains({**default, **changes}) is legal, changes
    assert not space.contains({})


def test_complete_fills_what_is_fixed_and_asks_for_what_is_not() -> None:
    space = built()
    drawn = {
        "lr": 0.01,
        "weight_decay": 1e-5,
        "width": 32,
        "depth": 1,
        "dropout": 0.0,
        "embedding": "none",
        "sigma": 3.0,
    }
    config = space.complete(drawn)
    assert config["optimizer"] == "adamw"
    assert "sigma" not in config
    assert space.contains(config)
    with pytest.raises(StudyError, match="lacks a value"):
        space.complete({"lr": 0.01})
    with pytest.raises(StudyError, match="did you mean `lr`"):
        space.complete({"lrr": 0.01})


def test_defaults_outside_a_range_move_to_the_nearest_legal_value() -> None:
    space = built(
        lr={"low": 0.01, "high": 0.1}, width=[128, 256], dropout={"low": 0.2, "high": 0.5, "step": 0.15},
        activation=["tanh", "gelu"], depth={"low": 4, "high": 8, "step": 2},
    )  # fmt: skip
    default = space.default()
    assert (default["lr"], default["width"], default["dropout"]) == (0.01, 128, 0.2)
    assert (default["activation"], default["depth"]) == ("tanh", 4)


def test_a_missing_default_is_the_middle() -> None:
    ranges = {
        "a": Parameter(low=1e-4, high=1e-2, log=True), "b": Parameter(low=0, high=10),
        "c": Parameter(choices=("x", "y")),
        "d": Parameter(low=-1.0, high=2.0),
    }  # fmt: skip
    assert Space(ranges, {}).default() == {"a": pytest.approx(1e-3), "b": 5, "c": "x", "d": 0.5}


def test_parents_come_before_children() -> None:
    space = Space(
        {
            "c": Parameter(value=1, when={"b": (2,)}),
            "b": Parameter(value=2, when={"a": (3,)}),
            "a": Parameter(value=3),
        },
        {},
    )
    assert list(space.parameters) == ["a", "b", "c"]
    with pytest.raises(StudyError, match="cycle"):
        Space({"a": Parameter(value=1, when={"b": (2,)}), "b": Parameter(value=2, when={"a": (1,)})}, {})
    with pytest.raises(StudyError, match="unknown hyperparameter `z`"):
        Space({"a": Parameter(value=1, when={"z": (2,)})}, {})


def test_a_child_of_an_inactive_parent_is_inactive() -> None:
    space = Space(
        {
            "a": Parameter(choices=(1, 2)),
            "b": Parameter(choices=(1, 2), when={"a": (1,)}),
            "c": Parameter(value=9, when={"b": (1,)}),
        },
        {},
    )
    assert space.active({"a": 2, "b": 1, "c": 9}) == {"a": 2}
    assert space.active({"a": 1, "b": 1, "c": 9}) == {"a": 1, "b": 1, "c": 9}
    assert space.active({"a": 1, "b": 2, "c": 9}) == {"a": 1, "b": 2}


# --- narrowing, by hand


def test_narrow_and_widen_by_hand() -> None:
    space = built()
    narrow = space.narrow("lr", 1e-3, 1e-2)
    assert narrow.parameters["lr"].bounds == (1e-3, 1e-2)
    assert narrow.wide("lr").bounds == (1e-5, 1e-1)
    assert narrow.widen("lr", 10).parameters["lr"].bounds == (1e-4, 1e-1)
    assert narrow.widen("lr", 1e9) == space
    assert narrow.narrow("lr", 5e-3, 1).parameters["lr"].bounds == (5e-3, 1e-2)
    assert space.parameters["lr"].bounds == (1e-5, 1e-1)
    assert space.narrow("dropout", 0.11, 0.44).parameters["dropout"].bounds == (0.2, 0.4)
    assert space.narrow("dropout", 0.1, 0.3).widen("dropout", 2).parameters["dropout"].bounds == (0.0, 0.4)
    assert space.narrow("depth", 1.5, 2.5).parameters["depth"].value == 2
    assert space.narrow("depth", 1.5, 2.5).searched() == tuple(n for n in space.searched() if n != "depth")
    assert space.narrow("depth", 2, 2).wide("depth").bounds == (1, 4)


def test_narrowing_keeps_the_default_and_its_legality() -> None:
    narrow = built().narrow("lr", 1e-2, 1e-1)
    assert narrow.default()["lr"] == 1e-3
    assert narrow.contains(narrow.default())


@pytest.mark.parametrize(
    ("name", "low", "high", "expected"),
    [
        ("lr", 1.0, 2.0, "nothing is left"),
        ("lr", math.nan, 1.0, "nothing is left"),
        ("lr", 0.1, 0.01, "nothing is left"),
        ("depth", 2.1, 2.9, "nothing is left"),
        ("width", 32, 64, "only a range"),
        ("optimizer", 1, 2, "only a range"),
        ("lrr", 1, 2, "did you mean `lr`"),
    ],
)
def test_narrowing_to_nothing_is_refused(name, low, high, expected) -> None:
    with pytest.raises(StudyError, match=expected):
        built().narrow(name, low, high)


@pytest.mark.parametrize("factor", [0.5, -1, math.inf, math.nan])
def test_widening_needs_a_factor_of_at_least_one(factor) -> None:
    with pytest.raises(StudyError, match="cannot be widened"):
        built().widen("lr", factor)


# --- properties of any space


@st.composite
def ranges(draw) -> Parameter:
    kind = draw(
        st.sampled_from(["fixed", "choice", "int", "int log", "float", "float log", "int step", "float step"])
    )
    values = st.text("ab", max_size=3) | st.integers(-5, 5) | st.floats(-5, 5) | st.booleans()
    if kind == "fixed":
        return Parameter(value=draw(values))
    if kind == "choice":
        return Parameter(choices=tuple(draw(st.lists(values, min_size=1, max_size=4, unique=True))))
    if kind.startswith("int"):
        low, step = draw(st.integers(1, 100)), draw(st.integers(1, 7)) if kind == "int step" else None
        high = low + (step or 1) * draw(st.integers(1, 50))
        return Parameter(low=low, high=high, log=kind == "int log", step=step)
    low = draw(st.floats(1e-6, 10))
    if kind == "float step":
        step = draw(st.sampled_from([0.1, 0.25, 1.0, 1e-3, 1 / 3]))
        return Parameter(low=low, high=low + step * draw(st.integers(1, 50)), step=step)
    high = low * draw(st.floats(1.001, 1e6))
    return Parameter(low=low, high=high, log=kind == "float log")


@st.composite
def spaces(draw) -> Space:
    names = draw(st.permutations("abcdef"))[: draw(st.integers(1, 6))]
    parameters: dict[str, Parameter] = {}
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    for name in names:
        parameter = draw(ranges())
        if parameters and draw(st.booleans()):
            parent = draw(st.sampled_from(sorted(parameters)))
            when = {parent: tuple(parameters[parent].draw(rng) for _ in range(2))}
            parameter = parameter.model_copy(update={"when": when})
        parameters[name] = parameter
    defaults = {name: parameters[name].draw(rng) for name in names if draw(st.booleans())}
    return Space(dict(draw(st.permutations(list(parameters.items())))), defaults)


@settings(max_examples=150, deadline=None)
@given(spaces(), st.integers(0, 2**32))
def test_defaults_and_draws_are_contained(space: Space, seed: int) -> None:
    assert space.contains(space.default())
    rng = np.random.default_rng(seed)
    for wide in (False, True):
        config = space.sample_uniform(rng, wide=wide)
        assert space.contains(config)
        assert space.active(config) == config
        assert space.key(config) == space.key(space.active(config))
        assert json.loads(space.key(config)) == config
        assert space.complete(config) == config


@settings(max_examples=150, deadline=None)
@given(spaces())
def test_json_gives_the_equal_space_back(space: Space) -> None:
    for name in space.searched():
        if space.parameters[name].low is not None:
            low, high = space.parameters[name].bounds
            space = space.narrow(name, low, low + 0.6 * (high - low))
    again = Space.from_json(json.loads(json.dumps(space.to_json())))
    assert again == space
    assert list(again.parameters) == list(space.parameters)
    assert again.default() == space.default()


@settings(max_examples=200, deadline=None)
@given(spaces(), st.data())
def test_narrow_and_widen_keep_order_and_bounds(space: Space, data) -> None:
    names = [name for name in space.searched() if space.parameters[name].low is not None]
    assume(names)
    name = data.draw(st.sampled_from(names))
    first, last = space.wide(name).bounds
    a, b = sorted(data.draw(st.tuples(st.floats(0, 1), st.floats(0, 1))))
    try:
        narrow = space.narrow(name, first + a * (last - first), first + b * (last - first))
    except StudyError:
        assert space.wide(name).step or space.wide(name).kind == "int"  # no whole step lies between
        return
    wider = narrow.widen(name, data.draw(st.floats(1, 100)))
    for changed in (narrow, wider):
        low, high = changed.parameters[name].bounds
        assert first <= low <= high <= last
        assert list(changed.parameters) == list(space.parameters)
        assert changed.wide(name) == space.wide(name)
        assert changed.default() == space.default()
        config = changed.sample_uniform(np.random.default_rng(0))
        assert name not in config or low <= config[name] <= high
        assert space.contains(config)
    assert wider.parameters[name].bounds[0] <= narrow.parameters[name].bounds[0]
    assert wider.parameters[name].bounds[1] >= narrow.parameters[name].bounds[1]


# --- the draws follow the law they promise (scipy is the oracle)


def _draws(parameter: Parameter, count: int = 3000) -> list:
    rng = np.random.default_rng(7)
    return [parameter.draw(rng) for _ in range(count)]


def test_floats_are_uniform_on_their_scale() -> None:
    law = stats.loguniform(1e-5, 1e-1)
    assert stats.kstest(_draws(Parameter(low=1e-5, high=1e-1, log=True)), law.cdf).pvalue > 0.01
    assert stats.kstest(_draws(Parameter(low=-2.0, high=3.0)), stats.uniform(-2, 5).cdf).pvalue > 0.01


@pytest.mark.parametrize(
    ("parameter", "shares"),
    [
        (Parameter(low=1, high=4), {1: 0.25, 2: 0.25, 3: 0.25, 4: 0.25}),
        (Parameter(low=0, high=20, step=10), {0: 1 / 3, 10: 1 / 3, 20: 1 / 3}),
        (Parameter(low=0.0, high=0.3, step=0.1), {0.0: 0.25, 0.1: 0.25, 0.2: 0.25, 0.3: 0.25}),
        (Parameter(choices=("a", True, 3)), {"a": 1 / 3, True: 1 / 3, 3: 1 / 3}),
        (
            Parameter(low=1, high=3, log=True),  # log(1.5/0.5), log(2.5/1.5), log(3.5/2.5) of log(3.5/0.5)
            {n: math.log((n + 0.5) / (n - 0.5)) / math.log(7) for n in (1, 2, 3)},
        ),
    ],
)
def test_discrete_draws_have_the_shares_worked_by_hand(parameter, shares) -> None:
    drawn = _draws(parameter)
    counts = [drawn.count(value) for value in shares]
    assert sum(counts) == len(drawn)
    assert stats.chisquare(counts, [share * len(drawn) for share in shares.values()]).pvalue > 0.01


def test_draws_do_not_shift_with_conditions() -> None:
    """Active or not, a hyperparameter draws, so another's condition does not change its values."""
    free = Space(
        {
            "a": Parameter(choices=(1, 2)),
            "b": Parameter(low=0.0, high=1.0),
            "c": Parameter(low=0.0, high=1.0),
        },
        {},
    )
    bound = Space({**free.parameters, "b": Parameter(low=0.0, high=1.0, when={"a": (1,)})}, {})
    for seed in range(20):
        with_b, without = (s.sample_uniform(np.random.default_rng(seed)) for s in (free, bound))
        assert {**with_b, **without} == with_b
        assert with_b["c"] == without["c"]


def test_draws_are_those_recorded() -> None:
    """The random strategy's trials depend on these bits: a change here changes every recorded search."""
    config = built().sample_uniform(np.random.default_rng(1234))
    for name, value in RECORDED.items():
        assert config[name] == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value), name
    assert ("sigma" in config) == (config["embedding"] == "periodic")


RECORDED = {
    "lr": 0.00033172861850121026,
    "weight_decay": 0.04132674198669708,
    "width": 64,
    "depth": 1,
    "dropout": 0.5,
    "embedding": "none",
}


def test_wrong_spaces_name_the_line(tmp_path: Path) -> None:
    """The messages themselves are in tests/faults/test_study_file.py."""
    with pytest.raises(StudyError) as caught:
        built(width={"value": 32, "when": {"depth": 9}})
    assert caught.value.where is None  # a study made in Python has no lines
