"""Rows to predict: read as the training rows were, typed by the model's columns; for `lanewise predict`.

After `sources`, which reads them. It needs no target, fits nothing and knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa

from lanewise.data.columns import Columns
from lanewise.data.image_decoding import SUFFIXES
from lanewise.data.image_reading import IMAGE, Reading, read_image_file, read_image_folder, read_image_index
from lanewise.data.inference import infer_types
from lanewise.data.series import read_series
from lanewise.data.sources import load_table
from lanewise.data.table import Table
from lanewise.study import Data


def read_new_rows(source: Path, columns: Columns) -> tuple[pd.DataFrame, Sequence[str]]:
    """Rows like those a model was trained on.

    Args:
        source: a file as the study's source; for a model of images also a folder of images, at any depth, or one image.
        columns: the model's.

    Returns:
        The rows, with those of the model's columns that are there; the name of each row's image, empty for other data.

    Raises:
        DataError: The file cannot be read, or a value is not what its column holds.
    """
    options = Data.model_construct(source=str(source))
    names: Sequence[str] = ()
    if columns.kind == "image":
        table, names = _images(source, columns, options)
    else:
        table = load_table(str(source), options, Path.cwd())
    kinds = columns.kinds
    used = {name: values for name, values in table.columns.items() if name in kinds}
    types = {name: kinds[name] for name in used}
    typed = infer_types(replace(table, columns=used), types, formats=columns.date_formats)
    if columns.kind == "series" and set(columns.inputs) <= set(used):
        read_series(typed.frame, columns.inputs, table.place)  # refused here, where the file's lines are known
    return typed.frame, names


def _images(source: Path, columns: Columns, options: Data) -> tuple[Table, Sequence[str]]:
    """A folder, one image, an index of paths, or a table with images in its cells."""
    (name,), (channels, height, width) = columns.inputs, columns.shape
    rules = {
        "image_size": (height, width), "image_mode": "grey" if channels == 1 else "rgb",
        "image_resize": columns.how.get("resize", "stretch"),
    }  # fmt: skip
    how = Reading(options.model_copy(update=rules))
    if source.is_dir():
        table, names = read_image_folder(source, str(source), how, labelled=False)
    elif source.suffix.lower() in SUFFIXES:
        table, names = read_image_file(source, how)
    else:
        table = load_table(str(source), options, Path.cwd())
        if name not in table.columns or not _are_paths(table.columns[name]):
            return table, ()
        return read_image_index(table, source.parent, name, how)
    return replace(table, columns={name: table.columns[IMAGE]}, kinds={name: "image"}), names


def _are_paths(values: pa.ChunkedArray) -> bool:
    first = next((str(cell) for cell in values.to_pylist() if cell), "")
    return Path(first[-300:]).suffix.lower() in SUFFIXES
