"""For people who write networks: `check_model`, which tries a network against the contract, and toy data.

Stands on top of everything else in lanewise; nothing imports it but tests and the command line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from lanewise.errors import LanewiseError
from lanewise.model import Layout, resolve
from lanewise.model_checks import CHECKS, Case, CheckItem, ToyLayout, run_check
from lanewise.smoke import smoke
from lanewise.study import Value

_FOUND = "The class is found and its signatures fit"
_RUNS = "One batch runs forward and backward"


@dataclass(frozen=True)
class CheckReport:
    """What `check_model` found.

    Args:
        name: The network.
        items: The checks in the order they ran; a failed first one ends the list.
    """

    name: str
    items: tuple[CheckItem, ...]

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
        return "\n".join((f"network {self.name}", *(f"  {line}" for line in self.lines), f"  {verdict}"))


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
        layout: Columns to try it on; five numbers and two categories if not given.
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
        case = Case(network, layout or ToyLayout(), n_outputs, dict(hyper or {}), ranges)
        size = smoke(network, case.layout, n_outputs, case.hyper)
    except LanewiseError as error:
        first = _RUNS if items else _FOUND
        return CheckReport(name, (*items, CheckItem(first, "fail", str(error))))
    items.append(CheckItem(_RUNS, "ok", f"{size} parameters"))
    for check in CHECKS:
        items += run_check(check, case)
    return CheckReport(network.name, tuple(items))


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
