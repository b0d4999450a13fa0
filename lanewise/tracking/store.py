"""The store behind an MLflow address: which addresses are allowed, making and checking the database.

Before it stands the study's `tracking.uri`, after it the writers and the versions. A database that is
there is never made anew, and a fresh one appears under its name only when it is complete.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lanewise.errors import StudyError, TrackingError
from lanewise.file_systems import network_file_system
from lanewise.names import redacted
from lanewise.tracking.spool import held

if TYPE_CHECKING:
    from mlflow import MlflowClient

# For every process that we start and for this one before mlflow is imported.
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
# A server that is away must cost seconds, not the four minutes of MLflow's defaults: the spool keeps all.
IMPATIENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}

CREATE_WAIT_S = 120.0

_log = logging.getLogger("lanewise.tracking")


def quiet_environment() -> dict[str, str]:
    """Environment for every process we start: no telemetry, no pickled models, no job runner."""
    return dict(os.environ) | QUIET


def client(uri: str) -> MlflowClient:
    """An MLflow client for an address; the only way in. Importing mlflow takes a second."""
    os.environ.update(QUIET)
    from mlflow import MlflowClient

    # What goes wrong is raised; MLflow's own log of it may hold the address with its password.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def absolute_uri(uri: str, base: Path | None = None) -> str:
    """An allowed tracking address, with an absolute path for SQLite.

    Args:
        uri: As in the study.
        base: Folder a relative SQLite path starts at; the working directory by default.

    Raises:
        StudyError: The address is of no kind that works.
    """
    scheme = urlsplit(uri).scheme.split("+")[0]
    if scheme in ("http", "https", "postgresql", "mysql", "mssql"):
        return uri
    path = sqlite_path(uri, base)
    if path is None:
        raise StudyError(
            "this tracking address cannot be used", where="tracking.uri", given=redacted(uri),
            rule="sqlite:///FILE, http(s)://HOST or postgresql://...; MLflow 3 has closed its file store",
            remedy="leave it out for sqlite:///mlruns/mlflow.db",
        )  # fmt: skip
    return f"sqlite:///{path}"


def sqlite_path(uri: str, base: Path | None = None) -> Path | None:
    """The absolute path of a SQLite address; None for every other one."""
    if not uri.startswith("sqlite:///") or ":memory:" in uri or "?" in uri:
        return None
    name = uri.removeprefix("sqlite:///")
    return (base or Path.cwd()).joinpath(name).resolve() if name else None


def artifact_root(uri: str, base: Path | None = None) -> Path | None:
    """Where artifacts go: beside a SQLite file; None where the server decides."""
    if urlsplit(uri).scheme in ("http", "https"):
        return None
    path = sqlite_path(uri, base)
    return path.parent / "artifacts" if path else (base or Path.cwd()).resolve() / "mlruns" / "artifacts"


def ensure_store(uri: str, base: Path | None = None) -> str:
    """Make or upgrade the database behind an address, once, whoever else tries at the same time.

    Args:
        uri: As in the study.
        base: Folder a relative SQLite path starts at.

    Returns:
        The absolute address.

    Raises:
        StudyError: The address is of no kind that works.
        TrackingError: The file is no MLflow database, is damaged, is newer than this MLflow, or lies on a
            network file system.
    """
    uri = absolute_uri(uri, base)
    path = sqlite_path(uri)
    if path is None or check_store(uri):
        return uri
    path.parent.mkdir(parents=True, exist_ok=True)
    with held(path.with_name(f".{path.name}.lock"), wait_s=CREATE_WAIT_S) as got:
        if not got:
            raise TrackingError("another process has been making this database for too long", where=path)
        if not path.exists():
            _create(path)
        elif revision(path) != head_revision():
            _upgrade(path)
    return uri


def check_store(uri: str) -> bool:
    """Whether a SQLite store is there and up to date; takes milliseconds and does not import MLflow.

    Args:
        uri: Absolute address; one that is not SQLite is not looked at, and False.

    Raises:
        TrackingError: The file is no MLflow database, is damaged, is newer than this MLflow, or lies on a
            network file system.
    """
    path = sqlite_path(uri)
    if path is None:
        return False
    refuse_network_file_system(path)
    if not path.exists():
        return False
    found = revision(path)
    if found not in revisions():
        raise TrackingError(
            "this database was made by a newer MLflow", where=path,
            given=f"revision {found}; MLflow {version('mlflow')} knows up to {head_revision()}",
            remedy="upgrade mlflow, or name another file in tracking.uri",
        )  # fmt: skip
    return found == head_revision()


def revision(path: Path) -> str:
    """The schema revision of an MLflow database, read without MLflow.

    Raises:
        TrackingError: It is another program's database, empty or damaged.
    """
    remedy = "name another file in tracking.uri, or move this one away"
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)
        try:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            rows = connection.execute("SELECT version_num FROM alembic_version").fetchall() if tables else []
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise TrackingError("this is no readable database", where=path, given=error, remedy=remedy) from error
    if "studies" in tables:
        raise TrackingError(
            "this database belongs to Optuna", where=path, remedy=remedy,
            rule="MLflow and Optuna must not share one: both own the table alembic_version",
        )  # fmt: skip
    if not {"runs", "experiments"} <= tables or len(rows) != 1:
        raise TrackingError("this is no MLflow database", where=path, remedy=remedy)
    return str(rows[0][0])


@lru_cache(maxsize=1)
def revisions() -> dict[str, str]:
    """The schema revisions of the installed MLflow, revision -> the one before; read without importing it."""
    spec = find_spec("mlflow")
    if spec is None or not spec.submodule_search_locations:
        raise TrackingError("MLflow is not installed", remedy="pip install lanewise")
    found = {}
    for file in Path(spec.submodule_search_locations[0], "store", "db_migrations", "versions").glob("*.py"):
        text = file.read_text()
        this, before = (
            re.search(rf'^{name}\s*=\s*(?:"([0-9a-f]+)"|None)', text, re.M)
            for name in ("revision", "down_revision")
        )
        if this and this[1]:
            found[this[1]] = (before[1] or "") if before else ""
    return found


def head_revision() -> str:
    """The schema revision the installed MLflow wants."""
    known = revisions()
    heads = set(known) - set(known.values())
    if len(heads) != 1:
        raise TrackingError("the schema of the installed MLflow cannot be told", given=sorted(heads))
    return heads.pop()


def refuse_network_file_system(path: Path, mounts: str = "/proc/mounts") -> None:
    """Refuse a database on a network file system, where SQLite's locks do not hold.

    Args:
        mounts: See `network_file_system`.
    """
    kind = network_file_system(path, mounts)
    if kind:
        raise TrackingError(
            "SQLite is not safe on a network file system", where=path, given=kind,
            remedy="put tracking.uri on a local disk, or use a PostgreSQL or MLflow server",
        )  # fmt: skip


def _create(path: Path) -> None:
    """Build the database under another name and move it in: a killed creation leaves nothing half made."""
    schema = Path(__file__).with_name(f"mlflow_{head_revision()}.sql")
    with tempfile.TemporaryDirectory(prefix=".mlflow-", dir=path.parent) as folder:
        new, artifacts = Path(folder, path.name), path.parent / "artifacts"
        new.touch(0o600)
        if schema.exists():
            _create_from(schema, new, artifacts)
        else:
            create_by_mlflow(new, artifacts)
        connection = sqlite3.connect(new)
        # Readers (the UI) and the writer do not wait for each other; the mode stays with the file.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
        new.rename(path)


def _create_from(schema: Path, path: Path, artifacts: Path) -> None:
    """Build the database from the schema that MLflow's migrations lead to: 0.05 s instead of 2.5 s."""
    now = time.time_ns() // 1_000_000
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(f"BEGIN;\n{schema.read_text()}")
    connection.execute(
        "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, creation_time,"
        " last_update_time, workspace) VALUES (0, 'Default', ?, 'active', ?, ?, 'default')",
        (str(artifacts / "0"), now, now),
    )
    connection.execute("COMMIT")
    connection.close()


