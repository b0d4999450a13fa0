"""What of a source a study should say beyond its columns: test rows that are there, and what kind of data it is.

Called by `look`. It proposes only what the names and cells make plain; everything else is a table.
"""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from lanewise.data.image_decoding import SUFFIXES
from lanewise.data.rows import PARTS
from lanewise.data.table import Table

NETWORKS = {"table": "mlp", "image": "cnn", "series": "fcn", "text": "text_cnn"}  # proposed for each kind
_TRAIN = re.compile(r"(?i)^(.*[_-])train(\.\w+)$")
_WORDS = 3  # mean number of words from which a column of texts reads like sentences
_DIFFERENT = 0.5  # share of different values, the same


def parts_of(source: str) -> tuple[str, str | None]:
    """The source proper and its test source: folders `train` and `test`, or files `..._TRAIN` and `..._TEST`."""
    path = Path(source)
    if path.is_dir():
        inside = {entry.name.lower(): entry for entry in path.iterdir() if entry.is_dir()}
        if {"train", "test"} <= set(inside):
            return str(inside["train"]), str(inside["test"])
        return source, None
    named = _TRAIN.match(path.name)
    if named is None or not path.parent.is_dir():
        return source, None
    wanted = f"{named[1]}test{named[2]}".lower()
    test = next((entry for entry in path.parent.iterdir() if entry.name.lower() == wanted), None)
    return source, None if test is None else str(test)


def split_column_of(table: Table, target: str | None) -> str | None:
    """A column that says train and test, and nothing but parts."""
    for name, values in table.columns.items():
        if name == target or not _is_text(values):
            continue
        different = {str(value).strip().lower() for value in pc.unique(values.drop_null()).to_pylist()[:20]}
        if {"train", "test"} <= different <= set(PARTS):
            return name
    return None


def image_paths_of(table: Table, folder: Path, target: str | None) -> str | None:
    """A column of paths to images, of which the first is there.

    Args:
        table: the source.
        folder: in which its file lies.
        target: the column to predict.
    """
    for name, values in table.columns.items():
        if name == target or name in table.kinds or not _is_text(values):
            continue
        cells = values.drop_null().to_pylist()
        if cells and all(cell.lower().endswith(SUFFIXES) for cell in cells) and (folder / cells[0]).is_file():
            return name
    return None


def text_column_of(table: Table, beside: set[str | None]) -> str | None:
    """The one column that could be learned from, if it reads like sentences.

    Args:
        table: the source.
        beside: columns that are no features.
    """
    features = [
        name for name, values in table.columns.items()
        if name not in beside and len(pc.unique(values)) > 1
    ]  # fmt: skip
    if len(features) != 1 or features[0] in table.kinds or not _is_text(table.columns[features[0]]):
        return None
    values = table.columns[features[0]].drop_null()
    words = pc.mean(pc.add(pc.count_substring_regex(pc.utf8_trim_whitespace(values), r"\s+"), 1)).as_py()
    different = len(pc.unique(values)) / max(1, len(values))
    return features[0] if words >= _WORDS and different > _DIFFERENT else None


def _is_text(values: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_string(values.type) or pa.types.is_large_string(values.type))
