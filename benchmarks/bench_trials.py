"""256 configurations of a 2 x 64 network, 30 epochs, whole process, against the usual tools.

    python benchmarks/bench_trials.py [--repeats 3] [--ray PYTHON] [--trials 256]

Measured, each as its own process with one thread per training loop:
  lanewise    `lanewise search`: Prefect flow and server, MLflow run per trial, ledger
  start       the same with one trial of one epoch: the fixed cost of starting
  engine      the search loop alone, without tracking and orchestration (seconds of the loop)
  imports     python -c "import torch, mlflow, optuna, prefect"
  optuna      baseline (a): Optuna, torch.optim, DataLoader, one after another, the same logged to MLflow
  ray         baseline (b): Ray Tune on 2 workers; --ray names an interpreter that has ray[tune]

Writes records/trials.json: every time, medians, ratios, hardware and versions.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
STUDY = HERE / "studies" / "trials.yaml"
THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def clock(command: list[str], folder: Path) -> tuple[float, str]:
    """Wall seconds and standard output of one process."""
    env = {**os.environ, **THREADS, "PYTHONPATH": str(HERE.parent)}
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return seconds, done.stdout


def lanewise(folder: Path, trials: int, epochs: int, name: str) -> float:
    """One tracked, orchestrated search; a new study name each time, so nothing is reused."""
    command = [sys.executable, "-m", "flows.cli", "search", str(STUDY)]
    for key, value in (("name", name), ("search.trials", trials), ("train.epochs", epochs)):
        command += ["--set", f"{key}={value}"]
    return clock(command, folder)[0]


def cpu() -> str:
    """Name of the processor."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


def main() -> None:
    """Measure all, print and write the record."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--repeats", type=int, default=3)
    parse.add_argument("--trials", type=int, default=256)
    parse.add_argument("--epochs", type=int, default=30)
    parse.add_argument("--ray", help="an interpreter that has ray[tune]")
    parse.add_argument(
        "--ray-trials", type=int, help="fewer trials for Ray; its seconds per trial are scaled"
    )
    parse.add_argument("--out", type=Path, default=HERE / "records" / "trials.json")
    asked = parse.parse_args()
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        lanewise(folder, 1, 1, "warm")  # databases are created once, before the clock
        for repeat in range(asked.repeats):
            runs = {
                "imports": lambda: clock(
                    [sys.executable, "-c", "import torch, mlflow, optuna, prefect"], folder
                )[0],
                "start": lambda r=repeat: lanewise(folder, 1, 1, f"start-{r}"),
                "lanewise": lambda r=repeat: lanewise(folder, asked.trials, asked.epochs, f"full-{r}"),
                "engine": lambda: float(
                    clock([sys.executable, str(HERE / "engine_alone.py"), str(STUDY)], folder)[1].split()[1]
                ),
            }
            for name, run in runs.items():
                times.setdefault(name, []).append(run())
                print(f"{name:9} {times[name][-1]:8.2f} s", flush=True)
        uri = f"sqlite:///{folder}/baseline.db"
        sizes = [str(asked.trials), str(asked.epochs)]
        times["optuna"] = [clock([sys.executable, str(HERE / "baseline_optuna.py"), *sizes, uri], folder)[0]]
        print(f"optuna    {times['optuna'][0]:8.2f} s", flush=True)
        if asked.ray:
            few = asked.ray_trials or asked.trials
            command = [asked.ray, str(HERE / "baseline_ray.py"), str(few), str(asked.epochs)]
            times["ray"] = [clock(command, folder)[0] * asked.trials / few]
            print(f"ray       {times['ray'][0]:8.2f} s", flush=True)
    middle = {name: statistics.median(values) for name, values in times.items()}
    ratios = {
        "optuna / lanewise": middle["optuna"] / middle["lanewise"],
        "(lanewise - start) / engine": (middle["lanewise"] - middle["start"]) / middle["engine"],
        "start / imports": middle["start"] / middle["imports"],
    }
    if asked.ray:
        ratios["ray / lanewise"] = middle["ray"] / middle["lanewise"]
    packages = ("torch", "prefect", "mlflow", "optuna", "numpy")
    record = {
        "what": __doc__.splitlines()[0],
        "command": " ".join(sys.argv),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": {"cpu": cpu(), "cores": os.cpu_count()},
        "versions": {"python": platform.python_version(), **{p: version(p) for p in packages}},
        "n": {name: len(values) for name, values in times.items()},
        "ray": f"{asked.ray_trials} trials, scaled to {asked.trials}" if asked.ray_trials else "measured",
        "seconds": times,
        "median": middle,
        "ratios": ratios,
    }
    asked.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for name, value in ratios.items():
        print(f"{name:30} {value:6.2f}")


if __name__ == "__main__":
    main()
