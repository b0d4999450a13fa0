"""The slow twin: one trial, one torch.optim optimiser, one plain module, step by step.

It answers "what should this lane have done" for the tests of the fast path, shares with it only the
order of rows, the draws (of dropout, augmentation, mixing) and the schedule factors, and is never used to train.
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
from torch.optim.swa_utils import AveragedModel

from lanewise.engine.lane import Goal, Lane, SplitTensors
from lanewise.engine.losses import balanced_weights
from lanewise.engine.randomness import (
    MaskStream,
    drawing_from,
    epoch_order,
    keep_threshold,
    own_seed,
    seed_generators_of,
)
from lanewise.engine.reference_inputs import SlowInputs
from lanewise.engine.schedules import Plateau, factors
from lanewise.training import CLASS_LOSSES

_CHANNELWISE: Mapping[Any, bool] = {
    nn.Dropout.forward: False,
    nn.Dropout1d.forward: True,
    nn.Dropout2d.forward: True,
    nn.Dropout3d.forward: True,
}


class _DrawnDropout(nn.Dropout):
    """nn.Dropout, or that of whole channels, whose decisions come from the lane's stream, in the order of the calls."""

    def __init__(self, original: Any, channelwise: bool, streams: list[MaskStream]) -> None:
        super().__init__(original.p, original.inplace)
        self._channelwise, self._streams = channelwise, streams

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or not self._streams:
            return x
        shape = x.shape[:2] + (1,) * (x.dim() - 2) if self._channelwise else x.shape
        drawn = math.prod(shape)
        bits = self._streams[0].draw(1, -(-drawn // 4) * 4)[0, :drawn].view(shape)
        dropped = x * (bits >= keep_threshold(self.p)) / (1 - self.p)
        return x.copy_(dropped) if self.inplace else dropped


def _optimizer(lane: Lane, module: nn.Module) -> torch.optim.Optimizer:
    """With three groups of parameters: from scratch, pretrained, pretrained and frozen."""
    config, named = lane.config, {n: p for n, p in module.named_parameters() if p.requires_grad}
    kinds = {n: "frozen" if n in lane.frozen else "taken" if n in lane.taken else "scratch" for n in named}
    params: Any = [
        {"params": [p for n, p in named.items() if kinds[n] == kind], "kind": kind}
        for kind in ("scratch", "taken", "frozen")
        if kind in kinds.values()
    ]
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


def _share(config: Mapping[str, Any], kind: str, epoch: int) -> float:
    """Of the learning rate, for a group of parameters."""
    if kind == "frozen" and epoch < config["thaw_epoch"]:
        return 0.0
    return 1.0 if kind == "scratch" else float(config["pretrained_lr_factor"])


def _clip(optimizer: torch.optim.Optimizer, limit: float) -> None:
    """Clip all gradients by the norm of those of parameters that train."""
    groups = optimizer.param_groups
    grads = [p.grad for group in groups if group["share"] for p in group["params"] if p.grad is not None]
    norm = nn.utils.get_total_norm(grads)
    nn.utils.clip_grads_with_norm_([p for group in groups for p in group["params"]], limit, norm)


def _loss(goal: Goal, lane: Lane, split: SplitTensors, out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    config = lane.config
    if goal.own is not None:
        return goal.own(out, y)
    if goal.loss in CLASS_LOSSES:
        balanced = config["class_weight"] == "balanced"
        weight = balanced_weights(split.train_target, goal.classes) if balanced else None
        if goal.loss == "cross_entropy":
            return F.cross_entropy(out, y, weight, label_smoothing=float(config["label_smoothing"]))
        entropy = F.cross_entropy(out, y, reduction="none")
        losses: torch.Tensor = (1 - torch.exp(-entropy)) ** float(config["focal_gamma"]) * entropy
        return losses.mean() if weight is None else (weight[y] * losses).sum() / weight[y].sum()
    values = out.squeeze(-1)
    if goal.loss == "quantile":
        level, short = config["quantile_level"], y - values
        return torch.maximum(level * short, (level - 1) * short).mean()
    if goal.loss == "huber":
        return F.huber_loss(values, y, delta=config["huber_delta"])
    return F.mse_loss(values, y) if goal.loss == "mse" else F.l1_loss(values, y)


def _penalty(module: nn.Module, config: Mapping[str, Any]) -> torch.Tensor:
    """The L1 penalty, which is trained on and not reported."""
    trained = [p.abs().sum() for p in module.parameters() if p.requires_grad]
    return float(config["l1"]) * torch.stack(trained).sum()


class _Average:
    """What is validated: the module itself, or a copy with the mean of the weights it has had."""

    def __init__(self, lane: Lane, module: nn.Module) -> None:
        self._config, self._epochs, self._module = lane.config, lane.epochs, module
        self._seen: list[dict[str, torch.Tensor]] = []
        self._swa = AveragedModel(module, use_buffers=True)

    def after_step(self) -> None:
        if self._config["averaging"] == "ema":
            self._seen.append({n: t.detach().double() for n, t in self._module.state_dict().items()})

    def after_epoch(self, epoch: int) -> nn.Module:
        kind = self._config["averaging"]
        if kind == "ema":
            weights = float(self._config["ema_decay"]) ** np.arange(len(self._seen))[::-1]
            shown = copy.deepcopy(self._module)
            with torch.no_grad():
                for name, tensor in shown.state_dict().items():
                    if not tensor.is_floating_point():  # a counter has no mean
                        tensor.copy_(self._module.state_dict()[name])
                        continue
                    mean = sum(w * own[name] for w, own in zip(weights.tolist(), self._seen, strict=True))
                    tensor.copy_(mean / weights.sum())
            return shown
        if kind == "swa" and epoch >= self._epochs - max(1, round(self._config["swa_share"] * self._epochs)):
            self._swa.update_parameters(self._module)
            shown = copy.deepcopy(self._swa.module)
            for name, tensor in shown.state_dict().items():
                if not tensor.is_floating_point():
                    tensor.copy_(self._module.state_dict()[name])
            return shown
        return self._module


def train(lane: Lane, split: SplitTensors, goal: Goal) -> tuple[list[dict[str, float]], nn.Module]:
    """Train one lane the slow way, without early stopping.

    Returns:
        One dictionary per epoch (train loss and scores) and the module after the last epoch, averaged if asked for.
    """
    streams: list[MaskStream] = []
    module = copy.deepcopy(lane.module)
    for owner in module.modules():
        for name, child in owner._modules.items():  # also a layer that has several names
            channelwise = None if child is None else _CHANNELWISE.get(type(child).forward)
            if channelwise is not None:
                owner._modules[name] = _DrawnDropout(child, channelwise, streams)
    optimizer = _optimizer(lane, module)
    rows = len(split.train_target)
    batch = min(lane.batch, rows)
    steps = -(-rows // batch)
    clip = float(lane.config["clip"])
    plateau = (
        Plateau(lane.config["plateau_factor"], lane.config["plateau_patience"], goal.maximize)
        if lane.config["schedule"] == "plateau"
        else None
    )
    average = _Average(lane, module)
    shown = module
    curve = []
    for epoch in range(lane.stop or lane.epochs):
        streams[:] = [MaskStream(lane.seed, epoch)]
        order = epoch_order(lane.seed, epoch, rows, batch)
        drawn = SlowInputs(lane, epoch, (steps, batch), split)
        t = np.arange(epoch * steps, (epoch + 1) * steps)
        rates = lane.config["lr"] * factors(lane.config, t, lane.epochs * steps, steps)
        module.train()
        losses = []
        for step in range(steps):
            for group in optimizer.param_groups:
                group["share"] = _share(lane.config, group["kind"], epoch)
                group["lr"] = float(rates[step]) * group["share"] * (plateau.scale if plateau else 1.0)
            index = torch.from_numpy(order[step])
            optimizer.zero_grad()
            inputs, parts = drawn.batch(step, [x[index] for x in split.train], split.train_target[index])
            seed = own_seed(lane.seed, epoch, step)
            seed_generators_of(module, seed)
            with drawing_from(seed, torch.device("cpu")):
                out = module(*inputs)
            loss = sum((w * _loss(goal, lane, split, out, y) for w, y in parts), torch.tensor(0.0))
            torch.autograd.backward(loss + _penalty(module, lane.config) if lane.config["l1"] else loss)
            for p in module.parameters():  # what a step does not reach has the gradient 0, not none
                if p.requires_grad and p.grad is None:
                    p.grad = torch.zeros_like(p)
            if clip:
                _clip(optimizer, clip)
            optimizer.step()
            average.after_step()
            losses.append(loss.item())
        shown = average.after_epoch(epoch).eval()
        seen = copy.deepcopy(shown)  # what evaluation does to buffers is not kept
        seed = own_seed(lane.seed, "evaluation", 0)
        seed_generators_of(seen, seed)
        with torch.no_grad(), drawing_from(seed, torch.device("cpu")):
            out = seen(*(x[:] for x in split.valid)).unsqueeze(0)
        n, scale = torch.tensor([len(split.valid_target)]), torch.tensor([split.scale])
        found = goal.score(out, split.valid_target.unsqueeze(0), n, scale)
        scores = {name: float(values[0]) for name, values in found.items()}
        if plateau is not None:
            plateau.update(scores[goal.objective])
        curve.append({"train/loss": math.fsum(losses) / len(losses), **scores})
    return curve, shown
