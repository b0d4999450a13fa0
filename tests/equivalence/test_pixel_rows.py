"""Images that stay 8-bit pixels on the disk train to the same bits as float32 tensors in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from lanewise.baselines import baseline_prediction
from lanewise.data import Dataset, prepare, stored_rows
from lanewise.engine import PixelRows
from lanewise.engine.pixels import join
from lanewise.fitted import FittedModel
from lanewise.model import resolve
from lanewise.study import Study
from lanewise.trainer import Trainer, image_rows, split_tensors


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Two classes of 40 RGB images of 6 x 5 pixels."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for number in range(80):
        folder = Path("photos", "ab"[number % 2])
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 120, (6, 5, 3)) + 90 * (number % 2) * (rng.random((6, 5, 3)) < 0.3)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:02}.png")
    return Study.model_validate(
        {
            "name": "t", "data": {"source": "photos", "target": "class"}, "evaluate": {"folds": 3},
            "model": {"name": "cnn"}, "train": {"epochs": 3}, "search": {"lanes": 4},
        }
    )  # fmt: skip


def both(dataset: Dataset, fold: int) -> tuple[PixelRows, torch.Tensor, PixelRows, torch.Tensor]:
    """Training and validation rows of a fold in both forms."""
    split = dataset.folds(3, 1, 0)[fold]
    stored = stored_rows(dataset.frame, dataset.columns)
    assert stored is not None
    lazy = image_rows(dataset, split, *stored)
    full = split_tensors(dataset.arrays(split), dataset.layout, "flat")
    assert torch.equal(lazy.train_target, full.train_target) and torch.equal(lazy.valid_target, full.valid_target)
    (train,), (valid,), (x_train,), (x_valid,) = lazy.train, lazy.valid, full.train, full.valid
    assert isinstance(train, PixelRows) and isinstance(valid, PixelRows)
    assert isinstance(x_train, torch.Tensor) and isinstance(x_valid, torch.Tensor)
    return train, x_train, valid, x_valid


def test_every_way_to_take_rows_gives_the_tensors_bits(study: Study) -> None:
    dataset = prepare(study).dataset
    train, x_train, valid, x_valid = both(dataset, 0)
    assert train.shape == x_train.shape and len(train) == len(x_train) and train.dim() == x_train.dim()
    assert train.is_floating_point() and train[:].dtype == torch.float32
    for lazy, full in ((train, x_train), (valid, x_valid)):
        assert torch.equal(lazy[:], full) and torch.equal(lazy[3:9], full[3:9]) and torch.equal(lazy[:1], full[:1])
        index = torch.tensor([5, 0, 5, 2])
        assert torch.equal(lazy.index_select(0, index), full.index_select(0, index))
        assert torch.equal(lazy[index], full[index])
    other, x_other, _, _ = both(dataset, 1)
    assert not torch.equal(other.levels, train.levels)  # each fold by its own training rows
    assert torch.equal(join([train, other])[:], torch.cat([x_train, x_other]))
    assert torch.equal(join([join([train, other]), valid])[:], torch.cat([x_train, x_other, x_valid]))


def test_a_guess_needs_no_pixels(study: Study) -> None:
    dataset = prepare(study).dataset
    split = dataset.holdout
    guesses = [
        baseline_prediction("dummy", arrays, dataset.layout, 2, seed=0)
        for arrays in (dataset.targets(split), dataset.arrays(split))
    ]
    assert np.array_equal(*guesses)


def test_predictions_in_batches_are_those_of_all_rows_at_once(study: Study) -> None:
    dataset, network = prepare(study).dataset, resolve("cnn", {})
    config = network.own({})
    module = network.build(dataset.layout, 2, config, seed=1)
    fitted = FittedModel(
        network, config, dataset.preprocess(dataset.holdout.train), "binary", dataset.classes, 0.0, 1.0,
        ({name: tensor.clone() for name, tensor in module.state_dict().items()},), (1,), 1,
    )  # fmt: skip
    many = pd.concat([dataset.frame] * 80, ignore_index=True)
    in_batches = fitted.predict_array(many)
    assert len(many) > fitted._batch and np.array_equal(in_batches, fitted._predicted(many))
    assert len(fitted.predict_array(many.head(0))) == 0


def test_the_pixels_are_one_array_on_the_disk(study: Study) -> None:
    dataset = prepare(study).dataset
    train, _, valid, _ = both(dataset, 0)
    other, _, _, _ = both(dataset, 1)
    assert train.pixels.data_ptr() == valid.pixels.data_ptr() == other.pixels.data_ptr()
    stored = stored_rows(dataset.frame, dataset.columns)
    assert stored is not None and isinstance(stored[0], np.memmap) and stored[0].filename is not None


def test_lanes_of_three_folds_train_to_the_same_bits(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole trainings, folds side by side: losses, scores and weights."""
    dataset, network = prepare(study).dataset, resolve("cnn", {})

    def trained() -> list[tuple[dict[str, torch.Tensor], list[float]]]:
        trainer = Trainer(study, network, dataset, dataset.folds(3, 1, 0))
        config = network.own({}) | {"batch_size": 16, "lr": 0.01, "dropout": 0.2}
        for fold in range(3):
            trainer.add(trainer.lane(fold, config, seed=fold, split=fold))
        curves: dict[object, list[float]] = {0: [], 1: [], 2: []}
        weights = {}
        while trainer.active:
            for report in trainer.tick():
                curves[report.key] += [report.train_loss, *report.scores.values()]
                if report.finished:
                    weights[report.key] = trainer.take(report.key).weights
        return [(weights[fold], curves[fold]) for fold in range(3)]

    lazy = trained()
    monkeypatch.setattr("lanewise.trainer.stored_rows", lambda frame, columns: None)
    full = trained()
    for (own, curve), (twin, twin_curve) in zip(lazy, full, strict=True):
        assert curve == twin_curve and len(curve) > 6
        assert all(torch.equal(own[name], twin[name]) for name in own)
