"""Which strategy suits a study: the same search by each of them, over several seeds, and a page of the outcome.

A flow beside `tune`; its searches are the first three stages of a run, each under a name of its own, so a
comparison that was cut off goes on with the same command.
"""

from __future__ import annotations

from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.lr_range import lr_range
from flows.prepare import prepare
from flows.search import search
from flows.stage_flow import started_flow
from tasks.compare import searches, write_comparison
from tasks.job import opened
from tasks.progress import Event, say


@started_flow("compare")
def compare(
    study: str, strategies: list[str], seeds: int, overrides: dict[str, str] | None = None
) -> dict[str, str]:
    """Search by every strategy with every seed, and compare.

    Args:
        study: Path of the study file.
        strategies: Their names, or import paths.
        seeds: How many, from the study's own on.
        overrides: As for `tune`.

    Returns:
        The words for people, and the page's path.
    """
    found = []
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        wanted = searches(study, strategies, seeds, overrides or {})
        for place, (job, strategy, seed) in enumerate(wanted, 1):
            say(Event("compare", "started", f"search {place} of {len(wanted)}: {strategy}, seed {seed}"))
            with opened(job):
                prepared = prepare(job)
                found.append((job, strategy, seed, search(job, prepared, lr_range(job, prepared))))
    return write_comparison(study, overrides or {}, found)
