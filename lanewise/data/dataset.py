"""The development rows, ready to train on: folds, arrays, preprocessors; after `splits`, before the engine.

A `Dataset` holds no test row and no path to one. Every value it fits comes from the training rows of the
split at hand; only the layout (columns, widths) comes from all development rows, so that shapes are equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lanewise.data.columns import Columns, Layout
from lanewise.data.inputs import Fitted, fit_inputs
from lanewise.data.preprocessing import F32, I64, mean_and_deviation, standardised
from lanewise.data.splits import Grouping, Split, make_folds
from lanewise.data.table import DataWarning, placed


@dataclass(frozen=True, eq=False)
class Arrays:
    """One split as arrays; N training rows, M validation rows.

    Attributes:
        x_num_train: float32 [N, Dn], images [N, C, H, W] or series [N, C, L]; x_num_valid: alike [M, ...].
        x_cat_train: int64 [N, Dc], code 0 is missing, rare or unknown, or token codes [N, L] of texts;
            x_cat_valid: alike [M, ...].
        y_train: float32 [N], standardised by the training rows, or class codes int64 [N]; y_valid alike [M].
        target_mean, target_std: of the training rows; 0 and 1 for classes.
    """

    x_num_train: F32
    x_cat_train: I64
    y_train: npt.NDArray[Any]
    x_num_valid: F32
    x_cat_valid: I64
    y_valid: npt.NDArray[Any]
    target_mean: float
    target_std: float


@dataclass(frozen=True, eq=False)
class Dataset:
    """Everything a study may train on.

    Attributes:
        frame: development rows, features only: float64, str and datetime64 columns.
        target: class codes int64 [N], or values float64 [N].
        task: binary, multiclass or regression.
        classes: labels in the order of their codes; empty for regression.
        columns: how the frame becomes `layout`.
        numbers, infinite: as in the study.
        holdout: the split of the search.
        grouping: what every split respects.
        fingerprint: SHA-256 of the whole source.
        split_fingerprint: SHA-256 of the rows' positions in test, train and validation.
        metric, metric_reason: the objective, and why it.
        warnings: what the user should know.
        dropped: column -> why it is not used.
        source: what the study calls it.
        test_rows: how many rows are sealed away.
    """

    frame: pd.DataFrame
    target: npt.NDArray[Any]
    task: str
    classes: tuple[str, ...]
    columns: Columns
    numbers: str
    infinite: str
    holdout: Split
    grouping: Grouping
    fingerprint: str
    split_fingerprint: str
    metric: str
    metric_reason: str
    warnings: tuple[DataWarning, ...]
    dropped: Mapping[str, str]
    target_name: str
    source: str
    test_rows: int

    @staticmethod
    def from_frame(frame: pd.DataFrame, target: npt.ArrayLike | str, **options: Any) -> Dataset:
        """A dataset of development rows only, for benchmarks with their own splits: `prepare.from_frame`."""
        from lanewise.data.prepare import from_frame  # prepare makes datasets, so it stands below this file

        return from_frame(frame, target, **options)

    @property
    def layout(self) -> Layout:
        """Shape of the network's input, equal for all splits."""
        return self.columns.layout

    @property
    def n_outputs(self) -> int:
        """Outputs of a network: one per class, or 1 for regression."""
        return len(self.classes) if self.classes else 1

    @property
    def rows(self) -> int:
        """Number of development rows."""
        return len(self.frame)

    @property
    def groups(self) -> I64 | None:
        """Group codes int64 [N], or None."""
        return self.grouping.groups

    def folds(self, k: int, repeats: int, seed: int) -> list[Split]:
        """Cross-validation of the development rows, as the study splits them; see `splits.make_folds`.

        In time order there are k folds however many repeats are asked for.
        """
        with placed(self.source):
            return make_folds(self.grouping, self.rows, k, repeats, seed)

    def everything(self) -> Split:
        """All development rows to train on and none to validate, for the refit."""
        return Split("all", np.arange(self.rows, dtype=np.int64), np.zeros(0, np.int64))

    def preprocess(self, rows: I64) -> Fitted:
        """A preprocessor fitted on these rows, by position, and no others."""
        return fit_inputs(self.frame.iloc[rows], self.columns, self.numbers, self.infinite)

    def target_scale(self, rows: I64) -> tuple[float, float]:
        """Mean and deviation of the target over these rows; (0, 1) for classes."""
        if self.classes:
            return 0.0, 1.0
        return mean_and_deviation(self.target[rows])

    def arrays(self, split: Split, preprocessor: Fitted | None = None) -> Arrays:
        """One split, preprocessed by its training rows.

        Args:
            split: which rows train and validate.
            preprocessor: `preprocess(split.train)`, where the caller has it already.
        """
        preprocessor = preprocessor or self.preprocess(split.train)
        mean, deviation = self.target_scale(split.train)

        def part(rows: I64) -> tuple[F32, I64, npt.NDArray[Any]]:
            return *preprocessor.transform(self.frame.iloc[rows]), self.scaled_target(rows, mean, deviation)

        return Arrays(*part(split.train), *part(split.valid), target_mean=mean, target_std=deviation)

    def targets(self, split: Split) -> Arrays:
        """One split without its inputs, in whose place stands a column of zeros: for who learns from targets only."""
        mean, deviation = self.target_scale(split.train)

        def part(rows: I64) -> tuple[F32, I64, npt.NDArray[Any]]:
            nothing = np.zeros((len(rows), 1), np.float32), np.zeros((len(rows), 0), np.int64)
            return *nothing, self.scaled_target(rows, mean, deviation)

        return Arrays(*part(split.train), *part(split.valid), target_mean=mean, target_std=deviation)

    def scaled_target(self, rows: I64, mean: float, deviation: float) -> npt.NDArray[Any]:
        """The target of these rows as a network sees it: class codes int64, or standardised float32."""
        y = self.target[rows]
        return y if self.classes else standardised(y, mean, deviation)

    def summary(self) -> dict[str, Any]:
        """What a report says of the data, as JSON: no row, no test row."""
        kinds = self.columns.kinds
        target: dict[str, Any] = {"name": self.target_name, "task": self.task}
        if self.classes:
            counts = Counter(self.target.tolist())
            target["classes"] = {label: counts[code] for code, label in enumerate(self.classes)}
        else:
            mean, deviation = mean_and_deviation(self.target)
            ends = {"min": float(self.target.min()), "max": float(self.target.max())}
            target |= {"mean": mean, "std": deviation, **ends}
        missing = {name: int(count) for name, count in self.frame.isna().sum().items() if count}
        return {
            "source": self.source, "fingerprint": self.fingerprint,
            "split_fingerprint": self.split_fingerprint,
            "rows": {
                "development": self.rows, "train": len(self.holdout.train), "valid": len(self.holdout.valid),
                "test": self.test_rows,
            },
            "split": self.grouping.kind, "target": target, "metric": self.metric,
            "metric_reason": self.metric_reason, "columns": kinds,
            "cardinalities": dict(zip(self.columns.categories, self.columns.cardinalities, strict=True)),
            "inputs": {"numeric": len(self.layout.numeric), "categorical": len(self.layout.categorical)},
            "kind": self.layout.kind, "shape": list(self.layout.shape), "tokens": self.layout.tokens,
            "missing": missing, "dropped": dict(self.dropped), "numbers": self.numbers,
            "warnings": [{"code": w.code, "message": w.message, "column": w.column} for w in self.warnings],
        }
