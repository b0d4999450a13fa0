"""Every search strategy by its name in the study file; adding one is a file and a line here.

A strategy is a class `(study, space, direction)` with the one method of `records.Strategy`. One of the user's
own is named by its import path. `lanewise.testing.check_strategy` is the contract; the tests run it over every entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lanewise.pruning import Direction
from lanewise.search.auto import Auto
from lanewise.search.cmaes import CMAES
from lanewise.search.gp import GaussianProcess
from lanewise.search.gradient import Gradient
from lanewise.search.grid import Grid
from lanewise.search.iterative import Iterative
from lanewise.search.nsga2 import NSGA2
from lanewise.search.own import OwnStrategy, load_strategy
from lanewise.search.random import RandomSearch
from lanewise.search.records import Strategy
from lanewise.search.sobol import Sobol
from lanewise.search.tpe import TPE
from lanewise.space import Space
from lanewise.study import Study

STRATEGIES: Mapping[str, Callable[[Study, Space, Direction], Strategy]] = {
    "auto": Auto,
    "cmaes": CMAES,
    "gp": GaussianProcess,
    "gradient": Gradient,
    "grid": Grid,
    "iterative": Iterative,
    "nsga2": NSGA2,
    "random": RandomSearch,
    "sobol": Sobol,
    "tpe": TPE,
}


def strategy_of(study: Study, space: Space, direction: Direction) -> Strategy:
    """The strategy the study names.

    Raises:
        ModelError: It is the user's own, and cannot be imported or made.
    """
    name = study.search.strategy
    if ":" not in name:
        return STRATEGIES[name](study, space, direction)
    return OwnStrategy(name, load_strategy(name, [study.base_dir]), study, space, direction)
