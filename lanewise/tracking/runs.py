"""From the lines of the spool to runs: what each of them still has to tell MLflow.

Before it stands `spool.py`, after it the writers; the tracker and the deliverer fold alike. A run is one
attempt at one key ("trial-0042", attempt 2). Folding the same lines twice gives the same runs, which is why
a restart may read them again. No input or output here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

RunState = Literal["complete", "pruned", "failed", "abandoned"]
RUNNING = "running"

# MLflow knows no pruned runs: they ended as they should, and a tag says so.
STATUS: Mapping[str, str] = {
    RUNNING: "RUNNING",
    "complete": "FINISHED",
    "pruned": "FINISHED",
    "failed": "FAILED",
    "abandoned": "KILLED",
}

Point = tuple[str, float, int, int]  # metric, value, time in ms, step


@dataclass
class Run:
    """One attempt at one key, and what MLflow has not been told of it.

    Args:
        owner: The process that started it.
        run_id: Its MLflow run; None until it is made.
        created: MLflow has it.
        content: What it says, as a digest of the caller's; None where the caller gave none.
        tags, params, points, artifacts, note: Not delivered yet.
        status_sent: The last state MLflow was told.
        unsent_from: Where the first undelivered record of it begins in the spool; None when there is none.
        unsent: How many undelivered records it has.
        touched_at: When it was last delivered, monotonic seconds.
    """

    key: str
    attempt: int
    owner: str = ""
    parent: str | None = None
    content: str | None = None
    run_id: str | None = None
    created: bool = False
    state: str = RUNNING
    status_sent: str | None = None
    started_at: int = 0
    ended_at: int | None = None
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    artifacts: list[tuple[str, str]] = field(default_factory=list)
    note: dict[str, Any] | None = None
    unsent_from: int | None = None
    unsent: int = 0
    touched_at: float = 0.0

    @property
    def ended(self) -> bool:
        return self.state != RUNNING

    def end(self, state: str, at: int, reason: str | None = None) -> None:
        """Close the run; `lanewise.state` says how, `lanewise.reason` why."""
        self.state, self.ended_at = state, at
        self.tags["lanewise.state"] = state
        if reason:
            self.tags["lanewise.reason"] = reason

    def sent(self) -> None:
        """Forget what MLflow has now."""
        self.created, self.status_sent = True, self.state
        self.tags, self.params, self.points, self.artifacts, self.note = {}, {}, [], [], None
        self.unsent_from, self.unsent = None, 0

    def record(self) -> dict[str, Any]:
        """What `state.json` keeps of it."""
        return {
            "key": self.key, "attempt": self.attempt, "owner": self.owner, "parent": self.parent,
            "content": self.content, "run_id": self.run_id, "state": self.status_sent if self.created else None,
        }  # fmt: skip


class Runs:
    """All runs of one spool, in the order they began, folded from its records."""

    def __init__(self, records: Iterable[Mapping[str, Any]] = ()) -> None:
        self._runs: dict[tuple[str, int], Run] = {}
        self._latest: dict[str, Run] = {}
        for record in records:
            run = Run(
                record["key"], record["attempt"], record["owner"], record["parent"],
                record.get("content"), record["run_id"],
            )  # fmt: skip
            if record["state"] is not None:
                run.created, run.state, run.status_sent = True, record["state"], record["state"]
            self._add(run)

    def __iter__(self) -> Any:
        return iter(self._runs.values())

    def newest(self) -> list[Run]:
        """The newest attempt at every key."""
        return list(self._latest.values())

    def latest(self, key: str) -> Run | None:
        """The newest attempt at a key."""
        return self._latest.get(key)

    def records(self) -> list[dict[str, Any]]:
        """What `state.json` keeps."""
        return [run.record() for run in self if run.run_id is not None]

    def fold(self, record: Mapping[str, Any], offset: int | None = None) -> Run | None:
        """Take in one record.

        Args:
            record: A line of the spool.
            offset: Where it begins; None when nothing is to be delivered of it.

        Returns:
            The run it belongs to; None for a record of the whole spool or of an unknown run.
        """
        if record["op"] not in (*_APPLY, "session"):
            return None  # of a newer version
        if record["op"] == "session":
            self.abandon(at=record["at"], keep_owner=record["owner"], offset=offset)
            return None
        key = record["key"]
        run = self._runs.get((key, record["attempt"]))
        if record["op"] == "start":
            run = self._start(record, run, offset)
        if run is None:
            return None
        _APPLY[record["op"]](run, record)
        _mark(run, offset)
        return run

    def abandon(self, *, at: int, keep_owner: str | None = None, offset: int | None = None) -> list[Run]:
        """End every open run, but for those of `keep_owner`: the process that trained them is gone."""
        lost = [run for run in self if not run.ended and (keep_owner is None or run.owner != keep_owner)]
        for run in lost:
            run.end("abandoned", at, "the process that trained it is gone")
            _mark(run, offset)
        return lost

    def _start(self, record: Mapping[str, Any], run: Run | None, offset: int | None) -> Run:
        before = self._latest.get(record["key"])
        if before is not None and not before.ended and before.attempt < record["attempt"]:
            before.end("abandoned", record["at"], "started again")
            _mark(before, offset)
        if run is None:
            run = Run(record["key"], record["attempt"], started_at=record["at"])
            self._add(run)
        return run

    def _add(self, run: Run) -> None:
        self._runs[run.key, run.attempt] = run
        latest = self._latest.get(run.key)
        if latest is None or latest.attempt <= run.attempt:
            self._latest[run.key] = run


def _mark(run: Run, offset: int | None) -> None:
    if offset is not None:
        run.unsent += 1
        run.unsent_from = offset if run.unsent_from is None else run.unsent_from


def _start(run: Run, record: Mapping[str, Any]) -> None:
    run.owner, run.parent, run.content = record["owner"], record["parent"], record.get("content")
    run.started_at = run.started_at or record["at"]
    run.state, run.ended_at = RUNNING, None
    run.params |= record["params"]
    run.tags |= record["tags"] | {"lanewise.state": RUNNING}


def _log(run: Run, record: Mapping[str, Any]) -> None:
    at, step = record["at"], record["epoch"]
    run.points.extend((name, value, at, step) for name, value in record["metrics"].items())


def _end(run: Run, record: Mapping[str, Any]) -> None:
    run.end(record["state"], record["at"], record["reason"])
    if record["objective"] is not None:
        run.points.append(("objective", record["objective"], record["at"], record["epoch"]))


def _tag(run: Run, record: Mapping[str, Any]) -> None:
    run.tags |= record["tags"]


def _note(run: Run, record: Mapping[str, Any]) -> None:
    run.note = dict(record)


def _artifact(run: Run, record: Mapping[str, Any]) -> None:
    run.artifacts.append((record["file"], record["name"]))


_APPLY = {"start": _start, "log": _log, "end": _end, "tag": _tag, "note": _note, "artifact": _artifact}
