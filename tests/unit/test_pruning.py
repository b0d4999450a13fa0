"""Pruners: hand-worked rungs, what must hold of every rung, and Optuna's median rule."""

from __future__ import annotations

import math
from typing import Literal

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanewise.pruning import Asha, Hyperband, Median, better, rungs, spare

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
    assert Asha((1,), 3, direction).stops(arrived, scores) == stopped


cohorts = st.dictionaries(st.integers(0, 99), st.floats(allow_nan=True), min_size=1, max_size=30)


@given(scores=cohorts, factor=st.integers(2, 5), data=st.data())
def test_every_rung(scores: dict[int, float], factor: int, data: st.DataObject) -> None:
    arrived = data.draw(st.lists(st.sampled_from(sorted(scores)), unique=True))
    stopped = Asha((1,), factor, "minimize").stops(arrived, scores)
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
    higher, lower = Asha((1,), factor, "maximize"), Asha((1,), factor, "minimize")
    assert higher.stops(scores, scores) == lower.stops(scores, negative)


@given(scores=cohorts, data=st.data())
def test_the_order_of_arrival_within_a_tick_does_not_matter(
    scores: dict[int, float], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(list(scores)))
    again = {number: scores[number] for number in shuffled}
    assert Asha((1,), 3, "minimize").stops(list(scores), scores) == Asha((1,), 3, "minimize").stops(shuffled, again)


def test_a_synchronous_cohort_is_halved_as_successive_halving_would() -> None:
    """27 in step over rungs 1, 3, 9 with factor 3: 27, 9, 3, 1 go on (Jamieson and Talwalkar 2016)."""
    alive = list(range(27))
    for expected in (9, 3, 1):
        scores = {number: float((number * 7) % 27) for number in alive}
        stopped = Asha((1,), 3, "minimize").stops(alive, scores)
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


# --- median


def test_median_by_hand() -> None:
    """Five complete ones with 1, 2, 3, 4, 5: worse than 3 stops, equal goes on; running ones do not count."""
    scores = dict(enumerate([1.0, 2.0, 3.0, 4.0, 5.0, 3.0, 3.1, NAN, 0.5, 99.0]))
    rule = Median(4, "minimize")
    assert rule.stops([5, 6, 7, 8], scores, range(5)) == (6, 7)
    assert Median(4, "maximize").stops([5, 6, 7, 8], scores, range(5)) == (7, 8)
    assert rule.stops([5, 6, 7, 8], scores, range(4)) == ()  # too few to have a middle
    assert rule.stops([8, 9], {8: 0.5, 9: 99.0}, range(5)) == ()  # none of the complete ones came so far
    assert rule.group(3, 3) is None and rule.group(3, 4) == rule.group(9, 4) == (4,)


@given(
    curves=st.lists(
        st.lists(st.integers(0, 20).map(float), min_size=6, max_size=6), min_size=6, max_size=12
    ),
    epoch=st.integers(1, 6),
    warmup=st.integers(1, 6),
    direction=st.sampled_from(["maximize", "minimize"]),
)
@settings(max_examples=60, deadline=None)
def test_median_decides_as_optuna_does(
    curves: list[list[float]], epoch: int, warmup: int, direction: Literal["maximize", "minimize"]
) -> None:
    """Oracle: Optuna's MedianPruner, told the best score so far of every trial (as a complete trial's value is)."""
    best = max if direction == "maximize" else min
    so_far = [[best(curve[: e + 1]) for e in range(6)] for curve in curves]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    plain = optuna.create_study(direction=direction)
    *complete, running = so_far
    for curve in complete:
        steps = dict(enumerate(curve, start=1))
        plain.add_trial(optuna.trial.create_trial(value=curve[-1], intermediate_values=steps))
    trial = plain.ask()
    for step in range(1, epoch + 1):
        trial.report(running[step - 1], step)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=warmup)
    expected = bool(pruner.prune(plain, plain.trials[-1]))
    ours = Median(warmup, direction)
    last = len(so_far) - 1
    scores = {number: curve[epoch - 1] for number, curve in enumerate(so_far)}
    stops = ours.stops([last], scores, range(last)) if ours.group(last, epoch) is not None else ()
    assert (last in stops) is expected


# --- hyperband


def test_the_brackets_of_hyperband_are_those_of_the_paper() -> None:
    """R = 81, eta = 3: 81, 34, 15, 8 and 5 configurations start in its brackets (Li et al. 2018, table 1)."""
    paper = Hyperband((1, 3, 9, 27), 3, "minimize")
    assert paper.sizes() == (81, 34, 15, 8, 5)
    two = Hyperband((5, 15), 3, "minimize")
    assert two.sizes() == (9, 5, 3)
    assert [two.bracket(n) for n in range(19)] == [0] * 9 + [1] * 5 + [2] * 3 + [0] * 2


def test_hyperband_compares_within_a_bracket() -> None:
    two = Hyperband((5, 15), 3, "minimize")
    assert two.group(0, 5) == two.group(17, 5) != two.group(9, 5)
    assert [two.group(0, e) for e in (4, 5, 15)] == [None, (0, 5), (0, 15)]
    assert [two.group(9, e) for e in (5, 15, 16)] == [None, (1, 15), None]
    assert not any(two.group(15, e) for e in range(1, 50))  # the last bracket trains all to their end
    scores = {0: 3.0, 1: 1.0, 2: 2.0}
    assert two.stops([0, 1, 2], scores, ()) == Asha((5,), 3, "minimize").stops([0, 1, 2], scores) == (0, 2)
