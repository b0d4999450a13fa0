"""The checks behind testing.check_strategy, each one question to a strategy; they train nothing.

They ask it for trials of a made-up search: a space of ranges, whole numbers, steps, choices and a condition, and a
history of trials in every state, in which smaller scores are better (or larger, where the direction says so).
"""

from __future__ import annotations

import contextlib
import copy
import io
import math
import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lanewise.errors import LanewiseError
from lanewise.model_checks import CheckItem
from lanewise.pruning import Direction
from lanewise.search import Strategy, Told
from lanewise.search.random import trial_rng
from lanewise.space import Config, Space, build_space
from lanewise.study import Study
from lanewise.user_code import traceback_text

Factory = Callable[[Study, Space, Direction], Strategy]

NETWORK: dict[str, Any] = {
    "width": {"low": 16, "high": 256, "log": True},
    "depth": {"low": 1, "high": 4},
    "dropout": {"low": 0.0, "high": 0.5, "step": 0.1},
    "activation": ["relu", "gelu", "tanh"],
    "skip": [True, False],
}
DEFAULTS: Config = {"width": 64, "depth": 2, "dropout": 0.1, "activation": "relu", "skip": False}
CONDITIONAL = {"optimizer": ["sgd", "adamw"], "momentum": {"low": 0.5, "high": 0.99}}


def toy_study(seed: int = 5) -> Study:
    """A study over `toy_space`; a strategy that starts at random does so for four results."""
    return Study.model_validate(
        {
            "name": "toy", "seed": seed, "data": {"source": "sklearn:digits"}, "space": CONDITIONAL,
            "search": {"startup": 4, "population": 4, "grid_points": 2, "trials": 5_000},
        }
    )  # fmt: skip


def toy_space() -> Space:
    """Nine searched hyperparameters; `momentum` has an effect with one optimizer only."""
    return build_space(toy_study(), NETWORK, DEFAULTS)


def toy_history(space: Space, count: int, running: int = 3, sign: float = 1.0) -> list[Told]:
    """Random trials of all states; the last `running` ones still run.

    Args:
        space: `toy_space`.
        count: How many, the default's included.
        running: How many of them have not ended.
        sign: 1 where smaller is better, else -1; best at lr 1e-3, width 64, gelu.
    """
    history = []
    for number in range(count):
        config = space.default() if number == 0 else space.sample_uniform(trial_rng(1, number, "history"))
        value = abs(math.log10(float(config["lr"])) + 3) + abs(math.log2(float(config["width"])) - 6)
        value = sign * (value + (config["activation"] != "gelu"))
        if number >= count - running:
            history.append(Told(number, config, "running", None, 0, ()))
        elif number % 7 == 5:
            history.append(Told(number, config, "failed", None, 2, ()))
        elif number % 3 == 2:
            history.append(Told(number, config, "pruned", value + sign, 5, (value + sign,) * 5))
        else:
            history.append(Told(number, config, "complete", value, 9, (value,) * 9))
    return history


@dataclass(frozen=True)
class StrategyCase:
    """What every check works on."""

    factory: Factory
    space: Space

    def make(self, seed: int = 5, direction: Direction = "minimize") -> Strategy:
        return self.factory(toy_study(seed), self.space, direction)

    def ask(self, number: int, history: list[Told], seed: int = 5) -> Config | None:
        """A fresh strategy's answer."""
        return self.make(seed).ask(number, history)

    def history(self, count: int, running: int = 3) -> list[Told]:
        return toy_history(self.space, count, running)


