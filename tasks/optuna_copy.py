"""Makes the copy of a study's ledger that optuna-dashboard reads: `lanewise export-optuna`; holds nothing.

The ledger is read in one transaction, so a search may be running.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lanewise.errors import StudyError
from lanewise.ledger import read_ledger
from lanewise.study import load_study
from tasks.status import searched
from tasks.study_record import latest_rows, ledger_place

FILE = "optuna.db"  # beside the ledger of the same rows


def export_optuna(path: Path, overrides: Mapping[str, str]) -> tuple[Path, int]:
    """Write the copy.

    Returns:
        Its file, and the number of trials in it that have ended.

    Raises:
        StudyError: The study file is wrong, or nothing was searched yet.
        TrackingError: The ledger cannot be read or is damaged, or the copy cannot be written.
    """
    study = load_study(path, overrides)
    rows = latest_rows(study)
    reading = read_ledger(*ledger_place(study, rows), check=True) if rows and searched(study, rows) else None
    if rows is None or reading is None or not reading.definition:
        raise StudyError(
            "there are no trials to copy", where=path, given=f"{study.name} was never searched",
            remedy=f"lanewise run {path}",
        )  # fmt: skip
    from lanewise.search.optuna_copy import write_optuna

    return rows / FILE, write_optuna(reading, study.name, rows / FILE)
