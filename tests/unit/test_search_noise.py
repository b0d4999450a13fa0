"""Noise floor and patience: hand-worked numbers, scipy as oracle, and what they change in the loop."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student
from test_search_run import (
    FakeTrainer,
    a_space,
    a_study,
    chance,
    learning_curve,
    recorded,
    run,
    table,
    without_clock,
)

from lanewise.errors import StudyError
from lanewise.evaluate import choose_contenders
from lanewise.ledger import Report
from lanewise.noise import noise_floor
from lanewise.search import LaneRequest, Told
from lanewise.search.budget import stalled
from lanewise.study import Study, load_study

FEW = settings(max_examples=15, deadline=None)


def test_the_floor_worked_by_hand() -> None:
    found = noise_floor([1.0, 2.0, 3.0], 0.95)
    assert found is not None
    # standard deviation 1, Student's 0.975 quantile with 2 degrees of freedom 4.3027, times sqrt(2)
    assert (found.scores, found.mean, found.spread) == (3, 2.0, 1.0)
    assert found.floor == pytest.approx(4.302653 * 1.414214, rel=1e-6)
    assert noise_floor([0.5] * 5, 0.95).floor == 0.0  # type: ignore[union-attr]
    assert noise_floor([1.0, 2.0], 0.95) is None and noise_floor([], 0.95) is None


@given(count=st.integers(3, 30), confidence=st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]))
@FEW
def test_the_floor_is_students(count: int, confidence: float) -> None:
    scores = [chance(count, n) for n in range(count)]
    found = noise_floor(scores, confidence)
    assert found is not None
    expected = student.interval(confidence, count - 1, scale=np.std(scores, ddof=1) * math.sqrt(2))[1]
    assert found.floor == pytest.approx(expected)


def test_two_trainings_exceed_the_floor_as_often_as_it_says() -> None:
    """Simulated: 20,000 times a floor from 4 scores and a difference of two further ones."""
    rng = np.random.default_rng(0)
    drawn = rng.normal(0.9, 0.01, (20_000, 6))
    floors = [noise_floor(list(row[:4]), 0.9).floor for row in drawn]  # type: ignore[union-attr]
    share = float(np.mean(np.abs(drawn[:, 4] - drawn[:, 5]) > floors))
    assert share == pytest.approx(0.1, abs=4 * math.sqrt(0.09 / 20_000))  # four standard deviations


def test_the_default_is_trained_first_under_several_seeds() -> None:
    study = a_study(noise_seeds=4, strategy="random")
    default = a_space(study).default()
    progress, result = run(study, 3)
    assert [t.config == default for t in result.trials[:6]] == [True] * 4 + [False] * 2
    assert all(t.state == "complete" for t in result.trials[:4])  # never pruned
    assert len({t.seed for t in result.trials[:4]}) == 4
    scores = [t.value for t in result.trials[:4]]
    assert len(set(scores)) == 4 and result.noise == noise_floor(scores, 0.95)  # type: ignore[arg-type]
    assert result.repeats == (1, 2, 3)
    assert all(t.duplicate_of in (None, 0) for t in result.trials if t.config == default)
    assert result.best not in result.repeats and all(p.best_number not in result.repeats for p in progress)


def test_the_other_trials_are_those_of_the_same_numbers_without_repeats() -> None:
    """Repeats are not told to the strategy and are no competitors at a rung."""
    plain = run(a_study(strategy="random", pruner="none"), 64)[1]
    noisy = run(a_study(strategy="random", pruner="none", noise_seeds=4), 64)[1]
    assert [t.config for t in plain.trials[4:]] == [t.config for t in noisy.trials[4:]]
    seen: list[int] = []

    class Listener:
        def ask(self, number: int, history: list[Told]) -> dict:
            seen.extend(told.number for told in history)
            return a_space(a_study()).sample_uniform(np.random.default_rng(number))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lanewise.search.run.strategy_of", lambda *_: Listener())
        run(a_study(strategy="random", noise_seeds=4), 2)
    assert 0 in seen and not {1, 2, 3} & set(seen)


def test_repeats_do_not_move_the_rungs() -> None:
    """A default that is better than all: with its repeats among the scores of a rung, all others would stop."""

    def by_number(request: LaneRequest, epoch: int) -> Report:
        score = 0.1 if request.number < 8 else 1.0 + request.number
        return Report(request.number, epoch, 0.1, {"valid/rmse": score})

    options = {"trials": 16, "strategy": "random", "space": {"lr": {"low": 1e-4, "high": 1e-2}}}
    _, result = run(a_study(noise_seeds=8, train={"patience": 0}, **options), 64, curve=by_number)
    # at the first rung are trial 0 and 8 to 15: a half of nine goes on
    assert [t.number for t in result.trials if t.state == "complete" and t.number >= 8] != []
    stopped = [t.number for t in result.trials if t.state == "pruned" and t.epochs == 2]
    assert stopped == [11, 12, 13, 14, 15]


def test_finalists_hold_no_repeat() -> None:
    _, result = run(a_study(noise_seeds=5, strategy="random"), 4)
    names = [c.name for c in choose_contenders(result.trials, "minimize", 30)]
    assert names[0] == "default" and not {f"trial-{n:04d}" for n in range(1, 5)} & set(names)


def test_a_default_that_fails_leaves_no_floor_and_the_search_goes_on() -> None:
    def only_others(request: LaneRequest, epoch: int) -> Report:
        report = learning_curve(request, epoch)
        return dataclasses.replace(report, failed="oom" if request.number < 5 and epoch == 2 else None)

    _, result = run(a_study(noise_seeds=5, patience=60, strategy="random"), 4, curve=only_others)
    assert [t.state for t in result.trials[:5]] == ["failed"] * 5 and result.noise is None
    assert result.trials[result.best].state == "complete"


def test_a_repeat_that_completes_is_not_the_one_trial_that_must() -> None:
    """The budget ends while only trial 5 competes: it goes on, the repeats do not stand for it."""

    def trial_0_fails(request: LaneRequest, epoch: int) -> Report:
        report = Report(request.number, epoch, 0.1, {"valid/rmse": 1.0 + request.number})
        return dataclasses.replace(report, failed="oom" if request.number == 0 else None)

    study = a_study(noise_seeds=5, trials=6, epochs=20, train={"patience": 0}, strategy="random")
    _, result = run(study, 6, curve=trial_0_fails)
    assert result.best == 5 and result.trials[5].state == "complete"


def test_enqueued_configurations_and_a_grid_come_after_the_repeats() -> None:
    space = {"lr": [1e-3, 1e-2], "weight_decay": 0.0, "width": [16, 32]}
    for search in ({"strategy": "grid"}, {"strategy": "random", "trials": 12}):
        study = a_study(noise_seeds=3, space=space, enqueue=[{"lr": 1e-2}], **search)
        default = a_space(study).default()
        _, result = run(study, 4)
        assert [t.config for t in result.trials[:4]] == [default] * 3 + [default | {"lr": 1e-2}]
    assert len({a_space(study).key(t.config) for t in result.trials}) == 4
    grid = run(a_study(noise_seeds=3, space=space, strategy="grid"), 4)[1]
    assert len(grid.trials) == 3 + 3 and grid.repeats == (1, 2) and grid.grid is not None
    assert [c.trials for c in grid.grid if c.config == default] == [(0,)]


# --- patience


@pytest.mark.parametrize(
    ("values", "floor", "patience", "stops"),
    [
        ([5.0, 4.0, 4.0, 4.5], 0.0, 2, True),
        ([5.0, 4.0, 4.0, 4.5], 0.0, 3, False),
        ([5.0, 4.0, 3.9, 4.5], 0.0, 2, False),
        ([5.0, 4.0, 3.9, 4.5], 0.1, 2, True),  # 0.1 is not more than the floor
        ([5.0, 4.0, 3.9, 3.8], 0.15, 2, False),  # two steps of 0.1 add up
        ([5.0, None, None], 0.0, 2, True),
        ([None, None], 0.0, 2, True),
        ([5.0] * 9, 0.0, 0, False),
        ([], 0.0, 1, False),
    ],
)
def test_progress_worked_by_hand(
    values: list[float | None], floor: float, patience: int, stops: bool
) -> None:
    assert stalled(values, "minimize", floor, patience) is stops
    negated = [None if value is None else -value for value in values]
    assert stalled(negated, "maximize", floor, patience) is stops


def flat(request: LaneRequest, epoch: int) -> Report:
    """Nothing but noise between 0 and 0.1, and one trial that is better by far."""
    score = 1.0 + 0.1 * chance(request.seed, epoch) - 0.8 * (request.number == 12)
    return Report(request.number, epoch, 0.1, {"valid/rmse": score})


def test_a_search_without_progress_ends() -> None:
    options = {"strategy": "random", "pruner": "none", "trials": 200, "train": {"epochs": 3}}
    _, result = run(a_study(patience=20, noise_seeds=5, space={"width": 32}, **options), 1, curve=flat)
    assert result.noise is not None and 0.01 < result.noise.floor < 0.3
    # one lane: trials end by number, and 12 is the last progress
    assert len(result.trials) == 12 + 20 + 1
    assert (
        result.ending == f"20 trials brought no progress beyond the noise floor of {result.noise.floor:.4g}"
    )
    _, known = run(a_study(patience=20, space={"width": 32}, **options), 1, curve=flat)
    assert known.ending == "20 trials brought no progress" and known.noise is None
    assert len(run(a_study(space={"width": 32}, **options), 1, curve=flat)[1].trials) == 200  # off by default


@given(kills=st.lists(st.integers(1, 40), max_size=3), lanes=st.integers(1, 9), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_resumed_it_is_the_same_search(
    tmp_path_factory: pytest.TempPathFactory, kills: list[int], lanes: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("resume")
    study = a_study(strategy="iterative", trials=60, noise_seeds=4, patience=8, round_trials=5)
    study = study.model_copy(update={"seed": seed})
    _, straight = recorded(folder / "straight.db", study, FakeTrainer(lanes))
    resumed = None
    for kill in [*kills, None]:
        _, resumed = recorded(folder / "broken.db", study, FakeTrainer(lanes, dies_at=kill))
    assert straight is not None and resumed is not None
    assert table(resumed.trials) == table(straight.trials)
    assert without_clock(resumed) == without_clock(straight)


def test_more_patience_goes_on_where_less_stopped(tmp_path: Path) -> None:
    less, more = (a_study(patience=n, strategy="random", trials=60) for n in (5, 15))
    _, short = recorded(tmp_path / "l.db", less, FakeTrainer(3))
    _, longer = recorded(tmp_path / "l.db", more, FakeTrainer(3))
    _, straight = recorded(tmp_path / "s.db", more, FakeTrainer(3))
    assert short is not None and longer is not None and straight is not None
    assert len(short.trials) < len(longer.trials)
    assert table(longer.trials) == table(straight.trials)


@pytest.mark.parametrize(
    ("search", "says"),
    [
        ("{strategy: grid, patience: 5}", "a grid ends when every cell was tried"),
        ("{noise_seeds: 4, trials: 5, enqueue: [{lr: 0.1}, {lr: 0.2}]}", "trials: 6"),
        ("{noise_seeds: 2}", "0, or at least 3"),
        ("{noise_seeds: 5, trials: 5}", "noise_seeds < trials"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, search: str, says: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(f'data: {{source: "sklearn:digits"}}\nsearch: {search}\n')
    with pytest.raises(StudyError, match=says) as caught:
        load_study(path)
    assert caught.value.where is not None and caught.value.where.startswith(f"{path}:2:")
    assert Study.model_validate(
        {"name": "s", "data": {"source": "x", "target": "y"}, "search": {"noise_seeds": 3}}
    )
