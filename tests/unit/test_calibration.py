"""Temperature and threshold against scikit-learn, scipy and brute force; nothing is told of rows that were fitted."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, matthews_corrcoef

from lanewise.calibration import (
    THRESHOLD_METRICS,
    Calibration,
    FoldOutputs,
    calibrate,
    fit_temperature,
    fit_threshold,
    heated,
)
from lanewise.metrics import METRICS, probabilities

SLOW = {"f1": f1_score, "mcc": matthews_corrcoef, "balanced_accuracy": balanced_accuracy_score}


def drawn(n=4000, classes=3, sureness=3.0, seed=0):
    """Logits that are `sureness` times too large, and targets drawn from the right ones."""
    rng = np.random.default_rng(seed)
    right = rng.normal(size=(n, classes)) * 1.5
    target = (probabilities(right).cumsum(1) < rng.random(n)[:, None]).sum(1).clip(max=classes - 1)
    return (right * sureness).astype(np.float32), target


def folds_of(outputs, target, count=5):
    rows = np.arange(len(target))
    parts = [rows[rows % count == j] for j in range(count)]
    return [FoldOutputs(outputs[part], target[part], part) for part in parts]


@pytest.mark.parametrize("sureness", [0.25, 1.0, 4.0])
def test_the_temperature_undoes_what_made_the_logits_too_sure(sureness):
    outputs, target = drawn(20_000, sureness=sureness)
    assert fit_temperature(probabilities(outputs), target) == pytest.approx(sureness, rel=0.05)


def test_for_two_classes_it_is_logistic_regression_on_the_logit_without_intercept():
    outputs, target = drawn(3000, classes=2, sureness=2.5)
    slope = LogisticRegression(C=1e10, fit_intercept=False, tol=1e-10).fit(
        (outputs[:, 1] - outputs[:, 0]).astype(np.float64)[:, None], target
    ).coef_[0, 0]  # fmt: skip
    assert fit_temperature(probabilities(outputs), target) == pytest.approx(1 / slope, rel=1e-4)


def test_scikit_learn_finds_the_same_temperature():
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    class Given(ClassifierMixin, BaseEstimator):
        """A classifier whose logits are its inputs."""

        def fit(self, x, y):
            self.classes_ = np.unique(y)
            return self

        def decision_function(self, x):
            return x

        def predict(self, x):
            return x.argmax(1)

    outputs, target = drawn()
    logits = outputs.astype(np.float64)
    theirs = CalibratedClassifierCV(FrozenEstimator(Given().fit(logits, target)), method="temperature")
    expected = theirs.fit(logits, target).predict_proba(logits)
    given_ = probabilities(outputs)
    np.testing.assert_allclose(heated(given_, fit_temperature(given_, target)), expected, atol=1e-4)


@given(st.integers(0, 10_000), st.floats(0.06, 15))
@settings(max_examples=40, deadline=None)
def test_a_temperature_keeps_the_order_of_classes_and_sums_to_one(seed, temperature):
    outputs, _ = drawn(20, seed=seed)
    plain = probabilities(outputs)
    warm = heated(plain, temperature)
    np.testing.assert_allclose(warm.sum(1), 1)
    assert (warm.argmax(1) == plain.argmax(1)).all()
    np.testing.assert_allclose(warm, probabilities(outputs.astype(np.float64) / temperature), atol=1e-9)


def test_temperature_one_changes_no_bit():
    outputs, _ = drawn(50)
    assert (heated(probabilities(outputs), 1.0) == probabilities(outputs)).all()


@pytest.mark.parametrize("metric", THRESHOLD_METRICS)
@given(seed=st.integers(0, 10_000), n=st.integers(4, 60), coarse=st.booleans())
@settings(max_examples=40, deadline=None)
def test_no_threshold_is_better_than_the_chosen_one(metric, seed, n, coarse):
    rng = np.random.default_rng(seed)
    target = np.append(rng.integers(0, 2, n), [0, 1])
    p = np.clip(rng.normal(0.3 + 0.2 * target, 0.2), 0.01, 0.99)
    p = np.round(p, 1) if coarse else p  # ties
    chosen = SLOW[metric](target, p >= fit_threshold(p, target, metric))
    all_cuts = [SLOW[metric](target, p >= cut) for cut in [*np.unique(p)[1:], 0.5]]
    assert chosen == pytest.approx(max(all_cuts))


def test_what_is_told_is_nested_and_too_sure_folds_gain():
    outputs, target = drawn(2000, sureness=3.0)
    folds = folds_of(outputs, target)
    found = calibrate(folds, "accuracy")
    assert found is not None
    assert (found.threshold, found.rows) == (None, 2000)
    parts = []
    for fold in folds:  # the slow twin: scikit-learn's log loss of every fold, with the others' temperature
        rest = ~np.isin(np.arange(2000), fold.rows)
        warm = fit_temperature(probabilities(outputs[rest]), target[rest])
        parts.append(log_loss(fold.target, heated(probabilities(fold.outputs), warm), labels=[0, 1, 2]))
    assert found.after["log_loss"] == pytest.approx(np.mean(parts), abs=1e-9)
    assert found.before["log_loss"] == pytest.approx(log_loss(target, probabilities(outputs)))
    assert found.after["log_loss"] < found.before["log_loss"]
    assert found.after["ece"] < found.before["ece"]


def test_a_row_of_several_folds_is_never_corrected_by_its_own_copy():
    """Rows drawn twice: the other repeat's copies of a fold's rows stay out of what corrects it."""
    outputs, target = drawn(60, sureness=3.0)
    folds = [*folds_of(outputs, target, 2), *folds_of(outputs, target, 3)]
    losses = []
    for fold in folds:
        p = np.concatenate([probabilities(f.outputs[~np.isin(f.rows, fold.rows)]) for f in folds])
        y = np.concatenate([f.target[~np.isin(f.rows, fold.rows)] for f in folds])
        warm = heated(probabilities(fold.outputs), fit_temperature(p, y))
        losses += [log_loss(fold.target, warm, labels=[0, 1, 2])] * len(fold.rows)
    found = calibrate(folds, "accuracy")
    assert found is not None
    assert found.after["log_loss"] == pytest.approx(np.mean(losses), abs=1e-9)


def test_right_probabilities_stay_as_they_are_where_nested_rows_do_not_gain():
    outputs, target = drawn(30, sureness=1.0, seed=3)
    found = calibrate(folds_of(outputs, target), "accuracy")
    assert found is not None
    assert found.after["log_loss"] <= found.before["log_loss"]
    if found.temperature == 1.0:
        assert found.after == found.before


def test_a_rare_class_gets_a_threshold_for_f1_only():
    rng = np.random.default_rng(1)
    target = (rng.random(3000) < 0.08).astype(np.int64)
    logit = rng.normal(size=3000) + 1.6 * target - 3.2
    folds = folds_of(np.stack([np.zeros(3000), logit], 1).astype(np.float32), target)
    found = calibrate(folds, "f1")
    assert found is not None
    assert found.threshold is not None
    assert 0.02 < found.threshold < 0.5
    assert found.after["f1"] > found.before["f1"] + 0.05
    plain = calibrate(folds, "accuracy")
    assert plain is not None
    assert plain.threshold is None
    pooled = np.concatenate([probabilities(f.outputs) for f in folds])
    labels = found.labels(found.apply(pooled))
    everyone = np.concatenate([f.target for f in folds])
    assert METRICS["f1"].full(everyone, labels) == pytest.approx(f1_score(everyone, labels))
    assert f1_score(everyone, labels) >= found.after["f1"] - 0.02


def test_one_fold_alone_is_no_ground_and_a_record_comes_back():
    outputs, target = drawn(200)
    assert calibrate(folds_of(outputs, target)[:1], "accuracy") is None
    found = calibrate(folds_of(outputs, target), "accuracy")
    assert found is not None
    assert Calibration.from_dict(json.loads(json.dumps(asdict(found)))) == found
    assert Calibration.from_dict(None) is None
