"""Values at the ends of ranges: places and remedies worked by hand; remedies are legal and wider."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion

from lanewise import strict_yaml
from lanewise.parameter import Parameter
from lanewise.report import Records, summary_text
from lanewise.report.edges import Edge, edges
from lanewise.report.facts import Facts


def found(
    ranges: dict[str, Any], configs: list[dict[str, Any]], narrowed: dict[str, Any] | None = None
) -> list[Edge]:
    """The edges after a search whose trials, best first, had these configurations; none was evaluated."""
    trials = [
        {"number": n, "config": config, "state": "complete", "value": 1.0 - n / 100, "epochs": 3}
        for n, config in enumerate(configs, start=1)
    ]
    trials.append({"number": 0, "config": {}, "state": "complete", "value": 0.1, "epochs": 3})
    space = {"parameters": narrowed or ranges, "original": ranges, "defaults": {}}
    search = {"metric": "accuracy", "direction": "maximize", "trials": trials, "best": 1, "space": space}
    return edges(Facts(Records(search=search)))


@pytest.mark.parametrize(
    ("name", "declared", "value", "end", "remedy"),
    [
        ("size", {"low": 0.0, "high": 10.0}, 9.5, "upper", "size: {low: 0.0, high: 15.0}"),
        ("size", {"low": 0.0, "high": 10.0}, 9.4, "", ""),
        ("size", {"low": 5.0, "high": 10.0}, 5.25, "lower", "size: {low: 2.5, high: 10.0}"),
        ("size", {"low": 0.0, "high": 10.0}, 0.0, "", ""),  # nothing lies below 0
        # 5 % of four decades are 0.2 decades
        ("lr", {"low": 1e-5, "high": 0.1, "log": True}, 0.064, "upper", "lr: {low: 1e-5, high: 1.0, log: true}"),
        ("lr", {"low": 1e-5, "high": 0.1, "log": True}, 0.062, "", ""),
        ("lr", {"low": 1e-5, "high": 0.1, "log": True}, 1.2e-5, "lower", "lr: {low: 1e-6, high: 0.1, log: true}"),
        ("depth", {"low": 1, "high": 4}, 4, "upper", "depth: {low: 1, high: 6}"),
        ("depth", {"low": 2, "high": 4}, 2, "lower", "depth: {low: 1, high: 4}"),
        ("depth", {"low": 1, "high": 4}, 1, "", ""),  # nor below one layer
        ("depth", {"low": 1, "high": 40}, 39, "", ""),  # of whole numbers only the last one
        ("dropout", {"low": 0.0, "high": 0.8}, 0.8, "upper", "dropout: {low: 0.0, high: 0.9}"),  # a share
        ("size", {"low": 0.0, "high": 3.0, "step": 0.5}, 3.0, "upper", "size: {low: 0.0, high: 4.5, step: 0.5}"),
        ("momentum", {"low": 0.5, "high": 0.98}, 0.98, "upper", "momentum: {low: 0.5, high: 0.99}"),  # below 1
        ("lr", {"low": 1.0, "high": 1000.0, "log": True}, 990.0, "", ""),  # 1000 is the bound of lr
        ("lr", {"low": 1.0, "high": 500.0, "log": True}, 490.0, "upper", "lr: {low: 1.0, high: 1000.0, log: true}"),
    ],
)  # fmt: skip
def test_ends_worked_by_hand(
    name: str, declared: dict[str, Any], value: float, end: str, remedy: str
) -> None:
    seen = found({name: declared}, [{name: value}])
    assert [(e.name, e.end, e.value, e.remedy) for e in seen] == ([(name, end, value, remedy)] if end else [])


def test_most_of_the_best_few_count_where_the_winner_is_elsewhere() -> None:
    declared = {"size": {"low": 1.0, "high": 3.0}}
    (edge,) = found(declared, [{"size": 2.0}, {"size": 2.95}, {"size": 3.0}, {"size": 1.0}])
    assert (edge.end, edge.value, edge.winners, edge.words) == (
        "upper",
        3.0,
        False,
        "best trials at the upper end",
    )
    assert edge.advice.startswith(
        "size = 3 in most of the best 3 trials is at the upper end of its range (3):"
    )
    assert not found(declared, [{"size": 2.0}, {"size": 2.95}, {"size": 2.5}, {"size": 3.0}])
    assert not found(declared, [{"size": 2.0}, {"size": 2.95}, {"size": 1.0}])  # different ends


def test_the_declared_range_counts_before_the_narrowed_one() -> None:
    declared, narrowed = ({"size": {"low": 1.0, "high": high}} for high in (9.0, 5.0))
    (edge,) = found(declared, [{"size": 8.9}], narrowed)  # a control trial
    assert (edge.limit, edge.remedy) == (9.0, "size: {low: 1.0, high: 13.0}")
    (edge,) = found(declared, [{"size": 4.9}], narrowed)
    assert (edge.limit, edge.remedy) == (5.0, "")
    assert "range that the range test left (5)" in edge.advice


@given(
    low=st.floats(1e-4, 1e3), span=st.floats(0.01, 1e3), kind=st.sampled_from(["log", "linear", "whole", "whole log"]),
    end=st.sampled_from(["lower", "upper"]),
)  # fmt: skip
def test_a_remedy_is_a_legal_wider_range(low: float, span: float, kind: str, end: str) -> None:
    whole, log = kind.startswith("whole"), kind.endswith("log")
    bounds: list[Any] = [float(f"{x:.4g}") for x in (low, low + span)]  # as printed
    if whole:
        bounds = [int(low) + 2, int(low) + 4 + int(span)]
    declared = {"low": bounds[0], "high": bounds[1], "log": log}
    if not bounds[0] < bounds[1]:
        return
    seen = found({"size": declared}, [{"size": bounds[0] if end == "lower" else bounds[1]}])
    assert [e.end for e in seen] == [end]
    wider = Parameter.model_validate(strict_yaml.parse(seen[0].remedy, "study").data["size"])
    assert wider.log == log and (wider.kind == "int") == whole
    assert wider.bounds[0] <= bounds[0] and bounds[1] <= wider.bounds[1]
    assert wider.bounds != (bounds[0], bounds[1])


def test_the_terminal_names_value_end_and_remedy(
    fake: Callable[..., Any], snapshot: SnapshotAssertion
) -> None:
    records = fake().records()
    winner = records.evaluation["winner"]
    config = next(c["config"] for c in records.evaluation["candidates"] if c["name"] == winner)
    config |= {"lr": 0.0249, "weight_decay": 0.0999, "depth": 4}
    assert summary_text(records) == snapshot
