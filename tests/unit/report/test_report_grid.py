"""The picture of a grid: every cell has one tile, of the look of its state, and the words count the states."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lanewise.report import Records, build
from lanewise.report.plots_grid import MOST_COLUMNS, MOST_ROWS, WORST_FIRST, edges_of

Json = dict[str, Any]
# What a tile of a state is filled with, or outlined.
LOOKS = {"impossible": "fill: var(--bad)", "retrying": "fill: var(--other)"}


def cells_of(values: dict[str, list[Any]], states: list[str]) -> list[Json]:
    """The product; `momentum` is active beside sgd only."""
    configs: list[Json] = []
    for combination in itertools.product(*values.values()):
        config = dict(zip(values, combination, strict=True))
        if config.get("optimizer", "sgd") != "sgd":
            config.pop("momentum", None)
        if config not in configs:
            configs.append(config)
    return [
        {"config": config | {"clip": 0.0}, "state": state, "trials": [], "reason": None,
         "value": i / 100 if state == "done" else None}
        for i, (config, state) in enumerate(zip(configs, itertools.cycle(states), strict=False))
    ]  # fmt: skip


def page_of(cells: list[Json]) -> str:
    trials = [
        {"number": i, "config": c["config"], "state": "complete", "value": i / 100, "epochs": 1, "curve": []}
        for i, c in enumerate(cells)
    ]
    return build(Records(search={"metric": "accuracy", "direction": "maximize", "trials": trials, "grid": cells})).html


def picture(cells: list[Json]) -> str:
    found = re.search(r'<svg role="img" aria-label="Every cell of the grid.*?</svg>', page_of(cells), re.DOTALL)
    assert found is not None
    return found[0]


def tiles(svg: str, look: str) -> int:
    """Squares drawn with a look; one path holds all of a state, and one more is the legend's."""
    paths = re.findall(r'<path d="([^"]*)"[^>]*style="([^"]*)"', svg)
    return sum(d.count("M") for d, style in paths if look in style)


@given(
    values=st.fixed_dictionaries(
        {"lr": st.just([1e-3, 1e-2, 1e-1])},
        optional={
            "optimizer": st.just(["sgd", "adamw"]), "momentum": st.just([0.0, 0.9]), "width": st.just([16, 32, 64]),
            "skip": st.just([True, False]), "depth": st.just(list(range(1, 9))), "clip2": st.just([0.0, 0.5, 1.0, 2.0]),
        },
    )
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_every_cell_has_a_place_of_its_own_where_there_is_room(values: dict[str, list[Any]]) -> None:
    cells = cells_of(values, ["done"])
    across, down, most = edges_of(cells)
    assert len(across.places) <= MOST_COLUMNS and len(down.places) <= MOST_ROWS
    assert not set(across.names) & set(down.names)
    shared = Counter(
        (tuple(c["config"].get(n) for n in across.names), tuple(c["config"].get(n) for n in down.names)) for c in cells
    )
    assert most == max(shared.values())
    assert {a for a, _ in shared} == set(across.places) and {d for _, d in shared} == set(down.places)
    varying = {n for c in cells for n in c["config"] if n != "clip"}
    if most == 1:
        assert set(across.names) | set(down.names) == varying
    else:
        assert len(cells) > MOST_COLUMNS  # only a large one shares tiles


def test_values_are_in_their_order_with_the_inactive_last() -> None:
    values = {"lr": [0.1, 0.01, 1.0], "optimizer": ["sgd", "adamw"], "momentum": [0.9, 0.0]}
    across, down, _ = edges_of(cells_of(values, ["done"]))
    edge = across if "momentum" in across.names else down
    assert edge.names == ("optimizer", "momentum")
    assert edge.places == (("adamw", None), ("sgd", 0.0), ("sgd", 0.9))
    assert [p[0] for p in (down if edge is across else across).places] == [0.01, 0.1, 1.0]


def test_as_many_tiles_as_cells_of_each_state() -> None:
    """Oracle: the squares in the SVG, counted by their colour."""
    states = ["done", "impossible", "done", "pruned", "retrying", "done", "missing", "impossible"]
    cells = cells_of({"lr": [1e-3, 1e-2, 1e-1], "width": [8, 16, 32, 64], "depth": [1, 2]}, states)
    svg, counts = picture(cells), Counter(c["state"] for c in cells)
    for state, look in LOOKS.items():
        assert tiles(svg, look) == counts[state] + 1
    blues = [tiles(svg, f"fill: var(--q{q})") for q in range(1, 6)]
    assert sum(blues) == counts["done"] + 5 and max(blues) - min(blues) <= 1
    assert tiles(svg, "stroke-dasharray") == counts["missing"] + 1
    assert tiles(svg, "fill: none; stroke: var(--base)") == counts["pruned"] + 1
    words = "24 cells: 9 done, 3 pruned, 6 impossible, 3 retrying and 3 missing"
    assert f'aria-label="Every cell of the grid and what became of it: {words}"' in svg
    assert len(svg) < 40_000


def test_the_best_cell_has_the_strongest_blue_also_where_less_is_better() -> None:
    cells = cells_of({"lr": [1e-3, 1e-2, 1e-1, 1.0, 2.0]}, ["done"])
    for direction, strongest in (("maximize", 4), ("minimize", 0)):
        record = {"metric": "rmse", "direction": direction, "grid": cells, "trials": []}
        record["trials"] = [{"number": 0, "config": cells[0]["config"], "state": "complete", "value": 1.0, "curve": []}]
        html = build(Records(search=record)).html
        svg = html[html.index("Every cell of the grid") :]
        paths = re.findall(r'<path d="M ([\d.]+) [^"]*"[^>]*style="fill: var\(--q5\)', svg)
        first = min(re.findall(r'<path d="M ([\d.]+) [^"]*"[^>]*style="fill: var\(--q\d\)', svg), key=float)
        step = 48.0  # points: a tile of 64 pixels
        assert round((float(paths[0]) - float(first)) / step) == strongest


def test_cells_that_share_a_tile_show_the_worst() -> None:
    many = {name: list(range(7)) for name in ("a", "b", "c", "d")}
    cells = cells_of(many, ["done"] * 2_400 + ["impossible"])
    html = page_of(cells)
    _, _, most = edges_of(cells)
    assert most == 49 and f"A tile is up to {most} cells in the worst of their states;" in html
    assert tiles(picture(cells), LOOKS["impossible"]) == 1 + 1
    assert WORST_FIRST.index("impossible") < WORST_FIRST.index("done")


def test_no_grid_no_picture() -> None:
    for cells in ([], [{"config": {"lr": 0.1}, "state": "done", "value": 1.0}]):
        assert "Every cell of the grid" not in page_of(cells)


def test_names_are_text() -> None:
    svg = picture(cells_of({"<script>x</script>": ["a", "<b>"], "$x_2$": [1, 2]}, ["done"]))
    assert "<script>" not in svg and "<b>" not in svg
    assert all(text in svg for text in ("&lt;b&gt;", "$x_2$"))
