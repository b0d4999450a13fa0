"""How a lane's validation loss answers to its hyperparameters: forward-mode hypergradients; used by pool.

Beside a lane's state s (weights, optimiser state, running statistics) stands, for each hyperparameter h that
is asked for, the tangent ds/dh. A training step s' = f(s, h) moves it by ds'/dh = (df/ds)(ds/dh) + df/dh, one
Jacobian-vector product with torch.func through gradient and update; at the end of an epoch dL/dh =
(dL/ds)(ds/dh) for the loss L on the validation rows. Nothing is unrolled backwards or stored: memory is one
more state for each hyperparameter, whatever the length of the training. The lane trains as ever and does not
know of it.

Source: Franceschi et al. 2017, "Forward and Reverse Gradient-Based Hyperparameter Optimization", ICML
(arXiv 1703.01785), section 3.2 and algorithm 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.func import grad, jvp, vmap
from torch.utils._pytree import tree_map

from lanewise.engine.lane import Goal, SplitTensors
from lanewise.engine.losses import Terms, lane_losses, with_l1
from lanewise.engine.mixing import Batch, batch_losses
from lanewise.engine.optimizers import optimizer_groups, squared_norms
from lanewise.engine.plan import Plan, Slot, valid_batches, window
from lanewise.engine.smooth_updates import UPDATES, root
from lanewise.engine.stack import QUIET, Noise, Stack
from lanewise.engine.state import OPTIMIZER
from lanewise.lane_metrics import softmax, tree_sum
from lanewise.training import CLASS_LOSSES

# What a step of training can be differentiated by; the others are whole numbers, choices, or change the shape.
CONTINUOUS = ("lr", "weight_decay", "momentum", "label_smoothing")
PREFIX = "hyper/"
LOSS = PREFIX + "loss"  # the loss whose derivatives stand beside it

_FIXED = ("nesterov", "beta1", "beta2", "alpha", "eps")  # have a part in the update, but no tangent
_BUFFER = "buffer."  # a running statistic among the parts of a state

State = dict[str, torch.Tensor]


class Hypergradient:
    """The tangents of one pool's lanes.

    A state's parts are "flat", "first", "second" [K, P] and "buffer.NAME" [K, ...]; its tangents have the
    hyperparameters in front: [H, K, ...]. A pool keeps them as rows "HYPERPARAMETER:PART".

    Args:
        names: Hyperparameters of `CONTINUOUS`, the same for all lanes of the pool.
        stack: The pool's network.
        goal: Whose loss is differentiated, without label smoothing and class weights; of focal, cross-entropy.
    """

    def __init__(self, names: Sequence[str], stack: Stack, goal: Goal) -> None:
        self.names, self._stack, self._goal = tuple(names), stack, goal
        self.running = tuple(stack.running)
        self._parts = ("flat", *OPTIMIZER, *(_BUFFER + name for name in self.running))
        self.rows = tuple(f"{name}:{part}" for name in names for part in self._parts)

    def start(self, flat: torch.Tensor, buffers: Mapping[str, torch.Tensor]) -> State:
        """The rows of a lane before its first step, all zero: its start does not depend on h."""
        like = {part: buffers.get(part.removeprefix(_BUFFER), flat) for part in self._parts}
        return {f"{name}:{part}": torch.zeros_like(like[part]) for name in self.names for part in like}

    def epoch(self, slots: Sequence[Slot], plan: Plan, rows: Mapping[str, torch.Tensor]) -> Epoch | None:
        """The tangents of some lanes for the steps of an epoch; None where no hyperparameter has any.

        Args:
            slots: The lanes.
            plan: Their epoch.
            rows: The pool's rows of these lanes, written at every step.
        """
        return Epoch(self, self._stack, self._goal, slots, plan, rows) if self.names else None

    def gather(self, rows: Mapping[str, torch.Tensor]) -> State:
        """The lanes' tangents with the hyperparameters in front: part -> [H, K, ...]."""
        return {part: torch.stack([rows[f"{name}:{part}"] for name in self.names]) for part in self._parts}

    def slopes(
        self,
        splits: Sequence[SplitTensors],
        configs: Sequence[Mapping[str, Any]],
        rows: Mapping[str, torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """The validation loss and its derivatives at the end of an epoch.

        Args:
            splits: Of each lane; lanes of one split need not stand side by side.
            configs: Of each lane.
            rows: The pool's rows of these lanes: "flat", tangents, and the buffers as "now.NAME".

        Returns:
            "hyper/loss" and "hyper/NAME" -> [K].
        """
        flat, tangents = rows["flat"], self.gather(rows)
        buffers = {n.removeprefix("now."): t for n, t in rows.items() if n.startswith("now.")}
        moving = {name: buffers[name] for name in self.running}
        along = tangents["flat"], {name: tangents[_BUFFER + name] for name in moving}
        parts = []
        for inputs in valid_batches(splits):

            def outputs(
                flat: torch.Tensor, moving: State, inputs: list[torch.Tensor] = inputs
            ) -> torch.Tensor:
                return self._stack.forward(flat, buffers | moving, QUIET, inputs, training=False)[0]

            out, moved = _with_derivatives(outputs, (flat, moving), along)
            parts.append((out[0], moved))
        out, moved = (torch.cat(side, dim=-2).double() for side in zip(*parts, strict=True))
        loss, slope = self._loss(splits, configs, out, moved)
        return {LOSS: loss} | {PREFIX + n: own for n, own in zip(self.names, slope, strict=True)}

    def _loss(
        self,
        splits: Sequence[SplitTensors],
        configs: Sequence[Mapping[str, Any]],
        out: torch.Tensor,
        moved: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean loss [K] and its derivatives [H, K], in sums that do not depend on K.

        Args:
            splits, configs: Of each lane.
            out: Outputs on the validation rows, float64 [K, N, C]; rows beyond a lane's own are padding.
            moved: Their derivatives, [H, K, N, C].
        """
        rows = out.shape[1]
        target = torch.stack([window(s.valid_target, 0, rows) for s in splits])
        n = torch.tensor([len(s.valid_target) for s in splits], device=out.device)
        own = torch.arange(rows, device=out.device) < n[:, None]
        if self._goal.loss in CLASS_LOSSES:
            share, total = softmax(out)
            wanted = target.unsqueeze(-1)
            loss = out.amax(-1) + total.log() - out.gather(-1, wanted).squeeze(-1)
            by_output = share - torch.zeros_like(share).scatter_(-1, wanted, 1.0)
        else:
            error = out - target.double().unsqueeze(-1)
            terms = Terms.of(configs, out.device, None)
            losses, by_output = _value_loss(self._goal.loss, error, terms)
            loss = losses.squeeze(-1)
        slope = tree_sum(by_output * moved)
        return tree_sum(torch.where(own, loss, 0.0)) / n, tree_sum(torch.where(own, slope, 0.0)) / n


def _value_loss(kind: str, error: torch.Tensor, terms: Terms) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of each error [K, N, 1], and its derivative."""
    if kind == "mse":
        return error.square(), 2 * error
    if kind == "mae":
        return error.abs(), error.sign()
    if kind == "quantile":
        level = terms.level[:, None, None].double()
        slope = torch.where(error < 0, -level, 1 - level)
        return slope * error, slope
    delta = terms.delta[:, None, None].double()  # huber
    loss = torch.where(error.abs() < delta, error.square() / 2, delta * (error.abs() - delta / 2))
    return loss, error.clamp(-delta, delta)


class Epoch:
    """Some lanes' hyperparameters as columns [K, 1] and their tangents, through the steps of one epoch."""

    def __init__(
        self,
        owner: Hypergradient,
        stack: Stack,
        goal: Goal,
        slots: Sequence[Slot],
        plan: Plan,
        rows: Mapping[str, torch.Tensor],
    ) -> None:
        self._names, self._stack, self._goal, self._plan, self._rows = owner.names, stack, goal, plan, rows
        self._running = owner.running
        self._tangents = owner.gather(rows)
        like = rows["flat"]
        configs = [slot.lane.config for slot in slots]

        def column(values: Sequence[float]) -> torch.Tensor:
            return torch.tensor(values, dtype=like.dtype, device=like.device).unsqueeze(-1)

        self._hyper = {name: column([float(c[name]) for c in configs]) for name in CONTINUOUS}
        self._fixed = {name: column([float(c[name]) for c in configs]) for name in _FIXED}
        self._unit = {name: like.new_zeros(len(owner.names), len(slots), 1) for name in CONTINUOUS}  # dh/dh
        for place, name in enumerate(owner.names):
            self._unit[name][place] = 1.0
        self._factors = column(np.stack([_factors(s, plan) for s in slots], axis=1).tolist())  # [S, K, 1]
        self._done = column([float(slot.epoch * plan.steps) for slot in slots])
        self._groups = optimizer_groups([c["optimizer"] for c in configs])

    def move(
        self,
        step: int,
        state: State,
        buffers: Mapping[str, torch.Tensor],
        noise: Noise,
        batch: Batch,
    ) -> None:
        """Move the tangents over a step of training; to be called before the lanes take it.

        Args:
            step: Of the epoch, from 0.
            state: "flat", "first", "second" [K, P] before the step.
            buffers: The network's buffers before the step, each [K, ...].
            noise: What the lanes draw in the step.
            batch: Rows of the step.
        """

        def taken(state: State, hyper: State) -> State:
            own = {**buffers, **{name: state[_BUFFER + name] for name in self._running}}

            def loss(flat: torch.Tensor) -> tuple[torch.Tensor, State]:
                out, fresh = self._stack.forward(flat, own, noise, batch.inputs, training=True)
                terms = replace(self._plan.terms, smoothing=hyper["label_smoothing"].squeeze(1))
                losses = partial(lane_losses, self._goal.loss, terms=terms)
                return batch_losses(losses, out, batch).sum(), fresh

            g, fresh = grad(loss, has_aux=True)(state["flat"])
            return self._update(step, state, g, hyper) | {_BUFFER + n: fresh.get(n, own[n]) for n in self._running}

        before = {**state, **{_BUFFER + name: buffers[name] for name in self._running}}
        _, self._tangents = _with_derivatives(taken, (before, self._hyper), (self._tangents, self._unit))
        for part, values in self._tangents.items():
            for name, value in zip(self._names, values, strict=True):
                self._rows[f"{name}:{part}"].copy_(value)

    def _update(self, step: int, state: State, g: torch.Tensor, hyper: State) -> State:
        """ "flat", "first" and "second" after the step with gradient g [K, P]."""
        if self._plan.l1 is not None:
            g = with_l1(g, state["flat"], self._plan.l1)
        if self._plan.clip is not None:
            g = g * (self._plan.clip / (root(squared_norms(g)) + 1e-6)).clamp(max=1.0)
        rate, t = hyper["lr"] * self._factors[step], self._done + step + 1
        columns = {**self._fixed, **hyper, "rate": rate, "t": t}
        parts = []
        for family, part in self._groups:
            old = (state["flat"][part], g[part], state["first"][part], state["second"][part])
            parts.append(UPDATES[family](*old, {name: column[part] for name, column in columns.items()}))
        return dict(zip(("flat", *OPTIMIZER), map(torch.cat, zip(*parts, strict=True)), strict=True))


def _factors(slot: Slot, plan: Plan) -> np.ndarray:
    """Of the base learning rate [S]; when a plateau schedule cut it is taken as given."""
    return plan.factors(slot) * (slot.plateau.scale if slot.plateau is not None else 1.0)


def _with_derivatives(function: Callable[..., Any], at: tuple[Any, ...], along: tuple[Any, ...]) -> Any:
    """A function's values (repeated H times) and its derivatives in H directions, the values computed once.

    Args:
        at: Its arguments.
        along: The directions, of the same structure, each tensor with H in front.
    """
    # Copies, not slices of the pool's rows: with a slice that does not begin where its memory does the last bits
    # of the derivatives are others (torch 2.13 on a CPU), so a lane's would depend on its place.
    at = tree_map(torch.clone, at)
    # What a network draws by itself is the same in every direction.
    return vmap(lambda *directions: jvp(function, at, directions), randomness="same")(*along)
