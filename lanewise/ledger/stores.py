"""Where ledgers lie: what a database must do for them, and SQLite; PostgreSQL is beside it.

A store runs pieces of work in transactions and tries again what failed by no fault of theirs. It may hold the
ledgers of many studies, each under its name, and one process at a time may hold each of them. It knows
tables, not trials.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from lanewise.errors import TrackingError
from lanewise.file_systems import network_file_system
from lanewise.names import path_inside
from lanewise.owner import hold

T = TypeVar("T")
Row = tuple[Any, ...]

BUSY_TIMEOUT_S = 60.0
SAY_AFTER_S = 5.0
CONTINUE = "run the same command again; everything printed as ended is kept"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What SQLite makes of these when it writes.
_NOT_TAKEN = (
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_SHMSIZE,
)  # fmt: skip
_SQLITE = b"SQLite format 3\0"
_log = logging.getLogger("lanewise.ledger")

TABLES = {
    "trials": (
        "number", "config", "seed", "control", "state", "reason", "value", "epochs", "best_epoch", "seconds",
        "duplicate_of", "audited_from",
    ),
    "reports": ("number", "epoch", "train_loss", "scores", "finished", "failed"),
    "ticks": ("tick", "elapsed_s"),
}  # fmt: skip
# Understood by SQLite and PostgreSQL alike.
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS meta (study TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,"
    " PRIMARY KEY (study, key))",
    "CREATE TABLE IF NOT EXISTS trials (study TEXT NOT NULL, number BIGINT NOT NULL, config TEXT NOT NULL,"
    " seed BIGINT NOT NULL, control BIGINT NOT NULL, state TEXT NOT NULL, reason TEXT, value DOUBLE PRECISION,"
    " epochs BIGINT NOT NULL, best_epoch BIGINT, seconds DOUBLE PRECISION NOT NULL, duplicate_of BIGINT,"
    " audited_from BIGINT,"
    " PRIMARY KEY (study, number))",
    "CREATE TABLE IF NOT EXISTS reports (study TEXT NOT NULL, number BIGINT NOT NULL, epoch BIGINT NOT NULL,"
    " train_loss DOUBLE PRECISION, scores TEXT NOT NULL, finished BIGINT NOT NULL, failed TEXT,"
    " PRIMARY KEY (study, number, epoch))",
    "CREATE TABLE IF NOT EXISTS ticks (study TEXT NOT NULL, tick BIGINT NOT NULL,"
    " elapsed_s DOUBLE PRECISION NOT NULL, PRIMARY KEY (study, tick))",
)


class Rows(Protocol):
    """An open transaction."""

    def __call__(self, sql: str, values: Sequence[Any] = (), /) -> list[Row]:
        """Run a statement with `?` for each value; the rows it gives."""
        ...


class Store(ABC):
    """A database with ledgers in it.

    Attributes:
        where: It, for messages; without a password.
        lock: What a SELECT adds to keep others from the row until the transaction ends.
    """

    where: str
    lock = ""

    @abstractmethod
    def write(self, work: Callable[[Rows], T]) -> T:
        """Do all of it or nothing; tried again where the database was busy or away, so it may run twice.

        Raises:
            TrackingError: It cannot be written, or not within the time that is waited.
        """

    @abstractmethod
    def read(self, work: Callable[[Rows], T]) -> T:
        """Look at one moment of it.

        Raises:
            TrackingError: It cannot be read.
        """

    @abstractmethod
    def hold(self, study: str) -> None:
        """Keep other processes from this study until `close`, or until this process ends.

        Raises:
            StudyHeldError: Another one holds it.
        """

    @abstractmethod
    def make(self) -> None:
        """Make what is not there yet; any number of processes may do so at once."""

    def check(self) -> None:
        """Look for damage that the database itself can find; by default it is believed.

        Raises:
            TrackingError: There is some.
        """
        return

    def keep_good(self) -> None:
        """Keep a copy of what was found to be sound; by default that is left to the database's own backups."""
        return

    def damaged(self, found: str) -> TrackingError:
        """The error for rows that are not what was written."""
        return TrackingError(
            "the ledger is damaged: its integrity check failed", where=self.where, given=found,
            rule="the rows that were written",
            remedy="put a backup of the database in its place; what it lacks is trained again",
        )  # fmt: skip

    @abstractmethod
    def close(self) -> None:
        """Let go of everything."""


