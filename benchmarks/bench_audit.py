"""The pruner audit against the truth: whole searches on LCBench's surrogate, every dropped trial finished afterwards.

    PYTHONPATH=. python benchmarks/bench_audit.py DATA [--tasks 17] [--seeds 5] [--trials 200] [--lanes 64]
        [--share 0.3] [--strategies random] [--pruners asha:5:3 asha:1:3 hyperband:1:3 median:5] [--record FILE]

DATA and what it needs: as in bench_search.py. The loop is the real one; the trainer reads validation accuracy by epoch
from the surrogate. After a search, the curve of every trial that the pruner dropped is read to its end, so the
true share of those that would have been among the best 1, 3 and 10 of the never dropped is known. For each kind of
search and each number of best trials: how often the audit's interval holds it, how wide it is, and the mean
difference of estimate and truth with its standard error. Every task and seed has a study seed of its own, since the
draw is by seed and number; the pruners share it. Binomial: what Clopper and Pearson's interval gives. The
record is written after each seed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from bench_search import DEFAULTS, EPOCHS, NETWORK, ORDER, CurveTrainer, Surrogate, a_study
from scipy.stats import binomtest, kendalltau

from lanewise.search import SearchResult, TrialRecord, search
from lanewise.search.audit import hidden
from lanewise.space import Config, build_space

BEST = (1, 3, 10)
CONFIDENCE = 0.95


class Remembered(Surrogate):
    """Whole curves, each read once: searches of one seed ask for the same configurations."""

    def __init__(self, folder: Path, task: int) -> None:
        super().__init__(folder, task)
        self._curves: dict[tuple[Any, ...], np.ndarray] = {}

    def accuracy(self, configs: Sequence[Config], epochs: Sequence[int]) -> np.ndarray:
        keys = [tuple(config[name] for name in ORDER) for config in configs]
        new = {key: config for key, config in zip(keys, configs, strict=True) if key not in self._curves}
        if new:
            self._curves |= zip(new, super().accuracy(list(new.values()), range(1, EPOCHS + 1)), strict=True)
        return np.stack([self._curves[key] for key in keys])


def run(surrogate: Surrogate, strategy: str, pruner: str, seed: int, args: argparse.Namespace) -> SearchResult:
    """One search with an audit."""
    study = a_study(strategy, pruner, seed, args.lanes, args.trials)
    study = study.model_copy(update={"search": study.search.model_copy(update={"audit": args.share})})
    steps = search(
        study, build_space(study, NETWORK, DEFAULTS), CurveTrainer(surrogate, args.lanes), metric="accuracy",
        direction="maximize",
    )  # fmt: skip
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: SearchResult = stop.value
            return result


def judged(surrogate: Surrogate, result: SearchResult) -> list[dict[str, Any]]:
    """Estimate, interval and truth for each number of best trials; the product's own figures are checked by the way."""
    assert result.audit is not None
    dropped = [t for t in result.trials if t.state == "pruned" or t.audited_from is not None]
    audited = [t for t in dropped if t.audited_from is not None]
    never = [t for t in result.trials if t.state == "complete" and t.audited_from is None]
    if not audited:
        return []
    full = surrogate.accuracy([t.config for t in dropped], range(1, EPOCHS + 1)).max(axis=1)
    found = []
    for best in BEST:
        if len(never) < best:
            continue
        bar = sorted((t.value or 0.0 for t in never), reverse=True)[best - 1]
        truth = int((full > bar).sum())
        seen = sum((t.value or 0.0) > bar for t in audited)
        low, high = hidden(seen, len(audited), len(dropped), CONFIDENCE)
        for own in result.audit.missed:
            assert own.best != best or (own.bar, own.seen, own.low, own.high) == (bar, seen, low, high)
        binomial = binomtest(seen, len(audited)).proportion_ci(CONFIDENCE, "exact")
        share = truth / len(dropped)
        found.append(
            {
                "best": best, "dropped": len(dropped), "audited": len(audited), "truth": share,
                "estimate": seen / len(audited), "covers": low <= truth <= high,
                "width": (high - low) / len(dropped), "binomial_width": binomial.high - binomial.low,
                "binomial_covers": binomial.low <= share <= binomial.high,
            }
        )  # fmt: skip
    return found