def create_by_mlflow(path: Path, artifacts: Path) -> None:
    """Build the database as MLflow does: the reference, and the way for schemas we have no copy of."""
    os.environ.update(QUIET)
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    make: Any = SqlAlchemyStore  # MLflow leaves it untyped
    make(f"sqlite:///{path}", str(artifacts)).engine.dispose()


def _upgrade(path: Path) -> None:
    """Copy an older database, then bring it up to date."""
    found = revision(path)
    copy = path.with_name(f"{path.name}.{found}.bak")
    copy.touch(0o600)
    source, target = sqlite3.connect(path), sqlite3.connect(copy)
    source.backup(target)  # also takes what still lies in the write-ahead log
    source.close()
    target.close()
    _log.warning("%s is of an older MLflow: copied to %s and upgraded", path, copy)
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{path}"]
    done = subprocess.run(command, env=quiet_environment(), capture_output=True, text=True)
    if done.returncode:
        raise TrackingError(
            "the database could not be upgraded", where=path, given=done.stderr.strip().splitlines()[-1:],
            remedy=f"the untouched copy is {copy}",
        )  # fmt: skip


def ensure_experiment(mlflow: MlflowClient, name: str, artifacts: str | None) -> str:
    """The id of the experiment of a study, which is made when it is new.

    Args:
        artifacts: Where its artifacts go; None where the server decides.

    Raises:
        TrackingError: It lies in MLflow's trash.
    """
    from mlflow.exceptions import MlflowException

    found = mlflow.get_experiment_by_name(name)
    if found is None:
        try:
            return str(mlflow.create_experiment(name, artifact_location=artifacts))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = mlflow.get_experiment_by_name(name)  # someone else was faster
    if found is None or found.lifecycle_stage == "deleted":
        raise in_trash(name, found.experiment_id if found else "?")
    return str(found.experiment_id)


def in_trash(name: str, experiment_id: object) -> TrackingError:
    """The error for a study whose experiment was deleted."""
    return TrackingError(
        "the experiment of this study is in MLflow's trash", where=name,
        remedy=f"mlflow experiments restore --experiment-id {experiment_id}, or choose another name",
    )  # fmt: skip


def lock_file(uri: str, name: str) -> Path:
    """What to lock while something behind an address is compared and set: beside a database or per user."""
    path = sqlite_path(uri)
    if path is not None:
        return path.parent / f".{name}.lock"
    tag = hashlib.sha256(redacted(uri).encode()).hexdigest()[:16]
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "lanewise" / f"{tag}-{name}.lock"


def server_command(uri: str, port: int, base: Path | None = None) -> list[str]:
    """The command that shows a tracking database in a browser, for this machine only, without job runners."""
    uri = absolute_uri(uri, base)
    return [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--no-serve-artifacts",
        "--default-artifact-root", str(artifact_root(uri, base)), "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1",
    ]  # fmt: skip
