"""The refit as data: what it predicts, that it comes back from its parts, and that the seal opens once."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from lanewise.calibration import Calibration
from lanewise.data import Dataset, network_inputs
from lanewise.data.columns import Columns
from lanewise.data.preprocessing import fit_preprocessor
from lanewise.data.seal import write_seal
from lanewise.errors import ModelError, SearchError
from lanewise.evaluate import Contender, evaluate
from lanewise.metrics import METRICS, metrics_for
from lanewise.model import resolve
from lanewise.refit import FittedModel, TestResult, member_seeds, open_and_score, refit
from lanewise.trainer import full_split

CONFIG = {"width": 16, "depth": 1, "dropout": 0.5, "normalisation": "batch", "lr": 0.01, "optimizer": "sgd"}
COLUMNS = Columns(("size", "age"), {}, ("colour",), (4,), ("age",))
TASKS = ["binary", "multiclass", "regression"]
FLAT = """
from torch import nn
class Flat(nn.Module):
    def __init__(self, n_features, n_outputs, width: int = 8):
        super().__init__()
        self.head = nn.Sequential(nn.Linear(n_features, width), nn.ReLU(), nn.Linear(width, n_outputs))
    def forward(self, x):
        return self.head(x)
"""


def rows(n, seed=0):
    rng = np.random.default_rng(seed)
    age = np.where(rng.random(n) < 0.1, np.nan, rng.normal(40, 10, n))
    frame = pd.DataFrame(
        {"size": rng.normal(size=n), "age": age, "colour": rng.choice(["red", "blue", "green"], n)}
    )
    return frame, frame["size"].to_numpy() + (frame["colour"] == "red")


class ToyData:
    """What `refit` reads of a Dataset."""

    def __init__(self, task, n=80):
        self.frame, signal = rows(n)
        self.task = task
        self.classes = {"binary": ("no", "yes"), "multiclass": ("1", "2", "3"), "regression": ()}[task]
        self.target = codes_of(task, signal)
        self.layout = COLUMNS.layout

    def preprocess(self, picked):
        return fit_preprocessor(self.frame.iloc[picked], COLUMNS, "standard", "error")

    def target_scale(self, picked):
        y = self.target[picked]
        return (y.mean(), y.std()) if self.task == "regression" else (0.0, 1.0)


def codes_of(task, signal):
    if task == "regression":
        return signal * 100 + 1000
    return np.digitize(signal, [0.3] if task == "binary" else [0.0, 0.6]).astype(np.int64)


def random_weights(network, layout, outputs, asked=None):
    def train_full(config, seeds, epochs):
        if asked is not None:
            asked.append((config, seeds, epochs))
        states = []
        for seed in seeds:
            module = network.build(layout, outputs, config, seed)
            with torch.no_grad():
                draw = torch.Generator().manual_seed(seed)
                numbers = torch.randn(64, len(layout.numeric), generator=draw)
                module(numbers, torch.randint(4, (64, 1), generator=draw))  # moves the batch statistics
            states.append(module.state_dict())
        return states

    return train_full


def fitted_model(task="binary", members=2, seed=1, config=CONFIG, asked=None):
    data, network = ToyData(task), resolve("mlp")
    train_full = random_weights(network, data.layout, len(data.classes) or 1, asked)
    return refit(data, network, config, epochs=12, members=members, seed=seed, train_full=train_full)


def slow_prediction(fitted, frame):
    """Member after member, row after row, with torch's own softmax."""
    numbers, codes = (torch.from_numpy(a) for a in fitted.preprocessor.transform(frame))
    found = []
    for state in fitted.states:
        module = fitted.network.build(fitted.layout, len(fitted.classes) or 1, fitted.config, seed=9)
        module.load_state_dict(state)
        module.eval()
        outputs = torch.cat(
            [module(numbers[i : i + 1], codes[i : i + 1]) for i in range(len(frame))]
        ).double()
        regression = fitted.task == "regression"
        found.append(
            outputs[:, 0] * fitted.target_std + fitted.target_mean if regression else outputs.softmax(1)
        )
    return torch.stack(found).mean(0).detach().numpy()


