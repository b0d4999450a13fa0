"""One epoch of some lanes, known before it starts: their state, batches and coefficients.

Used by pool, tick by tick. Trains nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from lanewise.engine.augmentation import Augmentation
from lanewise.engine.averaging import MEAN, averages, plan_shares, shares
from lanewise.engine.lane import Goal, Lane, SplitTensors
from lanewise.engine.losses import Terms, balanced_weights, l1_penalties
from lanewise.engine.mixing import Batch, Mixing, mixes
from lanewise.engine.optimizers import FAMILIES
from lanewise.engine.pixels import Rows, join
from lanewise.engine.randomness import epoch_order
from lanewise.engine.schedules import Plateau, factors
from lanewise.engine.stack import Weights
from lanewise.engine.state import OPTIMIZER, LaneState
from lanewise.training import CLASS_LOSSES

_EVAL_ROWS = 1024  # rows of one evaluation batch, bounds its memory
_EVAL_NUMBERS = 2**18  # of one evaluation batch of one lane that is no table: behind them are many more
_TOKEN_NUMBERS = 64  # what a token counts for: it becomes a vector
_EVAL_ALIGN = 64  # evaluation batches are padded to whole vectors


class Slot:
    """What a pool remembers of one lane beside its rows."""

    def __init__(self, lane: Lane, weights: Weights, goal: Goal) -> None:
        self.lane, self.rates = lane, weights.rates
        start = weights.flat
        # What it brings into the pool's tensors when it is arranged there.
        self.rows = {"flat": start, "best": start, **{name: torch.zeros_like(start) for name in OPTIMIZER}}
        tags = ["now.", "best."]
        if averages(lane.config):
            self.rows[MEAN] = start
            tags.append(f"{MEAN}.")
        self.buffers = {tag + n: b for n, b in weights.buffers.items() for tag in tags}
        self.epoch, self.best_epoch, self.done = 0, 0, False
        self.best_score: tuple[float, ...] = (-math.inf, -math.inf)
        self.failed: str | None = None
        config = lane.config
        self.plateau = (
            Plateau(float(config["plateau_factor"]), int(config["plateau_patience"]), goal.maximize)
            if config["schedule"] == "plateau" and lane.scored
            else None
        )

    def resume(self, state: LaneState) -> None:
        """Go on from a state in place of the first epoch."""
        self.epoch, self.best_epoch, self.best_score = state.epoch, state.best_epoch, state.best_score
        if self.plateau is not None and state.plateau is not None:
            self.plateau.state = state.plateau
        self.rows |= {"best": state.rows["flat"], **state.rows}
        now = {n.removeprefix("now."): b for n, b in state.buffers.items() if n.startswith("now.")}
        self.buffers |= {f"best.{n}": b for n, b in now.items()} | state.buffers


class Plan:
    """Everything about one epoch of some lanes that is known before it starts, as tensors per step."""

    def __init__(
        self,
        slots: list[Slot],
        splits: Sequence[SplitTensors],
        goal: Goal,
        batch: int,
        device: torch.device,
    ) -> None:
        own = [splits[s.lane.split] for s in slots]
        orders = [
            epoch_order(s.lane.seed, s.epoch, len(t.train_target), batch)
            for s, t in zip(slots, own, strict=True)
        ]
        self.steps = len(orders[0])
        used = sorted({s.lane.split for s in slots})
        offsets = dict(zip(used, np.cumsum([0] + [len(splits[u].train_target) for u in used]), strict=False))
        shifted = [o + offsets[s.lane.split] for s, o in zip(slots, orders, strict=True)]
        self._index = torch.from_numpy(np.stack(shifted, axis=1).astype(np.int64)).to(device)  # [S, K, B]
        joined = [splits[u] for u in used]
        self._inputs = [join([s.train[i] for s in joined]) for i in range(len(joined[0].train))]
        self._target = torch.cat([s.train_target for s in joined])
        table = [self._coefficients(s) for s in slots]
        self.coefficients = (
            torch.from_numpy(np.stack(table, axis=2)).to(torch.get_default_dtype()).unsqueeze(-1).to(device)
        )  # [S, 5, K, 1]
        configs = [s.lane.config for s in slots]
        limits = [float(c["clip"]) or math.inf for c in configs]
        self.clip = torch.tensor(limits, device=device).unsqueeze(1) if min(limits) < math.inf else None
        self.l1 = l1_penalties(configs, device)
        self.averages: list[torch.Tensor | None] = []
        if averages(configs[0]):
            moved = [shares(s.lane.config, s.epoch, self.steps, s.lane.epochs) for s in slots]
            self.averages = plan_shares(moved, device)
        targets = [t.train_target for t in own]
        self.terms = Terms.of(configs, device, _class_weights(configs, targets, goal, device))
        lanes, size = [(s.lane, s.epoch) for s in slots], (self.steps, batch)
        shape = self._inputs[0].shape[1:]
        self._augmentation = (
            Augmentation(lanes, [t.present for t in own], size, shape, device)
            if any(c["augmentation"] != "none" for c in configs)
            else None
        )
        self._mixing = Mixing(lanes, size, shape, device) if any(map(mixes, configs)) else None

    def factors(self, slot: Slot) -> np.ndarray:
        """The factors [S] of a lane's base learning rate in this epoch, but for a plateau's."""
        lane, first = slot.lane, slot.epoch * self.steps
        t = np.arange(first, first + self.steps)
        return factors(lane.config, t, lane.epochs * self.steps, self.steps)

    def _coefficients(self, slot: Slot) -> np.ndarray:
        config = slot.lane.config
        lr = float(config["lr"]) * self.factors(slot)
        if slot.plateau is not None:
            lr = lr * slot.plateau.scale
        return FAMILIES[config["optimizer"]].coefficients(config, lr, slot.epoch * self.steps)

    def batch_at(self, step: int) -> Batch:
        """One step's rows, augmented and mixed; steps are to be asked for in order, each once."""
        index = self._index[step]
        flat = index.reshape(-1)
        inputs = [x.index_select(0, flat).view(*index.shape, *x.shape[1:]) for x in self._inputs]
        target = self._target.index_select(0, flat).view(index.shape)
        if self._augmentation is not None:
            inputs[0] = self._augmentation.at(step, inputs[0])
        return Batch(inputs, target) if self._mixing is None else self._mixing.at(step, inputs, target)


