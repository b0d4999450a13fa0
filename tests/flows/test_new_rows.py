"""A scheduled study whose source grew: a new search, one registered model with a second version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

STUDY = """
name: sales
data: {source: rows.csv, target: y}
space: {depth: 1, width: 16, batch_size: 32}
train: {epochs: 3}
lr_range: {enabled: false}
search: {strategy: random, trials: 4, lanes: 4}
evaluate: {folds: 2, repeats: 1, finalists: 1, baselines: false, bootstrap: 100}
"""


@pytest.mark.slow
def test_new_rows_begin_a_new_search_and_a_second_version(lanewise, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.standard_normal((240, 3)), columns=list("abc"))
    frame["y"] = (frame.a + frame.b > 0).astype(int)
    (tmp_path / "sales.yaml").write_text(STUDY, encoding="utf-8")
    for version, rows in ((1, 200), (2, 240)):
        frame.head(rows).to_csv(tmp_path / "rows.csv", index=False)
        done = lanewise("run", str(tmp_path / "sales.yaml"))
        assert done.returncode == 0, done.stderr
        assert f"sales version {version}" in done.stdout + done.stderr
    assert len(list((tmp_path / ".lanewise/studies/sales").glob("rows-*/ledger.db"))) == 2
