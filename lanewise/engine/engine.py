"""Trains lanes of any mix of shapes: one pool per shape and batch size, one epoch of all per tick.

Used by search, range test, cross-validation and refit with different lanes. The loop belongs to the
caller: `tick` returns reports, the caller decides what to add and drop. Tensors in, tensors out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from lanewise.engine.averaging import averages
from lanewise.engine.lane import Goal, Lane, LaneResult, Report, SplitTensors
from lanewise.engine.memory import keep_freed_memory
from lanewise.engine.pool import LanePool
from lanewise.engine.state import LaneState


class Engine:
    """Pools of lanes on one device.

    Args:
        splits: The splits lanes name by index; moved to the device once.
        goal: Loss and scores of an epoch.
        lanes: Most lanes at once, over all pools.
        device: "cpu" or "cuda".
        precision: "float32" or "bf16".
        chunk: Lanes that step at once; None measures on the real work.
    """

    def __init__(
        self,
        splits: Sequence[SplitTensors],
        goal: Goal,
        *,
        lanes: int,
        device: str = "cpu",
        precision: str = "float32",
        chunk: int | None = None,
    ) -> None:
        keep_freed_memory()
        self._device = torch.device(device)
        self._splits = [_on(s, self._device) for s in splits]
        self._goal, self._precision, self._chunk = goal, precision, chunk
        self.lanes = lanes
        self._pools: dict[tuple[object, ...], LanePool] = {}
        self._home: dict[int | str, LanePool] = {}
        self._order: list[int | str] = []

    @property
    def active(self) -> int:
        """Lanes that will train at the next tick."""
        return sum(p.active for p in self._pools.values())

    @property
    def free(self) -> int:
        """Lanes that may still be added before the next tick."""
        return self.lanes - self.active

    @property
    def notes(self) -> list[str]:
        """What a user should know about how lanes run (for example why they do not stack)."""
        return [note for pool in self._pools.values() for note in pool.notes]

    def add(self, lane: Lane, state: LaneState | None = None) -> None:
        """Train `lane` from the next tick on, from a state if one is given."""
        rows = len(self._splits[lane.split].train_target)
        batch = min(lane.batch, rows)
        lane = replace(lane, batch=batch)
        place = (lane.shape, batch, -(-rows // batch), lane.slopes, averages(lane.config))
        if place not in self._pools:
            self._pools[place] = LanePool(
                lane, self._splits, self._goal, self._device, self._precision, self._chunk
            )
        self._pools[place].add(lane, state)
        self._home[lane.key] = self._pools[place]
        self._order.append(lane.key)

    def tick(self) -> list[Report]:
        """One epoch of every active lane; reports in the order the lanes were added."""
        reports = {r.key: r for pool in self._pools.values() if pool.active for r in pool.tick()}
        self._order = [k for k in self._order if k in reports]
        return [reports[k] for k in self._order]

    def state(self, key: int | str) -> LaneState:
        """Where an active lane stands; its tensors are views that the next tick changes."""
        return self._home[key].state(key)

    def holds(self, key: int | str) -> bool:
        """Whether this engine trained the lane."""
        return key in self._home

    def drop(self, key: int | str) -> None:
        """Stop a lane and forget it; unknown keys are ignored."""
        if key in self._home:
            self._home.pop(key).drop(key)
            self._order = [k for k in self._order if k != key]

    def take(self, key: int | str) -> LaneResult:
        """A finished lane's weights and validation outputs; call before the next tick."""
        return self._home[key].take(key)


def _on(split: SplitTensors, device: torch.device) -> SplitTensors:
    return replace(
        split,
        train=tuple(x.to(device) for x in split.train),
        train_target=split.train_target.to(device),
        valid=tuple(x.to(device) for x in split.valid),
        valid_target=split.valid_target.to(device),
    )
