"""Baselines: what they learn, what they may not see, and that their bits hold still."""

from __future__ import annotations

import time
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from lanewise.baselines import BASELINES, as_table, baseline_names, baseline_prediction
from lanewise.data import Arrays, Layout

CARDINALITIES = (4, 3)


def table(classes, n=400, seed=0, numbers=3, codes=2):
    """A split whose target is a sum of a number and a category's effect; a quarter of it to validate."""
    rng = np.random.default_rng(seed)
    x_num = rng.normal(size=(n, numbers)).astype(np.float32) * 100
    x_cat = (
        np.stack([rng.integers(c, size=n) for c in CARDINALITIES[:codes]], 1)
        if codes
        else np.zeros((n, 0), int)
    )
    signal = (x_num[:, 0] / 100 if numbers else 0) + (x_cat[:, 0] * 1.5 if codes else 0)
    signal = signal + rng.normal(size=n, scale=0.2)
    if classes:
        y = np.digitize(signal, np.quantile(signal, np.arange(1, classes) / classes)).astype(np.int64)
        mean, std = 0.0, 1.0
    else:
        y, mean, std = ((signal - signal.mean()) / signal.std()).astype(np.float32), 40.0, 7.0
    k = n * 3 // 4
    return SimpleNamespace(
        x_num_train=x_num[:k], x_cat_train=x_cat[:k], y_train=y[:k],
        x_num_valid=x_num[k:], x_cat_valid=x_cat[k:], y_valid=y[k:],
        target_mean=mean, target_std=std,
    )  # fmt: skip


def layout(cardinalities):
    return Layout((), (), cardinalities)


def changed(arrays, **fields):
    return SimpleNamespace(**{**vars(arrays), **fields})


@pytest.mark.parametrize("classes", [2, 3])
def test_classes_get_probabilities_and_a_ranking_of_models(classes):
    arrays = table(classes)
    hits = {}
    for name in BASELINES:
        found = baseline_prediction(name, arrays, layout(CARDINALITIES), classes, seed=1)
        assert found.shape == (100, classes) and found.dtype == np.float64
        np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
        hits[name] = np.mean(found.argmax(1) == arrays.y_valid)
    assert hits["dummy"] < 0.65 and hits["linear"] > 0.85 and hits["gradient_boosting"] > 0.75


def test_the_dummy_knows_the_training_shares_only():
    arrays = table(3)
    found = baseline_prediction("dummy", arrays, layout(CARDINALITIES), 3, seed=1)
    np.testing.assert_allclose(found, np.tile(np.bincount(arrays.y_train) / 300, (100, 1)))


def test_regression_is_in_the_target_s_unit():
    arrays = table(0)
    actual = arrays.y_valid.astype(np.float64) * 7 + 40
    dummy, linear, boosting = (
        baseline_prediction(name, arrays, layout(CARDINALITIES), 0, seed=1) for name in BASELINES
    )
    np.testing.assert_allclose(dummy, arrays.y_train.astype(np.float64).mean() * 7 + 40, rtol=1e-6)
    for found in (linear, boosting):
        assert found.shape == (100,) and np.sqrt(np.mean((found - actual) ** 2)) < 3.0


def test_linear_equals_ridge_on_a_design_made_by_hand():
    arrays = table(0)
    x = np.vstack([arrays.x_num_train, arrays.x_num_valid]).astype(np.float64)
    x = (x - x[:300].mean(0)) / x[:300].std(0)
    codes = np.vstack([arrays.x_cat_train, arrays.x_cat_valid])
    design = np.hstack([x, np.eye(4)[codes[:, 0]], np.eye(3)[codes[:, 1]]])
    expected = Ridge(alpha=1.0).fit(design[:300], arrays.y_train).predict(design[300:]) * 7 + 40
    found = baseline_prediction("linear", arrays, layout(CARDINALITIES), 0, seed=1)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize("classes", [0, 2, 3])
@pytest.mark.parametrize("name", BASELINES)
def test_the_bits_hold_still_and_the_validation_target_is_not_seen(name, classes):
    arrays = table(classes, n=3000)  # enough rows for boosting to stop early on rows it draws itself
    one = baseline_prediction(name, arrays, layout(CARDINALITIES), classes, seed=5)
    blind = changed(arrays, y_valid=np.full_like(arrays.y_valid, -1))
    assert np.array_equal(one, baseline_prediction(name, blind, layout(CARDINALITIES), classes, seed=5))


