"""The whole run on one page: prepare, lr_range, search, evaluate, register, report.

Every stage is a subflow of its own file and hands the next a small record of where its result lies. A
stage that nothing changed for is reused, so the same command continues a run that was cut off, and does
nothing when all is done. `python -m flows.tune study.yaml` is `lanewise run study.yaml`.
"""

from __future__ import annotations

from typing import Any

from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.evaluate import evaluate
from flows.lr_range import lr_range
from flows.prepare import prepare
from flows.register import register
from flows.report import report
from flows.search import search
from flows.stage_flow import started_flow
from tasks.job import make_job, opened
from tasks.lr_range import findings


@started_flow("tune")
def tune(study: str, overrides: dict[str, str] | None = None) -> dict[str, Any]:
    """Tune the network of a study.

    Args:
        study: Path of the study file.
        overrides: Dotted key -> text, each in place of what the file says.

    Returns:
        The words for people, the report's path, and the version the model became.
    """
    job = make_job(study, overrides)
    # The heartbeat of this flow covers its stages; each of theirs would cost a second.
    with opened(job), temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        prepared = prepare(job)
        ranged = lr_range(job, prepared)
        searched = search(job, prepared, ranged)
        evaluated = evaluate(job, prepared, searched)
        refitted, version = register(job, prepared, evaluated)
        return report(job, prepared, ranged, searched, evaluated, refitted, version)


@started_flow("lr-range")
def find_rates(study: str, overrides: dict[str, str] | None = None) -> dict[str, Any]:
    """The first two stages alone: which learning rates are usable.

    Args:
        study: Path of the study file.
        overrides: As for `tune`.

    Returns:
        The finding in words, the reasons by optimiser, and the picture's path.
    """
    job = make_job(study, overrides)
    with opened(job), temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        return findings(lr_range(job, prepare(job)))


@started_flow("search-only")
def find_configurations(study: str, overrides: dict[str, str] | None = None) -> dict[str, Any]:
    """The first three stages alone: every trial a run in MLflow, nothing evaluated or registered.

    Args:
        study: Path of the study file.
        overrides: As for `tune`.

    Returns:
        The finding in words.
    """
    job = make_job(study, overrides)
    with opened(job), temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        prepared = prepare(job)
        return {"says": search(job, prepared, lr_range(job, prepared)).read()["says"]}


if __name__ == "__main__":
    import sys

    from flows.cli import main

    main(["run", *sys.argv[1:]])
