"""The deliverer: reads a spool and brings it to MLflow, as a process of its own beside the training.

Before it stands `spool.py`, after it MLflow. Started by the tracker (`python -m lanewise.tracking`),
it takes its orders on standard input: "flush N" and "close"; an end of input without "close" means that the
training process is gone, and its open runs are marked abandoned. It may be killed at any time: it goes on
from `state.json`, and what is sent twice is there once.
"""

from __future__ import annotations

import json
import logging
import os
import select
import shutil
import sqlite3
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lanewise.errors import LanewiseError, TrackingError
from lanewise.tracking.links import compare_link, trials_link
from lanewise.tracking.runs import Run, Runs
from lanewise.tracking.spool import (
    DELIVER_LOCK,
    FILES,
    LINES,
    TARGET,
    WRITER_LOCK,
    State,
    held,
    read_lines,
)
from lanewise.tracking.store import IMPATIENT, QUIET, absolute_uri
from lanewise.tracking.writers import REFUSED, Writer, open_writer

URI_VARIABLE = "LANEWISE_TRACKING_URI"  # the address may hold a password, so it is on no command line
POLL_S = 0.2
UPDATE_S = 2.0  # an open run is brought up to date this often, or ten times as long as that takes
BACK_OFF_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)

_log = logging.getLogger("lanewise.tracking")


@dataclass(frozen=True)
class Delivery:
    """What has reached MLflow.

    Args:
        delivered: Records delivered, over the life of the spool.
        pending: Records that still wait in the spool.
        run_ids: Key -> MLflow run of its newest attempt.
        unreachable: Why MLflow cannot be reached; None when it can.
        experiment_id: The study's experiment; None before the first contact.
        rejected: Key -> why MLflow will never take what this run had to say.
    """

    delivered: int
    pending: int
    run_ids: dict[str, str]
    unreachable: str | None
    experiment_id: str | None
    rejected: dict[str, str]


