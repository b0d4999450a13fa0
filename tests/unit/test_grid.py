"""Grid search: its cells against a brute-force product, its order, its retries, its ledger, and its resumption."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_search_run import FakeTrainer, KilledError, chance, drain, learning_curve, table, the_ledger

from lanewise.errors import SearchError, StudyError
from lanewise.ledger import Report, read_trials
from lanewise.model import resolve
from lanewise.parameter import Parameter
from lanewise.search import (
    Grid,
    LaneRequest,
    Progress,
    SearchResult,
    cells_words,
    grid_ledger,
    recorded_search,
    require_whole,
    search,
)
from lanewise.space import Config, Space, build_space
from lanewise.study import Study, load_study


def a_study(space: Mapping[str, Any] | None = None, *, epochs: int = 6, **changes: Any) -> Study:
    return Study.model_validate(
        {
            "name": "toy", "seed": 3, "data": {"source": "sklearn:diabetes"}, "space": dict(space or {}),
            "train": {"epochs": epochs, "patience": 0},
            "search": {"strategy": "grid", "pruner": "none", **changes},
        }
    )  # fmt: skip


def a_grid(study: Study, space: Space) -> Grid:
    return Grid(study, space, "minimize")


# --- which cells there are


CELLS = {
    "lr": [1e-4, 1e-3, 1e-2],
    "weight_decay": 0.0,
    "width": [16, 32],
    "batch_size": [32, 64],
}  # 12, with the default


def small(**changes: Any) -> tuple[Study, Space]:
    study = a_study(CELLS, **changes)
    return study, build_space(study, {"width": [16, 32]}, {"width": 32})


def values_by_hand(parameter: Parameter, points: int) -> list[Any]:
    """What a grid takes of a parameter, by numpy."""
    if parameter.listed:
        return list(parameter.listed)
    low, high = parameter.bounds
    if parameter.kind == "int" and not parameter.log:
        return list(range(int(low), int(high) + 1, int(parameter.step or 1)))
    if parameter.step:
        return [low + i * parameter.step for i in range(round((high - low) / parameter.step) + 1)]
    spread = np.geomspace(low, high, points) if parameter.log else np.linspace(low, high, points)
    return sorted({round(v) for v in spread}) if parameter.kind == "int" else list(spread)


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """A few parameters of every kind; each may depend on earlier ones, also on values these never have."""
    kinds: dict[str, Callable[[], dict[str, Any]]] = {
        "fixed": lambda: {"value": draw(st.sampled_from([1, "x", True, 0.5]))},
        "choices": lambda: {
            "choices": draw(st.sampled_from([(1, 2), ("a", "b", "c"), (True, False), (0.1,)]))
        },
        "step": lambda: {"low": 0.0, "high": 0.3, "step": 0.1},
        "int": lambda: {"low": 1, "high": draw(st.integers(2, 4))},
        "dense": lambda: {"low": -1.0, "high": draw(st.floats(-0.5, 5.0))},
        "log": lambda: {"low": 1e-4, "high": draw(st.sampled_from([1e-3, 0.5])), "log": True},
        "int log": lambda: {"low": 1, "high": draw(st.integers(2, 64)), "log": True},
    }
    parameters: dict[str, Parameter] = {}
    for place in range(draw(st.integers(1, 5))):
        given_parts = kinds[draw(st.sampled_from(sorted(kinds)))]()
        when: dict[str, tuple[Any, ...]] = {}
        for parent in draw(st.sets(st.sampled_from(sorted(parameters)), max_size=2)) if parameters else ():
            some = parameters[parent].listed or parameters[parent].bounds
            when[parent] = tuple(draw(st.sets(st.sampled_from(some), min_size=1, max_size=2)))
        parameters[f"p{place}"] = Parameter.model_validate({**given_parts, "when": when})
    return Space(parameters, {})


@given(space=spaces(), points=st.integers(2, 4), seed=st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_the_cells_are_the_product_filtered_by_activity(space: Space, points: int, seed: int) -> None:
    """Oracle: the whole product of all values, inactive ones struck out, equal ones counted once."""
    study = a_study(grid_points=points).model_copy(update={"seed": seed})
    names = list(space.parameters)
    listed = [
        [p.canonical(p.nearest(v)) for v in values_by_hand(p, points)] for p in space.parameters.values()
    ]
    expected = set()
    for combination in itertools.product(*listed):
        kept: Config = {}
        for name, value in zip(names, combination, strict=True):
            when = space.parameters[name].when
            if all(parent in kept and any(kept[parent] is v or kept[parent] == v for v in values)
                   for parent, values in when.items()):  # fmt: skip
                kept[name] = value
        expected.add(tuple((name, round(v, 9) if type(v) is float else v) for name, v in kept.items()))
    grid = a_grid(study, space)
    cells = [
        tuple((n, round(v, 9) if type(v) is float else v) for n, v in cell.items()) for cell in grid.cells
    ]
    assert len(cells) == len(set(cells)) and set(cells) == expected
    assert all(space.contains(cell) and space.active(cell) == cell for cell in grid.cells)
    keys = [space.key(config) for config in grid.planned]
    assert len(keys) == len(set(keys)) and set(keys) == {space.key(c) for c in [*grid.cells, space.default()]}
    assert grid.planned[0] == space.default()


@pytest.mark.parametrize(
    ("given_range", "points", "expected"),
    [
        ({"low": 1e-5, "high": 1e-1, "log": True}, 5, [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]),
        ({"low": 1e-4, "high": 1e-2, "log": True}, 2, [1e-4, 1e-2]),
        ({"low": 0.0, "high": 0.5}, 3, [0.0, 0.25, 0.5]),
        ({"low": 0.0, "high": 1.0}, 4, [0.0, 0.333333333333, 0.666666666667, 1.0]),
        ({"low": 0.0, "high": 0.3, "step": 0.1}, None, [0.0, 0.1, 0.2, 0.3]),  # the count is for dense ranges
        ({"low": 0.0, "high": 0.3, "step": 0.1}, 2, [0.0, 0.1, 0.2, 0.3]),
        ({"low": 2, "high": 5}, None, [2, 3, 4, 5]),
        ({"low": 8, "high": 32, "step": 8}, 2, [8, 16, 24, 32]),
        ({"low": 16, "high": 256, "log": True}, 5, [16, 32, 64, 128, 256]),
        ({"low": 1, "high": 4, "log": True}, 6, [1, 2, 3, 4]),  # 1, 1.3, 1.7, 2.3, 3.0, 4: whole, and once
        ([64, 32], None, [64, 32]),
    ],
)
def test_values_worked_by_hand(given_range: Any, points: int | None, expected: list[Any]) -> None:
    space = Space({"a": Parameter.model_validate(given_range)}, {})
    cells = a_grid(a_study(grid_points=points), space).cells
    assert sorted(cell["a"] for cell in cells) == sorted(expected)
    assert {type(cell["a"]) for cell in cells} == {type(expected[0])}


def test_the_default_is_a_cell_or_one_more() -> None:
    study, space = small()
    inside = a_grid(study, space)
    assert space.default() in inside.cells and len(inside.planned) == len(inside.cells) == 12
    outside = a_study(CELLS | {"lr": [1e-4, 1e-2]})
    other = build_space(outside, {"width": [16, 32]}, {"width": 32})
    # the default of a choice is one of the choices
    assert len(a_grid(outside, other).planned) == 8
    ranged = a_study(CELLS | {"lr": {"low": 1e-4, "high": 1e-2}}, grid_points=2)
    dense = build_space(ranged, {"width": [16, 32]}, {"width": 32})
    grid = a_grid(ranged, dense)
    assert len(grid.cells) == 8 and len(grid.planned) == 9 and grid.planned[0] == dense.default()
    assert (
        grid.words
        == "8 cells (2 of lr, 2 of batch_size, 2 of width); 1 more beside it (the default, or enqueued)"
    )


def test_cells_of_one_network_shape_come_together() -> None:
    """Oracle: the pools of the engine, by the network's own static key, batch size and loss."""
    study = a_study(
        {"lr": [1e-3, 1e-2], "weight_decay": [0.0, 1e-2], "batch_size": [32, 64], "dropout": [0.0, 0.2],
         "width": [8, 16], "depth": [1, 2]},
    )  # fmt: skip
    network = resolve("mlp")
    grid = a_grid(study, build_space(study, network.space, network.defaults))
    pools = [(network.static_key(cell), cell["batch_size"], cell["loss"]) for cell in grid.cells]
    assert len(pools) == 64 and len(set(pools)) == 8
    assert len([1 for _ in itertools.groupby(pools)]) == 8


