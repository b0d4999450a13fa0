"""A trained model as data: network, weights, preprocessing and classes.

Before it stands `refit.py`, which makes it, after it the registry, which stores it. It predicts on a CPU
in batches and needs neither the engine nor the search. It may not train, choose or write a file:
`to_parts` gives what the registry stores, `from_parts` reads it back.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn

from lanewise.calibration import Calibration
from lanewise.data import Fitted, Layout, network_inputs, read_fitted
from lanewise.errors import ModelError
from lanewise.metrics import Metric, probabilities
from lanewise.model import Network, resolve
from lanewise.space import Config

Array = npt.NDArray[Any]

FORMAT = 1  # of the parts; a reader refuses what it does not know
BATCH_ROWS = 4096


@dataclass(frozen=True, eq=False)
class FittedModel:
    """Everything a prediction needs: network, weights of each member, preprocessing, classes.

    Attributes:
        network: class and constant arguments.
        config: active hyperparameters.
        preprocessor: fitted on all development rows.
        task: "binary", "multiclass" or "regression".
        classes: names in the order of their codes; empty for regression.
        target_mean: of the training target, in its unit; 0 for classes.
        target_std: the same; 1 for classes.
        states: one state_dict per member, on the CPU.
        seeds: one per member.
        epochs: trained.
        calibration: of the probabilities; None leaves them as the networks give them.
    """

    network: Network
    config: Config
    preprocessor: Fitted
    task: str
    classes: tuple[str, ...]
    target_mean: float
    target_std: float
    states: tuple[dict[str, Tensor], ...]
    seeds: tuple[int, ...]
    epochs: int
    calibration: Calibration | None = None

    @property
    def layout(self) -> Layout:
        """The columns the networks take."""
        return self.preprocessor.layout

    @cached_property
    def modules(self) -> list[nn.Module]:
        """One network per member with its weights, ready to predict."""
        outputs = len(self.classes) or 1
        modules = []
        for member, state in enumerate(self.states):
            module = self.network.build(self.layout, outputs, self.config, seed=0)
            try:
                module.load_state_dict(dict(state), strict=True)
            except RuntimeError as error:
                raise ModelError(
                    "the stored weights do not fit the network",
                    where=f"member {member} of {self.network.name}",
                    given=error,
                    remedy="use the version of the network's code that was trained",
                ) from error
            modules.append(module.eval().requires_grad_(False))
        return modules

    def predict_array(self, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Mean over the members of the probabilities [N, C], calibrated, or of the values [N] in the target's unit.

        Raises:
            ModelError: a network gave an output that is not finite.
        """
        if self.layout.kind == "image":  # many pixels: by batches, which give the same
            parts = [self._predicted(frame.iloc[i : i + self._batch]) for i in range(0, len(frame), self._batch)]
            return np.concatenate(parts) if parts else self._predicted(frame)
        return self._predicted(frame)

    def _predicted(self, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
        numbers, codes = self.preprocessor.transform(frame)
        total: npt.NDArray[np.float64] | None = None
        for module in self.modules:
            outputs = self._outputs(module, numbers, codes)
            bad = int((~np.isfinite(outputs)).any(1).sum())
            if bad:
                raise ModelError(
                    f"the network gives no finite output for {bad} of {len(outputs)} rows",
                    where=self.network.name,
                )
            found = (
                outputs[:, 0].astype(np.float64) * self.target_std + self.target_mean
                if self.task == "regression"
                else probabilities(outputs)
            )
            total = found if total is None else total + found
        assert total is not None  # a fitted model has a member
        mean = total / len(self.states)
        return mean if self.calibration is None else self.calibration.apply(mean)

    def labels(self, probability_NC: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Predicted codes [N] of what `predict_array` returned for classes."""
        return (self.calibration or Calibration()).labels(probability_NC)

    def scored(self, metric: Metric, prediction: npt.NDArray[np.float64]) -> Array:
        """What a metric is given of a prediction: codes where a threshold decides them, else the prediction."""
        decided = self.calibration is not None and self.calibration.threshold is not None
        return self.labels(prediction) if decided and metric.needs == "label" else prediction

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Predicts new rows.

        Args:
            frame: the columns of the training data, the target not needed.

        Returns:
            A frame with the index of `frame`: `prediction`, and for classes `probability_<class>` each.
        """
        values = self.predict_array(frame)
        if self.task == "regression":
            return pd.DataFrame({"prediction": values}, index=frame.index)
        names = np.asarray(self.classes, dtype=object)
        columns: dict[str, Any] = {"prediction": names[self.labels(values)]}
        columns |= {f"probability_{name}": values[:, code] for code, name in enumerate(self.classes)}
        return pd.DataFrame(columns, index=frame.index)

    def _outputs(self, module: nn.Module, numbers: Array, codes: Array) -> npt.NDArray[np.float32]:
        parts = [np.zeros((0, len(self.classes) or 1), dtype=np.float32)]
        with torch.inference_mode():
            size = self._batch
            for start in range(0, len(numbers), size):
                rows = slice(start, start + size)
                arrays = network_inputs(self.layout, self.network.inputs, numbers[rows], codes[rows])
                outputs = module(*(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays))
                parts.append(outputs.float().numpy())
        return np.concatenate(parts)

    @property
    def _batch(self) -> int:
        """Rows of one batch, fewer the larger they are."""
        return max(64, BATCH_ROWS // max(1, math.prod(self.layout.shape) // 64))

    def to_parts(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The model as data: a JSON-able specification, and tensors named "member.0.<name>"."""
        spec = {
            "format": FORMAT,
            "network": {"name": self.network.name, "args": dict(self.network.args)},
            "config": dict(self.config),
            "preprocessor": self.preprocessor.to_json(),
            "task": self.task,
            "classes": list(self.classes),
            "target": {"mean": self.target_mean, "std": self.target_std},
            "seeds": list(self.seeds),
            "epochs": self.epochs,
        }
        if self.calibration is not None:
            spec["calibration"] = asdict(self.calibration)
        tensors = {
            f"member.{member}.{name}": tensor
            for member, state in enumerate(self.states)
            for name, tensor in state.items()
        }
        return spec, tensors

    @classmethod
    def from_parts(
        cls, spec: Mapping[str, Any], tensors: Mapping[str, Tensor], *, search_path: Sequence[str | Path] = ()
    ) -> FittedModel:
        """Reads what `to_parts` wrote.

        Args:
            spec: the specification.
            tensors: the weights.
            search_path: folders to look in for the network's class.

        Raises:
            ModelError: another format, an unknown network, or weights of no member.
        """
        if spec.get("format") != FORMAT:
            raise ModelError(
                "this model was stored in another format",
                given=spec.get("format"),
                rule=f"format {FORMAT}",
                remedy="load it with the version of Lanewise that stored it",
            )
        states: list[dict[str, Tensor]] = [{} for _ in spec["seeds"]]
        for key, tensor in tensors.items():
            prefix, member, name = (*key.split(".", 2), "", "")[:3]
            if prefix != "member" or not member.isdigit() or int(member) >= len(states):
                raise ModelError("a stored tensor belongs to no member", where=key)
            states[int(member)][name] = tensor
        return cls(
            network=resolve(spec["network"]["name"], spec["network"]["args"], search_path=search_path),
            config=dict(spec["config"]),
            preprocessor=read_fitted(spec["preprocessor"]),
            task=spec["task"],
            classes=tuple(spec["classes"]),
            target_mean=spec["target"]["mean"],
            target_std=spec["target"]["std"],
            states=tuple(states),
            seeds=tuple(spec["seeds"]),
            epochs=spec["epochs"],
            calibration=Calibration.from_dict(spec.get("calibration")),
        )

    def frozen(self) -> str:
        """SHA-256 over the specification and every weight: what the seal is opened with."""
        spec, tensors = self.to_parts()
        digest = hashlib.sha256(json.dumps(spec, sort_keys=True, separators=(",", ":")).encode())
        for name in sorted(tensors):
            tensor = tensors[name].contiguous()
            digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()
