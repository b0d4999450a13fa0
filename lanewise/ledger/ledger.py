"""The durable record of one study: every report, every trial's end; written by the search, read on resume.

One transaction for each tick, one process at a time. A study is continued by replaying its search over these
reports, so they are kept bit for bit. The ledger decides nothing and trains nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from lanewise.errors import StudyError, StudyHeldError, TrackingError
from lanewise.ledger.definition import changes
from lanewise.ledger.postgres import PostgresStore
from lanewise.ledger.records import (
    Reading,
    Report,
    TrialRecord,
    curve_row,
    report_of,
    report_row,
    start_row,
    trial_of,
    trial_row,
)
from lanewise.ledger.soundness import Tally
from lanewise.ledger.stores import TABLES, Row, Rows, SqliteStore, Store
from lanewise.ledger.upgrade import SCHEMA_VERSION, present_columns, upgrade
from lanewise.space import Config

T = TypeVar("T")
_TALLY, _FENCE = "tally", "fence"
_log = logging.getLogger("lanewise.ledger")


def open_store(where: Path | str) -> Store:
    """The store at a path, or at an address postgresql://..."""
    text = str(where)
    return PostgresStore(text) if text.startswith("postgresql:") else SqliteStore(Path(text))


class Ledger:
    """The open ledger of one study, held by this process until `close`; a context manager.

    Use it from one thread at a time.

    Args:
        where: The SQLite file, whose folder is made, or an address postgresql://...
        definition: As made by `definition`.
        study: Its name among the ledgers of this store; a file of its own needs none.

    Raises:
        StudyHeldError: Another run holds the study.
        StudyError: The ledger belongs to another definition of the study.
        TrackingError: It cannot be read or written, is damaged, or is of a newer version.
    """

    def __init__(self, where: Path | str, definition: Mapping[str, Any], study: str = "") -> None:
        self._store, self._study = open_store(where), study
        self._wrote = False
        self._fence = uuid.uuid4().hex
        try:
            self._store.hold(study)
            self._store.make()
            self._check_version()
            self._store.check()
            self._store.write(lambda run: _set(run, study, _FENCE, self._fence))
            self._check_rows()
            self._check_definition(definition)
        except BaseException:
            self._store.close()
            raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Keep a copy of what was written, close the store and let the study go."""
        if self._wrote:
            self._store.keep_good()
        self._store.close()

    def settled(self, key: str) -> Any:
        """What `settle` keeps for `key`; None where it was never settled."""
        text = self._store.read(lambda run: _get(run, self._study, f"settled/{key}"))
        return None if text is None else json.loads(text)

    def settle(self, key: str, value: Any) -> Any:
        """Keep a measured decision: the first value ever given for `key` is returned, now and after a resume.

        For what would make a resumed search another one, such as the number of lanes found by measuring.
        """

        def work(run: Rows) -> Any:
            name, text = f"settled/{key}", json.dumps(value, sort_keys=True)
            run("INSERT INTO meta VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (self._study, name, text))
            return json.loads(_get(run, self._study, name) or text)

        return self._write(work)

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

        def work(run: Rows) -> None:
            tally = Tally.of(_get(run, self._study, _TALLY))
            self._put(run, tally, "ticks", (tick, float(elapsed_s)))
            for number, config, seed in started:
                if _started_with(run, self._study, number) not in (None, (config, seed)):
                    self._forget_reports(run, tally, number)  # of another configuration
                self._put(run, tally, "trials", start_row(number, config, seed))
            for report in reports:
                self._put(run, tally, "reports", report_row(report), keep=True)
            for trial in ended:
                self._put(run, tally, "trials", trial_row(trial))
            _set(run, self._study, _TALLY, str(tally))

        self._write(work)
        self._wrote = True
        self._acknowledge(tick)

    def started_with(self, number: int) -> tuple[Config, int] | None:
        """Configuration and seed with which a trial was last started, None if it never was."""
        return self._store.read(lambda run: _started_with(run, self._study, number))

    def reports(self, number: int) -> list[Report]:
        """The recorded reports of one trial by epoch; NaN stands for every value that was not finite."""
        rows = self._store.read(lambda run: _select(run, "reports", self._study, "AND number = ?", number))
        return [report_of(row) for row in rows]

    def ticks(self) -> list[float]:
        """Seconds of search up to the end of each recorded tick, from the first."""
        return [row[1] for row in self._store.read(lambda run: _select(run, "ticks", self._study))]

    def trials(self) -> list[TrialRecord]:
        """Every trial that has ended, by number, with its curve."""
        return self._store.read(lambda run: _reading(run, self._study)).trials

    def _write(self, work: Callable[[Rows], T]) -> T:
        """In a transaction, if the study is still ours: the lock of a lost connection may have gone to another."""

        def fenced(run: Rows) -> T:
            if _get(run, self._study, _FENCE, self._store.lock) != self._fence:
                raise StudyHeldError(
                    "another run has taken this study over", where=self._store.where,
                    rule="one run of a study at a time", remedy="let that one go on; nothing more is written here",
                )  # fmt: skip
            return work(run)

        return self._store.write(fenced)

    def _put(self, run: Rows, tally: Tally, table: str, row: Row, *, keep: bool = False) -> None:
        """Write a row in place of the one with its key; with `keep` that one stays."""
        columns = TABLES[table]
        key = columns[: 2 if table == "reports" else 1]
        where = " AND ".join(f"{name} = ?" for name in key)
        old = run(
            f"SELECT {', '.join(columns)} FROM {table} WHERE study = ? AND {where}",  # noqa: S608 - our names
            (self._study, *row[: len(key)]),
        )
        if old and (keep or tuple(old[0]) == row):
            return
        if old:
            tally.remove(table, old[0])
            run(f"DELETE FROM {table} WHERE study = ? AND {where}", (self._study, *row[: len(key)]))  # noqa: S608
        tally.add(table, row)
        marks = ", ".join("?" * (len(columns) + 1))
        run(f"INSERT INTO {table} (study, {', '.join(columns)}) VALUES ({marks})", (self._study, *row))  # noqa: S608

    def _forget_reports(self, run: Rows, tally: Tally, number: int) -> None:
        for row in _select(run, "reports", self._study, "AND number = ?", number):
            tally.remove("reports", row)
        run("DELETE FROM reports WHERE study = ? AND number = ?", (self._study, number))

    def _check_version(self) -> None:
        """Upgrade an older ledger, beside a copy of it; refuse a newer one."""
        upgrade(self._store)

        def work(run: Rows) -> str:
            text = str(SCHEMA_VERSION)
            run("INSERT INTO meta VALUES ('', 'schema_version', ?) ON CONFLICT DO NOTHING", (text,))
            return _get(run, "", "schema_version") or text

        version = self._store.write(work)
        if version != str(SCHEMA_VERSION):
            raise TrackingError(
                "the ledger was written by another version of Lanewise", where=self._store.where,
                given=f"schema {version}", rule=f"schema {SCHEMA_VERSION} or older",
                remedy="use that version of Lanewise, or give the study a new name",
            )  # fmt: skip

    def _check_rows(self) -> None:
        """Keep a copy of a sound file, and say what is missing at its end.

        Raises:
            TrackingError: Rows are missing or are not those that were written.
        """
        rows, ticks = _check_sum(self._store, self._study)
        if rows:
            self._store.keep_good()
        if (missing := self._acknowledged() - ticks) > 0:
            _log.warning(
                "%s: %d recorded steps are missing (was its -wal file deleted?); they are trained again",
                self._store.where, missing,
            )  # fmt: skip

    def _last(self) -> Path | None:
        """Beside a file of its own: the number of the last tick, which outlives a deleted -wal file."""
        store = self._store
        if not isinstance(store, SqliteStore) or self._study:
            return None
        return store.path.with_name(store.path.name + ".last")

    def _acknowledge(self, tick: int) -> None:
        path = self._last()
        if path is not None:
            with suppress(OSError):  # a warning less, after a crash that has not come
                path.write_text(f"{tick:020d}\n", encoding="ascii")

    def _acknowledged(self) -> int:
        path = self._last()
        try:
            return int(path.read_text(encoding="ascii")) if path is not None else 0
        except (OSError, ValueError):
            return 0

    def _check_definition(self, definition: Mapping[str, Any]) -> None:
        """Write the definition into a new ledger; refuse an old one that has another."""
        text = json.dumps(definition, sort_keys=True, allow_nan=False)
        digest = hashlib.sha256(text.encode()).hexdigest()

        def work(run: Rows) -> tuple[str, str]:
            rows = {"definition_sha256": digest, "definition": text}
            for key, value in rows.items():
                run("INSERT INTO meta VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (self._study, key, value))
            return (
                _get(run, self._study, "definition_sha256") or "",
                _get(run, self._study, "definition") or "{}",
            )

        known, old = self._write(work)
        if known != digest:
            found = list(changes(json.loads(old), json.loads(text)))
            more = f"; and {len(found) - 8} more" if len(found) > 8 else ""
            raise StudyError(
                "the study exists with another definition", where=self._store.where,
                given="; ".join(found[:8]) + more,
                rule="a study goes on with the definition it began with; only budgets and lanes may change",
                remedy="give the study a new `name`, or undo the change",
            )  # fmt: skip


def read_ledger(where: Path | str, study: str = "", *, check: bool = False) -> Reading:
    """Read without holding the study: a search may be writing meanwhile.

    Args:
        check: Also look whether it is whole.

    Raises:
        TrackingError: There is no ledger, or it cannot be read, or is damaged.
    """
    store = open_store(where)
    try:
        if check:
            store.check()
            _check_sum(store, study)
        return store.read(lambda run: _reading(run, study))
    finally:
        store.close()


def read_trials(where: Path | str, study: str = "") -> list[TrialRecord]:
    """Every trial that has ended; see `read_ledger`."""
    return read_ledger(where, study).trials


def _check_sum(store: Store, study: str) -> tuple[int, int]:
    """Compare the rows with their sum; their number, and that of ticks.

    Raises:
        TrackingError: Rows are missing or are not those that were written.
    """

    def work(run: Rows) -> tuple[Tally, Tally, int]:
        found = Tally()
        rows = {table: _select(run, table, study) for table in TABLES}
        for table, content in rows.items():
            for row in content:
                found.add(table, row)
        return found, Tally.of(_get(run, study, _TALLY)), len(rows["ticks"])

    found, kept, ticks = store.read(work)
    if found != kept:
        changed = f"{found.rows} rows of {kept.rows}" if found.rows != kept.rows else "rows have changed"
        raise store.damaged(changed)
    return found.rows, ticks


def _reading(run: Rows, study: str) -> Reading:
    curves: dict[int, list[dict[str, float | None]]] = {}
    for row in _select(run, "reports", study):
        report = report_of(row)
        curves.setdefault(report.number, []).append(curve_row(report))
    rows = _select(run, "trials", study)
    ended = [trial_of(row, curves.get(row[0], [])) for row in rows if row[4] != "running"]
    definition = _get(run, study, "definition")
    return Reading(json.loads(definition or "{}"), ended, [row[0] for row in rows if row[4] == "running"])


def _select(run: Rows, table: str, study: str, more: str = "", *values: Any) -> list[Row]:
    """Rows of a study, by their key."""
    columns = TABLES[table]
    order = "number, epoch" if table == "reports" else columns[0]
    if table == "trials":  # who only reads may find an older schema
        columns = present_columns(run, columns)
    sql = f"SELECT {', '.join(columns)} FROM {table} WHERE study = ? {more} ORDER BY {order}"  # noqa: S608
    return [tuple(row) for row in run(sql, (study, *values))]


def _started_with(run: Rows, study: str, number: int) -> tuple[Config, int] | None:
    rows = run("SELECT config, seed FROM trials WHERE study = ? AND number = ?", (study, number))
    return None if not rows else (json.loads(rows[0][0]), rows[0][1])


def _get(run: Rows, study: str, key: str, lock: str = "") -> str | None:
    rows = run(f"SELECT value FROM meta WHERE study = ? AND key = ?{lock}", (study, key))  # noqa: S608
    return None if not rows else str(rows[0][0])


def _set(run: Rows, study: str, key: str, value: str) -> None:
    run(
        "INSERT INTO meta VALUES (?, ?, ?) ON CONFLICT (study, key) DO UPDATE SET value = excluded.value",
        (study, key, value),
    )
