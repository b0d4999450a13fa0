"""What TPE is told of trials that did not train to their end: by hand, by a property, and against plain Optuna."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_search_optuna import PLAIN
from test_search_strategies import a_space, a_study

from lanewise.pruning import Direction
from lanewise.search import STRATEGIES, Told
from lanewise.search.random import trial_seed
from lanewise.search.unfinished import at_level, level

State = Literal["running", "complete", "pruned", "failed"]


def told(number: int, state: State, curve: list[float], direction: Direction = "maximize") -> Told:
    value = (max if direction == "maximize" else min)(curve) if curve and state != "failed" else None
    return Told(number, {}, state, value, len(curve), tuple(curve))


HISTORY = [
    told(0, "complete", [0.1, 0.2, 0.9, 0.8]),
    told(1, "pruned", [0.5, 0.4]),
    told(2, "running", [0.3, 0.6, 0.7]),
    told(3, "running", [0.3]),
    told(4, "failed", [0.3, 0.3]),
    told(5, "pruned", [0.2]),
    told(6, "pruned", [0.1, 0.3]),
]


def test_worked_by_hand() -> None:
    # one has reached 4 epochs; with the pruned ones three have reached 2, and four 1
    assert [level(HISTORY, enough) for enough in (1, 2, 3, 4, 5)] == [None, 2, 2, 1, None]
    seen = at_level(HISTORY, 3, "maximize")
    assert [(t.number, t.state, t.value, t.epochs) for t in seen] == [
        (0, "complete", 0.2, 2), (1, "complete", 0.5, 2), (2, "complete", 0.6, 2), (3, "running", 0.3, 1),
        (4, "failed", None, 2), (5, "pruned", 0.2, 1), (6, "complete", 0.3, 2),
    ]  # fmt: skip
    assert at_level(HISTORY, 1, "maximize") == HISTORY
    assert [t.value for t in at_level(HISTORY, 3, "minimize")][:3] == [0.1, 0.4, 0.3]


STATES: st.SearchStrategy[State] = st.sampled_from(["running", "complete", "pruned", "failed"])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(STATES, st.lists(st.floats(0, 1), min_size=1, max_size=6)), max_size=12), st.integers(1, 5)
)
def test_every_value_that_counts_is_of_one_epoch(drawn: list[tuple[State, list[float]]], enough: int) -> None:
    history = [told(i, state, curve) for i, (state, curve) in enumerate(drawn)]
    epoch, seen = level(history, enough), at_level(history, enough, "maximize")
    assert [t.number for t in seen] == [t.number for t in history]
    for before, after in zip(history, seen, strict=True):
        if epoch is None or after is before:
            assert before == after
            continue
        assert after.state == "complete" and after.epochs == epoch == max(epoch, len(after.curve))
        assert after.value == max(before.curve[:epoch])
    if epoch is not None:
        assert sum(t.state == "complete" for t in seen) >= enough


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_tpe_answers_as_optuna_would_that_saw_the_level_only(direction: Direction) -> None:
    study = a_study(space={})
    space = a_space(study)
    drawn = STRATEGIES["random"](study, space, direction)
    history = []
    for n in range(14):
        curve = [(n * 7 % 11) / 10, (n * 5 % 13) / 10, n / 40][: 3 - n % 2]
        trial = told(n, "pruned" if n % 5 else "complete", curve, direction)
        history.append(replace(trial, config=drawn.ask(n + 1, [])))
    assert level(history, 4) == 3
    plain = optuna.create_study(direction=direction)
    best = max if direction == "maximize" else min
    for trial in history:
        reached = trial.state == "complete" or trial.epochs >= 3
        plain.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.COMPLETE if reached else optuna.trial.TrialState.PRUNED,
                params={name: trial.config[name] for name in PLAIN}, distributions=PLAIN,
                value=best(trial.curve[:3]) if reached else None,
                intermediate_values=None if reached else {trial.epochs: trial.value},
            )
        )  # fmt: skip
    plain.sampler = optuna.samplers.TPESampler(
        multivariate=True, constant_liar=True, n_startup_trials=4, seed=trial_seed(5, 14, "tpe")
    )
    answer = STRATEGIES["tpe"](study, space, direction).ask(14, history)
    expected = plain.ask(PLAIN).params
    assert {name: answer[name] for name in PLAIN} == pytest.approx(expected)
