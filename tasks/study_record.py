"""The study as it is attached to the parent run in MLflow: with it a trial is trained again without the file.

Written by tasks/job.py, read by tasks/replay.py. Overrides are in it; where it is tracked is not, since an
address may hold a password, and the loader refuses every other secret.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lanewise.errors import TrackingError
from lanewise.study import Study

PIPELINE = "pipeline"  # key of the parent run
STUDY_RECORD = "study.json"  # what is attached to it
FORMAT = 1


def study_folder(home: Path, study: str) -> Path:
    """Where a study keeps its records."""
    return home / "studies" / study


def records_folder(home: Path, study: str, split: str) -> Path:
    """Where ledger, spool and replays of a study's rows lie: one folder for each split of them."""
    return study_folder(home, study) / f"rows-{split[:12]}"


def ledger_place(study: Study, rows: Path) -> tuple[Path | str, str]:
    """Where the ledger of a study's rows is, and its name among others there: arguments of `Ledger`."""
    if study.tracking.ledger == "auto":
        return rows / "ledger.db", ""
    return study.tracking.ledger, f"{study.name}/{rows.name}"


def latest_rows(study: Study) -> Path | None:
    """The folder of the rows that were searched last; None before any run."""
    folder = study_folder(Path(study.tracking.home).absolute(), study.name)
    found = sorted(folder.glob("rows-*/spool"), key=lambda path: path.stat().st_mtime)
    return found[-1].parent if found else None


@dataclass(frozen=True)
class StudyRecord:
    """A study's record.

    Args:
        definition: What `Study.definition` gave.
        base_dir: Folder of the study file, from which relative sources and own networks are found.
        home: Its `tracking.home`, absolute.
    """

    definition: Mapping[str, Any]
    base_dir: Path
    home: Path


def to_text(study: Study, home: Path) -> str:
    """The record, as JSON."""
    places = {"base_dir": str(study.base_dir), "home": str(home)}
    return json.dumps({"format": FORMAT, "study": study.definition(), **places}, indent=1) + "\n"


def from_text(text: str, where: str) -> StudyRecord:
    """The record of a text.

    Args:
        text: As it came from MLflow.
        where: The run, for the message.

    Raises:
        TrackingError: It is no such record, or of another version of Lanewise.
    """
    try:
        found = json.loads(text)
        if found["format"] == FORMAT:
            return StudyRecord(dict(found["study"]), Path(found["base_dir"]), Path(found["home"]))
        given = f"format {found['format']}"
    except (ValueError, KeyError, TypeError) as error:
        given = f"{type(error).__name__}: {error}"
    raise TrackingError(
        "the study's record cannot be read", where=f"{STUDY_RECORD} of run {where}", given=given,
        rule=f"format {FORMAT}", remedy="use the version of Lanewise that recorded it",
    )  # fmt: skip