class SqliteStore(Store):
    """One file.

    Args:
        path: Of the database; its folder is made.

    Raises:
        TrackingError: It lies on a network file system.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.where = path, str(path)
        self.good = path.with_name(path.name + ".good")
        self._db: sqlite3.Connection | None = None
        self._inode = 0
        self._lock: IO[str] | None = None
        kind = network_file_system(path.absolute())
        if kind:
            raise TrackingError(
                "SQLite is not safe on a network file system", where=path, given=kind,
                remedy="put `tracking.home` on a local disk, or name a PostgreSQL in `tracking.ledger`",
            )  # fmt: skip

    @property
    def db(self) -> sqlite3.Connection:
        """The connection, opened when first needed."""
        if self._db is None:
            self._refuse_what_is_none()
            # Tasks may run a generator's steps on different threads, one after another.
            self._db = sqlite3.connect(
                self.path, timeout=SAY_AFTER_S, isolation_level=None, check_same_thread=False
            )
            # FULL: one fsync for each tick, so what was printed as finished survives a power cut too;
            # NORMAL would lose the last ticks there. For each report it would be too dear.
            self._db.execute("PRAGMA synchronous=FULL")
            self._inode = self.path.stat().st_ino
        return self._db

    def hold(self, study: str) -> None:
        """See `Store.hold`."""
        name = f"{self.path.name}.{study}.lock" if study else f"{self.path.name}.lock"
        with self._errors():
            self._lock = hold(path_inside(self.path.parent, name.replace("/", ".")))

    def make(self) -> None:
        """Under another name, then moved in, so that a killed creation leaves nothing half made."""
        if self.path.exists():
            return
        with self._errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._making():
                if self.path.exists():
                    return
                new = self.path.with_name(f".{self.path.name}.new")
                new.unlink(missing_ok=True)
                new.touch(0o600)  # the files that SQLite puts beside it take its mode
                db = sqlite3.connect(new, isolation_level=None)
                db.execute("PRAGMA journal_mode=WAL")
                for statement in SCHEMA:
                    db.execute(statement)
                db.close()
                move_in(new, self.path)

    def write(self, work: Callable[[Rows], T]) -> T:
        """See `Store.write`."""
        with self._errors():
            self._begin()
            try:
                if not self._still_there():
                    raise TrackingError(
                        "the ledger is gone: its file was removed or replaced under a run", where=self.path,
                        remedy=f"put it back if you can, then {CONTINUE}",
                    )  # fmt: skip
                result = work(self._run)
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise
            return result

    def read(self, work: Callable[[Rows], T]) -> T:
        """See `Store.read`; without a connection of its own for writing, nothing is made."""
        with self._errors():
            if self._db is None and not self.path.exists():
                raise TrackingError("there is no ledger", where=self.path, remedy="run the study first")
            self.db.execute("BEGIN")
            try:
                return work(self._run)
            finally:
                self.db.execute("ROLLBACK")

    def check(self) -> None:
        """See `Store.check`."""
        with self._errors():
            found = self._run("PRAGMA integrity_check(1)")[0][0]
        if found != "ok":
            raise self.damaged(str(found))

    def damaged(self, found: str) -> TrackingError:
        """See `Store.damaged`."""
        wal = f", without the old {self.path.name}-wal" if Path(f"{self.path}-wal").exists() else ""
        copy = f"the last good copy is {self.good}: put it in its place{wal}" if self.good.exists() else "move it away"
        return TrackingError(
            "the ledger is damaged: its integrity check failed", where=self.path, given=found,
            rule="the rows that were written", remedy=f"{copy}; what it lacks is trained again",
        )  # fmt: skip

    def keep_good(self) -> None:
        """See `Store.keep_good`; a disk without room for it costs a line in the log."""
        with suppress(BlockingIOError), self._making(fcntl.LOCK_NB):  # a study beside ours is copying it now
            try:
                self._copy(self.good)
            except (sqlite3.Error, OSError) as error:
                _log.warning("%s: no copy of the ledger could be kept (%s)", self.good, error)

    def copy(self, into: Path) -> None:
        """Write what the file holds now into another one, in place of what that held.

        Raises:
            TrackingError: There is no room for it.
        """
        with self._errors(), self._making():
            self._copy(into)

    def _copy(self, into: Path) -> None:
        new = into.with_name(f".{into.name}.new")
        try:
            new.unlink(missing_ok=True)
            new.touch(0o600)  # it may be written into an empty file
            self.db.execute("VACUUM INTO ?", (str(new),))
            move_in(new, into)
        except BaseException:
            new.unlink(missing_ok=True)
            raise

    def disconnect(self) -> None:
        """Close the file, still holding the study."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def close(self) -> None:
        """Close the file and let the study go."""
        self.disconnect()
        if self._lock is not None:
            self._lock.close()  # closing the file releases the flock
            self._lock = None

    @contextmanager
    def _making(self, flags: int = 0) -> Iterator[None]:
        """One process at a time makes a whole file."""
        with self.path.with_name(self.path.name + ".made").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | flags)
            yield

    def _run(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        return self.db.execute(sql, values).fetchall()

    def _still_there(self) -> bool:
        """Whether the path still names the file that is open; SQLite would write on into a removed one."""
        try:
            return self.path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def _begin(self) -> None:
        """Wait for whoever reads or writes it, and say so when that takes long."""
        begun, said = time.monotonic(), False
        while True:
            try:
                self.db.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() - begun > BUSY_TIMEOUT_S:
                    raise
                if not said:
                    _log.warning("%s: waiting for another process that has it locked", self.path)
                said = True

    def _refuse_what_is_none(self) -> None:
        with self.path.open("rb") as file:
            head = file.read(len(_SQLITE))
        if head != _SQLITE:
            raise self.damaged("an empty file" if not head else "this file is not a database")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn the errors of SQLite and the file system into one a user can act on."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            damage = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
            if damage and not isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
                raise self.damaged(str(error)) from error
            full = "the disk is full: the ledger cannot be written" if self._is_full(error) else None
            raise TrackingError(
                full or f"the ledger cannot be used: {error}", where=self.path,
                given=str(error) if full else None,
                rule="a sound ledger, and a folder that can be written and has room",
                remedy=f"{'free space' if full else 'correct permissions'}, then {CONTINUE}",
            ) from error  # fmt: skip

    def _is_full(self, error: Exception) -> bool:
        """Whether blocks, inodes or quota have run out: SQLite names the first of them only."""
        if getattr(error, "errno", None) in _FULL or getattr(error, "sqlite_errorcode", None) in _NOT_TAKEN:
            return True
        place = next(folder for folder in self.path.absolute().parents if folder.exists())
        left = os.statvfs(place)
        return "readonly" not in str(error) and (left.f_bavail == 0 or (left.f_files > 0 and left.f_favail == 0))


def move_in(new: Path, path: Path) -> None:
    """Put a whole new file in the place of an old one, on the disk too."""
    for place in (new, path.parent):
        handle = os.open(place, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        if place == new:
            new.replace(path)
