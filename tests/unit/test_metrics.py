"""Every metric three ways: scikit-learn or a hand-worked number, the full version, the lane version."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lanewise.errors import StudyError
from lanewise.lane_metrics import LANE_FUNCTIONS, lane_scores, tree_sum
from lanewise.metrics import METRICS, find_metric, metrics_for, probabilities, resampled_scores, undefined
from lanewise.study import CLASS_METRICS as CLASS_METRICS_OF_STUDIES
from lanewise.study import METRIC_NAMES

CLASS_METRICS = metrics_for("binary")


def classes_data(classes, n, seed, ties=False):
    rng = np.random.default_rng(seed)
    target = rng.integers(classes, size=n)
    logits = rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[target] * rng.random((n, 1))
    if ties:
        logits = np.round(logits)
    return logits.astype(np.float32), target


def one_lane(name, outputs, target, scale=None):
    n = torch.tensor([len(target)])
    scale = None if scale is None else torch.tensor([scale])
    value = METRICS[name].lane(torch.from_numpy(outputs)[None], torch.from_numpy(target)[None], n, scale)
    assert value.shape == (1,) and value.dtype == torch.float64
    return value.item()


def sklearn_value(name, target, probability):
    """Oracles by another way than the code under test where the code itself calls scikit-learn."""
    labels, classes = probability.argmax(1), probability.shape[1]
    average = "binary" if classes == 2 else "macro"
    confusion = sk.multilabel_confusion_matrix(target, labels, labels=np.union1d(target, labels))
    rates = confusion[:, 0, 0] / (confusion[:, 0, 0] + confusion[:, 0, 1])
    oracles = {
        "accuracy": lambda: sk.accuracy_score(target, labels),
        "balanced_accuracy": lambda: sk.balanced_accuracy_score(target, labels),
        "precision": lambda: sk.precision_score(target, labels, average=average, zero_division=0),
        "recall": lambda: sk.recall_score(target, labels, average=average, zero_division=0),
        "f1": lambda: sk.f1_score(target, labels, average=average, zero_division=0),
        "specificity": lambda: rates[-1] if classes == 2 else rates.mean(),
        "mcc": lambda: sk.matthews_corrcoef(target, labels),
        "roc_auc": lambda: (
            sk.roc_auc_score(target, probability[:, 1])
            if classes == 2
            else sk.roc_auc_score(target, probability, multi_class="ovr", labels=range(classes))
        ),
        "log_loss": lambda: sk.log_loss(target, probability, labels=range(classes)),
        "brier": lambda: sk.brier_score_loss(
            target, probability[:, 1] if classes == 2 else probability, labels=range(classes)
        ),
        "ece": lambda: slow_ece(target, probability),
    }
    return oracles[name]()


def slow_ece(target, probability, bins=15):
    """Guo et al. 2017, equation 3, one bin after another: bin m holds the confidences in ((m-1)/M, m/M]."""
    confidence, correct = probability.max(1), probability.argmax(1) == target
    total = 0.0
    for m in range(1, bins + 1):
        inside = (confidence > (m - 1) / bins) & (confidence <= m / bins)
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return total


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("name", CLASS_METRICS)
def test_full_and_lane_equal_sklearn(name, classes, ties):
    for n in (40, 333, 1500):
        logits, target = classes_data(classes, n, seed=n + classes, ties=ties)
        probability = probabilities(logits)
        expected = sklearn_value(name, target, probability)
        assert METRICS[name].full(target, probability) == pytest.approx(expected, abs=1e-12)
        assert one_lane(name, logits, target) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ["rmse", "mae", "r2"])
def test_regression_in_the_original_unit(name):
    rng = np.random.default_rng(3)
    standard = rng.normal(size=700).astype(np.float32)
    outputs = (standard + rng.normal(size=700, scale=0.4)).astype(np.float32)[:, None]
    mean, std = 50.0, 12.5
    target, values = standard * np.float64(std) + mean, outputs[:, 0] * np.float64(std) + mean
    expected = {
        "rmse": math.sqrt(np.mean((target - values) ** 2)),
        "mae": np.mean(np.abs(target - values)),
        "r2": 1 - np.sum((target - values) ** 2) / np.sum((target - target.mean()) ** 2),
    }[name]
    assert METRICS[name].full(target, values) == pytest.approx(expected, rel=1e-12)
    assert METRICS[name].full(target, values[:, None]) == pytest.approx(expected, rel=1e-12)
    assert one_lane(name, outputs, standard, scale=std) == pytest.approx(expected, rel=1e-9)


def test_probabilities_are_a_softmax():
    logits = np.random.default_rng(0).normal(size=(50, 6), scale=30)
    np.testing.assert_allclose(probabilities(logits), torch.softmax(torch.from_numpy(logits), 1), rtol=1e-12)
    assert np.isnan(probabilities(np.array([[np.nan, 0.0], [np.inf, 0.0], [-np.inf, 0.0]]))).all()


def test_hand_worked_numbers():
    target = np.array([0, 0, 1, 1])
    probability = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]])
    expected = {
        "accuracy": 0.75,
        "balanced_accuracy": 0.75,
        "precision": 2 / 3,
        "recall": 1.0,
        "specificity": 0.5,
        "f1": 0.8,
        "roc_auc": 1.0,
        "mcc": (2 * 1 - 1 * 0) / math.sqrt(3 * 2 * 2 * 1),
        "log_loss": -(math.log(0.9) + math.log(0.4) + math.log(0.7) + math.log(0.8)) / 4,
        "brier": (0.01 + 0.36 + 0.09 + 0.04) / 4,
        # 0.6 and 0.7 and 0.8 and 0.9 fall into four bins: |0-0.6| + |1-0.7| + |1-0.8| + |1-0.9|, over 4
        "ece": (0.6 + 0.3 + 0.2 + 0.1) / 4,
    }
    logits = np.log(probability)
    for name, value in expected.items():
        assert METRICS[name].full(target, probability) == pytest.approx(value, abs=1e-12), name
        assert one_lane(name, logits, target) == pytest.approx(value, abs=1e-9), name


def test_auc_of_ties_counts_half():
    target = np.array([0, 1, 1, 0])
    logits = np.array([[0, 0], [0, 0], [0, 1], [0, -1]], dtype=np.float32)
    # pairs (positive, negative): (tie, win, win, win) = 0.5 + 3 of 4
    assert one_lane("roc_auc", logits, target) == 3.5 / 4
    assert METRICS["roc_auc"].full(target, probabilities(logits)) == 3.5 / 4


@pytest.mark.parametrize("case", ["one class", "second class only", "missing class", "constant prediction"])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", CLASS_METRICS)
def test_degenerate_rows_agree_and_say_why(name, classes, case):
    logits, target = classes_data(classes, 60, seed=1)
    if case == "one class":
        target = np.zeros(60, dtype=np.int64)
    elif case == "second class only":
        target = np.ones(60, dtype=np.int64)
    elif case == "missing class":
        target = np.minimum(target, classes - 2)
    else:
        logits = np.zeros((60, classes), dtype=np.float32)
    probability = probabilities(logits)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        full = METRICS[name].full(target, probability)
        lane = one_lane(name, logits, target)
    reason = undefined(name, target, classes)
    assert math.isnan(full) == (reason is not None)
    assert lane == pytest.approx(full, abs=1e-9, nan_ok=True)
    if reason is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert full == pytest.approx(sklearn_value(name, target, probability), abs=1e-12)


def test_reasons_are_named():
    assert undefined("roc_auc", np.zeros(5, dtype=int), 2) == "one class only in these rows"
    assert undefined("roc_auc", np.array([0, 1, 1]), 4) == "2 of 4 classes are missing in these rows"
    assert undefined("accuracy", np.zeros(5, dtype=int), 2) is None
    assert undefined("accuracy", np.zeros(0, dtype=int), 2) == "no rows"
    assert undefined("r2", np.full(4, 0.1)) == "the target is constant in these rows"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_non_finite_prediction_is_never_a_value(bad):
    logits, target = classes_data(3, 50, seed=2)
    logits[7, 1] = bad
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in CLASS_METRICS:
            assert math.isnan(METRICS[name].full(target, logits)), name
            assert math.isnan(one_lane(name, logits, target)), name
        values = np.linspace(0, 1, 50)
        for name in metrics_for("regression"):
            assert math.isnan(METRICS[name].full(values, logits[:, 1])), name
            assert math.isnan(one_lane(name, logits[:, 1:2], values)), name


def test_constant_regression_target():
    target, outputs = np.full(6, 0.1), np.arange(6.0)[:, None]
    assert math.isnan(one_lane("r2", outputs, target)) and math.isnan(METRICS["r2"].full(target, outputs))
    assert METRICS["rmse"].full(target, outputs) == pytest.approx(one_lane("rmse", outputs, target))


def test_no_rows_is_undefined():
    for name in CLASS_METRICS:
        assert math.isnan(METRICS[name].full(np.zeros(0, dtype=int), np.zeros((0, 3)))), name
        value = METRICS[name].lane(
            torch.randn(1, 4, 3), torch.zeros(1, 4, dtype=torch.int64), torch.tensor([0])
        )
        assert math.isnan(value.item()), name


def stacked(kind, lanes=64, rows=1301):
    rng = torch.Generator().manual_seed(5)
    n = torch.randint(rows // 2, rows + 1, (lanes,), generator=rng)
    n[:3] = torch.tensor([rows, 1, 2])
    if kind == "regression":
        target = torch.randn(lanes, rows, generator=rng)
        outputs = (target + torch.randn(lanes, rows, generator=rng))[..., None]
        return outputs, target, n, torch.rand(lanes, generator=rng) + 0.5
    classes = {"binary": 2, "multiclass": 5}[kind]
    outputs = torch.randn(lanes, rows, classes, generator=rng)
    outputs[1::2] = outputs[1::2].round()
    outputs[5] = torch.nan  # a diverged neighbour
    outputs[7, 3] = torch.inf
    return outputs, torch.randint(classes, (lanes, rows), generator=rng), n, torch.ones(lanes)


def bits(scores):
    return {name: value.view(torch.int64) for name, value in scores.items()}


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_a_lane_has_the_same_bits_alone_padded_chunked_and_on_two_threads(kind, monkeypatch):
    names = metrics_for(kind)
    outputs, target, n, scale = stacked(kind)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        together = bits(lane_scores(names, outputs, target, n, scale))
        torch.set_num_threads(2)
        threaded = bits(lane_scores(names, outputs, target, n, scale))
    finally:
        torch.set_num_threads(before)
    order = torch.arange(63, -1, -1)
    turned = bits(lane_scores(names, outputs[order], target[order], n[order], scale[order]))
    monkeypatch.setattr("lanewise.lane_metrics.CHUNK_VALUES", 20_000)
    chunked = bits(lane_scores(names, outputs, target, n, scale))
    for name in names:
        assert torch.equal(together[name], threaded[name]), name
        assert torch.equal(together[name], turned[name].flip(0)), name
        assert torch.equal(together[name], chunked[name]), name
    for k in (0, 1, 2, 3, 5, 6, 31, 63):
        own = int(n[k])  # alone and without its padding
        alone = lane_scores(
            names, outputs[k : k + 1, :own], target[k : k + 1, :own], n[k : k + 1], scale[k : k + 1]
        )
        for name, value in bits(alone).items():
            assert torch.equal(value[0], together[name][k]), (name, k)


def test_padding_may_hold_anything():
    logits, target = classes_data(3, 90, seed=4)
    outputs = torch.full((1, 200, 3), torch.nan)
    outputs[0, :90] = torch.from_numpy(logits)
    codes = torch.full((1, 200), -7)
    codes[0, :90] = torch.from_numpy(target)
    for name, value in lane_scores(CLASS_METRICS, outputs, codes, torch.tensor([90])).items():
        assert value.item() == one_lane(name, logits, target), name


def test_no_lanes_gives_no_scores():
    empty = torch.zeros(0, 5, 2), torch.zeros(0, 5, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    assert lane_scores(["accuracy"], *empty)["accuracy"].shape == (0,)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=70), st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_tree_sum_is_a_sum_and_zeros_do_not_change_it(values, zeros):
    row = torch.tensor(values, dtype=torch.float64)
    padded = torch.cat([row, torch.zeros(zeros, dtype=torch.float64)])
    assert tree_sum(row).item() == pytest.approx(math.fsum(values), rel=1e-12, abs=1e-6)
    assert tree_sum(row).item() == tree_sum(padded).item()


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_resamples_score_as_their_rows_would(kind):
    outputs, target, _, _ = stacked(kind, lanes=9, rows=120)
    y = target[0].numpy()
    prediction = outputs[0].numpy().astype(np.float64)
    prediction = prediction[:, 0] if kind == "regression" else probabilities(prediction)
    rows = np.random.default_rng(0).integers(120, size=(11, 120))
    rows[3] = np.flatnonzero(y == y[0])[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = resampled_scores(metrics_for(kind), y, prediction, rows)
    for name, values in found.items():
        expected = [METRICS[name].full(y[r], prediction[r]) for r in rows]
        np.testing.assert_allclose(values, expected, atol=1e-9, err_msg=name)


def test_certain_and_wrong_is_finite():
    target, probability = np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]])
    ceiling = -math.log(np.finfo(np.float64).eps) / 2
    assert METRICS["log_loss"].full(target, probability) == pytest.approx(ceiling)
    assert one_lane("log_loss", np.array([[0.0, 1e4], [0.0, 1e4]]), target) == pytest.approx(ceiling)
    rows = np.array([[0, 1]])
    assert resampled_scores(["log_loss"], target, probability, rows)["log_loss"][0] == pytest.approx(ceiling)


def test_labels_will_do_for_label_metrics():
    target, labels = np.array([0, 1, 2, 2, 1]), np.array([0, 1, 2, 1, 1])
    assert METRICS["accuracy"].full(target, labels) == 0.8
    assert METRICS["f1"].full(target, labels) == pytest.approx(sk.f1_score(target, labels, average="macro"))
    with pytest.raises(ValueError, match="probabilities"):
        METRICS["log_loss"].full(target, labels)


def test_the_table_is_whole():
    assert set(LANE_FUNCTIONS) == set(METRICS) == set(METRIC_NAMES)
    assert set(metrics_for("binary")) == set(metrics_for("multiclass")) == set(CLASS_METRICS_OF_STUDIES)
    assert {n for n, m in METRICS.items() if m.direction == "minimize"} == {
        "log_loss", "brier", "ece", "rmse", "mae",
    }  # fmt: skip
    assert METRICS["rmse"].better(1.0, 2.0) and not METRICS["rmse"].better(1.0, 1.0)
    assert METRICS["accuracy"].better(0.2, 0.1) and not METRICS["accuracy"].better(float("nan"), 0.1)


def test_an_unknown_metric_is_refused_with_the_nearest_name():
    assert find_metric("f1", "binary").name == "f1"
    with pytest.raises(StudyError, match="roc_auc") as refused:
        find_metric("roc_acu", "binary")
    assert refused.value.remedy == "write 'roc_auc'"
    with pytest.raises(StudyError, match="does not fit a regression task"):
        find_metric("accuracy", "regression")
