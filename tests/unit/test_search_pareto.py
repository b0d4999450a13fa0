"""Several objectives: the front is the brute-force one and Optuna's, strategies find it, and nothing loses it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial
from test_optuna_copy import read
from test_search_iterative import OneShape
from test_search_optuna import PLAIN, unconditional
from test_search_run import (
    FakeTrainer,
    a_space,
    a_study,
    drain,
    learning_curve,
    minimize_rmse,
    recorded,
    run,
    table,
    the_ledger,
    without_clock,
)
from test_search_strategies import a_history
from test_search_warm_start import a_reading, told_of

from lanewise.data import prepare
from lanewise.errors import StudyError
from lanewise.ledger import Report, TrialRecord, read_ledger, size_of
from lanewise.model import resolve
from lanewise.search import STRATEGIES, LaneRequest, SearchResult, Told, search
from lanewise.search.lanes import SearchLanes
from lanewise.search.objectives import pareto_front
from lanewise.search.optuna_copy import write_optuna
from lanewise.search.random import trial_seed
from lanewise.space import build_space
from lanewise.study import METRIC_ONLY, STRATEGY_NAMES, Study, load_study
from lanewise.trainer import Trainer
from tasks.replay import _trained

Direction = Literal["maximize", "minimize"]
State = Literal["complete", "pruned", "failed", "duplicate"]
BOTH = ("parameters", "multiply_adds")


def sized(request: LaneRequest, epoch: int) -> Report:
    """As `learning_curve`, of a network whose parameters grow with its width."""
    report = learning_curve(request, epoch)
    sizes = {"size/parameters": 100.0 * float(request.config.get("width", 32))} if epoch == 1 else {}
    return replace(report, scores={**report.scores, **sizes})


def several(**search: Any) -> Study:
    return a_study(**{"objectives": ["parameters"], "strategy": "nsga2", "population": 6, **search})


# --- the front


def trial(number: int, value: float | None, sizes: Sequence[float], state: State = "complete") -> TrialRecord:
    row: dict[str, float | None] = {f"size/{n}": s for n, s in zip(BOTH, sizes, strict=False)}
    return TrialRecord(number, {}, 0, state, value=value, curve=[row, {}])


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)


STATES: list[State] = ["complete", "complete", "complete", "pruned", "failed", "duplicate"]


@given(
    drawn=st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.sampled_from(STATES)), max_size=40
    ),
    objectives=st.sampled_from([BOTH[:1], BOTH]),
    direction=st.sampled_from(["maximize", "minimize"]),
    repeats=st.sets(st.integers(0, 3)),
)
@settings(max_examples=200, deadline=None)
def test_the_front_is_the_brute_force_one_and_optunas(
    drawn: list[tuple[int, int, int, State]], objectives: Sequence[str], direction: Direction, repeats: set[int]
) -> None:
    trials = [trial(n, float(v), sizes, state) for n, (v, *sizes, state) in enumerate(drawn)]  # type: ignore[arg-type]
    sign = -1 if direction == "maximize" else 1
    costs = {
        t.number: (sign * cast("float", t.value), *(cast("float", size_of(t.curve, o)) for o in objectives))
        for t in trials
        if t.state == "complete" and t.number not in repeats
    }
    expected = {n for n, cost in costs.items() if not any(dominates(c, cost) for c in costs.values())}
    front = pareto_front(trials, objectives, direction, repeats)
    assert set(front) == expected and len(front) == len(expected)
    assert list(front) == sorted(front, key=lambda n: (*costs[n], n))
    study = optuna.create_study(directions=["minimize"] * (1 + len(objectives)))
    for cost in costs.values():
        study.add_trial(create_trial(values=cost))
    assert set(front) == {[*costs][t.number] for t in study.best_trials}


def test_trials_without_a_size_have_no_place_on_the_front() -> None:
    lacking = replace(trial(0, 1.0, [1.0]), curve=[])
    assert pareto_front([lacking], BOTH[:1], "minimize") == ()
    assert pareto_front([lacking, trial(1, 9.0, [9.0])], BOTH[:1], "minimize") == (1,)


# --- the loop


def test_the_result_has_the_front_and_the_winner_is_the_best_by_the_metric() -> None:
    study = several(noise_seeds=3, trials=40)
    _, result = run(study, 5, curve=sized)
    assert result.objectives == ("parameters",)
    assert result.front == pareto_front(result.trials, ("parameters",), "minimize", {1, 2})
    assert result.front[0] == result.best and len(result.front) > 1
    states = {t.state for t in result.trials}
    assert {"complete", "failed"} <= states and "pruned" not in states
    assert not {1, 2} & set(result.front)
    assert all(size_of(t.curve, "parameters") for t in result.trials if t.state == "complete")
    assert not any("size/parameters" in row for t in result.trials for row in t.curve[1:])
    one = run(a_study(strategy="nsga2", population=6, pruner="none"), 5)[1]
    assert one.objectives == one.front == ()


@pytest.mark.parametrize("strategy", ["nsga2", "tpe"])
def test_a_strategy_learns_from_the_sizes(strategy: str) -> None:
    """With them it asks for other trials, and for smaller ones."""
    kwargs: dict[str, Any] = {"strategy": strategy, "trials": 60, "pruner": "none"}
    alone = run(a_study(**kwargs, population=6), 4, curve=sized)[1]
    together = run(several(**kwargs), 4, curve=sized)[1]
    assert table(alone.trials) != table(together.trials)
    widths = [
        statistics.mean(float(t.config["width"]) for t in found.trials[20:]) for found in (alone, together)
    ]
    assert widths[1] < widths[0]


@pytest.mark.parametrize("strategy", ["nsga2", "tpe", "random", "auto", "sobol", "grid"])
def test_a_search_is_repeated_and_resumed_with_its_front(strategy: str, tmp_path: Path) -> None:
    study = several(strategy=strategy, trials=30)
    _, straight = recorded(tmp_path / "s.db", study, FakeTrainer(3, sized))
    for dies_at in (9, 30):
        recorded(tmp_path / "l.db", study, FakeTrainer(3, sized, dies_at=dies_at))
    _, continued = recorded(tmp_path / "l.db", study, FakeTrainer(3, sized))
    assert straight is not None and continued is not None
    assert table(continued.trials) == table(straight.trials)
    assert without_clock(continued) == without_clock(straight) and straight.front


# --- the strategies


@pytest.mark.parametrize("strategy", ["nsga2", "tpe"])
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_answers_are_those_of_optuna_itself(strategy: str, direction: Direction) -> None:
    """Oracle: a plain Optuna study with the same trials in the same order, and its own sampler."""
    study, space = unconditional(strategy, objectives=["parameters", "multiply_adds"], population=6, pruner="none")
    history = [
        replace(t, rows=[{f"size/{BOTH[0]}": 9.0 * int(t.config["width"]), f"size/{BOTH[1]}": 4.0 ** (t.number % 5)}])
        for t in a_history(space, 24, running=0 if strategy == "nsga2" else 3)
        if t.state in ("complete", "running")
    ]
    ends = sorted(history, key=lambda t: (t.begun + t.epochs, t.number)) if strategy == "nsga2" else history
    plain = optuna.create_study(directions=[direction, "minimize", "minimize"])
    generation = optuna.samplers.NSGAIISampler._get_generation_key()
    for place, told in enumerate(ends):
        sizes = (math.log1p(cast("float", size)) for size in told.rows[0].values())
        plain.add_trial(
            create_trial(
                state=TrialState.COMPLETE if told.state == "complete" else TrialState.RUNNING,
                values=[told.value, *sizes] if told.state == "complete" else None,
                params={name: told.config[name] for name in PLAIN}, distributions=PLAIN,
                system_attrs={generation: place // 6} if strategy == "nsga2" else {},
            )
        )  # fmt: skip
    seed = trial_seed(5, 24, strategy)
    plain.sampler = (
        optuna.samplers.NSGAIISampler(population_size=6, seed=seed)
        if strategy == "nsga2"
        else optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=0)
    )
    answer = STRATEGIES[strategy](study, space, direction).ask(24, history)
    assert answer is not None
    assert {name: answer[name] for name in PLAIN} == pytest.approx(plain.ask(PLAIN).params)


def trade_off(request: LaneRequest, epoch: int) -> Report:
    """The front is known: at lr 10^-2.5 and weight decay 1e-3 every width is on it, with the score 8/width."""
    config = request.config
    off = (math.log10(float(config["lr"])) + 2.5) ** 2 + (math.log10(float(config["weight_decay"])) + 3) ** 2
    width = float(config["width"])
    sizes = {"size/parameters": width} if epoch == 1 else {}
    return Report(request.number, epoch, 1.0, {"valid/rmse": 8 / width + 0.1 * off, **sizes})


def gap(strategy: str, seed: int) -> float:
    """How far a search's front lies above the known one, on average over sizes from 16 to 512."""
    study = Study.model_validate(
        {
            "name": "toy", "seed": seed, "data": {"source": "sklearn:digits"}, "train": {"epochs": 2, "patience": 0},
            "search": {"strategy": strategy, "trials": 120, "objectives": ["parameters"], "population": 12},
        }
    )  # fmt: skip
    space = build_space(study, {"width": {"low": 8, "high": 512, "log": True}}, {"width": 256})
    _, result = drain(minimize_rmse(study, space, OneShape(5, trade_off)))
    found = {float(result.trials[n].config["width"]): cast("float", result.trials[n].value) for n in result.front}
    sizes = (16, 32, 64, 128, 256, 512)
    return statistics.mean(min(v for w, v in found.items() if w <= size) - 8 / size for size in sizes)


