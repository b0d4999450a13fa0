"""Parameter importance against known total effects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lanewise.report import Records
from lanewise.report.facts import Facts
from lanewise.report.importance import FEWEST_TRIALS, importance


def facts(
    count: int,
    value: Callable[[dict[str, float]], float | None],
    state: Callable[[int], str] = lambda _: "complete",
) -> Facts:
    """A search with three hyperparameters in 0..1, one of them a choice of 0, 0.5 and 1."""
    rng = np.random.default_rng(3)
    trials: list[dict[str, Any]] = []
    for number in range(count):
        config = {"a": float(rng.random()), "b": float(rng.random()), "c": float(rng.choice([0.0, 0.5, 1.0]))}
        trials.append(
            {"number": number, "config": config, "state": state(number), "value": value(config), "epochs": 9}
        )
    unit = {"low": 0.0, "high": 1.0}
    space = {"parameters": {"a": unit, "b": unit, "c": {"choices": [0.0, 0.5, 1.0]}, "d": {"value": 3}}}
    search = {"metric": "accuracy", "direction": "maximize", "trials": trials, "best": 0, "space": space}
    return Facts(Records(search=search))


def test_an_additive_function_gives_its_shares_of_variance() -> None:
    found = importance(facts(300, lambda c: 2 * c["a"] + c["b"]))  # variances 4/12 and 1/12: 0.8 and 0.2
    assert found.names[:2] == ("a", "b") and found.names[2] == "c"
    assert found.reason is None and found.explained is not None and found.explained > 0.9
    assert abs(found.share[0] - 0.8) < 0.12
    assert abs(found.share[1] - 0.2) < 0.08
    assert abs(found.share[2]) < 0.02


def test_it_does_not_depend_on_the_scale_of_the_values() -> None:
    one = importance(facts(80, lambda c: c["a"]))
    other = importance(facts(80, lambda c: float(np.exp(40 * c["a"]))))  # the same ranks
    assert one == other


def test_failed_trials_do_not_count_and_pruned_ones_do() -> None:
    states = ("complete", "pruned", "failed", "duplicate")
    found = importance(facts(100, lambda c: c["a"], lambda n: states[n % 4]))
    assert found.trials == 50


def test_noise_has_no_importance() -> None:
    noise = np.random.default_rng(0)
    found = importance(facts(100, lambda _: float(noise.random())))
    assert found.names == () and found.reason == "the configurations do not explain which trials were good"


def test_reasons() -> None:
    assert "at least" in str(importance(facts(FEWEST_TRIALS - 1, lambda c: c["a"])).reason)
    assert importance(facts(30, lambda _: 0.5)).reason == "all trials have the same value"
    assert importance(Facts(Records())).reason == "no hyperparameter was searched"
