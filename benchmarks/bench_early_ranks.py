"""What a score after few epochs says of the end: random configurations of LCBench's surrogate, and the best of them.

    PYTHONPATH=. python benchmarks/bench_early_ranks.py DATA [--configs 300] [--tasks 17] [--record FILE]

DATA and what it needs: as in bench_search.py. For each task and epoch: Spearman's rank correlation of the best
validation accuracy up to that epoch with that up to epoch 52, over all configurations and over the tenth that is best
at the end; the share of the best twentieth that is in the first third at that epoch, which `asha` with factor 3 would
let go on; whether the best one is. No search runs here; one seed draws the configurations, the same for all tasks.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from bench_search import DEFAULTS, EPOCHS, NETWORK, Surrogate, a_study
from scipy.stats import spearmanr

from lanewise.search import STRATEGIES
from lanewise.space import build_space

AT = (2, 5, 9, 13, 26)
SEED = 7


def of_task(curves: np.ndarray, epoch: int) -> dict[str, float]:
    """What the ranks at an epoch say; curves: best score so far, [configurations, epochs]."""
    end, early = curves[:, -1], curves[:, epoch - 1]
    order = np.argsort(-end, kind="stable")
    place = np.argsort(np.argsort(-early, kind="stable"), kind="stable") / len(end)  # share that is before it
    tenth, twentieth = order[: len(order) // 10], order[: len(order) // 20]
    return {
        "rank_correlation": float(spearmanr(early, end)[0]),
        "rank_correlation_of_best_tenth": float(spearmanr(early[tenth], end[tenth])[0]),
        "best_twentieth_in_first_third": float(np.mean(place[twentieth] < 1 / 3)),
        "best_in_first_third": float(place[order[0]] < 1 / 3),
    }


def main() -> None:
    """All tasks, then the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--configs", type=int, default=300)
    parser.add_argument("--tasks", type=int, default=17)
    parser.add_argument("--record", type=Path, default=Path(__file__).parent / "records" / "early_ranks.json")
    args = parser.parse_args()
    study = a_study("random", "none", SEED, 1, 1)
    strategy = STRATEGIES["random"](study, build_space(study, NETWORK, DEFAULTS), "maximize")
    configs = [config for n in range(1, args.configs + 1) if (config := strategy.ask(n, [])) is not None]
    tasks = []
    for task in range(args.tasks):
        surrogate = Surrogate(args.data, task)
        curves = np.maximum.accumulate(surrogate.accuracy(configs, range(1, EPOCHS + 1)), axis=1)
        tasks.append({epoch: of_task(curves, epoch) for epoch in AT})
        print(task, surrogate.task, {e: round(row["rank_correlation"], 2) for e, row in tasks[-1].items()}, flush=True)
    means = {e: {k: round(float(np.mean([t[e][k] for t in tasks])), 3) for k in tasks[0][e]} for e in AT}
    record = {
        "what": __doc__.splitlines()[0], "command": "python benchmarks/bench_early_ranks.py DATA",
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "configurations": len(configs), "tasks": args.tasks, "seed": SEED, "means": means, "by_task": tasks,
    }  # fmt: skip
    args.record.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(means, indent=1))


if __name__ == "__main__":
    main()