def test_a_known_front_is_found_and_better_than_by_random_search() -> None:
    gaps = {s: statistics.median(gap(s, seed) for seed in range(3)) for s in ("random", "nsga2", "tpe")}
    assert gaps["nsga2"] < 0.75 * gaps["random"] and gaps["tpe"] < 0.5 * gaps["random"], gaps


# --- what is refused


@pytest.mark.parametrize("strategy", [*STRATEGY_NAMES, "mine:Mine"])
def test_strategies_that_know_the_metric_only_are_refused_and_nothing_is_pruned(strategy: str) -> None:
    given: dict[str, Any] = {"objectives": ["parameters"], "strategy": strategy}
    if strategy in METRIC_ONLY:
        with pytest.raises(ValueError, match="with several objectives"):
            a_study(**given)
        return
    assert a_study(**given).search.pruner == "none"
    for other in ({"pruner": "asha"}, {"patience": 5}, {"objectives": ["parameters", "parameters"]}):
        with pytest.raises(ValueError, match=r"with several objectives|named twice"):
            a_study(**{**given, **other})


def test_patience_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text('data: {source: "sklearn:digits"}\nsearch:\n  objectives: [parameters]\n  patience: 9\n')
    with pytest.raises(StudyError, match=r"study\.yaml:4.*`patience` with several objectives"):
        load_study(path)


