"""For people who write networks or strategies: `check_model` and `check_strategy` try them against the contract.

There is toy data for networks, too.

Stands on top of everything else in lanewise; nothing imports it but tests and the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from lanewise.errors import LanewiseError, SearchError
from lanewise.model import Layout, resolve
from lanewise.model_checks import CHECKS, TOY_LAYOUTS, Case, CheckItem, run_check
from lanewise.names import nearest
from lanewise.search import STRATEGIES, Strategy
from lanewise.search.own import OwnStrategy, load_strategy
from lanewise.smoke import smoke
from lanewise.strategy_checks import STRATEGY_CHECKS, StrategyCase, run_strategy_check, toy_space, toy_study
from lanewise.study import Value

_FOUND = "The class is found and its signatures fit"
_MADE = "The class is found and makes a strategy"
_RUNS = "One batch runs forward and backward"


@dataclass(frozen=True)
class CheckReport:
    """What `check_model` or `check_strategy` found.

    Args:
        name: The network or the strategy.
        items: The checks in the order they ran; a failed first one ends the list.
        kind: Which of the two it is.
    """

    name: str
    items: tuple[CheckItem, ...]
    kind: str = "network"

    @property
    def ok(self) -> bool:
        """Whether nothing failed; warnings are allowed."""
        return all(item.status != "fail" for item in self.items)

    @property
    def lines(self) -> tuple[str, ...]:
        """One entry per check, with its remedy; an entry may have several lines."""
        return tuple(
            f"{item.status:5}{item.check}" + (f": {item.text}" if item.text else "") for item in self.items
        )

    def __str__(self) -> str:
        failed = sum(item.status == "fail" for item in self.items)
        warned = sum(item.status == "warn" for item in self.items)
        verdict = f"{failed} of {len(self.items)} checks failed" if failed else "fits the contract"
        if warned:
            verdict += f", {warned} warning{'s' if warned > 1 else ''}"
        return "\n".join((f"{self.kind} {self.name}", *(f"  {line}" for line in self.lines), f"  {verdict}"))


def check_model(
    target: str | type[nn.Module],
    args: Mapping[str, Any] | None = None,
    *,
    layout: Layout | None = None,
    n_outputs: int = 3,
    hyper: Mapping[str, Value] | None = None,
    space: Mapping[str, Any] | None = None,
    search_path: Sequence[str | Path] = (),
) -> CheckReport:
    """Try a network against everything the engine relies on. Raises nothing for what the network does wrong.

    Args:
        target: A registered name, "pkg.module:Class", or the class itself.
        args: Constant constructor arguments.
        layout: Data to try it on; a small one of the first of its `kinds` if not given: for tables five numbers
            and two categories.
        n_outputs: Number of classes, or 1 for regression.
        hyper: The configuration to try; what it leaves out is at its default.
        space: Name -> range, as in a study; its ends and choices are tried for lane_parameters, beside
            those of the class's own `space`.
        search_path: Folders to look in for "pkg.module:Class".
    """
    name = target if isinstance(target, str) else f"{target.__module__}:{target.__qualname__}"
    items: list[CheckItem] = []
    try:
        network = resolve(target, args, search_path=search_path)
        items.append(CheckItem(_FOUND, "ok", f"{network.inputs} inputs"))
        ranges = {**network.space, **(space or {})}
        toy = TOY_LAYOUTS[min(network.kinds)]
        case = Case(network, layout or toy, n_outputs, dict(hyper or {}), ranges)
        size = smoke(network, case.layout, n_outputs, case.hyper)
    except LanewiseError as error:
        first = _RUNS if items else _FOUND
        return CheckReport(name, (*items, CheckItem(first, "fail", str(error))))
    items.append(CheckItem(_RUNS, "ok", f"{size} parameters"))
    for check in CHECKS:
        items += run_check(check, case)
    return CheckReport(network.name, tuple(items))


def check_strategy(
    target: str | Callable[..., Strategy], *, search_path: Sequence[str | Path] = ()
) -> CheckReport:
    """Try a search strategy against everything the search relies on. Raises nothing for what it does wrong.

    Args:
        target: A strategy's name, "pkg.module:Class", or the class itself: it is called with a study, its
            space and the direction.
        search_path: Folders to look in for "pkg.module:Class".
    """
    name = target if isinstance(target, str) else f"{target.__module__}:{target.__qualname__}"
    try:
        if not isinstance(target, str):
            factory = target
        elif ":" in target:
            factory = load_strategy(target, search_path)
        elif target in STRATEGIES:
            factory = STRATEGIES[target]
        else:
            near = nearest(target, STRATEGIES)
            raise SearchError(
                f"there is no strategy `{target}`", rule="one of " + ", ".join(STRATEGIES) + ", or pkg.module:Class",
                remedy=f"did you mean `{near}`?" if near else "write pkg.module:Class",
            )  # fmt: skip
        OwnStrategy(name, factory, toy_study(), space := toy_space(), "minimize")
    except LanewiseError as error:
        return CheckReport(name, (CheckItem(_MADE, "fail", str(error)),), "strategy")
    case = StrategyCase(factory, space)
    items = (run_strategy_check(check, case) for check in STRATEGY_CHECKS)
    return CheckReport(name, (CheckItem(_MADE, "ok"), *items), "strategy")


def toy_classification(n: int = 300, seed: int = 0) -> pd.DataFrame:
    """A table with three classes that a small network can learn and a linear model cannot.

    Args:
        n: Rows.
        seed: Equal seeds give equal tables.

    Returns:
        Columns x1, x2, x3 (numbers; x3 has gaps and says nothing), colour (a, b or c) and target (low, mid or
        high): the class is the third in which x1 * x2 + 0.8 [colour is b] + noise falls, of all rows.
    """
    table, rng = _toy_features(n, seed)
    score = table["x1"] * table["x2"] + 0.8 * (table["colour"] == "b") + 0.1 * rng.normal(size=n)
    low, high = np.quantile(score, [1 / 3, 2 / 3])
    table["target"] = np.select([score <= low, score <= high], ["low", "mid"], "high")
    return table


def toy_regression(n: int = 300, seed: int = 0) -> pd.DataFrame:
    """A table whose target a small network can learn and a linear model cannot.

    Args:
        n: Rows.
        seed: Equal seeds give equal tables.

    Returns:
        Columns x1, x2, x3, colour as in `toy_classification` and target = 10 + 3 x1 * x2 + 2 [colour is b]
        + noise of deviation 0.3.
    """
    table, rng = _toy_features(n, seed)
    table["target"] = (
        10 + 3 * table["x1"] * table["x2"] + 2 * (table["colour"] == "b") + 0.3 * rng.normal(size=n)
    )
    return table


def _toy_features(n: int, seed: int) -> tuple[pd.DataFrame, np.random.Generator]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    x[rng.random(n) < 0.1, 2] = np.nan
    table = pd.DataFrame(x, columns=["x1", "x2", "x3"])
    table["colour"] = rng.choice(["a", "b", "c"], size=n)
    return table, rng
