"""The toy tables: reproducible, with what their documentation says, and worth a network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression

from lanewise.testing import toy_classification, toy_regression


@pytest.mark.parametrize("make", [toy_classification, toy_regression])
def test_tables_are_of_their_seed(make: Callable[..., pd.DataFrame]) -> None:
    pd.testing.assert_frame_equal(make(50, seed=3), make(50, seed=3))
    assert not make(50, seed=3).equals(make(50, seed=4))
    table = make(400)
    assert list(table.columns) == ["x1", "x2", "x3", "colour", "target"] and len(table) == 400
    assert set(table["colour"]) == {"a", "b", "c"}
    assert table["x3"].isna().mean() == pytest.approx(0.1, abs=0.05)
    assert table.drop(columns="x3").notna().all().all()


def test_classes_are_thirds() -> None:
    assert toy_classification(300)["target"].value_counts().to_dict() == {"low": 100, "mid": 100, "high": 100}


def test_regression_target_is_the_formula() -> None:
    table = toy_regression(2000, seed=1)
    rest = table["target"] - (10 + 3 * table["x1"] * table["x2"] + 2 * (table["colour"] == "b"))
    assert rest.std() == pytest.approx(0.3, rel=0.1) and abs(rest.mean()) < 0.05


def test_a_linear_model_fails_where_trees_do_not() -> None:
    def features(table: pd.DataFrame) -> np.ndarray:
        return np.asarray(pd.get_dummies(table.drop(columns="target").fillna(0.0)), dtype=float)

    train, test = toy_classification(1500, seed=1), toy_classification(500, seed=2)
    linear = LogisticRegression().fit(features(train), train["target"])
    trees = HistGradientBoostingClassifier(max_iter=50).fit(features(train), train["target"])
    assert linear.score(features(test), test["target"]) < 0.55
    assert trees.score(features(test), test["target"]) > 0.8
    train, test = toy_regression(1500, seed=1), toy_regression(500, seed=2)
    line = LinearRegression().fit(features(train), train["target"])
    boosted = HistGradientBoostingRegressor(max_iter=50).fit(features(train), train["target"])
    assert line.score(features(test), test["target"]) < 0.2
    assert boosted.score(features(test), test["target"]) > 0.8