@pytest.mark.parametrize("name", BASELINES)
def test_a_class_missing_from_the_training_rows_has_probability_zero(name):
    arrays = table(3)
    arrays = changed(arrays, y_train=np.where(arrays.y_train == 1, 2, arrays.y_train))
    found = baseline_prediction(name, arrays, layout(CARDINALITIES), 3, seed=1)
    assert found.shape == (100, 3) and (found[:, 1] == 0).all()
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("shape", [(0, 2), (3, 0), (0, 0)])
def test_tables_without_numbers_or_categories(name, shape):
    arrays = table(2, numbers=shape[0], codes=shape[1])
    found = baseline_prediction(name, arrays, layout(CARDINALITIES[: shape[1]]), 2, seed=1)
    assert found.shape == (100, 2) and np.isfinite(found).all()


@pytest.mark.parametrize("name", BASELINES)
def test_one_class_a_rare_class_and_few_rows(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        arrays = table(2)
        single = changed(arrays, y_train=np.ones_like(arrays.y_train))
        found = baseline_prediction(name, single, layout(CARDINALITIES), 2, seed=1)
        np.testing.assert_array_equal(found, np.tile([0.0, 1.0], (100, 1)))
        large = table(3, n=4000)
        rare = changed(large, y_train=np.where(np.arange(3000) == 7, 2, large.y_train % 2))
        assert np.isfinite(baseline_prediction(name, rare, layout(CARDINALITIES), 3, seed=1)).all()
        assert np.isfinite(baseline_prediction(name, table(2, n=12), layout(CARDINALITIES), 2, seed=1)).all()


def test_wide_categories_are_no_trouble():
    arrays = table(2)
    codes = np.random.default_rng(0).integers(1000, size=(400, 1))
    arrays = changed(arrays, x_cat_train=codes[:300], x_cat_valid=codes[300:])
    for name in BASELINES:
        assert np.isfinite(baseline_prediction(name, arrays, layout((1000,)), 2, seed=1)).all()


def test_a_fold_of_a_large_table_takes_seconds():
    arrays = table(7, n=20_000)
    start = time.perf_counter()
    for name in BASELINES:
        baseline_prediction(name, arrays, layout(CARDINALITIES), 7, seed=1)
    assert time.perf_counter() - start < 30  # about 2 s on one idle core


def test_an_unknown_baseline_is_a_key_error():
    with pytest.raises(KeyError):
        baseline_prediction("magic", table(2), layout(CARDINALITIES), 2, seed=1)


def test_fits_run_on_one_thread_and_leave_the_process_as_it_was(monkeypatch):
    from threadpoolctl import threadpool_info, threadpool_limits

    def threads():
        return [pool["num_threads"] for pool in threadpool_info()]

    inside = []
    monkeypatch.setitem(BASELINES, "dummy", lambda problem: inside.extend(threads()))
    with threadpool_limits(2):
        before = threads()
        baseline_prediction("dummy", table(2), layout(CARDINALITIES), 2, seed=1)
        assert threads() == before and 2 in before
    assert inside and set(inside) == {1}


def test_images_and_series_are_fitted_as_one_column_per_number():
    arrays = table(3, codes=0, numbers=6)
    shaped = changed(
        arrays, x_num_train=arrays.x_num_train.reshape(-1, 1, 2, 3), x_num_valid=arrays.x_num_valid.reshape(-1, 1, 2, 3)
    )
    image = Layout((), (), (), "image", (1, 2, 3))
    for name in baseline_names(image, 120):
        np.testing.assert_array_equal(
            baseline_prediction(name, Arrays(**vars(shaped)), image, 3, seed=1),
            baseline_prediction(name, arrays, layout(()), 3, seed=1),
        )
    assert "gradient_boosting" in baseline_names(image, 120)
    photos = Layout((), (), (), "image", (1, 28, 28))
    assert baseline_names(photos, 6_000) == ("dummy", "linear")
    assert baseline_names(photos, 6_000_000) == ("dummy",)  # 18 GiB as numbers


def test_texts_are_fitted_on_the_tokens_that_are_there():
    text = Layout((), (), (), "text", (4,), 6)
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 6, size=(400, 4))
    y = (codes == 5).any(1).astype(np.int64)
    arrays = changed(
        table(2), x_num_train=np.zeros((300, 0), np.float32), x_num_valid=np.zeros((100, 0), np.float32),
        x_cat_train=codes[:300], x_cat_valid=codes[300:], y_train=y[:300], y_valid=y[300:],
    )  # fmt: skip
    assert as_table(arrays, text) is arrays
    found = baseline_prediction("linear", arrays, text, 2, seed=1)
    assert (found.argmax(1) == y[300:]).all()
    assert baseline_names(text, 10**9) == ("dummy", "linear")
