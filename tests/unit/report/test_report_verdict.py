"""The one sentence, case by case, against hand-written texts."""

from __future__ import annotations

from typing import Any

import pytest

from lanewise.report import Records, verdict_of
from lanewise.report.wording import GAP, MINUS

Json = dict[str, Any]


def interval(
    estimate: float | None, low: float | None, high: float | None, method: str = "paired bootstrap"
) -> Json:
    return {"estimate": estimate, "low": low, "high": high, "confidence": 0.95, "method": method}


def candidate(name: str, kind: str, mean: float | None) -> Json:
    values = [None] * 10 if mean is None else [mean] * 10
    return {
        "name": name,
        "kind": kind,
        "config": {},
        "scores": {"balanced_accuracy": values},
        "best_epochs": [],
    }


def records(
    *,
    difference: Json | None = None,
    winner: str = "trial-0012",
    boosting: float = 0.80,
    over: Json | None = None,
    lead: Json | None = None,
    test: bool = True,
    metric: str = "balanced_accuracy",
    direction: str = "maximize",
    **more: Any,
) -> Records:
    """A winner with 0.84 on 262 sealed rows, the default with 0.79; folds 0.83 and 0.79."""
    evaluation = {
        "metric": metric,
        "direction": direction,
        "folds": 5,
        "repeats": 2,
        "winner": winner,
        "warnings": [],
        "candidates": [
            candidate("default", "default", 0.79),
            candidate("trial-0012", "trial", 0.83),
            candidate("gradient_boosting", "baseline", boosting),
            candidate("dummy", "baseline", 0.5),
        ],
        "winner_minus_default": lead or interval(0.04, 0.02, 0.06),
        "overtuning": {},
        "winner_minus_baseline": over or interval(0.83 - boosting, 0.01, 0.05),
    }
    found = {
        "metric": metric,
        "n": 262,
        "difference": difference or interval(0.05, 0.01, 0.09),
        "scores": {metric: interval(0.84, 0.80, 0.88)},
        "default_scores": {metric: interval(0.79, 0.74, 0.83)},
    }
    for candidate_ in evaluation["candidates"]:
        candidate_["scores"] = {metric: candidate_["scores"]["balanced_accuracy"]}
    return Records(evaluation=evaluation, test=found if test else None, **more)


def said(found: Records) -> str:
    return verdict_of(found).sentence.replace(GAP, " ").replace(MINUS, "-")


def test_better() -> None:
    version = {"name": "titanic", "version": "3", "alias": "champion", "reason": "passed"}
    found = verdict_of(records(version=version))
    assert found.kind == "better" and found.tone == "good"
    assert said(records()) == (
        "The tuned network beats the default: balanced accuracy 0.84 against 0.79 on 262 sealed rows "
        "(difference 0.05, 95 % interval 0.01 to 0.09)."
    )
    assert found.registration == "Registered as titanic version 3, champion."


def test_no_difference() -> None:
    found = records(difference=interval(0.05, -0.01, 0.11))
    assert verdict_of(found).kind == "same"
    assert said(found) == (
        "No difference between the tuned network and the default that 262 sealed rows can show: balanced "
        "accuracy "
        "0.84 against 0.79 (difference 0.05, 95 % interval -0.01 to 0.11)."
    )


def test_an_interval_that_touches_zero_shows_no_difference() -> None:
    assert verdict_of(records(difference=interval(0.05, 0.0, 0.11))).kind == "same"


def test_worse() -> None:
    found = records(difference=interval(-0.05, -0.09, -0.01))
    assert verdict_of(found).kind == "worse"
    assert said(found).startswith("The default is better than the tuned network: ")


def test_where_lower_is_better_a_negative_difference_is_a_gain() -> None:
    found = records(
        metric="log_loss",
        direction="minimize",
        difference=interval(-0.05, -0.09, -0.01),
        over=interval(-0.03, -0.05, -0.01),
    )
    assert verdict_of(found).kind == "better"
    found = records(
        metric="log_loss",
        direction="minimize",
        difference=interval(0.05, 0.01, 0.09),
        over=interval(-0.03, -0.05, -0.01),
    )
    assert verdict_of(found).kind == "worse"


