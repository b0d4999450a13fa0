"""Strategies and pruners of the search on LCBench: what a search finds by its ticks and its epochs.

    PYTHONPATH=. python benchmarks/bench_search.py DATA [--runs FILE] [--tasks 17] [--seeds 20]
        [--lanes 1 8 64] [--strategies tpe random ...] [--pruners none asha:5:3 ...] [--learn product gain ...]
        [--trials 600] [--record FILE]

DATA is the folder of the ONNX surrogate of LCBench (model.onnx, encoding.json, config_space.json, from
slds-lmu/yahpo_data; Pfisterer et al. 2022, "YAHPO Gym", AutoML). It needs onnxruntime. The loop is the real
one (`lanewise.search.search`); the trainer reads validation accuracy by epoch, 1 to 52, from the surrogate.
Beside it runs plain Optuna (`--strategies optuna-tpe optuna-random`): 100 full trials one after another.

Every finished run is one line of the runs file, and a run that is there already is not made again, so the
command may be stopped and repeated. `--record` writes the means over the tasks and seeds that all kinds of runs
have. `--learn` says what TPE is told of trials that did not end by themselves: `product` is the product's own way
(lanewise/search/unfinished.py), the others are in `unfinished.py`. Nothing here reads a clock but for the seconds of a
run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from unfinished import learned

import lanewise.search.run as search_run
from lanewise.pruning import Direction
from lanewise.search import LaneRequest, Report, Told, search
from lanewise.search.optuna_study import distribution_of
from lanewise.search.strategies import strategy_of
from lanewise.space import Config, Space, build_space
from lanewise.study import Study

EPOCHS = 52
SEQUENTIAL_TRIALS = 100
# The ranges of LCBench, Zimmer et al. 2021, "Auto-PyTorch Tabular", IEEE TPAMI 43, table 3.
RANGES: dict[str, Any] = {
    "lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "weight_decay": {"low": 1e-5, "high": 1e-1, "log": False},
    "momentum": {"low": 0.1, "high": 0.99},
    "optimizer": "sgd",
}
NETWORK: dict[str, Any] = {
    "rows": {"low": 16, "high": 512, "log": True},  # rows of a batch; one pool holds every size here
    "layers": {"low": 1, "high": 5},
    "units": {"low": 64, "high": 1024, "log": True},
    "max_dropout": {"low": 0.0, "high": 1.0},
}
DEFAULTS: Config = {"rows": 91, "layers": 3, "units": 256, "max_dropout": 0.5}
ORDER = ("rows", "lr", "momentum", "weight_decay", "layers", "units", "max_dropout")


class Surrogate:
    """Learning curves of one task.

    Args:
        folder: As DATA above.
        task: Place in the list of tasks in config_space.json.
    """

    def __init__(self, folder: Path, task: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(folder / "model.onnx", options)
        parameters = json.loads((folder / "config_space.json").read_text())["hyperparameters"]
        self.task = next(p["choices"] for p in parameters if p["name"] == "OpenML_task_id")[task]
        self._code = json.loads((folder / "encoding.json").read_text())["OpenML_task_id"][self.task]

    def accuracy(self, configs: Sequence[Config], epochs: Sequence[int]) -> np.ndarray:
        """Validation accuracy in percent, shape [configurations, epochs]."""
        rows = [[epoch, *(float(c[name]) for name in ORDER)] for c in configs for epoch in epochs]
        codes = np.full((len(rows), 1), self._code, np.int32)
        given = {"x_cat": codes, "x_cont": np.asarray(rows, np.float32)}
        found: np.ndarray = self._session.run(None, given)[0][:, 1]
        return found.reshape(len(configs), len(epochs)).astype(float)


class Learner:
    """A strategy that is told the history by one of the rules that are compared."""

    def __init__(self, study: Study, space: Space, direction: Direction, rule: str) -> None:
        self._inner, self._direction = strategy_of(study, space, direction), direction
        self._rule = rule

    def ask(self, number: int, history: Sequence[Told]) -> Config:
        return self._inner.ask(number, learned(history, self._rule, self._direction))


class CurveTrainer:
    """Lanes that read their curves; a `lanewise.search.Trainer`."""

    def __init__(self, surrogate: Surrogate, lanes: int) -> None:
        self._surrogate, self._count = surrogate, lanes
        self._lanes: dict[int, tuple[np.ndarray, int]] = {}  # trial -> its curve, epochs trained

    @property
    def active(self) -> int:
        return len(self._lanes)

    def free(self, request: LaneRequest) -> bool:
        return len(self._lanes) < self._count

    def saved(self, request: LaneRequest, at_most: int) -> int:
        return 0

    def add(self, request: LaneRequest, epoch: int = 0) -> None:
        curve = self._surrogate.accuracy([request.config], range(1, EPOCHS + 1))[0]
        self._lanes[request.number] = (curve, epoch)

    def keep(self, *, at_rung: bool, stopping: bool) -> None:
        pass

    def tick(self) -> list[Report]:
        reports = []
        for number, (curve, done) in self._lanes.items():
            score = float(curve[done])
            report = Report(number, done + 1, 0.0, {"valid/accuracy": score}, finished=done + 1 == EPOCHS)
            reports.append(report)
            self._lanes[number] = (curve, done + 1)
        return reports

    def drop(self, number: int) -> None:
        del self._lanes[number]


def a_study(strategy: str, pruner: str, seed: int, lanes: int, trials: int) -> Study:
    """The study of one run; pruner: `none`, or its name, first rung and factor as in `asha:5:3`."""
    name, first, factor = (*pruner.split(":"), "5", "3")[:3]
    chosen = {"pruner": name, "rung_first": int(first), "rung_factor": int(factor)}
    return Study.model_validate(
        {
            "name": "lcbench", "seed": seed, "data": {"source": "sklearn:digits"}, "space": RANGES,
            "train": {"epochs": EPOCHS, "patience": 0},
            "search": {"strategy": strategy, "trials": trials, "lanes": lanes, **chosen},
        }
    )  # fmt: skip


def run_lanes(
    surrogate: Surrogate, strategy: str, pruner: str, learn: str, seed: int, lanes: int, trials: int
) -> dict[str, Any]:
    """One search; its steps are (ticks, epochs, best complete score) wherever that score rose."""
    study = a_study(strategy, pruner, seed, lanes, trials)
    space = build_space(study, NETWORK, DEFAULTS)
    if learn not in ("", "product"):
        search_run.strategy_of = lambda *made: Learner(*made, learn)
    else:
        search_run.strategy_of = strategy_of
    best, steps, states = -1.0, [], {"complete": 0, "pruned": 0}
    progress = None
    for progress in search(
        study, space, CurveTrainer(surrogate, lanes), metric="accuracy", direction="maximize"
    ):
        for record in progress.ended:
            states[record.state] = states.get(record.state, 0) + 1
            if record.state == "complete" and record.value is not None and record.value > best:
                best = record.value
                steps.append((progress.ticks, progress.epochs_spent, round(best, 4)))
    assert progress is not None  # a search has ticks
    return {"steps": steps, "ticks": progress.ticks, "epochs": progress.epochs_spent, "states": states}


def run_optuna(surrogate: Surrogate, strategy: str, seed: int) -> dict[str, Any]:
    """Optuna alone: full trials, one after another; an epoch is a tick."""
    space = build_space(a_study("random", "none", seed, 1, 1), NETWORK, DEFAULTS)
    distributions = {name: distribution_of(space.parameters[name]) for name in space.searched()}
    samplers = {
        "optuna-tpe": lambda: optuna.samplers.TPESampler(seed=seed),
        "optuna-tpe-multivariate": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=True),
        "optuna-random": lambda: optuna.samplers.RandomSampler(seed=seed),
    }
    study = optuna.create_study(direction="maximize", sampler=samplers[strategy]())
    best, steps = -1.0, []
    for number in range(1, SEQUENTIAL_TRIALS + 1):
        trial = study.ask(distributions)
        score = float(surrogate.accuracy([trial.params], range(1, EPOCHS + 1)).max())
        study.tell(trial, score)
        if score > best:
            best = score
            steps.append((EPOCHS * number, EPOCHS * number, round(best, 4)))
    spent = EPOCHS * SEQUENTIAL_TRIALS
    return {"steps": steps, "ticks": spent, "epochs": spent, "states": {"complete": SEQUENTIAL_TRIALS}}


def wanted(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The runs that were asked for; the first seeds of all tasks come first."""
    for seed, task, name in product(range(args.seeds), range(args.tasks), args.strategies):
        if name.startswith("optuna"):
            yield {"task": task, "seed": seed, "strategy": name, "lanes": 1}
            continue
        for lanes, pruner in product(args.lanes, args.pruners):
            for learn in args.learn if name == "tpe" and pruner != "none" else args.learn[:1]:
                trials = args.trials if lanes > 1 else SEQUENTIAL_TRIALS
                yield {
                    "task": task, "seed": seed, "strategy": name, "lanes": lanes, "pruner": pruner,
                    "learn": learn if name == "tpe" else "", "trials": trials,
                }  # fmt: skip


