"""Gradient-based search on digits: from bad rates and decays to tuned ones, and what the derivatives cost.

    python benchmarks/bench_gradient.py [--seeds 3] [--out benchmarks/records/gradient.json]

Only `lr` and `weight_decay` are searched, each search of 12 trials in one lane begins from a corner of their
ranges, and `tpe` has the same start, trials and seeds beside it. What a search ends with is trained with 10
seeds no search used; so is the tuned configuration (`tpe`, 60 trials), whose standard deviation over those
seeds is the noise floor. All scores are on the validation rows. Writes records/gradient.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
STUDY = """
name: gradient
data: {source: "sklearn:digits"}
space: {width: 32, depth: 1, dropout: 0.1, batch_size: 128}
train: {epochs: 30, patience: 10}
search: {trials: 12, lanes: 1, pruner: none, startup: 5}
"""
CORNERS = ((1e-5, 1e-6), (1e-5, 1e-1), (1e-1, 1e-6), (1e-1, 1e-1))
FRESH = 10  # seeds of a final configuration
FIRST_FRESH = 1_000_000


def searched(
    overrides: dict[str, str], start: tuple[float, float] | None, seed: int
) -> tuple[Any, Any, float]:
    """Trainer and result of one search whose default is `start`, and its CPU seconds."""
    from pipeline import with_seed

    from lanewise.data import prepare
    from lanewise.model import resolve
    from lanewise.search import search
    from lanewise.search.lanes import SearchLanes
    from lanewise.space import build_space
    from lanewise.study import load_study
    from lanewise.trainer import Trainer

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        path.write_text(STUDY, encoding="utf-8")
        study = with_seed(load_study(path, {**overrides, "tracking.home": folder}), seed)
        # The rows stay those of seed 0, so that all searches are scored alike.
        dataset = prepare(with_seed(study, 0)).dataset
    network = resolve("mlp")
    space = build_space(study, network.space, network.defaults)
    if start is not None:
        space = replace(space, defaults={**space.defaults, "lr": start[0], "weight_decay": start[1]})
    trainer = Trainer(study, network, dataset)
    begun = time.process_time()
    steps = search(study, space, SearchLanes(trainer), metric="accuracy", direction="maximize")
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return Trainer(study, network, dataset, lanes=FRESH), stop.value, time.process_time() - begun


def fresh(trainer: Any, config: dict[str, Any]) -> dict[str, list[float]]:
    """Accuracy and log loss at the best epoch, trained with seeds no search used."""
    for seed in range(FRESH):
        trainer.add(trainer.lane(seed, config, FIRST_FRESH + seed, keep_best=False))
    best: dict[int, dict[str, float]] = {}
    while trainer.active:
        for report in trainer.tick():
            known = best.get(report.key)
            if known is None or report.scores["valid/accuracy"] > known["valid/accuracy"]:
                best[report.key] = report.scores
    return {name: [best[seed][f"valid/{name}"] for seed in range(FRESH)] for name in ("accuracy", "log_loss")}


def outcome(overrides: dict[str, str], start: tuple[float, float] | None, seed: int) -> dict[str, Any]:
    """One search, and what its best configuration is worth."""
    trainer, result, seconds = searched(overrides, start, seed)
    best = result.trials[result.best]
    scores = fresh(trainer, best.config)
    return {
        "start": start, "seed": seed, "trial": best.number, "seconds": round(seconds, 1),
        "epochs": result.epochs_spent, "lr": best.config["lr"], "weight_decay": best.config["weight_decay"],
        **{name: round(statistics.mean(values), 4) for name, values in scores.items()},
        "deviation": {name: round(statistics.stdev(values), 4) for name, values in scores.items()},
        "chain": [
            [t.config["lr"], t.config["weight_decay"], t.value, min(r.get("hyper/loss") or 9.0 for r in t.curve)]
            for t in result.trials if t.curve
        ],
    }  # fmt: skip


def cost(lanes: int, slopes: Sequence[str]) -> float:
    """CPU seconds of an epoch of some lanes, the least of five."""
    from lanewise.search.random import trial_seed

    trainer, result, _ = searched({"search.trials": "1", "train.epochs": "1"}, None, 0)
    config = result.trials[0].config
    trainer = type(trainer)(trainer.study, trainer.network, trainer.dataset, lanes=lanes)
    for number in range(lanes):
        trainer.add(
            trainer.lane(
                number, config, trial_seed(0, number, "lane"), epochs=9, patience=0, slopes=tuple(slopes)
            )
        )
    took = []
    for _ in range(6):
        begun = time.process_time()
        trainer.tick()
        took.append(time.process_time() - begun)
    return min(took[1:])


def main() -> None:
    """Costs, the tuned configuration, and every corner."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--seeds", type=int, default=3)
    parse.add_argument("--out", type=Path, default=HERE / "records" / "gradient.json")
    asked = parse.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    names = ("lr", "weight_decay", "label_smoothing", "momentum")
    costs = {}
    for lanes in (1, 8, 32):
        plain = cost(lanes, ())
        costs[lanes] = {"seconds": round(plain, 4)} | {
            f"{count} slopes": round(cost(lanes, names[:count]) / plain, 1) for count in (1, 2, 4)
        }
        print(f"{lanes:2} lanes: {costs[lanes]}", flush=True)
    tuned = outcome({"search.strategy": "tpe", "search.trials": "60", "search.lanes": "8"}, None, 0)
    print("tuned", {k: v for k, v in tuned.items() if k != "chain"}, flush=True)
    found: dict[str, list[dict[str, Any]]] = {"gradient": [], "tpe": []}
    for start in CORNERS:
        for seed in range(asked.seeds):
            for strategy, rows in found.items():
                rows.append(outcome({"search.strategy": strategy}, start, seed))
                print(strategy, {k: v for k, v in rows[-1].items() if k != "chain"}, flush=True)
    floor = tuned["deviation"]["accuracy"]
    record = {
        "what": __doc__.splitlines()[0],
        "command": " ".join(sys.argv),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), "torch": version("torch")},
        "machine": f"{os.cpu_count()} CPUs, one thread, beside other work; seconds are CPU time",
        "study": STUDY,
        "cost of an epoch with slopes, in epochs without": costs,
        "noise floor": tuned["deviation"],
        "tuned": tuned,
        "within the floor": {
            name: f"{sum(row['accuracy'] >= tuned['accuracy'] - floor for row in rows)} of {len(rows)}"
            for name, rows in found.items()
        },
        "searches": found,
    }
    asked.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(record["within the floor"])


if __name__ == "__main__":
    main()
