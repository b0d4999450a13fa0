"""A metric named by its import path: what is none is refused before anything trains; one that is one decides."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_training_checks import studied

from lanewise.data import Dataset
from lanewise.errors import LanewiseError, ModelError, StudyError
from lanewise.evaluate import fold_scores, network_prediction
from lanewise.metrics import METRICS, OWN, find_metric, metrics_for, probabilities, resampled_scores
from lanewise.model import resolve
from lanewise.own_metric import use_own_metric
from lanewise.search.lanes import SearchLanes
from lanewise.study import Study
from lanewise.trainer import Trainer

METRICS_FILE = '''
import numpy as np
import torch

number = 3


class Metric:
    pass


def hits(target, probability):
    """Accuracy, written anew."""
    return (probability.argmax(1) == target).mean()


hits.direction = "maximize"


def tensor(target, probability):
    return torch.tensor(hits(target, probability))


def miss(target, value):
    """Root mean square, in the target's unit."""
    return float(np.sqrt(np.mean((value - target) ** 2)))


miss.direction = "minimize"


def relative(target, value):
    """Mean absolute percentage error: it needs the target's own unit and zero."""
    return np.mean(np.abs(value - target) / np.abs(target))


def noisy(target, probability):
    return hits(target, probability) + np.random.rand()


def writes(target, probability):
    target[:], probability[:] = 0, 0.5
    return 1.0


def two_classes(target, probability):
    if len(np.unique(target)) < 2:
        raise ValueError("one class")
    return hits(target, probability)


def raises(target, probability):
    return probability[:, 99].mean()


def rows(target, probability):
    return probability.argmax(1) == target


def text(target, probability):
    return "0.5"


def nothing(target, probability):
    pass


def undefined(target, probability):
    return float("nan")


def wrong_way(target, probability):
    return 0.5


