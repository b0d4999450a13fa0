"""Reads runs back from MLflow, so that a trial can be replayed from its record alone; it writes nothing."""

from __future__ import annotations

import json
import re
from typing import Any

from lanewise.errors import TrackingError
from lanewise.tracking.store import client, ensure_store


def read_trial(run: str, *, uri: str, study: str | None = None) -> dict[str, Any]:
    """Everything that was recorded of a run.

    Args:
        run: An MLflow run id, or with `study` the key of a run: "trial-0042". Of several attempts the last
            that ended well, else the last.
        uri: Tracking address.
        study: Name of the experiment.

    Returns:
        run_id, key, attempt, status, state, params, tags, config (None when none was recorded), and metrics:
        name -> [(step, value), ...] by step.

    Raises:
        TrackingError: There is no such run, or MLflow is away.
    """
    mlflow = client(ensure_store(uri))
    from mlflow.exceptions import MlflowException

    try:
        run_id = run if re.fullmatch(r"[0-9a-f]{32}", run) else _find(mlflow, run, study)
        found = mlflow.get_run(run_id)
        history = {name: mlflow.get_metric_history(run_id, name) for name in found.data.metrics}
    except MlflowException as error:
        raise TrackingError(
            "this run cannot be read", where=run, given=str(error).splitlines()[0][:300]
        ) from error
    tags = dict(found.data.tags)
    config = tags.get("lanewise.config")
    return {
        "run_id": run_id,
        "key": tags.get("lanewise.key", found.info.run_name),
        "attempt": int(tags.get("lanewise.attempt", "1")),
        "status": found.info.status,
        "state": tags.get("lanewise.state"),
        "params": dict(found.data.params),
        "tags": tags,
        "config": json.loads(config) if config else None,
        "metrics": {name: sorted((p.step, p.value) for p in points) for name, points in history.items()},
    }


def _find(mlflow: Any, key: str, study: str | None) -> str:
    experiment = mlflow.get_experiment_by_name(study) if study else None
    if experiment is None:
        raise TrackingError(
            "there is no such experiment", where=key, given=study, remedy="name the study the run is of"
        )
    found = mlflow.search_runs(
        [experiment.experiment_id], f"tags.`lanewise.key` = '{key}'", order_by=["attributes.start_time DESC"]
    )
    if not found:
        raise TrackingError("there is no such run", where=study, given=key)
    well = [run for run in found if run.info.status == "FINISHED"]
    return str((well or found)[0].info.run_id)