def test_the_order_within_a_shape_is_the_seeds() -> None:
    study, space = small()
    cells = a_grid(study, space).cells
    other = a_grid(study.model_copy(update={"seed": 4}), space).cells
    assert cells != other and cells == a_grid(study, space).cells
    assert sorted(map(space.key, cells)) == sorted(map(space.key, other))


# --- what is refused


def refused(tmp_path: Path, text: str) -> str:
    path = tmp_path / "study.yaml"
    path.write_text("data: {source: 'sklearn:diabetes'}\n" + text)
    study = load_study(path)
    with pytest.raises(StudyError) as caught:
        a_grid(study, build_space(study, {"width": [16, 32]}, {"width": 32}))
    return str(caught.value).replace(str(path), "study.yaml")


def test_a_range_without_points_is_refused_by_name(tmp_path: Path) -> None:
    text = "space:\n  lr: {low: 0.001, high: 0.1, log: true}\n  weight_decay: 0.0\nsearch: {strategy: grid}\n"
    assert refused(tmp_path, text) == (
        "study.yaml:3:3: `lr` has a range without a number of points\n"
        "  given: 0.001 .. 0.1, logarithmic\n"
        "  rule:  every hyperparameter of a grid has a list of values\n"
        "  do:    list them, `lr: [...]`, or write `search: {grid_points: 4}` for all such ranges"
    )


