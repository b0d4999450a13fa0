"""The hyperparameters of training, legal in every study: defaults, ranges, bounds and conditions.

A part of the study's schema, in a file of its own; comes before the study, which re-exports it. It
trains nothing: what each name does is engine/'s.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from lanewise.fields import Value
from lanewise.parameter import Parameter

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
SCHEDULES = ("constant", "cosine", "one_cycle", "warm_restarts", "cyclic", "step", "plateau")
CLASS_LOSSES = ("cross_entropy", "focal")
VALUE_LOSSES = ("mse", "huber", "mae", "quantile")
LOSSES = ("auto", *CLASS_LOSSES, *VALUE_LOSSES)
AVERAGINGS = ("none", "ema", "swa")
MIXINGS = ("none", "mixup", "cutmix")
AUGMENTATIONS = ("none", "image", "series")
_MANY = 100_000  # epochs
_LAYER = re.compile(r"\w+(\.\w+)*")


class Training(NamedTuple):
    """A hyperparameter of training: legal in every study, whatever the network."""

    default: Value
    searched: (
        Parameter | None
    )  # the range searched when the study does not name it; None: fixed at its default
    doc: str
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False  # the bound itself is not legal
    open_high: bool = False
    choices: tuple[str, ...] = ()
    own: bool = False  # a text may also be the import path of one the user wrote
    layers: bool = False  # a text may also name layers; the network decides whether it has them

    def knows(self, text: str) -> bool:
        """Whether training can use this text."""
        return text in self.choices or (self.own and ":" in text) or (self.layers and bool(layer_names(text)))

    def allows(self, value: float) -> bool:
        """Whether training can use this number."""
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def bounds_text(self, name: str) -> str:
        """The bounds in words, as `0 < lr <= 1000`."""
        left, right = "<" if self.open_low else "<=", "<" if self.open_high else "<="
        return f"{self.low:g} {left} {name} {right} {self.high:g}"


_FIRST: Mapping[str, Training] = {
    "optimizer": Training("adamw", None, "Update rule.", choices=OPTIMIZERS),
    "lr": Training(1e-3, Parameter(low=1e-5, high=1e-1, log=True), "Peak learning rate.", 0, 1000, True),
    "weight_decay": Training(
        1e-4, Parameter(low=1e-6, high=1e-1, log=True),
        "Weight decay; decoupled in adamw, added to the gradient in the others.", 0, 100,
    ),
    "momentum": Training(0.9, None, "Momentum of sgd and rmsprop.", 0, 1, open_high=True),
    "nesterov": Training(False, None, "Nesterov's momentum, for sgd."),
    "beta1": Training(0.9, None, "Decay of adam's mean of gradients.", 0, 1, open_high=True),
    "beta2": Training(0.999, None, "Decay of adam's mean of squared gradients.", 0, 1, open_high=True),
    "alpha": Training(0.99, None, "Decay of rmsprop's mean of squared gradients.", 0, 1, open_high=True),
    "eps": Training(1e-8, None, "Added to the denominator of adam, adamw and rmsprop.", 0, 1, True),
    "schedule": Training("cosine", None, "Course of the learning rate over a training.", choices=SCHEDULES),
    "warmup": Training(0.0, None, "Share of all steps in which the rate rises from 0.", 0, 1, open_high=True),
    "restart_epochs": Training(10, None, "Epochs between restarts of warm_restarts.", 1, _MANY),
    "cycle_epochs": Training(10, None, "Epochs of one cycle of cyclic, up and down.", 1, _MANY),
    "step_epochs": Training(15, None, "Epochs between drops of step.", 1, _MANY),
    "gamma": Training(0.1, None, "Factor of each drop of step.", 0, 1, True),
    "plateau_patience": Training(5, None, "Epochs without improvement before plateau drops.", 0, _MANY),
    "plateau_factor": Training(0.5, None, "Factor of each drop of plateau.", 0, 1, True, True),
    "min_lr_factor": Training(0.0, None, "Lowest rate of cosine, warm_restarts, cyclic; share of lr.", 0, 1),
    "clip": Training(0.0, None, "Largest norm of the gradient; 0: no clipping.", 0, 1e6),
    "label_smoothing": Training(0.0, None, "Share of the target spread over classes.", 0, 1, open_high=True),
    "batch_size": Training(64, None, "Rows per step.", 1, 1_000_000),
    "loss": Training(
        "auto", None, "Loss; auto: cross_entropy for classes, mse for numbers; or `pkg.module:function`.",
        choices=LOSSES, own=True,
    ),
    "class_weight": Training("none", None, "Weight of classes in the loss.", choices=("none", "balanced")),
}  # fmt: skip

# In the space these stand behind the network's hyperparameters: what the earlier ones draw stays as it was.
LATER: Mapping[str, Training] = {
    "focal_gamma": Training(2.0, None, "How much less well-known rows count in the focal loss.", 0, 100),
    "huber_delta": Training(
        1.0, None, "Error from which huber grows linearly; in standard deviations of the target.", 0, 1e6, True,
    ),
    "quantile_level": Training(0.5, None, "The quantile that loss quantile predicts.", 0, 1, True, True),
    "averaging": Training(
        "none", None, "Mean of the weights, validated and kept in their place: exponential, or of the last epochs.",
        choices=AVERAGINGS,
    ),
    "ema_decay": Training(0.99, None, "Decay of averaging ema, per step.", 0, 1, open_high=True),
    "swa_share": Training(0.25, None, "Last share of the epochs whose weights averaging swa takes.", 0, 1, True),
    "l1": Training(0.0, None, "Penalty on the sum of absolute weights (lasso); 0: off.", 0, 100),
    "mixing": Training(
        "none", None, "Training rows blended with others of their batch; cutmix only for images.", choices=MIXINGS
    ),
    "mixing_alpha": Training(0.2, None, "Both parameters of the Beta distribution of the shares.", 0, 100, True),
    "augmentation": Training(
        "none", None, "Random changes of training rows, for data of this kind; each is 0, off, until set.",
        choices=AUGMENTATIONS,
    ),
    "augment_flip_horizontal": Training(0.0, None, "Probability that left and right are exchanged.", 0, 1),
    "augment_flip_vertical": Training(0.0, None, "Probability that top and bottom are exchanged.", 0, 1),
    "augment_crop": Training(0, None, "Pixels of padding from which an image is cut out again.", 0, 4096),
    "augment_shift": Training(0.0, None, "Largest shift, as a share of height and width, or of the length.", 0, 1),
    "augment_rotation": Training(0.0, None, "Largest rotation, in degrees to either side.", 0, 180),
    "augment_brightness": Training(0.0, None, "Largest change of brightness, in standard deviations.", 0, 10),
    "augment_contrast": Training(0.0, None, "Largest change of contrast, as a share of it.", 0, 1),
    "augment_noise": Training(0.0, None, "Standard deviation of added noise, in that of the training rows.", 0, 10),
    "augment_cutout": Training(0.0, None, "Sides of a hole, as a share of those of the image or the length.", 0, 1),
}  # fmt: skip

# In the space of studies with `model: pretrained:` only, and there they are searched unless the study fixes them.
TRANSFER: Mapping[str, Training] = {
    "start": Training(
        "scratch", None, "Whether a training starts from the pretrained weights.", choices=("scratch", "pretrained")
    ),
    "freeze": Training(
        "none", None, "Pretrained layers that do not train before `thaw_epoch`: none, all, or names: `blocks.0, stem`.",
        choices=("none", "all"), layers=True,
    ),
    "thaw_epoch": Training(1, None, "Epochs in which they are frozen; from `train: epochs:` on: in all.", 1, _MANY),
    "pretrained_lr_factor": Training(
        1.0, None, "Learning rate of the pretrained layers, as a multiple of `lr`.", 0, 100, True
    ),
}  # fmt: skip

TRAINING: Mapping[str, Training] = {**_FIRST, **LATER, **TRANSFER}

# name -> {other name: values}: the parameter has an effect only while the other has one of these values.
TRAINING_WHEN: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "momentum": {"optimizer": ("sgd", "rmsprop")},
    "nesterov": {"optimizer": ("sgd",)},
    "beta1": {"optimizer": ("adam", "adamw")},
    "beta2": {"optimizer": ("adam", "adamw")},
    "alpha": {"optimizer": ("rmsprop",)},
    "eps": {"optimizer": ("adam", "adamw", "rmsprop")},
    "restart_epochs": {"schedule": ("warm_restarts",)},
    "cycle_epochs": {"schedule": ("cyclic",)},
    "step_epochs": {"schedule": ("step",)},
    "gamma": {"schedule": ("step",)},
    "plateau_patience": {"schedule": ("plateau",)},
    "plateau_factor": {"schedule": ("plateau",)},
    "min_lr_factor": {"schedule": ("cosine", "warm_restarts", "cyclic")},
    "label_smoothing": {"loss": ("auto", "cross_entropy")},
    "class_weight": {"loss": ("auto", "cross_entropy", "focal")},
    "focal_gamma": {"loss": ("focal",)},
    "huber_delta": {"loss": ("huber",)},
    "quantile_level": {"loss": ("quantile",)},
    "ema_decay": {"averaging": ("ema",)},
    "swa_share": {"averaging": ("swa",)},
    "mixing_alpha": {"mixing": ("mixup", "cutmix")},
    "augment_flip_horizontal": {"augmentation": ("image",)},
    "augment_flip_vertical": {"augmentation": ("image",)},
    "augment_crop": {"augmentation": ("image",)},
    "augment_shift": {"augmentation": ("image", "series")},
    "augment_rotation": {"augmentation": ("image",)},
    "augment_brightness": {"augmentation": ("image",)},
    "augment_contrast": {"augmentation": ("image",)},
    "augment_noise": {"augmentation": ("image", "series")},
    "augment_cutout": {"augmentation": ("image", "series")},
    "freeze": {"start": ("pretrained",)},
    "thaw_epoch": {"freeze": ("all",)},  # and with every other value but none
    "pretrained_lr_factor": {"start": ("pretrained",)},
}


def training_defaults() -> dict[str, Value]:
    """Name -> default of every training hyperparameter; fills what a configuration leaves out as inactive."""
    return {name: entry.default for name, entry in TRAINING.items()}


def layer_names(text: str) -> tuple[str, ...]:
    """The names of layers in a text such as `blocks.0, stem`; none where one of them is no name."""
    names = [part.strip() for part in text.split(",")]
    return tuple(names) if all(_LAYER.fullmatch(name) for name in names) else ()
