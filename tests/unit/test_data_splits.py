"""Splits against scikit-learn, and what must hold for every one of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import model_selection as ms

from lanewise.data.splits import Grouping, cut, make_folds, split_fingerprint
from lanewise.errors import DataError


def stratified(codes: np.ndarray) -> Grouping:
    return Grouping("stratified", codes, classes=tuple(str(c) for c in range(codes.max() + 1)))


@pytest.mark.parametrize("seed", [0, 11])
def test_a_stratified_cut_is_train_test_split(seed: int) -> None:
    codes = np.random.default_rng(0).integers(0, 3, 200)
    first, second = cut(stratified(codes), 200, 0.2, seed, what="test")
    train, test = ms.train_test_split(np.arange(200), test_size=0.2, random_state=seed, stratify=codes)
    np.testing.assert_array_equal(first, np.sort(train))
    np.testing.assert_array_equal(second, np.sort(test))


def test_a_random_cut_is_train_test_split() -> None:
    _, second = cut(Grouping("random"), 101, 0.25, 3, what="test")
    np.testing.assert_array_equal(
        second, np.sort(ms.train_test_split(np.arange(101), test_size=0.25, random_state=3)[1]),
    )


def test_folds_are_scikit_learns() -> None:
    codes = np.arange(90) % 3
    for grouping, expected in [
        (stratified(codes), ms.RepeatedStratifiedKFold(n_splits=4, n_repeats=2, random_state=5)),
        (Grouping("random"), ms.RepeatedKFold(n_splits=4, n_repeats=2, random_state=5)),
    ]:
        folds = make_folds(grouping, 90, 4, 2, 5)
        assert [fold.name for fold in folds] == [f"fold-{n}" for n in range(1, 9)]
        for fold, (train, valid) in zip(folds, expected.split(np.zeros((90, 1)), codes), strict=True):
            np.testing.assert_array_equal(fold.train, np.sort(train))
            np.testing.assert_array_equal(fold.valid, np.sort(valid))


GROUPINGS = st.sampled_from(["random", "stratified", "group", "group classes", "time"])


@settings(max_examples=60, deadline=None)
@given(GROUPINGS, st.integers(60, 120), st.integers(2, 5), st.integers(0, 1000))
def test_what_every_split_keeps(kind: str, rows: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = np.arange(rows) % 2 if kind in ("stratified", "group classes") else None
    groups = rng.permutation(np.arange(rows) // 3) if "group" in kind else None
    times = rng.integers(0, 15, rows).astype(float) if kind == "time" else None
    grouping = Grouping(kind.split()[0], codes, groups, times, ("a", "b") if codes is not None else ())
    first, second = cut(grouping, rows, 0.25, seed, what="test")
    pairs = [(first, second)] + [(f.train, f.valid) for f in make_folds(grouping, rows, k, 2, seed)]
    assert np.array_equal(np.sort(np.concatenate([first, second])), np.arange(rows))
    for train, valid in pairs:
        assert not np.intersect1d(train, valid).size and len(train) and len(valid)
        assert (np.diff(train) > 0).all() and (np.diff(valid) > 0).all() and train.dtype == np.int64
        if groups is not None:
            assert not np.intersect1d(groups[train], groups[valid]).size
        if times is not None:
            assert times[train].max() < times[valid].min()
        if codes is not None:
            assert len(np.unique(codes[train])) == 2
    if kind != "time":
        for repeat in (pairs[1 : k + 1], pairs[k + 1 :]):
            assert np.array_equal(np.sort(np.concatenate([v for _, v in repeat])), np.arange(rows))
    again = make_folds(grouping, rows, k, 2, seed)
    assert all(np.array_equal(a.valid, b[1]) for a, b in zip(again, pairs[1:], strict=True))


def test_time_folds_are_time_series_split_and_have_no_repeats() -> None:
    times = np.random.default_rng(0).permutation(50).astype(float)
    folds = make_folds(Grouping("time", times=times), 50, 4, 3, 0)
    order = np.argsort(times)
    for fold, (train, valid) in zip(folds, ms.TimeSeriesSplit(4).split(order), strict=True):
        np.testing.assert_array_equal(fold.train, np.sort(order[train]))
        np.testing.assert_array_equal(fold.valid, np.sort(order[valid]))


def test_rows_of_one_moment_stay_together() -> None:
    times = np.array([1.0] * 5 + [2.0] * 5 + [3.0] * 10)
    assert cut(Grouping("time", times=times), 20, 0.3, 0, what="test")[1].tolist() == list(range(10, 20))
    late = np.array([1.0] * 18 + [2.0] * 2)
    assert cut(Grouping("time", times=late), 20, 0.3, 0, what="test")[1].tolist() == [18, 19]
    with pytest.raises(DataError, match="same time"):
        cut(Grouping("time", times=np.ones(20)), 20, 0.3, 0, what="test")


@pytest.mark.parametrize(
    ("grouping", "rows", "k", "words"),
    [
        (Grouping("random"), 4, 5, "4 development rows for 5 folds"),
        (stratified(np.array([0] * 20 + [1] * 3)), 23, 5, "class `1` has 3 development rows for 5 folds"),
        (Grouping("group", groups=np.arange(20) % 3), 20, 5, "3 groups"),
        (Grouping("time", times=np.arange(20.0) % 4), 20, 5, "4 different times"),
    ],
)
def test_folds_that_cannot_be_filled_are_refused_with_the_count(grouping, rows, k, words) -> None:
    with pytest.raises(DataError, match=words):
        make_folds(grouping, rows, k, 1, 0)


def test_one_group_cannot_be_cut() -> None:
    with pytest.raises(DataError, match="one group only"):
        cut(Grouping("group", groups=np.zeros(30, np.int64)), 30, 0.2, 0, what="test")


def test_the_fingerprint_is_of_positions_and_parts() -> None:
    parts = [np.array([0, 1, 2]), np.array([3, 4])]
    names = {
        split_fingerprint(p)
        for p in (parts, parts[::-1], [np.arange(5), np.array([], np.int64)], [np.arange(2), np.arange(2, 5)])
    }
    assert len(names) == 4
    assert split_fingerprint(parts) == split_fingerprint([part.astype(np.int32) for part in parts])
