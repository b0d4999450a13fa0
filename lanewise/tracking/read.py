"""Reads runs back from MLflow, so that a trial can be replayed from its record alone; it writes nothing."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lanewise.errors import TrackingError
from lanewise.names import redacted
from lanewise.tracking.spool import TARGET
from lanewise.tracking.store import IMPATIENT, client, ensure_store, sqlite_path
from lanewise.tracking.versions import alias_version

_RUN_ID = re.compile(r"[0-9a-f]{32}")


def is_run_id(text: str) -> bool:
    """Whether a text is an MLflow run id."""
    return _RUN_ID.fullmatch(text) is not None


def read_trial(run: str, *, uri: str, study: str | None = None, split: str | None = None) -> dict[str, Any]:
    """Everything that was recorded of a run.

    Args:
        run: An MLflow run id, or with `study` the key of a run: "trial-0042". Of several attempts the last
            that ended well, else the last.
        uri: Tracking address.
        study: Name of the experiment.
        split: Only runs on this split; a study whose rows changed has a trial of each number for each.

    Returns:
        run_id, study, parent (its run id, or None), key, attempt, status, state, params, tags, config (None
        when none was recorded), and metrics: name -> [(step, value), ...] by step.

    Raises:
        TrackingError: There is no such run, or MLflow is away.
    """
    with _reading(uri, run) as mlflow:
        run_id = run if is_run_id(run) else _find(mlflow, run, study, split)
        found = mlflow.get_run(run_id)
        experiment = mlflow.get_experiment(found.info.experiment_id)
        history = {name: mlflow.get_metric_history(run_id, name) for name in found.data.metrics}
    tags = dict(found.data.tags)
    config = tags.get("lanewise.config")
    return {
        "run_id": run_id,
        "study": experiment.name,
        "parent": tags.get("mlflow.parentRunId"),
        "key": tags.get("lanewise.key", found.info.run_name),
        "attempt": int(tags.get("lanewise.attempt", "1")),
        "status": found.info.status,
        "state": tags.get("lanewise.state"),
        "params": dict(found.data.params),
        "tags": tags,
        "config": json.loads(config) if config else None,
        "metrics": {name: sorted((p.step, p.value) for p in points) for name, points in history.items()},
    }


def read_runs(study: str, spool_dir: Path, *, uri: str) -> list[dict[str, Any]]:
    """Every run that MLflow has of a spool.

    Returns:
        For each: key, attempt, run_id, status, state, and metrics: name -> [(step, value), ...] by step.

    Raises:
        TrackingError: MLflow is away.
    """
    spool = json.loads((spool_dir / TARGET).read_text(encoding="utf-8"))["spool"]
    found: list[dict[str, Any]] = []
    with _reading(uri, study) as mlflow:
        experiment = mlflow.get_experiment_by_name(study)
        token: str | None = "" if experiment else None
        while token is not None:
            page = mlflow.search_runs(
                [experiment.experiment_id], f"tags.`lanewise.spool` = '{spool}'", max_results=1000,
                page_token=token or None,
            )  # fmt: skip
            for run in page:
                run_id, tags = run.info.run_id, run.data.tags
                history = {name: mlflow.get_metric_history(run_id, name) for name in run.data.metrics}
                found.append({
                    "key": tags["lanewise.key"], "attempt": int(tags["lanewise.attempt"]), "run_id": run_id,
                    "status": run.info.status, "state": tags.get("lanewise.state"),
                    "metrics": {n: sorted((p.step, p.value) for p in points) for n, points in history.items()},
                })  # fmt: skip
            token = page.token or None
    return found


def read_text(run_id: str, name: str, *, uri: str) -> str | None:
    """A text attached to a run; None where there is none.

    Args:
        run_id: MLflow's.
        name: As it was attached: "study.json".
        uri: Tracking address.

    Raises:
        TrackingError: There is no such run, or MLflow is away.
    """
    with _reading(uri, run_id) as mlflow:
        if name not in {file.path for file in mlflow.list_artifacts(run_id)}:
            return None
        with tempfile.TemporaryDirectory() as folder:
            return Path(mlflow.download_artifacts(run_id, name, folder)).read_text(encoding="utf-8")


def latest_run(key: str, *, uri: str, study: str) -> str:
    """Run id of the last run of a study at a key, such as "pipeline".

    Raises:
        TrackingError: There is none, or MLflow is away.
    """
    with _reading(uri, key) as mlflow:
        return _find(mlflow, key, study, None)


def champion_trial(model: str, *, uri: str) -> tuple[str, str, str | None]:
    """The trial whose configuration the champion of a model has.

    Returns:
        Its study, its key, and the split it was searched on.

    Raises:
        TrackingError: There is no champion, or it does not say where it comes from.
    """
    with _reading(uri, model) as mlflow:
        version = alias_version(model, "champion", uri)
        if version is None:
            raise TrackingError(
                "this model has no champion", where=f"models:/{model}", rule="a version with that alias",
                remedy="name a trial instead: lanewise replay STUDY/trial-0042",
            )  # fmt: skip
        made = mlflow.get_run(mlflow.get_model_version(model, version).run_id)
        experiment = mlflow.get_experiment(made.info.experiment_id)
    winner = made.data.tags.get("lanewise.winner")
    if winner is None:
        raise TrackingError(
            "the champion does not say which trial it comes from", where=f"models:/{model}/{version}"
        )
    key = "trial-0000" if winner == "default" else winner
    return experiment.name, key, made.data.tags.get("lanewise.split")


@contextmanager
def _reading(uri: str, where: str) -> Iterator[Any]:
    """A client whose exceptions become ours; a server that is away costs seconds, not minutes."""
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        raise TrackingError(
            "there is no MLflow database", where=path,
            remedy="go to the folder the study ran in, or name the address with --tracking-uri",
        )  # fmt: skip
    for name, value in IMPATIENT.items():
        os.environ.setdefault(name, value)
    mlflow = client(ensure_store(uri))
    from mlflow.exceptions import MlflowException

    try:
        yield mlflow
    except MlflowException as error:
        raise TrackingError(
            "this run cannot be read", where=where, given=str(error).splitlines()[0][:300],
            remedy=f"check the name, and that {redacted(uri)} is the tracking address it was recorded at",
        ) from error  # fmt: skip


def _find(mlflow: Any, key: str, study: str | None, split: str | None) -> str:
    experiment = mlflow.get_experiment_by_name(study) if study else None
    if experiment is None:
        raise TrackingError(
            "there is no such experiment", where=key, given=study, remedy="name the study the run is of"
        )
    wanted = f"tags.`lanewise.key` = '{key}'" + (f" and tags.`lanewise.split` = '{split}'" if split else "")
    found = mlflow.search_runs([experiment.experiment_id], wanted, order_by=["attributes.start_time DESC"])
    if not found:
        raise TrackingError("there is no such run", where=study, given=key)
    well = [run for run in found if run.info.status == "FINISHED"]
    return str((well or found)[0].info.run_id)
