"""The durable record of one study: every report, every trial's end; written by the search, read on resume.

One SQLite file for each study, one transaction for each tick, one process at a time. A study is continued
by replaying its search over these reports, so they are kept bit for bit. The ledger decides nothing and
trains nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from lanewise.errors import StudyError, TrackingError
from lanewise.owner import hold
from lanewise.space import Config, Space
from lanewise.study import Study

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 60.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS trials (
    number INTEGER PRIMARY KEY, config TEXT NOT NULL, seed INTEGER NOT NULL, control INTEGER NOT NULL,
    state TEXT NOT NULL, reason TEXT, value REAL, epochs INTEGER NOT NULL, best_epoch INTEGER,
    seconds REAL NOT NULL, duplicate_of INTEGER);
CREATE TABLE IF NOT EXISTS reports (
    number INTEGER NOT NULL, epoch INTEGER NOT NULL, train_loss REAL, scores TEXT NOT NULL,
    finished INTEGER NOT NULL, failed TEXT, PRIMARY KEY (number, epoch)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ticks (tick INTEGER PRIMARY KEY, elapsed_s REAL NOT NULL);
"""
_SELECT_TRIALS = """
SELECT number, config, seed, control, state, reason, value, epochs, best_epoch, seconds, duplicate_of
FROM trials WHERE state != 'running' ORDER BY number
"""
_START_TRIAL = """
INSERT OR REPLACE INTO trials VALUES (?, ?, ?, 0, 'running', NULL, NULL, 0, NULL, 0, NULL)
"""
_END_TRIAL = """
INSERT OR REPLACE INTO trials VALUES (
    :number, :config, :seed, :control, :state, :reason, :value, :epochs, :best_epoch, :seconds, :duplicate_of)
"""
_SELECT_REPORTS = """
SELECT number, epoch, train_loss, scores, finished, failed FROM reports ORDER BY number, epoch
"""
_SELECT_REPORTS_OF = """
SELECT number, epoch, train_loss, scores, finished, failed FROM reports WHERE number = ? ORDER BY epoch
"""

State = Literal["complete", "pruned", "failed", "duplicate"]


@dataclass(frozen=True)
class Report:
    """One epoch of one lane.

    Args:
        number: Trial number.
        epoch: Epochs trained so far, from 1.
        train_loss: Mean training loss of the epoch; may be NaN or infinite, which fails the trial.
        scores: `valid/<metric>` -> value, natural direction; NaN where undefined.
        finished: The lane has trained its last epoch (all of them, or out of patience).
        failed: Why the lane cannot go on, else None.
    """

    number: int
    epoch: int
    train_loss: float
    scores: Mapping[str, float]
    finished: bool = False
    failed: str | None = None


@dataclass(frozen=True)
class TrialRecord:
    """What became of one trial.

    Args:
        value: Best objective over its epochs, natural direction; that of the original for a duplicate;
            None where it failed. Only complete trials compete: a pruned one's value is of a short training.
        epochs: Epochs trained; 0 for a duplicate.
        curve: One mapping for each epoch: `train/loss` and `valid/<metric>`; None for NaN and infinity.
        control: Its learning rate came from the un-narrowed range.
        seconds: Wall-clock time from its first tick to its last, beside its neighbours.
        duplicate_of: The trial with the same configuration, which was trained in its place.
    """

    number: int
    config: Config
    seed: int
    state: State
    reason: str | None = None
    value: float | None = None
    epochs: int = 0
    best_epoch: int | None = None
    curve: list[dict[str, float | None]] = field(default_factory=list)
    control: bool = False
    seconds: float = 0.0
    duplicate_of: int | None = None


def curve_row(report: Report) -> dict[str, float | None]:
    """One entry of a trial's curve: its training loss and scores, None for what is not finite."""
    return {"train/loss": finite(report.train_loss)} | {k: finite(v) for k, v in report.scores.items()}


def finite(value: float) -> float | None:
    """The value, or None where it is NaN or infinite: those are never stored."""
    return value if math.isfinite(value) else None


def definition(study: Study, space: Space, *, metric: str, direction: str, data: str) -> dict[str, Any]:
    """What must not change between two runs of one study, as plain JSON.

    Budgets and the number of lanes may: a search that is continued with more trials gives what a longer
    one would have given.

    Args:
        space: As searched, so after the learning-rate range was narrowed.
        metric: The objective, resolved (never "auto").
        data: Fingerprint of rows and splits.
    """
    free = {"trials", "epochs", "seconds", "lanes", "max_failures"}
    search = study.search.model_dump(mode="json", exclude=free)
    return {
        "seed": study.seed,
        "model": study.model.model_dump(mode="json"),
        "space": space.to_json(),
        "train": study.train.model_dump(mode="json", exclude={"threads"}),
        "search": search | {"metric": metric, "direction": direction},
        "control_share": study.lr_range.control_share,
        "data": data,
    }


