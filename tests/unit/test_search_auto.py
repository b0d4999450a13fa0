"""`strategy: auto`: its rule by hand; it answers as what it chose; where it leaves TPE, TPE is random search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_search_run import a_space, a_study, run, table

from lanewise.errors import LanewiseError
from lanewise.ledger import TrialRecord
from lanewise.search import choose
from lanewise.space import Space
from lanewise.study import load_study

CASES: list[tuple[dict[str, Any], str]] = [
    # trial 6 of 7 has six results before it: enough for `startup: 6`
    ({"trials": 7}, "tpe"),
    ({"trials": 6}, "sobol"),
    # of five trainings of the default one is told
    ({"trials": 11, "noise_seeds": 5}, "tpe"),
    ({"trials": 10, "noise_seeds": 5}, "sobol"),
    # an enqueued one is a result like another
    ({"trials": 7, "enqueue": [{"lr": 0.01}]}, "tpe"),
    ({"trials": 30, "lanes": 30}, "sobol"),
    ({"trials": 30, "lanes": 29}, "tpe"),
    ({"trials": None, "epochs": 100, "lanes": 64}, "tpe"),
    ({"trials": 6, "warm_start": ["earlier"]}, "tpe"),
]


@pytest.mark.parametrize(("search", "expected"), CASES)
def test_the_rule_by_hand(search: dict[str, Any], expected: str) -> None:
    study = a_study(**search)
    assert choose(study.search, a_space(study)).strategy == expected


def test_where_nothing_is_searched_it_is_tpe() -> None:
    study = a_study(trials=3)
    space = a_space(study)
    fixed = Space({name: p for name, p in space.parameters.items() if name not in space.searched()}, {})
    assert not fixed.searched() and choose(study.search, fixed).strategy == "tpe"


@pytest.mark.parametrize(("search", "expected"), [case for case in CASES if "warm_start" not in case[0]])
def test_it_answers_as_the_strategy_it_chose(search: dict[str, Any], expected: str) -> None:
    lanes = search.get("lanes", 4)
    auto, chosen = (run(a_study(strategy=name, **search), lanes)[1] for name in ("auto", expected))
    assert table(auto.trials) == table(chosen.trials)
    assert auto.strategy == "auto" and (auto.chosen or "").startswith(f"{expected}: ") and chosen.chosen is None


def configs(trials: tuple[TrialRecord, ...]) -> list[dict[str, Any]]:
    return [dict(trial.config) for trial in trials]


@given(
    trials=st.integers(1, 12), startup=st.integers(1, 12), lanes=st.integers(1, 12),
    pruner=st.sampled_from(["none", "asha"]), seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_where_it_is_sobol_tpe_would_be_random_search(
    trials: int, startup: int, lanes: int, pruner: str, seed: int
) -> None:
    search = {"trials": trials, "startup": startup, "lanes": lanes, "pruner": pruner}
    study = a_study(**search).model_copy(update={"seed": seed})
    if choose(study.search, a_space(study)).strategy == "tpe":
        return
    found = []
    for name in ("tpe", "random"):
        named = study.model_copy(update={"search": study.search.model_copy(update={"strategy": name})})
        try:
            found.append(configs(run(named, lanes)[1].trials))
        except LanewiseError as error:  # every one of a few trials may diverge
            found.append([{"error": str(error)}])
    assert found[0] == found[1]


def test_one_trial_more_and_tpe_is_no_random_search() -> None:
    """The boundary is not too low: where the rule is TPE by one trial, that one is learnt (unless trials failed)."""
    differs = []
    for seed in range(8):
        # one shape, so that one lane is one trial at a time
        one = [a_study(strategy=name, trials=7, space={"width": 32}) for name in ("tpe", "random")]
        studies = [study.model_copy(update={"seed": seed}) for study in one]
        tpe, at_random = (run(study, 1)[1].trials for study in studies)
        assert configs(tpe[:6]) == configs(at_random[:6])
        failed = any(trial.state == "failed" for trial in tpe[:6])
        differs.append(None if failed else tpe[6].config != at_random[6].config)
    assert set(differs) - {None} == {True}


def test_a_study_file_may_say_auto(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("data: {source: sklearn:digits}\nsearch: {strategy: auto, warm_start: [earlier]}\n")
    assert load_study(path).search.strategy == "auto"
