"""Asynchronous successive halving: hand-worked rungs, and what must hold of every rung."""

from __future__ import annotations

import math
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanewise.pruning import Asha, better, rungs, spare

NAN = math.nan


@pytest.mark.parametrize(
    ("first", "factor", "epochs", "expected"),
    [
        (5, 3, 50, (5, 15)),  # 45 lies in the second half
        (5, 3, 90, (5, 15, 45)),
        (1, 2, 9, (1, 2, 4)),
        (5, 3, 5, ()),
        (60, 3, 50, ()),
    ],
)
def test_rungs(first: int, factor: int, epochs: int, expected: tuple[int, ...]) -> None:
    assert rungs(first, factor, epochs) == expected


@pytest.mark.parametrize(
    ("direction", "arrived", "scores", "stopped"),
    [
        # nine arrive together, three of them stay
        ("minimize", range(9), dict(enumerate([3, 1, 4, 1.5, 9, 2.6, 5, 3.5, 8])), (0, 2, 4, 6, 7, 8)),
        ("maximize", range(9), dict(enumerate([3, 1, 4, 1.5, 9, 2.6, 5, 3.5, 8])), (0, 1, 2, 3, 5, 7)),
        # the first at a rung goes on, and so does the second if it is better
        ("minimize", [0], {0: 7.0}, ()),
        ("minimize", [1], {0: 7.0, 1: 6.0}, ()),
        ("minimize", [1], {0: 7.0, 1: 8.0}, (1,)),
        # six were here: two of six may stay; who stayed before counts, and is not stopped any more
        ("minimize", [5], {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0, 4: 5.0, 5: 1.5}, ()),
        ("minimize", [5], {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0, 4: 5.0, 5: 2.5}, (5,)),
        # equal scores go on together
        ("minimize", [0, 1, 2], {0: 1.0, 1: 1.0, 2: 1.0}, ()),
        ("maximize", [0, 1, 2, 3], {0: 1.0, 1: 0.9, 2: 1.0, 3: 0.8}, (1, 3)),
        # NaN never survives, takes no place, and does not count as one of three
        ("minimize", [0, 1], {0: NAN, 1: 5.0}, (0,)),
        ("minimize", [0], {0: NAN}, (0,)),
        ("maximize", [0, 1, 2, 3, 4], {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0, 4: NAN}, (0, 1, 2, 4)),
        ("minimize", [], {0: 1.0}, ()),
    ],
)
def test_hand_worked_rungs(
    direction: Literal["maximize", "minimize"],
    arrived: list[int],
    scores: dict[int, float],
    stopped: tuple[int, ...],
) -> None:
    assert Asha(3, direction).stops(arrived, scores) == stopped


cohorts = st.dictionaries(st.integers(0, 99), st.floats(allow_nan=True), min_size=1, max_size=30)


@given(scores=cohorts, factor=st.integers(2, 5), data=st.data())
def test_every_rung(scores: dict[int, float], factor: int, data: st.DataObject) -> None:
    arrived = data.draw(st.lists(st.sampled_from(sorted(scores)), unique=True))
    stopped = Asha(factor, "minimize").stops(arrived, scores)
    usable = [score for score in scores.values() if not math.isnan(score)]
    going_on = set(arrived) - set(stopped)
    assert set(stopped) <= set(arrived)
    places = max(1, len(usable) // factor)
    assert sum(scores[n] > sorted(usable)[places - 1] for n in going_on) == 0  # none but its equals beyond them
    assert len({n for n in going_on if scores[n] < sorted(usable)[places - 1]}) < places if usable else not going_on
    assert not any(math.isnan(scores[number]) for number in going_on)
    if usable and min(scores, key=lambda n: (math.isnan(scores[n]), scores[n], n)) in arrived:
        assert going_on  # the best of a rung is never stopped
    for number in going_on:
        assert sum(score < scores[number] for score in usable) < max(1, len(usable) // factor)


@given(
    scores=st.dictionaries(st.integers(0, 99), st.integers(-9, 9).map(float), min_size=1),
    factor=st.integers(2, 5),
)
def test_maximizing_is_minimizing_the_negative(scores: dict[int, float], factor: int) -> None:
    negative = {number: -score for number, score in scores.items()}
    assert Asha(factor, "maximize").stops(scores, scores) == Asha(factor, "minimize").stops(scores, negative)


@given(scores=cohorts, data=st.data())
def test_the_order_of_arrival_within_a_tick_does_not_matter(
    scores: dict[int, float], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(list(scores)))
    again = {number: scores[number] for number in shuffled}
    assert Asha(3, "minimize").stops(list(scores), scores) == Asha(3, "minimize").stops(shuffled, again)


def test_a_synchronous_cohort_is_halved_as_successive_halving_would() -> None:
    """27 in step over rungs 1, 3, 9 with factor 3: 27, 9, 3, 1 go on (Jamieson and Talwalkar 2016)."""
    alive = list(range(27))
    for expected in (9, 3, 1):
        scores = {number: float((number * 7) % 27) for number in alive}
        stopped = Asha(3, "minimize").stops(alive, scores)
        alive = [number for number in alive if number not in stopped]
        assert len(alive) == expected
    assert alive == [0]


def test_spare_keeps_the_furthest_then_the_best_then_the_first() -> None:
    assert spare({3: (5, 0.1), 4: (15, 0.9), 5: (15, 0.8)}, "minimize") == 5
    assert spare({3: (5, 0.1), 4: (15, 0.9), 5: (15, 0.8)}, "maximize") == 4
    assert spare({7: (5, None), 8: (5, 3.0)}, "minimize") == 8
    assert spare({7: (5, 3.0), 6: (5, 3.0)}, "minimize") == 6
    assert spare({2: (0, None)}, "maximize") == 2


def test_better() -> None:
    assert better(1, 2, "minimize") and better(2, 1, "maximize")
    assert not better(1, 1, "minimize") and not better(NAN, 1, "minimize") and not better(NAN, 1, "maximize")
