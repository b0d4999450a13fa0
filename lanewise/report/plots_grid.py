"""The picture of a grid: one tile for each cell, coloured by what became of it.

A drawing for `canvas.py`: facts and ink in, a figure out, None where the search was no grid. Hyperparameters are
nested along both edges, so a grid of any number of them is one table.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from lanewise.report.canvas import Ink, sheet
from lanewise.report.facts import Facts
from lanewise.report.parts import Json
from lanewise.report.plots_outcome import WIDTH
from lanewise.report.wording import NOTHING, cut, finite, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WORST_FIRST = ("missing", "retrying", "impossible", "pruned", "done")
MOST_COLUMNS, MOST_ROWS = 48, 40
GROUPS = (0.2, 0.4, 0.6, 0.8)  # shares of the scores, worst first, at which the next stronger colour begins
LEVEL, CHARACTER, LONGEST = 17, 6.8, 12  # pixels of a line of labels and of a letter; letters of a label


@dataclass(frozen=True)
class Edge:
    """One edge of the table: hyperparameters, outermost first, and the combinations of their values that occur."""

    names: tuple[str, ...]
    places: tuple[tuple[Any, ...], ...]


def coverage(facts: Facts, ink: Ink) -> Figure | None:
    """The cells of a grid; those that differ only in what has no room share a tile, which shows the worst state."""
    across, down, _ = edges_of(facts.grid)
    if not (across.names or down.names):
        return None
    tiles: dict[tuple[int, int], list[Json]] = {}
    for cell in facts.grid:
        tiles.setdefault((_place(across, cell), _place(down, cell)), []).append(cell)
    letters = [max(len(_label(place[i])) for place in down.places) for i in range(len(down.names))]
    gutter = [max(n, len(cut(name, LONGEST))) * CHARACTER + 14 for n, name in zip(letters, down.names, strict=True)]
    left = sum(gutter) + 8 if gutter else max(len(cut(n, LONGEST)) for n in across.names) * CHARACTER + 14
    width = min((WIDTH - left - 16) / len(across.places), 64.0)
    height = min(max(width, 16.0), 26.0)
    top = LEVEL * (len(across.names) + 1) + 4
    bottom = top + height * len(down.places)
    figure, (axes,) = sheet(WIDTH, bottom + 34)
    figure.set_layout_engine("none")
    axes.set_position((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(bottom + 34, 0)  # pixels from the top left corner
    _draw_tiles(axes, tiles, (left, top, width, height), facts.sign, ink)
    _label_across(axes, across, (left, top, width), ink)
    _label_down(axes, down, (left, top, height), gutter, ink)
    _legend(axes, facts.grid, left, bottom + 19, ink)
    return figure


def edges_of(cells: Sequence[Json]) -> tuple[Edge, Edge, int]:
    """Edge across, edge down, and how many cells the largest tile stands for.

    A hyperparameter that is not active everywhere comes to the edge where it leaves fewer places empty, below those
    that always are.
    """
    values = {name: _values(cells, name) for name in _varying(cells)}
    always = [name for name in values if None not in values[name]]
    across: tuple[str, ...] = ()
    down: tuple[str, ...] = ()
    for name in sorted(always, key=lambda n: -len(values[n])) + [n for n in values if n not in always]:
        now = [len(_edge(cells, names, values).places) for names in (across, down)]
        wider, deeper = (len(_edge(cells, (*names, name), values).places) for names in (across, down))
        # The smaller table, else the squarer one; what fits on neither edge is left to the tiles.
        options = [(wider * now[1], wider, "across"), (now[0] * deeper, deeper, "down")]
        fitting = [o for o in options if o[1] <= (MOST_COLUMNS if o[2] == "across" else MOST_ROWS)]
        if fitting and min(fitting)[2] == "across":
            across = (*across, name)
        elif fitting:
            down = (*down, name)
    across, down = (tuple(sorted(names, key=lambda n: (n not in always, len(values[n])))) for names in (across, down))
    edges = _edge(cells, across, values), _edge(cells, down, values)
    shared: dict[tuple[int, int], int] = {}
    for cell in cells:
        tile = (_place(edges[0], cell), _place(edges[1], cell))
        shared[tile] = shared.get(tile, 0) + 1
    return (*edges, max(shared.values(), default=0))


def _edge(cells: Sequence[Json], names: tuple[str, ...], values: Mapping[str, Sequence[Any]]) -> Edge:
    found = {tuple(cell["config"].get(name) for name in names) for cell in cells}
    ranked = sorted(found, key=lambda place: [values[n].index(v) for n, v in zip(names, place, strict=True)])
    return Edge(names, tuple(ranked))


def _place(edge: Edge, cell: Json) -> int:
    return edge.places.index(tuple(cell["config"].get(name) for name in edge.names))


def _varying(cells: Sequence[Json]) -> list[str]:
    names = dict.fromkeys(name for cell in cells for name in cell["config"])
    return [name for name in names if len(_values(cells, name)) > 1]


def _values(cells: Iterable[Json], name: str) -> list[Any]:
    """The values that occur: numbers by size, texts by the alphabet, last that it is not active."""
    found = {cell["config"].get(name) for cell in cells}
    return sorted(found, key=lambda v: (v is None, isinstance(v, str), v if v is not None else 0))


def _label(value: Any) -> str:
    return NOTHING if value is None else cut(short(value), LONGEST)


def _draw_tiles(
    axes: Axes,
    tiles: Mapping[tuple[int, int], list[Json]],
    frame: tuple[float, float, float, float],
    sign: int,
    ink: Ink,
) -> None:
    """Every tile as a square; squares of one look are one path, which keeps the picture light."""
    left, top, width, height = frame
    scores = sorted(sign * v for tile in tiles.values() for v in _scores(tile))
    looks: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for (column, row), tile in tiles.items():
        state = min((cell["state"] for cell in tile), key=WORST_FIRST.index)
        group = 0
        if state == "done":
            best = max(sign * v for v in _scores(tile))
            group = bisect_right(GROUPS, (bisect_right(scores, best) - 0.5) / len(scores))
        looks.setdefault((state, group), []).append((left + column * width, top + row * height))
    for (state, group), corners in sorted(looks.items()):
        _squares(axes, corners, (width, height), state, ink.scale[group], ink)


def _scores(tile: Sequence[Json]) -> list[float]:
    return [v for cell in tile if cell["state"] == "done" and (v := finite(cell.get("value"))) is not None]


def _squares(
    axes: Axes, corners: Sequence[tuple[float, float]], size: tuple[float, float], state: str, blue: str, ink: Ink
) -> None:
    """Squares of one state; it can be told without colours, too: by a cross, a dot, a ring, or an empty frame."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    w, h = size[0] - 2, size[1] - 2
    corner = [(1, 1), (1 + w, 1), (1 + w, 1 + h), (1, 1 + h), (1, 1)]
    outlines = [Path([(x + dx, y + dy) for dx, dy in corner], closed=True) for x, y in corners]
    fill = {"done": blue, "impossible": ink.bad, "retrying": ink.other}.get(state, "none")
    edge = {"pruned": ink.base, "missing": ink.base}.get(state, "none")
    axes.add_patch(
        PathPatch(
            Path.make_compound_path(*outlines), facecolor=fill, edgecolor=edge, linewidth=0.8,
            linestyle=(0, (2, 2)) if state == "missing" else "solid",
        )
    )  # fmt: skip
    mark = {"impossible": "x", "retrying": "o", "pruned": "."}.get(state)
    if mark:
        centres = [(x + size[0] / 2, y + size[1] / 2) for x, y in corners]
        colour = ink.base if state == "pruned" else ink.paper
        size_pt, filled = (3.5 if state == "pruned" else 5.5), ("none" if mark == "o" else "full")
        look: dict[str, Any] = {"markersize": size_pt, "fillstyle": filled, "markeredgewidth": 1.5}
        axes.plot(*zip(*centres, strict=True), mark, color=colour, **look)


