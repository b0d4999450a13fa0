"""Tables with published scores of tuned MLPs, by the published protocol, tuned on development rows only.

    python benchmarks/bench_tabular.py DATA [--sets credit-g ...]

DATA is the folder that holds credit-g/data.csv and the others. credit-g and car: balanced accuracy on
train_test_split(test_size=0.2, random_state=11, stratify=y) (Kadra et al. 2021, arXiv 2106.11189). diamonds and
wine-quality: RMSE on a random fifth, diamonds divided by the deviation of the price (yandex-research/tabm).
The test rows are read after the winner is refitted. Writes records/tabular.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from pipeline import run
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import train_test_split

from lanewise.data import Dataset
from lanewise.study import load_study

HERE = Path(__file__).resolve().parent
SMALL = """
name: table
data: {source: rows, target: y}
space:
  depth: [1, 2, 3]
  width: [64, 256]
  class_weight: balanced
  label_smoothing: {low: 0.0, high: 0.2}
  batch_size: 64
train: {epochs: 60, patience: 20}
search: {metric: balanced_accuracy, trials: 96, lanes: 32, startup: 32, rung_first: 10}
evaluate: {folds: 5, repeats: 2, finalists: 5}
register: {members: 5}
"""
LARGE = """
name: table
data: {source: rows, target: y, numbers: quantile}
space:
  depth: [2, 3]
  width: [128, 256]
  dropout: {low: 0.0, high: 0.2}
  numeric_embedding: periodic
  frequency_sigma: {low: 0.05, high: 1.0, log: true}
  lr: {low: 3e-4, high: 1e-2, log: true}
  batch_size: BATCH
train: {epochs: EPOCHS, patience: 12}
lr_range: {repeats: 2}
search: {metric: rmse, trials: 24, lanes: 8, startup: 8, rung_first: 4}
evaluate: {folds: 3, repeats: 1, finalists: 2}
register: {members: 5}
"""
SETS = {
    "credit-g": {"target": "class", "study": SMALL, "published": 0.694, "what": "MLP, balanced accuracy"},
    "car": {"target": "class", "study": SMALL, "published": 0.974, "what": "MLP, balanced accuracy"},
    "wine-quality": {
        "target": "quality", "published": 0.671, "what": "tuned MLP, RMSE",
        "study": LARGE.replace("BATCH", "128").replace("EPOCHS", "40"),
    },
    "diamonds": {
        "target": "price", "published": 0.1404, "what": "tuned MLP, RMSE / deviation of the price",
        "study": LARGE.replace("BATCH", "512").replace("EPOCHS", "40"),
    },
}  # fmt: skip


def one(name: str, folder: Path, seed: int) -> dict[str, float]:
    """Tune on the development rows of one set and score its test rows."""
    spec = SETS[name]
    frame = pd.read_csv(folder / name / "data.csv")
    regression = name in ("diamonds", "wine-quality")
    stratify = None if regression else frame[spec["target"]]
    rows = np.arange(len(frame))
    state = seed if regression else 11
    train, test = train_test_split(rows, test_size=0.2, random_state=state, stratify=stratify, shuffle=True)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "study.yaml"
        path.write_text(str(spec["study"]), encoding="utf-8")
        study = load_study(path, {"seed": str(seed)})
    start = time.perf_counter()
    options = {"numbers": study.data.numbers, "seed": seed, "metric": study.search.metric}
    dataset = Dataset.from_frame(frame.iloc[train].reset_index(drop=True), str(spec["target"]), **options)
    outcome = run(study, dataset, None)
    held_out = frame.iloc[test].reset_index(drop=True)
    predicted = outcome.fitted.predict(held_out)["prediction"]
    target = held_out[spec["target"]]
    if regression:
        score = float(np.sqrt(np.mean((predicted.to_numpy() - target.to_numpy()) ** 2)))
        score = score / float(frame[spec["target"]].std()) if name == "diamonds" else score
        drawn = np.random.default_rng(0).integers(0, len(test), (500, len(test)))
        squares = (predicted.to_numpy() - target.to_numpy()) ** 2
        error = float(np.std(np.sqrt(squares[drawn].mean(1)))) * score / float(np.sqrt(squares.mean()))
    else:
        truth, said = target.astype(str).to_numpy(), predicted.astype(str).to_numpy()
        score = float(balanced_accuracy_score(truth, said))
        rng = np.random.default_rng(0)
        drawn = [rng.integers(0, len(test), len(test)) for _ in range(500)]
        error = float(np.std([balanced_accuracy_score(truth[d], said[d]) for d in drawn]))
    return {"seed": seed, "score": score, "standard_error": error, "seconds": time.perf_counter() - start}


def main() -> None:
    """Every set, once per seed."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("data", type=Path)
    parse.add_argument("--sets", nargs="*", default=list(SETS))
    parse.add_argument("--seeds", type=int, default=1)
    parse.add_argument("--out", type=Path, default=HERE / "records" / "tabular.json")
    asked = parse.parse_args()
    record = {
        "what": __doc__.splitlines()[0],
        "command": " ".join(sys.argv),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), "torch": version("torch")},
        "sets": {},
    }
    for name in asked.sets:
        runs = [one(name, asked.data, seed) for seed in range(asked.seeds)]
        mean = float(np.mean([r["score"] for r in runs]))
        spec = SETS[name]
        record["sets"][name] = {**spec, "mean": mean, "runs": runs}
        spread = ", ".join(f"{r['score']:.4f} ± {r['standard_error']:.4f}" for r in runs)
        print(f"{name:13} {mean:.4f} ({spread}); published {spec['published']} ({spec['what']})", flush=True)
        asked.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
