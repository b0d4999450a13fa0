"""Every strategy keeps the contract of `records.Strategy`; TPE is Optuna's; what proposals add to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import qmc

from lanewise.errors import StudyError
from lanewise.search import STRATEGIES, Told
from lanewise.search.budget import Budget
from lanewise.search.proposals import DUPLICATES_IN_A_ROW, Proposals, unseen
from lanewise.search.random import trial_rng, trial_seed
from lanewise.space import Config, Space, build_space
from lanewise.strategy_checks import CONDITIONAL, DEFAULTS, NETWORK
from lanewise.strategy_checks import toy_history as a_history
from lanewise.study import Study, load_study
from lanewise.testing import check_strategy
from lanewise.trainer import lane_count


def a_study(strategy: str = "tpe", **changes: Any) -> Study:
    base = {"name": "s", "seed": 5, "data": {"source": "sklearn:digits"}, "space": CONDITIONAL}
    # A grid of two points has 3,456 cells in `a_space`.
    return Study.model_validate(
        base | {"search": {"strategy": strategy, "startup": 4, "grid_points": 2}} | changes
    )


def a_space(study: Study) -> Space:
    return build_space(study, NETWORK, DEFAULTS)


def goodness(config: Config) -> float:
    """Smaller is better; best at lr 1e-3, width 64, gelu."""
    lr, width = float(config["lr"]), float(config["width"])
    return abs(math.log10(lr) + 3) + abs(math.log2(width) - 6) + (config["activation"] != "gelu")


def asked(
    strategy: str,
    number: int,
    history: Sequence[Told],
    direction: Literal["maximize", "minimize"] = "minimize",
    **changes: Any,
) -> Config:
    study = a_study(strategy, **changes)
    answer = STRATEGIES[strategy](study, a_space(study), direction).ask(number, history)
    assert answer is not None
    return answer


# --- the contract, for every strategy


@pytest.mark.parametrize("name", STRATEGIES)
@given(number=st.integers(1, 3_400), told=st.integers(0, 25), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_proposals_are_legal_complete_and_plain(name: str, number: int, told: int, seed: int) -> None:
    study = a_study(name, seed=seed)
    space = a_space(study)
    config = STRATEGIES[name](study, space, "minimize").ask(number, a_history(space, told))
    assert config is not None
    assert space.contains(config) and space.active(config) == config
    assert ("momentum" in config) == (config["optimizer"] == "sgd")
    assert all(type(value) in (int, float, str, bool) for value in config.values())
    assert list(config) == [n for n in space.parameters if n in config]


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_fits_the_contract(name: str) -> None:
    report = check_strategy(name)
    assert report.ok, str(report)
    assert len(report.items) == 8 and str(report).startswith(f"strategy {name}\n")


@pytest.mark.parametrize("name", STRATEGIES)
def test_ours_do_not_repeat_themselves_at_all(name: str) -> None:
    space = a_space(a_study())
    history = a_history(space, 20)
    assert len({space.key(asked(name, number, history)) for number in range(20, 40)}) == 20


@pytest.mark.parametrize("name", STRATEGIES)
def test_nothing_is_printed_or_logged(
    name: str, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    loud = optuna.logging.get_verbosity()
    asked(name, 25, a_history(a_space(a_study()), 25))
    assert capfd.readouterr() == ("", "") and not recwarn.list
    assert optuna.logging.get_verbosity() == loud  # the user's own setting stays


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_fixed_space_has_one_answer(name: str) -> None:
    study = Study.model_validate(
        {
            "name": "s",
            "data": {"source": "sklearn:digits"},
            "space": {"lr": 0.1, "weight_decay": 0.0},
            "search": {"strategy": name, "startup": 1},
        }
    )
    space = build_space(study, {}, {})
    history = [Told(n, space.default(), "complete", 1.0, 5, ()) for n in range(3)]
    only = space.default() | {"lr": 0.1, "weight_decay": 0.0}
    answer = STRATEGIES[name](study, space, "minimize").ask(3, history)
    assert answer == (None if name == "grid" else only)  # a grid has no cell left then


@pytest.mark.parametrize(
    ("strategy", "trials", "device", "lanes"),
    [
        ("random", 40, "cpu", 40), ("sobol", 40, "cpu", 40), ("sobol", 400, "cpu", 64), ("sobol", 400, "cuda", 256),
        ("tpe", 40, "cpu", 8), ("gp", 100, "cpu", 20), ("cmaes", 1000, "cpu", 64), ("nsga2", 1000, "cuda", 200),
    ],
)  # fmt: skip
def test_strategies_that_learn_nothing_fill_the_device(
    strategy: str, trials: int, device: str, lanes: int
) -> None:
    assert lane_count(a_study(search={"strategy": strategy, "trials": trials}), device) == lanes


# --- random


def test_random_search_is_uniform_on_its_scale() -> None:
    study = a_study("random")
    space = a_space(study)
    drawn = [STRATEGIES["random"](study, space, "minimize").ask(n, ()) for n in range(1, 801)]
    decades = [sum(10**-k <= float(c["lr"]) < 10 ** (1 - k) for c in drawn) for k in (2, 3, 4, 5)]
    assert all(abs(count - 200) < 4 * math.sqrt(150) for count in decades)  # four standard deviations
    assert abs(sum(c["skip"] is True for c in drawn) - 400) < 4 * math.sqrt(200)


# --- sobol


def sobol_points(space: Space, count: int, seed: int = 5) -> list[Config]:
    strategy = STRATEGIES["sobol"](a_study("sobol", seed=seed), space, "minimize")
    return [strategy.ask(number, ()) for number in range(1, count + 1)]


@given(seed=st.integers(0, 2**32 - 1), power=st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_the_first_sobol_trials_take_each_equal_part_of_every_scale_once(seed: int, power: int) -> None:
    """The property that defines these points; random search has it with a chance of 2**-(2**k), or less."""
    count = 2**power
    space = small_space(
        lr={"low": 1e-4, "high": 1e-1, "log": True}, clip={"low": 0.0, "high": 8.0},
        label_smoothing={"low": 0.1, "high": 0.3}, nesterov=[True, False], optimizer="sgd",
    )  # fmt: skip
    drawn = sobol_points(space, count, seed)
    places = [
        (math.log10(float(c["lr"])) / 3 + 4 / 3, float(c["clip"]) / 8, (float(c["label_smoothing"]) - 0.1) * 5)
        for c in drawn
    ]
    for column in zip(*places, strict=True):
        assert sorted(int(share * count) for share in column) == list(range(count))
    assert sum(c["nesterov"] is True for c in drawn) == count // 2


def test_sobol_covers_better_than_random() -> None:
    """Discrepancy of 64 configurations in 5 dimensions, by scipy, over 20 seeds: every one below every random one."""
    names = ("lr", "weight_decay", "clip", "label_smoothing", "momentum")
    ranges: dict[str, Any] = {name: {"low": 1e-9, "high": 0.5} for name in names}
    space = small_space(**ranges, optimizer="sgd")

    def discrepancy(name: str, seed: int) -> float:
        strategy = STRATEGIES[name](a_study(name, seed=seed), space, "minimize")
        drawn = [strategy.ask(number, ()) for number in range(1, 65)]
        return float(qmc.discrepancy([[2 * float(c[n]) for n in names] for c in drawn]))

    by_seed = {name: [discrepancy(name, seed) for seed in range(20)] for name in ("sobol", "random")}
    assert max(by_seed["sobol"]) < min(by_seed["random"])


def test_a_condition_does_not_shift_sobols_other_values() -> None:
    space = small_space(
        momentum={"low": 0.5, "high": 0.99, "when": {"nesterov": True}}, clip={"low": 0.0, "high": 1.0},
        optimizer="sgd", nesterov=[True, False],
    )  # fmt: skip
    drawn = sobol_points(space, 64)
    with_momentum = [c for c in drawn if c["nesterov"]]
    assert len(with_momentum) == 32 and all(("momentum" in c) == c["nesterov"] for c in drawn)
    # the half that has momentum is spread over its scale: each of 16 parts of 2
    parts = [int((float(c["momentum"]) - 0.5) / 0.49 * 16) for c in with_momentum]
    assert sorted(parts) == sorted([*range(16), *range(16)])


def test_seeds_are_pinned() -> None:
    """A resumed search needs the seeds of the version that began it."""
    assert trial_seed(0, 0, "lane") == 1074610320
    assert trial_seed(0, 1, "lane") != trial_seed(1, 0, "lane") != trial_seed(0, 0, "ask")
    assert float(trial_rng(0, 0, "ask").random()) == 0.31147424584118555


# --- tpe


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_tpe_answers_as_optuna_itself_would(direction: Literal["maximize", "minimize"]) -> None:
    """Oracle: a plain Optuna study with the same trials, its own sampler, without our shortcuts."""
    study = a_study(space={})
    space = a_space(study)
    history = a_history(space, 40)
    plain = optuna.create_study(direction=direction)
    distributions = {
        "lr": optuna.distributions.FloatDistribution(1e-5, 1e-1, log=True),
        "weight_decay": optuna.distributions.FloatDistribution(1e-6, 1e-1, log=True),
        "width": optuna.distributions.IntDistribution(16, 256, log=True),
        "depth": optuna.distributions.IntDistribution(1, 4),
        "dropout": optuna.distributions.FloatDistribution(0.0, 0.5, step=0.1),
        "activation": optuna.distributions.CategoricalDistribution(["relu", "gelu", "tanh"]),
        "skip": optuna.distributions.CategoricalDistribution([True, False]),
    }
    states = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL", "running": "RUNNING"}
    for told in history:
        plain.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState[states[told.state]],
                params={name: told.config[name] for name in distributions},
                distributions=distributions,
                value=told.value if told.state == "complete" else None,
                intermediate_values=dict(enumerate(told.curve, start=1)) if told.state == "pruned" else None,
            )
        )
    plain.sampler = optuna.samplers.TPESampler(
        multivariate=True, constant_liar=True, n_startup_trials=4, seed=trial_seed(5, 40, "tpe")
    )
    trial = plain.ask(distributions)
    answer = STRATEGIES["tpe"](study, space, direction).ask(40, history)
    assert {name: answer[name] for name in distributions} == pytest.approx(trial.params)


def test_tpe_starts_with_random_searchs_own_trials() -> None:
    space = a_space(a_study())
    for count, running in ((0, 0), (3, 0), (20, 20)):  # running ones are no results
        history = a_history(space, count, running)
        assert asked("tpe", 20, history) == asked("random", 20, history)
    assert asked("tpe", 20, a_history(space, 20, 0)) != asked("random", 20, [])


def test_tpe_learns() -> None:
    """30 answers after 60 random trials: in the middle far better than random ones, also when maximizing."""
    space = a_space(a_study())
    history = a_history(space, 60, 0)
    negated = [Told(t.number, t.config, t.state, t.value and -t.value, t.epochs, ()) for t in history]
    numbers = range(60, 90)

    def median(configs: list[Config]) -> float:
        return sorted(map(goodness, configs))[len(configs) // 2]

    random = median([asked("random", n, history) for n in numbers])
    assert median([asked("tpe", n, history) for n in numbers]) < 0.6 * random
    assert median([asked("tpe", n, negated, "maximize") for n in numbers]) < 0.6 * random


def test_running_trials_push_tpe_away() -> None:
    """Constant liar: trials that run at the best known place make others go elsewhere."""
    study = a_study(space={"weight_decay": 0.0})
    space = build_space(study, {}, {})
    tried = [space.default() | {"lr": 10 ** (-5 + 4 * n / 19)} for n in range(20)]
    history = [
        Told(n, config, "complete", abs(math.log10(float(config["lr"])) + 3), 9, ())
        for n, config in enumerate(tried)
    ]
    crowd = [*history, *(Told(20 + n, space.default(), "running", None, 0, ()) for n in range(20))]  # lr 1e-3

    def near(told: list[Told]) -> int:
        strategy = STRATEGIES["tpe"](study, space, "minimize")
        return sum(5e-4 <= float(strategy.ask(n, told)["lr"]) <= 2e-3 for n in range(60, 90))

    assert near(history) > 20 and near(crowd) < 10


def test_trials_outside_the_narrowed_range_are_not_told() -> None:
    study = a_study(space={})
    space = a_space(study).narrow("lr", 1e-2, 5e-2)  # the default, 1e-3, is outside
    history = a_history(space, 30, 0)
    outside = [
        Told(30, space.default() | {"lr": 1e-4}, "complete", -99.0, 9, ()),
        Told(31, space.default(), "running", None, 0, ()),
    ]
    tpe = STRATEGIES["tpe"](study, space, "minimize")
    for number in range(32, 40):
        answer = tpe.ask(number, [*history, *outside])
        assert 1e-2 <= float(answer["lr"]) <= 5e-2
        assert answer == STRATEGIES["tpe"](study, space, "minimize").ask(number, history)


# --- proposals


def proposals(space: Space, study: Study) -> Proposals:
    return Proposals(study, space, STRATEGIES[study.search.strategy](study, space, "minimize"))


def test_trial_0_is_the_default_also_outside_a_narrowed_range() -> None:
    study = a_study()
    space = a_space(study).narrow("lr", 1e-2, 5e-2)
    first = proposals(space, study).propose(0, [], {}, 0)
    assert first is not None and first.config == a_space(study).default() and not first.control


def test_a_control_differs_from_the_strategys_answer_in_lr_only() -> None:
    study = a_study("random")
    space = a_space(study).narrow("lr", 1e-3, 2e-3)
    asking, strategy = proposals(space, study), STRATEGIES["random"](study, space, "minimize")
    controls = [n for n in range(1, 200) if asking.is_control(n)]
    assert 8 <= len(controls) <= 32
    for number in controls:
        proposal = asking.propose(number, [], {}, 0)
        assert proposal is not None and proposal.control
        assert {**proposal.config, "lr": 0} == {**strategy.ask(number, []), "lr": 0}
    none = a_study("random", lr_range={"control_share": 0.0})
    assert not any(proposals(space, none).is_control(n) for n in range(200))


def test_a_known_configuration_is_a_duplicate_and_after_some_an_unseen_one_is_drawn() -> None:
    study = a_study("random")
    space = a_space(study)
    again = proposals(space, study).propose(7, [], {}, 0)
    assert again is not None and again.duplicate_of is None
    known = {again.key: 3}
    duplicate = proposals(space, study).propose(7, [], known, DUPLICATES_IN_A_ROW - 1)
    assert duplicate is not None and duplicate.duplicate_of == 3
    fresh = proposals(space, study).propose(7, [], known, DUPLICATES_IN_A_ROW)
    assert fresh is not None and fresh.duplicate_of is None and fresh.key != again.key


def small_space(**space: Any) -> Space:
    study = Study.model_validate(
        {"name": "s", "data": {"source": "sklearn:digits"}, "space": {"lr": 0.1, "weight_decay": 0.0} | space}
    )
    return build_space(study, {}, {})


@pytest.mark.parametrize(
    ("space", "size"),
    [
        (small_space(), 1),
        (small_space(batch_size=[32, 64, 128]), 3),
        (small_space(step_epochs={"low": 2, "high": 8, "step": 2}, schedule=["step", "cosine"]), 5),  # 4 + 1
        (
            small_space(clip={"low": 0.0, "high": 0.3, "step": 0.1}, nesterov=[True, False], optimizer="sgd"),
            8,
        ),
        (small_space(optimizer=["sgd", "adamw"], momentum=[0.5, 0.9], beta1=[0.8, 0.9, 0.95]), 5),  # 2 + 3
    ],
)
def test_unseen_goes_through_the_whole_space_once(space: Space, size: int) -> None:
    seen: dict[str, int] = {}
    while (config := unseen(space, 0, len(seen), seen)) is not None:
        assert space.contains(config) and space.key(config) not in seen
        seen[space.key(config)] = len(seen)
        assert len(seen) <= size
    assert len(seen) == size


def test_a_continuous_range_is_never_exhausted() -> None:
    space = small_space(clip={"low": 0.0, "high": 1.0})
    seen: dict[str, int] = {}
    for number in range(300):
        config = unseen(space, 0, number, seen)
        assert config is not None
        seen[space.key(config)] = number
    assert len(seen) == 300


def test_the_rest_of_a_large_discrete_space_is_found_where_draws_fail() -> None:
    """2,000 configurations, all known but one: 100 draws find it with a chance of 5 %, the walk always."""
    space = small_space(plateau_patience={"low": 0, "high": 1999}, schedule="plateau")
    keys = [space.key(space.default() | {"plateau_patience": n}) for n in range(2_000)]
    seen = {key: n for n, key in enumerate(keys) if n != 1234}
    config = unseen(space, 0, 1, seen)
    assert config is not None and config["plateau_patience"] == 1234


# --- enqueued configurations


def with_enqueued(tmp_path: Path, *lines: str, strategy: str = "random") -> tuple[Study, Space]:
    path = tmp_path / "study.yaml"
    space = "space: {optimizer: [sgd, adamw], momentum: {low: 0.5, high: 0.99}, clip: 0.0}\n"
    entries = "".join(f"    - {line}\n" for line in lines)
    text = (
        f"data: {{source: 'sklearn:digits'}}\n{space}search:\n  strategy: {strategy}\n  enqueue:\n{entries}"
    )
    path.write_text(text)
    study = load_study(path)
    return study, a_space(study)


@pytest.mark.parametrize("strategy", ["random", "tpe"])
def test_enqueued_configurations_come_after_the_default_and_are_completed_by_it(
    tmp_path: Path, strategy: str
) -> None:
    lines = (
        "{lr: 0.01, width: 32}",
        "{optimizer: sgd}",
        "{optimizer: sgd, momentum: 0.7, dropout: 0.30000001}",
    )
    study, space = with_enqueued(tmp_path, *lines, strategy=strategy)
    asking = proposals(space, study)
    configs = [p.config for n in range(5) if (p := asking.propose(n, [], {}, 9)) is not None]
    default = space.default()
    sgd = {k: v for k, v in default.items() if k not in ("beta1", "beta2", "eps")} | {"optimizer": "sgd"}
    assert configs[0] == default
    assert configs[1] == default | {"lr": 0.01, "width": 32}
    assert configs[2] == sgd | {"momentum": 0.9, "nesterov": False}
    assert configs[3] == sgd | {
        "momentum": 0.7,
        "nesterov": False,
        "dropout": 0.3,
    }  # on the grid of its steps
    strategy_itself = STRATEGIES[strategy](study, space, "minimize")
    assert proposals(space, study).propose(4, [], {}, 0).config == strategy_itself.ask(4, [])  # type: ignore[union-attr]


def test_enqueued_configurations_are_no_control_draws(tmp_path: Path) -> None:
    study, space = with_enqueued(tmp_path, *["{lr: 0.01}"] * 40)
    asking = proposals(space.narrow("lr", 1e-3, 2e-3), study)
    found = [asking.propose(n, [], {}, 0) for n in range(1, 41)]
    assert all(p is not None and p.config["lr"] == 0.01 and not p.control for p in found)


ENQUEUED_ERRORS = {
    "{lrr: 0.1}": "6:8: unknown hyperparameter `lrr`, did you mean `lr`?",
    "{lr: 0.5}": "6:8: `lr` cannot be enqueued with this value\n  given: 0.5\n  rule:  `lr` is 1e-05 .. 0.1",
    "{width: 31.5}": "6:8: `width` cannot be enqueued with this value",
    "{skip: 1}": "6:8: `skip` cannot be enqueued with this value\n  given: 1\n  rule:  `skip` is one of true, false",
    "{clip: 0.1}": "6:8: `clip` cannot be enqueued with this value\n  given: 0.1\n  rule:  `clip` is always 0.0",
    "{lr: 0.1, momentum: 0.6}": "6:17: `momentum` has no effect in this configuration\n  given: optimizer is adamw\n"
    "  rule:  `momentum` is used only with optimizer: sgd or rmsprop\n"
    "  do:    remove `momentum`, or add `optimizer: sgd`",
    "{lr: [0.1]}": "6:8: `search.enqueue[0].lr`: a list where a single value belongs",
    "0.1": "`search.enqueue[0]` is not legal",
}


@pytest.mark.parametrize("line", ENQUEUED_ERRORS)
def test_a_wrong_enqueued_value_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    with pytest.raises(StudyError) as caught:
        with_enqueued(tmp_path, line)
    assert ENQUEUED_ERRORS[line] in str(caught.value).replace(f"{tmp_path / 'study.yaml'}:", "")


def test_more_enqueued_than_trials_is_refused() -> None:
    search = {"trials": 3, "enqueue": [{"lr": 0.1}] * 2}
    assert len(a_study(search=search).search.enqueue) == 2  # the default and both
    with pytest.raises(ValueError, match="2 configurations in `enqueue` for 2 trials"):
        a_study(search=search | {"trials": 2})


# --- budget


def test_budget() -> None:
    search = a_study(search={"trials": 10, "epochs": 100, "seconds": 60}).search
    budget = Budget.of(search)
    assert budget.another_trial(9) and not budget.another_trial(10)
    assert (
        budget.spent_by(4, 96, 0.0) is None
        and budget.spent_by(5, 96, 0.0) == "the budget of 100 epochs is spent"
    )
    assert (
        budget.spent_by(1, 0, 59.9) is None
        and budget.spent_by(1, 0, 60.0) == "the budget of 60 seconds is spent"
    )
    assert (
        budget.share(5.0, 10, 6.0) == 0.5
        and budget.share(1.0, 80, 6.0) == 0.8
        and budget.share(0.0, 0, 99.0) == 1.0
    )
    assert Budget(None, None, 1.0).another_trial(10**9) and Budget(None, None, None).share(5, 5, 5) == 0.0
