"""The ledger: what is written is read back bit for bit, by one process at a time, for one definition."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lanewise.errors import StudyError, StudyHeldError, TrackingError
from lanewise.ledger import Ledger, Report, TrialRecord, definition, read_trials
from lanewise.space import Config, build_space
from lanewise.study import Study

DEFINITION: dict[str, Any] = {
    "seed": 0,
    "space": {"lr": {"low": 1e-5, "high": 0.1}},
    "search": {"direction": "minimize"},
}
CONFIG: Config = {"lr": 0.1 + 0.2, "width": 64, "optimizer": "adamw", "nesterov": False}


def a_trial(number: int = 0, **changes: Any) -> TrialRecord:
    record = TrialRecord(
        number,
        CONFIG,
        2**32 - 1,
        "complete",
        None,
        0.1,
        1,
        1,
        [{"train/loss": 0.5, "valid/rmse": 0.1}],
        True,
        1.5,
    )
    return dataclasses.replace(record, **changes)


def filled(path: Path) -> TrialRecord:
    with Ledger(path, DEFINITION) as ledger:
        report = Report(0, 1, 0.5, {"valid/rmse": 0.1}, True)
        ledger.write(1, 1.5, started=[(0, CONFIG, 2**32 - 1)], reports=[report], ended=[a_trial()])
    return a_trial()


# --- reading back


def test_a_trial_comes_back_as_it_was(tmp_path: Path) -> None:
    trial = filled(tmp_path / "ledger.db")
    assert read_trials(tmp_path / "ledger.db") == [trial]
    with Ledger(tmp_path / "ledger.db", DEFINITION) as ledger:
        assert ledger.trials() == [trial]
        assert ledger.started_with(0) == (CONFIG, 2**32 - 1)
        assert ledger.started_with(1) is None
        assert ledger.ticks() == [1.5]


@given(
    loss=st.floats(),
    scores=st.dictionaries(st.text(max_size=5), st.floats(), max_size=3),
    finished=st.booleans(),
    failed=st.none() | st.text(max_size=9).filter(lambda text: "\0" not in text and text.isprintable()),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_report_comes_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory,
    loss: float,
    scores: dict[str, float],
    finished: bool,
    failed: str | None,
) -> None:
    path = tmp_path_factory.mktemp("l") / "ledger.db"
    with Ledger(path, DEFINITION) as ledger:
        ledger.write(1, 0.0, started=[], reports=[Report(4, 1, loss, scores, finished, failed)], ended=[])
        [back] = ledger.reports(4)

    def kept(value: float) -> str:  # NaN stands for all that is not finite, and SQLite knows one zero only
        return (value + 0.0).hex() if math.isfinite(value) else "nan"

    assert kept(back.train_loss) == kept(loss)
    assert {k: kept(v) for k, v in back.scores.items()} == {k: kept(v) for k, v in scores.items()}
    assert (back.finished, back.failed) == (finished, failed)


def test_a_negative_zero_is_no_damage(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l.db", DEFINITION) as ledger:
        done = a_trial(value=-0.0, seconds=0.0, curve=[{"train/loss": -0.0, "valid/rmse": -0.0}])
        ledger.write(1, 0.0, started=[], reports=[Report(0, 1, -0.0, {"valid/rmse": -0.0}, True)], ended=[done])
    with Ledger(tmp_path / "l.db", DEFINITION) as ledger:
        assert ledger.trials() == [done]


def test_nan_and_infinity_are_never_stored(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l.db", DEFINITION) as ledger:
        reports = [Report(0, 1, math.inf, {"valid/rmse": math.nan, "valid/r2": -math.inf})]
        ended = [a_trial(state="failed", value=None, reason="nonfinite loss at epoch 1")]
        ledger.write(1, 0.0, started=[(0, CONFIG, 1)], reports=reports, ended=ended)
        [trial] = ledger.trials()
    assert trial.curve == [{"train/loss": None, "valid/rmse": None, "valid/r2": None}]
    dump = "\n".join(sqlite3.connect(tmp_path / "l.db").iterdump()).lower()
    assert "inf" not in dump.replace("nonfinite", "") and '"nan"' not in dump and "null" in dump


def test_writing_a_tick_twice_changes_nothing(tmp_path: Path) -> None:
    filled(tmp_path / "l.db")
    def content() -> list[str]:
        return [line for line in sqlite3.connect(tmp_path / "l.db").iterdump() if "'fence'" not in line]

    before = content()
    filled(tmp_path / "l.db")
    assert content() == before


def test_reports_of_another_configuration_are_forgotten(tmp_path: Path) -> None:
    filled(tmp_path / "l.db")
    with Ledger(tmp_path / "l.db", DEFINITION) as ledger:
        other = CONFIG | {"lr": 0.5}
        ledger.write(2, 2.0, started=[(0, other, 9)], reports=[Report(0, 1, 7.0, {})], ended=[])
        assert [r.train_loss for r in ledger.reports(0)] == [7.0]
        assert ledger.started_with(0) == (other, 9)
        assert ledger.trials() == []  # it runs


def test_a_tick_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    trial = filled(tmp_path / "l.db")
    with Ledger(tmp_path / "l.db", DEFINITION) as ledger:
        broken = a_trial(1, seed=2**70)  # too large for SQLite: fails after reports and starts were written
        with pytest.raises(OverflowError):
            ledger.write(2, 9.0, started=[(1, CONFIG, 1)], reports=[Report(1, 1, 0.1, {})], ended=[broken])
        assert ledger.ticks() == [1.5] and ledger.reports(1) == [] and ledger.started_with(1) is None
        ledger.write(2, 3.0, started=[], reports=[], ended=[])  # and it still works
    assert read_trials(tmp_path / "l.db") == [trial]


def test_settled_values_stay(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l.db", DEFINITION) as ledger:
        assert ledger.settle("lanes", 64) == 64
    with Ledger(tmp_path / "l.db", DEFINITION) as ledger:
        assert ledger.settle("lanes", 16) == 64
        assert ledger.settle("device", {"name": "cpu", "threads": [1, 2]}) == {
            "name": "cpu",
            "threads": [1, 2],
        }


def test_what_was_written_survives_a_kill(tmp_path: Path) -> None:
    """SIGKILL in the middle of writing ticks: every tick the process announced is there."""
    script = f"""
