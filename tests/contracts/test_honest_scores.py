"""Numbers you may believe: chance is covered on random labels, and nothing before the seal depends on sealed rows."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pipeline import Outcome, run

from lanewise.data import Prepared, prepare
from lanewise.study import Study, load_study

TEXT = """
name: chance
data: {source: rows.csv, target: y, split: random}
space: {depth: 1, width: 16, batch_size: 64, dropout: {low: 0.0, high: 0.5}, lr: {low: 1e-4, high: 1e-1, log: true}}
train: {epochs: 8, patience: 0}
lr_range: {enabled: false}
search: {strategy: random, metric: accuracy, trials: 24, pruner: none}
evaluate: {folds: 3, repeats: 1, finalists: 2, baselines: false, bootstrap: 400}
"""


def study_on(folder: Path, frame: pd.DataFrame, seed: int, extra: str = "") -> tuple[Study, Prepared]:
    """The study of these rows, prepared."""
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_csv(folder / "rows.csv", index=False)
    (folder / "study.yaml").write_text(TEXT + extra, encoding="utf-8")
    home = {"tracking.home": str(folder / "home"), "seed": str(seed)}
    study = load_study(folder / "study.yaml", home)
    return study, prepare(study)


def random_rows(seed: int, rows: int = 400) -> pd.DataFrame:
    """Five features and labels that have nothing to do with them."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.standard_normal((rows, 5)), columns=list("abcde"))
    return frame.assign(y=rng.permutation(np.arange(rows) % 2))


@pytest.mark.slow
def test_on_shuffled_labels_the_reported_interval_covers_chance(tmp_path: Path) -> None:
    covered, flattered = [], []
    for seed in range(50):
        study, prepared = study_on(tmp_path / str(seed), random_rows(seed), seed)
        outcome = run(study, prepared.dataset, prepared.seal)
        assert outcome.test is not None
        found = outcome.test.scores["accuracy"]
        assert found.low is not None and found.high is not None
        covered.append(found.low <= 0.5 <= found.high)
        flattered.append(outcome.search.trials[outcome.search.best].value)
    assert sum(covered) >= 45, f"chance lies in {sum(covered)} of 50 intervals"
    assert np.mean(flattered) > 0.54, "the best of many validation scores looks better than chance"


def compared(outcome: Outcome) -> object:
    """All that was decided before the seal."""
    trials = [{k: v for k, v in asdict(t).items() if k != "seconds"} for t in outcome.search.trials]
    return trials, asdict(outcome.evaluation)


def test_nothing_before_the_seal_depends_on_the_sealed_rows(tmp_path: Path) -> None:
    frame = random_rows(3)
    study, prepared = study_on(tmp_path / "one", frame, 7)
    kept = pd.MultiIndex.from_frame(prepared.dataset.frame[list("abcde")].round(12))
    sealed = ~pd.MultiIndex.from_frame(frame[list("abcde")].round(12)).isin(kept)
    assert sealed.sum() == prepared.seal.rows
    other = frame.copy()
    other.loc[sealed, list("abcde")] = np.random.default_rng(9).standard_normal((sealed.sum(), 5)) * 3
    other.loc[sealed, "y"] = 1 - other.loc[sealed, "y"]
    changed_study, changed = study_on(tmp_path / "two", other, 7)
    one = run(study, prepared.dataset, prepared.seal)
    two = run(changed_study, changed.dataset, changed.seal)
    assert compared(one) == compared(two)
    assert one.test is not None and two.test is not None
    assert one.test.scores["accuracy"] != two.test.scores["accuracy"]


def test_the_dataset_has_no_way_to_the_sealed_rows_and_the_seal_is_opened_once(tmp_path: Path) -> None:
    study, prepared = study_on(tmp_path, random_rows(5), 1)
    path = prepared.seal.path
    hidden = path.with_suffix(".away")
    path.rename(hidden)  # whatever reads sealed rows before the end fails here
    outcome = run(study, prepared.dataset, None)
    assert outcome.test is None
    hidden.rename(path)
    assert str(path) not in repr(vars(prepared.dataset))
    assert len(prepared.dataset.frame) + prepared.seal.rows == 400
    assert prepared.seal.openings() == []
    run(study, prepared.dataset, prepared.seal)
    assert len(prepared.seal.openings()) == 1