class Deliverer:
    """Folds the spool into runs and writes those that are due.

    Args:
        folder: The spool.
        uri: Absolute tracking address.
        session: Put into the state, so that the tracker knows who wrote it.
    """

    def __init__(self, folder: Path, uri: str, session: str = "") -> None:
        self.folder, self.uri = folder, uri
        target = json.loads((folder / TARGET).read_text())
        self.study, self.spool_id = target["study"], target["spool"]
        self.state = State.load(folder)
        self.state.session, self.state.flushed, self.state.connected = session, 0, False
        self.state.problem = None
        if self.state.offset > _size(folder / LINES):
            self.state.offset = 0  # the spool was taken away and began anew
        self.runs = Runs(self.state.runs)
        self.writer: Writer | None = None
        self._position = self.state.offset
        self._folded_at = 0.0
        self._pass_s = 0.0

    def read(self) -> bool:
        """Fold the new lines of the spool; whether there were any."""
        before = self._position
        now = time.monotonic()
        for start, end, record in read_lines(self.folder / LINES, self._position):
            run = self.runs.fold(record, start)
            if run is not None and record["op"] == "start":
                run.touched_at = now
            self._position = end
        return self._position > before

    def due(self, *, everything: bool) -> list[Run]:
        """Runs to write now: those that ended and those not brought up to date for a while; parents first."""
        now = time.monotonic()
        wait = max(UPDATE_S, 10 * self._pass_s)
        chosen = [
            run
            for run in self.runs
            if run.unsent and (everything or run.ended or now - run.touched_at >= wait)
        ]
        wanted = {run.parent for run in chosen} - {None}
        parents = [run for key in wanted if (run := self.runs.latest(str(key))) and not run.created]
        return list({id(run): run for run in parents + chosen}.values())

    def deliver(self, *, everything: bool) -> None:
        """Write what is due; a problem is noted in the state, and the records wait.

        Args:
            everything: Also runs that are still open and were brought up to date a moment ago.
        """
        try:
            self._deliver(everything)
            self.state.problem = None
        except Exception as error:  # noqa: BLE001 - whatever servers, drivers and disks throw, the spool keeps all
            self.state.problem = problem(error, self.uri)
            trace = "".join(traceback.format_exception(error))
            _log.warning("delivery failed: %s", without_password(trace, self.uri))

    def save(self) -> None:
        """Note in `state.json` how far delivery has come."""
        waiting = [run for run in self.runs if run.unsent]
        state = self.state
        state.runs = self.runs.records()
        state.pending = sum(run.unsent for run in waiting)
        state.offset = min((run.unsent_from or 0 for run in waiting), default=self._position)
        state.read = self._position
        state.save(self.folder)

    def delivery(self) -> Delivery:
        """What has reached MLflow so far."""
        return summary(self.state)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()

    def _deliver(self, everything: bool) -> None:
        if self.writer is None:
            self.writer = open_writer(self.uri, self.study, self.folder, self.spool_id)
            self.state.experiment_id, self.state.connected = self.writer.experiment_id, True
        runs = self.due(everything=everything)
        if not runs:
            return
        started = time.monotonic()
        notes = [(run, run.note) for run in runs if run.note]
        self._write(self.writer, runs)
        for run, note in notes:  # after the others: it links to their runs
            run.tags["mlflow.note.content"] = self._note(note)
        if notes:
            self._write(self.writer, [run for run, _ in notes])
        self._pass_s = time.monotonic() - started

    def _write(self, writer: Writer, runs: Sequence[Run]) -> None:
        files = [file for run in runs for file, _ in run.artifacts]
        counts = [(run, run.unsent) for run in runs]
        try:
            writer.write(runs, self._parent_id)
        finally:
            self.state.delivered += sum(count for run, count in counts if not run.unsent)
            self.state.rejected |= writer.rejected
        for run in runs:
            run.touched_at = time.monotonic()
        self.save()  # before the copies go: a crash in between leaves a copy, never a hole
        for file in files:
            shutil.rmtree(self.folder / FILES / Path(file).parts[1], ignore_errors=True)

    def _parent_id(self, run: Run) -> str | None:
        parent = self.runs.latest(run.parent) if run.parent else None
        return parent.run_id if parent else None

    def _note(self, note: dict[str, object]) -> str:
        assert self.state.experiment_id is not None  # set when the writer was opened
        link = trials_link(self.state.experiment_id, ascending=bool(note["ascending"]))
        parts = [str(note["text"]), f"[All trials, best first]({link})"]
        best = note["best"]
        assert isinstance(best, list)
        ids = [run.run_id for key in best if (run := self.runs.latest(key)) and run.run_id]
        if ids:
            parts.append(f"[Compare the best {len(ids)}]({compare_link(ids, self.state.experiment_id)})")
        return "\n\n".join(part for part in parts if part)


def problem(error: Exception, uri: str) -> dict[str, str]:
    """What a failed delivery means: "away" (try again), "refused" (login) or "broken" (someone must act)."""
    found = _problem(error)
    return found | {"text": without_password(found["text"], uri)}


def without_password(text: str, uri: str) -> str:
    """The text without the password of an address."""
    password = urlsplit(uri).password
    return text.replace(password, "***") if password else text


def _problem(error: Exception) -> dict[str, str]:
    code = getattr(error, "error_code", None)
    if code in REFUSED:
        return {"kind": "refused", "text": f"the tracking server refused the login: {_short(error)}"}
    if isinstance(error, LanewiseError):
        return {"kind": "broken", "text": str(error)}
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        return {"kind": "broken", "text": f"the tracking database is damaged: {error}"}
    proxies = [
        name for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy") if os.environ.get(name)
    ]
    hint = f" (by way of {', '.join(proxies)})" if proxies and "Connection" in repr(error) else ""
    return {"kind": "away", "text": f"{_short(error)}{hint}"}


def summary(state: State) -> Delivery:
    """The delivery a state describes."""
    newest: dict[str, str] = {}
    for record in sorted(state.runs, key=lambda record: record["attempt"]):
        newest[record["key"]] = record["run_id"]
    return Delivery(
        delivered=state.delivered,
        pending=state.pending,
        run_ids=newest,
        unreachable=state.problem["text"] if state.problem else None,
        experiment_id=state.experiment_id,
        rejected=dict(state.rejected),
    )


