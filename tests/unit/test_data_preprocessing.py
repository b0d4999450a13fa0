"""Preprocessing against scikit-learn, through JSON, and on training rows only."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler

from lanewise.data import Dataset, Preprocessor, Split
from lanewise.data.columns import DATE_PARTS, MAX_CATEGORIES, Columns, date_parts, frequent_categories
from lanewise.data.preprocessing import category_texts, fit_preprocessor, mean_and_deviation, one_hot
from lanewise.data.quantiles import fit_quantiles, to_normal
from lanewise.errors import DataError

CELLS = st.floats(allow_nan=True, allow_infinity=False, width=64)


def numbers_only(*names: str, indicators: tuple[str, ...] = ()) -> Columns:
    return Columns(names, {}, (), (), indicators)


def table(rows: int = 300, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({
        "a": rng.normal(5, 3, rows), "b": rng.exponential(2, rows),
        "c": rng.integers(0, 4, rows).astype(float),
        "u": pd.Series(rng.choice(["red", "green", "blue"], rows), dtype="str"),
        "d": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, rows), unit="D"),
    })
    frame.loc[rng.random(rows) < 0.2, "b"] = np.nan
    frame.loc[rng.random(rows) < 0.1, "u"] = None
    return frame


def dataset(rows: int = 300, **options: object) -> Dataset:
    frame = table(rows)
    return Dataset.from_frame(frame, frame["a"].to_numpy() * 2 + np.arange(rows) % 5, **options)


def test_standard_is_scikit_learns_scaler_with_medians_in_the_gaps() -> None:
    frame = table()[["a", "b", "c"]]
    fitted = fit_preprocessor(
        frame[:200], numbers_only("a", "b", "c", indicators=("b",)), "standard", "error",
    )
    x, codes = fitted.transform(frame)
    scaler = StandardScaler().fit(frame[:200])
    expected = scaler.transform(frame.fillna(frame[:200].median()))
    np.testing.assert_allclose(x[:, :3], expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(x[:, 3], frame["b"].isna())
    assert x.dtype == np.float32 and codes.shape == (300, 0) and codes.dtype == np.int64


@pytest.mark.parametrize("rows", [7, 300, 3000])
def test_quantiles_are_scikit_learns_transformer(rows: int) -> None:
    rng = np.random.default_rng(1)
    for values in (
        rng.exponential(2, rows), rng.integers(0, 3, rows).astype(float), np.round(rng.normal(size=rows), 1),
    ):
        learnt = QuantileTransformer(
            n_quantiles=min(1000, rows), output_distribution="normal", subsample=None
        ).fit(values[:, None])
        other = np.concatenate([values, rng.normal(0, 9, 200), [values.min() - 1, values.max() + 1, np.nan]])
        expected = learnt.transform(other[:, None])[:, 0]
        np.testing.assert_allclose(to_normal(other, fit_quantiles(values)), expected, rtol=0, atol=1e-12)


def test_a_constant_has_the_quantile_in_the_middle() -> None:
    # scikit-learn puts a constant at -5.2, the edge of its range: far from 0, and for no reason.
    assert to_normal(np.array([4.0, 7.0, np.nan]), fit_quantiles(np.full(9, 4.0))).tolist()[:2] == [0.0, 0.0]
    assert to_normal(np.array([4.0]), fit_quantiles(np.array([]))).tolist() == [0.0]


def test_rounding_at_the_edge_leaves_no_nan() -> None:
    # Found by mutation: the share came out at -1e-17, for which scikit-learn gives nan.
    quantiles = np.array([6.7e-172, 9.145679439118658e125, 2.1584583024643256e140, 8.4e213, 1.9e229, 3.3e254])
    assert np.isfinite(to_normal(np.array([7.595564003420796e95]), quantiles)).all()


def test_quantiles_fill_gaps_with_the_median() -> None:
    frame = table()[["b"]]
    x, _ = fit_preprocessor(frame, numbers_only("b"), "quantile", "error").transform(frame)
    gaps = frame["b"].isna().to_numpy()
    assert np.isfinite(x).all()
    assert len(set(x[gaps, 0])) == 1 and abs(x[gaps, 0][0]) < 0.02


def test_one_hot_is_scikit_learns() -> None:
    data = dataset()
    fitted = data.preprocess(data.everything().train)
    x_num, x_cat = fitted.transform(data.frame)
    encoder = OneHotEncoder(categories=[range(c) for c in data.layout.cardinalities], sparse_output=False)
    expected = np.hstack([x_num, encoder.fit_transform(x_cat)])
    found = one_hot(fitted.layout, x_num, x_cat)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32 and found.shape[1] == data.layout.n_features


@pytest.mark.parametrize("numbers", ["standard", "quantile"])
def test_json_gives_the_same_bits(numbers: str) -> None:
    data = dataset(numbers=numbers)
    fitted = data.preprocess(data.holdout.train)
    again = Preprocessor.from_json(json.loads(json.dumps(fitted.to_json())))
    for one, other in zip(fitted.transform(data.frame), again.transform(data.frame), strict=True):
        np.testing.assert_array_equal(one, other)
    assert again.layout == fitted.layout == data.layout


@settings(max_examples=60, deadline=None)
@given(
    st.lists(CELLS, min_size=2, max_size=30), st.lists(CELLS, min_size=1, max_size=10),
    st.sampled_from(["standard", "quantile"]),
)
def test_no_finite_table_leaves_the_floats_of_a_network(
    train: list[float], other: list[float], kind: str,
) -> None:
    fitted = fit_preprocessor(pd.DataFrame({"a": train}), numbers_only("a", indicators=("a",)), kind, "error")
    again = Preprocessor.from_json(json.loads(json.dumps(fitted.to_json())))
    x, _ = again.transform(pd.DataFrame({"a": other}))
    assert np.isfinite(x).all()
    np.testing.assert_array_equal(x, fitted.transform(pd.DataFrame({"a": other}))[0])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=20))
def test_mean_and_deviation_are_numpys_where_numpy_does_not_overflow(values: list[float]) -> None:
    array = np.array(values)
    mean, deviation = mean_and_deviation(array)
    assert deviation > 0 and np.isfinite([mean, deviation]).all()
    with np.errstate(all="ignore"):
        expected = array.std()
    if np.isfinite(expected) and expected > 1e-12 * np.abs(array).max() and np.abs(array).max() > 1e-100:
        np.testing.assert_allclose(
            [mean, deviation], [array.mean(), expected], rtol=1e-9, atol=1e-12 * np.abs(array).max(),
        )


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["standard", "quantile"]))
def test_what_validation_rows_hold_cannot_change_training_rows(seed: int, numbers: str) -> None:
    rng = np.random.default_rng(seed)
    data = dataset(120, numbers=numbers)
    order = rng.permutation(120)
    split = Split("any", np.sort(order[:80]), np.sort(order[80:]))
    before = data.arrays(split)
    changed = data.frame.copy()
    changed.loc[split.valid, ["a", "b", "c"]] = rng.normal(1e6, 1e5, (40, 3))
    changed.loc[split.valid, "u"] = "never seen"
    target = data.target.copy()
    target[split.valid] += 1e9
    object.__setattr__(data, "frame", changed)
    object.__setattr__(data, "target", target)
    after = data.arrays(split)
    for name in ("x_num_train", "x_cat_train", "y_train", "target_mean", "target_std"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    assert (after.x_cat_valid == 0).all()


def test_the_target_is_standardised_by_training_rows() -> None:
    data = dataset()
    arrays = data.arrays(data.holdout)
    train = data.target[data.holdout.train]
    assert (arrays.target_mean, arrays.target_std) == pytest.approx((train.mean(), train.std()))
    assert arrays.y_train.dtype == np.float32
    np.testing.assert_allclose(
        arrays.y_train * arrays.target_std + arrays.target_mean, train, rtol=1e-5, atol=1e-5,
    )
    np.testing.assert_allclose(
        arrays.y_valid, (data.target[data.holdout.valid] - train.mean()) / train.std(), rtol=1e-5, atol=1e-6,
    )


def test_all_folds_have_the_shapes_of_the_layout() -> None:
    data = dataset(100)
    for split in [data.holdout, *data.folds(5, 2, 0)]:
        arrays = data.arrays(split)
        assert arrays.x_num_train.shape == (len(split.train), len(data.layout.numeric))
        assert arrays.x_cat_valid.shape == (len(split.valid), len(data.layout.categorical))
        for codes in (arrays.x_cat_train, arrays.x_cat_valid):
            assert (codes.max(0) < data.layout.cardinalities).all() and codes.min() >= 0


def test_arrays_take_a_preprocessor_that_was_fitted_before() -> None:
    data = dataset()
    one, other = data.arrays(data.holdout), data.arrays(data.holdout, data.preprocess(data.holdout.train))
    np.testing.assert_array_equal(one.x_num_valid, other.x_num_valid)


def test_a_category_needs_two_rows_and_255_have_a_code() -> None:
    assert frequent_categories(
        pd.Series(["b", "b", "a", "a", "c", "c", "c", "d", None], dtype="str")
    ) == ["c", "a", "b"]
    many = pd.Series([f"k{i:03}" for i in range(300)] * 2 + ["k299"], dtype="str")
    kept = frequent_categories(many)
    assert len(kept) == MAX_CATEGORIES and kept[0] == "k299" and kept[1:] == [f"k{i:03}" for i in range(254)]


def test_dates_become_days_and_circles() -> None:
    dates = pd.Series(
        pd.to_datetime(["1970-01-02", "2024-01-01 06:00", "2024-07-01", ""], format="ISO8601")
    )
    parts = date_parts(dates)
    assert tuple(parts) == DATE_PARTS
    assert parts["days"][0] == 1 and parts["days"][1] == 19723.25 and np.isnan(parts["days"][3])
    # 2024-01-01 is a Monday, the start of year and week; 6:00 is a quarter of the day.
    assert [parts[p][1] for p in DATE_PARTS[1:]] == pytest.approx([0, 1, 0, 1, 1, 0], abs=1e-12)


def test_a_date_without_time_of_day_has_no_day_circle() -> None:
    data = dataset()
    assert data.columns.dates["d"] == DATE_PARTS[:5]
    assert "d (year_sin)" in data.layout.numeric


def test_texts_are_read_as_what_the_column_is() -> None:
    data = dataset()
    fitted = data.preprocess(data.everything().train)
    frame = data.frame.head(3)
    texts = frame.assign(a=frame["a"].astype(str), d=frame["d"].dt.strftime("%Y-%m-%d"))
    for one, other in zip(fitted.transform(texts), fitted.transform(frame), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"a": ["1.5", "x", "2"]}, "column `a` holds a value that is no number"),
        ({"d": ["2020-01-01", "soon", "2020-01-01"]}, "column `d` holds a value that is no date"),
        ({"a": [1.0, np.inf, 2.0]}, "column `a` holds an infinite number"),
    ],
)
def test_a_cell_that_does_not_fit_is_named_with_its_row(change: dict[str, list[Any]], words: str) -> None:
    data = dataset()
    fitted = data.preprocess(data.everything().train)
    with pytest.raises(DataError) as caught:
        fitted.transform(data.frame.head(3).assign(**change))
    assert words in str(caught.value) and caught.value.where == "row 2"


def test_a_missing_column_is_named() -> None:
    data = dataset()
    with pytest.raises(DataError, match="no a, u"):
        data.preprocess(data.everything().train).transform(data.frame.drop(columns=["a", "u"]))


def test_numbers_as_categories_match_how_the_file_wrote_them() -> None:
    assert category_texts(pd.Series([1.0, np.nan, 2.5])).tolist()[::2] == ["1", "2.5"]
    assert category_texts(pd.Series([1, 2]), ["1.0", "2.0"]).tolist() == ["1.0", "2.0"]
    assert category_texts(pd.Series([True, False]), ["true", "false"]).tolist() == ["true", "false"]
    assert category_texts(pd.Series([True, False])).tolist() == ["True", "False"]


def test_an_unseen_file_of_no_rows_gives_no_rows() -> None:
    data = dataset()
    x_num, x_cat = data.preprocess(data.everything().train).transform(data.frame.head(0))
    assert x_num.shape == (0, len(data.layout.numeric)) and x_cat.shape == (0, 1)
