"""What a run has left behind, in a form in which two runs compare equal; used by kill tests and the long loop."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lanewise import registry
from lanewise.ledger import read_trials
from lanewise.testing import toy_classification

ROOT = Path(__file__).parents[2]
STUDY = """\
data: {source: rows.csv, target: kind}
search: {trials: 16, lanes: 4, rung_first: 2, startup: 6}
train: {epochs: 10}
lr_range: {repeats: 2, steps: 20}
evaluate: {folds: 2, repeats: 1, finalists: 2, bootstrap: 100, baselines: false}
tracking: {checkpoint_seconds: 0.000001}
"""

Points = dict[str, list[tuple[str, int, float]]]


@dataclass(frozen=True)
class Outcome:
    """All but the clock.

    Args:
        trials: Every trial with its curve, as the ledger has it.
        champion: Manifest digest of the champion, loaded, verified and tried; None where there is none.
        histories: Run name -> (metric, step, value) of all points, as MLflow has them.
        running: Runs and flow runs that are not at their end.
    """

    trials: list[dict[str, Any]]
    champion: str | None
    histories: Points
    running: list[str]

    @property
    def ended(self) -> int:
        return len(self.trials)


def lanewise(
    folder: Path,
    environment: dict[str, str],
    command: str,
    *args: str,
    study: str = STUDY,
    file: str = "tiny.yaml",
    **more: str,
) -> subprocess.CompletedProcess[str]:
    """`lanewise COMMAND FILE ...` in a folder, which gets the study and its rows at the first call."""
    folder.mkdir(exist_ok=True)
    if not (folder / "tiny.yaml").exists():
        frame = toy_classification(240)
        frame.columns = [*frame.columns[:-1], "kind"]
        frame.to_csv(folder / "rows.csv", index=False)
        (folder / "tiny.yaml").write_text(study)
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", command, file, *args],
        cwd=folder,
        env=environment_of(environment | more),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def environment_of(more: dict[str, str]) -> dict[str, str]:
    """This process's, with the project on the path."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, **more}


def outcome(folder: Path, study: str, *, partial: bool = False) -> Outcome:
    """Read ledger, registry and MLflow of a study that was run in a folder.

    Args:
        partial: In between: MLflow's histories and open runs are not looked at.
    """
    ledgers = sorted(folder.glob(f".lanewise/studies/{study}/rows-*/ledger.db"))
    trials = [asdict(t) | {"seconds": 0} for t in read_trials(ledgers[0])] if ledgers else []
    database = folder / "mlruns" / "mlflow.db"
    champion = _champion(study, database) if database.exists() else None
    if partial:
        return Outcome(trials, champion, {}, [])
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as db:
        runs = db.execute("SELECT run_uuid, name, status FROM runs").fetchall()
        points = db.execute("SELECT run_uuid, key, step, value FROM metrics").fetchall()
    done = {run: name for run, name, status in runs if status == "FINISHED"}
    twice = [name for name, count in Counter(done.values()).items() if count > 1]
    assert not twice, f"finished more than once in MLflow: {twice}"
    histories: Points = {name: [] for name in done.values()}
    for run, key, step, value in points:
        if run in done:
            histories[done[run]].append((key, step, value))
    for history in histories.values():
        history.sort()
    return Outcome(trials, champion, histories, [name for _, name, status in runs if status == "RUNNING"])


def _champion(study: str, database: Path) -> str | None:
    """Read from the tables: MLflow's client would keep a connection to a database that tests put back."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        found = db.execute(
            "SELECT v.source FROM registered_model_aliases a JOIN model_versions v"
            " ON v.name = a.name AND v.version = a.version WHERE a.alias = 'champion' AND a.name = ?",
            (study,),
        ).fetchone()
    if found is None:
        return None
    model = found[0].removeprefix("models:/")
    return registry.verify(
        database.parent / "artifacts" / study / "models" / model / "artifacts" / "model"
    ).digest
