"""The tracker: what the training calls; it appends to the spool and starts the process that delivers it.

Before it stand the tasks, after it `spool.py` and `deliver.py`. A call costs microseconds and never waits
for MLflow: a server that is slow or away does not slow the training. Nothing here imports MLflow.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_args

from lanewise.errors import TrackingError
from lanewise.names import check_name, redacted
from lanewise.tracking.deliver import URI_VARIABLE, Delivery, summary
from lanewise.tracking.runs import RUNNING, Runs, RunState
from lanewise.tracking.spool import (
    FILES,
    LINES,
    PROCESS,
    TARGET,
    SpoolWriter,
    State,
    line,
    read_lines,
    write_atomic,
)
from lanewise.tracking.store import IMPATIENT, absolute_uri, check_store, quiet_environment
from lanewise.tracking.texts import (
    PARAM_LENGTH,
    REASON_LENGTH,
    TAG_LENGTH,
    as_text,
    check_pairs,
    hidden,
    param_texts,
)

SYNC_S = 1.0  # at most so often is a tick forced to the disk; the ledger is what promises
WATCH_S = 2.0
LOG, LOG_BYTES = "deliver.log", 1_000_000

_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
_log = logging.getLogger("lanewise.tracking")


class Tracker:
    """Everything one process has to tell MLflow about one study; a context manager, usable from any thread.

    Args:
        study: Name of the study, which is the experiment.
        uri: Tracking address, as in the study.
        spool_dir: Folder of the spool; the same one for every run of the study.
        base: Folder a relative SQLite path starts at; the working directory by default.
        log_scale: Parameters that also get a `log10_` twin: the axes of MLflow's charts are linear.

    Raises:
        StudyError: The name or the address cannot be used.
        TrackingError: The spool cannot be written, another process writes to it, or the SQLite file is no
            MLflow database.
    """

    def __init__(
        self,
        study: str,
        uri: str,
        spool_dir: Path,
        *,
        base: Path | None = None,
        log_scale: Sequence[str] = ("lr", "weight_decay"),
    ) -> None:
        self.study, self.folder = check_name(study, what="study name"), Path(spool_dir)
        self._uri = absolute_uri(uri, base)
        check_store(self._uri)
        self._log_scale = log_scale
        self._guard = threading.RLock()
        self._lines: list[bytes] | None = None  # lines of the tick that is under way
        self._epochs: dict[str, int] = {}
        self._known_names: set[str] = set()
        self._flushes, self._synced_at, self._watched_at = 0, 0.0, 0.0
        self._warned: str | None = None
        self._session = uuid.uuid4().hex
        self._writer = SpoolWriter(self.folder)
        self._open_target()
        self._runs = Runs(State.load(self.folder).runs)
        for _, _, record in read_lines(self.folder / LINES, 0):
            self._runs.fold(record | {"metrics": {}} if record["op"] == "log" else record)
        self._put({"op": "session", "owner": PROCESS, "at": _now_ms()})
        self._child = self._start_child()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(timeout_s=30.0)

    def start_run(
        self,
        key: str,
        *,
        stage: str,
        parent: str | None = None,
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, object] | None = None,
        config: Mapping[str, object] | None = None,
        content: str | None = None,
        resume: bool = False,
    ) -> int:
        """Begin a run.

        Args:
            key: Its name: "pipeline", "trial-0042", "fold-3".
            stage: prepare, lr_range, search, evaluate, register or report.
            parent: Key of the run it belongs to.
            params: What varies, by its flat name; on a parent the fixed ones, with the prefix `study.`.
            tags: More tags; every value becomes text.
            config: The whole configuration, kept as tag `lanewise.config`: the trial can be rebuilt from it.
            content: A digest of what the run is going to say, for `told`.
            resume: Go on with the last attempt unless it was complete, as a pipeline does that is continued.

        Returns:
            Number of the attempt, from 1. An open attempt at the same key is abandoned.

        Raises:
            TrackingError: A name or value that MLflow would refuse or cut.
        """
        texts = {"lanewise.stage": stage} | {name: as_text(value) for name, value in (tags or {}).items()}
        if config is not None:
            texts["lanewise.config"] = json.dumps(
                config, sort_keys=True, separators=(",", ":"), allow_nan=False
            )
        values = param_texts(params or {}, self._log_scale)
        check_pairs(key, texts, TAG_LENGTH)
        check_pairs(key, values, PARAM_LENGTH)
        with self._guard:
            last = self._runs.latest(key)
            again = resume and last is not None and last.state != "complete"
            attempt = (last.attempt if last else 0) + (0 if again else 1)
            self._epochs[key] = 0
            self._put(
                {
                    "op": "start", "key": key, "attempt": attempt, "at": _now_ms(), "owner": PROCESS,
                    "parent": parent, "content": content, "params": values,
                    "tags": {k: hidden(v) for k, v in texts.items()},
                }
            )  # fmt: skip
            return attempt

    def told(self, key: str, content: str) -> bool:
        """Whether a run with this content has ended, so that a stage that is done again need not tell it again."""
        with self._guard:
            run = self._runs.latest(key)
            return run is not None and run.content == content and run.state not in (RUNNING, "abandoned")

    def log(self, key: str, epoch: int, metrics: Mapping[str, float | None]) -> None:
        """Record metrics of one epoch.

        Args:
            key: An open run.
            epoch: The step.
            metrics: `train/loss`, `valid/<metric>`, ...; what is None or not finite is not sent, but named in
                the tag `lanewise.reason`.
        """
        found = {name: float(value) for name, value in metrics.items() if value is not None}
        kept = {name: value for name, value in found.items() if math.isfinite(value)}
        if not self._known_names.issuperset(kept):
            check_pairs(key, dict.fromkeys(kept, ""), 0)
            self._known_names.update(kept)
        with self._guard:
            self._epochs[key] = max(epoch, self._epochs.get(key, 0))
            if kept:
                self._put_for(key, {"op": "log", "epoch": epoch, "at": _now_ms(), "metrics": kept})
            if len(kept) < len(found):
                lost = ", ".join(f"{name} was {value}" for name, value in found.items() if name not in kept)
                self.tag(key, {"lanewise.reason": f"{lost} at epoch {epoch}"})

    def end(
        self,
        key: str,
        state: RunState,
        *,
        reason: str | None = None,
        objective: float | None = None,
        tags: Mapping[str, object] | None = None,
    ) -> None:
        """End a run.

        Args:
            state: complete and pruned are FINISHED in MLflow, failed is FAILED, abandoned is KILLED.
            reason: Why, as tag `lanewise.reason`.
            objective: The value it was searched for, as metric `objective`.
            tags: Last tags.
        """
        if state not in get_args(RunState):
            raise TrackingError(
                "a run cannot end like this", where=key, given=state, rule=", ".join(get_args(RunState))
            )
        finite = objective is not None and math.isfinite(objective)
        if objective is not None and not finite:
            reason = reason or f"objective was {objective}"
        with self._guard:
            if tags:
                self.tag(key, tags)
            self._put_for(
                key,
                {
                    "op": "end", "at": _now_ms(), "state": state, "epoch": self._epochs.pop(key, 0),
                    "reason": hidden(reason[:REASON_LENGTH]) if reason else None,
                    "objective": float(objective) if finite and objective is not None else None,
                },
            )  # fmt: skip

    def abandon(self, reason: str) -> None:
        """End every open run as abandoned; what is continued begins a new attempt."""
        with self._guard:
            for run in self._runs.newest():
                if not run.ended:
                    self.end(run.key, "abandoned", reason=reason)

    def tag(self, key: str, tags: Mapping[str, object]) -> None:
        """Set tags of a run, which may have ended."""
        texts = {name: as_text(value) for name, value in tags.items()}
        check_pairs(key, texts, TAG_LENGTH)
        self._put_for(key, {"op": "tag", "tags": {name: hidden(value) for name, value in texts.items()}})

    def note(self, key: str, text: str, *, ascending: bool, best: Sequence[str] = ()) -> None:
        """Set the description of a run, with links to the trials and to the comparison of the best.

        Args:
            text: Markdown, at most 3000 characters.
            ascending: True where a small objective is good.
            best: Keys of the runs to compare, best first.
        """
        # Two links with 20 run ids take 1300 of the 5000 characters of a tag.
        self._put_for(
            key, {"op": "note", "text": text[:3000], "ascending": ascending, "best": list(best)[:20]}
        )

    def artifact(self, key: str, source: Path | str, name: str) -> None:
        """Attach a file to a run.

        Args:
            source: A path, which is copied now, or text.
            name: Where it goes below the run's artifacts: "report/index.html".

        Raises:
            TrackingError: The name leaves the artifacts, or the file cannot be read.
        """
        if not all(_FILE.fullmatch(part) and ".." not in part for part in name.split("/")):
            raise TrackingError("an artifact cannot have this name", where=key, given=name)
        file = f"{FILES}/{uuid.uuid4().hex}/{name.rsplit('/', 1)[-1]}"
        target = self.folder / file
        try:
            target.parent.mkdir(parents=True)
            if isinstance(source, str):
                target.write_text(source)
            elif source.is_dir():
                shutil.copytree(source, target)
            else:
                shutil.copyfile(source, target)
        except OSError as error:
            shutil.rmtree(target.parent, ignore_errors=True)
            raise TrackingError("an artifact cannot be kept", where=key, given=error) from error
        self._put_for(key, {"op": "artifact", "file": file, "name": name})

    @contextmanager
    def tick(self) -> Iterator[None]:
        """Gather every call inside and append them in one write."""
        with self._guard:
            outer, self._lines = self._lines, self._lines if self._lines is not None else []
            try:
                yield
            finally:
                lines, self._lines = self._lines or [], outer
                if outer is None:
                    self._append(lines)

    def ready(self, timeout_s: float) -> bool:
        """Wait until MLflow was reached once.

        Returns:
            False when it is away or slow: training can go on, the spool keeps everything.

        Raises:
            TrackingError: It refuses the login, or the store cannot be used: someone must act first.
        """
        state = self._wait(timeout_s, lambda state: state.connected or state.problem is not None)
        if state.problem is None:
            return state.connected
        if state.problem["kind"] == "away":
            self._warn(state)
            return False
        raise TrackingError(state.problem["text"], where=redacted(self._uri))

    def flush(self, timeout_s: float) -> Delivery:
        """Deliver what is in the spool, open runs too.

        Args:
            timeout_s: Wait at most so long.

        Returns:
            What has reached MLflow; `pending` and `unreachable` say what has not, and why.

        Raises:
            TrackingError: The spool itself cannot be written: the disk is full.
        """
        with self._guard:
            self._writer.sync()
            self._flushes += 1
            number = self._flushes
        self._order(b"flush %d\n" % number)
        return self._outcome(self._wait(timeout_s, lambda state: state.flushed >= number))

    def close(self, timeout_s: float) -> Delivery:
        """Deliver, stop the delivering process and give the spool back; open runs stay open.

        Args:
            timeout_s: Wait at most so long; what is not delivered by then stays in the spool.
        """
        with self._guard:
            if self._child is None:
                return summary(State.load(self.folder))
            self._append([])
            child, self._child = self._child, None
        try:
            child.communicate(b"close\n", timeout=timeout_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        except BrokenPipeError:  # it ended before an order that is still in the pipe's buffer
            child.wait()
        self._writer.close()
        return self._outcome(State.load(self.folder))

    def _outcome(self, state: State) -> Delivery:
        self._warn(state)
        return replace(summary(state), pending=self._pending(state))

    def _pending(self, state: State) -> int:
        return _waiting(self.folder, state)

    def _open_target(self) -> None:
        path = self.folder / TARGET
        target = {"spool": uuid.uuid4().hex, "study": self.study, "uri": redacted(self._uri)}
        if path.exists():
            target |= {"spool": json.loads(path.read_text())["spool"]}
        write_atomic(path, json.dumps(target))

    def _start_child(self) -> subprocess.Popen[bytes] | None:
        # -P and the path: the child finds this very package, whatever lies in the working directory.
        package = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = quiet_environment() | IMPATIENT | {URI_VARIABLE: self._uri, "PYTHONPATH": path}
        log_path = self.folder / LOG
        if log_path.exists() and log_path.stat().st_size > LOG_BYTES:
            log_path.unlink()
        with log_path.open("ab") as log:
            # Its own session: Ctrl-C and a killed group must not take the deliverer along.
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "lanewise.tracking", str(self.folder.resolve()), self._session],
                stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip

    def _order(self, order: bytes) -> None:
        """Send an order to the child, a new one when it has died."""
        for _ in range(2):
            if self._child is None or self._child.poll() is not None:
                self._child = self._start_child()
            assert self._child is not None and self._child.stdin is not None
            try:
                self._child.stdin.write(order)
                self._child.stdin.flush()
            except BrokenPipeError:
                continue
            return

    def _wait(self, timeout_s: float, done: Any) -> State:
        """The state, once `done` says so of one that our own child wrote, or when the time is over."""
        deadline = time.monotonic() + timeout_s
        pause = 0.005
        while True:
            state = State.load(self.folder)
            if state.session == self._session and done(state):
                return state
            if self._child is not None and self._child.poll() is not None:
                text = f"the delivering process ended ({self._child.returncode}), see {self.folder / LOG}"
                return replace(state, problem={"kind": "away", "text": text})
            if time.monotonic() >= deadline:
                return state
            time.sleep(pause)
            pause = min(0.05, 1.5 * pause)

    def _put_for(self, key: str, record: dict[str, Any]) -> None:
        with self._guard:
            run = self._runs.latest(key)
            if run is None:
                raise TrackingError("this run was never started", where=key, remedy="call start_run first")
            self._put({"op": record["op"], "key": key, "attempt": run.attempt} | record)

    def _put(self, record: dict[str, Any]) -> None:
        if record["op"] != "log":
            self._runs.fold(record)
            run = self._runs.latest(record.get("key", ""))
            if run is not None:
                run.sent()  # only attempts and states are wanted here
        data = line(record)
        if self._lines is not None:
            self._lines.append(data)
        else:
            self._append([data])

    def _append(self, lines: list[bytes]) -> None:
        self._writer.append(lines)
        now = time.monotonic()
        if now - self._synced_at > SYNC_S:
            self._synced_at = now
            self._writer.try_sync()
        if now - self._watched_at > WATCH_S:
            self._watched_at = now
            self._watch()

    def _watch(self) -> None:
        state = State.load(self.folder)
        if state.session == self._session:
            self._warn(state)

    def _warn(self, state: State) -> None:
        """Say once that MLflow is away, and once that it is back."""
        text = state.problem["text"] if state.problem else None
        if text and not self._warned:
            _log.warning("tracking unreachable, spooling (%d records): %s", self._pending(state), text)
        elif self._warned and not text and state.connected:
            _log.warning("tracking is reachable again")
        self._warned = text


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def waiting(spool_dir: Path) -> int:
    """Records of a spool that have not reached MLflow."""
    return _waiting(spool_dir, State.load(spool_dir))


def _waiting(folder: Path, state: State) -> int:
    """Those that the deliverer has not even read among them."""
    return state.pending + sum(1 for _ in read_lines(folder / LINES, state.read))


def run_states(spool_dir: Path) -> dict[str, str]:
    """Key -> state of its last attempt, whichever process made it: a RunState, or "running"."""
    runs = Runs(State.load(spool_dir).runs)
    for _, _, record in read_lines(spool_dir / LINES, 0):
        runs.fold(record)
    return {run.key: run.state for run in runs.newest()}