def _label_across(axes: Axes, edge: Edge, frame: tuple[float, float, float], ink: Ink) -> None:
    left, top, width = frame
    for level, name in enumerate(edge.names):
        y = top - LEVEL * (len(edge.names) - level - 0.5) - 2
        groups = _groups(edge, level)
        needed = max(len(_label(value)) for _, _, value in groups) * CHARACTER
        room = min(count for _, count, _ in groups) * width
        x = left - 8 - max(0.0, (needed - room) / 2)
        axes.text(x, y, cut(name, LONGEST), ha="right", va="center", fontsize=8, color=ink.muted)
        step = max(1, math.ceil((needed + 4) / room))  # every so many have room
        for i, (first, count, value) in enumerate(groups):
            if i % step == 0:
                x = left + (first + count / 2) * width
                axes.text(x, y, _label(value), ha="center", va="center", fontsize=8, color=ink.ink)
            if level < len(edge.names) - 1 and first:
                x = left + first * width
                axes.plot([x, x], [y - 6, top - 2], color=ink.line, linewidth=1)


def _label_down(
    axes: Axes, edge: Edge, frame: tuple[float, float, float], gutter: Sequence[float], ink: Ink
) -> None:
    left, top, height = frame
    x = left - 8 - sum(gutter)
    for level, name in enumerate(edge.names):
        x += gutter[level]
        axes.text(x - 4, top + height * len(edge.places) + 8, cut(name, LONGEST), ha="right", va="center", fontsize=8,
                  color=ink.muted)  # fmt: skip
        for first, count, value in _groups(edge, level):
            y = top + (first + count / 2) * height
            axes.text(x - 4, y, _label(value), ha="right", va="center", fontsize=8, color=ink.ink)
            if level < len(edge.names) - 1 and first:
                y = top + first * height
                axes.plot([x - gutter[level] + 6, left - 2], [y, y], color=ink.line, linewidth=1)


def _groups(edge: Edge, level: int) -> list[tuple[int, int, Any]]:
    """(first place, number of places, value) of every run of one value at a level of the nesting."""
    found, first = [], 0
    for prefix, run in groupby(edge.places, key=lambda place: place[: level + 1]):
        count = len(list(run))
        found.append((first, count, prefix[level]))
        first += count
    return found


def _legend(axes: Axes, cells: Sequence[Json], x: float, y: float, ink: Ink) -> None:
    """What the looks mean, of the states that occur, done first."""
    states = [state for state in reversed(WORST_FIRST) if any(cell["state"] == state for cell in cells)]
    for state in states:
        shades = ink.scale if state == "done" else ("none",)
        words = "done: worst to best score" if state == "done" else state
        for shade in shades:
            _squares(axes, [(x, y - 7)], (15, 15), state, shade, ink)
            x += 15
        axes.text(x + 5, y, words, ha="left", va="center", fontsize=8, color=ink.ink)
        x += len(words) * CHARACTER + 26
