"""Stage 3 of a run: the search. Before it lr_range, after it evaluate."""

from __future__ import annotations

from flows.stage_flow import stage_flow
from tasks.job import Job
from tasks.search import search_trials
from tasks.stages import StageResult


@stage_flow("search")
def search(job: Job, prepared: StageResult, ranged: StageResult) -> StageResult:
    """Train trials as lanes, prune, refill, until the budget is spent."""
    return search_trials(job, prepared, ranged)
