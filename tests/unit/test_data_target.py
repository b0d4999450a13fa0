"""The task, the codes and the metric of a target: the documented rules as tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lanewise.data.target import Target, find_target, pick_metric
from lanewise.errors import DataError, StudyError


def target(values: list[object], kind: str = "number", task: str = "auto", missing: str = "error") -> Target:
    series = pd.Series(values, name="y", dtype="float64" if kind == "number" else "str")
    return find_target(series, kind, task, missing, lambda row: f"line {row + 2}")


@pytest.mark.parametrize(
    ("values", "kind", "task", "said"),
    [
        (["a", "b", "a"], "category", "binary", False),
        (["a", "b", "c"], "category", "multiclass", False),
        ([0, 1, 1], "number", "binary", True),
        ([-1, 1, 1], "number", "binary", True),
        ([0.5, 1.5, 0.5], "number", "binary", True),
        ([0, 1, 2], "number", "multiclass", True),
        ([3, 2, 1], "number", "multiclass", True),
        (list(range(20)), "number", "multiclass", True),
        (list(range(21)), "number", "regression", False),
        ([3, 4, 5, 6], "number", "regression", True),
        ([1, 2, 4], "number", "regression", True),
        ([0, 1, 2.5], "number", "regression", False),
    ],
)
def test_the_task_of_a_target(values: list[object], kind: str, task: str, said: bool) -> None:
    found = target([*values, *values], kind)  # every class twice, as half of the rows are the most classes
    assert found.task == task
    assert [note.code for note in found.notes] == (["task"] if said else [])


def test_values_that_would_decide_every_score_are_named() -> None:
    found = target([*(i * 1.5 for i in range(40)), 1e9])
    assert [note.message for note in found.notes] == [
        "1 values more than 1,000 times the middle half's width away; are they right?"
    ]
    assert target([*(i * 1.5 for i in range(40)), 1e3]).notes == ()
    assert target([1e308, -1e308, 0.5] * 9).notes == ()


def test_the_study_may_say_otherwise() -> None:
    assert target([0, 1, 2] * 3, task="regression").values.dtype == np.float64
    assert target([3, 4, 5] * 3, task="multiclass").classes == ("3", "4", "5")


def test_codes_follow_numbers_as_numbers_and_texts_as_texts() -> None:
    numbers = target([10, 9, 1, 10, 2.5] * 2, task="multiclass")
    assert numbers.classes == ("1", "2.5", "9", "10")
    assert numbers.values[:5].tolist() == [3, 2, 0, 3, 1]
    words = target(["b", "a", "B", "b"] * 2, "category")
    assert words.classes == ("B", "a", "b") and words.values[:4].tolist() == [2, 1, 0, 2]
    assert words.values.dtype == np.int64


def test_rows_without_a_target_are_dropped_and_counted() -> None:
    found = target([1.5, None, 2.5, None, 9.5], missing="drop")
    assert found.kept.tolist() == [0, 2, 4] and found.values.tolist() == [1.5, 2.5, 9.5]
    assert found.notes[0].message == "2 of 5 rows have no target; they are left out"
    with pytest.raises(DataError) as caught:
        target([1.5, None, 2.5, None, 9.5])
    assert caught.value.where == "line 3" and "2 of 5 rows" in str(caught.value.given)


@pytest.mark.parametrize(
    ("values", "kind", "task", "words"),
    [
        ([None, None], "number", "auto", "is empty"),
        ([1.0, 1.0], "number", "auto", "one value only"),
        (["a", "a"], "category", "auto", "one value only"),
        (["a", "b", "c"], "category", "binary", "has 3 classes"),
        (["a", "b"], "category", "regression", "is no number"),
        ([1.0, np.inf, 2.0], "number", "auto", "is infinite"),
        ([f"v{i}" for i in range(30)], "category", "auto", "30 different values in 30 rows"),
        ([i + 0.5 for i in range(30)], "number", "multiclass", "30 different values in 30 rows"),
        (["2024-01-01"], "date", "auto", "is a date"),
    ],
)
def test_targets_that_cannot_be_learnt(values: list[object], kind: str, task: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        target(values, kind, task)


@pytest.mark.parametrize(
    ("task", "counts", "metric"),
    [
        ("binary", [50, 50], "accuracy"),
        ("binary", [90, 10], "accuracy"),
        ("binary", [91, 9], "roc_auc"),
        ("multiclass", [40, 40, 20], "accuracy"),
        ("multiclass", [60, 33, 7], "accuracy"),
        ("multiclass", [60, 34, 6], "balanced_accuracy"),
    ],
)
def test_the_metric_of_classes(task: str, counts: list[int], metric: str) -> None:
    codes = np.repeat(np.arange(len(counts)), counts)
    assert pick_metric(task, codes, [str(i) for i in range(len(counts))])[0] == metric


def test_the_metric_of_numbers_and_the_declared_one() -> None:
    assert pick_metric("regression", np.array([1.5, 2]), ())[0] == "rmse"
    assert pick_metric("regression", np.array([1.5, 2]), (), "r2") == ("r2", "declared")
    with pytest.raises(StudyError, match="does not fit the task regression"):
        pick_metric("regression", np.array([1.5, 2]), (), "accuracy")
    with pytest.raises(StudyError, match="does not fit the task binary"):
        pick_metric("binary", np.array([0, 1]), ("a", "b"), "rmse")
