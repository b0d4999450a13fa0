"""Chains of trials along hypergradients: their steps by hand, what they may not depend on, and a search with them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_search_run import FakeTrainer, a_study, drain, recorded, table

from lanewise.data import prepare
from lanewise.errors import StudyError
from lanewise.ledger import Report
from lanewise.model import resolve
from lanewise.search import STRATEGIES, LaneRequest, SearchResult, Told, search
from lanewise.search.gradient import BELIEVED, Gradient
from lanewise.search.lanes import SearchLanes
from lanewise.search.random import trial_rng
from lanewise.space import Config, Space, build_space
from lanewise.study import Study, load_study
from lanewise.trainer import Trainer
from tasks.replay import _trained

LR_ONLY = {"weight_decay": 1e-4, "width": 32}


def a_space(study: Study) -> Space:
    return build_space(study, {"width": [16, 32, 64]}, {"width": 32})


def asked(study: Study, history: Sequence[Told], number: int | None = None) -> Config:
    strategy = Gradient(study, a_space(study), "minimize")
    return strategy.ask(len(history) if number is None else number, history)


def start_of(study: Study, history: Sequence[Told]) -> Config:
    """What is asked where no chain waits."""
    return STRATEGIES["tpe"](study, a_space(study), "minimize").ask(len(history), history)


def told(
    number: int,
    config: Config,
    loss: float | None = 1.0,
    state: Literal["running", "complete", "pruned", "failed"] = "complete",
    **slopes: float | None,
) -> Told:
    """A trial whose last row has the loss and slopes given; the one before it a higher loss and other slopes."""
    rows: list[dict[str, float | None]] = []
    if loss is not None:
        rows = [
            {"hyper/loss": loss + 1.0, **{f"hyper/{n}": -1e9 for n in slopes}},
            {"hyper/loss": loss, **{f"hyper/{n}": slope for n, slope in slopes.items()}},
        ]
    value = None if state == "failed" else loss
    return Told(number, config, state, value, len(rows), (9.0,) * len(rows), 0, rows)


# --- steps, by hand: the range of lr has four decades, so a step of 0.1 is 0.4 decades


def test_steps_grow_while_the_slope_keeps_its_sign_and_shrink_where_it_turns() -> None:
    study = a_study(strategy="gradient", space=LR_ONLY)
    default = a_space(study).default()
    history = [told(0, default, 1.0, lr=-100.0)]
    found = []
    for loss, slope in ((0.8, -10.0), (1.2, 30.0), (0.7, 20.0), (0.9, -1.0)):
        config = asked(study, history)
        found.append(float(config["lr"]))
        history.append(told(len(history), config, loss, lr=slope))
    found.append(float(asked(study, history)["lr"]))
    # up 0.4 decades; up 0.6; turned: down 0.3; down 0.45; turned: up 0.225; whatever the loss
    exponents = (-3 + 0.4, -3 + 1.0, -3 + 0.7, -3 + 0.25, -3 + 0.475)
    assert found == pytest.approx([10**e for e in exponents], rel=1e-5)


def test_each_hyperparameter_has_its_own_step_and_the_rest_stays() -> None:
    study = a_study(strategy="gradient", space={"label_smoothing": {"low": 0.0, "high": 0.5}})
    default = a_space(study).default() | {"label_smoothing": 0.2, "width": 64}
    history = [told(0, default, 1.0, lr=100.0, weight_decay=-3.0, label_smoothing=-0.5)]
    config = asked(study, history)
    changed = {"lr": 10**-3.4, "weight_decay": 1e-4 * 10**0.5, "label_smoothing": 0.25}
    assert {n: float(config[n]) for n in changed} == pytest.approx(changed, rel=1e-5)
    assert {n: v for n, v in config.items() if n not in changed} == {
        n: v for n, v in default.items() if n not in changed
    }


@pytest.mark.parametrize("slope", [BELIEVED * 1.01 * 1e3, -BELIEVED * 1.01 * 1e3, None])
def test_where_slopes_explode_the_rate_goes_down_and_the_rest_waits(slope: float | None) -> None:
    """At lr 1e-3 a slope of 1e4 is one of 10 losses by ln(lr)."""
    study = a_study(strategy="gradient")
    default = a_space(study).default()
    config = asked(study, [told(0, default, 1.0, lr=slope, weight_decay=1.0)])
    assert config == default | {"lr": pytest.approx(10**-3.4, rel=1e-5)}
    believed = asked(study, [told(0, default, 1.0, lr=-9.9e3, weight_decay=1.0)])
    assert float(believed["lr"]) > 1e-3 and float(believed["weight_decay"]) < 1e-4


def test_a_chain_stays_in_its_range_and_ends_where_it_cannot_move() -> None:
    study = a_study(strategy="gradient", space={**LR_ONLY, "lr": {"low": 1e-4, "high": 2e-3, "log": True}})
    default = a_space(study).default()
    history = [told(0, default, lr=-100.0)]
    for _ in range(4):
        config = asked(study, history)
        history.append(told(len(history), config, history[-1].value - 0.1, lr=-100.0))  # type: ignore[operator]
        if float(config["lr"]) == 2e-3:
            break
    assert history[-1].config["lr"] == 2e-3
    assert asked(study, history) == start_of(study, history)  # nowhere to go: another start


def test_a_start_outside_a_narrowed_range_moves_into_it() -> None:
    study = a_study(strategy="gradient", space=LR_ONLY)
    space = a_space(study).narrow("lr", 1e-2, 5e-2)  # the default, 1e-3, is outside
    strategy = Gradient(study, space, "minimize")
    config = strategy.ask(1, [told(0, space.default(), lr=-100.0)])
    assert float(config["lr"]) == pytest.approx(1e-2 * 5**0.1, rel=1e-5)


def test_a_chain_ends_where_its_slope_has_turned_some_times() -> None:
    study = a_study(strategy="gradient", space=LR_ONLY)
    history = [told(0, a_space(study).default(), 1.0, lr=-100.0)]
    for step, slope in ((0.1, 100.0), (0.05, -100.0), (0.075, 100.0)):
        config = asked(study, history)
        assert float(config["lr"]) == pytest.approx(1e-3 * 1e4**step, rel=1e-5)
        history.append(told(len(history), config, 2.0, lr=slope))
    assert asked(study, history) == start_of(study, history)


# --- which trials make chains


@pytest.mark.parametrize("state", ["pruned", "failed"])
def test_no_chain_begins_with_a_trial_that_did_not_complete(state: Literal["pruned", "failed"]) -> None:
    study = a_study(strategy="gradient")
    history = [told(0, a_space(study).default(), 1.0, state, lr=-1.0, weight_decay=-1.0)]
    assert asked(study, history) == start_of(study, history)


@pytest.mark.parametrize("state", ["pruned", "failed"])
def test_after_a_trial_that_did_not_complete_half_its_step_is_tried(
    state: Literal["pruned", "failed"],
) -> None:
    study = a_study(strategy="gradient", space=LR_ONLY)
    history = [told(0, a_space(study).default(), 1.0, lr=-100.0)]
    history.append(told(1, asked(study, history), 0.1, state, lr=-100.0))
    assert float(asked(study, history)["lr"]) == pytest.approx(1e-3 * 10**0.2, rel=1e-5)


def test_chains_go_on_beside_each_other_oldest_first_and_none_is_asked_twice() -> None:
    study = a_study(strategy="gradient", space=LR_ONLY)
    default = a_space(study).default()
    other = default | {"lr": 1e-5}
    history = [told(0, default, 1.0, lr=-100.0), told(1, other, 3.0, lr=-100.0)]
    first = asked(study, history)
    assert float(first["lr"]) == pytest.approx(10**-2.6, rel=1e-5)
    history.append(told(2, first, state="running"))
    second = asked(study, history)
    assert float(second["lr"]) == pytest.approx(10**-4.6, rel=1e-5)
    history.append(told(3, second, state="running"))
    assert asked(study, history) == start_of(study, history)  # both wait for their running trials
    history[3] = told(3, second, 2.0, lr=-100.0)
    assert float(asked(study, history)["lr"]) == pytest.approx(10**-4.0, rel=1e-5)


def test_a_configuration_that_is_known_is_not_proposed_again() -> None:
    study = a_study(strategy="gradient", space=LR_ONLY)
    default = a_space(study).default()
    history = [told(0, default, 1.0, lr=-100.0)]
    known = told(0, asked(study, history), 5.0)
    history = [known, told(1, default, 1.0, lr=-100.0)]
    assert float(asked(study, history)["lr"]) == pytest.approx(10**-2.8, rel=1e-5)  # half the step


def test_with_nothing_continuous_to_search_it_is_tpe() -> None:
    study = a_study(strategy="gradient", space={"weight_decay": 1e-4, "lr": [1e-3, 1e-2]})
    strategy = Gradient(study, a_space(study), "minimize")
    history = [told(0, a_space(study).default(), lr=-1.0)]
    assert strategy.slopes == () and strategy.ask(1, history) == start_of(study, history)


# --- what it may not depend on: tests/unit/test_search_strategies.py with reports that have slopes


def with_slopes(count: int, seed: int, study: Study) -> list[Told]:
    """A search of some trials by the strategy itself, every one ended, with slopes drawn at random."""
    history: list[Told] = []
    space = a_space(study)
    for number in range(count):
        rng = trial_rng(seed, number, "slopes")
        config = space.default() if number == 0 else asked(study, history, number)
        state = str(rng.choice(["complete", "complete", "complete", "pruned", "failed"]))
        slopes = {n: float(rng.normal() * 10.0 ** rng.integers(-2, 6)) for n in ("lr", "weight_decay")}
        loss = float(rng.random())
        history.append(told(number, config, loss, state, **slopes))  # type: ignore[arg-type]
    return history


@given(seed=st.integers(0, 999), count=st.integers(1, 14))
@settings(max_examples=15, deadline=None)
def test_proposals_are_legal_and_depend_on_the_history_only(seed: int, count: int) -> None:
    study = a_study(strategy="gradient", startup=4)
    space = a_space(study)
    final = with_slopes(count, seed, study)
    used = Gradient(study, space, "minimize")
    ended: set[int] = set()
    for number in sorted(range(count), key=lambda n: (n * 7 + seed) % count):
        ended.add(number)
        now = [t if t.number in ended else told(t.number, t.config, None, "running") for t in final]
        config = used.ask(count, now)
        assert config == asked(study, now)
        assert space.contains(config) and space.active(config) == config
        assert all(type(value) in (int, float, str, bool) for value in config.values())


# --- a search


def bowl(request: LaneRequest, epoch: int) -> Report:
    """Loss with its lowest point at lr 3e-3 and weight decay 1e-2, falling over epochs to it, and its derivatives."""
    lr, decay = float(request.config["lr"]), float(request.config["weight_decay"])
    away = {"lr": math.log10(lr / 3e-3), "weight_decay": math.log10(decay / 1e-2)}
    value = {"lr": lr, "weight_decay": decay}
    loss = 0.2 + 0.1 * sum(d * d for d in away.values()) + 1.0 / epoch
    slopes = {f"hyper/{n}": 0.2 * away[n] / (value[n] * math.log(10)) for n in request.slopes}
    return Report(request.number, epoch, loss, {"valid/rmse": loss, "hyper/loss": loss, **slopes})


def bowl_search(start: Config, lanes: int = 1, **options: Any) -> SearchResult:
    study = a_study(strategy="gradient", space={"width": 32}, trials=12, pruner="none", **options)
    space = a_space(study)
    space = replace(space, defaults={**space.defaults, **start})
    steps = search(study, space, FakeTrainer(lanes, bowl), metric="rmse", direction="minimize")
    return drain(steps)[1]


@pytest.mark.parametrize("start", [(1e-5, 1e-6), (1e-1, 1e-1), (1e-5, 1e-1), (1e-1, 1e-6)])
def test_from_every_corner_a_chain_comes_to_the_lowest_point(start: tuple[float, float]) -> None:
    result = bowl_search({"lr": start[0], "weight_decay": start[1]})
    best = result.trials[result.best]
    away = math.hypot(
        math.log10(float(best.config["lr"]) / 3e-3), math.log10(float(best.config["weight_decay"]) / 1e-2)
    )
    assert away < 0.35  # decades, of 4 by 5


def test_the_engine_is_asked_for_slopes_by_this_strategy_only() -> None:
    seen: dict[str, set[tuple[str, ...]]] = {}
    for strategy in ("gradient", "tpe"):
        study = a_study(strategy=strategy, space={"width": 32}, trials=3)

        def noted(request: LaneRequest, epoch: int, strategy: str = strategy) -> Report:
            seen.setdefault(strategy, set()).add(request.slopes)
            return bowl(request, epoch)

        drain(search(study, a_space(study), FakeTrainer(2, noted), metric="rmse", direction="minimize"))
    assert seen == {"gradient": {("lr", "weight_decay")}, "tpe": {()}}


@given(kill=st.integers(1, 60), lanes=st.integers(1, 5), seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_a_resumed_search_follows_the_same_chains(
    tmp_path_factory: pytest.TempPathFactory, kill: int, lanes: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("resume")
    study = a_study(strategy="gradient", trials=18).model_copy(update={"seed": seed})
    _, straight = recorded(folder / "straight.db", study, FakeTrainer(lanes, bowl))
    recorded(folder / "broken.db", study, FakeTrainer(lanes, bowl, dies_at=kill))
    _, resumed = recorded(folder / "broken.db", study, FakeTrainer(lanes, bowl))
    assert straight is not None and resumed is not None
    assert table(resumed.trials) == table(straight.trials)


# --- real networks


def seeds_scores(trainer: Trainer, configs: Mapping[str, Config], seeds: int) -> dict[str, list[float]]:
    """The validation accuracy of configurations, each trained with its own new seeds."""
    lanes = {
        f"{name}/{seed}": trainer.lane(f"{name}/{seed}", config, 10_000 + seed, keep_best=False)
        for name, config in configs.items()
        for seed in range(seeds)
    }
    best = dict.fromkeys(lanes, 0.0)
    for lane in lanes.values():
        trainer.add(lane)
    while trainer.active:
        for report in trainer.tick():
            best[str(report.key)] = max(best[str(report.key)], report.scores["valid/accuracy"])
    return {name: [best[f"{name}/{seed}"] for seed in range(seeds)] for name in configs}


def on_digits(folder: Path, train: str, search_options: str, start: Config) -> tuple[Trainer, SearchResult]:
    """A search of a small network on the digits whose default is `start`."""
    path = folder / "study.yaml"
    path.write_text(
        'name: bad\ndata: {source: "sklearn:digits"}\n'
        "space: {width: 16, depth: 1, dropout: 0.0, batch_size: 256}\n"
        f"train: {train}\nsearch: {search_options}\n",
        encoding="utf-8",
    )
    study = load_study(path, {"tracking.home": str(folder / "home")})
    dataset, network = prepare(study).dataset, resolve("mlp")
    space = build_space(study, network.space, network.defaults)
    space = replace(space, defaults={**space.defaults, **start})
    lanes = SearchLanes(Trainer(study, network, dataset))
    result = drain(search(study, space, lanes, metric="accuracy", direction="maximize"))[1]
    return Trainer(study, network, dataset, lanes=64), result


def test_a_trial_is_replayed_with_its_derivatives_bit_for_bit(tmp_path: Path) -> None:
    options = "{strategy: gradient, trials: 3, lanes: 2, pruner: none}"
    trainer, result = on_digits(tmp_path, "{epochs: 2}", options, {})
    for trial in result.trials:
        metrics = {name: [] for row in trial.curve for name in row}
        tags = {"lanewise.seed": str(trial.seed)}
        record = {
            "key": "trial", "config": trial.config, "tags": tags, "metrics": metrics, "state": trial.state,
        }  # fmt: skip
        again = _trained(trainer.study, trainer.network, trainer.dataset, record, len(trial.curve), None)
        assert [epoch.values for epoch in again] == trial.curve
        assert {"hyper/loss", "hyper/lr", "hyper/weight_decay"} < set(again[0].values)


@pytest.mark.slow
def test_on_digits_a_bad_rate_and_decay_come_within_the_noise_of_tuned_ones(tmp_path: Path) -> None:
    """Tuned: the best rate and decay of a grid of 15. The noise: the deviation over seeds of that one."""
    options = "{strategy: gradient, trials: 10, lanes: 1, pruner: none}"
    bad = {"lr": 1e-5, "weight_decay": 1e-1}
    trainer, result = on_digits(tmp_path, "{epochs: 20, patience: 0}", options, bad)
    losses = {t.number: min(row["hyper/loss"] or math.inf for row in t.curve) for t in result.trials}
    found, start = result.trials[min(losses, key=losses.__getitem__)].config, result.trials[0].config
    grid = {
        f"{lr}/{decay}": {**start, "lr": lr, "weight_decay": decay}
        for lr in (1e-4, 1e-3, 1e-2, 3e-2, 1e-1)
        for decay in (1e-6, 1e-3, 1e-1)
    }
    means = {name: sum(s) / len(s) for name, s in seeds_scores(trainer, grid, 2).items()}
    tuned = grid[max(means, key=means.__getitem__)]
    scores = seeds_scores(trainer, {"tuned": tuned, "found": found, "bad": start}, 8)
    mean = {name: sum(s) / len(s) for name, s in scores.items()}
    noise = math.sqrt(sum((s - mean["tuned"]) ** 2 for s in scores["tuned"]) / 7)
    assert mean["bad"] < 0.5  # there was a way to go
    assert mean["found"] >= mean["tuned"] - noise


def test_averaged_weights_have_no_derivatives_and_are_refused() -> None:
    study = a_study(space={"averaging": ["none", "ema"]})
    with pytest.raises(StudyError, match="cannot follow averaged weights") as raised:
        Gradient(study, a_space(study), "minimize")
    assert "one of none, ema" in str(raised.value)
