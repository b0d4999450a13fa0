"""Which preprocessor a kind of data has; between `dataset` and the kinds: tables, images, series, texts.

A kind is a plan (columns and shape, from the development rows), a fit (from the training rows of a split) and a
class that transforms rows and goes through JSON. Adding one is a file and a line in each function here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import numpy.typing as npt
import pandas as pd

from lanewise.data.columns import Columns, Layout, plan_columns
from lanewise.data.images import ImagePreprocessor, fit_images, plan_images
from lanewise.data.preprocessing import F32, I64, Preprocessor, fit_preprocessor, one_hot
from lanewise.data.series import SeriesPreprocessor, fit_series, plan_series
from lanewise.data.table import DataWarning
from lanewise.data.texts import TextPreprocessor, fit_texts, plan_texts
from lanewise.errors import DataError
from lanewise.study import Data

INPUT_KINDS = ("image", "series", "text")  # of columns that make up a network's whole input


class Fitted(Protocol):
    """What every preprocessor can; see `Preprocessor`."""

    @property
    def columns(self) -> Columns: ...
    @property
    def layout(self) -> Layout: ...
    def transform(self, frame: pd.DataFrame) -> tuple[F32, I64]: ...
    def unseen(self, frame: pd.DataFrame) -> dict[str, int]: ...
    def to_json(self) -> dict[str, Any]: ...


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Fitted]] = {
    "table": Preprocessor.from_json, "image": ImagePreprocessor.from_json,
    "series": SeriesPreprocessor.from_json, "text": TextPreprocessor.from_json,
}  # fmt: skip


def input_columns(kinds: Mapping[str, str], dropped: Collection[str]) -> tuple[str, list[str], dict[str, str]]:
    """The kind of the data, the columns that are the input, and why the others are left out.

    Args:
        kinds: feature column -> kind.
        dropped: columns that are out already.

    Raises:
        DataError: Two kinds of input, or two columns of texts or images.
    """
    found = {kind: [n for n, k in kinds.items() if k == kind and n not in dropped] for kind in INPUT_KINDS}
    there = [kind for kind, names in found.items() if names]
    if not there:
        return "table", [name for name in kinds if name not in dropped], {}
    kind, names = there[0], found[there[0]]
    if len(there) > 1 or (kind != "series" and len(names) > 1):
        raise DataError(
            "the data have more than one input", given=", ".join(f"{n} ({kinds[n]})" for k in there for n in found[k]),
            rule="one column of images, one of texts, or the channels of a series",
            remedy="put the others under `drop`",
        )
    why = f"a network of {'texts' if kind == 'text' else kind + ('s' if kind == 'image' else '')} takes nothing else"
    return kind, names, {n: why for n in kinds if n not in names and n not in dropped}


def plan_inputs(
    kind: str, frame: pd.DataFrame, kinds: Mapping[str, str], formats: Mapping[str, str], options: Data
) -> tuple[Columns, list[DataWarning]]:
    """Fix the layout from the development rows.

    Args:
        kind: of the data.
        frame: development rows, used columns only, typed as `inference` leaves them.
        kinds: column -> kind.
        formats: date column -> format of its texts.
        options: how the study wants it.
    """
    if kind == "image":
        return plan_images(frame, options)
    if kind == "series":
        return plan_series(frame)
    if kind == "text":
        return plan_texts(frame, options)
    return plan_columns(frame, kinds, formats)


def fit_inputs(frame: pd.DataFrame, columns: Columns, numbers: str, infinite: str) -> Fitted:
    """Fit on a frame that holds the training rows and no others.

    Args:
        frame: training rows [N].
        columns: the layout's columns.
        numbers, infinite: as in the study; of tables.
    """
    if columns.kind == "image":
        return fit_images(frame, columns)
    if columns.kind == "series":
        return fit_series(frame, columns)
    if columns.kind == "text":
        return fit_texts(frame, columns)
    return fit_preprocessor(frame, columns, numbers, infinite)


def read_fitted(data: Mapping[str, Any]) -> Fitted:
    """A preprocessor from what its `to_json` wrote."""
    return _READERS[data["columns"].get("kind", "table")](data)


def network_inputs(layout: Layout, takes: str, x_num: F32, x_cat: I64) -> tuple[npt.NDArray[Any], ...]:
    """What a network is handed of a preprocessor's arrays.

    Args:
        layout: of the arrays.
        takes: "split" or "flat", see `model.Network.inputs`; it counts for tables only.
        x_num, x_cat: as `transform` returns them.

    Returns:
        Of a table both, or one array in one-hot form; of images and series the numbers; of texts the codes.
    """
    if layout.kind == "table":
        return (x_num, x_cat) if takes == "split" else (one_hot(layout, x_num, x_cat),)
    return (x_cat,) if layout.kind == "text" else (x_num,)