def test_a_grid_that_does_not_fit_is_refused_with_the_numbers(tmp_path: Path) -> None:
    text = "space: {lr: [0.001, 0.1], weight_decay: {low: 0.0, high: 0.2}}\n"
    text += "search: {strategy: grid, trials: 8, grid_points: 2}\n"
    assert refused(tmp_path, text) == (
        "study.yaml:3:26: the grid does not fit into the trials\n"
        "  given: trials: 8; 8 cells and 1 beside the grid (the default, or enqueued)\n"
        "  rule:  the whole grid is tried\n"
        "  do:    write `trials: 9` or more, or leave `trials` empty"
    )


def test_a_grid_that_is_too_large_is_refused_without_making_it(tmp_path: Path) -> None:
    numbers = "{low: 1, high: 50000}"
    text = "space: {lr: 0.1, weight_decay: 0.0, optimizer: [sgd, adamw], schedule: [step, plateau], "
    text += f"step_epochs: {numbers}, plateau_patience: {numbers}}}\nsearch: {{strategy: grid}}\n"
    said = refused(tmp_path, text)
    assert "the grid is too large" in said
    assert "given: 400,000 cells: 2 of optimizer, 2 of schedule" in said  # 2 widths, 2 optimizers, 2 x 50,000


# --- the loop


def run(study: Study, space: Space, lanes: int = 4, **trainer: Any) -> tuple[list[Progress], SearchResult]:
    return drain(search(study, space, FakeTrainer(lanes, **trainer), metric="rmse", direction="minimize"))


def states(result: SearchResult) -> dict[str, int]:
    assert result.grid is not None
    return dict(Counter(cell.state for cell in result.grid))


def flaky(share: float, always: float = 0.0) -> Callable[[LaneRequest, int], Report]:
    """Trials fail in their second epoch: some cells always, others by the trial's own seed."""

    def curve(request: LaneRequest, epoch: int) -> Report:
        cell = chance(sorted(request.config.items()))
        fails = epoch == 2 and (cell < always or chance("flaky", request.seed) < share)
        return dataclasses.replace(
            learning_curve(request, epoch), failed="exception: by chance" if fails else None
        )

    return curve


def calm(request: LaneRequest, epoch: int) -> Report:
    return Report(request.number, epoch, 1.0, {"valid/rmse": 1.0 + chance(request.seed, epoch)})


@pytest.mark.parametrize("lanes", [1, 4, 64])
def test_every_cell_is_trained_once(lanes: int) -> None:
    study, space = small()
    progress, result = run(study, space, lanes, curve=calm)
    assert Counter(space.key(t.config) for t in result.trials) == Counter(
        space.key(c) for c in a_grid(study, space).cells
    )
    assert (
        states(result) == {"done": 12} and result.ending == "every cell of the grid was tried: there are 12"
    )
    assert progress[0].epochs_full == 12 * 6 and progress[-1].eta_s == 0.0
    assert progress[0].eta_s is not None  # the size is known before


