"""A whole run with a pruner audit: what ledger, MLflow, report and terminal say of it, and that it can be replayed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from lanewise.ledger import read_ledger

STUDY = """\
data: {source: rows.csv, target: kind}
search: {strategy: random, trials: 16, lanes: 8, rung_first: 1, audit: 0.5}
train: {epochs: 6}
lr_range: {enabled: false}
evaluate: {folds: 2, repeats: 1, finalists: 1, baselines: false, bootstrap: 100}
"""


@pytest.mark.slow
@pytest.mark.usefixtures("toy_rows")
def test_audited_trials_are_kept_shown_and_replayed(
    lanewise: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "tiny.yaml").write_text(STUDY)
    ran = lanewise("run", "tiny.yaml")
    assert ran.returncode == 0, ran.stderr
    trials = read_ledger(next(tmp_path.rglob("ledger.db"))).trials
    audited = {f"trial-{t.number:04d}": str(t.audited_from) for t in trials if t.audited_from is not None}
    dropped = len(audited) + sum(t.state == "pruned" for t in trials)
    assert 0 < len(audited) < dropped and set(audited.values()) <= {"1", "3"}
    assert f" of {len(audited)} dropped trials that went on beat all others" in ran.stderr
    with closing(sqlite3.connect(tmp_path / "mlruns" / "mlflow.db")) as database:
        tags = (
            "SELECT r.name, t.value FROM tags t JOIN runs r USING (run_uuid) WHERE t.key = 'lanewise.audited_from'"
        )
        assert dict(database.execute(tags)) == audited
    page = next(tmp_path.rglob("report.md")).read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert f"Of {dropped} trials that the pruner would stop, {len(audited)} were drawn" in page
    verified = lanewise("verify", "tiny.yaml")
    assert verified.returncode == 0, verified.stdout
    again = lanewise("replay", f"tiny/{min(audited)}")
    assert again.returncode == 0 and "EXACT: all" in again.stdout + again.stderr, again.stderr
