"""Whether everything that is kept of a study agrees: ledger, MLflow, registry and Prefect; `lanewise verify`.

It trains nothing and, unless asked to repair, changes nothing. The tests that kill runs use the same checks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lanewise import registry, tracking
from lanewise.errors import LanewiseError, StudyError
from lanewise.ledger import Reading, TrialRecord, read_ledger
from lanewise.owner import owner_in
from lanewise.study import Study, load_study
from tasks.job import LOCK
from tasks.search import STATES, trial_key
from tasks.status import searched
from tasks.study_record import latest_rows, ledger_place, study_folder
from tasks.sweep import FILE, is_open, sweep

SHOWN = 5  # faults of one kind that are named


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Args:
        part: ledger, mlflow, running, spool, champion or prefect.
        ok: It is as it must be.
        says: What was found.
        remedy: What to do where it is not.
    """

    part: str
    ok: bool
    says: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f"; {self.remedy}" if self.remedy and not self.ok else ""
        return f"{'ok   ' if self.ok else 'WRONG'}  {self.part:9} {self.says}{remedy}"


def verify_study(path: Path, overrides: Mapping[str, str], *, repair: bool = False) -> list[Check]:
    """Look at all of it.

    Args:
        repair: First deliver what waits, and close what dead processes left open.

    Raises:
        StudyError: The study file is wrong, or the study was never searched.
    """
    study = load_study(path, overrides)
    folder = study_folder(Path(study.tracking.home).absolute(), study.name)
    owner = owner_in(folder / LOCK)
    held = owner is not None and owner.alive() is not False
    rows = latest_rows(study)
    if rows is None or not searched(study, rows):
        raise StudyError("the study was never searched", where=path, remedy=f"lanewise run {path}")
    uri = tracking.absolute_uri(study.tracking.uri)
    spool = rows / "spool"
    ledger = ledger_place(study, rows)
    if repair and not held:
        tracking.deliver(spool, uri)
        sweep(folder)
    again = f"lanewise verify {path} --repair" if not held else "it is running: look again when it has ended"
    return [
        *_ledger(ledger, held, path),
        *_mlflow(study, ledger, spool, uri, held, again),
        *_champion(study, uri),
        *_prefect(folder, held, again),
    ]


def _ledger(place: tuple[Path | str, str], held: bool, study: Path) -> Iterator[Check]:
    try:
        found = read_ledger(*place, check=not held)
    except LanewiseError as error:
        yield Check("ledger", False, error.what, error.remedy or "")
        return
    lost = found.running and not held
    says = f"{len(found.trials)} trials have ended"
    yield Check("ledger", True, f"{says}, {len(found.running)} to go on with" if lost else says)
    numbers = [trial.number for trial in found.trials] + found.running
    missing = sorted(set(range(max(numbers, default=-1) + 1)) - set(numbers))
    if missing:
        yield Check("ledger", False, f"no trace of {_some(map(trial_key, missing))}", f"lanewise run {study}")


def _mlflow(
    study: Study, place: tuple[Path | str, str], spool: Path, uri: str, held: bool, again: str
) -> Iterator[Check]:
    waiting = tracking.waiting(spool)
    yield Check("spool", not waiting or held, f"{waiting} records wait for MLflow", again)
    try:
        reading, runs = read_ledger(*place), tracking.read_runs(study.name, spool, uri=uri)
    except LanewiseError as error:
        yield Check("mlflow", False, f"{error.what} ({error.given})", error.remedy or "")
        return
    running = [run["key"] for run in runs if run["status"] == "RUNNING"]
    yield Check(
        "running", held or not running,
        f"{_some(running)} in MLflow" if running else "nothing is left running in MLflow", again,
    )  # fmt: skip
    wrong = list(disagreements(reading, runs))
    yield Check(
        "mlflow", held or not wrong,
        _some(wrong) if wrong else f"{len(reading.trials)} trials, each told once, with the ledger's values", again,
    )  # fmt: skip


def disagreements(ledger: Reading, runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Where MLflow does not say what the ledger says: a trial's end, its value, its curve, or told twice.

    Args:
        runs: As given by `tracking.read_runs`.
    """
    told: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        if run["status"] != "RUNNING" and run["state"] != "abandoned":
            told.setdefault(run["key"], []).append(run)
    for key, found in told.items():
        if len(found) > 1 and key.startswith("trial-"):  # the others are told anew when they say something new
            yield f"{key} has ended {len(found)} times"
    for trial in ledger.trials:
        key = trial_key(trial.number)
        if key not in told:
            yield f"{key} is not there"
        elif differs := _differs(trial, told[key][0]):
            yield f"{key}: {differs}"
    unknown = {trial_key(trial.number) for trial in ledger.trials}
    yield from (f"{key} is in MLflow only" for key in told if key.startswith("trial-") and key not in unknown)


def _differs(trial: TrialRecord, run: Mapping[str, Any]) -> str | None:
    if run["state"] != STATES[trial.state]:
        return f"state {run['state']}, not {STATES[trial.state]}"
    metrics: dict[str, list[tuple[int, float]]] = dict(run["metrics"])
    value = [v for _, v in metrics.pop("objective", [])]
    if value != ([trial.value] if trial.state in ("complete", "duplicate") else []):
        return f"objective {value}, not {trial.value}"
    expected: dict[str, list[tuple[int, float]]] = {}
    for epoch, row in enumerate(trial.curve, 1):
        for name, point in row.items():
            if point is not None:
                expected.setdefault(name, []).append((epoch, point))
    return None if metrics == expected else "another curve"


def _champion(study: Study, uri: str) -> Iterator[Check]:
    name = study.model_name
    try:
        version = tracking.alias_version(name, "champion", uri)
        if version is None:
            yield Check("champion", True, f"{name} has none")
            return
        registry.load(  # its hashes, its signature, and that it predicts what it predicted
            f"models:/{name}/{version}",
            search_path=[study.base_dir],
            fetch=lambda address: tracking.fetch(address, uri),
        )
    except LanewiseError as error:
        where = f" ({error.where})" if error.where else ""
        yield Check("champion", False, f"{error.what}{where}", "move the alias to a version that loads")
        return
    yield Check("champion", True, f"{name} version {version} is complete and predicts as it did when registered")


def _prefect(folder: Path, held: bool, again: str) -> Iterator[Check]:
    note = folder / FILE
    left = note.exists() and not held and is_open(note.read_text(encoding="utf-8").strip())
    yield Check(
        "prefect", not left,
        "a run whose process is gone is shown as running" if left else "nothing is left running in Prefect", again,
    )  # fmt: skip


def _some(names: Any) -> str:
    found = list(names)
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more


def as_json(checks: Sequence[Check]) -> str:
    """What `--json` prints."""
    return json.dumps([vars(check) for check in checks], indent=2)
