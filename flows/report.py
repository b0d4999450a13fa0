"""Stage 6 of a run: the report. Before it all other stages."""

from __future__ import annotations

from typing import Any

from flows.stage_flow import stage_flow
from tasks.job import Job
from tasks.report import remember_version, summary_of, write_report
from tasks.stages import StageResult


@stage_flow("report")
def report(
    job: Job,
    prepared: StageResult,
    ranged: StageResult,
    searched: StageResult,
    evaluated: StageResult,
    refitted: StageResult,
    version: dict[str, Any] | None,
) -> dict[str, Any]:
    """Write what came out; returns the words for people, the page and the version."""
    remember_version(job, version)
    written = write_report(job, prepared, ranged, searched, evaluated, refitted)
    return {"summary": summary_of(written), "report": written.result["page"], "version": version}
