"""A whole run with several objectives: the front in MLflow, in the report and on the terminal, and a replay."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from subprocess import CompletedProcess

import pytest

STUDY = """\
data: {source: rows.csv, target: kind}
space: {width: [8, 16, 32, 64], depth: [1, 2]}
search: {strategy: nsga2, objectives: [parameters], population: 4, trials: 12, lanes: 4}
train: {epochs: 2}
lr_range: {repeats: 2, steps: 20}
evaluate: {folds: 2, repeats: 1, finalists: 1, bootstrap: 100}
"""


@pytest.mark.slow
@pytest.mark.usefixtures("toy_rows")
def test_the_front_is_kept_shown_and_extended(
    lanewise: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "tiny.yaml").write_text(STUDY)
    ran = lanewise("run", "tiny.yaml")
    assert ran.returncode == 0, ran.stderr
    assert " on the Pareto front" in ran.stderr and "front " in ran.stdout + ran.stderr
    _same_front(tmp_path, 12)
    assert "| trial | " in next(tmp_path.rglob("report.md")).read_text().partition("Pareto front: ")[2]
    ran = lanewise("extend", "tiny.yaml", "--trials", "20")
    assert ran.returncode == 0, ran.stderr
    _same_front(tmp_path, 20)
    replayed = lanewise("replay", "tiny/trial-0003")
    assert replayed.returncode == 0 and "EXACT" in replayed.stdout, replayed.stdout + replayed.stderr


def _same_front(folder: Path, trials: int) -> None:
    """The tags and metrics in MLflow give the front that brute force finds in them."""
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as database:
        tags = dict(
            database.execute(
                "SELECT r.name, t.value FROM tags t JOIN runs r USING (run_uuid) WHERE t.key = 'lanewise.pareto'"
            )
        )
        named = dict(database.execute("SELECT run_uuid, name FROM runs WHERE lifecycle_stage = 'active'"))
        found: dict[str, dict[str, float]] = {}
        for run, key, value in database.execute("SELECT run_uuid, key, value FROM latest_metrics"):
            if key in ("objective", "size/parameters"):
                found.setdefault(named[run], {})[key] = value
    values = {
        name: (-row["objective"], row["size/parameters"]) for name, row in found.items() if len(row) == 2
    }
    front = {
        name
        for name, own in values.items()
        if not any(a <= own[0] and b <= own[1] and (a, b) != own for a, b in values.values())
    }
    assert tags == {name: json.dumps(name in front) for name in values} and front, (tags, values)
    assert 4 < len(values) <= trials