def test_refit_trains_all_rows_with_own_seeds_for_the_given_epochs():
    asked = []
    fitted = fitted_model(members=3, asked=asked)
    assert asked == [(CONFIG, member_seeds(1, 3), 12)]
    assert fitted.seeds == member_seeds(1, 3) and len(set(fitted.seeds)) == 3 and fitted.epochs == 12
    assert member_seeds(1, 2) == member_seeds(1, 3)[:2]
    split = full_split(ToyData("binary"))
    assert split.train.tolist() == list(range(80)) and split.valid.tolist() == [0]
    assert len(fitted.states) == 3
    assert fitted.preprocessor.means[0] == pytest.approx(rows(80)[0]["size"].mean())


def test_the_trainer_s_tensors_are_not_shared():
    data, network = ToyData("binary"), resolve("mlp")
    states = random_weights(network, data.layout, 2)(CONFIG, [1], 1)
    fitted = refit(data, network, CONFIG, epochs=1, members=1, seed=0, train_full=lambda *_: states)
    before = fitted.frozen()
    for tensor in states[0].values():
        tensor.zero_()
    assert fitted.frozen() == before


def test_a_refit_that_diverged_is_no_model():
    data, network = ToyData("binary"), resolve("mlp")

    def diverge(config, seeds, epochs):
        states = random_weights(network, data.layout, 2)(config, seeds, epochs)
        states[1]["head.weight"][0, 0] = math.nan
        return states

    with pytest.raises(SearchError, match="diverged") as refused:
        refit(data, network, CONFIG, epochs=1, members=2, seed=0, train_full=diverge)
    assert refused.value.where.startswith("member 1") and refused.value.given == "head.weight is not finite"
    with pytest.raises(ValueError, match="0 states for 2 members"):
        refit(data, network, CONFIG, epochs=1, members=2, seed=0, train_full=lambda *_: [])


@pytest.mark.parametrize("task", TASKS)
def test_predictions_equal_the_slow_twin(task, monkeypatch):
    monkeypatch.setattr("lanewise.fitted.BATCH_ROWS", 7)
    fitted = fitted_model(task)
    frame, _ = rows(40, seed=3)
    frame.index = [f"row {i}" for i in range(40)]
    frame.loc["row 2", "colour"] = "never seen"
    expected = slow_prediction(fitted, frame)
    np.testing.assert_allclose(fitted.predict_array(frame), expected, rtol=1e-5)
    found = fitted.predict(frame)
    assert found.index.equals(frame.index)
    if task == "regression":
        assert list(found) == ["prediction"] and found["prediction"].std() > 1  # the target's unit, not 1
    else:
        assert list(found) == ["prediction", *(f"probability_{c}" for c in fitted.classes)]
        assert found["prediction"].tolist() == [fitted.classes[i] for i in expected.argmax(1)]
        np.testing.assert_allclose(found.iloc[:, 1:].sum(1), 1)


def test_calibrated_members_are_averaged_first_and_a_threshold_decides_the_label():
    plain = fitted_model("binary")
    warm = replace(plain, calibration=Calibration(2.5, 0.3, 80, {"f1": 0.5}, {"f1": None}))
    frame, _ = rows(40, seed=3)
    mean = slow_prediction(plain, frame)
    expected = torch.softmax(torch.from_numpy(mean).log() / 2.5, 1).numpy()
    np.testing.assert_allclose(warm.predict_array(frame), expected, rtol=1e-5)
    found = warm.predict(frame)["prediction"].tolist()
    assert found == [warm.classes[int(p >= 0.3)] for p in expected[:, 1]]
    assert found != plain.predict(frame)["prediction"].tolist()
    spec, tensors = warm.to_parts()
    again = FittedModel.from_parts(json.loads(json.dumps(spec, allow_nan=False)), tensors)
    assert again.calibration == warm.calibration
    assert warm.frozen() != plain.frozen()  # the seal is opened with the calibration as it is


