"""The learning-rate range test: ramp, curve, usable interval.

Between prepare and search. The rate climbs exponentially within one short training; R repeats with
different seeds are lanes, for every optimiser in the space. The search then draws `lr` from the usable
interval, but for a share of control draws. It may not touch the seal and judges nothing but the ramp.

Rule, after Smith 2017 ("Cyclical learning rates for training neural networks", arXiv 1506.01186, section
3.3: note where the loss starts to fall and where it stops): smooth each repeat's loss, take the median
over repeats; the interval begins where the median has fallen for good by a twentieth of its whole fall
(and by more than its noise), and ends at its minimum, the last rate before the loss climbs again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lanewise.engine import Lane
from lanewise.engine.randomness import stream_seed
from lanewise.space import Space
from lanewise.trainer import Trainer

Array = npt.NDArray[np.float64]
_SMOOTH = 0.9  # weight of the past in the running mean of the loss
_START = 0.05  # share of the whole fall that counts as its start
_NOISE = 3.0  # standard errors the fall must exceed
_LEAST_RATIO = 3.0  # a narrower interval is widened to this, its end kept


@dataclass(frozen=True)
class Curve:
    """One optimiser's ramp: rates [S], median and quartiles of the smoothed loss [S], interval, reason.

    `interval` is None where the curve gives none, and `reason` says why.
    """

    rates: list[float]
    median: list[float | None]
    low: list[float | None]
    high: list[float | None]
    interval: tuple[float, float] | None
    reason: str


@dataclass(frozen=True)
class LRCurve:
    """The curves by optimiser, the interval the search uses (None: the declared range), warnings."""

    families: dict[str, Curve]
    interval: tuple[float, float] | None
    warnings: list[str]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LRCurve:
        """The inverse of dataclasses.asdict."""
        families = {
            name: Curve(**{**c, "interval": tuple(c["interval"]) if c["interval"] else None})
            for name, c in data["families"].items()
        }
        interval = tuple(data["interval"]) if data["interval"] else None
        return cls(families, interval, list(data["warnings"]))


def smooth(losses: Array) -> Array:
    """Bias-corrected exponential running mean along the last axis [R, S]; inf from the first non-finite loss on."""
    out = np.empty_like(losses)
    mean = np.zeros(losses.shape[:-1])
    for s in range(losses.shape[-1]):
        mean = _SMOOTH * mean + (1 - _SMOOTH) * losses[..., s]
        out[..., s] = mean / (1 - _SMOOTH ** (s + 1))
    return np.where(np.isfinite(out), out, np.inf)


def analyse(rates: Array, losses: Array) -> Curve:
    """The usable interval of one optimiser.

    Args:
        rates: Learning rates [S], rising.
        losses: Training losses [R, S] of the repeats; non-finite after a blow-up.
    """
    with np.errstate(all="ignore"):
        curves = smooth(losses.astype(np.float64))
        median, low, high = (np.quantile(curves, q, axis=0, method="nearest") for q in (0.5, 0.25, 0.75))
    middle, lower, upper = (
        [float(x) if math.isfinite(x) else None for x in row] for row in (median, low, high)
    )
    interval, reason = _interval(rates, median, losses)
    return Curve([float(r) for r in rates], middle, lower, upper, interval, reason)


def _interval(rates: Array, median: Array, losses: Array) -> tuple[tuple[float, float] | None, str]:
    head = max(3, len(rates) // 10)
    if not np.isfinite(median[:head]).all():
        return None, f"the loss diverges at once, at a rate of {rates[0]:.1e}"
    start = float(np.median(median[:head]))
    first = losses[:, :head]
    noise = float(np.std(first) / math.sqrt(first.size))
    bottom = int(np.argmin(median))
    fall = start - float(median[bottom])
    if fall <= max(_NOISE * noise, 0.01 * abs(start)):
        flat = np.isfinite(median).all() and float(median.max()) - start <= 10 * abs(start)
        return None, "the loss stays flat" if flat else "the loss climbs without a fall before it"
    enough = max(_START * fall, _NOISE * noise)
    above = np.flatnonzero(median[: bottom + 1] > start - enough)  # the last such: an early dip is noise
    begin = int(above[-1]) + 1 if len(above) else 0
    low, high = float(rates[begin]), float(rates[bottom])
    if high < low * _LEAST_RATIO:
        low = high / _LEAST_RATIO
    ended = "where it stops falling" if bottom < len(rates) - 1 else "at the end of the ramp"
    return (low, high), f"the loss falls from {low:.1e} and the interval ends {ended}, at {high:.1e}"


def ramp_lanes(trainer: Trainer, space: Space) -> dict[str, list[Lane]]:
    """R lanes for each optimiser the space may choose, the default configuration but for the rate."""
    study = trainer.study
    default = space.default()
    parameter = space.parameters.get("optimizer")
    families = [str(c) for c in parameter.choices] if parameter is not None and parameter.choices else []
    lanes: dict[str, list[Lane]] = {}
    for family in families or [str(default["optimizer"])]:
        config = space.default({"optimizer": family}) if families else default
        for repeat in range(study.lr_range.repeats):
            seed = stream_seed(study.seed, "lr_range", repeat)
            lane = trainer.lane(f"{family}/{repeat}", config, seed, patience=0, keep_best=False)
            ramp = {
                "schedule": "ramp",
                "lr": study.lr_range.low,
                "ramp_ratio": study.lr_range.high / study.lr_range.low,
                "warmup": 0.0,
            }
            epochs = -(-study.lr_range.steps // _steps_per_epoch(trainer, lane))
            lane = replace(lane, config={**lane.config, **ramp}, epochs=epochs)
            lanes.setdefault(family, []).append(lane)
    return lanes


def _steps_per_epoch(trainer: Trainer, lane: Lane) -> int:
    rows = len(trainer.splits[lane.split].train)
    return -(-rows // min(lane.batch, rows))


def run(trainer: Trainer, space: Space) -> LRCurve:
    """Train the ramps and read the curves.

    Args:
        trainer: On the search's own split.
        space: The study's space; its default configuration is ramped.
    """
    lanes = ramp_lanes(trainer, space)
    recorded: dict[int | str, list[float]] = {lane.key: [] for group in lanes.values() for lane in group}
    waiting = [lane for group in lanes.values() for lane in group][::-1]
    while waiting or trainer.active:
        while waiting and trainer.free > 0:
            trainer.add(waiting.pop())
        for report in trainer.tick():
            recorded[report.key].extend(report.step_losses)
    families, warnings = {}, []
    for family, group in lanes.items():
        total = group[0].epochs * _steps_per_epoch(trainer, group[0])
        losses = np.full((len(group), total), np.inf)  # a repeat that blew up stays at infinity
        for i, lane in enumerate(group):
            losses[i, : len(recorded[lane.key])] = recorded[lane.key]
        low, high = trainer.study.lr_range.low, trainer.study.lr_range.high
        rates = low * (high / low) ** (np.arange(total) / (total - 1))
        families[family] = analyse(rates, losses)
        if families[family].interval is None:
            warnings.append(f"{family}: {families[family].reason}; the declared range of lr is used")
    found = [c.interval for c in families.values()]
    interval = None
    if all(f is not None for f in found):
        interval = (min(f[0] for f in found if f), max(f[1] for f in found if f))
    return LRCurve(families, interval, warnings)
