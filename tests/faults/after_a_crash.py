"""What a run has left behind, in a form in which two runs compare equal; used by kill tests and the long loop."""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lanewise import registry, tracking
from lanewise.errors import TrackingError
from lanewise.ledger import read_trials

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


def outcome(folder: Path, study: str, *, partial: bool = False) -> Outcome:
    """Read ledger, registry and MLflow of a study that was run in a folder.

    Args:
        partial: In between: MLflow's histories and open runs are not looked at.
    """
    ledgers = sorted(folder.glob(f".lanewise/studies/{study}/rows-*/ledger.db"))
    trials = [asdict(t) | {"seconds": 0} for t in read_trials(ledgers[0])] if ledgers else []
    database = folder / "mlruns" / "mlflow.db"
    champion = _champion(study, f"sqlite:///{database}") if database.exists() else None
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


def _champion(study: str, uri: str) -> str | None:
    try:
        if tracking.alias_version(study, "champion", uri) is None:
            return None
        folder = tracking.fetch(f"models:/{study}@champion", uri)
    except TrackingError:
        return None
    return registry.verify(folder).digest
