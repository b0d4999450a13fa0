"""Transfer on digits: a network trained on classes 0 to 4, tuned on 20 images a class of 5 to 9, against scratch.

    python benchmarks/bench_transfer.py DATA [--seeds 5]

DATA is the folder of img-mnist: train/ and test/ with a folder for each digit. The default CNN is trained once on all
training images of 0 to 4 and written to a file. For each seed a study with `model: pretrained:` then searches on 100
images of the other digits, drawn by the seed: whether a trial starts from the weights, what is frozen, when it thaws
and at which rate it trains; everything else is as in the default, trial 0, which is the same network from scratch.
Winner and default are cross-validated on the same folds, refitted, and scored once on the 1,000 sealed images of 5 to
9. The gate is open where the winner started from the weights and is not worse on the sealed images, by log loss. Writes
records/transfer.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROWS = 20  # images a class to tune on
SCORES = ("accuracy", "log_loss")
TRANSFER = ("start", "freeze", "thaw_epoch", "pretrained_lr_factor")
BEFORE = """
name: before
data: {source: before, target: class}
model: {name: cnn}
train: {epochs: 6, patience: 0}
"""
AFTER = """
name: after
data: {source: few, test_source: sealed, target: class}
model: {name: cnn, pretrained: weights.safetensors}
space:
  batch_size: 16
  lr: 0.001
  weight_decay: 0.0001
  dropout: 0.2
  channel_dropout: 0.0
  freeze: [none, blocks.0, blocks]
  pretrained_lr_factor: {low: 0.1, high: 4.0, log: true}
train: {epochs: 16, patience: 0}
lr_range: {enabled: false}
search: {trials: 12, metric: log_loss}
evaluate: {repeats: 1, finalists: 2, baselines: false}
"""


def images(data: Path, digits: range, folder: Path, seed: int | None = None) -> None:
    """A folder per digit of all its images, or of 20 drawn by a seed."""
    for digit in digits:
        files = sorted((data / str(digit)).glob("*.png"))
        if seed is not None:
            files = [files[i] for i in np.random.default_rng((seed, digit)).permutation(len(files))[:ROWS]]
        (folder / str(digit)).mkdir(parents=True)
        for file in files:
            shutil.copy(file, folder / str(digit))


def pretrain(data: Path, into: Path) -> dict[str, object]:
    """Train the default CNN on 0 to 4 and write its weights."""
    from safetensors.torch import save_file

    from lanewise.data import prepare
    from lanewise.model import resolve
    from lanewise.pretrained_file import ORIGIN, Origin
    from lanewise.space import build_space
    from lanewise.study import load_study
    from lanewise.trainer import full_trainer

    begun = time.process_time()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images(data / "train", range(5), folder / "before")
        (folder / "before.yaml").write_text(BEFORE)
        study = load_study(folder / "before.yaml", {"tracking.home": str(folder / "home")})
        dataset, network = prepare(study).dataset, resolve("cnn")
        config = build_space(study, network.space, network.defaults).default()
        (state,) = full_trainer(study, network, dataset)(config, [0], study.train.epochs)
    origin = Origin("cnn", {}, config, tuple(dataset.classes))
    save_file({n: t.contiguous() for n, t in state.items()}, into, {ORIGIN: origin.to_text()})
    return {"study": BEFORE, "rows": dataset.rows, "cpu_s": time.process_time() - begun}


def one_seed(data: Path, weights: Path, seed: int) -> dict[str, object]:
    """Search, folds and sealed test under one seed."""
    from pipeline import run

    from lanewise.data import prepare
    from lanewise.gate import gate
    from lanewise.metrics import find_metric
    from lanewise.study import load_study

    begun = time.process_time()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images(data / "train", range(5, 10), folder / "few", seed)
        images(data / "test", range(5, 10), folder / "sealed")
        shutil.copy(weights, folder / "weights.safetensors")
        (folder / "after.yaml").write_text(AFTER)
        study = load_study(folder / "after.yaml", {"seed": str(seed), "tracking.home": str(folder / "home")})
        prepared = prepare(study)
        outcome = run(study, prepared.dataset, prepared.seal)
    test, warm = outcome.test, outcome.fitted.config.get("start") == "pretrained"
    assert test is not None
    metric = find_metric(test.metric, prepared.dataset.task)
    decision = gate(
        metric, 0.0, new=test.scores[test.metric].estimate, default=test.default_scores[test.metric].estimate,
        new_is_default=outcome.evaluation.winner == "default",
    )  # fmt: skip
    lead = outcome.evaluation.winner_minus_default
    return {
        "seed": seed, "winner": outcome.evaluation.winner, "warm": warm, "gate": decision.reason,
        "open": warm and decision.alias == "champion",
        **{name: test.scores[name].estimate for name in SCORES},
        **{f"default_{name}": test.default_scores[name].estimate for name in SCORES},
        "folds_lead": [lead.estimate, lead.low, lead.high],
        "transfer": {name: outcome.fitted.config.get(name) for name in TRANSFER}, "test_rows": test.n,
        "cpu_s": time.process_time() - begun,
    }  # fmt: skip


def main() -> None:
    """All seeds, a process each."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("data", type=Path)
    parse.add_argument("--seeds", type=int, default=5)
    parse.add_argument("--jobs", type=int, default=1)
    parse.add_argument("--out", type=Path, default=HERE / "records" / "transfer.json")
    asked = parse.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as temporary, ProcessPoolExecutor(asked.jobs) as pool:
        weights, rows = Path(temporary) / "weights.safetensors", []
        before = pool.submit(pretrain, asked.data, weights).result()
        for job in [pool.submit(one_seed, asked.data, weights, seed) for seed in range(asked.seeds)]:
            rows.append(job.result())
            print(rows[-1], flush=True)
    opened = sum(bool(row["open"]) for row in rows)
    means = {
        name: float(np.mean([row[name] for row in rows]))
        for score in SCORES for name in (score, f"default_{score}")
    }  # fmt: skip
    print(f"gate open on {opened} of {len(rows)} seeds; means {means}")
    record = {
        "what": __doc__.splitlines()[0], "command": " ".join(sys.argv[:1]) + " DATA",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), "torch": version("torch")},
        "when": datetime.now(UTC).isoformat(timespec="seconds"), "pretrained": before, "study": AFTER,
        "open": opened, "means": means, "seeds": rows,
    }  # fmt: skip
    asked.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
