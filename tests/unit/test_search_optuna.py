"""The strategies that ask Optuna's samplers or cmaes answer as these would by themselves, and find what they must."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from test_search_iterative import OneShape
from test_search_run import FakeTrainer, drain, minimize_rmse, recorded, table
from test_search_run import a_study as a_recorded_study
from test_search_strategies import a_history, a_space, a_study

from lanewise.search import STRATEGIES, LaneRequest, Report, Told
from lanewise.search.cmaes import CMAES
from lanewise.search.generations import ended
from lanewise.search.gp import half_ranked, losses_of
from lanewise.search.random import trial_seed
from lanewise.space import Config, Space, build_space
from lanewise.study import Study

Direction = Literal["maximize", "minimize"]

# the space of `a_space` without conditions, in its order, as a user of Optuna would write it
PLAIN: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(1e-5, 1e-1, log=True),
    "weight_decay": FloatDistribution(1e-6, 1e-1, log=True),
    "width": IntDistribution(16, 256, log=True),
    "depth": IntDistribution(1, 4),
    "dropout": FloatDistribution(0.0, 0.5, step=0.1),
    "activation": CategoricalDistribution(["relu", "gelu", "tanh"]),
    "skip": CategoricalDistribution([True, False]),
}


def unconditional(strategy: str, **search: Any) -> tuple[Study, Space]:
    study = a_study(strategy, space={}, search={"strategy": strategy, "startup": 4} | search)
    space = a_space(study)
    assert [n for n in space.parameters if n in PLAIN] == list(PLAIN) and set(space.searched()) == set(PLAIN)
    return study, space


def one_after_another(
    study: optuna.Study, config: Config, ranges: dict[str, BaseDistribution], count: int
) -> list[Told]:
    """Trials of a plain Optuna study, as a search with one lane would tell them."""
    history = []
    for number in range(count):
        trial = study.ask(ranges)
        value = abs(math.log10(trial.params["lr"]) + 3) + 0.1 * trial.params["depth"] + trial.params["dropout"]
        study.tell(trial, value)
        history.append(Told(number, config | trial.params, "complete", value, 3, (), begun=3 * number))
    return history


# --- the oracles


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_gp_answers_as_optuna_itself_would(direction: Direction) -> None:
    """Oracle: a plain Optuna study with the same trials, among them running ones, and its own sampler."""
    study, space = unconditional("gp")
    history = a_history(space, 20)
    losses = losses_of(history, 1.0 if direction == "minimize" else -1.0)
    plain = optuna.create_study()
    for told in history:
        value = losses.get(told.number)
        plain.add_trial(
            create_trial(
                state=TrialState.RUNNING if value is None else TrialState.COMPLETE, value=value,
                params={name: told.config[name] for name in PLAIN}, distributions=PLAIN,
            )
        )  # fmt: skip
    plain.sampler = optuna.samplers.GPSampler(seed=trial_seed(5, 20, "gp"), n_startup_trials=0)
    answer = STRATEGIES["gp"](study, space, direction).ask(20, history)
    assert answer is not None
    assert {name: answer[name] for name in PLAIN} == pytest.approx(plain.ask(PLAIN).params)


@pytest.mark.parametrize("count", [6, 9, 12, 31])  # at the start, amid and at the end of a generation
def test_nsga2_answers_as_optuna_itself_would(count: int) -> None:
    """Oracle: Optuna's own search, trial after trial, whose generations it keeps itself."""
    study, space = unconditional("nsga2", population=6)
    searched = optuna.create_study(sampler=optuna.samplers.NSGAIISampler(population_size=6, seed=1))
    history = one_after_another(searched, space.default(), PLAIN, count)
    # Optuna remembers a generation's parents in another order than it finds them; here it finds them
    plain = optuna.create_study()
    plain.add_trials(searched.trials)
    plain.sampler = optuna.samplers.NSGAIISampler(population_size=6, seed=trial_seed(5, count, "nsga2"))
    answer = STRATEGIES["nsga2"](study, space, "minimize").ask(count, history)
    assert answer is not None
    assert {name: answer[name] for name in PLAIN} == pytest.approx(plain.ask(PLAIN).params)


RANGES: dict[str, BaseDistribution] = {  # with a middle, where Optuna begins
    "lr": FloatDistribution(1e-5, 1e-1, log=True),
    "weight_decay": FloatDistribution(1e-6, 1e-2, log=True),
    "depth": IntDistribution(1, 5),
    "dropout": FloatDistribution(0.0, 0.5),
}