def valid_batches(splits: Sequence[SplitTensors]) -> Iterator[list[torch.Tensor]]:
    """Each lane's validation inputs in batches, each [K, B, ...]; shorter splits are padded with their first row."""
    longest = max(len(s.valid_target) for s in splits)
    most = _evaluated_at_once(splits[0].valid)
    for start in range(0, longest, most):
        size = min(most, -(-(longest - start) // _EVAL_ALIGN) * _EVAL_ALIGN)
        yield [
            torch.stack([window(s.valid[i], start, size) for s in splits])
            for i in range(len(splits[0].valid))
        ]


def _evaluated_at_once(inputs: Sequence[Rows]) -> int:
    """Rows of an evaluation batch; depends on the shape of a row only, as bits must not depend on the lanes."""
    x = inputs[0]
    tokens = len(inputs) == 1 and not x.is_floating_point()
    if x.dim() == 2 and not tokens:
        return _EVAL_ROWS
    numbers = math.prod(x.shape[1:]) * (_TOKEN_NUMBERS if tokens else 1)
    return min(_EVAL_ROWS, max(1, _EVAL_NUMBERS // numbers // _EVAL_ALIGN) * _EVAL_ALIGN)


def window(x: Rows, start: int, size: int) -> torch.Tensor:
    """Rows start .. start + size of x; rows past its end repeat its first."""
    part = x[start : start + size]
    if len(part) == size:
        return part
    return torch.cat([part, x[:1].expand(size - len(part), *x.shape[1:])])


def _class_weights(
    configs: Sequence[Mapping[str, Any]], targets: Sequence[torch.Tensor], goal: Goal, device: torch.device
) -> torch.Tensor | None:
    """Weights of classes [K, C] from each lane's training targets; None where no lane weighs."""
    if goal.loss not in CLASS_LOSSES or all(c["class_weight"] == "none" for c in configs):
        return None
    weights = [
        balanced_weights(target, goal.classes)
        if c["class_weight"] == "balanced"
        else torch.ones(goal.classes)
        for c, target in zip(configs, targets, strict=True)
    ]
    return torch.stack(weights).to(device)
