"""Prepares the data: reads the source, seals the test rows, records what there is. First stage of a run.

The rows themselves stay in memory (`Workshop.prepared`), because the same source and study always give the
same rows; what is kept is the record by which later stages see whether they changed.
"""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from lanewise.errors import DataError
from tasks.artifacts import show_markdown
from tasks.job import Job, Workshop, workshop
from tasks.progress import Event, say
from tasks.stage_task import Made, stage_task
from tasks.stages import file_digest


def source_digest(shop: Workshop) -> str:
    """What the source holds, without parsing it where it is one file.

    A function of the user may return something else each time, so it is called and its rows are compared; so are the
    rows of a source that leads to more files: a folder, a test source, an index of images.
    """
    data = shop.study.data
    source = data.source
    if data.test_source is not None or data.image_paths is not None:
        return shop.prepared.dataset.fingerprint
    if source.startswith("sklearn:"):
        return f"{source} of scikit-learn {version('scikit-learn')}"
    path = shop.study.base_dir / source
    if path.is_file() and path.stat().st_size <= shop.study.data.max_bytes:
        return file_digest(path)
    return shop.prepared.dataset.fingerprint


@stage_task(
    "prepare", reads=("data", "search.metric", "evaluate.folds", "tracking.home"), extra=source_digest
)
def read_and_seal(job: Job) -> Made:
    """Read, check and split the data; seal the test rows."""
    shop = workshop(job)
    prepared = shop.prepared
    dataset, ref = prepared.dataset, prepared.ref
    for warning in ref.warnings:
        say(Event("prepare", "note", warning))
    kind = f"{len(ref.classes)} classes" if ref.classes else "a number to predict"
    says = (
        f"{dataset.rows} rows to work with, {ref.test_rows} sealed; {ref.features} columns, {kind}; "
        f"objective {ref.metric}"
    )
    show_markdown("data", _page(dataset.summary()), "What the study works on")
    return Made({"ref": asdict(ref), "summary": dataset.summary()}, says)


def same_rows(job: Job, recorded: dict[str, object]) -> None:
    """Refuse to go on with rows other than those the stage recorded.

    Raises:
        DataError: The source changed while the study ran.
    """
    ref = workshop(job).prepared.ref
    if (ref.fingerprint, ref.split_fingerprint) != (recorded["fingerprint"], recorded["split_fingerprint"]):
        raise DataError(
            "the data changed while the study ran", where=Path(ref.source),
            rule="all stages of a run work on the same rows", remedy="run the same command again",
        )  # fmt: skip


def _page(summary: dict[str, object]) -> str:
    lines = [f"**{summary['source']}**, objective `{summary['metric']}`: {summary['metric_reason']}", ""]
    columns = summary["columns"]
    assert isinstance(columns, dict)
    lines += ["| column | type |", "|---|---|"]
    lines += [f"| {name} | {kind} |" for name, kind in list(columns.items())[:200]]
    return "\n".join(lines)
