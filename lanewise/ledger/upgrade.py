"""Brings a ledger of an earlier version to the present schema, beside a copy of it as it was.

Schema 1 (0.1.0 before its release) held one study in a file, without a sum over its rows. Schema 2 did not know from
which epoch on a trial was audited.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from lanewise.ledger.soundness import Tally
from lanewise.ledger.stores import SCHEMA, TABLES, Rows, SqliteStore, Store, move_in

SCHEMA_VERSION = 3
_SINCE_3 = "audited_from"  # of `trials`
_log = logging.getLogger("lanewise.ledger")


def upgrade(store: Store) -> None:
    """Upgrade an older ledger; a newer one is left alone. In SQLite the study is held meanwhile."""
    if isinstance(store, SqliteStore) and not _study_column(store):
        _from_1(store)
    if store.read(_version) == "2":
        _from_2(store)


def present_columns(run: Rows, columns: Sequence[str]) -> tuple[str, ...]:
    """Columns of `trials` as a SELECT wants them: one that an older ledger lacks is NULL."""
    old = _version(run) == "2"
    return tuple(f"NULL AS {name}" if old and name == _SINCE_3 else name for name in columns)


def _version(run: Rows, lock: str = "") -> str | None:
    rows = run(f"SELECT value FROM meta WHERE study = '' AND key = 'schema_version'{lock}")  # noqa: S608
    return str(rows[0][0]) if rows else None


def _from_1(store: SqliteStore) -> None:
    path = store.path
    store.disconnect()  # and the -wal file goes into the database
    old = path.with_name(path.name + ".v1")
    shutil.copy2(path, old)
    new = path.with_name(f".{path.name}.v{SCHEMA_VERSION}")
    new.unlink(missing_ok=True)
    with closing(sqlite3.connect(new, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        for statement in SCHEMA:
            db.execute(statement)
        db.execute("ATTACH ? AS old", (str(old),))
        db.execute("BEGIN")
        tally = Tally()
        for table, columns in TABLES.items():
            names = ", ".join(columns)
            known = ", ".join(name for name in columns if name != _SINCE_3)
            db.execute(f"INSERT INTO {table} (study, {known}) SELECT '', {known} FROM old.{table}")  # noqa: S608
            for row in db.execute(f"SELECT {names} FROM {table}"):  # noqa: S608 - our own names
                tally.add(table, row)
        db.execute("INSERT INTO meta SELECT '', key, value FROM old.meta WHERE key != 'schema_version'")
        version = ("schema_version", str(SCHEMA_VERSION))
        db.executemany("INSERT INTO meta VALUES ('', ?, ?)", [version, ("tally", str(tally))])
        db.execute("COMMIT")
    move_in(new, path)
    _said(path, 1, old)


def _from_2(store: Store) -> None:
    """Add the column, in one transaction; the sums over rows stay as they are, see `soundness`."""
    old = None
    if isinstance(store, SqliteStore):
        old = store.path.with_name(store.path.name + ".v2")
        store.copy(old)

    def work(run: Rows) -> None:
        if _version(run, store.lock) == "2":  # a study beside ours may have been first
            run(f"ALTER TABLE trials ADD COLUMN {_SINCE_3} BIGINT")
            run(
                "UPDATE meta SET value = ? WHERE study = '' AND key = 'schema_version'", (str(SCHEMA_VERSION),)
            )

    store.write(work)
    _said(store.where, 2, old)


def _said(where: Path | str, version: int, old: Path | None) -> None:
    kept = f"; as it was: {old}" if old else ""
    _log.warning("%s: upgraded from schema %d to %d%s", where, version, SCHEMA_VERSION, kept)


def _study_column(store: SqliteStore) -> bool:
    found = store.read(lambda run: run("SELECT name FROM pragma_table_info('meta')"))
    return not found or ("study",) in [tuple(row) for row in found]