def test_sealed_scores_are_those_of_calibrated_probabilities_and_of_the_threshold():
    plain = fitted_model("binary")
    warm = replace(plain, calibration=Calibration(2.5, 0.3, 80))
    frame, signal = rows(60, seed=5)
    target = codes_of("binary", signal)

    class Rows:
        def open(self, frozen):
            return frame, target

        def openings(self):
            return [{"configuration": "one"}]

    found = open_and_score(Rows(), warm, plain, metric="f1", confidence=0.9, bootstrap=100, seed=0)
    p = warm.predict_array(frame)
    labels = (p[:, 1] >= 0.3).astype(int)
    for name in metrics_for("binary"):
        given = labels if METRICS[name].needs == "label" else p
        other = plain.predict_array(frame)
        assert found.scores[name].estimate == pytest.approx(METRICS[name].full(target, given))
        assert found.default_scores[name].estimate == pytest.approx(METRICS[name].full(target, other))
    assert sum(found.confusion[1]) == target.sum() and found.confusion[1][1] == (labels[target == 1] == 1).sum()
    difference = found.scores["f1"].estimate - found.default_scores["f1"].estimate
    assert found.difference.estimate == pytest.approx(difference)
    assert warm.scored(METRICS["f1"], p).tolist() == labels.tolist() and warm.scored(METRICS["brier"], p) is p


@pytest.mark.parametrize("task", TASKS)
def test_no_rows_give_no_predictions(task):
    found = fitted_model(task).predict(rows(5)[0].iloc[:0])
    assert len(found) == 0 and next(iter(found)) == "prediction"


def test_prediction_needs_no_engine(monkeypatch):
    for name in ("lanewise.engine", "lanewise.search", "optuna", "mlflow", "prefect"):
        monkeypatch.setitem(sys.modules, name, None)
    spec, tensors = fitted_model().to_parts()
    assert len(FittedModel.from_parts(spec, tensors).predict(rows(5)[0])) == 5


@pytest.mark.parametrize("task", TASKS)
def test_the_parts_are_data_and_give_the_model_back(task, tmp_path):
    fitted = fitted_model(task)
    spec, tensors = fitted.to_parts()
    assert {name.split(".")[1] for name in tensors} == {"0", "1"} and "member.0.head.weight" in tensors
    safetensors.torch.save_file(tensors, tmp_path / "weights.safetensors")
    text = json.dumps(spec, allow_nan=False)
    again = FittedModel.from_parts(
        json.loads(text), safetensors.torch.load_file(tmp_path / "weights.safetensors")
    )
    frame, _ = rows(30, seed=4)
    assert np.array_equal(again.predict_array(frame), fitted.predict_array(frame))
    assert again.frozen() == fitted.frozen()


def test_the_hash_knows_every_weight_and_every_setting():
    fitted = fitted_model()
    state = {name: tensor.clone() for name, tensor in fitted.states[1].items()}
    state["head.bias"][0] += 1e-6
    others = [
        replace(fitted, states=(fitted.states[0], state)),
        replace(fitted, states=fitted.states[::-1]),
        replace(fitted, config={**CONFIG, "lr": 0.02}),
        replace(fitted, epochs=13),
        replace(fitted, classes=("yes", "no")),
    ]
    assert len({fitted.frozen(), *(other.frozen() for other in others)}) == 6


def test_a_network_of_the_user_s_own_takes_one_tensor(tmp_path):
    (tmp_path / "my_flat_net.py").write_text(FLAT)
    data, network = ToyData("multiclass"), resolve("my_flat_net:Flat", search_path=[tmp_path])

    def train_full(config, seeds, epochs):
        return [network.build(data.layout, 3, config, seed).state_dict() for seed in seeds]

    fitted = refit(data, network, {"width": 5, "lr": 0.1}, epochs=1, members=1, seed=0, train_full=train_full)
    frame, _ = rows(20, seed=5)
    module = network.build(data.layout, 3, {"width": 5}, seed=0)
    module.load_state_dict(fitted.states[0])
    (flat,) = network_inputs(fitted.layout, "flat", *fitted.preprocessor.transform(frame))
    expected = module(torch.from_numpy(flat)).double().softmax(1).detach().numpy()
    again = FittedModel.from_parts(*fitted.to_parts(), search_path=[tmp_path])
    np.testing.assert_allclose(again.predict_array(frame), expected, rtol=1e-5)


