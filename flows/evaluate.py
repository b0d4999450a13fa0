"""Stage 4 of a run: is the winner really better? Before it search, after it register."""

from __future__ import annotations

from flows.stage_flow import stage_flow
from tasks.evaluate import cross_validate
from tasks.job import Job
from tasks.stages import StageResult


@stage_flow("evaluate")
def evaluate(job: Job, prepared: StageResult, searched: StageResult) -> StageResult:
    """Cross-validate the finalists next to the default and the baselines."""
    return cross_validate(job, prepared, searched)
