"""Stage 1 of a run: the data. Before it the study, after it lr_range."""

from __future__ import annotations

from flows.stage_flow import stage_flow
from tasks.job import Job
from tasks.prepare import read_and_seal
from tasks.stages import StageResult


@stage_flow("prepare")
def prepare(job: Job) -> StageResult:
    """Read, check and split the data; seal the test rows."""
    return read_and_seal(job)
