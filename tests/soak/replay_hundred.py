"""Replays a hundred trials, drawn at random, and prints how many have their recorded bits: `make soak`.

Four studies (TPE with ASHA, two data sets, two networks) are searched through the command line, then finished and
pruned trials are drawn from all of them and trained again, each alone. Takes some minutes; pytest does not
collect it. Ends with 1 if one trial differs.

    python tests/soak/replay_hundred.py [--replays 100] [--seed N]
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

SPACES = {
    "mlp": "{depth: [1, 2, 3], width: [16, 32, 64], dropout: {low: 0.0, high: 0.5}, optimizer: [adamw, sgd]}",
    "resnet": "{dropout: {low: 0.0, high: 0.5}, optimizer: [adamw, sgd], batch_size: [32, 64]}",
}
SOURCES = {"digits": "sklearn:digits", "diabetes": "sklearn:diabetes"}
STUDY = """
name: {name}
data: {{source: "{source}"}}
model: {{name: {model}}}
space: {space}
lr_range: {{enabled: false}}
train: {{epochs: 12, patience: 6}}
search: {{trials: 48, lanes: 12, startup: 12, rung_first: 1}}
"""


def searched(folder: Path) -> list[str]:
    """Search all studies; their names."""
    names = []
    for data, source in SOURCES.items():
        for model, space in SPACES.items():
            name = f"{data}-{model}"
            text = STUDY.format(name=name, source=source, model=model, space=space)
            (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
            begun = time.monotonic()
            done = subprocess.run(
                [sys.executable, "-m", "flows.cli", "search", f"{name}.yaml", "-q"],
                cwd=folder, capture_output=True, text=True,
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            if done.returncode:
                raise SystemExit(done.stderr)
            print(f"{name}: {done.stdout.strip()} ({time.monotonic() - begun:.0f} s)", flush=True)
            names.append(name)
    return names


def main() -> int:
    """Search, draw, replay, count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replays", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    wanted = parser.parse_args()
    from lanewise.ledger import read_trials
    from tasks.replay import replay

    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lanewise-soak-") as name:
        folder = Path(name)
        uri = f"sqlite:///{folder}/mlruns/mlflow.db"
        known = [
            (study, trial.number)
            for study in searched(folder)
            for ledger in folder.glob(f".lanewise/studies/{study}/rows-*/ledger.db")
            for trial in read_trials(ledger)
            if trial.state in ("complete", "pruned")
        ]
        drawn = random.Random(wanted.seed).sample(known, wanted.replays)
        answers: Counter[str] = Counter()
        states: Counter[str] = Counter()
        values = 0
        for study, number in drawn:
            found = replay(f"{study}/trial-{number:04d}", uri=uri)
            answers[found.verdict.answer] += 1
            states[f"{study} {found.state}"] += 1
            values += found.verdict.values
            if found.verdict.answer != "EXACT":
                print("\n".join(found.words()), flush=True)
    for text, count in sorted(states.items()):
        print(f"  {count:3} {text}")
    print(
        f"{answers['EXACT']} of {len(drawn)} trials of {len(known)} EXACT, {values} values, seed {wanted.seed}, "
        f"{time.monotonic() - begun:.0f} s"
    )
    return 0 if answers["EXACT"] == len(drawn) else 1


if __name__ == "__main__":
    sys.exit(main())
