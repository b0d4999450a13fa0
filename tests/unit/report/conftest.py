"""Makes records as a run leaves them, with numbers that behave like real ones."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Json = dict[str, Any]

LOSSES = ("log_loss", "brier", "ece")
WIDE: Json = {
    "optimizer": {"value": "adamw"},
    "lr": {"low": 1e-5, "high": 0.1, "log": True},
    "weight_decay": {"low": 1e-6, "high": 0.1, "log": True},
    "width": {"choices": [32, 64, 128]},
    "depth": {"low": 1, "high": 4},
    "dropout": {"low": 0.0, "high": 0.6},
    "activation": {"choices": ["relu", "gelu", "silu"]},
    "batch_size": {"value": 64},
}
DEFAULT: Json = {
    "optimizer": "adamw",
    "lr": 1e-3,
    "weight_decay": 1e-4,
    "width": 64,
    "depth": 2,
    "dropout": 0.0,
    "activation": "relu",
    "batch_size": 64,
}


class Fake:
    """A run's records.

    Args:
        seed: of everything drawn.
        trials: of the search.
        task: "binary", "multiclass" or "regression".
        classes: number of classes.
        gain: how much better than the default a configuration can be, in units of the metric.
        rows: sealed rows.
        boosting: how much better than the best network gradient boosting is.
        epochs: of a full training.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        trials: int = 64,
        task: str = "binary",
        classes: int = 2,
        gain: float = 0.05,
        rows: int = 262,
        boosting: float = -0.02,
        epochs: int = 30,
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.task, self.gain, self.rows, self.boosting, self.epochs = task, gain, rows, boosting, epochs
        self.names = [] if task == "regression" else [f"class {i}" for i in range(classes)]
        self.metric = "rmse" if task == "regression" else "balanced_accuracy"
        self.sign = -1 if task == "regression" else 1
        self.base, self.scale = (64.2, 400.0) if task == "regression" else (0.79, 1.0)
        self.narrow = (2e-4, 2.5e-2)
        self.trials = self._trials(trials)
        done = [t for t in self.trials if t["state"] == "complete"]
        self.best = max(done, key=lambda t: self.sign * t["value"])["number"] if done else 0

    def config(self, control: bool) -> Json:
        """A drawn configuration."""
        low, high = (1e-5, 0.1) if control else self.narrow
        rng = self.rng
        return {
            **DEFAULT,
            "lr": float(np.exp(rng.uniform(np.log(low), np.log(high)))),
            "weight_decay": float(np.exp(rng.uniform(np.log(1e-6), np.log(0.1)))),
            "width": int(rng.choice([32, 64, 128])),
            "depth": int(rng.integers(1, 5)),
            "dropout": float(rng.uniform(0, 0.6)),
            "activation": str(rng.choice(["relu", "gelu", "silu"])),
        }

    def quality(self, config: Json) -> float:
        """How far above the default a configuration ends, up to `gain`."""
        off = math.log10(config["lr"] / 5e-3)
        drop = (config["dropout"] - 0.3) / 0.3
        return self.gain * (1 - 0.8 * off**2 - 0.35 * drop**2 + 0.1 * (config["width"] == 128))

    def curve(self, quality: float, epochs: int, speed: float) -> list[Json]:
        """Learning curve of one trial, towards `base` + quality."""
        rows, end = [], self.base + self.sign * quality * self.scale
        start = self.base * (1.9 if self.sign < 0 else 0.62)
        for epoch in range(1, epochs + 1):
            share = 1 - math.exp(-epoch / speed)
            late = max(0.0, epoch - 0.7 * self.epochs) * 0.0006
            value = start + (end - start) * share - self.sign * late * self.scale
            value += self.rng.normal(0, 0.006) * self.scale * (0.2 if self.sign < 0 else 1)
            rows.append(
                {
                    "train/loss": 0.65 * math.exp(-epoch / (2 * speed))
                    + 0.12
                    + abs(self.rng.normal(0, 0.004)),
                    f"valid/{self.metric}": value,
                }
            )
        return rows

    def _trials(self, count: int) -> list[Json]:
        found: list[Json] = []
        for number in range(count):
            control = number > 0 and number % 10 == 5
            config = dict(DEFAULT) if number == 0 else self.config(control)
            quality = 0.0 if number == 0 else self.quality(config)
            record: Json = {
                "number": number,
                "config": config,
                "seed": 1000 + number,
                "state": "complete",
                "reason": None,
                "value": None,
                "epochs": 0,
                "best_epoch": None,
                "curve": [],
                "control": control,
                "seconds": 3.1,
                "duplicate_of": None,
            }
            found.append(record)
            if number and number % 29 == 17:
                record |= {"state": "failed", "reason": "training loss is not finite at epoch 2", "epochs": 2}
                continue
            if number and number % 31 == 19:
                record |= {"state": "duplicate", "value": found[3]["value"], "duplicate_of": 3}
                continue
            curve = self.curve(quality, self.epochs, speed=2.0 + 1.5 * self.rng.random())
            key = f"valid/{self.metric}"
            if number > 8 and quality < 0.5 * self.gain and self.rng.random() < 0.8:
                curve = curve[: 5 if quality < 0 else 15]
                record |= {"state": "pruned", "reason": f"behind at epoch {len(curve)}"}
            best = max(range(len(curve)), key=lambda e: self.sign * curve[e][key])
            record |= {
                "curve": curve,
                "value": curve[best][key],
                "best_epoch": best + 1,
                "epochs": len(curve),
                "seconds": 0.2 * len(curve),
            }
        return found

    def search(self) -> Json:
        """The search's result."""
        wide = json.loads(json.dumps(WIDE))
        narrowed = {
            **json.loads(json.dumps(WIDE)),
            "lr": {"low": self.narrow[0], "high": self.narrow[1], "log": True},
        }
        return {
            "metric": self.metric,
            "direction": "maximize" if self.sign > 0 else "minimize",
            "trials": self.trials,
            "best": self.best,
            "epochs_spent": sum(t["epochs"] for t in self.trials),
            "epochs_full": self.epochs
            * len([t for t in self.trials if t["state"] not in ("duplicate", "failed")]),
            "seconds": 74.3,
            "lanes": 32,
            "strategy": "tpe",
            "space": {"parameters": narrowed, "original": wide, "defaults": DEFAULT},
            "ending": "all trials are done",
        }

    def interval(self, estimate: float, half: float, method: str = "bootstrap BCa") -> Json:
        """An interval around an estimate."""
        return {
            "estimate": estimate,
            "low": estimate - half,
            "high": estimate + half,
            "confidence": 0.95,
            "method": method,
        }

    def evaluation(self, folds: int = 5, repeats: int = 2) -> Json:
        """The cross-validation."""
        total = folds * repeats
        hard = self.rng.normal(0, 0.02 * self.scale * (0.3 if self.sign < 0 else 1), total)
        noise = 0.006 * self.scale

        def scores(gain: float) -> Json:
            values = self.base + self.sign * gain * self.scale + hard + self.rng.normal(0, noise, total)
            return {self.metric: [float(v) for v in values]}

        done = sorted(
            (t for t in self.trials[1:] if t["state"] == "complete"), key=lambda t: -self.sign * t["value"]
        )
        candidates = [{"name": "default", "kind": "default", "config": dict(DEFAULT), "scores": scores(0.0)}]
        candidates += [
            {
                "name": f"trial-{t['number']:04d}",
                "kind": "trial",
                "config": dict(t["config"]),
                "scores": scores(self.gain * (0.9 - 0.2 * i)),
            }
            for i, t in enumerate(done[:3])
        ]
        for name, gain in (
            ("dummy", -0.29),
            ("linear", -0.03),
            ("gradient_boosting", 0.9 * self.gain + self.boosting),
        ):
            candidates.append({"name": name, "kind": "baseline", "config": None, "scores": scores(gain)})
        for c in candidates:
            c["best_epochs"] = (
                [] if c["kind"] == "baseline" else [int(e) for e in self.rng.integers(15, 28, total)]
            )
        means = {c["name"]: float(np.mean(c["scores"][self.metric])) for c in candidates}
        own = [c["name"] for c in candidates if c["kind"] != "baseline"]
        winner = max(own, key=lambda n: self.sign * means[n])
        number = 0 if winner == "default" else int(winner[6:])
        best = max(("dummy", "linear", "gradient_boosting"), key=lambda n: self.sign * means[n])
        half = 0.012 * self.scale
        method = f"corrected resampled t, {total} folds, against "
        zero = {**self.interval(0.0, 0.0), "method": "the winner is the default"}
        lead = self.interval(means[winner] - means["default"], half, method + "the default")
        selection = self.trials[number]["value"]
        return {
            "metric": self.metric,
            "direction": "maximize" if self.sign > 0 else "minimize",
            "folds": folds,
            "repeats": repeats,
            "candidates": candidates,
            "winner": winner,
            "winner_minus_default": lead if number else zero,
            "winner_minus_baseline": self.interval(means[winner] - means[best], half, method + best),
            "overtuning": {
                "trial": winner,
                "selection": selection,
                "cross_validated": means[winner],
                "gap": self.sign * (selection - means[winner]),
                "default_gap": 0.004 * self.scale,
                "overtuning": 0.0,
                "relative": 0.0,
            },
            "warnings": [],
        }

    def test(self) -> Json:
        """The sealed test."""
        half = 0.045 * self.scale * (0.3 if self.sign < 0 else 1)
        tuned, other = self.base + self.sign * 0.95 * self.gain * self.scale, self.base
        lead = self.interval(tuned - other, 0.8 * half, "paired bootstrap BCa")
        names = (
            ["rmse", "mae", "r2"]
            if self.task == "regression"
            else [
                "accuracy",
                "balanced_accuracy",
                "f1",
                "roc_auc",
                "log_loss",
                "brier",
                "ece",
            ]
        )
        shift = {"mae": -18.0, "r2": -63.4, "log_loss": -0.38, "brier": -0.64, "ece": -0.74, "roc_auc": 0.06}
        record: Json = {
            "metric": self.metric,
            "n": self.rows,
            "opened_at": "2026-11-20T14:03:11+00:00",
            "frozen": "9b1c" * 16,
            "scores": {n: self.interval(tuned + shift.get(n, 0.0), half) for n in names},
            "default_scores": {
                n: self.interval(
                    (tuned if n in LOSSES and self.sign > 0 else other)
                    + shift.get(n, 0.0)
                    + (0.04 if n in LOSSES else 0.0),
                    half,
                )
                for n in names
            },
            "difference": lead,
            "openings": 1,
            "confusion": None,
            "residuals": None,
        }
        if self.task == "regression":
            actual = self.rng.gamma(4.0, 60.0, min(self.rows, 500))
            found = actual + self.rng.normal(0, 0.2 * actual + 15)
            record["residuals"] = [[float(a), float(b)] for a, b in zip(actual, found, strict=True)]
        else:
            k = len(self.names)
            share = np.full((k, k), 0.18 / max(k - 1, 1)) + np.eye(k) * 0.7
            per = self.rng.multinomial(self.rows, self.rng.dirichlet(np.full(k, 6.0)))
            record["confusion"] = [
                [int(n) for n in self.rng.multinomial(per[i], share[i] / share[i].sum())] for i in range(k)
            ]
        return record

    def lr_curve(self) -> Json:
        """The learning-rate range test."""
        rates = np.geomspace(1e-6, 10, 100)
        fall = (
            0.69
            - 0.3 / (1 + (3e-4 / rates) ** 1.2)
            + np.where(rates > 0.05, (np.log10(rates / 0.05)) ** 2 * 0.9, 0)
        )
        wobble = np.cumsum(self.rng.normal(0, 0.002, 100))
        middle = fall + wobble
        spread = 0.015 + 0.05 * np.clip(np.log10(rates / 1e-2), 0, None)
        return {
            "families": {
                "adamw": {
                    "rates": rates.tolist(),
                    "median": middle.tolist(),
                    "low": (middle - spread).tolist(),
                    "high": (middle + spread).tolist(),
                    "interval": list(self.narrow),
                    "reason": "the loss falls from 2e-4 on and rises again above 2.5e-2",
                }
            }
        }

    def records(self, **changes: Any) -> Any:
        """All of it as `Records`; `changes` replaces parts."""
        from lanewise.report import Records

        target: Json = {"name": "survived", "task": self.task}
        if self.names:
            target["classes"] = {name: 4 * self.rows // len(self.names) for name in self.names}
        parts: Json = {
            "study": {
                "name": "titanic",
                "seed": 7,
                "data": {"source": "titanic.csv", "target": "survived"},
                "model": {"name": "mlp", "args": {}},
                "search": {"strategy": "tpe", "metric": self.metric},
                "train": {"epochs": self.epochs},
                "tracking": {"uri": "sqlite:///mlruns/mlflow.db"},
            },
            "dataset": {
                "source": "titanic.csv",
                "split": "stratified",
                "rows": {
                    "development": 4 * self.rows,
                    "train": 3 * self.rows,
                    "valid": self.rows,
                    "test": self.rows,
                },
                "target": target,
                "metric": self.metric,
                "metric_reason": "as the study says",
                "columns": {"age": "number", "fare": "number", "sex": "category", "cabin": "category"},
                "missing": {"age": 209, "cabin": 811},
                "dropped": {"boat_2": "one value in all rows"},
                "fingerprint": "sha256:" + "4f2a" * 16,
                "split_fingerprint": "sha256:" + "77aa" * 16,
                "warnings": [
                    {
                        "code": "constant",
                        "message": "one value in all rows; it is not used",
                        "column": "boat_2",
                    },
                    {"code": "duplicates", "message": "38 rows appear twice", "column": None},
                ],
            },
            "lr_curve": self.lr_curve(),
            "search": self.search(),
            "evaluation": self.evaluation(),
            "test": self.test(),
            "version": {
                "name": "titanic",
                "version": "3",
                "alias": "champion",
                "reason": "0.04 better than version 2",
                "uri": "models:/titanic/3",
                "run_id": "5f0c9e",
            },
            "timings": {"prepare": 0.8, "lr_range": 3.9, "search": 74.3, "evaluate": 21.0, "register": 2.2},
            "links": {"MLflow run": "http://localhost:5000/#/experiments/1/runs/5f0c9e"},
            "environment": {
                "lanewise": "0.1.0",
                "torch": "2.13.0",
                "python": "3.11.7",
                "platform": "Linux, 2 cores",
            },
        }
        return Records(**(parts | changes))


@pytest.fixture(scope="session")
def fake() -> Callable[..., Fake]:
    """The maker of records."""
    return Fake


@pytest.fixture
def unsaved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are drawn but not laid out and saved, which takes most of the time."""
    from lanewise.report import canvas
    from lanewise.report.facts import Facts

    def svg(name: str, drawing: canvas.Drawing, facts: Facts, alt: str) -> str | None:
        with canvas._style(canvas._MARKS):
            return None if drawing(facts, canvas._MARKS) is None else "<svg></svg>"

    monkeypatch.setattr(canvas, "svg", svg)
