"""Kills a study fifty times at random moments and compares what it leaves with an undisturbed run: `make soak`.

The study has 96 trials with pruning. Its process gets SIGKILL after a time drawn at random, then the same
command is given again, until it ends; with kills left over it begins again in a new folder. Compared are the
trial table with every curve, the champion's bytes and every point of every run in MLflow. Takes some
minutes; pytest does not collect it. Ends with 1 where something differs.

    python tests/soak/kill_loop.py [--kills 50] [--seed N]
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "faults")]

from after_a_crash import Outcome, outcome  # noqa: E402 - needs the path

NAME = "killed"
STUDY = f"""\
name: {NAME}
data: {{source: "sklearn:digits"}}
space: {{width: [32, 64], dropout: {{low: 0.0, high: 0.5}}, lr: {{low: 1e-4, high: 1e-1, log: true}}}}
train: {{epochs: 24}}
search: {{trials: 96, lanes: 8, rung_first: 2, startup: 16}}
evaluate: {{folds: 3, repeats: 1, finalists: 2, bootstrap: 200}}
tracking: {{checkpoint_seconds: 1}}
"""


class Round:
    """The study in a folder of its own, and the environment its runs have."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self._environment = folder, {**os.environ, **environment}
        folder.mkdir()
        (folder / "killed.yaml").write_text(STUDY, encoding="utf-8")

    def run(self, kill_after_s: float | None = None) -> bool:
        """Run it; whether it came to its end. It writes to a file, so that nobody has to read a pipe."""
        order = [sys.executable, "-m", "flows.cli", "run", "killed.yaml", "-q"]
        with (self.folder / "output").open("ab") as output:
            process = subprocess.Popen(
                order, cwd=self.folder, env=self._environment, stdout=output, stderr=output
            )
            try:
                code = process.wait(timeout=kill_after_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                return False
        if code:
            raise SystemExit(f"{self.folder}: exit code {code}, see output there")
        return True

    def left(self, *, partial: bool) -> Outcome:
        """What is there now."""
        return outcome(self.folder, NAME, partial=partial)


def killed_round(round_: Round, expected: Outcome, kills: int, mean_s: float, draw: random.Random) -> int:
    """Run until the end, killed at most so often; the number of kills.

    Raises:
        SystemExit: Something was lost or differs.
    """
    done, acknowledged = 0, 0
    while not round_.run(draw.uniform(0, 2 * mean_s) if done < kills else None):
        done += 1
        left = round_.left(partial=True)
        if left.ended < acknowledged or left.champion not in (None, expected.champion):
            raise SystemExit(
                f"{round_.folder}, kill {done}: {left.ended} trials after {acknowledged}, {left.champion}"
            )
        acknowledged = left.ended
        print(f"  kill {done}: {acknowledged} trials ended", flush=True)
    found = round_.left(partial=False)
    differ = [name for name in vars(expected) if getattr(found, name) != getattr(expected, name)]
    if differ:
        raise SystemExit(f"{round_.folder}: {differ} differ from the undisturbed run")
    return done


def main() -> None:
    """Run undisturbed, run killed, compare."""
    from flows.local_server import LocalServer

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    wanted = parser.parse_args()
    draw, begun = random.Random(wanted.seed), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="lanewise-soak-"))
    server = LocalServer(folder / "prefect")
    try:
        server.wait()
        environment = server.client_environment() | {
            "PREFECT_HOME": str(folder / "prefect" / "client"), "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        whole = Round(folder / "whole", environment)
        lasts: list[float] = []
        for _ in range(2):  # the second one reuses all: what a start takes
            since = time.monotonic()
            whole.run()
            lasts.append(time.monotonic() - since)
        expected = whole.left(partial=False)
        print(f"undisturbed: {lasts[0]:.0f} s, of it {lasts[1]:.0f} s to start", flush=True)
        mean_s = lasts[1] + (lasts[0] - lasts[1]) / wanted.kills
        done = rounds = 0
        while done < wanted.kills:
            rounds += 1
            print(f"round {rounds}", flush=True)
            round_ = Round(folder / f"round-{rounds}", environment)
            done += killed_round(round_, expected, wanted.kills - done, mean_s, draw)
    finally:
        server.stop()
    pruned = sum(trial["state"] == "pruned" for trial in expected.trials)
    points = sum(map(len, expected.histories.values()))
    print(
        f"{done} kills in {rounds} rounds, {len(expected.trials)} trials ({pruned} pruned), {points} points in "
        f"MLflow, champion {expected.champion}: all equal, nothing lost, nothing left running, nothing told "
        f"twice; seed {wanted.seed}, {time.monotonic() - begun:.0f} s"
    )
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
