"""`lanewise compare`: a search of each strategy and seed, a page, and nothing trained twice."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

STUDY = """\
data: {source: "sklearn:iris"}
space: {depth: 1, width: [8, 16]}
search: {trials: 6, lanes: 3, pruner: none}
train: {epochs: 3}
lr_range: {enabled: false}
"""


@pytest.mark.slow
def test_strategies_are_compared_and_a_comparison_goes_on(lanewise, tmp_path: Path) -> None:
    (tmp_path / "iris.yaml").write_text(STUDY)
    first = lanewise("compare", "iris.yaml", "--strategies", "random,tpe", "--seeds", "1")
    assert first.returncode == 0, first.stderr
    assert "Only" not in first.stdout and "no interval" in first.stdout
    more = lanewise("compare", "iris.yaml", "--strategies", "random,tpe", "--seeds", "2")
    assert more.returncode == 0, more.stderr
    assert len(re.findall("search: unchanged, reused", more.stderr)) == 2
    page = tmp_path / ".lanewise" / "comparisons" / "iris" / "compare.html"
    assert more.stdout.rstrip().endswith(str(page))
    assert page.read_text().count("<svg") == 3
    with closing(sqlite3.connect(tmp_path / "mlruns" / "mlflow.db")) as db:
        searched = db.execute("SELECT name FROM experiments WHERE name LIKE 'iris-%'").fetchall()
        running = db.execute("SELECT count(*) FROM runs WHERE status = 'RUNNING'").fetchone()
    assert {name for (name,) in searched} == {f"iris-{s}-{n}" for s in ("random", "tpe") for n in (0, 1)}
    assert running == (0,)


def test_an_unknown_strategy_is_refused_before_anything_trains(lanewise, tmp_path: Path) -> None:
    (tmp_path / "iris.yaml").write_text(STUDY)
    refused = lanewise("compare", "iris.yaml", "--strategies", "randm,tpe")
    assert refused.returncode == 2 and "did you mean `random`?" in refused.stderr
    assert "Traceback" not in refused.stderr and not list(tmp_path.glob(".lanewise/studies/*"))
