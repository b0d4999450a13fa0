"""The spool: what runs have to say, as JSON lines in one folder; the tracker appends, the deliverer reads.

Before it stands whoever trains, after it `deliver.py`. A full line is never lost by a killed process: it is
appended in one write, and a torn last line is cut off when the spool is opened again. What was delivered is
noted in `state.json`, which only the deliverer writes. Nothing here knows MLflow.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lanewise.errors import TrackingError

LINES = "spool.jsonl"
STATE = "state.json"
TARGET = "target.json"
FILES = "files"  # copies of artifacts that wait for delivery
WRITER_LOCK = "writer.lock"
DELIVER_LOCK = "deliver.lock"

PROCESS = uuid.uuid4().hex  # who owns the runs that this process starts; a run of a dead owner is abandoned

_log = logging.getLogger("lanewise.tracking")


@dataclass
class State:
    """What the deliverer has done, as the file `state.json`.

    Args:
        offset: Bytes of the spool that are delivered whole; a restart reads on from here.
        read: Bytes of the spool that were read.
        pending: Records read but not delivered.
        delivered: Records delivered, over the whole life of the spool.
        runs: One entry for each attempt: key, attempt, MLflow run id, state, owner, parent.
        rejected: Key -> why the server will never take this run's records.
        problem: What keeps the deliverer from delivering: kind ("away", "refused" or "broken") and text.
        session: Which deliverer wrote this.
        flushed: Number of the last flush request answered.
    """

    offset: int = 0
    read: int = 0
    pending: int = 0
    delivered: int = 0
    experiment_id: str | None = None
    runs: list[dict[str, Any]] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)
    problem: dict[str, str] | None = None
    session: str = ""
    flushed: int = 0
    connected: bool = False

    @classmethod
    def load(cls, folder: Path) -> State:
        """Read the state of a spool; a missing one is a fresh one."""
        try:
            return cls(**json.loads((folder / STATE).read_text()))
        except FileNotFoundError:
            return cls()
        except (ValueError, TypeError) as error:
            # Delivery is idempotent, so reading the whole spool again is safe.
            _log.warning(
                "%s cannot be read (%s); the spool is delivered again from its start", folder / STATE, error
            )
            return cls()

    def save(self, folder: Path) -> None:
        """Replace the state file; after a crash the old or the new one is there, never half of one."""
        write_atomic(folder / STATE, json.dumps(asdict(self), separators=(",", ":")))


def write_atomic(path: Path, text: str) -> None:
    """Write a small file so that it is there whole or not at all."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    with new.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


@contextmanager
def held(path: Path, *, wait_s: float = 0.0) -> Iterator[bool]:
    """Hold a kernel lock on a file, which a dying process gives back; yields whether it was got.

    Args:
        wait_s: How long to try.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_s
    with path.open("a") as file:
        got = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                got = True
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    break
                time.sleep(0.05)
        yield got


def read_lines(path: Path, offset: int) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yield (start, end, record) for every full line from `offset` on; a line that is no JSON is left out."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            start, offset = offset, offset + len(line)
            try:
                record = json.loads(line)
            except ValueError:
                _log.warning("%s: the line at byte %d is damaged and left out", path, start)
                continue
            yield start, offset, record


class SpoolWriter:
    """The spool, open for appending by this process alone.

    Args:
        folder: Where the spool lives; it is made.

    Raises:
        TrackingError: Another process writes here, or the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            (folder / FILES).mkdir(parents=True, exist_ok=True)
            self._lock = (folder / WRITER_LOCK).open("a")
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise TrackingError(
                "the disk is full: the spool cannot be written" if full else "the spool cannot be written",
                where=folder, given=error.strerror,
                remedy="free space, then run the same command again" if full else "make the folder writable",
            ) from error  # fmt: skip
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise TrackingError(
                "another process writes to this spool", where=folder, remedy="wait until that run has ended"
            ) from error
        self._fd = os.open(folder / LINES, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._backlog: list[bytes] = []
        self._full = False
        self.size = self._repair()
        self._forget_delivered()

    def append(self, lines: Iterable[bytes]) -> None:
        """Append full lines in one write; when the disk refuses, keep them and try again at the next call."""
        self._backlog.extend(lines)
        if not self._backlog:
            return
        data = b"".join(self._backlog)
        try:
            written = 0
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError as error:
            os.ftruncate(self._fd, self.size)  # no half line stays behind
            if not self._full:
                _log.warning(
                    "%s: %s; %d records wait in memory",
                    self.folder / LINES,
                    error.strerror,
                    len(self._backlog),
                )
            self._full = True
            return
        self.size += len(data)
        self._full = False
        self._backlog.clear()

    def sync(self) -> None:
        """Make every line survive a power cut.

        Raises:
            TrackingError: The disk is full or gone; the lines are still in memory.
        """
        self.append(())
        try:
            if self._backlog:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fdatasync(self._fd)
        except OSError as error:
            raise TrackingError(
                "the spool cannot be written", where=self.folder / LINES, given=error.strerror,
                remedy="free space on this disk and run the same command again",
            ) from error  # fmt: skip

    def try_sync(self) -> None:
        """Force what was appended to the disk; a disk that refuses is met again at `sync`."""
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            _log.warning("%s: %s", self.folder / LINES, error.strerror)

    def close(self) -> None:
        """Give the spool back; what could not be written is lost with a warning."""
        if self._fd < 0:
            return
        self.append(())
        if self._backlog:
            _log.error("%s: %d records could not be written", self.folder / LINES, len(self._backlog))
        os.close(self._fd)
        self._fd = -1
        self._lock.close()

    def _repair(self) -> int:
        """Cut off a torn last line and return the size."""
        size = os.fstat(self._fd).st_size
        good = size
        while good > 0:
            start = max(0, good - 65536)
            newline = os.pread(self._fd, good - start, start).rfind(b"\n")
            if newline >= 0:
                good = start + newline + 1
                break
            good = start
        if good < size:
            _log.warning("%s: a torn last line of %d bytes was cut off", self.folder / LINES, size - good)
            os.ftruncate(self._fd, good)
        return good

    def _forget_delivered(self) -> None:
        """Empty a spool that was delivered whole, so that it does not grow from run to run."""
        with held(self.folder / DELIVER_LOCK) as got:
            state = State.load(self.folder)
            if got and 0 < self.size == state.offset and not state.pending:
                # State first: a crash in between only makes the deliverer send again what is there already.
                state.offset = state.read = 0
                state.save(self.folder)
                os.ftruncate(self._fd, 0)
                self.size = 0


def line(record: Mapping[str, Any]) -> bytes:
    """One record as one line."""
    return json.dumps(record, separators=(",", ":"), allow_nan=False).encode() + b"\n"
