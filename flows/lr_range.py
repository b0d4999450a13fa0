"""Stage 2 of a run: the usable learning rates. Before it prepare, after it search."""

from __future__ import annotations

from flows.stage_flow import stage_flow
from tasks.job import Job
from tasks.lr_range import ramp
from tasks.stages import StageResult


@stage_flow("lr_range")
def lr_range(job: Job, prepared: StageResult) -> StageResult:
    """Find where the loss falls."""
    return ramp(job, prepared)