class Ledger:
    """The open ledger of one study, held by this process until `close`; a context manager.

    Use it from one thread at a time.

    Args:
        path: The SQLite file; its folder is made. `<path>.lock` beside it is held under flock.
        definition: As made by `definition`.

    Raises:
        StudyHeldError: Another run holds the study.
        StudyError: The ledger belongs to another definition of the study.
        TrackingError: The file cannot be read or written, or is of another version.
    """

    def __init__(self, path: Path, definition: Mapping[str, Any]) -> None:
        self.path = path
        with _storage(path):
            self._lock = hold(path.with_name(path.name + ".lock"))  # before anything is read
        try:
            with _storage(path):
                # Tasks may run a generator's steps on different threads, one after another.
                self._db = sqlite3.connect(
                    path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
                )
                self._db.execute("PRAGMA journal_mode=WAL")
                # FULL: one fsync for each tick, so what was printed as finished survives a power cut too;
                # NORMAL would lose the last ticks there. For each report it would be too dear.
                self._db.execute("PRAGMA synchronous=FULL")
                self._db.executescript(_SCHEMA)
                self._check(definition)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let the study go."""
        if hasattr(self, "_db"):
            self._db.close()
        self._lock.close()  # closing the file releases the flock

    def settle(self, key: str, value: Any) -> Any:
        """Keep a measured decision: the first value ever given for `key` is returned, now and after a resume.

        For what would make a resumed search another one, such as the number of lanes found by measuring.
        """
        with self._transaction():
            text = json.dumps(value, sort_keys=True)
            self._db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (f"settled/{key}", text))
            return json.loads(self._meta(f"settled/{key}") or text)

    def write(
        self,
        tick: int,
        elapsed_s: float,
        *,
        started: Sequence[tuple[int, Config, int]],
        reports: Sequence[Report],
        ended: Sequence[TrialRecord],
    ) -> None:
        """Write all of one tick in one transaction; writing it again changes nothing.

        Args:
            tick: From 1.
            elapsed_s: Seconds of search up to its end.
            started: (number, configuration, seed) of the trials whose first epoch it was.
            reports: A report that is there already stays: the same trial trained again gives the same.
            ended: Trials that ended; a later end replaces an earlier one.
        """
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO ticks VALUES (?, ?)", (tick, elapsed_s))
            for number, config, seed in started:
                if self.started_with(number) not in (None, (config, seed)):  # another configuration's reports
                    self._db.execute("DELETE FROM reports WHERE number = ?", (number,))
            self._db.executemany(_START_TRIAL, [(n, json.dumps(config), seed) for n, config, seed in started])
            self._db.executemany(
                "INSERT OR IGNORE INTO reports VALUES (?, ?, ?, ?, ?, ?)", map(_report_row, reports)
            )
            self._db.executemany(_END_TRIAL, map(_trial_row, ended))

    def started_with(self, number: int) -> tuple[Config, int] | None:
        """Configuration and seed with which a trial was last started, None if it never was."""
        row = self._db.execute("SELECT config, seed FROM trials WHERE number = ?", (number,)).fetchone()
        return None if row is None else (json.loads(row[0]), row[1])

    def reports(self, number: int) -> list[Report]:
        """The recorded reports of one trial by epoch; NaN stands for every value that was not finite."""
        return [_report(*row) for row in self._db.execute(_SELECT_REPORTS_OF, (number,))]

    def ticks(self) -> list[float]:
        """Seconds of search up to the end of each recorded tick, from the first."""
        return [row[0] for row in self._db.execute("SELECT elapsed_s FROM ticks ORDER BY tick")]

    def trials(self) -> list[TrialRecord]:
        """Every trial that has ended, by number, with its curve."""
        return _read_trials(self._db)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _storage(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _meta(self, key: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def _check(self, definition: Mapping[str, Any]) -> None:
        """Write the definition into a new ledger; refuse an old one that has another."""
        text = json.dumps(definition, sort_keys=True, allow_nan=False)
        digest = hashlib.sha256(text.encode()).hexdigest()
        version = self._meta("schema_version")
        if version is None:
            rows = {"schema_version": str(SCHEMA_VERSION), "definition_sha256": digest, "definition": text}
            with self._transaction():
                self._db.executemany("INSERT INTO meta VALUES (?, ?)", rows.items())
            return
        if version != str(SCHEMA_VERSION):
            raise TrackingError(
                "the ledger was written by another version of Lanewise",
                where=self.path,
                given=f"version {version}",
                rule=f"version {SCHEMA_VERSION}",
                remedy="use that version of Lanewise, or give the study a new name",
            )
        if self._meta("definition_sha256") != digest:
            changes = list(_changes(json.loads(self._meta("definition") or "{}"), json.loads(text)))
            more = f"; and {len(changes) - 8} more" if len(changes) > 8 else ""
            raise StudyError(
                "the study exists with another definition",
                where=self.path,
                given="; ".join(changes[:8]) + more,
                rule="a study goes on with the definition it began with; only budgets and lanes may change",
                remedy="give the study a new `name`, or undo the change",
            )


@dataclass(frozen=True)
class Reading:
    """What a ledger holds at one moment.

    Args:
        definition: As the study began; see `definition`.
        trials: Every trial that has ended, by number.
        running: Numbers of those that have begun and not ended.
    """

    definition: Mapping[str, Any]
    trials: list[TrialRecord]
    running: list[int]


def read_ledger(path: Path) -> Reading:
    """Read without holding the study: a search may be writing meanwhile.

    Raises:
        TrackingError: There is no ledger, or it cannot be read.
    """
    with _storage(path):
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
        try:
            (text,) = db.execute("SELECT value FROM meta WHERE key = 'definition'").fetchone() or ("{}",)
            running = db.execute("SELECT number FROM trials WHERE state = 'running' ORDER BY number")
            return Reading(json.loads(text), _read_trials(db), [row[0] for row in running])
        finally:
            db.close()


def read_trials(path: Path) -> list[TrialRecord]:
    """Every trial that has ended; see `read_ledger`."""
    return read_ledger(path).trials


def _read_trials(db: sqlite3.Connection) -> list[TrialRecord]:
    db.execute("BEGIN")  # trials and reports of one moment
    try:
        found = db.execute(_SELECT_TRIALS)
        names = [column[0] for column in found.description]
        rows = [dict(zip(names, row, strict=True)) for row in found]
        curves: dict[int, list[dict[str, float | None]]] = {}
        for row in db.execute(_SELECT_REPORTS):
            report = _report(*row)
            curves.setdefault(report.number, []).append(curve_row(report))
    finally:
        db.execute("ROLLBACK")
    for row in rows:
        row["config"], row["control"] = json.loads(row["config"]), bool(row["control"])
        row["curve"] = curves.get(row["number"], [])[: row["epochs"]]  # later ones: of a run with more budget
    return [TrialRecord(**row) for row in rows]


def _trial_row(trial: TrialRecord) -> dict[str, Any]:
    """The trial's columns; its curve is in its reports."""
    return {**vars(trial), "config": json.dumps(trial.config), "curve": None}


