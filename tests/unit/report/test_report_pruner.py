"""The pruner audit in the report and on the terminal, from a record worked by hand."""

from __future__ import annotations

from typing import Any

import pytest

from lanewise.report import Records, build, summary_text, trials_csv

GAP = "\N{NO-BREAK SPACE}"
AUDIT = {
    "share": 0.2, "confidence": 0.95, "dropped": 200, "audited": 40, "late": 0, "cost": 1500, "saved": 6000,
    "missed": [
        {"best": 1, "bar": 0.931, "seen": 0, "low": 0, "high": 15},
        {"best": 3, "bar": 0.92, "seen": 4, "low": 7, "high": 44},
    ],
    "rungs": [{"epoch": 5, "tau": 0.56, "trials": 60}, {"epoch": 15, "tau": 0.804, "trials": 60}],
}  # fmt: skip


def records(audit: dict[str, Any] | None, sign: int = 1, audited_from: int | None = None) -> Records:
    trials = [
        {"number": 0, "config": {"lr": 0.1}, "state": "complete", "value": sign * 0.9, "epochs": 50},
        {
            "number": 1, "config": {"lr": 0.01}, "state": "complete", "value": sign * 0.931, "epochs": 50,
            "audited_from": audited_from,
        },
    ]  # fmt: skip
    space = {"lr": {"low": 1e-3, "high": 1.0, "log": True}}
    search = {
        "metric": "accuracy" if sign > 0 else "rmse", "direction": "maximize" if sign > 0 else "minimize",
        "trials": trials, "best": 1, "space": {"parameters": space, "original": space, "defaults": {}}, "audit": audit,
    }  # fmt: skip
    return Records(search=search)


def section(found: Records) -> str:
    return build(found).markdown.partition("## Is the pruner right?")[2].partition("\n## ")[0].replace(GAP, " ")


@pytest.mark.usefixtures("unsaved")
def test_the_section_says_what_was_missed_how_rungs_rank_and_what_it_cost() -> None:
    text = section(records(AUDIT))
    assert "Of 200 trials that the pruner would stop, 40 were drawn at random (share 20 %) and trained on." in text
    assert "| the best | above 0.931 | 0 of 40 | 0 % | 0 to 15 of 200 |" in text
    assert "| among the best 3 | above 0.920 | 4 of 40 | 10 % | 7 to 44 of 200 |" in text
    assert "| 5 | 0.56 | 78 % | 60 |" in text and "| 15 | 0.80 | 90 % | 60 |" in text
    assert "Stopping the others saved about 6 000 epochs; the audit cost 1 500 epochs." in text
    assert "do not count" not in text and "is one of them" not in text


@pytest.mark.usefixtures("unsaved")
def test_lower_is_better_a_short_budget_and_a_best_trial_that_would_have_been_dropped() -> None:
    turned = [{**one, "bar": -one["bar"]} for one in AUDIT["missed"]]  # type: ignore[attr-defined]
    text = section(records({**AUDIT, "late": 1, "missed": turned}, -1, audited_from=5))
    assert "| the best | below \N{MINUS SIGN}0.931 |" in text
    assert "1 more trial that it would stop does not count" in text
    assert "trial 1, is one of them: without the audit it would have been stopped at epoch 5." in text


@pytest.mark.usefixtures("unsaved")
def test_without_an_audit_or_a_sample_there_is_no_figure() -> None:
    assert section(records(None)) == "" and "pruner" not in summary_text(records(None))
    nothing = {**AUDIT, "dropped": 0, "audited": 0, "missed": [], "rungs": [], "cost": 0, "saved": None}
    text = section(records(nothing))
    assert "The pruner stopped no trial, so there was none to audit." in text
    assert "|" not in text and "saved" not in text and "pruner" not in summary_text(records(nothing))


def test_the_terminal_and_the_table_of_trials_have_it() -> None:
    lines = " ".join(summary_text(records(AUDIT)).split())
    said = "pruner 0 of 40 audited trials beat all that were never stopped: 0 to 15 of 200 dropped by 95 % confidence"
    assert said in lines
    header, *rows = trials_csv(records(AUDIT, audited_from=5)).splitlines()
    place = header.split(",").index("audited_from")
    assert [float(cell) if cell else None for cell in (row.split(",")[place] for row in rows)] == [None, 5]
