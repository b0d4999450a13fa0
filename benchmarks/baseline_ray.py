"""Baseline (b): Ray Tune on 2 workers, each trial a task, torch.optim and a DataLoader inside.

Run by bench_trials.py with an interpreter that has ray[tune]: `python baseline_ray.py TRIALS EPOCHS`.
"""

from __future__ import annotations

import os
import sys
import tempfile

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import ray
from ray import tune


def train(config: dict[str, float]) -> None:
    """One trial, reporting every epoch."""
    import torch
    import torch.nn.functional as F
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    torch.set_num_threads(1)
    x, y = load_digits(return_X_y=True)
    x, _, y, _ = train_test_split(x, y, test_size=0.2, random_state=0, stratify=y)
    x_train, x_valid, y_train, y_valid = train_test_split(x, y, test_size=0.25, random_state=0, stratify=y)
    mean, std = x_train.mean(0), x_train.std(0) + 1e-8
    tensors = [torch.tensor((a - mean) / std, dtype=torch.float32) for a in (x_train, x_valid)]
    loader = DataLoader(TensorDataset(tensors[0], torch.tensor(y_train)), batch_size=64, shuffle=True)
    target = torch.tensor(y_valid)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.AdamW(net.parameters(), lr=config["lr"], weight_decay=config["weight_decay"])
    epochs = int(config["epochs"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    for _ in range(epochs):
        net.train()
        for xb, yb in loader:
            optimizer.zero_grad()
            F.cross_entropy(net(xb), yb).backward()
            optimizer.step()
            schedule.step()
        net.eval()
        with torch.no_grad():
            outputs = net(tensors[1])
        tune.report(
            {
                "accuracy": (outputs.argmax(1) == target).float().mean().item(),
                "log_loss": F.cross_entropy(outputs, target).item(),
            }
        )


def main(trials: int, epochs: int) -> None:
    """Random search over the same space."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    space = {
        "lr": tune.loguniform(1e-5, 1e-1),
        "weight_decay": tune.loguniform(1e-6, 1e-1),
        "epochs": epochs,
    }
    tuner = tune.Tuner(
        train,
        param_space=space,
        tune_config=tune.TuneConfig(metric="accuracy", mode="max", num_samples=trials),
        run_config=tune.RunConfig(storage_path=tempfile.mkdtemp(), verbose=0),
    )
    results = tuner.fit()
    print(f"best {results.get_best_result().metrics['accuracy']:.4f}")
    ray.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
