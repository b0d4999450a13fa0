"""Leaks, twins, ids and duplicates: found where they are, and no false alarm where there are none."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanewise.data import Dataset, checks
from lanewise.data.inference import infer_types
from lanewise.data.sources import table_from_frame

ROWS = 400
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, ROWS)
VALUES = RNG.normal(size=ROWS)


def leaks(
    columns: Mapping[str, object], target: np.ndarray, task: str, other: bool = True
) -> list[str | None]:
    """Names of the columns blamed, beside a column of noise that makes every row another one."""
    noise = {"noise": np.random.default_rng(9).normal(size=len(target))} if other else {}
    typed = infer_types(table_from_frame(pd.DataFrame({**columns, **noise}), "t"), {})
    return [note.column for note in checks.leaks(typed.frame, typed.kinds, target, task)]


def noisy(labels: np.ndarray, share: float) -> np.ndarray:
    """Labels of which this share is drawn anew."""
    return np.where(RNG.random(len(labels)) < share, RNG.integers(0, 3, len(labels)), labels)


@pytest.mark.parametrize(
    ("column", "blamed"),
    [
        (np.array(["x", "y", "z"])[LABELS], True),  # the target under another name
        (LABELS * 2.5, True),
        (np.array(["x", "y", "z"])[noisy(LABELS, 0.01)], True),
        (
            np.array([f"v{i}" for i in range(30)])[LABELS + 3 * RNG.integers(0, 10, ROWS)], True,
        ),  # finer than it
        (LABELS + RNG.random(ROWS) * 0.9, True),  # a threshold away
        (np.where(LABELS == 2, np.nan, 1.0 + RNG.integers(0, 2, ROWS)), False),  # tells one class of three
        (np.array(["x", "y", "z"])[noisy(LABELS, 0.15)], False),
        (LABELS + RNG.normal(0, 0.6, ROWS), False),
        (np.array([f"id{i}" for i in range(ROWS)]), False),  # each row its own: no other row shares it
        (np.array([f"p{i // 2}" for i in RNG.permutation(ROWS)]), False),
        (RNG.normal(size=ROWS), False),
        (RNG.integers(0, 2, ROWS), False),
    ],
)
def test_a_column_that_tells_the_class_is_blamed(column: np.ndarray, blamed: bool) -> None:
    assert leaks({"c": column}, LABELS, "multiclass") == (["c"] if blamed else [])


def test_gaps_that_tell_the_class_are_blamed() -> None:
    labels = LABELS % 2
    assert leaks({"boat": np.where(labels == 1, VALUES, np.nan)}, labels, "binary") == ["boat"]


def test_the_message_tells_how_much() -> None:
    typed = infer_types(
        table_from_frame(pd.DataFrame({"same": LABELS, "fine": LABELS + RNG.random(ROWS) * 0.9}), "t"), {},
    )
    same, fine = checks.leaks(typed.frame, typed.kinds, LABELS, "multiclass")
    assert same.message.startswith("the target under another name")
    assert fine.message.startswith("alone it tells the class of ")
    assert fine.message.endswith("put it under `drop`")


@pytest.mark.parametrize(
    ("column", "blamed"),
    [
        (VALUES, True),
        (3 - 2 * VALUES, True),
        (np.exp(VALUES), True),
        (np.round(VALUES, 4), True),
        (np.array([f"v{v:.0f}" for v in VALUES * 1e6]), False),  # every row its own text
        (VALUES + RNG.normal(0, 0.2, ROWS), False),
        (RNG.normal(size=ROWS), False),
        (np.sign(VALUES), False),
    ],
)
def test_a_column_that_tells_the_number_is_blamed(column: np.ndarray, blamed: bool) -> None:
    assert leaks({"c": column}, VALUES, "regression") == (["c"] if blamed else [])


def test_a_category_with_one_number_each_is_blamed() -> None:
    group = RNG.integers(0, 20, ROWS)
    assert leaks({"c": np.array([f"g{i}" for i in group])}, np.cos(group * 7.0), "regression") == ["c"]


def test_rare_classes_raise_no_alarm() -> None:
    labels = (RNG.random(ROWS) < 0.02).astype(np.int64)
    columns = {"noise": RNG.normal(size=ROWS), "few": RNG.integers(0, 5, ROWS), "same": np.zeros(ROWS)}
    assert leaks(columns, labels, "binary") == []


def test_rows_that_occur_many_times_raise_no_alarm() -> None:
    # Every value has its copies, and they share its class: counted each, all columns would look like leaks.
    columns = {"a": np.repeat(RNG.normal(size=100), 4), "b": np.repeat(RNG.normal(size=100), 4)}
    assert leaks(columns, np.repeat(RNG.integers(0, 2, 100), 4), "binary", other=False) == []


def test_a_column_of_few_values_is_judged_where_it_is_the_only_one() -> None:
    # All rows of a class are equal then: copies, by the look of them, but few values are bound to repeat.
    assert leaks({"c": LABELS * 2.5}, LABELS, "multiclass", other=False) == ["c"]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(30, 200), st.integers(2, 5), st.integers(2, 60))
def test_noise_raises_no_alarm(seed: int, rows: int, classes: int, categories: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(rows) % classes)
    columns = {
        "n": rng.normal(size=rows), "k": rng.integers(0, categories, rows),
        "c": np.array([f"c{i}" for i in rng.integers(0, categories, rows)]),
    }
    assert leaks(columns, labels, "multiclass") == []
    assert leaks(columns, rng.normal(size=rows), "regression") == []


def test_an_unlucky_order_of_rows_changes_nothing() -> None:
    order = np.argsort(LABELS, kind="stable")
    column = (LABELS + RNG.normal(0, 0.6, ROWS))[order]
    assert leaks({"c": column}, LABELS[order], "multiclass") == []
    assert leaks(
        {"row": np.arange(ROWS)}, LABELS[order], "multiclass",
    ) == ["row"]  # a sorted file: it does tell


def test_twins_are_named_once() -> None:
    base = RNG.normal(size=ROWS)
    frame = pd.DataFrame({
        "level": LABELS.astype(float), "word": pd.Series(np.array(["x", "y", "z"])[LABELS], dtype="str"),
        "metres": base, "feet": base * 3.28 + 1, "inverse": -base, "other": RNG.normal(size=ROWS),
        "id": pd.Series([f"i{i}" for i in range(ROWS)], dtype="str"),
    })
    kinds = {name: "category" if name in ("word", "id") else "number" for name in map(str, frame)}
    found = {note.column: note.message for note in checks.twins(frame, kinds)}
    assert set(found) == {"word", "feet", "inverse"}
    assert "`level`" in found["word"] and "`metres`" in found["feet"]


@pytest.mark.parametrize(
    ("name", "values", "code"),
    [
        ("customer_id", np.arange(100, 200), "id_like"),
        ("id", RNG.permutation(100), "id_like"),
        ("unnamed_1", np.arange(100), "id_like"),
        ("bid", RNG.permutation(100), None),
        ("humidity", RNG.permutation(100), None),
        ("id", np.arange(100) % 50, None),
        ("id", np.arange(100) + 0.5, None),
        ("note", np.array([f"some words {i}" for i in range(100)]), "id_like"),
        ("city", np.array([f"c{i % 40}" for i in range(100)]), None),
        ("same", np.full(100, 3), "constant"),
        ("same", np.full(100, "u"), "constant"),
        ("none", np.full(100, np.nan), "all_missing"),
        ("half", np.where(np.arange(100) % 2, 3.0, np.nan), None),  # a gap is a value, too
    ],
)
def test_columns_that_say_nothing(name: str, values: np.ndarray, code: str | None) -> None:
    typed = infer_types(table_from_frame(pd.DataFrame({name: values}), "t"), {})
    found = checks.useless_columns(typed.frame, typed.kinds, ())
    assert [note.code for note in found.values()] == ([code] if code else [])
    declared = checks.useless_columns(typed.frame, typed.kinds, (name,))
    assert list(declared) == ([name] if code in ("constant", "all_missing") else [])


def test_a_row_counter_is_named_but_stays() -> None:
    data = Dataset.from_frame(pd.DataFrame({"n": np.arange(ROWS), "x": RNG.normal(size=ROWS)}), VALUES)
    assert [note.column for note in data.warnings if note.code == "row_counter"] == ["n"]
    assert data.columns.numbers == ("n", "x")


def test_duplicates_count_rows_and_those_on_both_sides() -> None:
    frame = pd.DataFrame(
        {"x": [1.0, 1.0, 2.0, 1.0, np.nan, np.nan, 3.0], "c": ["u", "u", "u", "v", None, None, "w"]}
    )
    hashes = checks.row_hashes(frame, np.array([0, 0, 0, 0, 1, 1, 1]))
    assert [len(set(hashes[list(pair)])) for pair in [(0, 1), (0, 2), (0, 3), (4, 5)]] == [1, 2, 2, 1]
    assert len(set(checks.row_hashes(frame, np.array([0, 1, 0, 0, 1, 1, 1]))[[0, 1]])) == 2
    notes = checks.duplicates(hashes, np.array([1, 6]), grouped=False)
    assert [note.message.split(",")[0].split(";")[0] for note in notes] == [
        "2 of 7 rows repeat an earlier row",
        "1 of 2 test rows also stand among the development rows",
    ]
    assert checks.duplicates(hashes[[0, 2, 3]], np.array([0]), grouped=False) == []
