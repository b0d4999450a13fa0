"""Brings a ledger of an earlier version to the present schema, beside a copy of it as it was.

Schema 1 (0.1.0 before its release) held one study in a file, without a sum over its rows.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
from contextlib import closing

from lanewise.ledger.soundness import Tally
from lanewise.ledger.stores import SCHEMA, TABLES, SqliteStore, Store, move_in

_log = logging.getLogger("lanewise.ledger")


def upgrade(store: Store) -> None:
    """Upgrade an older SQLite ledger; anything else is left alone. The study is held meanwhile."""
    if not isinstance(store, SqliteStore) or _study_column(store):
        return
    path = store.path
    store.disconnect()  # and the -wal file goes into the database
    old = path.with_name(path.name + ".v1")
    shutil.copy2(path, old)
    new = path.with_name(f".{path.name}.v2")
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
            db.execute(f"INSERT INTO {table} (study, {names}) SELECT '', {names} FROM old.{table}")  # noqa: S608
            for row in db.execute(f"SELECT {names} FROM {table}"):  # noqa: S608 - our own names
                tally.add(table, row)
        db.execute("INSERT INTO meta SELECT '', key, value FROM old.meta WHERE key != 'schema_version'")
        db.executemany("INSERT INTO meta VALUES ('', ?, ?)", [("schema_version", "2"), ("tally", str(tally))])
        db.execute("COMMIT")
    move_in(new, path)
    _log.warning("%s: upgraded from schema 1 to 2; as it was: %s", path, old)


def _study_column(store: SqliteStore) -> bool:
    found = store.read(lambda run: run("SELECT name FROM pragma_table_info('meta')"))
    return not found or ("study",) in [tuple(row) for row in found]
