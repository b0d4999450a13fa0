"""Tells MLflow about runs and model versions without slowing the training; mlflow is imported here only.

Reading order: `tracker` (what the training calls), `spool` (where its records wait), `runs` (what they add up
to), `deliver` (the process beside the training), `writers` (how MLflow is told), `store` (the database),
`links`, `read`, and `versions` (registered models). Nothing here trains, decides or knows Optuna.
"""

from lanewise.tracking.deliver import Deliverer, Delivery, deliver
from lanewise.tracking.links import compare_link, trials_link
from lanewise.tracking.read import champion_trial, is_run_id, latest_run, read_runs, read_text, read_trial
from lanewise.tracking.store import (
    absolute_uri,
    artifact_root,
    ensure_store,
    quiet_environment,
    server_command,
)
from lanewise.tracking.tracker import Tracker, run_states, waiting
from lanewise.tracking.versions import alias_version, fetch, promote, register

__all__ = [
    "Deliverer",
    "Delivery",
    "Tracker",
    "absolute_uri",
    "alias_version",
    "artifact_root",
    "champion_trial",
    "compare_link",
    "deliver",
    "run_states",
    "ensure_store",
    "fetch",
    "is_run_id",
    "latest_run",
    "promote",
    "quiet_environment",
    "read_runs",
    "read_text",
    "read_trial",
    "register",
    "server_command",
    "trials_link",
    "waiting",
]
