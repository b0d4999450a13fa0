"""Writes the report of a run from the records of all stages: the last stage. It computes nothing new."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lanewise import report
from lanewise.fault_points import fault
from lanewise.names import redacted
from lanewise.report import Records
from tasks import replay_log
from tasks.artifacts import show_markdown
from tasks.job import PIPELINE, Job, Workshop, workshop
from tasks.stage_task import Made, stage_task
from tasks.stages import StageResult
from tasks.study_record import records_folder

PAGE, TEXT, TRIALS, SUMMARY = "report.html", "report.md", "trials.csv", "summary.txt"
PACKAGES = ("lanewise", "torch", "optuna", "mlflow", "prefect", "scikit-learn", "pandas", "numpy")


@stage_task("report", reads=("tracking",), extra=lambda shop: _beside_the_stages(shop))
def write_report(
    job: Job,
    prepared: StageResult,
    ranged: StageResult,
    searched: StageResult,
    evaluated: StageResult,
    refitted: StageResult,
) -> Made:
    """Write the page, its Markdown, the trials as a table, and the words for the terminal."""
    shop = workshop(job)
    stages = (prepared, ranged, searched, evaluated, refitted)
    page = shop.folder / PAGE
    records = Records(
        study=shop.study,
        dataset=prepared.result["summary"],
        lr_curve=ranged.result["curve"],
        search=searched.result,
        evaluation=evaluated.result,
        test=refitted.result["test"],
        version=_known_version(shop),
        timings={stage.stage: float(stage.read()["seconds"]) for stage in stages},
        links={"report": str(page), **_links(shop)},
        environment=_environment(),
        replays=_replays(shop, prepared.result["ref"]["split_fingerprint"]),
    )
    written = report.build(records)
    files = {
        PAGE: written.html.encode(),
        TEXT: written.markdown.encode(),
        TRIALS: report.trials_csv(records).encode(),
        SUMMARY: report.summary_text(records).encode(),
    }
    for name in (PAGE, TEXT, TRIALS):
        put(shop.folder / name, files[name])
        if shop.tracked:
            shop.tracker.artifact(PIPELINE, shop.folder / name, f"report/{name}")
    show_markdown("report", written.markdown, "The report of the run")
    return Made({"page": str(page)}, str(page), files)


def remember_version(job: Job, found: Mapping[str, Any] | None) -> None:
    """Let the report know what the model became; part of what the report depends on."""
    workshop(job).version = dict(found) if found is not None else None


def _beside_the_stages(shop: Workshop) -> list[Any]:
    """What else the report shows: when it changes, the report is written again."""
    return [_known_version(shop), replay_log.all_kept(shop.folder)]


def _replays(shop: Workshop, split: str) -> list[dict[str, Any]]:
    return replay_log.kept(records_folder(shop.home, shop.study.name, split))


def _known_version(shop: Workshop) -> dict[str, Any] | None:
    return shop.version


def _links(shop: Workshop) -> dict[str, str]:
    uri = shop.study.tracking.uri
    if uri.startswith(("http://", "https://")):
        return {"MLflow": redacted(uri)}
    return {"all trials": "lanewise ui"}


def _environment() -> dict[str, Any]:
    found: dict[str, Any] = {"created_at": datetime.now(UTC).isoformat(timespec="seconds")}
    found |= {name: _version(name) for name in PACKAGES}
    return found | {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed, run from its source"


def put(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        new.write_bytes(content)
        fault("mid_report")
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        error.filename = str(path)
        raise


def summary_of(reported: StageResult) -> str:
    """The words for the terminal."""
    return reported.path(SUMMARY).read_text(encoding="utf-8")