def test_failed_cells_are_trained_again_with_other_seeds_then_impossible() -> None:
    study, space = small(max_retries=2)

    def curve(request: LaneRequest, epoch: int) -> Report:
        lr, batch = request.config["lr"], request.config["batch_size"]
        first = request.number < 12
        fails = (lr == 1e-2 and batch == 64) or (lr == 1e-4 and first)
        return dataclasses.replace(calm(request, epoch), failed="oom: no room" if fails else None)

    _, result = run(study, space, 3, curve=curve)
    assert result.grid is not None and states(result) == {"done": 10, "impossible": 2}
    for cell in result.grid:
        lr, batch = cell.config["lr"], cell.config["batch_size"]
        times = 3 if lr == 1e-2 and batch == 64 else 2 if lr == 1e-4 else 1
        assert len(cell.trials) == times
        tried = [result.trials[n] for n in cell.trials]
        assert all(t.config == cell.config for t in tried) and len({t.seed for t in tried}) == times
        assert (cell.reason, cell.value is None) == (("oom: no room", True) if times == 3 else (None, False))
    assert len(result.trials) == 12 + 4 + 2 * 2 and all(t.state != "duplicate" for t in result.trials)
    assert cells_words(result.grid) == "12 cells: 10 done, 2 impossible"
    require_whole(result.grid, "study toy")


def test_retries_do_not_count_as_failures_in_a_row() -> None:
    study, space = small(max_retries=5, max_failures=5)

    def curve(request: LaneRequest, epoch: int) -> Report:
        fails = request.config["width"] == 16 and request.config["lr"] == 1e-2
        return dataclasses.replace(calm(request, epoch), failed="oom" if fails else None)

    _, result = run(study, space, 4, curve=curve)
    assert [t.state for t in result.trials[12:]] == ["failed"] * 10  # in a row
    assert states(result) == {"done": 10, "impossible": 2}


def test_a_pruned_cell_is_pruned_and_not_tried_again() -> None:
    study, space = small(pruner="asha", rung_first=1, rung_factor=2)
    _, result = run(study, space, 64, curve=calm)
    found = states(result)
    assert found["pruned"] >= 5 and found["pruned"] + found["done"] == 12 and len(result.trials) == 12
    require_whole(result.grid or (), "study toy")


def test_the_default_that_is_no_cell_is_no_cell_to_retry() -> None:
    study = a_study({"lr": {"low": 1e-4, "high": 1e-2}, "weight_decay": 0.0, "width": 32}, grid_points=2)
    space = build_space(study, {"width": 32}, {"width": 32})

    def curve(request: LaneRequest, epoch: int) -> Report:
        return dataclasses.replace(calm(request, epoch), failed="oom" if request.number == 0 else None)

    _, result = run(study, space, curve=curve)
    assert [t.state for t in result.trials] == ["failed", "complete", "complete"]
    assert states(result) == {"done": 2}


def test_a_narrowed_range_and_its_control_draws_leave_no_hole() -> None:
    study = a_study(
        {"lr": {"low": 1e-5, "high": 1e-1, "log": True}, "weight_decay": [0.0, 0.1]}, grid_points=30
    )
    space = build_space(study, {}, {}).narrow("lr", 1e-4, 1e-2)
    _, result = run(study, space, 8, curve=calm)
    assert states(result) == {"done": 60}
    assert not any(t.control for t in result.trials)


# --- holes, and resuming


def test_a_spent_budget_leaves_holes_that_are_named() -> None:
    study, space = small(epochs=60 * 10)
    study = study.model_copy(update={"search": study.search.model_copy(update={"epochs": 57})})
    _, result = run(study, space, 4, curve=calm)
    found = states(result)
    assert result.grid is not None and found["missing"] > 0 and found["done"] + found["missing"] == 12
    with pytest.raises(SearchError) as caught:
        require_whole(result.grid, "study toy")
    assert caught.value.exit_code == 6
    assert f"{found['missing']} of 12 cells missing" in str(caught.value)
    for cell in result.grid:
        named = ", ".join(f"{n} {cell.config[n]}" for n in cell.config if n in ("lr", "batch_size", "width"))
        assert (named in str(caught.value)) == (cell.state == "missing")


