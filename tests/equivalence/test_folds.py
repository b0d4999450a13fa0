"""Cross-validation's two rounds: every fold is scored after the one epoch the refit will train to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from test_search_bits import prepared

from lanewise import folds
from lanewise.data import prepare
from lanewise.errors import SearchError, StudyError
from lanewise.folds import _member_seed, fold_trainer, shared_epoch
from lanewise.model import resolve
from lanewise.space import build_space
from lanewise.study import load_study
from lanewise.trainer import Trainer


def test_folds_are_scored_after_their_shared_epoch(tmp_path) -> None:
    study, dataset, space = prepared(tmp_path)
    network = resolve("mlp")
    splits = dataset.folds(3, 1, 0)
    configs = [space.default(), {**space.default(), "lr": 0.05}]
    jobs = [(config, 7 + j, split) for config in configs for j, split in enumerate(splits)]
    found = fold_trainer(study, network, dataset)(jobs)
    for c, config in enumerate(configs):
        epoch = shared_epoch([best for _, best in found[3 * c : 3 * c + 3]])
        for j, split in enumerate(splits):
            alone = Trainer(study, network, dataset, [split], lanes=1)
            lane = alone.lane("x", config, 7 + j, stop=epoch, patience=0, keep_best=False)
            (expected,) = alone.train_all([lane])
            assert expected is not None and expected.epochs == epoch
            assert np.array_equal(found[3 * c + j][0], expected.outputs.numpy())


@pytest.mark.parametrize("source", ["sklearn:iris", "sklearn:diabetes"])
def test_where_an_average_is_registered_an_average_is_scored(tmp_path, source: str) -> None:
    """The slow twin: every member alone, epoch for epoch, averaged by hand."""
    path = tmp_path / "study.yaml"
    path.write_text(
        f"data: {{source: '{source}'}}\ntrain: {{epochs: 6, patience: 2}}\nregister: {{members: 3}}\n"
    )
    study = load_study(path, {})
    dataset, network = prepare(study).dataset, resolve("mlp")
    config = build_space(study, network.space, network.defaults).default() | {"lr": 0.01}
    splits = dataset.folds(2, 1, 0)
    found = fold_trainer(study, network, dataset)([(config, 7 + j, split) for j, split in enumerate(splits)])
    classes = dataset.task != "regression"
    best, by_epoch = [], []
    for j, split in enumerate(splits):
        arrays, target = dataset.arrays(split), dataset.target[split.valid]
        curve = []
        for epoch in range(1, 7):
            outputs = []
            for m in range(3):
                alone = Trainer(study, network, dataset, [split], lanes=1)
                lane = alone.lane(
                    "x", config, _member_seed(7 + j, m), stop=epoch, patience=0, keep_best=False
                )
                (result,) = alone.train_all([lane])
                assert result is not None
                outputs.append(result.outputs.double())
            mean = torch.stack([o.softmax(1) if classes else o for o in outputs]).mean(0).numpy()
            curve.append(mean)
        by_epoch.append(curve)
        if classes:
            ranks = [(np.mean(c.argmax(1) == target), -log_loss(target, c)) for c in curve]
        else:
            ranks = [
                (-np.mean((c[:, 0] * arrays.target_std + arrays.target_mean - target) ** 2),) for c in curve
            ]
        best.append(1 + ranks.index(max(ranks)))
    assert [epoch for _, epoch in found] == best
    at = shared_epoch(best) - 1
    for (outputs, _), curve in zip(found, by_epoch, strict=True):
        assert outputs is not None
        got = torch.from_numpy(outputs).softmax(1).numpy() if classes else outputs
        np.testing.assert_allclose(got, curve[at], rtol=2e-5, atol=1e-6)


def test_averages_that_do_not_fit_into_memory_are_refused(tmp_path, monkeypatch) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("data: {source: 'sklearn:iris'}\nregister: {members: 3}\n")
    study = load_study(path, {})
    dataset, network = prepare(study).dataset, resolve("mlp")
    config = build_space(study, network.space, network.defaults).default()
    monkeypatch.setattr(folds, "MOST_BYTES", 1 << 10)
    with pytest.raises(StudyError, match="averages of networks need too much memory") as caught:
        fold_trainer(study, network, dataset)([(config, 7, s) for s in dataset.folds(2, 1, 0)])
    assert "GiB for 2 folds of 50 epochs" in str(caught.value)


def test_the_shared_epoch_is_the_upper_median_without_failed_folds() -> None:
    assert shared_epoch([4, 23, 7, 0]) == 7
    assert shared_epoch([4, 7]) == 6
    with pytest.raises(SearchError, match="no best epoch"):
        shared_epoch([0, 0])
