"""Cross-validation's two rounds: every fold is scored after the one epoch the refit will train to."""

from __future__ import annotations

import numpy as np
import pytest
from test_search_bits import prepared

from lanewise.errors import SearchError
from lanewise.model import resolve
from lanewise.trainer import Trainer, fold_trainer, shared_epoch


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


def test_the_shared_epoch_is_the_upper_median_without_failed_folds() -> None:
    assert shared_epoch([4, 23, 7, 0]) == 7
    assert shared_epoch([4, 7]) == 6
    with pytest.raises(SearchError, match="no best epoch"):
        shared_epoch([0, 0])
