"""Which hyperparameters mattered in the trials of one search, and how far that can be told.

Before it stand the facts, after it the plots. A random forest learns the rank of a trial from its
configuration; the importance of a hyperparameter is by how much the forest's squared error on trials it has
not seen grows when that column is shuffled (Breiman 2001, "Random forests", section 10), halved and divided
by the rank's variance: the hyperparameter's total effect, interactions included, as a share of the variance
(Gregorutti, Michel and Saint-Pierre 2017, "Correlation and variable importance in random forests",
proposition 1). It describes the trials that ran, which the strategy chose: not the whole space.

Ranks, because one diverged trial would otherwise be all the variance. Pruned trials count with the best
value they reached; without them only what survived would be compared. Failed ones and duplicates do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lanewise.report.facts import Facts
from lanewise.report.parts import Range, Trial
from lanewise.report.wording import counted

Array = npt.NDArray[np.float64]

FEWEST_TRIALS = 20  # fewer say nothing about several hyperparameters at once
FOLDS = 5
SHUFFLES = 8
TREES = 48
LEAST_EXPLAINED = 0.05  # share of variance below which the forest knows nothing to share out


@dataclass(frozen=True)
class Importance:
    """Importance by hyperparameter, largest first.

    Attributes:
        names: searched hyperparameters.
        share: total effect as a share of the rank's variance, mean of the folds; noise may make it negative.
        spread: standard deviation of it over the folds.
        explained: share of the rank's variance the forest explains on unseen trials; None if not fitted.
        trials: trials it learned from.
        reason: why there is no importance; None where there is one.
    """

    names: tuple[str, ...]
    share: tuple[float, ...]
    spread: tuple[float, ...]
    explained: float | None
    trials: int
    reason: str | None


def importance(facts: Facts) -> Importance:
    """Importance of every searched hyperparameter, or the reason why it cannot be told."""
    ranges = list(facts.ranges.values())
    trials = [t for t in facts.trials if t.state in ("complete", "pruned") and t.value is not None]
    if not ranges:
        return _none("no hyperparameter was searched", None, len(trials))
    if len(trials) < FEWEST_TRIALS:
        return _none(
            f"{counted(len(trials), 'trial')} with a value; at least {FEWEST_TRIALS} are needed",
            None,
            len(trials),
        )
    values = np.array([t.value for t in trials], dtype=np.float64)
    if np.ptp(values) == 0:
        return _none("all trials have the same value", None, len(trials))
    columns = np.column_stack([_column(r, facts.wide_ranges.get(r.name, r), trials) for r in ranges])
    share_FD, explained = _permuted(columns, _ranks(values))
    if explained < LEAST_EXPLAINED:
        return _none("the configurations do not explain which trials were good", explained, len(trials))
    mean, spread = share_FD.mean(0), share_FD.std(0, ddof=1)
    order = np.argsort(-mean, kind="stable")
    return Importance(
        tuple(ranges[i].name for i in order),
        tuple(float(mean[i]) for i in order),
        tuple(float(spread[i]) for i in order),
        explained,
        len(trials),
        None,
    )


def _none(reason: str, explained: float | None, trials: int) -> Importance:
    return Importance((), (), (), explained, trials, reason)


def _ranks(values: Array) -> Array:
    """Ranks from 0 to 1; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray(((last - counts + last - 1) / 2 / (len(values) - 1))[inverse], dtype=np.float64)


def _column(searched: Range, wide: Range, trials: Sequence[Trial]) -> Array:
    """One hyperparameter as numbers on its own scale; -1 where it was not active.

    The wide range is the scale, so a control trial outside the narrowed range has its place too.
    """
    scale = wide if wide.searched else searched
    places = [scale.position(t.config.get(searched.name)) for t in trials]
    return np.array([-1.0 if p is None or not math.isfinite(p) else p for p in places])


def _permuted(columns_ND: Array, ranks_N: Array) -> tuple[Array, float]:
    """Total effect per fold and column, [F, D], and the share of variance explained on unseen trials."""
    from sklearn.ensemble import RandomForestRegressor

    rng = np.random.default_rng(0)
    rows = rng.permutation(len(ranks_N))
    total = float(ranks_N.var())
    grown, errors = [], np.empty(len(ranks_N))
    for fold in range(FOLDS):
        held = rows[fold::FOLDS]
        rest = np.setdiff1d(rows, held)
        forest = RandomForestRegressor(
            TREES, min_samples_leaf=2, max_features=0.7, random_state=fold, n_jobs=1
        )
        forest.fit(columns_ND[rest], ranks_N[rest])
        errors[held] = (forest.predict(columns_ND[held]) - ranks_N[held]) ** 2
        grown.append(_shuffled(forest, columns_ND[held], ranks_N[held], rng) - errors[held].mean())
    return np.array(grown) / (2 * total), float(1 - errors.mean() / total)


def _shuffled(forest: Any, columns_ND: Array, ranks_N: Array, rng: np.random.Generator) -> Array:
    """Mean squared error with each column shuffled in turn, [D]; all shuffles in one prediction."""
    rows, width = columns_ND.shape
    stack = np.tile(columns_ND, (width, SHUFFLES, 1, 1))  # [D, S, N, D]
    for column in range(width):
        for shuffle in range(SHUFFLES):
            stack[column, shuffle, :, column] = rng.permutation(columns_ND[:, column])
    found = forest.predict(stack.reshape(-1, width)).reshape(width, SHUFFLES, rows)
    return np.asarray(((found - ranks_N) ** 2).mean((1, 2)))