def test_the_default_stays() -> None:
    zero = interval(0.0, 0.0, 0.0, "the winner is the default")
    trials = [{"number": n, "config": {}, "state": "complete", "value": 0.8, "epochs": 3} for n in range(20)]
    found = records(winner="default", difference=zero, lead=zero, search={"trials": trials, "best": 3})
    assert verdict_of(found).kind == "default"
    assert said(found) == (
        "The default stays: no finalist of 19 other trials beat it on the same 10 folds; it has balanced "
        "accuracy 0.84 "
        "(95 % interval 0.80 to 0.88) on 262 sealed rows."
    )
    assert said(records(winner="default", difference=zero)).startswith(
        "The default stays: nothing else was tried;"
    )


def test_a_baseline_that_is_surely_better_leads() -> None:
    found = records(boosting=0.87, over=interval(-0.04, -0.06, -0.02))
    assert verdict_of(found).kind == "baseline"
    assert said(found) == (
        "Gradient boosting is better here: balanced accuracy 0.87 against 0.83 for the network on the same "
        "10 folds "
        "(difference 0.04, 95 % interval 0.02 to 0.06)."
    )
    assert verdict_of(found).asides[0].startswith("The tuned network beats the default")


def test_a_baseline_within_noise_is_an_aside() -> None:
    found = verdict_of(records(boosting=0.84, over=interval(-0.01, -0.03, 0.01)))
    assert found.kind == "better"
    aside = found.asides[0].replace(GAP, " ")
    assert aside == (
        "Gradient boosting does as well within noise: balanced accuracy 0.84 against 0.83 on the same 10 "
        "folds."
    )


def test_no_better_than_a_constant() -> None:
    found = records(boosting=0.49, over=interval(0.01, -0.02, 0.04))  # so the dummy is the best baseline
    assert verdict_of(found).kind == "nothing"
    assert said(found).startswith("The network learned nothing that a constant prediction does not know: ")


def test_undefined_on_the_sealed_rows_falls_back_to_the_folds() -> None:
    found = records()
    found.test["scores"] = {"balanced_accuracy": interval(None, None, None, "one class only in these rows")}
    assert verdict_of(found).kind == "unchecked"
    assert said(found) == (
        "The tuned network leads the default in cross-validation: balanced accuracy 0.83 against 0.79 on 10 "
        "folds "
        "(difference 0.04, 95 % interval 0.02 to 0.06). On the sealed rows balanced accuracy is undefined: "
        "one class "
        "only in these rows."
    )


def test_not_yet_tested() -> None:
    assert said(records(test=False)).endswith("It has not been checked on sealed rows.")
    unsure = records(test=False, lead=interval(0.04, -0.02, 0.10))
    assert said(unsure).startswith("No sure difference to the default in cross-validation: ")


def test_no_interval_is_not_called_a_difference() -> None:
    found = records(difference=interval(0.05, None, None, "undefined in 400 of 1000 bootstrap resamples"))
    assert verdict_of(found).kind == "same"
    assert "no interval: undefined in 400 of 1000 bootstrap resamples" in said(found)


def test_search_only() -> None:
    trials = [
        {"number": 0, "config": {}, "state": "complete", "value": 0.79, "epochs": 3},
        {"number": 1, "config": {}, "state": "complete", "value": 0.86, "epochs": 3},
        {"number": 2, "config": {}, "state": "pruned", "value": 0.99, "epochs": 1},
    ]
    search = {"metric": "accuracy", "direction": "maximize", "trials": trials, "best": 1}
    assert said(Records(search=search)) == (
        "Search only: trial 1 has accuracy 0.860 on the rows that selected it, the default 0.790. Nothing "
        "has been "
        "compared on other rows, so the figure flatters."
    )


def test_nothing_and_only_failures() -> None:
    assert verdict_of(Records()).kind == "empty"
    trials = [
        {"number": n, "config": {}, "state": "failed", "reason": "nan", "value": None} for n in range(12)
    ]
    found = Records(search={"metric": "accuracy", "direction": "maximize", "trials": trials, "best": 0})
    assert said(found) == "No trial completed: 12 of 12 trials failed."


@pytest.mark.parametrize(
    ("alias", "reason", "text"),
    [
        ("champion", "0.04 better", "Registered as m version 4, champion."),
        ("candidate", "not better.", "Registered as m version 4, candidate, not champion: not better."),
        ("candidate", "", "Registered as m version 4, candidate."),
    ],
)
def test_registration(alias: str, reason: str, text: str) -> None:
    version = {"name": "m", "version": "4", "alias": alias, "reason": reason}
    assert verdict_of(Records(version=version)).registration == text
