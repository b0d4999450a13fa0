"""Strategies compared seed by seed: ranks, differences and curves worked by hand; the page says what they say."""

from __future__ import annotations

import math
from typing import Any

import pytest
from scipy import stats

from lanewise import report
from lanewise.comparison import Comparison, Course, Step, compare


def course(strategy: str, seed: int, *values: float) -> Course:
    """Improvements after 10, 20, ... epochs, 1, 2, ... ticks and 0.5, 1.0, ... seconds."""
    steps = tuple(Step(10 * n, n, 0.5 * n, value) for n, value in enumerate(values, 1))
    return Course(strategy, seed, steps, 10 * len(values) + 5, 0.5 * len(values) + 1, 7, f"s-{strategy}-{seed}")


def a_comparison(direction: str = "maximize") -> Comparison:
    sign = 1.0 if direction == "maximize" else -1.0
    table = {"a": [(1.0, 2.0), (3.0,), (2.0,)], "b": [(4.0,), (2.0, 3.0), (1.0, 2.5)], "c": [(1.0,), (0.0,), (0.5,)]}
    courses = [
        course(name, seed, *(sign * v for v in values))
        for name, rows in table.items()
        for seed, values in enumerate(rows)
    ]
    return compare("s", "accuracy" if sign > 0 else "rmse", direction, courses, confidence=0.95)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_ranks_and_differences(direction: str) -> None:
    """Finals a 2 3 2, b 4 3 2.5, c 1 0 0.5: b is first, ties with a in the second seed; c is last everywhere."""
    found = a_comparison(direction)
    assert [(s.strategy, s.rank) for s in found.standings] == [
        ("b", pytest.approx((1 + 1.5 + 1) / 3)), ("a", pytest.approx((2 + 1.5 + 2) / 3)), ("c", 3.0),
    ]  # fmt: skip
    first, second, third = found.standings
    assert first.difference is None and first.mean == pytest.approx(found.sign * 9.5 / 3)
    assert second.difference is not None and third.difference is not None
    differences = [found.sign * d for d in (-2.0, 0.0, -0.5)]
    reach = stats.sem(differences) * stats.t.ppf(0.975, 2)
    mean = sum(differences) / 3
    ends = second.difference.estimate, second.difference.low, second.difference.high
    assert ends == pytest.approx((mean, mean - reach, mean + reach))
    assert second.difference.method == "paired t, 3 seeds"


def test_the_best_so_far_is_the_median_of_the_seeds() -> None:
    """b's seeds by epochs: 4 from 10 on; 2 from 10, 3 from 20; 1 from 10, 2.5 from 20."""
    curve = a_comparison().curve("b", "epochs", points=3)
    assert [spent for spent, *_ in curve] == [10, 15, 20, 25]
    assert [row[1:] for row in curve] == [(2, 1.5, 3), (2, 1.5, 3), (3, 2.75, 3.5), (3, 2.75, 3.5)]
    assert [row[0] for row in a_comparison().curve("b", "seconds", points=1)] == [0.5, 2.0]


def test_when_a_value_was_reached() -> None:
    one = course("a", 0, 1.0, 2.0, 3.0)
    assert (one.reached("epochs", 2.0, 1.0), one.reached("seconds", 2.5, 1.0), one.reached("ticks", 4.0, 1.0)) == (
        20, 1.5, None,
    )  # fmt: skip
    assert one.best_at("epochs", 9) is None and one.best_at("epochs", 29.9) == 2.0 and one.final == 3.0


def test_a_missing_seed_is_no_comparison() -> None:
    with pytest.raises(ValueError, match="every seed once"):
        compare("s", "rmse", "minimize", [course("a", 0, 1.0), course("b", 1, 1.0)], confidence=0.95)


def test_a_course_is_read_from_a_result() -> None:
    result: dict[str, Any] = {
        "improvements": [{"epochs": 8, "ticks": 4, "seconds": 0.3, "trial": 0, "value": 0.5}],
        "epochs_spent": 20, "seconds": 1.5, "trials": [{}, {}],
    }  # fmt: skip
    assert Course.of("s-a-0", "a", 0, result) == Course("a", 0, (Step(8, 4, 0.3, 0.5),), 20, 1.5, 2, "s-a-0")


def test_the_page_says_who_leads_and_whether_it_is_shown() -> None:
    found = a_comparison()
    page = report.build_comparison(found, "2026-01-02T03:04:05+00:00", "lanewise ui")
    assert "b leads, but is not shown to beat a" in page.html and "c" not in "b leads, but is not shown to beat a"
    assert page.html.count("<svg") == 3 and "&lt;" not in page.markdown
    for text in (page.markdown, report.comparison_words(found)):
        assert "3.17" in text and "2.33" in text and "0.50" in text
    clear = [course(n, s, v + 0.01 * s) for n, v in (("a", 2.0), ("b", 1.0)) for s in range(5)]
    decided = compare("s", "accuracy", "maximize", clear, confidence=0.95)
    assert report.comparison_words(decided).startswith("a found the best networks: accuracy 2.02")
    alone = compare("s", "accuracy", "maximize", clear[:5], confidence=0.95)
    assert report.comparison_words(alone).startswith("Only a was tried")
    assert report.build_comparison(alone, "", None).html.count("<svg") == 3


def test_one_seed_has_no_interval() -> None:
    one = compare("s", "rmse", "minimize", [course("a", 0, 1.0), course("b", 0, math.pi)], confidence=0.95)
    assert one.standings[1].difference is not None and one.standings[1].difference.low is None
    assert "no interval" in report.comparison_words(one)


def test_equal_results_are_said_to_be_equal_and_have_no_interval() -> None:
    same = [course(name, seed, 1.0) for name in ("a", "b") for seed in range(3)]
    found = compare("s", "accuracy", "maximize", same, confidence=0.95)
    assert report.comparison_words(found).startswith("No difference between the strategies: accuracy 1.0")
    assert "no interval: the same difference with every seed" in report.comparison_words(found)
