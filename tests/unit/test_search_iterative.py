"""Iterative random search: boxes worked by hand, rounds against what the loop had really seen by then."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_search_run import FakeTrainer, chance, drain, minimize_rmse

from lanewise.parameter import Parameter
from lanewise.search import STRATEGIES, LaneRequest, Progress, Report, SearchResult, Told
from lanewise.search.iterative import Iterative, quantile_box, reweighted, tightened
from lanewise.search.random import RandomSearch
from lanewise.space import Config, Space, build_space
from lanewise.study import Study

NETWORK: dict[str, Any] = {
    "width": {"low": 16, "high": 256, "log": True},
    "depth": {"low": 1, "high": 4},
    "dropout": {"low": 0.0, "high": 0.5},
    "activation": ["relu", "gelu", "tanh"],
}
DEFAULTS: Config = {"width": 32, "depth": 2, "dropout": 0.0, "activation": "relu"}


class OneShape(FakeTrainer):
    """Every lane takes every shape, as the real trainer's."""

    def free(self, request: LaneRequest) -> bool:
        return len(self.lanes) < self.capacity


def bowl(request: LaneRequest, epoch: int) -> Report:
    """Best at lr 10^-2.5, weight decay 1e-4, width 100, dropout 0.3, gelu; a little noise."""
    config = request.config
    floor = (math.log10(float(config["lr"])) + 2.5) ** 2
    floor += 0.3 * (math.log10(float(config["weight_decay"])) + 4) ** 2
    floor += 0.3 * math.log2(float(config["width"]) / 100) ** 2 + 4 * (float(config["dropout"]) - 0.3) ** 2
    floor += 0.5 * (config["activation"] != "gelu")
    score = floor + 2.0 / epoch + 0.05 * chance(request.seed, epoch)
    return Report(request.number, epoch, 1.0, {"valid/rmse": score}, failed="x" if score > 20 else None)


def a_study(seed: int = 0, **search: Any) -> Study:
    base = {
        "trials": 60,
        "strategy": "iterative",
        "rung_first": 2,
        "rung_factor": 2,
        "max_failures": 99,
    }
    return Study.model_validate(
        {
            "name": "s", "seed": seed, "data": {"source": "sklearn:digits"},
            "train": {"epochs": 12, "patience": 0}, "search": base | search,
        }
    )  # fmt: skip


def run(study: Study, lanes: int, space: Space | None = None) -> tuple[list[Progress], SearchResult]:
    space = space or build_space(study, NETWORK, DEFAULTS)
    return drain(minimize_rmse(study, space, OneShape(lanes, bowl)))


def linear(low: float, high: float, **more: Any) -> Parameter:
    return Parameter(low=low, high=high, **more)


def decades(low: float, high: float) -> Parameter:
    return Parameter(low=10.0**low, high=10.0**high, log=True)


@pytest.mark.parametrize(
    ("current", "declared", "values", "low", "high"),
    [
        # span 0.2 of three values, so a margin of 0.1
        (linear(0, 1.0), linear(0, 1.0), [0.5, 0.4, 0.6], 0.3, 0.7),
        # five values: a margin of a quarter of the span
        (linear(0, 1.0), linear(0, 1.0), [0.5, 0.3, 0.4, 0.6, 0.7], 0.2, 0.8),
        # a decade of span, half a decade of margin
        (decades(-6, 0), decades(-6, 0), [10**-3.0, 10**-2.5, 10**-3.5], 1e-4, 1e-2),
        # the margin does not leave the range of the round before ...
        (linear(0.35, 1.0), linear(0, 1.0), [0.5, 0.4, 0.6], 0.35, 0.7),
        # ... but a value does, such as that of a control trial
        (linear(0.35, 1.0), linear(0, 1.0), [0.5, 0.2, 0.6], 0.2, 0.8),
        # the best at an end: a decade further, half the range further
        (decades(-4, -2), decades(-6, 0), [10**-3.95, 10**-3.9, 10**-3.85], 1e-5, 10**-3.75),
        (linear(0.4, 0.6), linear(0, 1.0), [0.6, 0.58, 0.59], 0.565, 0.7),
        # where only a worse one is at the end, the range stays
        (linear(0.4, 0.6), linear(0, 1.0), [0.58, 0.6, 0.59], 0.565, 0.6),
        # the declared range is the limit
        (linear(0, 1.0), linear(0, 1.0), [0.0, 0.1, 0.2], 0.0, 0.3),
        (decades(-4, -2), decades(-4.5, 0), [10**-4.0, 10**-3.5, 10**-3.0], 10**-4.5, 10**-2.5),
        # equal values: 5 % of the declared range is left, or a step on either side
        (linear(0, 1.0), linear(0, 1.0), [0.5, 0.5], 0.475, 0.525),
        (linear(1, 9), linear(1, 9), [4.0, 4.0, 4.0], 3, 5),
        (linear(0, 1.0, step=0.1), linear(0, 1.0, step=0.1), [0.3, 0.3], 0.2, 0.4),
        (Parameter(low=1, high=8, log=True), Parameter(low=1, high=8, log=True), [4.0, 4.0], 3, 5),
        # whole steps within the box 0.25 .. 0.85
        (linear(0, 1.0, step=0.1), linear(0, 1.0, step=0.1), [0.5, 0.4, 0.7, 0.5], 0.3, 0.8),
    ],
)  # fmt: skip
def test_the_box_worked_by_hand(
    current: Parameter, declared: Parameter, values: list[float], low: float, high: float
) -> None:
    assert quantile_box(current, declared, values).bounds == pytest.approx((low, high))