def ranks(surrogate: Surrogate, result: SearchResult) -> list[tuple[int, float, float]]:
    """(epoch of the rung, tau as estimated, tau of all trials that were trained)."""
    assert result.audit is not None
    trained: list[TrialRecord] = [t for t in result.trials if t.state != "duplicate"]
    curves = np.maximum.accumulate(surrogate.accuracy([t.config for t in trained], range(1, EPOCHS + 1)), axis=1)
    return [
        (one.epoch, one.tau, float(kendalltau(curves[:, one.epoch - 1], curves[:, -1]).statistic))
        for one in result.audit.rungs
    ]


def clustered(rows: list[dict[str, Any]]) -> list[float]:
    """Mean of estimate - truth and its standard error; searches of one seed share their draws, so they are one."""
    seeds: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        seeds[row["seed"]].append(row["estimate"] - row["truth"])
    return mean_and_error([float(np.mean(found)) for found in seeds.values()])


def mean_and_error(values: list[float]) -> list[float]:
    """The mean and its standard error."""
    error = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0
    return [round(float(np.mean(values)), 5), round(error, 5)]


def summed(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What many searches say together."""
    return {
        "intervals": len(rows),
        "dropped": round(float(np.mean([r["dropped"] for r in rows])), 1),
        "audited": round(float(np.mean([r["audited"] for r in rows])), 1),
        "truth": round(float(np.mean([r["truth"] for r in rows])), 5),
        "intervals_with_a_miss": sum(r["truth"] > 0 for r in rows),
        "estimate_minus_truth": clustered(rows),
        "covered": round(float(np.mean([r["covers"] for r in rows])), 4),
        "width": round(float(np.mean([r["width"] for r in rows])), 4),
        "binomial_covered": round(float(np.mean([r["binomial_covers"] for r in rows])), 4),
        "binomial_width": round(float(np.mean([r["binomial_width"] for r in rows])), 4),
    }


def main() -> None:
    """All searches, then what they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--tasks", type=int, default=17)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--lanes", type=int, default=64)
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--strategies", nargs="+", default=["random"])
    parser.add_argument("--pruners", nargs="+", default=["asha:5:3", "asha:1:3", "hyperband:1:3", "median:5"])
    parser.add_argument("--record", type=Path, default=Path(__file__).parent / "records" / "audit.json")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    begun = time.perf_counter()
    kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    orders: dict[str, list[float]] = defaultdict(list)
    epochs: dict[str, list[float]] = defaultdict(list)
    surrogates = [Remembered(args.data, task) for task in range(args.tasks)]
    for seed in range(args.seeds):
        for task, strategy, pruner in product(range(args.tasks), args.strategies, args.pruners):
            surrogate, own = surrogates[task], 1000 * seed + task
            result = run(surrogate, strategy, pruner, own, args)
            assert result.audit is not None
            for row in judged(surrogate, result):
                row["seed"] = own
                kinds[f"{strategy} {pruner}, best {row['best']}"].append(row)
                kinds[f"all, best {row['best']}"].append(row)
                kinds["all"].append(row)
            for epoch, tau, true in ranks(surrogate, result):
                orders[f"{strategy} {pruner}, epoch {epoch}: tau"].append(true)
                orders[f"{strategy} {pruner}, epoch {epoch}: estimate - tau"].append(tau - true)
            if result.audit.saved is not None:
                true_saved = sum(EPOCHS - t.epochs for t in result.trials if t.state == "pruned")
                epochs[f"{strategy} {pruner}: saved / truth"].append(result.audit.saved / max(true_saved, 1))
                epochs[f"{strategy} {pruner}: cost / all epochs"].append(result.audit.cost / result.epochs_spent)
        seconds = round(time.perf_counter() - begun)
        found = record(args, kinds, orders, epochs) | {"seeds": seed + 1, "seconds": seconds}
        args.record.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(seed, seconds, found["intervals"]["all"], file=sys.stderr, flush=True)


def record(
    args: argparse.Namespace, kinds: dict[str, Any], orders: dict[str, Any], epochs: dict[str, Any]
) -> dict[str, Any]:
    """The record's file."""
    options = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    return {
        "what": __doc__.splitlines()[0], "command": f"python benchmarks/bench_audit.py DATA --seeds {args.seeds}",
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version()} | {n: version(n) for n in ("numpy", "scipy", "optuna")},
        "options": {name: value for name, value in options.items() if name not in ("data", "record", "seeds")},
        "confidence": CONFIDENCE, "intervals": {name: summed(rows) for name, rows in kinds.items()},
        "ranks": {name: mean_and_error(found) for name, found in orders.items()},
        "epochs": {name: mean_and_error(found) for name, found in epochs.items()},
    }  # fmt: skip


if __name__ == "__main__":
    main()