@pytest.mark.filterwarnings("ignore:.*sigma0:FutureWarning")
@pytest.mark.parametrize("generations", [1, 4])
def test_cmaes_has_the_distribution_of_optunas_own_search(generations: int) -> None:
    """Oracle: Optuna's own search from the same start, trial after trial; then the same draw from both."""
    study = a_study(space={"weight_decay": {"low": 1e-6, "high": 1e-2, "log": True}},
                    search={"strategy": "cmaes", "startup": 1, "population": 6})  # fmt: skip
    network = {"depth": {"low": 1, "high": 5}, "dropout": {"low": 0.0, "high": 0.5}}
    space = build_space(study, network, {"depth": 3, "dropout": 0.1})
    assert set(space.searched()) == set(RANGES)
    sampler = optuna.samplers.CmaEsSampler(sigma0=0.3, popsize=6, seed=1, warn_independent_sampling=False)
    plain = optuna.create_study(sampler=sampler)
    plain.enqueue_trial({name: space.parameters[name].at(0.5) for name in RANGES})
    count = 1 + 6 * generations
    history = one_after_another(plain, space.default(), RANGES, count)
    plain.ask(RANGES)  # with this one Optuna takes the last generation in
    theirs = sampler._restore_optimizer(plain.trials)
    strategy = CMAES(study, space, "minimize")
    ours = strategy.distribution(ended(history))
    assert theirs is not None and ours.generation == theirs.generation == generations
    for part in ("_mean", "_C", "_sigma", "_pc", "_p_sigma"):
        assert getattr(ours, part) == pytest.approx(getattr(theirs, part), rel=1e-6, abs=1e-9)
    theirs._rng.seed(trial_seed(5, count, "cmaes"))
    drawn = dict(zip(sorted(RANGES), theirs.ask(), strict=True))
    answer = strategy.ask(count, history)
    for name, share in drawn.items():
        assert answer[name] == pytest.approx(space.parameters[name].at(share), rel=1e-6)


# --- what is told


def test_the_worse_half_of_the_losses_is_drawn_in() -> None:
    """By hand: median 3, better half 1, 2, 3 with root mean square distance sqrt(5/3); quantiles of 0.7 and 0.9."""
    given = np.array([1e6, 1.0, 3.0, 2.0, 4.0])
    spread = math.sqrt(5 / 3)
    expected = [3 + spread * 1.2815515655446004, 1.0, 3.0, 2.0, 3 + spread * 0.5244005127080407]
    assert half_ranked(given) == pytest.approx(expected)
    assert half_ranked(np.array([2.0, 2.0, 2.0])) == pytest.approx([2.0, 2.0, 2.0])
    assert half_ranked(np.array([5.0])) == pytest.approx([5.0])
    tied = half_ranked(np.array([1.0, 1.0, 1.0, 9.0, 9.0]))  # no spread: the quantile of (4.5 - 0.5) / 5 itself
    assert tied == pytest.approx([1.0, 1.0, 1.0, 1.8416212335729143, 1.8416212335729143])


def test_failed_trials_are_as_bad_as_the_worst_and_running_ones_have_no_loss() -> None:
    def told(number: int, state: Any, value: float | None) -> Told:
        return Told(number, {}, state, value, 1, ())

    history = [
        told(0, "complete", 0.9), told(1, "failed", None), told(2, "pruned", 0.5), told(3, "running", 0.95),
        told(4, "complete", 0.8),
    ]  # fmt: skip
    losses = losses_of(history, -1.0)
    assert sorted(losses) == [0, 1, 2, 4]
    assert losses[1] == losses[2] > losses[4] == -0.8 > losses[0] == -0.9
    assert losses_of([told(0, "running", 0.1)], 1.0) == {}


def test_results_come_in_the_order_in_which_trials_ended() -> None:
    def told(number: int, begun: int, epochs: int, state: Any = "complete") -> Told:
        return Told(number, {}, state, None if state == "failed" else 1.0, epochs, (), begun)

    history = [
        told(0, 0, 9), told(1, 0, 2, "pruned"), told(2, 2, 7), told(3, 3, 1, "failed"), told(4, 5, 1, "running"),
        told(5, 4, 1, "pruned"),
    ]  # fmt: skip
    assert [t.number for t in ended(history)] == [1, 5, 0, 2]


def test_running_trials_push_gp_away() -> None:
    study = a_study(space={"weight_decay": 0.0})
    space = build_space(study, {}, {})
    tried = [10 ** (-5 + 4 * n / 11) for n in range(12)]
    history = [
        Told(n, space.default() | {"lr": lr}, "complete", (math.log10(lr) + 3.1) ** 2, 9, ())
        for n, lr in enumerate(tried)
    ]
    strategy = STRATEGIES["gp"](study, space, "minimize")

    def place(number: int, told: list[Told]) -> float:
        answer = strategy.ask(number, told)
        assert answer is not None
        return math.log10(float(answer["lr"]))

    alone = place(15, history)
    there = space.default() | {"lr": 10**alone}
    crowd = [*history, *(Told(12 + n, there, "running", None, 0, ()) for n in range(3))]
    assert abs(alone + 3.1) < 0.1  # the optimum
    assert abs(place(16, history) - alone) < 0.01 < 0.05 < abs(place(16, crowd) - alone)


