"""The Pareto front in the report: its words, its table and its picture, of numbers worked by hand."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from lanewise.report import Records, build, picture_png, summary_text, trials_csv
from lanewise.report.facts import Facts
from lanewise.report.front import words

GAP = "\N{NO-BREAK SPACE}"
# accuracy and parameters; trial 4 is behind trial 1 in both
TRIALS = [(0.90, 5000), (0.95, 9000), (0.80, 1000), (0.94, 2000), (0.70, 9500)]


def records(front: list[int], objectives: tuple[str, ...] = ("parameters",), **search: Any) -> Records:
    trials = [
        {
            "number": n, "config": {"width": size // 100}, "state": "complete", "value": value, "epochs": 1,
            "curve": [{f"size/{name}": float(size) for name in objectives} | {"valid/accuracy": value}],
        }
        for n, (value, size) in enumerate(TRIALS)
    ]  # fmt: skip
    space = {"width": {"low": 8, "high": 128}}
    return Records(
        search={
            "metric": "accuracy", "direction": "maximize", "trials": trials, "best": 1, "front": front,
            "space": {"parameters": space, "original": space, "defaults": {}}, "objectives": list(objectives), **search,
        }
    )  # fmt: skip


FRONT = [1, 3, 2]


def test_the_words() -> None:
    expected = (
        f"Pareto front: 3 of 5{GAP}complete trials, from trial 2 (accuracy 0.800 and 1{GAP}000 parameters) to "
        f"trial 1 (accuracy 0.950 and 9{GAP}000 parameters)."
    )
    assert words(Facts(records(FRONT))) == expected
    assert words(Facts(records([1]))) == (
        f"Pareto front: 1 of 5{GAP}complete trials, trial 1 (accuracy 0.950 and 9{GAP}000 parameters)."
    )
    assert "front         3 of 5 complete trials, from trial 2 (accuracy 0.800" in summary_text(records(FRONT))


def test_the_table_of_all_trials_has_the_sizes() -> None:
    header, first, *_ = trials_csv(records(FRONT)).splitlines()
    assert dict(zip(header.split(","), first.split(","), strict=True))["size.parameters"] == "5000.0"
    assert "size." not in trials_csv(records([], objectives=()))


@pytest.mark.usefixtures("unsaved")
def test_the_page_has_picture_and_table() -> None:
    report = build(records(FRONT))
    rows = [line for line in report.markdown.splitlines() if re.match(r"\| \d \| 0\.\d+ \| \d", line)]
    assert [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows[:3]] == [
        ["1", "0.950", f"9{GAP}000", "winner", "90"],
        ["3", "0.940", f"2{GAP}000", "", "20"],
        ["2", "0.800", f"1{GAP}000", "", "10"],
    ]
    assert "No other trial is at least as good in all of them" in report.html
    alone = build(replace(records([]), study={"name": "x"}))
    assert "Pareto" not in alone.html + alone.markdown + summary_text(records([]))


@pytest.mark.usefixtures("unsaved")
def test_times_are_said_to_be_of_this_machine() -> None:
    timed = records(FRONT, prediction_ms={"1": 2.345, "3": None, "2": 0.5})
    text = build(timed).markdown
    assert [t.number for t in Facts(timed).front] == FRONT and Facts(timed).prediction_ms == {1: 2.345, 2: 0.5}
    assert f"| 1 | 0.950 | 9{GAP}000 | 2.35 | winner | 90 |" in text and "| \N{EN DASH} |  | 20 |" in text
    assert "ms for 256 rows" in text and f"measured once on this machine, on 1{GAP}thread of its processor" in text
    assert "this machine" not in build(records(FRONT)).markdown


def test_the_smallest_tie_is_named_where_the_noise_is_known() -> None:
    noise = {"scores": 5, "mean": 0.9, "spread": 0.004, "floor": 0.016, "confidence": 0.95}
    text = build(records(FRONT, noise=noise)).markdown
    assert (
        f"Within the noise floor of the best, trial 1, the smallest is trial 3 (accuracy 0.940 and 2{GAP}000 "
        "parameters): 4.5 times fewer parameters." in text
    )
    text = build(records(FRONT, noise=noise | {"floor": 0.001})).markdown
    assert "times fewer" not in text


@pytest.mark.parametrize("objectives", [("parameters",), ("parameters", "multiply_adds")])
def test_the_picture(objectives: tuple[str, ...]) -> None:
    found = picture_png("front", records(FRONT, objectives))
    assert found is not None and found.startswith(b"\x89PNG")
    html = build(records(FRONT, objectives)).html
    drawn = html.partition('aria-label="Trials by accuracy')[2].partition("</svg>")[0]
    for text in ("on the front", "other trial", "winner", "default", "parameters"):
        assert f">{text}<" in drawn
    assert (">multiply-adds per row<" in drawn) == ("multiply_adds" in objectives)
    assert picture_png("front", records([])) is None
