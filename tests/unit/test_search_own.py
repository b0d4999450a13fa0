"""A user's own strategy: loaded by its import path, held to the contract, every breach named."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_search_iterative import OneShape
from test_search_run import drain, minimize_rmse

from lanewise.errors import ModelError, StudyError
from lanewise.search import STRATEGIES, Told, strategy_of
from lanewise.search.random import RandomSearch, trial_rng
from lanewise.space import Config, Space, build_space
from lanewise.study import STRATEGY_NAMES, load_study
from lanewise.testing import check_strategy
from tasks.check import check_study

NARROW = """
from lanewise.search.random import trial_rng


class Narrow:
    def __init__(self, study, space, direction):
        self.seed, self.space = study.seed, space

    def ask(self, number, history):
        config = self.space.sample_uniform(trial_rng(self.seed, number, "narrow"))
        own = {"lr": 0.001 * (1 + number % 7 + number / 10_000)}
        return config | (own if "lr" in self.space.searched() else {})
"""


class Fine(RandomSearch):
    """Random search under another name."""


class Remembers(Fine):
    """Its answers depend on how often it was asked."""

    asked = 0

    def ask(self, number: int, history: Sequence[Told]) -> Config:
        self.asked += 1
        return super().ask(number + self.asked, history)


class Once(Fine):
    """It keeps the first state it sees of a trial."""

    def __init__(self, study: Any, space: Space, direction: Any) -> None:
        super().__init__(study, space, direction)
        self.seen: dict[int, str] = {}

    def ask(self, number: int, history: Sequence[Told]) -> Config:
        for trial in history:
            self.seen.setdefault(trial.number, trial.state)
        return super().ask(number + 1000 * sum(state == "complete" for state in self.seen.values()), history)


class Deaf(Fine):
    def ask(self, number: int, history: Sequence[Told]) -> Config:
        return super().ask(1, history)


class Seedless(Fine):
    def ask(self, number: int, history: Sequence[Told]) -> Config:
        return self._space.sample_uniform(trial_rng(0, number, "x"))


class Eats(Fine):
    def ask(self, number: int, history: Sequence[Told]) -> Config:
        if isinstance(history, list) and history:
            history.pop()
        return super().ask(number, history)


class Loud(Fine):
    def ask(self, number: int, history: Sequence[Told]) -> Config:
        print("asked")
        return super().ask(number, history)


class Global(Fine):
    def ask(self, number: int, history: Sequence[Told]) -> Config:
        random.random()
        return super().ask(number, history)


class NumpyGlobal(Fine):
    def ask(self, number: int, history: Sequence[Told]) -> Config:
        np.random.random()
        return super().ask(number, history)


class Wide(Fine):
    def ask(self, number: int, history: Sequence[Told]) -> Config:
        return super().ask(number, history) | {"lr": 5.0}


class Numpy(Fine):
    def ask(self, number: int, history: Sequence[Told]) -> Config:
        return super().ask(number, history) | {"lr": np.float64(0.01)}


class Lacks(Fine):
    def ask(self, number: int, history: Sequence[Told]) -> Config:
        return {k: v for k, v in super().ask(number, history).items() if k != "lr"}


class Inactive(Fine):
    def ask(self, number: int, history: Sequence[Told]) -> Config:
        return {"momentum": 0.9} | super().ask(number, history)


class Raises(Fine):
    def ask(self, number: int, history: Sequence[Told]) -> Config:
        return {"x": history[3].value or 0.0}


BREACHES = [
    (Remembers, "The same number and history", "has two answers"),
    (Once, "Running trials may end in any order", "gives another answer than seeing it ended"),
    (Deaf, "Other numbers and other seeds", "seed by the trial's number"),
    (Seedless, "Other numbers and other seeds", "another study seed changes nothing"),
    (Eats, "The history is not changed", "list(history)"),
    (Loud, "Nothing is printed", "it prints: asked"),
    (Global, "Nothing is printed", "global generator"),
    (NumpyGlobal, "Nothing is printed", "global generator"),
    (Wide, "Answers are legal", "out of range: lr=5.0"),
    (Numpy, "Answers are legal", "`lr` is a float64"),
    (Lacks, "Answers are legal", "lacks lr"),
    (Inactive, "Answers are legal", "inactive values"),
    (Raises, "Answers are legal", "raised IndexError"),
]


def test_a_strategy_that_keeps_the_contract_passes() -> None:
    report = check_strategy(Fine)
    assert report.ok and {item.status for item in report.items} == {"ok"}


@pytest.mark.parametrize(("strategy", "check", "text"), BREACHES, ids=[b[0].__name__ for b in BREACHES])
def test_every_breach_is_named(strategy: type[RandomSearch], check: str, text: str) -> None:
    found = [item for item in check_strategy(strategy).items if item.status == "fail"]
    assert any(item.check.startswith(check) and text in item.text for item in found), found


def test_the_guides_strategy_keeps_the_contract(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "search.md").read_text(encoding="utf-8")
    section = guide.partition("## Your own strategy")[2]
    (tmp_path / "around.py").write_text(section.partition("```python\n")[2].partition("```")[0])
    report = check_strategy("around:AroundTheBest", search_path=[tmp_path])
    assert report.ok, str(report)
    assert str(report) == section.partition("```text\n")[2].partition("\n```")[0]


def a_study_file(folder: Path, strategy: str, code: str = NARROW) -> Path:
    (folder / "mine.py").write_text(code)
    path = folder / "study.yaml"
    path.write_text(f"data: {{source: 'sklearn:diabetes'}}\nsearch: {{strategy: '{strategy}', trials: 12}}\n")
    return path


def test_a_search_asks_the_strategy_the_study_names(tmp_path: Path) -> None:
    study = load_study(a_study_file(tmp_path, "mine:Narrow"))
    space = build_space(study, {"width": [16, 32]}, {"width": 32})
    _, result = drain(minimize_rmse(study, space, OneShape(3)))
    assert result.strategy == "mine:Narrow"
    drawn = [float(t.config["lr"]) for t in result.trials[1:]]
    assert drawn == [0.001 * (1 + n % 7 + n / 10_000) for n in range(1, 12)]
    assert check_strategy("mine:Narrow", search_path=[tmp_path]).ok


@pytest.mark.parametrize(
    ("strategy", "code", "text"),
    [
        ("mine:Narow", NARROW, "did you mean `Narrow`?"),
        ("absent:Narrow", NARROW, "there is no module `absent`"),
        ("mine:value", "value = 3", "this is not a strategy"),
        ("mine:Bad", "class Bad:\n    def __init__(self, a): pass", "making the strategy raised TypeError"),
        ("mine:Bad", "class Bad:\n    def __init__(self, a, b, c): pass", "the strategy has no `ask`"),
    ],
)
def test_what_is_no_strategy_is_refused_before_anything_trains(
    tmp_path: Path, strategy: str, code: str, text: str
) -> None:
    path = a_study_file(tmp_path, strategy, code)
    with pytest.raises(ModelError) as refused:
        list(check_study(path, {}))
    assert text in str(refused.value) and refused.value.exit_code == 4
    assert not check_strategy(strategy, search_path=[tmp_path]).ok


def test_an_unknown_name_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(StudyError) as refused:
        load_study(a_study_file(tmp_path, "cmaess"))
    assert "did you mean `cmaes`?" in str(refused.value)
    assert str(refused.value).startswith(f"{tmp_path / 'study.yaml'}:2:")
    rule = "one of auto, tpe, gp, cmaes, nsga2, random, iterative, sobol, grid, gradient, pkg.module:Class"
    assert refused.value.rule == rule and set(STRATEGIES) == set(STRATEGY_NAMES)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("return {'lr': 9.0}", "is no configuration of the space"),
        ("return 3", "is no configuration of the space"),
        ("raise SystemExit(0)", "the strategy raised SystemExit"),
        ("return history[99]", "the strategy raised IndexError"),
    ],
)
def test_a_wrong_answer_ends_the_search_with_one_error(tmp_path: Path, body: str, text: str) -> None:
    code = f"class Bad:\n    def __init__(self, *a): pass\n    def ask(self, number, history): {body}\n"
    study = load_study(a_study_file(tmp_path, "mine:Bad", code))
    strategy = strategy_of(study, build_space(study, {}, {}), "minimize")
    with pytest.raises(ModelError, match=text):
        strategy.ask(1, [])


def test_what_a_strategy_does_to_the_process_is_undone(tmp_path: Path) -> None:
    code = NARROW.replace("config = self", "__import__('random').seed(1); config = self")
    study = load_study(a_study_file(tmp_path, "mine:Narrow", code))
    strategy = strategy_of(study, build_space(study, {}, {}), "minimize")
    before = random.getstate()
    strategy.ask(1, [])
    assert random.getstate() == before