def run_strategy_check(
    check: Callable[[StrategyCase], Iterator[str]], case: StrategyCase
) -> CheckItem:
    """The first thing a check finds wrong; an error inside it is a finding too."""
    title = (check.__doc__ or check.__name__).partition("\n")[0].rstrip(".")
    try:
        wrong = next(check(case), None)
    except LanewiseError as error:
        wrong = str(error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - what the strategy raises is the finding
        wrong = f"raised {type(error).__name__}{traceback_text(error)}"
    return CheckItem(title, "fail", wrong) if wrong else CheckItem(title, "ok")


def _legal(case: StrategyCase) -> Iterator[str]:
    """Answers are legal, complete and plain."""
    for direction, sign in (("minimize", 1.0), ("maximize", -1.0)):
        for seed in (5, 2**32 - 1):
            strategy = case.make(seed, direction)  # type: ignore[arg-type]  # the two directions
            for count in (0, 1, 4, 12, 25):
                told = toy_history(case.space, count, 3, sign)
                for number in (max(1, count), 3_000):
                    answer = strategy.ask(number, told)
                    if answer is not None:
                        yield from _faults(case.space, answer)


def _faults(space: Space, answer: Any) -> Iterator[str]:
    """What is wrong with one answer."""
    if not isinstance(answer, dict):
        yield f"an answer is a {type(answer).__name__}, not a dict: name -> value"
        return
    for name, value in answer.items():
        if type(value) not in (int, float, str, bool):
            yield f"`{name}` is a {type(value).__name__}: turn it into a plain int, float, str or bool"
    if unknown := [name for name in answer if name not in space.parameters]:
        yield f"it names {', '.join(unknown)}, which the space does not have"
        return
    if not space.contains(answer):
        active = space.active(answer)
        missing = [n for n in space.parameters if n not in active and space.is_active(n, active)]
        outside = [f"{n}={v!r}" for n, v in active.items() if not space.wide(n).legal(v)]
        yield (
            f"lacks {', '.join(missing)}: let space.complete() make the answer" if missing
            else f"out of range: {', '.join(outside)}"
        )  # fmt: skip
    elif list(space.active(answer)) != list(answer):
        yield "it holds inactive values, or stands in another order: return space.active(answer)"


def _repeats(case: StrategyCase) -> Iterator[str]:
    """The same number and history have the same answer, whatever was asked before."""
    used = case.make()
    for count in (3, 12, 11, 25, 7, 25):  # grows, shrinks, and its running trials end
        history = case.history(count)
        for number in (count, count + 5):
            if used.ask(number, history) != case.ask(number, history):
                yield (
                    f"trial {number} after {count} others has two answers: draw from a generator seeded by "
                    "(study.seed, number), as lanewise.search.random.trial_rng; keep nothing that changes answers"
                )
    other = [*case.history(25)[:-1], Told(24, case.history(4)[3].config, "running", None, 0, ())]
    if used.ask(26, other) != case.ask(26, other):
        yield "after a history that does not continue the one before it, the answer is not that of a fresh strategy"


def _any_order(case: StrategyCase) -> Iterator[str]:
    """Running trials may end in any order."""
    used, final = case.make(), case.history(16, 0)
    over: set[int] = set()
    for number in sorted(range(16), key=lambda n: (n * 7) % 16):
        over.add(number)
        now = [t if t.number in over else Told(t.number, t.config, "running", None, 0, ()) for t in final]
        if used.ask(16, now) != case.ask(16, now):
            yield "seeing a trial run and then end gives another answer than seeing it ended"


def _different(case: StrategyCase) -> Iterator[str]:
    """Other numbers and other seeds have other answers."""
    history = case.history(20)
    answers = [case.ask(number, history) for number in range(20, 30)]
    keys = {case.space.key(answer) for answer in answers if answer is not None}
    if 2 * len(keys) < sum(answer is not None for answer in answers):  # some repeat themselves in small spaces
        yield "lanes that ask one after another get the same configuration: seed by the trial's number"
    if case.ask(20, history, seed=6) == answers[0]:
        yield "another study seed changes nothing: seed by (study.seed, number)"


def _history_kept(case: StrategyCase) -> Iterator[str]:
    """The history is not changed."""
    history = case.history(20)
    before = copy.deepcopy(history)
    case.ask(20, history)
    if history != before:
        yield "work on a copy: list(history)"


def _process_kept(case: StrategyCase) -> Iterator[str]:
    """Nothing is printed, and the process's own generators are not used."""
    before = _generators()
    said = io.StringIO()
    with warnings.catch_warnings(record=True) as warned, contextlib.redirect_stdout(said):
        warnings.simplefilter("always")
        with contextlib.redirect_stderr(said):
            case.ask(20, case.history(20))
    if said.getvalue():
        yield f"it prints: {said.getvalue().splitlines()[0][:200]}"
    if warned:
        yield f"it warns: {warned[0].message}"
    if _generators() != before:
        yield "it draws from a global generator: use numpy.random.default_rng, seeded by (study.seed, number)"


def _generators() -> tuple[Any, ...]:
    """Where Python's, numpy's and torch's global generators stand."""
    numpy: Any = np.random.get_state()
    return random.getstate(), numpy[1].tolist(), numpy[2:], torch.get_rng_state().tolist()


def _fixed(case: StrategyCase) -> Iterator[str]:
    """A space without anything to search has one answer."""
    study = toy_study().model_dump(by_alias=True) | {"space": {"lr": 0.1, "weight_decay": 0.0}}
    fixed = Study.model_validate(study)
    space = build_space(fixed, {}, {})
    only = space.complete({})
    history = [Told(n, only, "complete", 1.0, 5, ()) for n in range(6)]
    answer = case.factory(fixed, space, "minimize").ask(6, history)
    if answer not in (None, only):
        yield f"it answers {answer!r}"


STRATEGY_CHECKS: tuple[Callable[[StrategyCase], Iterator[str]], ...] = (
    _legal, _repeats, _any_order, _different, _history_kept, _process_kept, _fixed,
)  # fmt: skip
