"""What tracking costs: in the training thread, and in the process beside it, through both writers.

256 trials of 30 epochs with 3 metrics each, recorded in ticks of 64 lanes, then delivered to a fresh SQLite
database in this process. `python benchmarks/bench_tracking.py`
"""

from __future__ import annotations

import os
import platform
import random
import shutil
import tempfile
import time
from pathlib import Path

import lanewise.tracking.writers as writers
from lanewise.tracking import Deliverer, Tracker, ensure_store
from lanewise.tracking.store import client

TRIALS, EPOCHS, LANES = 256, 30, 64


def record(tracker: Tracker) -> float:
    """Seconds the training thread spends to record everything."""
    draw = random.Random(0)
    curves = {
        (n, e): {"train/loss": draw.random(), "valid/loss": draw.random(), "valid/accuracy": draw.random()}
        for n in range(TRIALS)
        for e in range(EPOCHS)
    }
    tags = {
        "lanewise.seed": 1,
        "lanewise.data": "f" * 64,
        "lanewise.split": "a" * 64,
        "lanewise.code": "0.1.0",
    }
    started = time.perf_counter()
    tracker.start_run("pipeline", stage="pipeline")
    for first in range(0, TRIALS, LANES):
        lanes = range(first, first + LANES)
        for epoch in range(EPOCHS):
            with tracker.tick():
                for n in lanes:
                    key = f"trial-{n:04d}"
                    if epoch == 0:
                        config = {
                            "lr": 10 ** draw.uniform(-5, -1),
                            "weight_decay": 1e-4,
                            "width": 64,
                            "depth": 2,
                        }
                        tracker.start_run(
                            key, parent="pipeline", stage="search", params=config, config=config, tags=tags
                        )
                    tracker.log(key, epoch + 1, curves[n, epoch])
                    if epoch == EPOCHS - 1:
                        tracker.end(key, "complete", objective=curves[n, epoch]["valid/loss"])
    tracker.end("pipeline", "complete")
    return time.perf_counter() - started


def deliver(spool: Path, uri: str) -> tuple[float, float]:
    """Seconds and processor seconds to read a spool and write it to MLflow."""
    deliverer = Deliverer(spool, uri)
    wall, cpu = time.perf_counter(), time.process_time()
    deliverer.read()
    deliverer.deliver(everything=True)
    deliverer.save()
    found = deliverer.delivery()
    assert found.pending == 0 and found.unreachable is None and len(found.run_ids) == TRIALS + 1
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Print milliseconds a trial."""
    revisions = writers.BULK_REVISIONS
    print(f"# {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        started = time.perf_counter(), time.process_time()
        uri = ensure_store(f"sqlite:///{folder}/mlruns/mlflow.db")
        wall, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
        print(f"fresh database: {wall:.3f} s, {cpu:.3f} s of processor")
        client(uri).search_experiments()  # imports mlflow, which is counted to neither writer
        tracker = Tracker("bench", f"sqlite:///{folder}/nowhere/mlflow.db", folder / "spool")
        assert tracker._child is not None
        tracker._child.kill()  # here this process delivers
        print(f"training thread: {1e3 * record(tracker) / TRIALS:.2f} ms a trial")
        tracker.close(10)
        for name, known in (("BulkWriter", revisions), ("ClientWriter", frozenset())):
            writers.BULK_REVISIONS = known
            shutil.copytree(folder / "spool", folder / name)
            (folder / name / "state.json").unlink(missing_ok=True)
            wall, cpu = deliver(folder / name, ensure_store(f"sqlite:///{folder}/{name}.db"))
            print(f"{name}: {1e3 * wall / TRIALS:.2f} ms a trial, {1e3 * cpu / TRIALS:.2f} ms of processor")


if __name__ == "__main__":
    main()