# --- what they find, through the real loop


NETWORK: dict[str, Any] = {"width": {"low": 8, "high": 512, "log": True}}
TOYS: dict[str, dict[str, Any]] = {
    "quadratic": {"optimizer": "sgd", "momentum": 0.9},
    "mixed": {"optimizer": ["sgd", "adamw"], "momentum": {"low": 0.5, "high": 0.99}},
}


def distance(config: Config) -> float:
    """0 at lr 10^-2.5, weight decay 1e-3, width 48 and, where there is a choice, sgd with momentum 0.9."""
    a = (math.log10(float(config["lr"])) + 2.5) / 4
    b = (math.log10(float(config["weight_decay"])) + 3) / 5
    c = math.log2(float(config["width"]) / 48) / 4
    momentum = ((float(config["momentum"]) - 0.9) / 0.5) ** 2 if "momentum" in config else 0.1
    return a * a + b * b + c * c + a * b + momentum


def curve(request: LaneRequest, epoch: int) -> Report:
    """A large learning rate diverges: to a loss that would drown all others, or to none."""
    lr, value = float(request.config["lr"]), distance(request.config) + 0.2 / epoch
    if lr > 0.05:
        value *= 1e4
    return Report(request.number, epoch, math.inf if lr > 0.08 else value, {"valid/rmse": value})


@cache
def found(strategy: str, toy: str, seed: int, trials: int) -> float:
    """Smallest distance of a search with 5 lanes; the default, and all that ended badly, do not count."""
    study = Study.model_validate(
        {
            "name": "toy", "seed": seed, "data": {"source": "sklearn:digits"}, "space": TOYS[toy],
            "train": {"epochs": 4, "patience": 0},
            "search": {"strategy": strategy, "trials": trials, "pruner": "none", "max_failures": 99},
        }
    )  # fmt: skip
    space = build_space(study, NETWORK, {"width": 256})
    _, result = drain(minimize_rmse(study, space, OneShape(5, curve)))
    return min(distance(t.config) for t in result.trials[1:] if t.state == "complete")


SEEDS = range(5)
FINDS = [  # strategy, toy, trials, seeds, largest median distance
    ("sobol", "quadratic", 64, range(15), 0.02),
    ("tpe", "quadratic", 80, SEEDS, 0.003),
    ("tpe", "mixed", 80, SEEDS, 0.03),
    ("gp", "quadratic", 25, range(3), 0.005),
    ("gp", "mixed", 25, range(3), 0.08),
    ("cmaes", "quadratic", 80, SEEDS, 0.005),
    ("cmaes", "mixed", 80, SEEDS, 0.02),
    ("nsga2", "quadratic", 150, SEEDS, 0.01),
    ("nsga2", "mixed", 150, SEEDS, 0.03),
]


@pytest.mark.parametrize(
    ("strategy", "toy", "trials", "seeds", "limit"), FINDS, ids=[f"{f[0]}-{f[1]}" for f in FINDS]
)
def test_the_optimum_is_found_and_better_than_by_random_search(
    strategy: str, toy: str, trials: int, seeds: Sequence[int], limit: float
) -> None:
    ours, random = (
        statistics.median(found(name, toy, seed, trials) for seed in seeds) for name in (strategy, "random")
    )
    assert ours < limit and ours < random


def test_a_search_by_gp_is_resumed_and_extended(tmp_path: Path) -> None:
    """As test_search_run's property for the strategies that answer at once: an answer of this one takes 0.2 s."""
    long, short = (a_recorded_study(strategy="gp", trials=n, startup=4) for n in (11, 8))
    recorded(tmp_path / "l.db", short, FakeTrainer(2, dies_at=9))
    recorded(tmp_path / "l.db", short, FakeTrainer(2))
    _, continued = recorded(tmp_path / "l.db", long, FakeTrainer(2))
    _, straight = recorded(tmp_path / "s.db", long, FakeTrainer(2))
    assert continued is not None and straight is not None
    assert table(continued.trials) == table(straight.trials)
    random = recorded(tmp_path / "r.db", a_recorded_study(strategy="random", trials=11), FakeTrainer(2))[1]
    assert random is not None and table(random.trials)[8:] != table(straight.trials)[8:]  # the model did answer