@given(ends=st.tuples(st.floats(-5, 5), st.floats(0.5, 9)), count=st.integers(3, 40), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_box_does_not_shrink_where_a_parameter_does_not_matter(
    ends: tuple[float, float], count: int, seed: int
) -> None:
    """On average over draws: the ends of the box of uniform values are the ends they were drawn from."""
    import numpy as np

    low, high = ends[0], ends[0] + ends[1]
    wide = linear(low - 100 * ends[1], high + 100 * ends[1])
    drawn = np.random.default_rng(seed).uniform(low, high, (400, count))
    boxes = [((count + 1) * span / (count - 1)) for span in np.ptp(drawn, axis=1)]
    assert statistics.mean(boxes) == pytest.approx(ends[1], rel=0.1)
    found = quantile_box(wide, wide.model_copy(update={"low": low - 9.0, "high": high + 9.0}), list(drawn[0]))
    expected = max(boxes[0], 0.05 * (ends[1] + 18.0))  # never less than 5 % of the declared range
    assert found.bounds[1] - found.bounds[0] == pytest.approx(expected)


def test_choices_worked_by_hand() -> None:
    assert reweighted(("a", "b", "c"), ["a", "a", "b"]) == (3 / 6, 2 / 6, 1 / 6)
    assert reweighted((True, 1.5), [True, True]) == (3 / 4, 1 / 4)
    assert reweighted((True, False), []) == (1 / 2, 1 / 2)


def test_what_fewer_than_three_elites_have_stays() -> None:
    study = Study.model_validate(
        {"name": "s", "data": {"source": "sklearn:digits"},
         "space": {"optimizer": ["sgd", "adamw"], "momentum": {"low": 0.5, "high": 0.99}}}
    )  # fmt: skip
    space = build_space(study, {}, {})
    sgd, adamw = space.default({"optimizer": "sgd", "momentum": 0.7}), space.default({"optimizer": "adamw"})
    found, weights = tightened(space, {}, [sgd, sgd | {"momentum": 0.8}, adamw])
    assert found.parameters["momentum"] == space.parameters["momentum"]
    assert weights == {"optimizer": (3 / 5, 2 / 5)}
    found, _ = tightened(space, {}, [sgd, sgd | {"momentum": 0.8}, sgd | {"momentum": 0.75}, adamw])
    assert found.parameters["momentum"].bounds == pytest.approx((0.65, 0.85))
    assert found.parameters["momentum"].when == space.parameters["momentum"].when
    assert found.original == space.original and found.default() == space.default()


def test_weights_are_how_often_choices_are_drawn() -> None:
    study = a_study(round_trials=20)
    space = build_space(study, {"activation": ["relu", "gelu", "tanh"]}, {"activation": "relu"})
    told = []
    for n in range(20):
        config = space.default({"activation": "gelu" if n < 5 else "relu", "lr": 10 ** (-2 - n / 20)})
        told.append(Told(n, config, "complete", float(n), 5, ()))
    asked = [STRATEGIES["iterative"](study, space, "minimize").ask(n, told) for n in range(20, 920)]
    share = sum(c["activation"] == "gelu" for c in asked) / 900
    assert share == pytest.approx(6 / 8, abs=4 * math.sqrt(6 / 8 * 2 / 8 / 900))  # four standard deviations
    assert {c["activation"] for c in asked} == {"relu", "gelu", "tanh"}  # none dies


def test_round_0_is_random_search() -> None:
    study = a_study(trials=8)
    space = build_space(study, NETWORK, DEFAULTS)
    plain = RandomSearch(study, space, "minimize")
    _, result = run(study, 2)
    assert [t.config for t in result.trials[1:]] == [plain.ask(n, ()) for n in range(1, 8)]
    assert len(result.rounds) == 1 and result.rounds[0].space == space.to_json()


@given(
    seed=st.integers(0, 2**32 - 1), lanes=st.integers(1, 20), size=st.integers(2, 15),
    pruner=st.sampled_from(["asha", "none"]),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_a_round_learns_from_what_the_loop_had_seen_and_its_trials_lie_in_its_space(
    seed: int, lanes: int, size: int, pruner: str
) -> None:
    """The twin reads the loop's ticks as they came, not the history; its boxes are those of the rounds."""
    study = a_study(seed, round_trials=size, pruner=pruner)
    space = build_space(study, NETWORK, DEFAULTS).narrow("lr", 1e-4, 1e-2)
    progress, result = run(study, lanes, space)
    ended_by = [0]
    for tick in progress:
        ended_by.append(ended_by[-1] + sum(t.state != "duplicate" for t in tick.ended))
    begun = {n: p.ticks - 1 for p in progress for n, _, _ in p.started}
    configs = {n: config for p in progress for n, config, _ in p.started}
    now, weights, place = space, {}, 0
    expected = {0: (0, space, weights)}
    while (place + 1) * size <= ended_by[-1]:
        place += 1
        tick = next(t for t, count in enumerate(ended_by) if count >= place * size)
        if tick != expected[place - 1][0]:
            seen: dict[int, float] = {}
            for p in progress[:tick]:
                for report in p.reports:
                    score = report.scores["valid/rmse"]
                    seen[report.number] = min(seen.get(report.number, math.inf), score)
                for trial in p.ended:
                    if trial.state == "failed":
                        del seen[trial.number]
            best = sorted(seen, key=lambda n: (seen[n], n))[: max(5, math.ceil(size / 4))][: len(seen) // 2]
            now, weights = tightened(now, weights, [configs[n] for n in best])
        expected[place] = (tick, now, dict(weights))
    asked_in = {n: max(r for r, (tick, _, _) in expected.items() if tick <= begun[n]) for n in begun}
    assert [r.number for r in result.rounds] == sorted(set(asked_in.values()))
    for found in result.rounds:
        tick, now, weights = expected[found.number]
        assert (found.tick, found.space) == (tick, now.to_json())
        assert found.weights == {name: list(w) for name, w in weights.items()}
        own = [n for n in asked_in if asked_in[n] == found.number]
        assert (found.first, found.trials) == (min(own), len(own))
        for number in own:
            trial = result.trials[number]
            assert space.contains(trial.config)
            if number > 0:
                outside = [n for n, v in trial.config.items() if not now.parameters[n].legal(v)]
                assert outside in ([], ["lr"] if trial.control else [])


def test_it_finds_the_optimum_and_beats_random_search() -> None:
    """100 trials in 10 lanes, 10 seeds: the median is much nearer to the optimum than random search's."""

    def reached(strategy: str) -> list[float]:
        results = [run(a_study(seed, strategy=strategy, trials=100), 10)[1] for seed in range(10)]
        # 2 / 12 is left at the optimum after all epochs
        return [float(result.trials[result.best].value or 9.0) - 2 / 12 for result in results]

    random, iterative = reached("random"), reached("iterative")
    middle = statistics.median(random)
    assert sum(value < middle for value in iterative) >= 9
    assert statistics.median(iterative) < 0.4 * middle


def test_a_known_round_is_given_up_where_the_history_is_another_one() -> None:
    study = a_study(round_trials=4)
    space = build_space(study, NETWORK, DEFAULTS)
    plain = RandomSearch(study, space, "minimize")
    told = [Told(n, plain.ask(n, ()), "complete", float(n), 5, (), begun=n) for n in range(12)]
    late = [*told[:2], Told(2, told[2].config, "running", None, 5, (9.0,) * 5, begun=2), *told[3:]]
    used = Iterative(study, space, "minimize")
    for history in (told, late, told[:5], [*told[:3], *told[5:]], told):
        fresh = Iterative(study, space, "minimize")
        assert used.ask(20, history) == fresh.ask(20, history)
        assert used.rounds(history) == fresh.rounds(history)
