"""A whole run of iterative random search with a noise floor: what MLflow keeps of it and the report shows."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from lanewise.space import Space

STUDY = """\
data: {source: rows.csv, target: kind}
search: {strategy: iterative, round_trials: 4, noise_seeds: 3, trials: 16, lanes: 4, pruner: none}
train: {epochs: 2}
lr_range: {repeats: 2, steps: 20}
evaluate: {folds: 2, repeats: 1, finalists: 1, bootstrap: 100}
"""


@pytest.mark.slow
@pytest.mark.usefixtures("toy_rows")
def test_every_round_is_kept_and_shown(
    lanewise: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(STUDY)
    ran = lanewise("run", path.name)
    assert ran.returncode == 0, ran.stderr
    files = sorted((tmp_path / "mlruns").rglob("artifacts/space/round-*.json"))
    rounds = [json.loads(file.read_text()) for file in files]
    # four lanes, two epochs each: four trials end in every second tick, but two of the first repeat the default
    assert [(one["number"], one["tick"], one["first"], one["trials"]) for one in rounds] == [
        (0, 0, 0, 6), (1, 4, 8, 4), (2, 6, 12, 4),
    ]  # fmt: skip
    spaces = [Space.from_json(one["space"]) for one in rounds]
    assert len({space.parameters["weight_decay"].bounds for space in spaces}) > 1
    page = next(tmp_path.rglob("report.md"))  # one beside the study and one in MLflow
    shown = page.read_text().partition("| round |")[2].splitlines()
    assert [line.split("|")[1:3] for line in shown[2:5]] == [
        [" 0 ", " 0 to 7 "], [" 1 ", " 8 to 11 "], [" 2 ", " 12 to 15 "],
    ]  # fmt: skip
    assert "trained with 3 seeds, the default has" in page.read_text() and "noise floor" in ran.stderr
    with closing(sqlite3.connect(tmp_path / "mlruns" / "mlflow.db")) as database:
        tags = (
            "SELECT r.name, t.value FROM tags t JOIN runs r USING (run_uuid) WHERE t.key = 'lanewise.repeats'"
        )
        assert sorted(database.execute(tags)) == [("trial-0001", "trial-0000"), ("trial-0002", "trial-0000")]


@pytest.mark.slow
@pytest.mark.usefixtures("toy_rows")
def test_a_warm_start_is_kept_where_the_earlier_study_is_deleted(
    lanewise: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text(
        STUDY.replace("strategy: iterative, round_trials: 4, noise_seeds: 3", "strategy: random")
    )
    second.write_text(STUDY.replace("noise_seeds: 3", "warm_start: [first]"))
    assert lanewise("run", first.name).returncode == 0
    ran = lanewise("run", second.name)
    assert ran.returncode == 0 and "learning from 16 of 16 trials of first" in ran.stderr, ran.stderr
    shutil.rmtree(tmp_path / ".lanewise" / "studies" / "first")
    ran = lanewise("extend", second.name, "--trials", "20")
    assert ran.returncode == 0, ran.stderr
    page = next(tmp_path.glob(".lanewise/studies/second/report.md")).read_text()
    assert "16\N{NO-BREAK SPACE}trials of earlier studies" in page
