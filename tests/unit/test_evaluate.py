"""Cross-validation of the finalists: who wins, by how much, and what is said when a number is missing."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest

from lanewise.data import Layout
from lanewise.errors import SearchError
from lanewise.evaluate import (
    Candidate,
    Contender,
    Evaluation,
    choose_contenders,
    evaluate,
    fold_scores,
    fold_seed,
    median_epoch,
    network_prediction,
)
from lanewise.intervals import corrected_t_interval
from lanewise.judge import overtuning_of
from lanewise.metrics import METRICS, metrics_for

FOLDS = 4


class ToyData:
    """What `evaluate` reads of a Dataset: one number that decides the class or the value."""

    def __init__(self, classes=2, metric="accuracy", n=120):
        rng = np.random.default_rng(0)
        self.x = rng.normal(size=n).astype(np.float32)
        cuts = np.quantile(self.x, np.arange(1, classes) / classes) if classes else None
        self.target = np.digitize(self.x, cuts) if classes else self.x.astype(np.float64) * 20 + 5
        self.task = {0: "regression", 2: "binary"}.get(classes, "multiclass")
        self.classes = tuple("abcdefg"[:classes])
        self.metric = metric
        self.layout = Layout((), (), ())
        self.rows = n
        rows = np.arange(n)
        self.splits = [
            SimpleNamespace(name=f"fold {j}", train=rows[rows % FOLDS != j], valid=rows[rows % FOLDS == j])
            for j in range(FOLDS)
        ]

    def target_scale(self, picked):
        y = self.target[picked]
        return (0.0, 1.0) if self.classes else (y.mean(), y.std())

    def arrays(self, split):
        numbers, codes = self.x[:, None], np.zeros((len(self.x), 0), dtype=np.int64)
        y, (mean, std) = self.target, self.target_scale(split.train)
        if not self.classes:
            y = ((y - mean) / std).astype(np.float32)
        return SimpleNamespace(
            x_num_train=numbers[split.train], x_num_valid=numbers[split.valid],
            x_cat_train=codes[split.train], x_cat_valid=codes[split.valid],
            y_train=y[split.train], y_valid=y[split.valid], target_mean=mean, target_std=std,
        )  # fmt: skip


def trainer(data, wrong, seen=None, epochs=None):
    """A network that is right but for the first `wrong[name](fold)` rows of each fold."""

    def train(jobs):
        if seen is not None:
            seen.extend(jobs)
        results = []
        for config, _, split in jobs:
            fold = data.splits.index(split)
            count = wrong[config["name"]](fold)
            if count is None:
                results.append((None, 0))
                continue
            codes = data.target[split.valid].copy()
            codes[:count] = (codes[:count] + 1) % len(data.classes)
            outputs = np.where(np.eye(len(data.classes))[codes] > 0, 3.0, 0.0).astype(np.float32)
            results.append((outputs, (epochs or {}).get(config["name"], [7] * FOLDS)[fold]))
        return results

    return train


def contenders(*selections):
    names = ["default", *(f"trial-{i:04d}" for i in range(1, len(selections)))]
    return [Contender(n, {"name": n, "lr": 0.1}, s) for n, s in zip(names, selections, strict=True)]


def run(data, wrong, selections=(0.8, 0.9), baselines=False, **more):
    given = contenders(*selections)
    wrong = {c.name: w if callable(w) else (lambda fold, w=w: w) for c, w in zip(given, wrong, strict=True)}
    return evaluate(
        data, given, data.splits, trainer(data, wrong, **more),
        folds=FOLDS, baselines=baselines, confidence=0.95, seed=3,
    )  # fmt: skip


def test_every_contender_meets_every_fold_in_one_call_with_the_same_seeds():
    data, seen = ToyData(), []
    found = run(data, [3, 6, 9], (0.8, 0.9, 0.85), seen=seen)
    assert [job[0]["name"] for job in seen] == ["default"] * 4 + ["trial-0001"] * 4 + ["trial-0002"] * 4
    assert [job[2] for job in seen] == data.splits * 3
    assert [job[1] for job in seen] == [fold_seed(3, j) for j in range(FOLDS)] * 3
    assert len({fold_seed(s, j) for s in range(5) for j in range(20)}) == 100
    assert [c.name for c in found.candidates] == ["default", "trial-0001", "trial-0002"]
    assert found.candidate("trial-0001").scores["accuracy"] == [24 / 30] * FOLDS
    assert (found.folds, found.repeats, found.metric, found.direction) == (4, 1, "accuracy", "maximize")
    assert set(found.candidates[0].scores) == set(metrics_for("binary"))


def test_the_best_mean_wins_and_the_lead_is_a_corrected_t_interval():
    found = run(ToyData(), [lambda j: 6 + j, 9, lambda j: 3 + 2 * j], (0.7, 0.9, 0.8))
    assert found.winner == "trial-0002"  # 3, 5, 7, 9 wrong against 6, 7, 8, 9
    differences = [(6 + j - (3 + 2 * j)) / 30 for j in range(FOLDS)]
    expected = corrected_t_interval(differences, 1 / 3, confidence=0.95)
    lead = found.winner_minus_default
    assert (lead.estimate, lead.low, lead.high) == pytest.approx(
        (expected.estimate, expected.low, expected.high)
    )
    assert lead.method == "corrected resampled t, 4 folds, against the default"
    none = found.winner_minus_baseline
    assert none.low is None and none.method == "a baseline has no score to compare with"


@pytest.mark.parametrize("trial", [4, 5])
def test_the_default_wins_unless_it_is_beaten(trial):
    found = run(ToyData(), [4, trial])
    assert found.winner == "default"
    lead = found.winner_minus_default
    assert (lead.estimate, lead.low, lead.high) == (0, 0, 0) and lead.method == "the winner is the default"
    assert "No finalist beat the default; the default is kept." in found.warnings


def test_a_metric_to_minimise():
    assert run(ToyData(metric="log_loss"), [4, 2]).winner == "trial-0001"
    found = run(ToyData(metric="log_loss"), [2, 4])
    assert found.winner == "default" and found.direction == "minimize"


@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -math.inf])
def test_a_failed_or_diverged_lane_never_wins(bad):
    data = ToyData(metric="log_loss")

    def train(jobs):
        results = trainer(data, {"default": lambda j: 4, "trial-0001": lambda j: 0})(jobs)
        outputs = results[5][0]
        if bad is not None:
            outputs[3, 0] = bad
        results[5] = (None if bad is None else outputs, 0)
        return results

    found = evaluate(
        data, contenders(0.5, 0.1), data.splits, train, folds=FOLDS, baselines=False, confidence=0.9, seed=0
    )
    scores = found.candidate("trial-0001").scores
    assert found.winner == "default" and scores["log_loss"][1] is None and scores["log_loss"][0] < 0.1
    assert (
        "trial-0001 has no finite log_loss in some fold and is left out of the comparison." in found.warnings
    )
    json.dumps(asdict(found), allow_nan=False)


def test_a_default_that_failed_loses_without_an_interval():
    found = run(ToyData(), [lambda j: None if j == 2 else 0, 5])
    assert found.winner == "trial-0001"
    assert found.winner_minus_default.low is None
    assert found.winner_minus_default.method == "the default has no score to compare with"


def test_nobody_left_is_an_error_that_says_why():
    with pytest.raises(SearchError, match="no candidate has a score in every fold") as refused:
        run(ToyData(), [lambda j: None, lambda j: None])
    assert "default has no finite accuracy" in refused.value.given
    with pytest.raises(ValueError, match="3 results for 8 lanes"):
        data = ToyData()
        evaluate(
            data, contenders(0, 0), data.splits, lambda jobs: [(None, 0)] * 3,
            folds=FOLDS, baselines=False, confidence=0.9, seed=0,
        )  # fmt: skip


def test_a_fold_of_one_class_is_named_and_left_out():
    data = ToyData(metric="roc_auc")
    data.target[data.splits[1].valid] = 0
    found = run(data, [4, lambda j: 30 if j == 1 else 2])
    assert found.warnings == [
        "roc_auc is undefined in fold 1: one class only in these rows; the fold is left out."
    ]
    assert found.winner == "trial-0001"
    assert found.candidate("default").scores["roc_auc"][1] is None
    assert found.candidate("default").scores["accuracy"][1] == pytest.approx(26 / 30)
    assert found.winner_minus_default.method.startswith("corrected resampled t, 3 folds")


def test_no_fold_defined_is_an_error():
    data = ToyData(metric="roc_auc")
    data.target[:] = 0
    with pytest.raises(SearchError) as refused:
        run(data, [1, 1])
    assert "roc_auc is undefined in fold 3" in refused.value.given


@pytest.mark.parametrize("classes", [0, 3])
def test_baselines_are_scored_on_the_same_rows_in_the_same_unit(classes):
    data = ToyData(classes, metric="log_loss" if classes else "rmse")

    def train(jobs):
        if classes:
            return trainer(data, {"default": lambda j: 20, "trial-0001": lambda j: 10})(jobs)
        scale = {"default": 0.5, "trial-0001": 1.0}
        return [
            ((data.arrays(split).y_valid * scale[config["name"]])[:, None], 3) for config, _, split in jobs
        ]

    found = evaluate(
        data, contenders(1.0, 0.5), data.splits, train, folds=FOLDS, baselines=True, confidence=0.9, seed=0
    )
    assert [c.name for c in found.candidates[2:]] == ["dummy", "linear", "gradient_boosting"]
    assert all(c.kind == "baseline" and c.config is None and not c.best_epochs for c in found.candidates[2:])
    assert found.winner == "trial-0001"
    means = {c.name: np.mean(c.scores[found.metric]) for c in found.candidates}
    assert means["linear"] < means["dummy"]
    if not classes:
        assert means["trial-0001"] == pytest.approx(0, abs=1e-5)
        assert means["default"] == pytest.approx(0.5 * means["dummy"], rel=0.05)
    best = min(("dummy", "linear", "gradient_boosting"), key=means.get)
    assert found.winner_minus_baseline.method.endswith(f"against {best}")
    assert found.winner_minus_baseline.estimate == pytest.approx(means["trial-0001"] - means[best])


def test_a_baseline_that_cannot_be_fitted_ends_nothing(monkeypatch):
    def refuse(*_):
        raise ValueError("odd table")

    monkeypatch.setattr("lanewise.evaluate.baseline_prediction", refuse)
    found = run(ToyData(), [4, 2], baselines=True)
    assert found.winner == "trial-0001"
    assert found.warnings[:3] == [
        f"The baseline {name} could not be fitted: odd table"
        for name in ("dummy", "linear", "gradient_boosting")
    ]
    assert found.winner_minus_baseline.low is None


def test_overtuning_of_a_search_that_was_fooled():
    """The search chose trial 1 (0.95 on the holdout); the folds say 0.80, the default 0.85, trial 2 0.90."""
    means = {"default": 0.85, "trial-0001": 0.80, "trial-0002": 0.90}
    found = overtuning_of(METRICS["accuracy"], contenders(0.86, 0.95, 0.93), means)
    assert found == pytest.approx(
        {
            "trial": "trial-0001", "selection": 0.95, "cross_validated": 0.80, "gap": 0.15,
            "default_gap": 0.01, "overtuning": 0.10, "relative": 2.0,
        }
    )  # fmt: skip


def test_overtuning_of_errors_has_the_same_sign():
    means = {"default": 0.15, "trial-0001": 0.12, "trial-0002": 0.10}
    found = overtuning_of(METRICS["log_loss"], contenders(0.14, 0.05, 0.07), means)
    assert found["trial"] == "trial-0001"
    assert [found[k] for k in ("gap", "default_gap", "overtuning", "relative")] == pytest.approx(
        [0.07, 0.01, 0.02, 0.4]
    )


def test_overtuning_where_nothing_can_be_said():
    lost = overtuning_of(METRICS["accuracy"], contenders(0.8, 0.9), {"default": 0.85, "trial-0001": 0.8})
    assert lost["overtuning"] == pytest.approx(0.05) and lost["relative"] is None
    failed = overtuning_of(METRICS["accuracy"], contenders(0.8, 0.9), {"default": 0.85, "trial-0001": None})
    assert failed["trial"] == "trial-0001" and failed["gap"] is None and failed["overtuning"] is None
    nothing = overtuning_of(METRICS["accuracy"], contenders(None, None), {"default": 0.8, "trial-0001": 0.8})
    assert nothing["trial"] is None and nothing["gap"] is None


def trial(number, value, state="complete", **config):
    return SimpleNamespace(number=number, value=value, state=state, config=config)


def test_contenders_are_the_default_and_the_best_complete_trials():
    trials = [
        trial(3, 0.9, lr=3.0), trial(0, 0.5, lr=1.0), trial(1, 0.95, "pruned", lr=2.0),
        trial(2, 0.9, lr=2.5), trial(4, math.inf, lr=4.0), trial(5, None, "failed", lr=5.0),
        trial(6, 0.99, lr=1.0), trial(7, 0.7, lr=7.0),
    ]  # fmt: skip
    found = choose_contenders(trials, "maximize", 2)
    assert [(c.name, c.kind, c.selection) for c in found] == [
        ("default", "default", 0.5), ("trial-0002", "trial", 0.9), ("trial-0003", "trial", 0.9),
    ]  # fmt: skip
    assert [c.name for c in choose_contenders(trials, "minimize", 1)] == ["default", "trial-0007"]
    failed = choose_contenders([trial(0, None, "failed", lr=1.0)], "maximize", 3)
    assert failed == [Contender("default", {"lr": 1.0}, None)]
    with pytest.raises(SearchError, match="no trial 0"):
        choose_contenders([trial(1, 0.5)], "maximize", 3)


def test_epochs_of_the_refit_are_the_median_of_the_folds():
    def of(*epochs):
        return median_epoch(Candidate("default", "default", {}, {}, list(epochs)))

    assert [of(3, 9, 4), of(3, 4), of(5, 0, 7, 9), of(1)] == [4, 4, 7, 1]
    with pytest.raises(SearchError, match="no best epoch"):
        of(0, 0)


def test_outputs_become_predictions():
    outputs = np.array([[0.0, math.log(3)], [1.0, 1.0]], dtype=np.float32)
    np.testing.assert_allclose(
        network_prediction("binary", outputs, 0, 1), [[0.25, 0.75], [0.5, 0.5]], rtol=1e-6
    )
    np.testing.assert_allclose(
        network_prediction("regression", np.array([[0.0], [-2.0]]), 10.0, 3.0), [10.0, 4.0]
    )


def test_fold_scores_are_finite_or_none():
    found = fold_scores("binary", np.zeros(4, dtype=int), np.full((4, 2), 0.5))
    assert found["roc_auc"] is None and found["accuracy"] == 1.0
    assert fold_scores("regression", np.ones(3), np.full(3, math.inf)) == {
        "rmse": None,
        "mae": None,
        "r2": None,
    }


def test_an_evaluation_survives_json():
    found = run(ToyData(), [4, 2, 3], (0.8, None, 0.9), baselines=True)
    assert Evaluation.from_dict(json.loads(json.dumps(asdict(found), allow_nan=False))) == found


def test_winner_and_default_are_calibrated_on_out_of_fold_rows_and_nobody_else():
    from lanewise.calibration import FoldOutputs, calibrate

    data = ToyData()
    found = run(data, [9, 6, 7], (0.7, 0.9, 0.8), baselines=True)
    assert found.winner == "trial-0001"
    assert {c.name for c in found.candidates if c.calibration} == {"default", "trial-0001"}
    config = {"name": "default"}
    outputs = trainer(data, {"default": lambda _: 9})([(config, 0, split) for split in data.splits])
    folds = [
        FoldOutputs(o, data.target[s.valid], s.valid)
        for (o, _), s in zip(outputs, data.splits, strict=True)
    ]
    assert found.candidate("default").calibration == calibrate(folds, "accuracy")
    assert Evaluation.from_dict(json.loads(json.dumps(asdict(found)))) == found
    numbers = ToyData(classes=0, metric="rmse")
    values = evaluate(
        numbers, contenders(1.0), numbers.splits,
        lambda jobs: [(np.zeros((30, 1), np.float32), 3) for _ in jobs],
        folds=FOLDS, baselines=False, confidence=0.95, seed=3,
    )  # fmt: skip
    assert values.candidate("default").calibration is None
