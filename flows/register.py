"""Stage 5 of a run: the model. Before it evaluate, after it report."""

from __future__ import annotations

from typing import Any

from flows.stage_flow import stage_flow
from tasks.job import Job
from tasks.register import publish, refit_and_test
from tasks.stages import StageResult


@stage_flow("register")
def register(
    job: Job, prepared: StageResult, evaluated: StageResult
) -> tuple[StageResult, dict[str, Any] | None]:
    """Refit the winner, open the seal once, store the model, give it its alias."""
    refitted = refit_and_test(job, prepared, evaluated)
    return refitted, publish(job, evaluated, refitted)
