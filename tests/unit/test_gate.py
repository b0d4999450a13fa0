"""The gate between candidate and champion, by hand-worked cases."""

from __future__ import annotations

import pytest

from lanewise.gate import gate
from lanewise.metrics import METRICS

ACCURACY, RMSE = METRICS["accuracy"], METRICS["rmse"]


@pytest.mark.parametrize(
    ("metric", "new", "default", "margin", "alias"),
    [
        (ACCURACY, 0.9, 0.8, 0.0, "champion"),
        (ACCURACY, 0.8, 0.8, 0.0, "champion"),  # not worse than the default
        (ACCURACY, 0.79, 0.8, 0.0, "candidate"),
        (ACCURACY, 0.84, 0.8, 0.05, "candidate"),
        (RMSE, 1.0, 2.0, 0.0, "champion"),  # smaller is better
        (RMSE, 2.0, 1.0, 0.0, "candidate"),
        (RMSE, 1.5, 2.0, 0.5, "champion"),
        (RMSE, 1.6, 2.0, 0.5, "candidate"),
        (ACCURACY, None, 0.8, 0.0, "candidate"),
        (ACCURACY, 0.9, None, 0.0, "candidate"),
    ],
)
def test_first_version_against_the_default(metric, new, default, margin, alias) -> None:
    assert gate(metric, margin, new=new, default=default, new_is_default=False).alias == alias


def test_the_default_may_be_the_first_champion() -> None:
    assert gate(ACCURACY, 0.1, new=0.5, default=0.5, new_is_default=True).alias == "champion"


@pytest.mark.parametrize(
    ("metric", "new", "champion", "margin", "alias"),
    [
        (ACCURACY, 0.9, 0.8, 0.0, "champion"),
        (ACCURACY, 0.8, 0.8, 0.0, "candidate"),  # what is there stays unless the new one is better
        (ACCURACY, 0.82, 0.8, 0.05, "candidate"),
        (RMSE, 0.9, 1.0, 0.0, "champion"),
        (RMSE, 1.1, 1.0, 0.0, "candidate"),
    ],
)
def test_against_a_champion(metric, new, champion, margin, alias) -> None:
    found = gate(
        metric,
        margin,
        new=new,
        default=0.0 if metric is ACCURACY else 9.0,
        new_is_default=False,
        champion=champion,
        champion_name="version 3",
    )
    assert found.alias == alias
    assert "version 3" in found.reason


def test_better_than_the_champion_but_worse_than_its_own_default_is_no_champion() -> None:
    known = {"champion": 0.7, "champion_name": "version 3"}
    found = gate(ACCURACY, 0.0, new=0.8, default=0.85, new_is_default=False, **known)
    assert found.alias == "candidate" and "0.85 by the default" in found.reason
    assert gate(ACCURACY, 0.0, new=0.8, default=0.8, new_is_default=True, **known).alias == "champion"


def test_no_comparison_no_champion() -> None:
    found = gate(
        ACCURACY,
        0.0,
        new=0.99,
        default=0.5,
        new_is_default=False,
        champion_name="version 3",
        obstacle="it is gone",
    )
    assert (found.alias, found.reason) == ("candidate", "version 3 cannot be compared: it is gone")
