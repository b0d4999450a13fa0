"""Any trial of a tracked TPE and ASHA search, trained alone from its MLflow record, gives the recorded bits."""

from __future__ import annotations

from pathlib import Path

import pytest

from lanewise.data import prepare
from lanewise.model import resolve
from lanewise.study import load_study
from lanewise.tracking import read_trial
from lanewise.trainer import Trainer

STUDY = """
name: replayed
data: {source: "sklearn:digits"}
space: {depth: [1, 2], width: [16, 32], optimizer: [adamw, sgd]}
train: {epochs: 6, patience: 4}
search: {metric: accuracy, trials: 64, lanes: 64, startup: 16, rung_first: 1}
"""


@pytest.mark.slow
def test_a_trial_trained_alone_from_its_mlflow_record_gives_the_same_bits(lanewise, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY, encoding="utf-8")
    done = lanewise("search", str(tmp_path / "study.yaml"))
    assert done.returncode == 0, done.stderr
    uri = f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    study = load_study(tmp_path / "study.yaml", {"tracking.home": str(tmp_path / "again")})
    dataset = prepare(study).dataset
    trainer = Trainer(study, resolve("mlp"), dataset)
    states = set()
    for number in (0, 1, 7, 20, 33, 48, 63):
        record = read_trial(f"trial-{number:04d}", uri=uri, study="replayed")
        states.add(record["state"])
        assert record["tags"]["lanewise.data"] == dataset.fingerprint
        trainer.add(trainer.lane(number, record["config"], int(record["tags"]["lanewise.seed"])))
        curves = {name: points for name, points in record["metrics"].items() if "/" in name}
        assert set(curves) == {"train/loss", "valid/accuracy", "valid/log_loss"}
        for epoch in range(1, len(curves["train/loss"]) + 1):
            (report,) = trainer.tick()
            alone = {"train/loss": report.train_loss, **report.scores}
            assert {name: dict(points)[epoch] for name, points in curves.items()} == alone
        trainer.drop(number)
    assert {"complete", "pruned"} <= states
