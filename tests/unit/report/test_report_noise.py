"""The noise floor in the report: ties and the lead over the default, worked by hand."""

from __future__ import annotations

from typing import Any

import pytest

from lanewise.report import Records, build
from lanewise.report.facts import Facts
from lanewise.report.noise import lead_is_noise

NOISE = {"scores": 5, "mean": 0.900, "spread": 0.005, "floor": 0.020, "confidence": 0.95}


def records(
    values: list[float], noise: dict[str, Any] | None, sign: int = 1, repeats: tuple[int, ...] = (1, 2)
) -> Records:
    """Trial 0 is the default, 1 and 2 repeat it; `values` are those of the trials by number."""
    trials = [
        {
            "number": n,
            "config": {"lr": 0.1 / (n + 1)},
            "state": "complete",
            "value": sign * value,
            "epochs": 3,
        }
        for n, value in enumerate(values)
    ]
    space = {"lr": {"low": 1e-3, "high": 1.0, "log": True}}
    search = {
        "metric": "accuracy" if sign > 0 else "rmse", "direction": "maximize" if sign > 0 else "minimize",
        "trials": trials, "best": 3, "space": {"parameters": space, "original": space, "defaults": {}},
        "noise": noise and {**noise, "mean": sign * noise["mean"]}, "repeats": list(repeats),
    }  # fmt: skip
    return Records(search=search)


VALUES = [0.897, 0.990, 0.900, 0.950, 0.931, 0.929, 0.94]


@pytest.mark.parametrize("sign", [1, -1])
def test_ties_worked_by_hand(sign: int) -> None:
    facts = Facts(records(VALUES, NOISE, sign))
    assert [t.number for t in facts.ties] == [
        3,
        6,
        4,
    ]  # from 0.950 down to 0.930; the repeat 1 is no competitor
    assert not Facts(records(VALUES, None, sign)).ties


@pytest.mark.usefixtures("unsaved")
def test_the_report_says_what_is_a_tie() -> None:
    text = build(records(VALUES, NOISE)).markdown
    assert (
        "Noise floor 0.020: trained with 5 seeds, the default has accuracy 0.900 on average, with a standard "
        "deviation of 0.005. Two trainings that differ by less than the floor are a tie: with 95\N{NO-BREAK SPACE}% "
        "confidence, seeds alone set them as far apart. 2\N{NO-BREAK SPACE}trials of 4 tie with the best, trial 3."
    ) in text
    assert "The first 3 are a tie: the noise floor does not tell them apart." in text
    assert "that is a tie" not in text
    silent = build(records(VALUES, None)).markdown
    assert "oise floor" not in silent and " tie" not in silent


@pytest.mark.parametrize("sign", [1, -1])
def test_a_lead_below_the_floor_is_a_caveat(sign: int) -> None:
    close = [0.897, 0.905, 0.900, 0.919, 0.9]
    said = lead_is_noise(Facts(records(close, NOISE, sign)))
    assert said is not None and "by 0.019; the noise floor is 0.020" in said and "trial 3" in said
    assert lead_is_noise(Facts(records([*close, 0.921], NOISE, sign))) is None  # 0.921 - 0.900 > 0.020
    assert lead_is_noise(Facts(records([0.95, 0.905, 0.9, 0.919], NOISE, sign))) is None  # the default leads
    assert lead_is_noise(Facts(records(close, None, sign))) is None
    assert "that is a tie" in build(records(close, NOISE)).markdown