def test_parts_that_do_not_fit_are_refused():
    spec, tensors = fitted_model().to_parts()
    frame, _ = rows(5)
    with pytest.raises(ModelError, match="another format"):
        FittedModel.from_parts({**spec, "format": 99}, tensors)
    with pytest.raises(ModelError, match="belongs to no member"):
        FittedModel.from_parts(spec, {**tensors, "member.7.head.bias": torch.zeros(2)})
    with pytest.raises(ModelError, match="belongs to no member"):
        FittedModel.from_parts(spec, {**tensors, "stray": torch.zeros(2)})
    lacking = {name: tensor for name, tensor in tensors.items() if name != "member.1.head.bias"}
    with pytest.raises(ModelError, match="do not fit the network") as refused:
        FittedModel.from_parts(spec, lacking).predict(frame)
    assert refused.value.where == "member 1 of mlp" and "head.bias" in str(refused.value.given)


def test_an_output_that_is_not_finite_is_refused():
    fitted = fitted_model()
    fitted.states[0]["head.bias"][0] = math.inf
    with pytest.raises(ModelError, match="no finite output for 6 of 6 rows"):
        fitted.predict(rows(6)[0])


@pytest.mark.parametrize("task", TASKS)
def test_evaluation_and_refit_of_a_real_dataset(task):
    """Outputs that are the target itself, in the engine's unit, score perfectly on every fold."""
    frame, signal = rows(120)
    dataset = Dataset.from_frame(frame, codes_of(task, signal), task=task, seed=4)

    def perfect(jobs):
        found = []
        for _, _, split in jobs:
            y = dataset.arrays(split).y_valid
            one_hot = 20 * np.eye(dataset.n_outputs, dtype=np.float32)
            found.append((y[:, None] if task == "regression" else one_hot[y], 5))
        return found

    contenders = [Contender("default", CONFIG, 0.5)]
    settings = {"folds": 3, "baselines": True, "confidence": 0.9, "seed": 4}
    found = evaluate(dataset, contenders, dataset.folds(3, 2, 4), perfect, **settings)
    assert found.winner == "default" and found.repeats == 2 and len(found.candidates) == 4
    best = {"binary": "accuracy", "multiclass": "accuracy", "regression": "r2"}[task]
    assert found.candidate("default").scores[best] == pytest.approx([1.0] * 6)
    means = {c.name: np.mean(c.scores[best]) for c in found.candidates}
    assert min(means["linear"], means["gradient_boosting"]) > means["dummy"] + 0.1
    network = resolve("mlp")
    train_full = random_weights(network, dataset.layout, dataset.n_outputs)
    fitted = refit(dataset, network, CONFIG, epochs=5, members=1, seed=4, train_full=train_full)
    assert fitted.classes == dataset.classes and fitted.layout == dataset.layout
    arrays = dataset.arrays(full_split(dataset))
    assert (fitted.target_mean, fitted.target_std) == (arrays.target_mean, arrays.target_std)
    np.testing.assert_array_equal(fitted.preprocessor.transform(frame)[0], arrays.x_num_train)
    assert fitted.predict(frame).shape == (120, 1 + len(dataset.classes))


class CountingSeal:
    def __init__(self, task, n=90, before=()):
        self.frame, signal = rows(n, seed=8)
        self.target, self.records = codes_of(task, signal), [{"configuration": c} for c in before]

    def open(self, frozen_configuration):
        self.records.append({"configuration": frozen_configuration})
        return self.frame, self.target

    def openings(self):
        return self.records


def score(seal, fitted, default, metric, **more):
    settings = {"confidence": 0.9, "bootstrap": 300, "seed": 2, **more}
    return open_and_score(seal, fitted, default, metric=metric, **settings)


