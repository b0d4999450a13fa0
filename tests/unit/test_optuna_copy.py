"""The Optuna copy of a ledger, read back with Optuna."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from test_search_run import FakeTrainer, KilledError, a_space, a_study, drain, minimize_rmse_recorded

from lanewise.errors import TrackingError
from lanewise.ledger import Ledger, Reading, definition, read_ledger
from lanewise.search.optuna_copy import write_optuna

SPACE = {"lr": {"low": 1e-5, "high": 1.0, "log": True}, "optimizer": ["sgd", "adamw"], "momentum": [0.0, 0.9]}
STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


def searched(path: Path, trials: int = 40, dies_at: int | None = None) -> Reading:
    """A search with pruned and failed trials, duplicates, control draws, and a momentum for sgd only."""
    study = a_study(strategy="random", trials=trials, space=SPACE)
    space = a_space(study).narrow("lr", 1e-3, 3e-2)
    settings = definition(study, space, metric="rmse", direction="minimize", data="rows")
    with Ledger(path / "ledger.db", settings) as ledger:
        try:
            drain(minimize_rmse_recorded(study, space, FakeTrainer(4, dies_at=dies_at), ledger))
        except KilledError:
            assert dies_at
    return read_ledger(path / "ledger.db")


def read(file: Path) -> optuna.Study:
    return optuna.load_study(storage=f"sqlite:///{file}", study_name="toy")


def test_numbers_states_parameters_values_and_curves_are_the_ledgers(tmp_path: Path) -> None:
    reading = searched(tmp_path)
    assert write_optuna(reading, "toy", tmp_path / "optuna.db") == 40
    study = read(tmp_path / "optuna.db")
    assert study.direction == optuna.study.StudyDirection.MINIMIZE and study.metric_names == ["rmse"]
    states = Counter(trial.state for trial in reading.trials)
    assert states["complete"] and states["pruned"] and states["failed"], states
    assert len(study.trials) == 40
    for trial, copy in zip(reading.trials, study.trials, strict=True):
        assert copy.number == trial.number
        of = reading.trials[trial.number if trial.duplicate_of is None else trial.duplicate_of]
        assert copy.state == STATES[of.state]
        assert copy.value == trial.value
        assert (
            copy.params.items() <= trial.config.items() and {"lr", "optimizer", "width"} <= copy.params.keys()
        )
        assert ("momentum" in copy.params) == (trial.config["optimizer"] == "sgd")
        scores = {e: row["valid/rmse"] for e, row in enumerate(trial.curve, 1)}
        assert copy.intermediate_values == {e: value for e, value in scores.items() if value is not None}
        assert copy.user_attrs["config"] == trial.config and copy.user_attrs["seed"] == trial.seed
        assert copy.duration is not None
        assert copy.duration.total_seconds() == pytest.approx(trial.seconds, abs=1e-5)
    outside = [t.number for t in reading.trials if not 1e-3 <= float(t.config["lr"]) <= 3e-2]
    assert outside, "a control draw has its place too"
    best = min((t for t in reading.trials if t.state == "complete"), key=lambda t: (t.value or 0.0, t.number))
    assert study.best_value == best.value and study.best_params.items() <= best.config.items()


def test_a_copy_made_during_a_search_shows_no_trial_running(tmp_path: Path) -> None:
    reading, file = searched(tmp_path, dies_at=20), tmp_path / "optuna.db"
    assert reading.running
    with closing(sqlite3.connect(file)) as open_in_a_dashboard:
        write_optuna(reading, "toy", file)
        early = read(file)
        assert [t.number for t in early.trials if t.state == TrialState.WAITING] == reading.running
        assert not [t for t in early.trials if t.state == TrialState.RUNNING]
        write_optuna(searched(tmp_path), "toy", file)
        found = open_in_a_dashboard.execute("SELECT count(*) FROM trials WHERE state != 'WAITING'").fetchone()
    assert found == (40,), "and it is the same file afterwards"


def test_a_damaged_copy_is_made_anew_and_a_full_disk_said(tmp_path: Path) -> None:
    reading, file = searched(tmp_path, trials=8), tmp_path / "optuna.db"
    file.write_text("no database\n" * 500)
    write_optuna(reading, "toy", file)
    assert len(read(file).trials) == 8
    with pytest.raises(TrackingError, match="the Optuna copy cannot be written"):
        write_optuna(reading, "toy", tmp_path / "ledger.db" / "optuna.db")
