"""The two ways of telling MLflow about runs: its client, and for a known SQLite schema bulk transactions.

Before them stands `deliver.py`. `ClientWriter` is the reference and works with every address. `BulkWriter`
writes the same rows 25 times faster, but only for schema revisions it was compared with, test by test; any
other revision goes through the client. Both may be given the same run twice and write it once.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from lanewise.tracking.runs import STATUS, Point, Run
from lanewise.tracking.store import (
    artifact_root,
    client,
    ensure_experiment,
    ensure_store,
    in_trash,
    revision,
    sqlite_path,
)

# Schema revisions whose tables BulkWriter was compared with (tests/unit/test_tracking.py): MLflow 3.17.
BULK_REVISIONS = frozenset({"dc11669786a5"})

BUSY_TIMEOUT_S = 5.0
SERVER_THREADS = 4
METRICS_AT_ONCE, PARAMS_AT_ONCE, TAGS_AT_ONCE = 800, 100, 100  # limits of one log_batch: 1000, 100, 100

# Bad requests that will be bad for ever; everything else is worth another try.
PERMANENT = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE"})
REFUSED = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED"})

_log = logging.getLogger("lanewise.tracking")
_NAMESPACE = uuid.UUID("6d3a4f0e-63a1-4b53-9b0e-2f6f5f3c1c7e")


class Writer(Protocol):
    """Tells MLflow about runs.

    Attributes:
        experiment_id: The study's experiment.
        rejected: Key -> why MLflow will never take what this run has to say.
    """

    experiment_id: str
    rejected: dict[str, str]

    def write(self, runs: Sequence[Run], parent_id: Callable[[Run], str | None]) -> None:
        """Deliver everything these runs have to tell and mark them as sent.

        Args:
            runs: Parents before their children.
            parent_id: The MLflow run of a run's parent.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


def open_writer(uri: str, study: str, spool: Path, spool_id: str) -> Writer:
    """The fastest writer that is safe for an address; makes the store and the experiment when they are new.

    Args:
        uri: Absolute tracking address.
        study: Name of the experiment.
        spool: Folder of the spool, where copies of artifacts lie.
        spool_id: Makes run ids and tags of this spool unlike those of any other.
    """
    uri = ensure_store(uri)
    path = sqlite_path(uri)
    if path is not None:
        if revision(path) in BULK_REVISIONS:
            return BulkWriter(path, study, spool, spool_id)
        _log.warning(
            "schema %s is not known: writing through MLflow's client, 25 times slower", revision(path)
        )
    return ClientWriter(uri, study, spool, spool_id)


def experiment_artifacts(uri: str, study: str) -> str | None:
    """Where the artifacts of a study go; None where the server decides."""
    root = artifact_root(uri)
    return None if root is None else str(root / study)