@pytest.mark.parametrize(
    ("task", "metric"), [("binary", "roc_auc"), ("multiclass", "log_loss"), ("regression", "rmse")]
)
def test_the_seal_is_opened_once_and_scores_are_those_of_the_predictions(task, metric):
    seal, fitted, default = CountingSeal(task), fitted_model(task), fitted_model(task, members=1, seed=7)
    found = score(seal, fitted, default, metric)
    assert [record["configuration"] for record in seal.records] == [found.frozen] and found.openings == 1
    ours, theirs = slow_prediction(fitted, seal.frame), slow_prediction(default, seal.frame)
    assert list(found.scores) == list(found.default_scores) == list(metrics_for(task))
    for name in metrics_for(task):
        for scores, prediction in ((found.scores, ours), (found.default_scores, theirs)):
            value = scores[name]
            assert value.estimate == pytest.approx(METRICS[name].full(seal.target, prediction), abs=1e-5), (
                name
            )
            if len(set(prediction.argmax(-1).ravel())) > 1 or name in ("log_loss", "brier", "ece"):
                assert value.low <= value.estimate <= value.high, name
                assert value.method == "bootstrap BCa" and value.confidence == 0.9
    apart = found.scores[metric].estimate - found.default_scores[metric].estimate
    assert (
        found.difference.estimate == pytest.approx(apart)
        and found.difference.low < apart < found.difference.high
    )
    assert found.difference.method == "paired bootstrap BCa"
    assert found.n == 90 and found.metric == metric
    assert score(CountingSeal(task), fitted, default, metric).scores == found.scores
    assert TestResult.from_dict(json.loads(json.dumps(asdict(found), allow_nan=False))) == found


def test_classes_get_a_confusion_matrix_and_values_get_residuals():
    fitted, seal = fitted_model("multiclass"), CountingSeal("multiclass")
    found = score(seal, fitted, fitted, "accuracy")
    expected = np.zeros((3, 3), dtype=int)
    for actual, predicted in zip(seal.target, slow_prediction(fitted, seal.frame).argmax(1), strict=True):
        expected[actual, predicted] += 1
    assert found.confusion == expected.tolist() and found.residuals is None
    fitted, seal = fitted_model("regression"), CountingSeal("regression", n=700)
    found = score(seal, fitted, fitted, "rmse")
    assert found.confusion is None and len(found.residuals) == 500
    actual, predicted = np.array(found.residuals).T
    assert np.isin(actual, seal.target).all() and found.scores["rmse"].low > 0
    assert len(np.unique(actual)) == 500 and np.sqrt(np.mean((actual - predicted) ** 2)) == pytest.approx(
        found.scores["rmse"].estimate, rel=0.2
    )


def test_a_default_that_won_differs_from_itself_by_nothing():
    fitted = fitted_model()
    found = score(CountingSeal("binary"), fitted, fitted_model(), "accuracy")
    difference = found.difference
    assert (difference.estimate, difference.low, difference.high) == (0, 0, 0)
    assert difference.method == "the winner is the default" and found.scores == found.default_scores


def test_without_a_default_there_is_nothing_to_compare_with():
    found = score(CountingSeal("binary"), fitted_model(), None, "accuracy")
    assert found.default_scores == {} and found.scores["accuracy"].low is not None
    assert (found.difference.estimate, found.difference.low) == (None, None)
    assert found.difference.method == "the default could not be trained"


def test_test_rows_of_one_class_leave_metrics_undefined_with_the_reason():
    seal = CountingSeal("binary")
    seal.target = np.ones_like(seal.target)
    found = score(seal, fitted_model(), fitted_model(seed=7), "roc_auc")
    for value in (found.scores["roc_auc"], found.difference):
        assert (value.estimate, value.low, value.high) == (None, None, None)
        assert value.method == "one class only in these rows"
    assert found.scores["accuracy"].low is not None


def test_a_seal_on_disk_counts_other_configurations(tmp_path):
    frame, signal = rows(60, seed=8)
    seal = write_seal(tmp_path, "test.parquet", frame, codes_of("binary", signal))
    fitted, default = fitted_model(), fitted_model(seed=7)
    first = score(seal, fitted, default, "accuracy")
    assert first.openings == 1 and score(seal, fitted, default, "accuracy").openings == 1
    other = score(seal, fitted_model(seed=3), default, "accuracy")
    assert other.openings == 2 and other.frozen != first.frozen
    memory = CountingSeal("binary", n=60)
    assert score(memory, fitted, default, "accuracy").scores == first.scores
