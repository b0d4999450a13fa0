"""Loss, augmentation and mixing that the data do not suit are refused with what would; what suits them trains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lanewise.data import Dataset, prepare
from lanewise.engine import Goal, reference
from lanewise.errors import StudyError
from lanewise.lane_metrics import lane_scores
from lanewise.model import resolve
from lanewise.study import Study
from lanewise.trainer import Trainer, split_tensors


def studied(tmp_path: Path, source: str, network: str, **space: Any) -> tuple[Study, Dataset]:
    """A study and its rows; `series` and `text` are files made here."""
    data: dict[str, Any] = {"source": source}
    rng = np.random.default_rng(0)
    if source == "table.csv":
        rows = [f"{rng.normal():.3f},{'ab'[i % 2]},{'xy'[i % 2]}" for i in range(60)]
        (tmp_path / source).write_text("size,colour,y\n" + "\n".join(rows))
        data["target"] = "y"
    if source == "series.npz":
        x = rng.normal(size=(60, 2, 12))
        x[::3, :, 9:] = np.nan
        np.savez(tmp_path / source, X=x, y=np.arange(60) % 2)
        data["target"] = "class"
    study = Study.model_validate(
        {"name": "s", "data": data, "model": {"name": network}, "space": space, "train": {"epochs": 2},
         "tracking": {"home": str(tmp_path / "home")}}
    )  # fmt: skip
    study._path = tmp_path / "study.yaml"
    return study, prepare(study).dataset


@pytest.mark.parametrize(
    ("source", "network", "space", "said", "do"),
    [
        ("sklearn:wine", "mlp", {"loss": "quantile"}, "the target is classes", "auto, cross_entropy, focal"),
        ("sklearn:diabetes", "mlp", {"loss": ["mse", "focal"]}, "the target is a number", "auto, mse, huber"),
        ("sklearn:wine", "mlp", {"augmentation": "image"}, "the data are of kind table", "none"),
        ("sklearn:wine", "mlp", {"mixing": "cutmix"}, "the data are of kind table", "none, mixup"),
        ("table.csv", "mlp", {"mixing": ["none", "mixup"]}, "the network takes codes", "none"),
        ("series.npz", "fcn", {"augmentation": ["none", "image"]}, "the data are of kind series", "none, series"),
    ],
)  # fmt: skip
def test_what_the_data_do_not_suit_is_refused(
    source: str, network: str, space: dict[str, Any], said: str, do: str, tmp_path: Path
) -> None:
    study, dataset = studied(tmp_path, source, network, **space)
    with pytest.raises(StudyError) as raised:
        Trainer(study, resolve(network), dataset)
    text = str(raised.value)
    assert f"given: {said}" in text and f"choose one of: {do}" in text, text


def test_series_with_gaps_are_augmented_where_they_have_values(tmp_path: Path) -> None:
    """The trainer tells the engine of the channel that says where; the slow twin trains the same."""
    space = {"augmentation": "series", "augment_noise": 0.5, "augment_shift": 0.2, "mixing": "mixup"}
    study, dataset = studied(tmp_path, "series.npz", "fcn", **space)
    network = resolve("fcn")
    trainer = Trainer(study, network, dataset)
    lanes = [trainer.lane(k, {**space, "optimizer": "sgd", "lr": 0.01, "batch_size": 16}, k) for k in range(2)]
    for one in lanes:
        trainer.add(one)
    losses: dict[Any, list[float]] = {0: [], 1: []}
    while trainer.active:
        for report in trainer.tick():
            losses[report.key].append(report.train_loss)

    def score(*given: Any) -> Any:
        return lane_scores(("accuracy",), *given)

    goal = Goal("cross_entropy", score, "accuracy", True, 2)
    data = split_tensors(dataset.arrays(dataset.holdout), dataset.layout, network.inputs)
    for one in lanes:
        for present in (True, False):
            curve, _ = reference.train(one, replace(data, present=present), goal)
            same = losses[one.key] == pytest.approx([e["train/loss"] for e in curve], rel=1e-4)
            assert same == present
