"""What it costs a search when its MLflow server is stopped in the middle, and whether anything is lost.

    python benchmarks/bench_outage.py [--repeats 3] [--cases 0 20 60 never]

A real `mlflow server` is killed while a search trains, and started again after 0, 20 and 60 s, or not before the
search has ended. Measured is the training time by the ledger's clock, against runs whose server stays, taken in
turns. After each run, and `lanewise sync` where the server was away to the end, `lanewise verify` compares
every point of every trial in MLflow with the ledger. Writes records/outage.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
BEFORE_S = 10.0  # of training, before the server is killed
STUDY = """\
name: outage
data: {source: "sklearn:digits"}
space: {depth: 2, width: 64, dropout: {low: 0.0, high: 0.5}}
train: {epochs: 60, patience: 0}
lr_range: {enabled: false}
search: {strategy: random, trials: 512, lanes: 64, pruner: none}
"""


class Server:
    """An MLflow server over a SQLite file, on a port of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        from lanewise.tracking import quiet_environment, server_command

        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                server_command(f"sqlite:///{self._folder}/mlflow.db", self._port),
                cwd=self._folder, env=quiet_environment(), stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        while True:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return
            except OSError:
                time.sleep(0.2)

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def command(folder: Path, *args: str) -> subprocess.Popen[str]:
    """A command of ours in a folder, one thread."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *args], cwd=folder, env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def trained_s(folder: Path) -> float:
    """Seconds of training by the ledger's clock; 0 before the first step."""
    for ledger in folder.glob(".lanewise/studies/outage/rows-*/ledger.db"):
        with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as db:
            return float(db.execute("SELECT max(elapsed_s) FROM ticks").fetchone()[0] or 0)
    return 0.0


def one(case: str) -> dict[str, object]:
    """One search, its server killed for a while; `none` leaves it alone."""
    with tempfile.TemporaryDirectory(prefix="lanewise-outage-") as name:
        folder = Path(name)
        (folder / "outage.yaml").write_text(STUDY, encoding="utf-8")
        server = Server(folder)
        server.start()
        place = ["outage.yaml", "--set", f"tracking.uri={server.uri}"]
        try:
            search = command(folder, "search", *place, "-q")
            if case != "none":
                while trained_s(folder) < BEFORE_S:
                    if search.poll() is not None:
                        raise SystemExit(f"ended too early:\n{search.communicate()[0]}")
                    time.sleep(0.2)
                server.kill()
                if case != "never":
                    time.sleep(float(case))
                    server.start()
            said, _ = search.communicate()
            if search.returncode:
                raise SystemExit(said)
            if case == "never":
                server.start()
            synced = command(folder, "sync", *place).communicate()[0].strip()
            verify = command(folder, "verify", *place, "--json")
            checks = json.loads(verify.communicate()[0])
            wrong = [check for check in checks if not check["ok"]]
            return {
                "case": case, "train_s": trained_s(folder), "wrong": wrong, "sync": synced,
                "mlflow": next(check["says"] for check in checks if check["part"] == "mlflow"),
            }  # fmt: skip
        finally:
            server.kill()


def main() -> None:
    """All cases in turns, beside undisturbed runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cases", nargs="*", default=["0", "20", "60", "never"])
    parser.add_argument("--out", type=Path, default=HERE / "records" / "outage.json")
    asked = parser.parse_args()
    sys.path.insert(0, str(HERE.parent))
    runs = []
    for _ in range(asked.repeats):
        for case in ["none", *asked.cases]:
            runs.append(one(case))
            print(json.dumps(runs[-1]), flush=True)
    medians = {
        case: statistics.median(float(str(run["train_s"])) for run in runs if run["case"] == case)
        for case in ["none", *asked.cases]
    }
    record = {
        "what": __doc__.splitlines()[0],
        "command": " ".join(sys.argv),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            "python": platform.python_version(),
            **{p: version(p) for p in ("torch", "mlflow", "prefect")},
        },
        "n": asked.repeats,
        "study": STUDY,
        "median_train_s": medians,
        "ratio_to_undisturbed": {case: seconds / medians["none"] for case, seconds in medians.items()},
        "wrong": [run for run in runs if run["wrong"]],
        "runs": runs,
    }
    asked.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record["ratio_to_undisturbed"]), "wrong:", record["wrong"])


if __name__ == "__main__":
    main()
