"""The grid's ledger: what became of every cell, read from the recorded trials; after the search, for its readers.

A pure function of grid and records, so it is the same however often the search was cut off. It asks
for nothing: `grid` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lanewise.errors import SearchError
from lanewise.ledger import TrialRecord
from lanewise.search.budget import cut_off
from lanewise.search.grid import Grid, Key, cell_key
from lanewise.search.records import Cell, CellState
from lanewise.space import Config

STATES: tuple[CellState, ...] = ("done", "pruned", "retrying", "impossible", "missing")
_LISTED = 20  # cells in one message


def grid_ledger(grid: Grid, trials: Sequence[TrialRecord]) -> tuple[Cell, ...]:
    """Every cell of a grid, in the order in which they are asked for.

    Args:
        grid: Made anew from study and space, or the one that asked.
        trials: Those that have ended, by number; duplicates and repeats of the default count for nothing.
    """
    tried: dict[Key, list[TrialRecord]] = {}
    for trial in trials:
        if trial.state != "duplicate" and trial.number not in grid.repeats:
            tried.setdefault(cell_key(trial.config), []).append(trial)
    return tuple(_cell(config, tried.get(cell_key(config), []), grid.retries) for config in grid.cells)


def _cell(config: Config, tried: Sequence[TrialRecord], retries: int) -> Cell:
    if not tried:
        return Cell(config, "missing")
    last, numbers = tried[-1], tuple(trial.number for trial in tried)
    if last.state == "complete":
        state: CellState = "done"
    elif last.audited_from is not None:  # stopped there, whatever became of it as a sample
        state = "pruned"
    elif last.state == "failed":
        state = "retrying" if len(tried) <= retries else "impossible"
    else:
        state = "missing" if cut_off(last) else "pruned"
    return Cell(config, state, numbers, last.value, last.reason)


def cells_words(cells: Sequence[Cell]) -> str:
    """ "48 cells: 40 done, 7 pruned, 1 impossible"."""
    counts = Counter(cell.state for cell in cells)
    return f"{len(cells)} cells: " + ", ".join(f"{counts[s]} {s}" for s in STATES if counts[s])


def require_whole(cells: Sequence[Cell], where: str) -> None:
    """Refuse a grid with holes.

    Raises:
        SearchError: With their number and their list.
    """
    holes = [cell for cell in cells if cell.state in ("missing", "retrying")]
    if not holes:
        return
    varying = {
        name for cell in cells for name, value in cell.config.items() if value != cells[0].config.get(name)
    }
    lines = [
        ", ".join(f"{name} {value}" for name, value in cell.config.items() if name in varying)
        for cell in holes
    ]
    more = [f"and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    raise SearchError(
        f"{len(holes)} of {len(cells)} cells missing", where=where,
        given="\n         ".join([*lines[:_LISTED], *more]),
        rule="a grid is complete when every cell is done, pruned, or impossible",
        remedy="raise the budget in epochs or seconds and run the same command again: only these are trained",
    )  # fmt: skip