# --- warm start


def test_a_warm_start_brings_the_sizes_along() -> None:
    study = several(trials=40)
    _, earlier = run(study, 5, curve=sized)
    told, notes = told_of({"old": a_reading(study, list(earlier.trials))}, study)
    tried = [t for t in earlier.trials if t.state != "duplicate"]
    assert notes == [f"learning from {len(tried)} of {len(tried)} trials of old"]
    assert [size_of(t.rows, "parameters") for t in told] == [size_of(t.curve, "parameters") for t in tried]
    _, warm = drain(minimize_rmse(study, a_space(study), FakeTrainer(5, sized), earlier=told))
    assert table(warm.trials)[1:6] != table(earlier.trials)[1:6]  # a child of the earlier ones, no random draw
    other = several(trials=40, objectives=["multiply_adds"])
    told, notes = told_of({"old": a_reading(study, list(earlier.trials))}, other)
    assert {t.state for t in told} == {"failed"} and notes[0].endswith("; the others have no value of an objective")


# --- Optuna's copy


def test_the_copy_has_the_same_front(tmp_path: Path) -> None:
    space = {"lr": [1e-3, 3e-3, 0.01, 0.06], "weight_decay": 0.0}
    study = several(trials=60, space=space, strategy="random")
    with the_ledger(tmp_path / "l.db", study, a_space(study)) as ledger:
        from test_search_run import minimize_rmse_recorded

        _, result = drain(minimize_rmse_recorded(study, a_space(study), FakeTrainer(3, sized), ledger))
    assert {t.state for t in result.trials} == {"complete", "failed", "duplicate"}
    write_optuna(read_ledger(tmp_path / "l.db"), "toy", tmp_path / "optuna.db")
    copy = read(tmp_path / "optuna.db")
    assert copy.metric_names == ["rmse", "parameters"] and len(copy.directions) == 2
    # a duplicate is its original once more
    originals = [t.number if t.duplicate_of is None else t.duplicate_of for t in result.trials]
    on_it = {number for number, original in enumerate(originals) if original in result.front}
    assert {t.number for t in copy.best_trials} == on_it and len(on_it) > len(result.front)