def _report_row(report: Report) -> tuple[Any, ...]:
    scores = json.dumps({name: finite(value) for name, value in report.scores.items()}, allow_nan=False)
    return report.number, report.epoch, finite(report.train_loss), scores, report.finished, report.failed


def _report(
    number: int, epoch: int, train_loss: float | None, scores: str, finished: int, failed: str | None
) -> Report:
    read = {name: _or_nan(value) for name, value in json.loads(scores).items()}
    return Report(number, epoch, _or_nan(train_loss), read, bool(finished), failed)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


@contextmanager
def _storage(path: Path) -> Iterator[None]:
    """Turn the errors of SQLite and the file system into one a user can act on."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise TrackingError(
            f"the ledger cannot be used: {error}",
            where=path,
            rule="a sound ledger, and a folder that can be written and has room",
            remedy="free space or correct permissions and run it again; move a damaged file away",
        ) from error


def _changes(old: Any, new: Any, place: str = "") -> Iterator[str]:
    """What differs between two JSON values, as `place: old -> new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            inner = f"{place}.{key}" if place else key
            if key not in old or key not in new:
                yield f"{inner}: {_short(old.get(key, 'absent'))} -> {_short(new.get(key, 'absent'))}"
            else:
                yield from _changes(old[key], new[key], inner)
    elif old != new or type(old) is not type(new):
        yield f"{place}: {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
