"""The spool, the folding, both writers and the process beside the training: nothing lost, nothing doubled."""

from __future__ import annotations

import json
import logging
import math
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanewise.errors import StudyError, TrackingError
from lanewise.names import redacted
from lanewise.tracking import (
    Tracker,
    absolute_uri,
    compare_link,
    deliver,
    ensure_store,
    read_trial,
    run_states,
    trials_link,
)
from lanewise.tracking import store as store_module
from lanewise.tracking.deliver import Deliverer, problem
from lanewise.tracking.runs import Runs
from lanewise.tracking.spool import LINES, TARGET, SpoolWriter, State, line, read_lines
from lanewise.tracking.store import head_revision, refuse_network_file_system, revision, server_command
from lanewise.tracking.writers import BULK_REVISIONS, BulkWriter, ClientWriter

METRICS = ("train/loss", "valid/loss", "valid/accuracy")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database, made once."""
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    ensure_store(f"sqlite:///{path}")
    return path


@pytest.fixture
def uri(template: Path, tmp_path: Path) -> str:
    path = tmp_path / "mlruns" / "mlflow.db"
    path.parent.mkdir()
    shutil.copy(template, path)
    return f"sqlite:///{path}"


def rows(uri: str) -> dict[str, Any]:
    """Everything MLflow has, by the key of the run and with ids and folders left out."""
    db = sqlite3.connect(uri.removeprefix("sqlite:///"))
    names = {}
    for run_id, key in db.execute("SELECT run_uuid, value FROM tags WHERE key = 'lanewise.key'"):
        attempt = db.execute(
            "SELECT value FROM tags WHERE run_uuid = ? AND key = 'lanewise.attempt'", (run_id,)
        )
        names[run_id] = f"{key}#{attempt.fetchone()[0]}"

    def table(sql: str) -> list[tuple[Any, ...]]:
        found = [(names[row[0]], *(names.get(cell, cell) for cell in row[1:])) for row in db.execute(sql)]
        return sorted(found, key=str)

    found = {
        "experiments": db.execute(
            "SELECT experiment_id, name, artifact_location, lifecycle_stage, workspace FROM experiments"
            " WHERE creation_time = last_update_time"
        ).fetchall(),
        "runs": table(
            "SELECT run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time,"
            " end_time, source_version, lifecycle_stage, deleted_time,"
            " replace(artifact_uri, run_uuid, '') FROM runs"
        ),
        "tags": table("SELECT run_uuid, key, value FROM tags WHERE key != 'mlflow.note.content'"),
        "params": table("SELECT run_uuid, key, value FROM params"),
        "metrics": table("SELECT run_uuid, key, value, timestamp, step, is_nan FROM metrics"),
        "latest": table("SELECT run_uuid, key, value, timestamp, step, is_nan FROM latest_metrics"),
    }
    db.close()
    return found


def status(uri: str) -> dict[str, str]:
    return {row[0]: row[6] for row in rows(uri)["runs"]}


def tags(uri: str, key: str) -> dict[str, str]:
    return {name: value for run, name, value in rows(uri)["tags"] if run == key}


def record_study(tracker: Tracker, trials: int = 4, epochs: int = 5) -> None:
    """A small search: a parent and trials that end in every way."""
    draw = random.Random(7)
    tracker.start_run("pipeline", stage="pipeline", params={"study.epochs": epochs})
    for number in range(trials):
        config = {"lr": 10 ** draw.uniform(-5, -1), "width": draw.choice([32, 64])}
        tracker.start_run(
            f"trial-{number:04d}", parent="pipeline", stage="search", params=config, config=config,
            tags={"lanewise.seed": number, "lanewise.trial": number},
        )  # fmt: skip
    for epoch in range(1, epochs + 1):
        with tracker.tick():
            for number in range(trials):
                tracker.log(f"trial-{number:04d}", epoch, {name: draw.random() for name in METRICS})
    for number in range(trials):
        state = ("complete", "pruned", "failed", "abandoned")[number % 4]
        tracker.end(f"trial-{number:04d}", state, objective=draw.random() if state == "complete" else None)


# --- the spool ------------------------------------------------------------------------------------


@given(st.integers(1, 40))
@settings(max_examples=20, deadline=None)
def test_torn_last_line_is_cut_off_and_full_lines_stay(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    writer = SpoolWriter(folder)
    writer.append([line({"n": n}) for n in range(9)] + [line({"text": "x" * 30})])
    writer.close()
    os.truncate(folder / LINES, writer.size - cut)
    again = SpoolWriter(folder)
    assert [record for _, _, record in read_lines(folder / LINES, 0)] == [{"n": n} for n in range(9)]
    again.append([line({"n": 9})])
    again.close()
    assert [record["n"] for _, _, record in read_lines(folder / LINES, 0)] == list(range(10))


def test_full_disk_leaves_no_half_line_and_keeps_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SpoolWriter(tmp_path)
    writer.append([line({"n": 0})])
    real, left = os.write, [3]

    def full(fd: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(28, "No space left on device")
        count, left[0] = real(fd, data[: left[0]]), 0
        return count

    monkeypatch.setattr("lanewise.tracking.spool.os.write", full)
    writer.append([line({"n": 1})])
    assert [r["n"] for _, _, r in read_lines(tmp_path / LINES, 0)] == [0]
    with pytest.raises(TrackingError, match="No space left"):
        writer.sync()
    monkeypatch.setattr("lanewise.tracking.spool.os.write", real)
    writer.append([line({"n": 2})])
    writer.close()
    assert [r["n"] for _, _, r in read_lines(tmp_path / LINES, 0)] == [0, 1, 2]


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    with pytest.raises(TrackingError, match="another process writes"):
        SpoolWriter(tmp_path)
    writer.close()
    SpoolWriter(tmp_path).close()


def test_a_record_of_a_newer_version_is_passed_over() -> None:
    assert Runs().fold({"op": "colour", "key": "a"}, 0) is None


def test_a_damaged_line_costs_that_line_only(tmp_path: Path) -> None:
    (tmp_path / LINES).write_bytes(line({"n": 0}) + b"\x00\xffrubbish\n" + line({"n": 1}) + b'{"n": 2')
    assert [r["n"] for _, _, r in read_lines(tmp_path / LINES, 0)] == [0, 1]


# --- folding --------------------------------------------------------------------------------------


def test_an_open_run_of_a_dead_process_is_abandoned_and_one_of_ours_is_not() -> None:
    def start(key: str, attempt: int, owner: str) -> dict[str, Any]:
        return {
            "op": "start", "key": key, "attempt": attempt, "at": 1, "owner": owner, "parent": None,
            "params": {}, "tags": {},
        }  # fmt: skip

    runs = Runs()
    for offset, record in enumerate(
        [
            start("a", 1, "old"),
            start("b", 1, "new"),
            {"op": "session", "owner": "new", "at": 5},
            start("b", 2, "new"),
        ]
    ):
        runs.fold(record, offset)
    assert {(r.key, r.attempt): (r.state, r.ended_at) for r in runs} == {
        ("a", 1): ("abandoned", 5),
        ("b", 1): ("abandoned", 1),  # started again by the same process
        ("b", 2): ("running", None),
    }


# --- the writers ----------------------------------------------------------------------------------


@pytest.fixture
def recorded(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spool full of records that nobody has delivered."""
    monkeypatch.setattr(Tracker, "_start_child", lambda self: None)
    tracker = Tracker("twins", uri, tmp_path / "spool")
    record_study(tracker)
    tracker.start_run("trial-0000", parent="pipeline", stage="search", params={"lr": 0.5})  # a second attempt
    tracker.log("trial-0000", 1, {"valid/loss": math.nan, "train/loss": 2.0})
    tracker.log("trial-0000", 1, {"train/loss": 1.0})  # the same step again: the later one is the latest
    tracker.end("trial-0000", "failed", reason="diverged")
    tracker.artifact("pipeline", "<p>report</p>", "report/index.html")
    tracker.note("pipeline", "A search.", ascending=True, best=["trial-0000", "trial-0001"])
    tracker.end("pipeline", "complete")
    tracker._writer.close()
    return tmp_path / "spool"


