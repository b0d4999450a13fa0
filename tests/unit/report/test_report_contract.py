"""The report reads the records as their rooms write them: dataclasses and their JSON give the same page."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from lanewise.intervals import Interval
from lanewise.judge import Candidate, Evaluation
from lanewise.ledger import TrialRecord
from lanewise.lr_range import LRCurve
from lanewise.refit import TestResult
from lanewise.registry import ModelVersion
from lanewise.report import Records, build
from lanewise.search import SearchResult


def real(records: Records) -> Records:
    """The same records as the dataclasses of their rooms; a field that was renamed fails here."""
    search = {**records.search, "trials": tuple(TrialRecord(**t) for t in records.search["trials"])}
    curve = {"interval": None, "warnings": [], **records.lr_curve}
    evaluation = Evaluation.from_dict(records.evaluation)
    assert isinstance(evaluation.candidates[0], Candidate) and isinstance(
        evaluation.winner_minus_default, Interval
    )
    return dataclasses.replace(
        records,
        search=SearchResult(**search),
        lr_curve=LRCurve.from_json(curve),
        evaluation=evaluation,
        test=TestResult.from_dict(records.test),
        version=ModelVersion(**records.version),
    )


@pytest.mark.usefixtures("unsaved")
def test_records_and_their_json_give_the_same_report(fake: Callable[..., Any]) -> None:
    for task in ("binary", "regression"):
        records = fake(trials=12, task=task).records()
        assert build(real(records)) == build(records)
