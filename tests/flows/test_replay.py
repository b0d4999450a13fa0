"""A whole tracked run, then every way to replay its trials; each ingredient is changed on purpose and named."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lanewise.errors import DataError, StudyError
from lanewise.tracking import latest_run, read_text, read_trial
from tasks.replay import Replayed, replay
from tasks.replay_log import FILE, kept

ROOT = Path(__file__).parents[2]
STUDY = """
name: replayed
data: {source: rows.csv, target: y}
space: {depth: [1, 2], width: [8, 16], optimizer: [sgd, adamw], lr: {low: 1e-3, high: 900, log: true}}
lr_range: {enabled: false}
train: {epochs: 6, patience: 4}
search: {trials: 24, lanes: 8, startup: 12, rung_first: 1, max_failures: 24}
evaluate: {folds: 2, repeats: 1, finalists: 1, baselines: false, bootstrap: 100}
"""

pytestmark = pytest.mark.slow
Lanewise = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sklearn.datasets import load_diabetes

    folder = tmp_path_factory.mktemp("replayed")
    rows = load_diabetes(as_frame=True)
    rows.frame.rename(columns={"target": "y"}).to_csv(folder / "rows.csv", index=False)
    (folder / "study.yaml").write_text(STUDY, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def command(folder: Path, prefect_template: Path) -> Lanewise:
    """Runs `lanewise ...` in the folder of the study."""
    home = shutil.copytree(prefect_template, folder / "prefect-home")

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "flows.cli", *args],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=240,
        )

    return run


@pytest.fixture(scope="module")
def uri(folder: Path, command: Lanewise) -> str:
    """Address of the tracked run, which is made here."""
    done = command("run", "study.yaml", "-q")
    assert done.returncode == 0, done.stderr
    return f"sqlite:///{folder}/mlruns/mlflow.db"


@pytest.fixture
def again(uri: str) -> Callable[..., Replayed]:
    def run(number: int = 0, **options: object) -> Replayed:
        return replay(f"replayed/trial-{number:04d}", uri=uri, **options)  # type: ignore[arg-type]

    return run


def ingredients(found: Replayed) -> list[str]:
    return [change.ingredient for change in found.verdict.changed]


@contextmanager
def row(uri: str, table: str, key: str, column: str, change: object) -> Iterator[str]:
    """Change one value of trial-0000 in MLflow's database, and put it back."""
    run = read_trial("trial-0000", uri=uri, study="replayed")["run_id"]
    where = f"WHERE run_uuid = ? AND {key}"
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as db:
        (before,) = db.execute(f"SELECT {column} FROM {table} {where}", (run,)).fetchone()
        value = change(before) if callable(change) else change
        db.execute(f"UPDATE {table} SET {column} = ? {where}", (value, run))
    try:
        yield run
    finally:
        with sqlite3.connect(uri.removeprefix("sqlite:///")) as db:
            db.execute(f"UPDATE {table} SET {column} = ? {where}", (before, run))


def test_every_trial_finished_pruned_or_failed_has_its_recorded_bits(uri: str, again) -> None:
    states = {}
    for number in range(24):
        found = again(number)
        assert found.verdict.answer == "EXACT" and not found.verdict.changed, found.words()
        assert not found.verdict.unrecorded
        assert found.verdict.epochs == found.epochs_recorded >= 1
        record = read_trial(f"trial-{number:04d}", uri=uri, study="replayed")
        recorded = sum(len(points) for name, points in record["metrics"].items() if "/" in name)
        assert found.verdict.values == recorded + (found.state == "failed")  # every number, and the failure
        states[found.state] = states.get(found.state, 0) + 1
    assert {"complete", "pruned", "failed"} <= set(states), states


def test_the_study_is_in_the_record_without_its_address(uri: str) -> None:
    text = read_text(latest_run("pipeline", uri=uri, study="replayed"), "study.json", uri=uri)
    assert text is not None and "sqlite" not in text
    assert json.loads(text)["study"]["train"]["epochs"] == 6


def test_the_command_answers_by_text_json_and_exit_code(uri: str, command: Lanewise) -> None:
    same = command("replay", "replayed/trial-0001", "--epochs", "1")
    assert same.returncode == 0, same.stderr
    assert same.stdout.splitlines()[1] == "EXACT: all 3 values of 1 epoch have the recorded bits"
    other = command("replay", "replayed/trial-0001", "--set", "train.epochs=60", "--json")
    answer = json.loads(other.stdout)
    assert (other.returncode, answer["answer"], answer["trial"]) == (1, "DIFFERENT", "trial-0001")
    assert [change["ingredient"] for change in answer["changed"]] == ["train.epochs"]
    wrong = command("replay", "replayed")
    assert wrong.returncode == 2 and "names no trial" in wrong.stderr and "Traceback" not in wrong.stderr


def test_the_first_epochs_alone_are_compared(again) -> None:
    found = again(0, epochs=3)
    assert (found.verdict.answer, found.verdict.epochs, found.epochs_recorded) == ("EXACT", 3, 6)


