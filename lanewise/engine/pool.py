"""The lanes that share one network shape and batch size, trained together one epoch at a time.

Built by `Engine` (engine.py), which hands it lanes and reads reports. A pool steps its lanes in chunks
of a size it measures: past the processor's cache more lanes at once cost time. A lane's bits do not
depend on the chunk, its place in it, or its neighbours. Knows nothing of trials, Optuna or MLflow.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from lanewise.engine.averaging import MEAN, averages, move
from lanewise.engine.clock import ChunkClock
from lanewise.engine.draws import evaluation, masks_of
from lanewise.engine.hypergradient import Hypergradient
from lanewise.engine.lane import Goal, Lane, LaneResult, Report, SplitTensors
from lanewise.engine.losses import lane_losses, with_l1
from lanewise.engine.mixing import batch_losses
from lanewise.engine.optimizers import FAMILIES, clip_rows, optimizer_groups
from lanewise.engine.own_losses import OwnLosses
from lanewise.engine.plan import Plan, Slot, valid_batches, window
from lanewise.engine.stack import Stack, build_stack
from lanewise.engine.state import OPTIMIZER, LaneState
from lanewise.engine.transfer import factors_of, slow_down, trained_part
from lanewise.fault_points import fault


class LanePool:
    """Lanes of one shape and batch size.

    Args:
        first: A lane of the shape; it is not added.
        splits: The splits its lanes name by index.
        goal: Loss and scores.
        device: Where tensors live.
        precision: "float32" or "bf16" (autocast; parameters and optimiser stay float32).
        chunk: Lanes that step at once; None measures.
    """

    def __init__(
        self,
        first: Lane,
        splits: Sequence[SplitTensors],
        goal: Goal,
        device: torch.device,
        precision: str = "float32",
        chunk: int | None = None,
    ) -> None:
        self._goal, self._device, self._precision = goal, device, precision
        self._splits = splits
        self.batch = first.batch
        self.clock = ChunkClock(chunk)
        self.notes: list[str] = []
        sample = tuple(x[: min(self.batch, len(x))].cpu() for x in splits[first.split].train)
        self._stack = self._make_stack(first, sample)
        self._trained = ("flat", MEAN) if averages(first.config) else ("flat",)  # rows that a step changes
        # The weights that are validated and kept: rows "flat" and buffers "now.NAME", or their averages.
        self._shown, self._tag = (MEAN, f"{MEAN}.") if averages(first.config) else ("flat", "now.")
        self._own_loss = self._make_loss(sample[0].shape[0], splits[first.split].train_target)
        self._tangents = Hypergradient(first.slopes, self._stack, goal)
        self._slots: list[Slot] = []
        self._incoming: list[Slot] = []
        self._rows: dict[str, torch.Tensor] = {}
        self._buffers: dict[str, torch.Tensor] = {}

    def _make_stack(self, first: Lane, sample: tuple[torch.Tensor, ...]) -> Stack:
        """The stacked form, or one after another where vmap refuses this network (said in `notes`)."""
        stack, refused = build_stack(first.module, sample)
        if refused:
            self.notes.append(f"{type(first.module).__name__}: lanes run one after another, {refused}")
        return stack

    def _make_loss(self, rows: int, target: torch.Tensor) -> OwnLosses | None:
        """The user's loss over lanes, where the goal has one; why it does not run stacked is said in `notes`."""
        if self._goal.own is None:
            return None
        outputs = torch.randn(rows, *self._stack.outputs, generator=torch.Generator().manual_seed(0))
        losses = OwnLosses(self._goal.own, outputs.to(self._device), target[:rows])
        self.notes += [losses.note] if losses.note else []
        return losses

    @property
    def active(self) -> int:
        """Lanes that will train at the next tick."""
        return sum(not s.done for s in self._slots) + len(self._incoming)

    def add(self, lane: Lane, state: LaneState | None = None) -> None:
        """Train `lane` from the next tick on, from a state if one is given."""
        weights = self._stack.read(lane.module)
        slot = Slot(lane, weights, self._goal)
        slot.rows |= self._tangents.start(weights.flat, weights.buffers)
        if state is not None:
            slot.resume(state)
        self._incoming.append(slot)

    def state(self, key: int | str) -> LaneState:
        """Where an active lane stands; its tensors are views that the next tick changes."""
        for slot in self._incoming:
            if slot.lane.key == key:
                return self._state(slot, slot.rows, slot.buffers)
        row = next(i for i, s in enumerate(self._slots) if s.lane.key == key)
        rows, buffers = (
            {name: tensor[row] for name, tensor in tensors.items()} for tensors in (self._rows, self._buffers)
        )
        return self._state(self._slots[row], rows, buffers)

    def drop(self, key: int | str) -> None:
        """Forget a lane; unknown keys are ignored."""
        for slot in self._slots:
            if slot.lane.key == key:
                slot.done = True
        self._incoming = [s for s in self._incoming if s.lane.key != key]

    def tick(self) -> list[Report]:
        """One epoch of every active lane, in the order the lanes came."""
        self._arrange()
        reports: dict[int | str, Report] = {}
        at = 0
        while at < len(self._slots):
            size = self.clock.next(len(self._slots) - at)
            start = time.perf_counter()
            for report in self._epoch(slice(at, at + size)):
                reports[report.key] = report
            self.clock.record(size, time.perf_counter() - start)
            at += size
            fault("mid_epoch")
        return [reports[s.lane.key] for s in self._slots]

    def take(self, key: int | str) -> LaneResult:
        """A finished lane's kept weights and validation outputs; call before the next tick."""
        row = next(i for i, s in enumerate(self._slots) if s.lane.key == key)
        slot = self._slots[row]
        name, tag = ("best", "best.") if slot.lane.keep_best else (self._shown, self._tag)
        flat = self._rows[name][row : row + 1]
        buffers = self._views(tag, slice(row, row + 1))
        outputs = self._outputs([slot], flat, buffers)[0]
        weights = self._stack.restore(slot.lane.module, flat[0], {n: b[0] for n, b in buffers.items()})
        best = slot.best_epoch if slot.lane.keep_best else slot.epoch
        return LaneResult(key, weights, best, slot.epoch, outputs[: self._valid_rows(slot)].cpu())

    def _arrange(self) -> None:
        """Let ended lanes go, take new ones in, and keep each optimiser's lanes side by side."""
        keep = [i for i, s in enumerate(self._slots) if not s.done]
        if len(keep) == len(self._slots) and not self._incoming:
            return
        slots = [self._slots[i] for i in keep] + self._incoming
        order = sorted(range(len(slots)), key=lambda i: (slots[i].lane.config["optimizer"], i))
        for kept, new in ((self._rows, [s.rows for s in self._incoming]),
                          (self._buffers, [s.buffers for s in self._incoming])):  # fmt: skip
            for name in new[0] if new else list(kept):
                kept[name] = self._merge(kept.get(name), keep, [tensors[name] for tensors in new], order)
        for slot in self._incoming:
            slot.rows, slot.buffers = {}, {}  # they live in the pool's tensors now
        self._slots, self._incoming = [slots[i] for i in order], []

    def _merge(
        self, old: torch.Tensor | None, keep: list[int], new: list[torch.Tensor], order: list[int]
    ) -> torch.Tensor:
        parts = [] if old is None or not keep else [old[torch.tensor(keep, device=self._device)]]
        if new:
            parts.append(torch.stack(new).to(self._device))
        return torch.cat(parts)[torch.tensor(order, device=self._device)].contiguous()

    def _epoch(self, rows: slice) -> list[Report]:
        slots = self._slots[rows]
        losses = self._train(slots, rows)
        outputs = self._outputs(slots, self._rows[self._shown][rows], self._views(self._tag, rows))
        scores = self._scores(slots, outputs) | self._slopes(slots, rows)
        finite = torch.isfinite(outputs).flatten(1).all(dim=1).tolist()
        reports = [
            self._report(slot, rows.start + i, losses[:, i], {n: v[i] for n, v in scores.items()}, finite[i])
            for i, slot in enumerate(slots)
        ]
        return [
            replace(report, outputs=out[: self._valid_rows(slot)].cpu()) if slot.lane.watched else report
            for report, slot, out in zip(reports, slots, outputs, strict=True)
        ]

    def _lone(self, slots: list[Slot]) -> bool:
        """Whether a lane would step alone: it is given a twin, whose results are thrown away.

        A product of one matrix takes other ways through BLAS than a batch of two or more (a vector's where
        there is one output, several threads' where there are several), and its last bits differ. From two
        on they do not depend on the number.
        """
        return len(slots) == 1 and self._stack.stacked

    def _state(
        self, slot: Slot, rows: Mapping[str, torch.Tensor], buffers: Mapping[str, torch.Tensor]
    ) -> LaneState:
        best = ("best",) if slot.lane.keep_best else ()
        kept = (*best, *OPTIMIZER, *self._trained, *self._tangents.rows)
        tags = tuple(f"{name}." for name in ("now", *best, *self._trained[1:]))
        return LaneState(
            slot.epoch,
            slot.best_epoch,
            slot.best_score,
            None if slot.plateau is None else slot.plateau.state,
            {name: rows[name] for name in kept},
            {name: tensor for name, tensor in buffers.items() if name.startswith(tags)},
        )

    def _views(self, tag: str, rows: slice) -> dict[str, torch.Tensor]:
        return {n[len(tag) :]: b[rows] for n, b in self._buffers.items() if n.startswith(tag)}

    def _train(self, slots: list[Slot], rows: slice) -> np.ndarray:
        """One epoch of optimiser steps of some lanes; their losses [steps, lanes]."""
        own = {n: self._rows[n][rows] for n in (*self._trained, *OPTIMIZER, *self._tangents.rows)}
        own |= {n: b[rows] for n, b in self._buffers.items() if n.startswith(("now.", self._tag))}
        if not self._lone(slots):
            return self._steps(slots, own)
        twins = {n: torch.cat([t, t]) for n, t in own.items()}
        losses = self._steps(slots * 2, twins)
        for name, tensor in own.items():
            tensor.copy_(twins[name][:1])
        return losses[:, :1]

    def _steps(self, slots: list[Slot], tensors: Mapping[str, torch.Tensor]) -> np.ndarray:
        """The steps themselves, in place: weights and their average, the optimiser's state, tangents, buffers."""
        p, state = tensors["flat"], {n: tensors[n] for n in OPTIMIZER}
        buffers = {n.removeprefix("now."): t for n, t in tensors.items() if n.startswith("now.")}
        plan = Plan(slots, self._splits, self._goal, self.batch, self._device)
        drawn = masks_of(slots, self._stack, plan.steps, self._device)
        groups = optimizer_groups([s.lane.config["optimizer"] for s in slots])
        hyper = self._tangents.epoch(slots, plan, tensors)
        scale = factors_of([(s.lane, s.epoch) for s in slots], self._stack, self._device)
        losses = self._own_loss or partial(lane_losses, self._goal.loss, terms=plan.terms)
        found = []
        for step in range(plan.steps):
            batch = plan.batch_at(step)
            noise = drawn.at(step)
            if hyper is not None:
                hyper.move(step, {"flat": p, **state}, buffers, noise, batch)
            flat = p.detach().requires_grad_()
            with self._autocast():
                out, fresh = self._stack.forward(flat, buffers, noise, batch.inputs, training=True)
            loss = batch_losses(losses, out.float(), batch)
            (g,) = torch.autograd.grad(loss.sum(), flat)
            if plan.l1 is not None:
                g = with_l1(g, p, plan.l1)
            if plan.clip is not None:
                clip_rows(g, plan.clip, None if scale is None else trained_part(g, scale))
            before = None if scale is None else p.clone()
            for family, part in groups:
                own = {n: s[part] for n, s in state.items()}
                FAMILIES[family].update(p[part], g[part], own, plan.coefficients[step][:, part])
            if scale is not None and before is not None:
                slow_down(p, before, scale)
            for name, value in fresh.items():
                buffers[name].copy_(value.detach())
            if plan.averages and (share := plan.averages[step]) is not None:
                move(tensors, self._stack.running, self._stack.counted, share)
            found.append(loss.detach())
        return torch.stack(found).cpu().numpy()

    def _autocast(self) -> AbstractContextManager[object]:
        if self._precision == "bf16":
            return torch.autocast(self._device.type, dtype=torch.bfloat16)
        return nullcontext()

    def _valid_rows(self, slot: Slot) -> int:
        return len(self._splits[slot.lane.split].valid_target)

    @torch.no_grad()
    def _outputs(
        self, slots: list[Slot], flat: torch.Tensor, buffers: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """Outputs [K, N, ...] on each lane's validation rows; shorter splits are padded with their first row."""
        if self._lone(slots):
            twins = {n: torch.cat([b, b]) for n, b in buffers.items()}
            return self._outputs(slots * 2, torch.cat([flat, flat]), twins)[:1]
        splits = [self._splits[s.lane.split] for s in slots]
        longest = max(len(s.valid_target) for s in splits)
        parts = []
        for number, inputs in enumerate(valid_batches(splits)):
            noise = evaluation(slots, self._stack, number)
            with self._autocast():
                out, _ = self._stack.forward(flat, buffers, noise, inputs, training=False)
            parts.append(out.float())
        return torch.cat(parts, dim=1)[:, :longest]

    def _scores(self, slots: list[Slot], outputs: torch.Tensor) -> dict[str, list[float]]:
        splits = [self._splits[s.lane.split] for s in slots]
        target = torch.stack([window(s.valid_target, 0, outputs.shape[1]) for s in splits])
        n = torch.tensor([len(s.valid_target) for s in splits], device=self._device)
        scale = torch.tensor([s.scale for s in splits], device=self._device)
        found = {name: values.tolist() for name, values in self._goal.score(outputs, target, n, scale).items()}
        if self._goal.further is not None:
            each = [self._further(slot, out) for slot, out in zip(slots, outputs, strict=True)]
            found |= {name: [one[name] for one in each] for name in each[0]}
        return found

    def _further(self, slot: Slot, outputs: torch.Tensor) -> Mapping[str, float]:
        """Scores of one lane by itself; nan where its rows mean nothing or its outputs [N, C] are not finite."""
        own = outputs[: self._valid_rows(slot)].cpu()
        if self._goal.further is None or not slot.lane.scored or not bool(torch.isfinite(own).all()):
            return {self._goal.objective: math.nan}
        return self._goal.further(slot.lane.split, own)

    def _slopes(self, slots: list[Slot], rows: slice) -> dict[str, list[float]]:
        """Derivatives of the validation loss by hyperparameters, where lanes are asked for them."""
        if not self._tangents.names:
            return {}
        own = {n: self._rows[n][rows] for n in ("flat", *self._tangents.rows)}
        own |= {n: b[rows] for n, b in self._buffers.items() if n.startswith("now.")}
        if self._lone(slots):
            slots, own = slots * 2, {n: torch.cat([t, t]) for n, t in own.items()}
        splits, configs = zip(*((self._splits[s.lane.split], s.lane.config) for s in slots), strict=True)
        found = self._tangents.slopes(splits, configs, own)
        return {name: values.tolist() for name, values in found.items()}

    def _report(
        self, slot: Slot, row: int, losses: np.ndarray, scores: dict[str, float], finite: bool
    ) -> Report:
        lane = slot.lane
        slot.epoch += 1
        loss = float(losses.astype(np.float64).mean())
        if not math.isfinite(loss):
            step = int(np.flatnonzero(~np.isfinite(losses))[0]) + 1
            slot.failed = f"nonfinite loss at epoch {slot.epoch}, step {step}"
        elif not finite:
            slot.failed = f"nonfinite validation outputs at epoch {slot.epoch}"
        value = scores[self._goal.objective]
        ranked = _ranked(value if self._goal.maximize else -value, -scores.get(self._goal.tie or "", 0.0))
        if slot.failed is None and (ranked > slot.best_score or slot.best_epoch == 0):
            slot.best_score = ranked
            slot.best_epoch = slot.epoch
            if lane.keep_best:
                self._rows["best"][row].copy_(self._rows[self._shown][row])
                for name, buffer in self._views(self._tag, slice(row, row + 1)).items():
                    self._buffers["best." + name][row].copy_(buffer[0])
        if slot.plateau is not None:
            slot.plateau.update(value)
        waited = lane.patience and slot.epoch - slot.best_epoch >= lane.patience
        slot.done = bool(slot.failed or waited or slot.epoch >= (lane.stop or lane.epochs))
        recorded = tuple(losses.tolist()) if lane.config["schedule"] == "ramp" else ()
        return Report(
            lane.key, slot.epoch, loss, scores, slot.done, slot.failed, slot.best_epoch or None, recorded
        )


def _ranked(*values: float) -> tuple[float, ...]:
    """For comparing epochs: an undefined score is worse than any."""
    return tuple(v if math.isfinite(v) else -math.inf for v in values)