import sys
from pathlib import Path
from lanewise.ledger import Ledger, Report
with Ledger(Path({str(tmp_path / "l.db")!r}), {DEFINITION!r}) as ledger:
    for tick in range(1, 10_000):
        ledger.write(tick, float(tick), started=[], reports=[Report(0, tick, 0.5, {{}})], ended=[])
        print(tick, flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    announced = [int(child.stdout.readline()) for _ in range(20)]
    child.send_signal(signal.SIGKILL)
    announced += [int(line) for line in child.stdout.read().split("\n") if line]
    child.wait()
    with Ledger(tmp_path / "l.db", DEFINITION) as ledger:  # the lock went with the process
        epochs = [report.epoch for report in ledger.reports(0)]
        assert len(ledger.ticks()) == len(epochs) >= announced[-1]
        assert epochs == list(range(1, len(epochs) + 1))


# --- one process at a time


def test_a_second_run_is_refused_and_told_who_holds_the_study(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l.db", DEFINITION):
        with pytest.raises(StudyHeldError) as caught:
            Ledger(tmp_path / "l.db", DEFINITION)
        assert caught.value.exit_code == 75
        assert f"process {os.getpid()} on " in str(caught.value) and " since 20" in str(caught.value)
    Ledger(tmp_path / "l.db", DEFINITION).close()


def test_another_process_is_refused_too(tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from lanewise.errors import StudyHeldError
from lanewise.ledger import Ledger
try:
    Ledger(Path({str(tmp_path / "l.db")!r}), {DEFINITION!r})
except StudyHeldError as error:
    print(error)
"""
    with Ledger(tmp_path / "l.db", DEFINITION):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert f"held by process {os.getpid()} on" in done.stdout


def test_trials_can_be_read_while_a_search_writes(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l.db", DEFINITION) as ledger:
        assert read_trials(tmp_path / "l.db") == []
        ledger.write(1, 0.0, started=[], reports=[], ended=[a_trial(epochs=0, curve=[])])
        assert len(read_trials(tmp_path / "l.db")) == 1


# --- one definition


def a_study(**changes: Any) -> Study:
    base: dict[str, Any] = {"name": "s", "data": {"source": "sklearn:digits"}}
    return Study.model_validate(base | changes)


def defined(
    data: str = "sha256:a", metric: str = "rmse", direction: str = "minimize", **changes: Any
) -> dict[str, Any]:
    study = a_study(**changes)
    space = build_space(study, {"width": {"low": 16, "high": 64}}, {"width": 32})
    return definition(study, space, metric=metric, direction=direction, data=data)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"direction": "maximize"}, "search.direction: minimize -> maximize"),
        ({"metric": "mae"}, "search.metric: rmse -> mae"),
        ({"data": "sha256:b"}, "data: sha256:a -> sha256:b"),
        ({"space": {"width": {"low": 16, "high": 128}}}, "space.parameters.width.high: 64 -> 128"),
        ({"space": {"width": 16}}, "space.parameters.width"),
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"train": {"epochs": 51}}, "train.epochs: 50 -> 51"),
        ({"search": {"strategy": "random"}}, "search.strategy: tpe -> random"),
        ({"search": {"pruner": "none"}}, "search.pruner: asha -> none"),
        ({"model": {"name": "resnet"}}, "model.name: mlp -> resnet"),
        ({"lr_range": {"control_share": 0.2}}, "control_share: 0.1 -> 0.2"),
    ],
)
def test_another_definition_is_refused_and_the_difference_named(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    Ledger(tmp_path / "l.db", defined()).close()
    with pytest.raises(StudyError) as caught:
        Ledger(tmp_path / "l.db", defined(**changes))
    assert caught.value.exit_code == 2
    assert named in str(caught.value) and "new `name`" in str(caught.value)
    Ledger(tmp_path / "l.db", defined()).close()  # the refusal let the study go


def test_budgets_lanes_and_threads_may_change(tmp_path: Path) -> None:
    Ledger(tmp_path / "l.db", defined()).close()
    search = {"trials": 99, "epochs": 1000, "seconds": 60, "lanes": 3, "max_failures": 2}
    search |= {"max_retries": 9, "trial_timeout_s": 5.0}
    Ledger(tmp_path / "l.db", defined(search=search, train={"threads": 2})).close()


# --- faults of the file


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "l.db").write_bytes(b"this is not a database" * 100)
    with pytest.raises(TrackingError, match="file is not a database") as caught:
        Ledger(tmp_path / "l.db", DEFINITION)
    assert caught.value.exit_code == 5 and str(tmp_path / "l.db") in str(caught.value)


def test_a_ledger_of_another_version_is_refused(tmp_path: Path) -> None:
    filled(tmp_path / "l.db")
    with sqlite3.connect(tmp_path / "l.db") as db:
        db.execute("UPDATE meta SET value = '999' WHERE key = 'schema_version'")
    with pytest.raises(TrackingError, match="another version"):
        Ledger(tmp_path / "l.db", DEFINITION)


def test_a_missing_ledger_is_an_error_to_read_and_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(TrackingError):
        read_trials(tmp_path / "none.db")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrackingError):
        Ledger(tmp_path / "file" / "l.db", DEFINITION)


def test_a_full_disk_is_an_error_that_loses_nothing(tmp_path: Path) -> None:
    trial = filled(tmp_path / "l.db")
    with Ledger(tmp_path / "l.db", DEFINITION) as ledger:
        pages = ledger._store.db.execute("PRAGMA page_count").fetchone()[0]
        ledger._store.db.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own way to say the disk is full
        many = [Report(1, epoch, 0.5, {"valid/rmse": 0.1}) for epoch in range(1, 5000)]
        with pytest.raises(TrackingError, match="full"):
            ledger.write(2, 2.0, started=[(1, CONFIG, 1)], reports=many, ended=[])
    assert read_trials(tmp_path / "l.db") == [trial]


def test_ticks_are_synced_to_the_disk(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l.db", DEFINITION) as ledger:
        assert ledger._store.db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert ledger._store.db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