wrong_way.direction = "up"
'''


def made(
    tmp_path: Path, name: str, source: str = "sklearn:wine", direction: str | None = "maximize"
) -> tuple[Study, Dataset]:
    """A study that tunes one of the metrics above, and its rows."""
    (tmp_path / "my_metrics.py").write_text(METRICS_FILE)
    study, dataset = studied(tmp_path, source, "mlp")
    search = study.search.model_copy(update={"metric": name, "metric_direction": direction})
    changed = study.model_copy(update={"search": search})
    changed._path = study._path
    return changed, replace(dataset, metric=name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("number", "this is not a metric"),
        ("Metric", "this is not a metric"),
        ("raises", "the metric raised IndexError"),
        ("rows", r"the metric returned a ndarray of shape \(64,\), expected a number"),
        ("text", "the metric returned a str, expected a number"),
        ("nothing", "the metric returned a NoneType, expected a number"),
        ("undefined", "the metric is nan on random rows"),
        ("hist", "did you mean `hits`"),
    ],
)
def test_what_is_no_metric_is_refused_with_its_name(name: str, said: str, tmp_path: Path) -> None:
    study, dataset = made(tmp_path, f"my_metrics:{name}")
    with pytest.raises(ModelError, match=said) as raised:
        use_own_metric(study, dataset)
    assert "my_metrics" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "direction", "expected"),
    [
        ("hits", None, "maximize"), ("hits", "maximize", "maximize"), ("relative", "minimize", "minimize"),
        ("hits", "minimize", "study and metric differ in what is better"),
        ("noisy", None, "nothing says whether more or less of the metric is better"),
        ("wrong_way", None, "the metric's attribute `direction` says no direction"),
    ],
)  # fmt: skip
def test_the_direction_is_the_studys_or_the_functions(
    name: str, direction: str | None, expected: str, tmp_path: Path
) -> None:
    source = "sklearn:diabetes" if name == "relative" else "sklearn:wine"
    study, dataset = made(tmp_path, f"my_metrics:{name}", source, direction)
    if expected in ("maximize", "minimize"):
        use_own_metric(study, dataset)
        assert find_metric(dataset.metric, dataset.task).direction == expected
    else:
        with pytest.raises(StudyError, match=expected):
            use_own_metric(study, dataset)


def test_a_direction_of_a_known_metric_is_refused() -> None:
    search = {"metric": "accuracy", "metric_direction": "minimize"}
    with pytest.raises(ValueError, match="the direction of accuracy is known"):
        Study.model_validate({"name": "s", "data": {"source": "sklearn:wine"}, "search": search})


@pytest.mark.parametrize(
    ("name", "source", "twin"),
    [("hits", "sklearn:wine", "accuracy"), ("tensor", "sklearn:wine", "accuracy"),
     ("miss", "sklearn:diabetes", "rmse"), ("relative", "sklearn:diabetes", None)],
)  # fmt: skip
def test_lanes_are_scored_as_by_the_metric_it_is_in_the_targets_unit(
    name: str, source: str, twin: str | None, tmp_path: Path
) -> None:
    study, dataset = made(tmp_path, f"my_metrics:{name}", source, None if name in ("hits", "miss") else "maximize")
    trainer = Trainer(study, resolve("mlp"), dataset)
    for k in range(3):
        trainer.add(trainer.lane(k, {"lr": 0.003 * (k + 1)}, 7 + k, watched=True))
    for report in trainer.tick():
        value = report.scores[f"valid/{dataset.metric}"]
        if twin:
            assert value == pytest.approx(report.scores[f"valid/{twin}"], rel=1e-6)
        outputs, valid = report.outputs.numpy(), trainer.splits[0].valid
        scale = dataset.target_scale(trainer.splits[0].train)
        prediction = network_prediction(dataset.task, outputs, *scale)
        assert value == OWN[dataset.metric].full(dataset.target[valid], prediction)
    best = trainer.lane("alone", {"lr": 0.003}, 7)
    alone = Trainer(study, resolve("mlp"), dataset, lanes=1)
    alone.add(best)
    trainer.restart()
    for k in range(5):
        trainer.add(trainer.lane(k, {"lr": 0.003 * (k + 1)}, 7 + k))
    assert alone.tick()[0].scores == trainer.tick()[0].scores


def test_it_chooses_the_best_epoch(tmp_path: Path) -> None:
    (tmp_path / "counting.py").write_text(
        "calls = []\ndef falls(target, probability):\n    calls.append(1)\n    return -len(calls)\n"
    )
    study, dataset = made(tmp_path, "counting:falls", direction="maximize")
    trainer = Trainer(study.model_copy(update={"train": study.train.model_copy(update={"epochs": 3})}),
                      resolve("mlp"), dataset)  # fmt: skip
    trainer.add(trainer.lane(0, {}, 1))
    reports = [trainer.tick()[0] for _ in range(3)]
    assert [r.best_epoch for r in reports] == [1, 1, 1]


def test_what_it_draws_and_writes_is_its_own_affair(tmp_path: Path) -> None:
    study, dataset = made(tmp_path, "my_metrics:noisy")
    use_own_metric(study, dataset)
    target, prediction = np.arange(6) % 3, np.full((6, 3), 1 / 3)
    np.random.seed(3)
    state = np.random.get_state()[1].tolist()
    full = OWN["my_metrics:noisy"].full
    assert full(target, prediction) == full(target, prediction)
    assert np.random.get_state()[1].tolist() == state
    use_own_metric(*made(tmp_path, "my_metrics:writes"))
    assert OWN["my_metrics:writes"].full(target, prediction) == 1.0
    assert target.tolist() == [0, 1, 2, 0, 1, 2] and (prediction == 1 / 3).all()


def test_folds_and_resamples_have_it_beside_the_others(tmp_path: Path) -> None:
    study, dataset = made(tmp_path, "my_metrics:two_classes")
    use_own_metric(study, dataset)
    name, rng = dataset.metric, np.random.default_rng(0)
    target, prediction = rng.integers(0, 3, 40), probabilities(rng.normal(size=(40, 3)))
    scores = fold_scores("multiclass", target, prediction, name)
    assert list(scores) == [*metrics_for("multiclass"), name] and scores[name] == scores["accuracy"]
    assert name not in metrics_for("multiclass") and name not in METRICS
    draws = np.vstack([rng.integers(0, 40, (20, 40)), np.full((1, 40), np.flatnonzero(target == 1)[0])])
    found = resampled_scores([name, "accuracy"], target, prediction, draws)
    assert list(found) == [name, "accuracy"]
    assert np.array_equal(found[name][:-1], found["accuracy"][:-1]) and math.isnan(found[name][-1])


def test_a_trial_whose_metric_raises_ends_with_the_reason(tmp_path: Path) -> None:
    """Two classes are there when it is tried; the rows it is used on are of one."""
    from lanewise.ledger import Report
    from lanewise.search.guarded import GuardedLanes
    from lanewise.search.records import LaneRequest

    study, dataset = made(tmp_path, "my_metrics:two_classes")
    one = np.flatnonzero(dataset.target == dataset.target[0])
    split = replace(dataset.holdout, valid=one[:5])
    lanes = GuardedLanes(SearchLanes(Trainer(study, resolve("mlp"), dataset, [split]), remember=True), 2)
    for number in (0, 1):
        lanes.add(LaneRequest(number, {}, number, 2, 0))
    reports: list[Report] = list(lanes.tick())
    assert [r.number for r in reports] == [0, 1]
    assert all("the metric raised ValueError" in (r.failed or "") for r in reports), reports


def test_an_unknown_name_is_told_of_the_form(tmp_path: Path) -> None:
    with pytest.raises(StudyError):
        find_metric("my_metrics:absent", "multiclass")
    with pytest.raises(LanewiseError, match="name the module, not the file: my_metrics:hits"):
        study, dataset = made(tmp_path, "my_metrics.py:hits")
        use_own_metric(study, dataset)


def test_report_of_what_the_study_says(tmp_path: Path) -> None:
    schema: Any = Study.model_json_schema(by_alias=True)["$defs"]["Search"]["properties"]["metric"]
    assert {"pattern": ":"} in schema["anyOf"]