# --- real networks


def on_digits(folder: Path, **options: Any) -> tuple[Trainer, SearchResult]:
    path = folder / "study.yaml"
    path.write_text(
        'name: small\ndata: {source: "sklearn:digits"}\n'
        "space: {width: {low: 8, high: 256, log: true}, depth: 1, dropout: 0.0, batch_size: 256}\n"
        "train: {epochs: 8}\n"
        "search: {objectives: [parameters, multiply_adds], strategy: nsga2, trials: 24, population: 6, lanes: 6}\n",
        encoding="utf-8",
    )
    study = load_study(path, {"tracking.home": str(folder / "home"), **options})
    dataset, network = prepare(study).dataset, resolve("mlp")
    trainer = Trainer(study, network, dataset)
    space = build_space(study, network.space, network.defaults)
    return trainer, drain(search(study, space, SearchLanes(trainer), metric="accuracy", direction="maximize"))[1]


def test_on_digits_a_larger_network_of_the_front_has_a_better_score(tmp_path: Path) -> None:
    trainer, result = on_digits(tmp_path)
    inputs = len(trainer.dataset.layout.numeric)
    for one in result.trials:
        if one.state == "duplicate":
            continue
        width = int(one.config["width"])
        products = inputs * width + width * 10
        # biases, and two numbers a unit for the layer normalisation
        assert size_of(one.curve, "parameters") == products + width + 2 * width + 10
        assert size_of(one.curve, "multiply_adds") == products
        assert not any(name.startswith("size/") for row in one.curve[1:] for name in row)
    front = [result.trials[n] for n in result.front]
    widths, scores = [int(t.config["width"]) for t in front], [cast("float", t.value) for t in front]
    assert len(front) >= 3 and widths == sorted(widths, reverse=True) and scores == sorted(scores, reverse=True)
    assert front[0].number == result.best


def test_a_trial_is_replayed_with_its_sizes(tmp_path: Path) -> None:
    trainer, result = on_digits(tmp_path, **{"search.trials": "3", "train.epochs": "2"})
    one = result.trials[2]
    record = {
        "key": "trial", "config": one.config, "tags": {"lanewise.seed": str(one.seed)}, "state": one.state,
        "metrics": {name: [] for row in one.curve for name in row},
    }  # fmt: skip
    again = _trained(trainer.study, trainer.network, trainer.dataset, record, len(one.curve), None)
    assert [epoch.values for epoch in again] == one.curve
    assert set(again[0].values) - set(again[1].values) == {"size/parameters", "size/multiply_adds"}


def test_a_history_without_sizes_is_as_if_it_were_empty() -> None:
    study = several(strategy="nsga2", trials=30)
    space = a_space(study)
    history = [Told(n, space.default(), "complete", 1.0, 3, (), begun=n) for n in range(12)]
    random = STRATEGIES["random"](study, space, "minimize")
    assert STRATEGIES["nsga2"](study, space, "minimize").ask(12, history) == random.ask(12, history)