def main() -> None:
    """Make the runs that the file lacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("search-runs.jsonl"))
    parser.add_argument("--tasks", type=int, default=17)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--strategies", nargs="+", default=["optuna-tpe", "tpe", "random"])
    parser.add_argument("--pruners", nargs="+", default=["none", "asha"])
    parser.add_argument("--learn", nargs="+", default=["product"], choices=["product", "gain", "drop"])
    parser.add_argument("--record", type=Path)
    parser.add_argument("--trials", type=int, default=600)
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    lines = args.runs.read_text().splitlines() if args.runs.exists() else []
    made = {json.dumps(json.loads(line)["run"], sort_keys=True) for line in lines}
    surrogates: dict[int, Surrogate] = {}
    for run in wanted(args):
        if json.dumps(run, sort_keys=True) in made:
            continue
        surrogate = surrogates.setdefault(run["task"], Surrogate(args.data, run["task"]))
        begun = time.perf_counter()
        given = {name: value for name, value in run.items() if name != "task"}
        found = run_lanes(surrogate, **given) if "trials" in run else run_optuna(
            surrogate, run["strategy"], run["seed"]
        )  # fmt: skip
        found |= {"seconds": round(time.perf_counter() - begun, 2)}
        with args.runs.open("a") as file:
            file.write(json.dumps({"run": run, "openml": surrogate.task, **found}) + "\n")
        print(json.dumps(run), found["steps"][-1], found["seconds"], file=sys.stderr)
    if args.record is not None:
        args.record.write_text(json.dumps(record(args.runs), indent=1) + "\n", encoding="utf-8")


def record(runs: Path) -> dict[str, Any]:
    """Means of every kind of run, over the tasks and seeds that all kinds have."""
    kinds: dict[str, dict[tuple[int, int], dict[str, Any]]] = defaultdict(dict)
    for line in runs.read_text().splitlines():
        found = json.loads(line)
        run = found["run"]
        name = " ".join(str(v) for k, v in run.items() if k not in ("task", "seed") and v != "")
        kinds[name][run["task"], run["seed"]] = found
    common = sorted(set.intersection(*(set(made) for made in kinds.values())))
    rows = {}
    for name, made in kinds.items():
        chosen = [made[key] for key in common]
        rows[name] = {
            "accuracy_at_end": mean(r["steps"][-1][2] for r in chosen),
            "accuracy_at_260_ticks": mean(best_by(r, 0, 260) for r in chosen),
            "accuracy_at_7800_epochs": mean(best_by(r, 1, 7800) for r in chosen),
            "ticks": mean(r["ticks"] for r in chosen),
            "epochs": mean(r["epochs"] for r in chosen),
            "complete": mean(r["states"]["complete"] for r in chosen),
        }
    tasks, seeds = (sorted({key[place] for key in common}) for place in (0, 1))
    return {
        "what": "validation accuracy in percent of the best complete trial, LCBench surrogate, means",
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), "optuna": version("optuna")},
        "tasks": tasks, "seeds": seeds, "n": len(common), "means": rows,
    }  # fmt: skip


def best_by(run: dict[str, Any], place: int, limit: int) -> float:
    """The best complete score when so much was spent; 0 before the first."""
    return max((step[2] for step in run["steps"] if step[place] <= limit), default=0.0)


def mean(values: Iterator[float]) -> float:
    """Rounded as it is printed."""
    return round(statistics.mean(values), 3)


if __name__ == "__main__":
    main()