class ClientWriter:
    """Writes through `MlflowClient`: the reference, for servers and unknown schemas.

    Args:
        uri, study, spool, spool_id: As for `open_writer`.
    """

    def __init__(self, uri: str, study: str, spool: Path, spool_id: str) -> None:
        self._client = client(uri)
        self._spool, self._spool_id = spool, spool_id
        self.experiment_id = ensure_experiment(self._client, study, experiment_artifacts(uri, study))
        self.rejected: dict[str, str] = {}
        self._known = self._search()
        # A server waits for its database most of the time: four at once are twice as fast.
        self._pool = ThreadPoolExecutor(SERVER_THREADS if uri.startswith("http") else 1)

    def write(self, runs: Sequence[Run], parent_id: Callable[[Run], str | None]) -> None:
        """See `Writer.write`; a run that MLflow will never take is put into `rejected`, the rest goes on."""
        for group in (
            [run for run in runs if run.parent is None],
            [run for run in runs if run.parent is not None],
        ):
            # A future that failed raises here, after the others of its group have ended.
            list(self._pool.map(lambda run: self._deliver(run, parent_id(run)), group))

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _deliver(self, run: Run, parent: str | None) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._write(run, parent)
        except MlflowException as error:
            if error.error_code not in PERMANENT:
                raise
            self.rejected[run.key] = str(error)[:500]
        run.sent()

    def _write(self, run: Run, parent: str | None) -> None:
        from mlflow.entities import Metric, Param, RunTag

        tags = dict(run.tags)
        if run.run_id is None:
            run.run_id = self._known.pop((run.key, run.attempt), None)
        if run.run_id is None:
            tags |= identity_tags(run, parent, self._spool_id)
            made = self._client.create_run(self.experiment_id, start_time=run.started_at, tags=tags)
            run.run_id, tags = str(made.info.run_id), {}
        # The time is the record's, not now: MLflow then knows a point that it was given twice.
        points = list(dict.fromkeys(run.points))
        params = list(run.params.items())
        rest = list(tags.items())
        while points or params or rest:
            self._client.log_batch(
                run.run_id,
                [Metric(name, value, at, step) for name, value, at, step in points[:METRICS_AT_ONCE]],
                [Param(name, value) for name, value in params[:PARAMS_AT_ONCE]],
                [RunTag(name, value) for name, value in rest[:TAGS_AT_ONCE]],
            )
            points, params, rest = points[METRICS_AT_ONCE:], params[PARAMS_AT_ONCE:], rest[TAGS_AT_ONCE:]
        for file, name in run.artifacts:
            if (self._spool / file).exists():
                self._client.log_artifact(
                    run.run_id, str(self._spool / file), name.rpartition("/")[0] or None
                )
        if run.state == run.status_sent:
            return
        if run.ended:
            self._client.set_terminated(run.run_id, STATUS[run.state], run.ended_at)
        elif run.created:
            self._client.update_run(run.run_id, status=STATUS[run.state])

    def _search(self) -> dict[tuple[str, int], str]:
        """Runs of this spool that MLflow has already: a killed deliverer may not have noted the last ones."""
        known: dict[tuple[str, int], str] = {}
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self.experiment_id],
                f"tags.`lanewise.spool` = '{self._spool_id}'",
                max_results=1000,
                page_token=token,
            )
            for run in page:
                known[run.data.tags["lanewise.key"], int(run.data.tags["lanewise.attempt"])] = run.info.run_id
            token = page.token
            if not token:
                return known


