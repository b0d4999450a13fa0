"""Small networks, data and lanes for the engine's equality tests; imported by the tests beside it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lanewise.engine import Goal, Lane, Report, SplitTensors
from lanewise.engine.engine import Engine
from lanewise.study import training_defaults

CONFIG: dict[str, Any] = {
    **training_defaults(),
    "optimizer": "adamw", "lr": 3e-3, "weight_decay": 1e-2, "beta2": 0.99, "alpha": 0.95, "warmup": 0.1,
    "min_lr_factor": 0.01, "plateau_patience": 1, "restart_epochs": 2, "cycle_epochs": 2, "step_epochs": 1,
    "gamma": 0.5,
}  # fmt: skip


def accuracy(outputs: torch.Tensor, target: torch.Tensor, n: torch.Tensor, scale: torch.Tensor) -> Any:
    """Share of right classes [K]."""
    rows = torch.arange(target.shape[1], device=n.device) < n.unsqueeze(1)
    return {"accuracy": ((outputs.argmax(-1) == target) & rows).sum(1) / n}


def mean_square(outputs: torch.Tensor, target: torch.Tensor, n: torch.Tensor, scale: torch.Tensor) -> Any:
    """Mean squared error [K] over all rows, in the target's unit."""
    errors = (outputs.squeeze(-1) - target) * scale.unsqueeze(1)
    return {"mse": torch.stack([e.square().double().mean() for e in errors])}


CLASSES = Goal("cross_entropy", accuracy, "accuracy", True, classes=3)
VALUES = Goal("mse", mean_square, "mse", False)


def split(rows: int = 90, width: int = 7, seed: int = 0, regression: bool = False) -> SplitTensors:
    """Random rows with a learnable target; two thirds train."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, width, generator=g)
    signal = x @ torch.randn(width, 3, generator=g) + 0.3 * torch.randn(rows, 3, generator=g)
    y = signal[:, 0] if regression else signal.argmax(1)
    cut = 2 * rows // 3
    return SplitTensors((x[:cut],), y[:cut], (x[cut:],), y[cut:], scale=2.0 if regression else 1.0)


def network(
    seed: int, width: int = 16, inputs: int = 7, rate: float = 0.0, norm: str = "none",
    activation: type[nn.Module] = nn.ReLU, outputs: int = 3,
) -> nn.Module:  # fmt: skip
    """Two hidden layers, initialised from the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for n_in in (inputs, width):
            layers.append(nn.Linear(n_in, width))
            if norm != "none":
                layers.append(nn.LayerNorm(width) if norm == "layer" else nn.BatchNorm1d(width))
            layers += [activation(), nn.Dropout(rate)]
        return nn.Sequential(*layers, nn.Linear(width, outputs))


def lane(key: int, epochs: int = 3, config: dict[str, Any] | None = None, **how: Any) -> Lane:
    """A lane with its own seed, network and hyperparameters."""
    seed = 1000 + key
    own = {**CONFIG, "lr": CONFIG["lr"] * (1 + key / 7), **(config or {})}
    return Lane(key, seed, own, network(seed, **how), f"{how}", epochs, batch=32)


def ended(lanes: list[Lane], data: SplitTensors) -> Engine:
    """An engine whose lanes have ended, all at the same tick."""
    engine = Engine([data], CLASSES, lanes=len(lanes))
    for one in lanes:
        engine.add(one)
    while not engine.tick()[0].finished:
        pass
    return engine


def run(
    lanes: list[Lane], splits: list[SplitTensors], goal: Goal = CLASSES, **engine: Any
) -> dict[Any, list[Report]]:
    """Train lanes to their end; each one's reports."""
    trainer = Engine(splits, goal, lanes=len(lanes), **engine)
    for one in lanes:
        trainer.add(one)
    reports: dict[Any, list[Report]] = {one.key: [] for one in lanes}
    while trainer.active:
        for report in trainer.tick():
            reports[report.key].append(report)
    return reports