def recorded(
    path: Path, study: Study, space: Space, trainer: FakeTrainer
) -> tuple[list[Progress], SearchResult | None]:
    progress: list[Progress] = []
    with the_ledger(path, study, space) as ledger:
        steps = recorded_search(study, space, trainer, ledger, metric="rmse", direction="minimize")
        try:
            while True:
                progress.append(next(steps))
        except KilledError:
            return progress, None
        except StopIteration as stop:
            return progress, stop.value


@given(
    kills=st.lists(st.integers(1, 25), max_size=4), lanes=st.integers(1, 9), seed=st.integers(0, 99),
    retries=st.integers(1, 3), pruner=st.sampled_from(["none", "asha"]),
)  # fmt: skip
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_killed_grid_ends_as_the_uninterrupted_one(
    tmp_path_factory: pytest.TempPathFactory,
    kills: list[int],
    lanes: int,
    seed: int,
    retries: int,
    pruner: str,
) -> None:
    folder = tmp_path_factory.mktemp("grid")
    study, space = small(max_retries=retries, pruner=pruner, rung_first=2, rung_factor=2, max_failures=50)
    study = study.model_copy(update={"seed": seed})
    curve = flaky(0.4, always=0.1)
    _, straight = recorded(folder / "straight.db", study, space, FakeTrainer(lanes, curve))
    for kill in [*kills, None]:
        _, resumed = recorded(folder / "broken.db", study, space, FakeTrainer(lanes, curve, dies_at=kill))
    assert straight is not None and resumed is not None
    assert table(resumed.trials) == table(straight.trials) and resumed.grid == straight.grid
    assert table(read_trials(folder / "broken.db")) == table(straight.trials)
    # every cell is accounted for, once: no trial after one that was not a failure, no more than allowed
    assert straight.grid is not None and len(straight.grid) == 12
    assert sorted(n for cell in straight.grid for n in cell.trials) == list(range(len(straight.trials)))
    for cell in straight.grid:
        ends = [straight.trials[n].state for n in cell.trials]
        assert all(end == "failed" for end in ends[:-1]) and 1 <= len(ends) <= retries + 1
        assert (cell.state == "impossible") == (ends[-1] == "failed") == (ends == ["failed"] * (retries + 1))
    require_whole(straight.grid, "study toy")


def test_resuming_trains_exactly_what_is_missing(tmp_path: Path) -> None:
    study, space = small()
    less = study.model_copy(update={"search": study.search.model_copy(update={"epochs": 70})})
    _, short = recorded(tmp_path / "l.db", less, space, FakeTrainer(4, calm))
    assert short is not None and short.grid is not None
    done = {n for cell in short.grid if cell.state == "done" for n in cell.trials}
    assert 0 < len(done) < 12
    progress, whole = recorded(tmp_path / "l.db", study, space, FakeTrainer(4, calm))
    assert whole is not None and states(whole) == {"done": 12}
    trained = {r.number for p in progress if not p.replayed for r in p.reports}
    assert trained == set(range(12)) - done
    assert math.isclose(sum(len(p.reports) for p in progress), 12 * 6)
    _, straight = recorded(tmp_path / "s.db", study, space, FakeTrainer(4, calm))
    assert straight is not None and table(whole.trials) == table(straight.trials)


def test_a_ledger_in_the_middle_tells_retrying_from_missing(tmp_path: Path) -> None:
    study, space = small()
    always = flaky(0.0, always=1.0)

    def curve(request: LaneRequest, epoch: int) -> Report:
        return always(request, epoch) if request.number == 1 else calm(request, epoch)

    recorded(tmp_path / "l.db", study, space, FakeTrainer(4, curve, dies_at=8))
    cells = grid_ledger(a_grid(study, space), read_trials(tmp_path / "l.db"))
    ended = {trial.number: trial.state for trial in read_trials(tmp_path / "l.db")}
    assert set(ended) == {0, *range(1, 8)} and ended.pop(1) == "failed"
    found = {
        state: [c.trials for c in cells if c.state == state] for state in ("done", "retrying", "missing")
    }
    assert found["retrying"] == [(1,)] and sorted(found["done"]) == [(n,) for n in sorted(ended)]
    assert found["missing"] == [()] * 4
