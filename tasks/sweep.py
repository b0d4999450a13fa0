"""Closes in Prefect what a killed process left RUNNING; called while the study is held, so nobody runs it.

A SIGKILL gives no chance to say goodbye, and Prefect shows such a run as running for ever. The id of the
present run stands in a file beside the lock; who finds one there that has not ended knows that its
process is gone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterParentFlowRunId,
)
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Crashed

from lanewise.fault_points import fault

FILE = "flow-run"
_GONE = "the process that ran this is gone"
_log = logging.getLogger("lanewise.run")


@contextmanager
def noted(folder: Path) -> Iterator[bool]:
    """Note the present flow run beside the lock, and close the one a killed process noted there.

    Args:
        folder: The study's own, held by this process.

    Yields:
        Whether the run before this one was cut off.
    """
    path = folder / FILE
    present = flow_run.id
    cut_off = path.exists()
    sweep(folder)
    if present:
        path.write_text(str(present), encoding="utf-8")
    yield cut_off
    # Not in a `finally`: Prefect itself closes the run after an exception, unless the server is gone too.
    path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Close in Prefect the run that a dead process noted in a study's folder; without one, nothing."""
    path = folder / FILE
    if path.exists():
        _close(path.read_text(encoding="utf-8").strip())


def is_open(run: str) -> bool:
    """Whether a flow run has not ended in Prefect's eyes; False where Prefect does not know it."""
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(run)).state
    except (ObjectNotFound, ValueError):
        return False
    return state is None or not state.is_final()


def _close(text: str) -> None:
    try:
        parent = UUID(text)
    except ValueError:
        return
    try:
        with get_client(sync_client=True) as client:
            run = client.read_flow_run(parent)
            if run.state is not None and run.state.is_final():
                return
            fault("in_sweep")
            below = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[parent]))
            for child in client.read_flow_runs(flow_run_filter=below):
                _crash(client, child.id)
            _crash(client, parent)
    except ObjectNotFound:  # of another server
        return
    except Exception as error:  # noqa: BLE001  # cosmetic: the run itself must not fail by it
        _log.warning("an earlier run could not be closed in Prefect (%s)", type(error).__name__)


def _crash(client: SyncPrefectClient, run: UUID) -> None:
    state = client.read_flow_run(run).state
    if state is not None and state.is_final():
        return
    tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])))
    for task in tasks:
        if task.state is None or not task.state.is_final():
            client.set_task_run_state(task.id, Crashed(message=_GONE), force=True)
    client.set_flow_run_state(run, Crashed(message=_GONE), force=True)
