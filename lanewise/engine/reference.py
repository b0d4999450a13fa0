"""The slow twin: one trial, one torch.optim optimiser, one plain module, step by step.

It answers "what should this lane have done" for the tests of the fast path, shares with it only the
order of rows, the dropout draws and the schedule factors, and is never used to train.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lanewise.engine.lane import Goal, Lane, SplitTensors
from lanewise.engine.losses import balanced_weights
from lanewise.engine.randomness import MaskStream, epoch_order, keep_threshold
from lanewise.engine.schedules import Plateau, factors


class _DrawnDropout(nn.Module):
    """nn.Dropout, or that of whole channels, whose decisions come from the lane's stream, in the order of the calls."""

    def __init__(self, rate: float, channelwise: bool, streams: list[MaskStream]) -> None:
        super().__init__()
        self._rate, self._channelwise, self._streams = rate, channelwise, streams

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or not self._streams:
            return x
        shape = x.shape[:2] + (1,) * (x.dim() - 2) if self._channelwise else x.shape
        drawn = math.prod(shape)
        bits = self._streams[0].draw(1, -(-drawn // 4) * 4)[0, :drawn].view(shape)
        return x * (bits >= keep_threshold(self._rate)) / (1 - self._rate)


def _optimizer(module: nn.Module, config: Mapping[str, Any]) -> torch.optim.Optimizer:
    params = [p for p in module.parameters() if p.requires_grad]
    lr, decay = float(config["lr"]), float(config["weight_decay"])
    if config["optimizer"] == "sgd":
        return torch.optim.SGD(
            params, lr, momentum=config["momentum"], weight_decay=decay, nesterov=config["nesterov"]
        )
    if config["optimizer"] == "rmsprop":
        return torch.optim.RMSprop(
            params, lr, config["alpha"], config["eps"], decay, momentum=config["momentum"]
        )
    kind = torch.optim.AdamW if config["optimizer"] == "adamw" else torch.optim.Adam
    return kind(params, lr, (config["beta1"], config["beta2"]), config["eps"], decay)


def _loss(goal: Goal, lane: Lane, split: SplitTensors, out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    if goal.loss == "cross_entropy":
        balanced = lane.config["class_weight"] == "balanced"
        weight = balanced_weights(split.train_target, goal.classes) if balanced else None
        return F.cross_entropy(out, y, weight, label_smoothing=float(lane.config["label_smoothing"]))
    if goal.loss == "mse":
        return F.mse_loss(out.squeeze(-1), y)
    return F.huber_loss(out.squeeze(-1), y) if goal.loss == "huber" else F.l1_loss(out.squeeze(-1), y)


def train(lane: Lane, split: SplitTensors, goal: Goal) -> tuple[list[dict[str, float]], nn.Module]:
    """Train one lane the slow way, without early stopping.

    Returns:
        One dictionary per epoch (train loss and scores) and the module after the last epoch.
    """
    streams: list[MaskStream] = []
    module = copy.deepcopy(lane.module)
    for owner in list(module.modules()):
        for name, child in list(owner.named_children()):
            if isinstance(child, (nn.Dropout, nn.Dropout1d, nn.Dropout2d)):
                channelwise = not isinstance(child, nn.Dropout)
                setattr(owner, name, _DrawnDropout(child.p, channelwise, streams))
    optimizer = _optimizer(module, lane.config)
    rows = len(split.train_target)
    batch = min(lane.batch, rows)
    steps = -(-rows // batch)
    clip = float(lane.config["clip"])
    plateau = (
        Plateau(lane.config["plateau_factor"], lane.config["plateau_patience"], goal.maximize)
        if lane.config["schedule"] == "plateau"
        else None
    )
    curve = []
    for epoch in range(lane.stop or lane.epochs):
        streams[:] = [MaskStream(lane.seed, epoch)]
        order = epoch_order(lane.seed, epoch, rows, batch)
        t = np.arange(epoch * steps, (epoch + 1) * steps)
        rates = lane.config["lr"] * factors(lane.config, t, lane.epochs * steps, steps)
        module.train()
        losses = []
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = float(rates[step]) * (plateau.scale if plateau else 1.0)
            index = torch.from_numpy(order[step])
            optimizer.zero_grad()
            out = module(*(x[index] for x in split.train))
            loss = _loss(goal, lane, split, out, split.train_target[index])
            torch.autograd.backward(loss)
            if clip:
                nn.utils.clip_grad_norm_([p for p in module.parameters() if p.requires_grad], clip)
            optimizer.step()
            losses.append(loss.item())
        module.eval()
        with torch.no_grad():
            out = module(*split.valid).unsqueeze(0)
        n, scale = torch.tensor([len(split.valid_target)]), torch.tensor([split.scale])
        found = goal.score(out, split.valid_target.unsqueeze(0), n, scale)
        scores = {name: float(values[0]) for name, values in found.items()}
        if plateau is not None:
            plateau.update(scores[goal.objective])
        curve.append({"train/loss": math.fsum(losses) / len(losses), **scores})
    return curve, module
