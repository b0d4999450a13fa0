"""What all flows of a run have in common; used by tune and its six stages.

Records between stages are ours and checked where they are made, so Prefect need not validate them. Prefect
writes the exception of every failed flow to its result storage: as JSON, never as a pickle.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Flow, flow
from prefect.runtime import deployment
from prefect.states import Completed

from lanewise.errors import StudyHeldError

P = ParamSpec("P")
R = TypeVar("R")


def stage_flow(name: str) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """Decorate the flow of a stage, which only `tune` calls."""
    return flow(name=name, validate_parameters=False, persist_result=False, result_serializer="json")


def started_flow(name: str) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """Decorate a flow that people and schedules start.

    Where a schedule comes while another run holds the study, its run ends well and says so: two deployments
    of one study are not two jobs.
    """

    def decorate(function: Callable[P, R]) -> Flow[P, R]:
        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> Any:
            try:
                return function(*args, **kwargs)
            except StudyHeldError as error:
                if not deployment.id:
                    raise
                return Completed(name="Skipped", message=f"still running: {error.given}")

        return flow(name=name, persist_result=False, result_serializer="json")(run)

    return decorate
