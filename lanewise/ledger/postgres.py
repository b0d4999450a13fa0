"""Ledgers in PostgreSQL, for studies whose runs start on several machines; psycopg is imported when needed.

A lost connection is made again and the work repeated, for as long as `PATIENCE_S`. The study is held by a session's
advisory lock, which the server gives back when the session ends; whoever comes back from a lost
connection must get it again.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from lanewise.errors import TrackingError
from lanewise.ledger.stores import CONTINUE, SCHEMA, Row, Rows, Store
from lanewise.names import redacted
from lanewise.owner import held_error, myself

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")
# A refused connection has no code, only the server's words.
REFUSALS = ("authentication failed", "FATAL:  role ", "FATAL:  database ")
PATIENCE_S = 120.0
PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
CONNECT_S = 5
# serialisation failure, deadlock, lock not available, too many connections, shutting down, starting up, crash
AGAIN = {"40001", "40P01", "55P03", "53300", "57P01", "57P02", "57P03"}
_NAME = "lanewise"  # of our schema in the database, and of the session
_log = logging.getLogger("lanewise.ledger")


class PostgresStore(Store):
    """The schema `lanewise` of a database.

    Args:
        url: postgresql://user@host/database; a password may be in it, or in PGPASSWORD or ~/.pgpass.
    """

    lock = " FOR UPDATE"

    def __init__(self, url: str) -> None:
        self._url, self.where = url, redacted(url)
        self._connection: psycopg.Connection[Any] | None = None
        self._study: str | None = None

    def hold(self, study: str) -> None:
        """See `Store.hold`."""
        self._study = study
        self._persist(lambda _: None)

    def make(self) -> None:
        """See `Store.make`; one at a time, since `IF NOT EXISTS` is no protection from others."""

        def work(run: Rows) -> None:
            run("SELECT pg_advisory_xact_lock(?)", (_number("schema"),))
            run(f"CREATE SCHEMA IF NOT EXISTS {_NAME}")
            for statement in SCHEMA:
                run(statement)

        self._persist(work)

    def write(self, work: Callable[[Rows], T]) -> T:
        """See `Store.write`."""
        return self._persist(work)

    def read(self, work: Callable[[Rows], T]) -> T:
        """See `Store.read`."""
        return self._persist(work)

    def close(self) -> None:
        """End the session."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _persist(self, work: Callable[[Rows], T]) -> T:
        """Do the work in a transaction, again and again where the server was away or in the way."""
        import psycopg

        begun, tries = time.monotonic(), 0
        while True:
            try:
                connection = self._connected()
                with connection.transaction():
                    return work(partial(_rows, connection))
            except psycopg.Error as error:
                away = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
                refused = error.sqlstate is not None and error.sqlstate.startswith("28")
                refused = refused or any(text in str(error) for text in REFUSALS)
                over = time.monotonic() - begun > PATIENCE_S
                if refused or over or not (away or error.sqlstate in AGAIN):
                    raise self._error(error, refused) from None  # its text may hold the password
                if tries == 0:
                    _log.warning("%s: %s; trying again", self.where, _first_line(error))
                if self._connection is not None and self._connection.broken:
                    self.close()
                time.sleep(PAUSES_S[min(tries, len(PAUSES_S) - 1)])
                tries += 1

    def _connected(self) -> psycopg.Connection[Any]:
        import psycopg

        if self._connection is not None and not self._connection.closed:
            return self._connection
        connection = psycopg.connect(
            self._url, autocommit=True, connect_timeout=CONNECT_S, application_name=f"{_NAME}: {myself()}",
            options=f"-c search_path={_NAME} -c tcp_keepalives_idle=30",
        )  # fmt: skip
        try:
            if self._study is not None:
                self._take(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _take(self, connection: psycopg.Connection[Any]) -> None:
        """Get the study's lock for this session; a session that died a moment ago may still have it."""
        import psycopg

        key = _number(f"study {self._study}")
        if _rows(connection, "SELECT pg_try_advisory_lock(?)", (key,))[0][0]:
            return
        holder = _rows(
            connection,
            "SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype ="
            " 'advisory' AND l.granted AND ((l.classid::bigint << 32) | l.objid::bigint) = ?",
            (key,),
        )
        who = str(holder[0][0]).removeprefix(f"{_NAME}: ") if holder else ""
        if who.partition(" since ")[0] == str(myself()).partition(" since ")[0]:
            raise psycopg.OperationalError("the server has not noticed yet that our connection was lost")
        raise held_error(self.where, who)

    def _error(self, error: psycopg.Error, refused: bool) -> TrackingError:
        if refused:
            return TrackingError(
                "the database refuses the login", where=self.where, given=_first_line(error),
                remedy="check the user in `tracking.ledger`, and the password in PGPASSWORD or ~/.pgpass",
            )  # fmt: skip
        return TrackingError(
            "the ledger's database cannot be used", where=self.where, given=_first_line(error),
            rule="a PostgreSQL that answers, in which this user may make a schema",
            remedy=f"see to it, then {CONTINUE}",
        )  # fmt: skip


def _rows(connection: psycopg.Connection[Any], sql: str, values: Sequence[Any] = ()) -> list[Row]:
    cursor = connection.execute(sql.replace("?", "%s").encode(), tuple(values) or None)
    return cursor.fetchall() if cursor.description else []


def _number(name: str) -> int:
    """A lock's number: 63 bits of a hash."""
    return int.from_bytes(hashlib.sha256(f"{_NAME}/{name}".encode()).digest()[:8], "big") >> 1


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
