"""Numbers and words of the report: hand-worked values and properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanewise.report.records import LONGEST_TEXT, printable
from lanewise.report.wording import (
    GAP,
    MINUS,
    candidate_words,
    counted,
    date_words,
    decimals,
    fixed,
    joined,
    metric_words,
    percent,
    seconds,
    short,
    signed,
    the,
    thousands,
)


@pytest.mark.parametrize(
    ("low", "high", "others", "places"),
    [
        (0.01, 0.09, (0.84, 0.79), 2),  # half width 0.04
        (0.012, 0.018, (), 3),  # half width 0.003
        (-300.0, 100.0, (2345.6,), 0),  # half width 200, large values
        (0.2, 0.8, (), 2),  # small values never fewer than two
        (0.003, 0.09, (), 3),  # 0.003 must not become 0.00
        (0.00004, 0.09, (), 4),  # but at most two more than the width asks for
        (0.0, 0.09, (), 2),  # a true zero may be printed as one
        (None, None, (0.8351,), 3),
        (None, None, (2345.6,), 0),
        (None, None, (), 2),
        (0.0, 0.0, (0.0,), 2),
    ],
)
def test_decimals_follow_the_interval(
    low: float | None, high: float | None, others: tuple[float, ...], places: int
) -> None:
    assert decimals(low, high, *others) == places


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_an_interval_is_printed_with_at_least_half_its_width_resolved(a: float, b: float) -> None:
    low, high = sorted((a, b))
    places = decimals(low, high)
    assert 0 <= places <= 6
    if high - low > 1e-4:
        assert 10.0**-places <= max((high - low) / 2, 1.0)


@pytest.mark.parametrize(
    ("value", "places", "text"),
    [(-0.001, 2, "0.00"), (-0.5, 2, f"{MINUS}0.50"), (None, 2, "\u2013"), (1234.5, 0, "1234")],
)
def test_fixed(value: float | None, places: int, text: str) -> None:
    assert fixed(value, places) == text


def test_signed_marks_only_what_is_above_zero() -> None:
    assert [signed(v, 2) for v in (0.5, 0.0, 0.001, -0.5)] == ["+0.50", "0.00", "0.00", f"{MINUS}0.50"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00012347, "0.0001235"),
        (1.5725548544057943e-06, "1.573e-6"),
        (64, "64"),
        (True, "true"),
        ("relu", "relu"),
        (None, "\u2013"),
        (0.1 + 0.2, "0.3"),
        (1e22, "1e22"),
    ],
)
def test_short(value: object, text: str) -> None:
    assert short(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.04, "0.0 s"),
        (3.94, "3.9 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3599.6, "1 h 0 min"),
        (None, "\u2013"),
    ],
)
def test_seconds(value: float | None, text: str) -> None:
    assert seconds(value).replace(GAP, " ") == text


def test_words() -> None:
    assert percent(0.004).replace(GAP, " ") == "under 1 %"
    assert percent(0.999).replace(GAP, " ") == "over 99 %"
    assert percent(1.0).replace(GAP, " ") == "100 %"
    assert thousands(1234567).replace(GAP, " ") == "1 234 567"
    assert counted(1, "trial").replace(GAP, " ") == "1 trial"
    assert counted(0, "trial").replace(GAP, " ") == "0 trials"
    assert joined(["a", "b", "c"]) == "a, b and c"
    assert joined([]) == ""
    assert candidate_words("trial-0042") == "trial 42"
    assert the("default") == "the default"
    assert metric_words("balanced_accuracy") == "balanced accuracy"
    assert date_words("2026-11-20T16:03:11+02:00") == "2026-11-20 14:03 UTC"
    assert date_words("yesterday") == "yesterday"


def test_printable_keeps_no_control_character_and_no_login() -> None:
    assert printable("a\nb\x00\u202ec") == "a b c"
    assert printable("postgresql://me:s3cret@host/db") == "postgresql://***@host/db"
    assert len(printable("x" * 10_000)) == LONGEST_TEXT


@given(st.text())
def test_printable_is_one_line_and_does_not_change_twice(text: str) -> None:
    once = printable(text)
    assert len(once.splitlines()) <= 1
    assert printable(once) == once
