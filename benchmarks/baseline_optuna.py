"""Baseline (a): Optuna asks, torch.optim trains one trial after another with a DataLoader, MLflow records.

The usual script a person writes today; the same network, data, budget and logged values as the lanes.
Run by bench_trials.py: `python baseline_optuna.py TRIALS EPOCHS TRACKING_URI`.
"""

from __future__ import annotations

import sys

import mlflow
import optuna
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def data() -> tuple[DataLoader, DataLoader]:
    """60 % of the digits to train on, 20 % to validate on, standardised; 20 % are left out as sealed."""
    x, y = load_digits(return_X_y=True)
    x, _, y, _ = train_test_split(x, y, test_size=0.2, random_state=0, stratify=y)
    x_train, x_valid, y_train, y_valid = train_test_split(x, y, test_size=0.25, random_state=0, stratify=y)
    mean, std = x_train.mean(0), x_train.std(0) + 1e-8
    sets = [
        TensorDataset(torch.tensor((a - mean) / std, dtype=torch.float32), torch.tensor(b))
        for a, b in ((x_train, y_train), (x_valid, y_valid))
    ]
    return DataLoader(sets[0], batch_size=64, shuffle=True), DataLoader(sets[1], batch_size=512)


def main(trials: int, epochs: int, uri: str) -> None:
    """One study, every trial an MLflow child run with its metrics of every epoch."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("baseline")
    train, valid = data()

    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", 1e-5, 1e-1, log=True)
        decay = trial.suggest_float("weight_decay", 1e-6, 1e-1, log=True)
        net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(train))
        best = 0.0
        with mlflow.start_run(run_name=f"trial-{trial.number:04d}", nested=True):
            mlflow.log_params(trial.params)
            for epoch in range(epochs):
                net.train()
                total = 0.0
                for x, y in train:
                    optimizer.zero_grad()
                    loss = F.cross_entropy(net(x), y)
                    loss.backward()
                    optimizer.step()
                    schedule.step()
                    total += loss.item()
                net.eval()
                with torch.no_grad():
                    outputs = torch.cat([net(x) for x, _ in valid])
                target = torch.cat([y for _, y in valid])
                accuracy = (outputs.argmax(1) == target).float().mean().item()
                scores = {
                    "train/loss": total / len(train),
                    "valid/accuracy": accuracy,
                    "valid/log_loss": F.cross_entropy(outputs, target).item(),
                }
                mlflow.log_metrics(scores, step=epoch + 1)
                best = max(best, accuracy)
            mlflow.log_metric("objective", best)
        return best

    with mlflow.start_run(run_name="search"):
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
        study.optimize(objective, n_trials=trials)
    print(f"best {study.best_value:.4f}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
