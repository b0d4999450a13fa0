"""Images, series and texts with published scores: the study of `lanewise init`, official test rows.

    python benchmarks/bench_inputs.py DATA [--sets trec ...] [--seeds 5]

DATA is the folder that holds text-trec/, ts-ItalyPowerDemand/, ts-JapaneseVowels/ and img-mnist/. Each seed draws
its own validation rows and folds, searches, cross-validates, refits and opens the official test rows once. The study is
what `lanewise init` writes, but for the lines under CHANGED. Writes records/inputs.json: test accuracy of every seed,
of the winner and of the default, mean and standard deviation, beside the published figures.
"""

from __future__ import annotations

import argparse
import json
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

HERE = Path(__file__).resolve().parent
SETS: dict[str, tuple[str, str | None, float | None]] = {  # source, target, published accuracy
    "trec": ("text-trec/data.csv", "label", 0.882),
    "italy": ("ts-ItalyPowerDemand/ItalyPowerDemand_TRAIN.ts", None, 0.963),
    "vowels": ("ts-JapaneseVowels/JapaneseVowels_TRAIN.ts", None, 0.976),
    "mnist": ("img-mnist", None, None),
}
CHANGED = {
    "trec": {"search.metric": "accuracy"},  # as published; init takes balanced accuracy, for a class is rare
}  # fmt: skip


def one_seed(data: Path, name: str, seed: int) -> dict[str, object]:
    """Tune, refit and score under one seed."""
    from pipeline import run

    from lanewise.data import look, prepare, write_study
    from lanewise.study import load_study

    source, target, _ = SETS[name]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / f"{name}.yaml"
        path.write_text(write_study(look(str(data / source), target)), encoding="utf-8")
        own = {"seed": str(seed), "tracking.home": temporary, "evaluate.baselines": "false"}
        study = load_study(path, {**CHANGED.get(name, {}), **own})
        prepared = prepare(study)
        outcome = run(study, prepared.dataset, prepared.seal)
    assert outcome.test is not None
    return {
        "seed": seed,
        "accuracy": outcome.test.scores["accuracy"].estimate,
        "default": outcome.test.default_scores["accuracy"].estimate,
        "winner": outcome.evaluation.winner,
        "config": dict(outcome.fitted.config),
        "epochs": outcome.search.epochs_spent,
        "test_rows": outcome.test.n,
        "seconds": time.perf_counter() - start,
    }


def main() -> None:
    """All sets and seeds, a process each."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("data", type=Path)
    parse.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parse.add_argument("--seeds", type=int, default=5)
    parse.add_argument("--jobs", type=int, default=2)
    parse.add_argument("--out", type=Path, default=HERE / "records" / "inputs.json")
    asked = parse.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in asked.sets:
        with ProcessPoolExecutor(asked.jobs) as pool:
            jobs = [pool.submit(one_seed, asked.data, name, seed) for seed in range(asked.seeds)]
            rows = [job.result() for job in jobs]
        scores = np.array([row["accuracy"] for row in rows], float)
        defaults = np.array([row["default"] for row in rows], float)
        found = {
            "mean": float(scores.mean()), "deviation": float(scores.std(ddof=1)) if len(scores) > 1 else None,
            "default_mean": float(defaults.mean()), "published": SETS[name][2], "seeds": rows,
            "changed": CHANGED.get(name, {}), "when": datetime.now(UTC).isoformat(timespec="seconds"),
        }  # fmt: skip
        print(f"{name:10} {scores.mean():.4f} ± {scores.std(ddof=1):.4f} (default {defaults.mean():.4f})", flush=True)
        record = {
            "what": __doc__.splitlines()[0],
            "command": " ".join(sys.argv[:1]) + " DATA",
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "versions": {"python": platform.python_version(), "torch": version("torch")},
            "sets": _kept(asked.out) | {name: found},
        }
        asked.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _kept(record: Path) -> dict[str, object]:
    """What an earlier run wrote, for the sets that are not run again."""
    return dict(json.loads(record.read_text(encoding="utf-8"))["sets"]) if record.exists() else {}


if __name__ == "__main__":
    main()