def deliver(spool_dir: Path, uri: str | None = None) -> Delivery:
    """Bring what waits in a spool to MLflow, in this process; for `lanewise sync`.

    Runs left open by a process that is gone are marked abandoned.

    Args:
        spool_dir: The spool's folder.
        uri: Tracking address; by default the one the spool was made for, which is kept without a password.

    Raises:
        TrackingError: There is no spool, or another process is delivering it.
    """
    try:
        target = json.loads((spool_dir / TARGET).read_text())
    except (FileNotFoundError, ValueError) as error:
        raise TrackingError("there is no spool here", where=spool_dir, given=error) from error
    os.environ.update(QUIET | IMPATIENT)
    with held(spool_dir / DELIVER_LOCK, wait_s=1.0) as got, held(spool_dir / WRITER_LOCK) as alone:
        if not got:
            raise TrackingError(
                "another process is delivering this spool",
                where=spool_dir,
                remedy="wait until that run has ended",
            )
        deliverer = Deliverer(spool_dir, absolute_uri(uri or target["uri"]))
        deliverer.read()
        if alone:
            deliverer.runs.abandon(at=_now_ms(), offset=deliverer.state.offset)
        deliverer.deliver(everything=True)
        deliverer.save()
        deliverer.close()
        return deliverer.delivery()


def run(folder: Path, uri: str, session: str) -> None:
    """Deliver until the tracker says "close" or is gone."""
    orders = _Orders()
    while True:
        with held(folder / DELIVER_LOCK, wait_s=POLL_S) as got:
            if not got:  # the deliverer of a killed run is still at it
                orders.take(0)
                if orders.over:
                    return
                continue
            _work(Deliverer(folder, uri, session), orders)
            return


def _work(deliverer: Deliverer, orders: _Orders) -> None:
    failures, try_at, saved = 0, 0.0, False
    while True:
        orders.take(0 if orders.flush > deliverer.state.flushed else POLL_S)
        flush = orders.flush
        asked = flush > deliverer.state.flushed or orders.over
        new = deliverer.read()
        if orders.over and not orders.closed:
            deliverer.runs.abandon(at=_now_ms(), offset=deliverer.state.read)
        now = time.monotonic()
        if asked or now >= try_at:
            before = deliverer.state.problem
            deliverer.deliver(everything=asked)
            failures = failures + 1 if deliverer.state.problem else 0
            try_at = now + BACK_OFF_S[min(failures, len(BACK_OFF_S)) - 1] if failures else 0.0
            saved = saved and deliverer.state.problem == before
        if new or asked or not saved:
            deliverer.state.flushed = flush
            deliverer.save()
            saved = True
        if orders.over:
            deliverer.close()
            return


class _Orders:
    """Orders that come in on standard input: "flush N" and "close"."""

    def __init__(self) -> None:
        self.flush, self.closed, self.over = 0, False, False
        self._parent = os.getppid()
        self._rest = b""

    def take(self, wait_s: float) -> None:
        """Wait for an order, but not longer than `wait_s`."""
        ready, _, _ = select.select([0], [], [], wait_s)
        if not ready:
            # A forked child of the training may hold our input open after the training itself was killed.
            self.over = self.over or os.getppid() != self._parent
            return
        data = os.read(0, 4096)
        self.over = self.over or not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        for order in lines:
            if order == b"close":
                self.closed = self.over = True
            else:
                self.flush = int(order.removeprefix(b"flush "))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:300]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def main() -> None:
    """Entry of the child process: FOLDER SESSION on the command line, the address in the environment."""
    os.environ.update(QUIET | IMPATIENT)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    run(Path(sys.argv[1]), os.environ[URI_VARIABLE], sys.argv[2])
    logging.shutdown()
    os._exit(0)  # everything is closed; what MLflow has imported takes another half second to leave
