"""Grid search: every cell of the product of the declared values, once; asked by the loop, trains nothing.

A cell is a configuration with one listed value for every hyperparameter that is active in it. A failed cell
is asked for again, when all cells have been asked for once: `cells` says what became of each.

Within a network shape the order is random, by the study's seed: a pruner compares trials with those that came
before them, and in sorted order the first ones would all have the lowest learning rate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from math import prod
from typing import Any

from lanewise.errors import StudyError
from lanewise.pruning import Direction
from lanewise.search.random import trial_rng
from lanewise.search.records import Told
from lanewise.space import Config, Space, enqueued
from lanewise.study import MAX_CELLS, TRAINING, Study, Value

Key = tuple[Any, ...]
_SHAPING = ("batch_size", "loss")  # training's own hyperparameters that lanes of one pool share


class Grid:
    """The default, what is enqueued, every other cell by network shape; then failed cells again.

    Attributes:
        cells: Every cell, in order.
        planned: What is asked for without a failure, by trial number, the default first.
        retries: How often a failed cell is asked for again.
        repeats: Numbers of the trials that train the default once more, for the noise floor: they stand for no cell.

    Raises:
        StudyError: A range has no number of points, the grid is too large, or the study's trials are too few.
    """

    def __init__(self, study: Study, space: Space, direction: Direction) -> None:
        self._space, self._values, self.retries = space, grid_values(study, space), study.search.max_retries
        self.cells = _by_shape(space, grid_cells(study, space), study.seed)
        defaults = max(1, study.search.noise_seeds)
        self.repeats = range(1, defaults)
        first = [*[space.default()] * defaults, *enqueued(study, space)]
        self.planned = (*first, *(cell for cell in self.cells if cell not in first))
        self._keys = {cell_key(cell) for cell in self.cells}
        _check_trials(study, len(self.cells), len(self.planned))

    @property
    def words(self) -> str:
        """How large the grid is and of what, for people."""
        beside = len(self.planned) - len(self.cells)
        extra = f"; {beside} more beside it (the default, or enqueued)" if beside else ""
        return f"{len(self.cells)} cells ({_sizes(self._space, self._values)}){extra}"

    def ask(self, number: int, history: Sequence[Told]) -> Config | None:
        """The planned configuration of this trial; after these the first cell that failed and may be retried."""
        if number < len(self.planned):
            return dict(self.planned[number])
        tried: dict[Key, list[Told]] = {}
        for trial in history:
            tried.setdefault(cell_key(trial.config), []).append(trial)
        again = [
            trials[-1]
            for key, trials in tried.items()
            if trials[-1].state == "failed" and len(trials) <= self.retries and key in self._keys
        ]
        return dict(min(again, key=lambda trial: trial.number).config) if again else None


def grid_cells(study: Study, space: Space) -> tuple[Config, ...]:
    """Every cell, the last hyperparameter changing fastest.

    Raises:
        StudyError: A range has no number of points, or there are more than `MAX_CELLS` cells.
    """
    values = grid_values(study, space)
    count = _count(space, values)
    if count > MAX_CELLS:
        raise StudyError(
            "the grid is too large", where=study.where("search", "strategy"),
            given=f"{count:,} cells: {_sizes(space, values)}", rule=f"at most {MAX_CELLS:,} cells",
            remedy="fix some hyperparameters, list fewer values, or search with another strategy",
        )  # fmt: skip
    return tuple(space.product(values.__getitem__))


def grid_values(study: Study, space: Space) -> dict[str, tuple[Value, ...]]:
    """The values of every hyperparameter of the space: all that are listed, stepped or whole, else `grid_points`.

    Raises:
        StudyError: A range has no number of points, or too many values.
    """
    points, searched = study.search.grid_points, space.searched()
    found: dict[str, tuple[Value, ...]] = {}
    for name, parameter in space.parameters.items():
        if name not in searched:  # fixed, or never active
            found[name] = (parameter.middle(),)
            continue
        every = None if parameter.log else parameter.every()
        if every is None and points is None:
            raise StudyError(
                f"`{name}` has a range without a number of points", where=study.where("space", name),
                given=parameter.text() + (", logarithmic" if parameter.log else ""),
                rule="every hyperparameter of a grid has a list of values",
                remedy=f"list them, `{name}: [...]`, or write `search: {{grid_points: 4}}` for all such ranges",
            )  # fmt: skip
        listed = parameter.spread(points or 2) if every is None else tuple(islice(every, MAX_CELLS + 1))
        if len(listed) > MAX_CELLS:
            raise StudyError(
                f"`{name}` has too many values for a grid", where=study.where("space", name),
                given=parameter.text(), rule=f"at most {MAX_CELLS:,} cells",
                remedy=f"list the values, or give the range of `{name}` a larger step",
            )  # fmt: skip
        wide = space.wide(name)
        found[name] = listed if parameter == wide else tuple(map(wide.canonical, listed))
    return found


def _sizes(space: Space, values: Mapping[str, Sequence[Value]]) -> str:
    searched = [name for name in space.searched() if len(values[name]) > 1]
    return (
        ", ".join(
            f"{len(values[name])} of {name}{' where it is active' if space.parameters[name].when else ''}"
            for name in searched
        )
        or "nothing varies"
    )


def _count(space: Space, values: Mapping[str, Sequence[Value]]) -> int:
    """Number of cells, without making them: only combinations of those that others depend on are gone through."""
    parents = {parent for parameter in space.parameters.values() for parent in parameter.when}
    leaves = [name for name in space.parameters if name not in parents]
    parts = space.product(values.__getitem__, parents)
    return sum(
        prod(len(values[leaf]) for leaf in leaves if space.is_active(leaf, part))
        for part in islice(parts, MAX_CELLS + 1)
    )


def _check_trials(study: Study, cells: int, planned: int) -> None:
    trials = study.search.trials
    if trials is not None and trials < planned:
        more = f" and {planned - cells} beside the grid (the default, or enqueued)" if planned > cells else ""
        raise StudyError(
            "the grid does not fit into the trials", where=study.where("search", "trials"),
            given=f"trials: {trials}; {cells} cells{more}", rule="the whole grid is tried",
            remedy=f"write `trials: {planned}` or more, or leave `trials` empty",
        )  # fmt: skip


def _by_shape(space: Space, cells: Iterable[Config], seed: int) -> list[Config]:
    """The cells, those of one network shape together.

    Not every hyperparameter of a network changes its shape; real numbers (dropout) mostly do not, so cells that
    differ in them only stand together, too.
    """
    own = [name for name in space.searched() if name not in TRAINING]
    real = [name for name in own if space.parameters[name].kind == "float"]
    shaping = [*_SHAPING, *(name for name in own if name not in real)]
    shapes: dict[Key, dict[Key, list[Config]]] = {}
    for cell in cells:
        shape, within = (tuple(cell.get(name) for name in names) for names in (shaping, real))
        shapes.setdefault(shape, {}).setdefault(within, []).append(cell)
    rng = trial_rng(seed, 0, "grid")
    groups = [group for parts in shapes.values() for group in parts.values()]
    return [group[place] for group in groups for place in rng.permutation(len(group))]


def cell_key(config: Config) -> Key:
    """What tells cells apart; of configurations in the space's spelling, and in any order, as a record has them."""
    return tuple(sorted(config.items()))