class BulkWriter:
    """Writes the rows MLflow would write, all runs in one transaction.

    Run ids are derived from the spool, the key and the attempt, so a run that is written twice is one run.

    Args:
        path: The SQLite file.
        study, spool, spool_id: As for `open_writer`.

    Raises:
        TrackingError: The experiment lies in the trash.
    """

    def __init__(self, path: Path, study: str, spool: Path, spool_id: str) -> None:
        self._spool, self._spool_id = spool, spool_id
        self._db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        # FULL: a commit survives a power cut, as the spool believes it does.
        self._db.executescript("PRAGMA foreign_keys=ON; PRAGMA synchronous=FULL;")
        self.rejected: dict[str, str] = {}
        now = time.time_ns() // 1_000_000
        self._db.execute(
            "INSERT OR IGNORE INTO experiments"
            " (name, artifact_location, lifecycle_stage, creation_time, last_update_time, workspace)"
            " VALUES (?, ?, 'active', ?, ?, 'default')",
            (study, experiment_artifacts(f"sqlite:///{path}", study), now, now),
        )
        found = self._db.execute(
            "SELECT experiment_id, artifact_location, lifecycle_stage FROM experiments"
            " WHERE name = ? AND workspace = 'default'",
            (study,),
        ).fetchone()
        self.experiment_id, self._artifacts = str(found[0]), str(found[1])
        if found[2] != "active":
            self._db.close()
            raise in_trash(study, found[0])

    def write(self, runs: Sequence[Run], parent_id: Callable[[Run], str | None]) -> None:
        """See `Writer.write`."""
        for run in runs:
            if run.run_id is None:
                run.run_id = uuid.uuid5(_NAMESPACE, f"{self._spool_id}/{run.key}/{run.attempt}").hex
        self._db.execute("BEGIN IMMEDIATE")
        try:
            gone = self._gone(runs)
            there = [run for run in runs if run.key not in gone]
            self._write_rows(there, parent_id)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self.rejected |= dict.fromkeys(gone, "its MLflow run is gone: the database was replaced or cleaned")
        for run in there:
            for file, name in run.artifacts:
                self._copy(run, self._spool / file, name)
        for run in runs:
            run.sent()

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def _write_rows(self, runs: Sequence[Run], parent_id: Callable[[Run], str | None]) -> None:
        new = [run for run in runs if not run.created]
        self._db.executemany(
            "INSERT OR IGNORE INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id,"
            " status, start_time, end_time, source_version, lifecycle_stage, artifact_uri, experiment_id,"
            " deleted_time)"
            " VALUES (?, ?, 'UNKNOWN', '', '', 'unknown', 'RUNNING', ?, NULL, '', 'active', ?, ?, NULL)",
            [
                (
                    r.run_id,
                    r.key,
                    r.started_at,
                    f"{self._artifacts}/{r.run_id}/artifacts",
                    int(self.experiment_id),
                )
                for r in new
            ],
        )
        self._db.executemany(
            "UPDATE runs SET status = ?, end_time = coalesce(?, end_time) WHERE run_uuid = ?",
            [(STATUS[r.state], r.ended_at, r.run_id) for r in runs if r.state != r.status_sent],
        )
        tags = [(r.run_id, r.tags) for r in runs]
        tags += [(r.run_id, identity_tags(r, parent_id(r), self._spool_id)) for r in new]
        self._db.executemany(
            "INSERT INTO tags (run_uuid, key, value) VALUES (?, ?, ?)"
            " ON CONFLICT (key, run_uuid) DO UPDATE SET value = excluded.value",
            [(run_id, key, value) for run_id, pairs in tags for key, value in pairs.items()],
        )
        self._db.executemany(
            "INSERT OR IGNORE INTO params (run_uuid, key, value) VALUES (?, ?, ?)",
            [(r.run_id, key, value) for r in runs for key, value in r.params.items()],
        )
        self._db.executemany(
            "INSERT OR IGNORE INTO metrics (run_uuid, key, value, timestamp, step, is_nan)"
            " VALUES (?, ?, ?, ?, ?, 0)",
            [(r.run_id, *point) for r in runs for point in r.points],
        )
        self._db.executemany(
            "INSERT INTO latest_metrics (run_uuid, key, value, timestamp, step, is_nan)"
            " VALUES (?, ?, ?, ?, ?, 0)"
            " ON CONFLICT (key, run_uuid) DO UPDATE SET"
            " value = excluded.value, timestamp = excluded.timestamp, step = excluded.step, is_nan = 0"
            " WHERE (excluded.step, excluded.timestamp, excluded.value)"
            " > (latest_metrics.step, latest_metrics.timestamp, latest_metrics.value)",
            [(r.run_id, *point) for r in runs for point in newest(r.points)],
        )

    def _gone(self, runs: Sequence[Run]) -> set[str]:
        """Keys of runs that were made before and are not in the database any more."""
        made = [run for run in runs if run.created]
        find = "SELECT 1 FROM runs WHERE run_uuid = ?"
        return {run.key for run in made if self._db.execute(find, (run.run_id,)).fetchone() is None}

    def _copy(self, run: Run, source: Path, name: str) -> None:
        """Bring an artifact to its place; a source that is gone was brought there before a crash."""
        if not source.exists():
            return
        parts = urlsplit(self._artifacts)
        if parts.scheme not in ("", "file"):
            self.rejected[run.key] = f"artifacts of this experiment go to {self._artifacts}, not to this disk"
            return
        target = Path(unquote(parts.path), str(run.run_id), "artifacts", name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
            return
        new = target.with_name(f".{target.name}.new")
        shutil.copyfile(source, new)
        new.replace(target)


def identity_tags(run: Run, parent: str | None, spool_id: str) -> dict[str, str]:
    """Tags that say which run this is; a restarted deliverer finds it by them."""
    tags = {
        "mlflow.runName": run.key,
        "lanewise.key": run.key,
        "lanewise.attempt": str(run.attempt),
        "lanewise.spool": spool_id,
    }
    return tags | {"mlflow.parentRunId": parent} if parent else tags


def newest(points: Iterable[Point]) -> list[Point]:
    """The latest point of each metric, by step, then time, then value, as MLflow has it."""
    latest: dict[str, Point] = {}
    for point in points:
        name, value, at, step = point
        best = latest.get(name)
        if best is None or (step, at, value) > (best[3], best[2], best[1]):
            latest[name] = point
    return list(latest.values())
