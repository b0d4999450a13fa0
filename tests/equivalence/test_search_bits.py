"""Whole searches on real digits: one trial table whatever the lanes and threads, and the same after a stop."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from lanewise.checkpoints import Checkpoints
from lanewise.data import Dataset, prepare
from lanewise.ledger import Ledger, definition
from lanewise.metrics import find_metric
from lanewise.model import resolve
from lanewise.search import SearchResult, recorded_search, search
from lanewise.search.lanes import SearchLanes
from lanewise.space import Space, build_space
from lanewise.study import Study, load_study
from lanewise.trainer import Trainer

TEXT = """
name: digits
data: {source: "sklearn:digits"}
model: {name: mlp}
space:
  depth: [1, 2]
  width: [16, 32]
  optimizer: [adamw, sgd]
train: {epochs: 6, patience: 4}
search: {metric: accuracy}
"""


def prepared(folder: Path, **search_options: Any) -> tuple[Study, Dataset, Space]:
    """The digits study with the given search section."""
    path = folder / "study.yaml"
    path.write_text(TEXT, encoding="utf-8")
    overrides = {f"search.{k}": str(v) for k, v in search_options.items()}
    study = load_study(path, {**overrides, "tracking.home": str(folder / "home")})
    network = resolve("mlp")
    return study, prepare(study).dataset, build_space(study, network.space, network.defaults)


def finish(
    study: Study,
    dataset: Dataset,
    space: Space,
    ledger: Ledger | None = None,
    stop_after: int | None = None,
    checkpoints: Checkpoints | None = None,
):
    """The search's result, or None where it was stopped after some ticks."""
    metric = find_metric(dataset.metric, dataset.task)
    lanes = SearchLanes(Trainer(study, resolve("mlp"), dataset), checkpoints)
    goal = {"metric": metric.name, "direction": metric.direction}
    loop = (
        recorded_search(study, space, lanes, ledger, **goal)
        if ledger
        else search(study, space, lanes, **goal)
    )
    ticks = 0
    while True:
        try:
            next(loop)
            ticks += 1
            if ticks == stop_after:
                loop.close()
                return None
        except StopIteration as stop:
            return stop.value


def table(result: SearchResult) -> list[dict[str, Any]]:
    """Every trial with every score of every epoch, but for the clock."""
    rows = [asdict(trial) for trial in result.trials]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_random_search_of_64_trials_does_not_depend_on_lanes_or_threads(
    tmp_path: Path, threads: int
) -> None:
    tables = []
    try:
        for lanes in (1, 7, 64):
            study, dataset, space = prepared(
                tmp_path, strategy="random", pruner="none", trials=64, lanes=lanes
            )
            train = study.train.model_copy(update={"threads": threads, "epochs": 2})
            study = study.model_copy(update={"train": train})
            tables.append(table(finish(study, dataset, space)))
    finally:
        torch.set_num_threads(1)
    assert len(tables[0]) == 64
    assert tables[0] == tables[1] == tables[2]
    expected = tmp_path.parent / "random-table.txt"  # of the other thread count, when it ran before
    if expected.exists():
        assert expected.read_text(encoding="utf-8") == repr(tables[0])
    expected.write_text(repr(tables[0]), encoding="utf-8")


def test_a_tpe_and_asha_search_is_repeatable_and_each_trial_can_be_trained_alone(tmp_path: Path) -> None:
    options = {"strategy": "tpe", "pruner": "asha", "trials": 40, "lanes": 16, "rung_first": 1, "startup": 12}
    study, dataset, space = prepared(tmp_path, **options)
    first, second = finish(study, dataset, space), finish(study, dataset, space)
    assert table(first) == table(second)
    assert {"pruned", "complete"} <= {t.state for t in first.trials}
    trainer = Trainer(study, resolve("mlp"), dataset)
    for trial in first.trials:
        if trial.state == "duplicate":
            continue
        trainer.add(trainer.lane(trial.number, trial.config, trial.seed))
        for epoch in trial.curve:
            (report,) = trainer.tick()
            assert {"train/loss": report.train_loss, **report.scores} == epoch
        trainer.drop(trial.number)


@pytest.mark.parametrize(
    ("strategy", "stop_after", "checkpoints"),
    [("tpe", 1, False), ("tpe", 4, False), ("tpe", 4, True), ("tpe", 9, True), ("gradient", 5, True)],
)
def test_a_stopped_search_goes_on_to_the_same_table(
    tmp_path: Path, strategy: str, stop_after: int, checkpoints: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = 24 if strategy == "tpe" else 12  # tangents take several times as long
    options = {"strategy": strategy, "pruner": "asha", "trials": trials, "lanes": 8, "rung_first": 1, "startup": 8}
    study, dataset, space = prepared(tmp_path, **options)
    metric = find_metric(dataset.metric, dataset.task)
    what = definition(study, space, metric=metric.name, direction=metric.direction, data=dataset.fingerprint)
    whole = finish(study, dataset, space)
    every_s = 1e-9 if checkpoints else 0.0
    monkeypatch.setattr("lanewise.checkpoints.SHARE", 1e9)  # at every tick
    with Ledger(tmp_path / "ledger.db", what) as ledger:
        kept = Checkpoints(tmp_path / "kept", every_s)
        assert finish(study, dataset, space, ledger, stop_after, kept) is None
    with Ledger(tmp_path / "ledger.db", what) as ledger:
        kept = Checkpoints(tmp_path / "kept", every_s)
        resumed = finish(study, dataset, space, ledger, checkpoints=kept)
    assert (tmp_path / "kept").exists() == checkpoints
    assert table(resumed) == table(whole)