def test_best_is_the_trial_the_champion_comes_from(uri: str, folder: Path) -> None:
    record = read_trial("final", uri=uri, study="replayed")
    winner = record["tags"]["lanewise.winner"]
    by_name = replay("replayed", best=True, uri=uri, epochs=1)
    by_file = replay(str(folder / "study.yaml"), best=True, uri=uri, epochs=1)
    assert by_name.trial == by_file.trial == ("trial-0000" if winner == "default" else winner)
    assert by_name.verdict.answer == "EXACT"


def test_a_data_row_that_changed_is_named(folder: Path, again) -> None:
    text = (folder / "rows.csv").read_text(encoding="utf-8")
    lines = text.splitlines()
    cells = lines[1].split(",")
    lines[1] = ",".join([*cells[:-1], str(float(cells[-1]) + 100.0)])
    try:
        (folder / "rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        found = again()
    finally:
        (folder / "rows.csv").write_text(text, encoding="utf-8")
    assert found.verdict.answer == "DIFFERENT" and ingredients(found) == ["data"]
    assert found.verdict.first is not None and found.verdict.first.epoch == 1


def test_another_split_is_named(again) -> None:
    found = again(overrides={"seed": "7"})
    assert found.verdict.answer == "DIFFERENT" and ingredients(found) == ["seed", "split"]
    assert found.verdict.first is not None
    assert (found.verdict.first.epoch, found.verdict.first.metric) == (1, "train/loss")


@pytest.mark.parametrize(
    ("tag", "value", "name"),
    [
        ("code", "0" * 16, "code"),
        ("network", "0" * 16, "network"),
        ("libraries", lambda text: json.dumps(json.loads(text) | {"torch": "2.12.0+cpu"}), "torch"),
        ("libraries", lambda text: json.dumps(json.loads(text) | {"numpy": "2.3.0"}), "numpy"),
        ("device", "cuda, NVIDIA H100", "device"),
    ],
)
def test_a_changed_ingredient_of_the_record_is_named_and_no_other(
    uri: str, again, tag: str, value: object, name: str
) -> None:
    with row(uri, "tags", f"key = 'lanewise.{tag}'", "value", value):
        found = again()
    assert ingredients(found) == [name]
    assert found.verdict.answer == "EXACT"  # nothing but the record's word was changed
    assert not ingredients(again(epochs=1))


def test_threads_are_those_of_the_record_unless_others_are_asked_for(uri: str, again) -> None:
    other = again(overrides={"train.threads": "2"})
    assert [(c.ingredient, c.recorded, c.now) for c in other.verdict.changed] == [("threads", "1", "2")]
    with row(uri, "tags", "key = 'lanewise.threads'", "value", "2"):
        assert not ingredients(again())


@pytest.mark.parametrize(
    ("factor", "answer"), [(1 + 1e-9, "WITHIN TOLERANCE"), (1 + 1e-3, "DIFFERENT")], ids=["near", "far"]
)
def test_one_changed_value_is_found_by_epoch_and_metric(uri: str, again, factor: float, answer: str) -> None:
    with row(uri, "metrics", "key = 'valid/rmse' AND step = 4", "value", lambda value: value * factor):
        found = again().verdict
    assert found.answer == answer and found.differing == 1 and found.first == found.largest
    assert found.first is not None and (found.first.epoch, found.first.metric) == (4, "valid/rmse")


def test_data_that_moved_are_asked_for_and_found_again(folder: Path, again, tmp_path: Path) -> None:
    moved = tmp_path / "moved.csv"
    (folder / "rows.csv").rename(moved)
    try:
        with pytest.raises(DataError) as refused:
            again()
        assert str(folder / "rows.csv") in str(refused.value)
        assert "lanewise replay replayed/trial-0000 --set data.source=FILE" in str(refused.value)
        found = again(overrides={"data.source": str(moved)})
    finally:
        moved.rename(folder / "rows.csv")
    assert found.verdict.answer == "EXACT" and ingredients(found) == ["data.source"]


def test_a_gpu_that_is_asked_for_and_not_there_is_refused(again) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(StudyError, match="no GPU"):
        again(overrides={"train.device": "cuda"})
    with pytest.raises(StudyError, match="--tracking-uri"):
        again(overrides={"tracking.uri": "sqlite:///x.db"})


def test_replays_are_kept_with_the_study_and_its_next_report_counts_them(
    uri: str, folder: Path, command: Lanewise, again
) -> None:
    """Last: the page of the run knew of no replay, the one written after them counts them."""
    again(0)
    again(1)
    (log,) = folder.glob(f".lanewise/studies/replayed/rows-*/{FILE}")
    lines = kept(log.parent)
    assert [line["trial"] for line in lines[-2:]] == ["trial-0000", "trial-0001"]
    assert all(line["answer"] == "EXACT" for line in lines[-2:])
    page = folder / ".lanewise/studies/replayed/report.md"
    assert "none of 24" in page.read_text(encoding="utf-8").replace("\u00a0", " ")
    done = command("run", "study.yaml", "-q")
    assert done.returncode == 0, done.stderr
    said = page.read_text(encoding="utf-8").replace("\u00a0", " ")
    assert "24 of 24 trials trained again from the record alone: 24 gave the recorded bits" in said
