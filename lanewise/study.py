"""The study: what to tune, one YAML file turned into one frozen `Study`; data and space come after it.

Every default, bound and unit of the project is a field below, once (those of training's hyperparameters
are in training.py, of `data` in study_data.py, of `search` in study_search.py, of fields in fields.py);
the command line, the documentation and the editor's JSON schema (`json_schema`) are made from them. Unknown
keys are refused with the nearest known one. This module reads no data, trains nothing and imports no other room.

Five lines are a whole study::

    name: penguins
    data:
      source: penguins.csv
      target: species
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    JsonValue,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from lanewise import strict_yaml
from lanewise.fields import Flag, Int, Name, Real, Section, Text, Value, plain, wrong
from lanewise.parameter import Parameter
from lanewise.places import Tracking
from lanewise.study_data import Data
from lanewise.study_errors import apply_overrides, refuse_secrets, translate
from lanewise.study_search import (
    CLASS_METRICS,
    MAX_CELLS,
    METRIC_NAMES,
    METRIC_ONLY,
    NOISE_SEEDS,
    OBJECTIVES,
    STRATEGY_NAMES,
    VALUE_METRICS,
    Search,
)
from lanewise.training import (
    LOSSES,
    OPTIMIZERS,
    SCHEDULES,
    TRAINING,
    TRAINING_WHEN,
    Training,
    training_defaults,
)

__all__ = [
    "CLASS_METRICS", "LOSSES", "MAX_CELLS", "METRIC_NAMES", "METRIC_ONLY", "NOISE_SEEDS", "OBJECTIVES", "OPTIMIZERS",
    "SCHEDULES", "STRATEGY_NAMES", "TRAINING", "TRAINING_WHEN", "VALUE_METRICS", "Data", "Evaluate", "LRRange",
    "Model", "Parameter", "Register", "Search", "Study", "Tracking", "Train", "Training", "Value", "json_schema",
    "load_study", "training_defaults",
]  # fmt: skip

_REGISTERED = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(@[A-Za-z0-9_-]+|/[0-9]+)")
_IMPORTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def weights_kind(text: str) -> Literal["file", "registry", "import"] | None:
    """What `model: pretrained:` names; None where it is neither of the three."""
    if text.endswith(".safetensors"):
        return "file"
    return "registry" if _REGISTERED.fullmatch(text) else "import" if _IMPORTED.fullmatch(text) else None


def _weights(value: str) -> str:
    if weights_kind(value) is None:
        raise wrong(
            "this names no weights", "NAME.safetensors, MODEL@champion, MODEL/VERSION, or pkg.module:function",
            "write a file: safetensors.torch.save_file(module.state_dict(), 'weights.safetensors')",
        )  # fmt: skip
    return value


class Model(Section):
    """The network."""

    name: Text = Field(
        default="mlp",
        description="For tables `mlp` or `resnet`, for images `cnn` or `image_resnet`, for series `fcn`, `gru` or "
        "`transformer`, for texts these three or `text_cnn`; another registered name, or `pkg.module:Class`.",
        examples=["mlp", "cnn", "mypackage.networks:Tiny"],
    )  # fmt: skip
    args: Annotated[dict[str, JsonValue], BeforeValidator(plain)] = Field(
        default={}, description="Constant constructor arguments that are not hyperparameters."
    )
    pretrained: Annotated[Text, AfterValidator(_weights)] | None = Field(
        default=None,
        description="Weights that trainings may start from: a safetensors file (a relative path starts at the study's "
        "folder), a registered model as `digits@champion`, or `pkg.module:function`.",
        examples=["weights.safetensors", "digits@champion", "mypackage.weights:encoder"],
    )  # fmt: skip


class Train(Section):
    """How one trial trains."""

    epochs: Int = Field(default=50, ge=1, le=100_000, description="Length of a full training, in epochs.")
    patience: Int = Field(
        default=15, ge=0, description="Epochs without a better objective after which a trial ends; 0: off."
    )
    precision: Literal["float32", "bf16"] = Field(
        default="float32", description="Number format of the training steps."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where to train; auto: a GPU if there is one."
    )
    threads: Int = Field(default=1, ge=1, le=1024, description="CPU threads of one training loop.")


class LRRange(Section):
    """The learning-rate range test before the search."""

    enabled: Flag = Field(default=True, description="Whether to run it and narrow the range of `lr` by it.")
    low: Real = Field(default=1e-6, gt=0, description="Learning rate at the start of the ramp.")
    high: Real = Field(default=10.0, gt=0, description="Learning rate at the end of the ramp.")
    steps: Int = Field(default=100, ge=10, le=100_000, description="Optimiser steps of the ramp.")
    repeats: Int = Field(default=5, ge=1, le=1000, description="Ramps with different seeds, each one lane.")
    control_share: Real = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Share of trials that draw `lr` from the un-narrowed range, as a check.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> LRRange:
        if not self.low < self.high:
            raise wrong(f"low is {self.low!r} and high is {self.high!r}", "low < high", "swap them")
        return self


class Evaluate(Section):
    """How the finalists are compared with the default and with simple baselines."""

    folds: Int = Field(default=5, ge=2, le=100, description="Folds of the cross-validation.")
    repeats: Int = Field(default=2, ge=1, le=100, description="Cross-validations with different seeds.")
    finalists: Int = Field(
        default=3, ge=1, le=100, description="Best trials that are cross-validated next to the default."
    )
    baselines: Flag = Field(
        default=True, description="Whether to compare with a dummy, a linear model and gradient boosting."
    )
    confidence: Real = Field(default=0.95, gt=0, lt=1, description="Confidence of every interval.")
    bootstrap: Int = Field(
        default=1000, ge=100, le=1_000_000, description="Resamples of every bootstrap interval."
    )
    calibrate: Flag = Field(
        default=True,
        description="Whether predicted probabilities are corrected by a temperature, and for f1, mcc and "
        "balanced_accuracy of two classes a threshold is chosen, both on out-of-fold rows.",
    )


class Register(Section):
    """Under which name, and when, the winner becomes the champion."""

    name: Name | None = Field(
        default=None, description="Name of the registered model; empty: the study's name."
    )
    gate_margin: Real = Field(
        default=0.0,
        ge=0,
        description="By how much, in units of the metric, the winner must beat what it replaces.",
    )
    members: Int = Field(
        default=1, ge=1, le=100, description="Refits with different seeds whose predictions are averaged."
    )


class Study(Section):
    """Everything about one tuning job, as the user wrote it plus every default."""

    name: Name = Field(description="Name of the study; without it, the file's name.")
    seed: Int = Field(default=0, ge=0, lt=2**32, description="Seed from which every other seed is made.")
    data: Data = Field(description="Where the rows come from.")
    model: Model = Field(default=Model(), description="The network.")
    space: dict[str, Parameter] = Field(
        default={},
        description="Hyperparameters to fix or to search: those of training and those of the network.",
    )
    train: Train = Field(default=Train(), description="How one trial trains.")
    lr_range: LRRange = Field(default=LRRange(), description="The learning-rate range test.")
    search: Search = Field(default=Search(), description="What is searched and for how long.")
    evaluate: Evaluate = Field(default=Evaluate(), description="How the winner is checked.")
    registration: Register = Field(
        default=Register(), alias="register", description="How the winner is registered."
    )
    tracking: Tracking = Field(default=Tracking(), description="Where runs are kept.")

    _path: Path | None = PrivateAttr(None)
    _places: dict[strict_yaml.Keys, str] = PrivateAttr(default_factory=dict)
    sections: ClassVar[tuple[str, ...]] = (
        "model", "space", "train", "lr_range", "search", "evaluate", "register", "tracking",
    )  # fmt: skip

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, data: Any) -> Any:
        """A section whose lines are all commented out has its defaults."""
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None or key not in cls.sections}

    @model_validator(mode="after")
    def _metric_fits_task(self) -> Study:
        task, metric = self.data.task, self.search.metric
        if self.search.metric_direction and ":" not in metric:
            raise wrong(
                f"the direction of {metric} is known", "`metric_direction` is for a metric of your own",
                "remove `metric_direction`", "search",
            )  # fmt: skip
        if task == "auto" or metric == "auto" or ":" in metric or (metric in VALUE_METRICS) == (task == "regression"):
            return self
        legal = VALUE_METRICS if task == "regression" else CLASS_METRICS
        raise wrong(
            f"the metric {metric} does not fit the task {task}", "one of " + ", ".join(legal),
            "change `search: metric:` or `data: task:`", "search",
        )  # fmt: skip

    @property
    def base_dir(self) -> Path:
        """Folder of the study file; the working directory for a study made in Python."""
        return (self._path.parent if self._path is not None else Path()).resolve()

    @property
    def model_name(self) -> str:
        """Name under which the winner is registered."""
        return self.registration.name or self.name

    def where(self, *keys: str | int) -> str | None:
        """Where the file says `keys`, as `file:line:column`; the nearest place above it if it does not."""
        while keys and keys not in self._places:
            keys = keys[:-1]
        return self._places.get(keys)

    def definition(self) -> dict[str, Any]:
        """What the study is, as JSON: all that decides its results, so not where they are kept."""
        return self.model_dump(mode="json", by_alias=True, exclude={"tracking"})


def load_study(path: str | Path, overrides: Mapping[str, str] | None = None) -> Study:
    """Read a study file.

    Args:
        path: The YAML file.
        overrides: Dotted key -> text, as from `--set search.trials=10`; each replaces what the file says.

    Raises:
        StudyError: With file, line and column, what was given, the rule and the remedy.
    """
    document = strict_yaml.read(path)
    refuse_secrets(document.data, document.places)
    raw, places = apply_overrides(document.data, document.places, overrides or {})
    data = strict_yaml.substitute(raw, places)
    refuse_secrets(
        {**data, "tracking": None}, places
    )  # a tracking address may take its password from the environment
    data.setdefault("name", Path(path).stem)
    try:
        study = Study.model_validate(data, by_alias=True, by_name=False)
    except ValidationError as error:
        raise translate(error, Study, {"name": data["name"], **raw}, places) from None
    study._path, study._places = Path(path), dict(places)
    return study


def rebuild_study(
    definition: Mapping[str, Any], base_dir: Path, overrides: Mapping[str, str] | None = None
) -> Study:
    """A study from its record.

    Args:
        definition: What `Study.definition` gave.
        base_dir: Folder the study file lay in.
        overrides: As for `load_study`.

    Raises:
        StudyError: An override is wrong, or the record does not fit this version.
    """
    raw, places = apply_overrides(definition, {}, overrides or {})
    try:
        study = Study.model_validate(raw, by_alias=True, by_name=False)
    except ValidationError as error:
        raise translate(error, Study, raw, places) from None
    study._path = base_dir / "study.yaml"
    return study


def json_schema() -> dict[str, Any]:
    """The JSON schema of a study file, for editors: titles, descriptions, bounds and short forms."""
    schema = Study.model_json_schema(by_alias=True)
    short = {"type": ["string", "number", "boolean"], "description": "The fixed value."}
    listed = {"type": "array", "items": {"type": short["type"]}, "minItems": 1, "description": "The choices."}
    parameter = schema["$defs"]["Parameter"]
    schema["$defs"]["Parameter"] = {
        "title": "Parameter", "description": parameter["description"],
        "anyOf": [short, listed, {k: v for k, v in parameter.items() if k != "description"}],
    }  # fmt: skip
    schema["properties"]["space"]["properties"] = {
        name: {"$ref": "#/$defs/Parameter", "description": f"{entry.doc} Default: {entry.default}."}
        for name, entry in TRAINING.items()
    }
    schema["required"] = ["data"]  # the name comes from the file's name
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Lanewise study"}
