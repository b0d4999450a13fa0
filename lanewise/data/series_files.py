"""Reads series: `.ts` files of the UCR and UEA archives, and NumPy archives (`.npz`); called by `sources`.

Every channel becomes a column of texts that list its numbers, the label a column `class`.
"""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lanewise.data.encodings import decode
from lanewise.data.image_decoding import encode
from lanewise.data.images import file_cell
from lanewise.data.table import Table, shown
from lanewise.errors import DataError

LABEL = "class"
SPLIT = "split"


def read_ts(content: bytes, name: str, encoding: str = "auto") -> Table:
    """A `.ts` file: lines with `@` say what it is; then a row a line, channels with `:` between them, the label last.

    Args:
        content: of the file.
        name: shown in messages.
        encoding: as in the study; headers and labels may hold any letters.

    Raises:
        DataError: It is not written so, with the line.
    """
    text, _, notes = decode(content, name, encoding)
    lines = [line.rstrip("\r") for line in text.decode().split("\n")]
    start, header = _header(lines, name)
    labelled = header.get("classlabel", header.get("targetlabel", "true")).lower().startswith("true")
    if header.get("timestamps", "false").lower() == "true":
        raise DataError("the series have time stamps", where=name, rule="@timeStamps false",
                        remedy="write values at equal distances without time stamps")  # fmt: skip
    rows: list[list[str]] = []
    places: list[int] = []
    for number, line in enumerate(lines[start:], start + 1):
        if line.strip() and not line.startswith(("#", "%")):
            rows.append(line.strip().split(":"))
            places.append(number)
    if not rows:
        raise DataError("the file has 0 rows", where=name, rule="a series a line behind @data")
    width = len(rows[0])
    for parts, number in zip(rows, places, strict=True):
        if len(parts) != width:
            raise DataError(
                "a line has another number of channels", where=f"{name}, line {number}",
                given=f"{len(parts)} parts", rule=f"{width}, as in the first row", remedy="correct the line",
            )
    channels = width - labelled
    if channels < 1:
        raise DataError("the rows have no channel", where=name, given=rows[0][0][:60],
                        rule="channels, then a colon, then the label")  # fmt: skip
    columns = {f"dim_{i}": [parts[i] for parts in rows] for i in range(channels)}
    kinds = dict.fromkeys(columns, "series")
    if labelled:
        columns[LABEL] = [parts[-1].strip() for parts in rows]
    return Table(
        {key: _texts(values) for key, values in columns.items()}, name, is_text=True, settings={"format": "ts"},
        line_of=places.__getitem__, target=LABEL if labelled else None, kinds=kinds, notes=tuple(notes),
    )


def _header(lines: list[str], name: str) -> tuple[int, dict[str, str]]:
    """Number of lines up to `@data`, and what the lines before it say."""
    header: dict[str, str] = {}
    for number, line in enumerate(lines):
        if line.strip().lower() == "@data":
            return number + 1, header
        if line.startswith("@"):
            key, _, value = line[1:].strip().partition(" ")
            header[key.lower()] = value.strip()
        elif line.strip() and not line.startswith(("#", "%")):
            raise DataError("a line stands before @data", where=f"{name}, line {number + 1}", given=line[:60],
                            rule="lines with @ or #, then @data, then the rows")  # fmt: skip
    raise DataError("the file has no line @data", where=name, rule="the rows of a .ts file come behind it")


def read_npz(content: bytes, name: str, limit: int) -> Table:
    """A NumPy archive: `X` and `y`, or `X_train`, `y_train`, `X_test`, `y_test`, which give a column `split`.

    Whole numbers from 0 to 255 [N, H, W] or [N, H, W, 3] are images; other arrays are series [N, L] or [N, C, L].

    Args:
        content: of the file.
        name: shown in messages.
        limit: most bytes of its arrays.

    Raises:
        DataError: It lacks these arrays, holds Python objects, or they do not fit together.
    """
    arrays = _arrays(content, name, limit)
    parts = [(split, f"X_{split}", f"y_{split}") for split in ("train", "valid", "test") if f"X_{split}" in arrays]
    parts = parts or [("", "X", "y")]
    wanted = [key for _, x, y in parts for key in (x, y)]
    absent = [key for key in wanted if key not in arrays]
    if absent:
        raise DataError("the archive lacks arrays", where=name, given=f"it has {shown(sorted(arrays))}",
                        rule="X and y, or X_train, y_train, X_test, y_test",
                        remedy=f"add {', '.join(absent)}")  # fmt: skip
    shapes = {arrays[x].shape[1:] for _, x, _ in parts}
    if len(shapes) > 1:
        raise DataError("the parts differ in shape", where=name, given=" and ".join(map(str, sorted(shapes))))
    for _, x, y in parts:
        if arrays[y].shape != arrays[x].shape[:1]:
            raise DataError(f"{x} and {y} differ in length", where=name,
                            given=f"{arrays[x].shape} and {arrays[y].shape}", rule="one label a row")  # fmt: skip
    values = np.concatenate([arrays[x] for _, x, _ in parts])
    labels = [str(label) for _, _, y in parts for label in arrays[y].tolist()]
    columns, kinds = _cells(values, name)
    columns[LABEL] = labels
    if parts[0][0]:
        columns[SPLIT] = [split for split, x, _ in parts for _ in range(len(arrays[x]))]
    texts = {key: _texts(cells) for key, cells in columns.items()}
    return Table(texts, name, is_text=True, settings={"format": "npz"}, target=LABEL, kinds=kinds)


def _arrays(content: bytes, name: str, limit: int) -> dict[str, npt.NDArray[Any]]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > limit:
            raise DataError("the archive is larger than the limit", where=name, given=f"{size:,} bytes unpacked",
                            rule=f"at most {limit:,}", remedy="raise `data: max_bytes:`")  # fmt: skip
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(
            "the NumPy archive cannot be read", where=name, given=str(error)[:100],
            rule="arrays of numbers or texts, without Python objects", remedy="write it again with numpy.savez",
        ) from None


def _cells(values: npt.NDArray[Any], name: str) -> tuple[dict[str, list[str]], dict[str, str]]:
    """The input as columns of texts, and their kinds."""
    if values.dtype == np.uint8 and (values.ndim == 3 or (values.ndim == 4 and values.shape[3] in (1, 3))):
        return {"image": [_png(pixels) for pixels in values]}, {"image": "image"}
    if values.ndim == 2:
        values = values[:, None]
    if values.ndim != 3 or values.dtype.kind not in "iuf":
        raise DataError(
            "the array is no series and no images", where=name, given=f"{values.dtype} {values.shape}",
            rule="numbers [N, L] or [N, C, L], or uint8 [N, H, W] or [N, H, W, 3]",
        )
    rows = values.astype(np.float64).tolist()
    columns = {
        f"dim_{c}": [",".join("?" if v != v else repr(v) for v in row[c]) for row in rows]
        for c in range(values.shape[1])
    }
    return columns, dict.fromkeys(columns, "series")


def _png(pixels: npt.NDArray[np.uint8]) -> str:
    return file_cell(encode(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)))


def _texts(values: list[str]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, pa.large_string())])