def delivered_by(kind: Any, recorded: Path, uri: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Deliver a copy of a spool into a copy of the database through one of the writers."""
    folder.mkdir()
    shutil.copytree(recorded, folder / "spool")
    shutil.copy(uri.removeprefix("sqlite:///"), folder / "mlflow.db")
    monkeypatch.setattr(
        "lanewise.tracking.writers.BULK_REVISIONS", BULK_REVISIONS if kind is BulkWriter else ()
    )
    target = f"sqlite:///{folder}/mlflow.db"
    deliverer = Deliverer(folder / "spool", target)
    deliverer.read()
    deliverer.deliver(everything=True)
    deliverer.save()
    assert deliverer.state.problem is None and type(deliverer.writer) is kind
    assert deliverer.delivery().pending == 0
    return target


def test_bulk_writer_writes_the_rows_the_client_writes(
    recorded: Path, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = delivered_by(ClientWriter, recorded, uri, tmp_path / "slow", monkeypatch)
    fast = delivered_by(BulkWriter, recorded, uri, tmp_path / "fast", monkeypatch)
    expected = rows(slow)
    assert len(expected["runs"]) == 6 and len(expected["metrics"]) == 4 * 5 * 3 + 1 + 2
    for name, found in rows(fast).items():
        assert str(found).replace("/fast/", "/slow/") == str(expected[name]), name
    for folder in ("slow", "fast"):
        reports = list((tmp_path / folder).glob("artifacts/twins/*/artifacts/report/index.html"))
        assert [report.read_text() for report in reports] == ["<p>report</p>"]
        assert not list((tmp_path / folder / "spool" / "files").iterdir())


@pytest.mark.parametrize("kind", [BulkWriter, ClientWriter])
def test_delivering_everything_again_changes_nothing(
    kind: Any, recorded: Path, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = delivered_by(kind, recorded, uri, tmp_path / "once", monkeypatch)
    before = rows(target)
    (tmp_path / "once" / "spool" / "state.json").unlink()  # as after a crash before the first note
    deliverer = Deliverer(tmp_path / "once" / "spool", target)
    deliverer.read()
    deliverer.deliver(everything=True)
    assert deliverer.state.problem is None
    assert rows(target) == before


def test_an_experiment_in_the_trash_is_named(uri: str, tmp_path: Path) -> None:
    with Tracker("trash", uri, tmp_path / "spool") as tracker:
        experiment = tracker.flush(30).experiment_id
    store_module.client(uri).delete_experiment(experiment)
    with (
        Tracker("trash", uri, tmp_path / "spool") as tracker,
        pytest.raises(TrackingError, match="mlflow experiments restore --experiment-id 1"),
    ):
        tracker.ready(30)


def test_bulk_writer_knows_the_schema_of_the_installed_mlflow(template: Path) -> None:
    assert revision(template) == head_revision()
    assert head_revision() in BULK_REVISIONS, "compare BulkWriter with this MLflow, then add its revision"


def test_a_run_that_is_gone_from_the_database_does_not_stop_the_others(uri: str, tmp_path: Path) -> None:
    with Tracker("gone", uri, tmp_path / "spool") as tracker:
        tracker.start_run("a", stage="search")
        tracker.start_run("b", stage="search")
        tracker.flush(30)
        db = sqlite3.connect(uri.removeprefix("sqlite:///"))
        for table in ("tags", "params", "metrics", "latest_metrics"):
            db.execute(f"DELETE FROM {table} WHERE run_uuid = (SELECT run_uuid FROM runs WHERE name = 'a')")
        db.execute("DELETE FROM runs WHERE name = 'a'")
        db.commit()
        db.close()
        for key in "ab":
            tracker.log(key, 1, {"train/loss": 1.0})
            tracker.end(key, "complete")
        found = tracker.flush(30)
    assert (found.pending, list(found.rejected), found.unreachable) == (0, ["a"], None)
    assert status(uri) == {"b#1": "FINISHED"}


# --- the process beside the training --------------------------------------------------------------


def test_states_in_mlflow(uri: str, tmp_path: Path) -> None:
    with Tracker("states", uri, tmp_path / "spool") as tracker:
        record_study(tracker)
        tracker.flush(30)
    assert run_states(tmp_path / "spool") == {
        "pipeline": "running", "trial-0000": "complete", "trial-0001": "pruned", "trial-0002": "failed",
        "trial-0003": "abandoned",
    }  # fmt: skip
    assert status(uri) == {
        "pipeline#1": "RUNNING", "trial-0000#1": "FINISHED", "trial-0001#1": "FINISHED",
        "trial-0002#1": "FAILED", "trial-0003#1": "KILLED",
    }  # fmt: skip
    assert [tags(uri, f"trial-000{n}#1")["lanewise.state"] for n in range(4)] == [
        "complete", "pruned", "failed", "abandoned",
    ]  # fmt: skip
    parent = {key: value for key, name, value in rows(uri)["tags"] if name == "mlflow.parentRunId"}
    assert set(parent.values()) == {"pipeline#1"} and len(parent) == 4


def test_what_was_told_once_is_known_to_the_next_process(uri: str, tmp_path: Path) -> None:
    with Tracker("told", uri, tmp_path / "spool") as tracker:
        tracker.start_run("fold-1", stage="evaluate", content="a")
        assert not tracker.told("fold-1", "a"), "open: it may still be cut off"
        tracker.end("fold-1", "complete")
        tracker.start_run("fold-2", stage="evaluate", content="a")
        assert tracker.told("fold-1", "a")
    with Tracker("told", uri, tmp_path / "spool") as tracker:
        assert tracker.told("fold-1", "a") and not tracker.told("fold-1", "b")
        assert not tracker.told("fold-2", "a"), "abandoned with its process"
        assert not tracker.told("fold-3", "a")


def test_what_is_recorded_of_a_trial_can_be_read_back(uri: str, tmp_path: Path) -> None:
    config = {
        "lr": 0.0123456789012345,
        "width": 64,
        "nesterov": True,
        "optimizer": "sgd",
        "weight_decay": 0.0,
    }
    with Tracker("back", uri, tmp_path / "spool") as tracker:
        tracker.start_run(
            "trial-0007", stage="search", params=config, config=config, tags={"lanewise.seed": 3, "x": None}
        )
        for epoch in (1, 2):
            tracker.log(
                "trial-0007", epoch, {"train/loss": 1 / epoch, "valid/auc": math.inf if epoch == 2 else 0.1}
            )
        tracker.end("trial-0007", "complete", objective=0.25)
        run_id = tracker.flush(30).run_ids["trial-0007"]
    found = read_trial("trial-0007", uri=uri, study="back")
    assert found == read_trial(run_id, uri=uri)
    assert found["config"] == config  # to the last bit, unlike the params
    assert found["params"] == {
        "lr": "0.0123457", "log10_lr": "-1.9085", "width": "64", "nesterov": "true", "optimizer": "sgd",
        "weight_decay": "0",
    }  # fmt: skip
    assert found["metrics"] == {
        "train/loss": [(1, 1.0), (2, 0.5)], "valid/auc": [(1, 0.1)], "objective": [(2, 0.25)],
    }  # fmt: skip
    assert found["tags"]["lanewise.reason"] == "valid/auc was inf at epoch 2"
    assert (found["status"], found["state"], found["attempt"]) == ("FINISHED", "complete", 1)
    assert all(isinstance(value, str) for value in found["tags"].values())
    with pytest.raises(TrackingError, match="no such run"):
        read_trial("trial-0008", uri=uri, study="back")


def test_killing_the_deliverer_at_random_loses_and_doubles_nothing(uri: str, tmp_path: Path) -> None:
    draw = random.Random(11)
    tracker = Tracker("killed", uri, tmp_path / "spool")
    tracker.start_run("pipeline", stage="pipeline")
    expected = set()
    for number in range(12):
        key = f"trial-{number:04d}"
        tracker.start_run(key, parent="pipeline", stage="search", params={"lr": 0.1})
        for epoch in range(1, 31):
            value = draw.random()
            tracker.log(key, epoch, {"train/loss": value})
            expected.add((f"{key}#1", "train/loss", value, epoch))
        tracker.end(key, "complete")
        tracker.flush(0)
        assert tracker._child is not None
        time.sleep(draw.uniform(0.0, 0.25))
        tracker._child.kill()
        tracker._child.wait()
    tracker.end("pipeline", "complete")
    found = tracker.flush(60)
    tracker.close(10)
    assert (found.pending, found.unreachable, found.rejected) == (0, None, {})
    metrics = rows(uri)["metrics"]
    assert len(metrics) == len(expected) == 360
    assert {(key, name, value, step) for key, name, value, _, step, _ in metrics} == expected
    assert set(status(uri).values()) == {"FINISHED"} and len(status(uri)) == 13


TRAINING = """
import sys, time
from pathlib import Path
from lanewise.tracking import Tracker
tracker = Tracker("dies", sys.argv[1], Path(sys.argv[2]))
tracker.start_run("pipeline", stage="pipeline")
for n in range(3):
    tracker.start_run(f"trial-{n}", parent="pipeline", stage="search")
    tracker.log(f"trial-{n}", 1, {"train/loss": n})
tracker.end("trial-0", "complete")
print(tracker._child.pid, flush=True)
time.sleep(60)
"""


def killed_training(uri: str, spool: Path, *, deliverer_too: bool) -> None:
    """Start a training and kill it with SIGKILL, alone or with its deliverer."""
    process = subprocess.Popen(
        [sys.executable, "-c", TRAINING, uri, str(spool)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    if deliverer_too:
        os.kill(child, signal.SIGKILL)
    process.kill()
    process.wait()
    process.stdout.close()


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}


def test_when_the_training_is_killed_its_runs_do_not_stay_running(uri: str, tmp_path: Path) -> None:
    killed_training(uri, tmp_path / "spool", deliverer_too=False)
    deadline = time.monotonic() + 30
    while (found := status(uri)) != (
        expected := {
            "pipeline#1": "KILLED",
            "trial-0#1": "FINISHED",
            "trial-1#1": "KILLED",
            "trial-2#1": "KILLED",
        }
    ):
        assert time.monotonic() < deadline, (found, expected)
        time.sleep(0.1)
    assert len(rows(uri)["metrics"]) == 3
    assert tags(uri, "trial-1#1")["lanewise.state"] == "abandoned"


def test_when_everything_was_killed_the_next_run_tidies_up_and_goes_on(uri: str, tmp_path: Path) -> None:
    killed_training(uri, tmp_path / "spool", deliverer_too=True)
    with Tracker("dies", uri, tmp_path / "spool") as tracker:
        assert tracker.start_run("pipeline", stage="pipeline", resume=True) == 1
        assert tracker.start_run("trial-1", parent="pipeline", stage="search") == 2
        tracker.end("trial-1", "complete")
        tracker.end("pipeline", "complete")
        tracker.flush(30)
    assert status(uri) == {
        "pipeline#1": "FINISHED", "trial-0#1": "FINISHED", "trial-1#1": "KILLED", "trial-1#2": "FINISHED",
        "trial-2#1": "KILLED",
    }  # fmt: skip
    with Tracker("dies", uri, tmp_path / "spool") as tracker:
        assert tracker._writer.size < 200  # what was delivered is forgotten ...
        assert (
            tracker.start_run("pipeline", stage="pipeline", resume=True) == 2
        )  # ... but not what was counted
        assert tracker.start_run("trial-1", stage="search") == 3


def test_a_server_that_is_away_costs_nothing_and_the_spool_is_delivered_later(
    uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    started = time.monotonic()
    tracker = Tracker("away", "http://127.0.0.1:9", tmp_path / "spool")
    record_study(tracker)
    assert time.monotonic() - started < 0.5
    assert tracker.ready(30) is False
    found = tracker.flush(30)
    tracker.end("pipeline", "complete")
    closed = tracker.close(30)
    assert time.monotonic() - started < 30
    assert found.unreachable and found.delivered == 0 and found.run_ids == {}
    assert (found.pending, closed.pending) == (5 + 20 + 4, 5 + 20 + 4 + 1)  # starts, epochs, ends
    assert any("tracking unreachable, spooling" in record.message for record in caplog.records)
    later = deliver(tmp_path / "spool", uri)  # `lanewise sync`
    assert (later.pending, later.unreachable, later.rejected) == (0, None, {})
    assert len(rows(uri)["metrics"]) == 4 * 5 * 3 + 1
    assert set(status(uri).values()) == {"FINISHED", "FAILED", "KILLED"}


def test_a_locked_database_is_waited_for(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = sqlite3.connect(uri.removeprefix("sqlite:///"), isolation_level=None)
    with Tracker("locked", uri, tmp_path / "spool") as tracker:
        assert tracker.ready(30)
        lock.execute("BEGIN EXCLUSIVE")
        tracker.start_run("a", stage="search")
        tracker.end("a", "complete")
        assert tracker.flush(0.5).pending == 2
        lock.execute("ROLLBACK")
        assert tracker.flush(30).pending == 0
    lock.close()
    assert status(uri) == {"a#1": "FINISHED"}


def test_a_deliverer_that_cannot_start_is_said_at_once(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lanewise.tracking.tracker.sys.executable", shutil.which("false"))
    started = time.monotonic()
    tracker = Tracker("broken", uri, tmp_path / "spool")
    tracker.start_run("a", stage="search")
    assert tracker.ready(60) is False
    found = tracker.flush(60)
    assert found.pending == 2 and "the delivering process ended (1), see" in str(found.unreachable)
    tracker.close(10)
    assert time.monotonic() - started < 60  # it did not wait for either limit


def test_damaged_state_is_delivered_again(uri: str, tmp_path: Path) -> None:
    with Tracker("damaged", uri, tmp_path / "spool") as tracker:
        record_study(tracker)
    before = rows(uri)
    (tmp_path / "spool" / "state.json").write_text('{"offset": 12')
    assert State.load(tmp_path / "spool") == State()
    assert deliver(tmp_path / "spool").pending == 0
    after = rows(uri)
    assert after["metrics"] == before["metrics"]
    assert status(uri)["pipeline#1"] == "KILLED"  # nobody trains any more


def test_artifacts_arrive(uri: str, tmp_path: Path) -> None:
    (tmp_path / "plot.png").write_bytes(b"png")
    with Tracker("files", uri, tmp_path / "spool") as tracker:
        tracker.start_run("final", stage="report")
        tracker.artifact("final", tmp_path / "plot.png", "plots/plot.png")
        (tmp_path / "plot.png").unlink()  # it was copied
        tracker.artifact("final", "text", "note.txt")
        for name in ("../x", "/etc/x", "a/../../x", "", "a//b", ".hidden"):
            with pytest.raises(TrackingError, match="cannot have this name"):
                tracker.artifact("final", "x", name)
        run_id = tracker.flush(30).run_ids["final"]
    folder = tmp_path / "mlruns" / "artifacts" / "files" / run_id / "artifacts"
    assert {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.*")} == {
        "plots/plot.png": b"png",
        "note.txt": b"text",
    }


# --- names, addresses, links ----------------------------------------------------------------------


def test_nothing_mlflow_would_cut_or_refuse_is_let_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tracker, "_start_child", lambda self: None)
    tracker = Tracker("names", "sqlite:///x.db", tmp_path / "spool", base=tmp_path)
    with pytest.raises(TrackingError, match="no such name"):
        tracker.start_run("a", stage="search", params={"läuft": 1})
    with pytest.raises(TrackingError, match="too long"):
        tracker.start_run("a", stage="search", config={"note": "x" * 5000})
    with pytest.raises(TrackingError, match="never started"):
        tracker.log("a", 1, {"train/loss": 1.0})
    tracker.start_run("a", stage="search")
    with pytest.raises(TrackingError, match="no such name"):
        tracker.log("a", 1, {"loss(train)": 1.0})
    with pytest.raises(TrackingError, match="cannot end like this"):
        tracker.end("a", "done")  # type: ignore[arg-type]  # what a caller may do wrong
    tracker.tag("a", {"from": "postgresql://me:CANARY_9f3@db/x"})
    tracker.end("a", "failed", reason="token=x password: CANARY_9f3 " + "y" * 9000)
    tracker.close(1)
    assert b"CANARY_9f3" not in (tmp_path / "spool" / LINES).read_bytes()
    for name in ("a/b", "..", "", "x" * 101, "a b"):
        with pytest.raises(StudyError):
            Tracker(name, "sqlite:///x.db", tmp_path / "other")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:CANARY@db/x", "postgresql://***@db/x"),
        ("postgresql://me@db/x?sslmode=require&password=CANARY", "postgresql://***@db/x?sslmode=require&password=***"),
        ("postgresql://db/x?password=CANARY&a=b", "postgresql://db/x?password=***&a=b"),
        ("sqlite:///mlruns/mlflow.db", "sqlite:///mlruns/mlflow.db"),
    ],
)
def test_an_address_is_shown_without_its_password(address: str, shown: str) -> None:
    assert redacted(address) == shown


def test_a_password_in_an_error_is_hidden() -> None:
    found = problem(
        OSError("connect postgresql://me:CANARY_9f3@db/x failed"), "postgresql://me:CANARY_9f3@db/x"
    )
    assert found == {"kind": "away", "text": "OSError: connect postgresql://me:***@db/x failed"}


def test_a_password_in_the_address_is_in_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tracker, "_start_child", lambda self: None)
    Tracker("secret", "https://me:CANARY_9f3@127.0.0.1:9", tmp_path / "spool").close(1)
    for file in (tmp_path / "spool").iterdir():
        assert file.is_dir() or b"CANARY_9f3" not in file.read_bytes()
    assert json.loads((tmp_path / "spool" / TARGET).read_text())["uri"] == "https://***@127.0.0.1:9"


@pytest.mark.parametrize(
    "address", ["./mlruns", "file:///tmp/mlruns", "databricks", "sqlite://", "sqlite:///:memory:", ""]
)
def test_addresses_that_cannot_work_are_refused(address: str) -> None:
    with pytest.raises(StudyError, match="cannot be used"):
        absolute_uri(address)


def test_relative_addresses_become_absolute(tmp_path: Path) -> None:
    assert absolute_uri("sqlite:///mlruns/mlflow.db", tmp_path) == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    assert absolute_uri("http://127.0.0.1:5000") == "http://127.0.0.1:5000"
    command = server_command("sqlite:///mlruns/mlflow.db", 5000, tmp_path)
    assert command[command.index("--default-artifact-root") + 1] == f"{tmp_path}/mlruns/artifacts"
    assert command[command.index("--host") + 1] == "127.0.0.1"


def test_the_trials_link_shows_the_trials(uri: str, tmp_path: Path) -> None:
    from urllib.parse import parse_qs

    with Tracker("links", uri, tmp_path / "spool") as tracker:
        record_study(tracker)
        tracker.note("pipeline", "Four trials.", ascending=True, best=["trial-0000", "trial-0001"])
        found = tracker.flush(30)
    assert found.experiment_id is not None
    link = trials_link(found.experiment_id, ascending=True)
    query = {name: value[0] for name, value in parse_qs(link.split("?")[1]).items()}
    assert link.startswith(f"#/experiments/{found.experiment_id}/runs?")
    assert query["orderByKey"] == "metrics.`objective`" and query["orderByAsc"] == "true"
    mlflow = store_module.client(uri)
    runs = mlflow.search_runs(
        [found.experiment_id], query["searchFilter"], order_by=[f"{query['orderByKey']} ASC"]
    )
    assert sorted(run.info.run_name for run in runs) == [f"trial-000{n}" for n in range(4)]
    note = mlflow.get_run(found.run_ids["pipeline"]).data.tags["mlflow.note.content"]
    ids = [found.run_ids["trial-0000"], found.run_ids["trial-0001"]]
    assert link in note and compare_link(ids, found.experiment_id) in note and note.startswith("Four trials.")


def test_compare_link_by_hand() -> None:
    assert compare_link(["a", "b"], "3") == (
        "#/compare-runs?runs=%5B%22a%22%2C%20%22b%22%5D&experiments=%5B%223%22%5D"
    )
    assert compare_link([str(n) for n in range(30)], "3").count("%22") == 2 * 20 + 2


# --- the store ------------------------------------------------------------------------------------


def test_three_processes_make_one_database(tmp_path: Path) -> None:
    code = "import sys; from lanewise.tracking import ensure_store; ensure_store(sys.argv[1])"
    uri = f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    many = [subprocess.Popen([sys.executable, "-c", code, uri], env=environment()) for _ in range(3)]
    assert [process.wait(120) for process in many] == [0] * 3
    db = sqlite3.connect(tmp_path / "mlruns" / "mlflow.db")
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert db.execute("SELECT artifact_location FROM experiments").fetchall() == [
        (f"{tmp_path}/mlruns/artifacts/0",)
    ]
    db.close()
    left = [p.name for p in (tmp_path / "mlruns").iterdir() if not p.name.endswith(("-wal", "-shm"))]
    assert sorted(left) == [".mlflow.db.lock", "mlflow.db"]


def contents(path: Path) -> tuple[dict[Any, list[str]], dict[str, list[Any]]]:
    """Schema and rows of a database, without times and the order of lines, which MLflow leaves open."""
    db = sqlite3.connect(path)
    schema = {
        (kind, name, table): sorted(text.strip().rstrip(",") for text in (sql or "").splitlines())
        for kind, name, table, sql in db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")
    }
    tables = [name for kind, name, _ in schema if kind == "table"]
    found = {name: db.execute(f"SELECT * FROM {name}").fetchall() for name in tables}
    found["experiments"] = [(*row[:4], *row[6:]) for row in found["experiments"]]
    db.close()
    return schema, {name: rows for name, rows in found.items() if rows}


SCHEMA_HEADER = """\
-- The SQLite schema of MLflow 3.17 as its migrations leave it (Apache License 2.0, MLflow authors).
-- A test compares it with a database that MLflow has made; LANEWISE_WRITE_SCHEMA=1 pytest
-- tests/unit/test_tracking.py -k schema writes it anew for the installed MLflow.
"""


def test_the_schema_is_the_one_mlflow_makes(template: Path, tmp_path: Path) -> None:
    reference = tmp_path / "mlflow.db"
    store_module.create_by_mlflow(reference, template.parent / "artifacts")
    if os.environ.get("LANEWISE_WRITE_SCHEMA"):
        db = sqlite3.connect(reference)
        lines = [f"{sql};" for (sql,) in db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")]
        for table in ("alembic_version", "workspaces"):
            lines += [f"INSERT INTO {table} VALUES {row};" for row in db.execute(f"SELECT * FROM {table}")]
        db.close()
        file = Path(store_module.__file__).with_name(f"mlflow_{head_revision()}.sql")
        file.write_text(SCHEMA_HEADER + "\n".join(lines).replace(",);", ");").replace("None", "NULL") + "\n")
    assert contents(template) == contents(reference)


def test_a_file_that_is_no_mlflow_database_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    for content in (b"", b"some text, not a database", b"SQLite format 3\x00" + b"\x01" * 4000):
        path.write_bytes(content)
        with pytest.raises(TrackingError, match=r"no readable database|no MLflow database"):
            ensure_store(f"sqlite:///{path}")
        assert path.read_bytes() == content
    path.unlink()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE studies (x)")
    db.execute("CREATE TABLE alembic_version (version_num)")
    db.close()
    with pytest.raises(TrackingError, match="belongs to Optuna"):
        ensure_store(f"sqlite:///{path}")
    with pytest.raises(TrackingError, match="belongs to Optuna"):  # before anything is trained
        Tracker("optuna", f"sqlite:///{path}", tmp_path / "spool")


def test_a_newer_database_is_refused_and_an_older_one_copied_and_upgraded(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(template, path)
    db = sqlite3.connect(path)
    db.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    db.commit()
    with pytest.raises(TrackingError, match="newer MLflow"):
        ensure_store(f"sqlite:///{path}")
    older = store_module.revisions()[head_revision()]
    db.execute("UPDATE alembic_version SET version_num = ?", (older,))
    db.commit()
    db.close()
    calls = []

    def upgrade(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr("lanewise.tracking.store.subprocess.run", upgrade)
    ensure_store(f"sqlite:///{path}")
    assert calls == [[sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{path}"]]
    assert revision(tmp_path / f"mlflow.db.{older}.bak") == older


def test_network_file_systems_are_refused(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/sda / ext4 rw 0 0\nserver:/x /data nfs4 rw 0 0\ntmpfs /data/fast tmpfs rw 0 0\n")
    with pytest.raises(TrackingError, match="network file system"):
        refuse_network_file_system(Path("/data/study/mlflow.db"), str(mounts))
    refuse_network_file_system(Path("/data/fast/mlflow.db"), str(mounts))
    refuse_network_file_system(Path("/home/mlflow.db"), str(mounts))
    refuse_network_file_system(Path("/home/mlflow.db"), str(tmp_path / "none"))


def test_the_training_imports_neither_mlflow_nor_torch() -> None:
    code = (
        "import sys, lanewise.tracking; print({'mlflow', 'torch', 'pandas', 'pydantic'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_nothing_we_start_sends_telemetry_or_loads_pickles() -> None:
    found = store_module.quiet_environment()
    assert found["MLFLOW_DISABLE_TELEMETRY"] == "true" and found["DO_NOT_TRACK"] == "true"
    assert found["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert found["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
