"""Images as numbers: cells -> float32 [N, C, H, W], standardised per channel by training rows; after `inference`.

A cell is a reference to pixels that `image_reading` put on the disk, or an image file in base64: sealed rows, stored
examples and rows from elsewhere carry their pixels with them, and `portable` makes such cells of references.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lanewise.data.columns import Columns, Layout
from lanewise.data.image_decoding import GREY, U8, Header, Shape, decode, encode, read_header
from lanewise.data.image_store import REFERENCE, pixels_of, place_of, shape_of
from lanewise.data.memory import free_memory
from lanewise.data.preprocessing import F32, F64, I64, standardised
from lanewise.data.table import DataWarning
from lanewise.errors import DataError
from lanewise.study import Data

LEVELS = 256  # of a pixel


@dataclass(frozen=True, eq=False)
class ImagePreprocessor:
    """Scaling of one set of training rows.

    Attributes:
        columns: the column of the images and their shape [C, H, W]; `how["resize"]` says how it is reached.
        means, deviations: float64 [C], of all pixels of the training rows, on the scale 0..255.
    """

    columns: Columns
    means: F64
    deviations: F64

    @property
    def layout(self) -> Layout:
        """The shape of what `transform` returns."""
        return self.columns.layout

    @property
    def levels(self) -> F32:
        """What a pixel's value 0..255 becomes, float32 [C, 256]."""
        values = np.arange(LEVELS, dtype=np.float64)
        return standardised(values, self.means[:, None], self.deviations[:, None])

    def transform(self, frame: pd.DataFrame) -> tuple[F32, I64]:
        """Arrays for a network.

        Args:
            frame: [N] rows with at least the column of the images.

        Returns:
            x_num float32 [N, C, H, W]; x_cat int64 [N, 0].

        Raises:
            DataError: The column is missing, a cell is no image, or the numbers would not fit into memory.
        """
        _check_room(len(frame), self.columns.shape)
        x = np.zeros((len(frame), *self.columns.shape), np.float32)
        table_CV, channels = self.levels, np.arange(len(self.means))[:, None, None]
        for row, pixels in enumerate(_pixels(frame, self.columns)):
            x[row] = table_CV[channels, pixels]
        return x, np.zeros((len(frame), 0), np.int64)

    def unseen(self, frame: pd.DataFrame) -> dict[str, int]:
        """What new rows have that the training rows had not -> number of rows; nothing: every image is resized."""
        return {}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; floats keep every bit."""
        moments = {"means": self.means.tolist(), "deviations": self.deviations.tolist()}
        return {"columns": self.columns.to_json(), **moments}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ImagePreprocessor:
        """What `to_json` wrote; it transforms to the same bits."""
        moments = (np.asarray(data[name], np.float64) for name in ("means", "deviations"))
        return cls(Columns.from_json(data["columns"]), *moments)


def plan_images(frame: pd.DataFrame, options: Data) -> tuple[Columns, list[DataWarning]]:
    """Size and channels: what the reader settled, or for cells in base64 what the study says or all have in common.

    Args:
        frame: development rows, the column of the images.
        options: its `image_*` fields.

    Raises:
        DataError: Images in base64 differ in size and the study names none; a cell is no image.
    """
    (name,) = (str(column) for column in frame.columns)
    shapes = Counter(_shape_of(str(cell), options) for cell in frame[name])
    if len(shapes) > 1:
        listed = ", ".join(f"{h} x {w} ({count:,})" for (_, h, w), count in shapes.most_common(4))
        raise DataError(
            "the images differ in size or mode", given=listed, rule="one size and mode",
            remedy="write `data: image_size: [28, 28]` and `image_mode: rgb`, or grey",
        )
    (shape,) = shapes
    how = {"resize": options.image_resize}
    return Columns((), {}, (), (), (), {}, "image", (name,), shape, 0, how), []


def fit_images(frame: pd.DataFrame, columns: Columns) -> ImagePreprocessor:
    """Fit on a frame that holds the training rows and no others: mean and deviation of each channel's pixels.

    Pixels are counted by their value, so the numbers are exact and do not depend on the order of the rows.
    """
    channels = columns.shape[0]
    counts = np.zeros((channels, LEVELS), np.int64)
    for pixels in _pixels(frame, columns):
        for channel in range(channels):
            counts[channel] += np.bincount(pixels[channel].ravel(), minlength=LEVELS)
    moments = [_moments(of_channel) for of_channel in counts]
    means, deviations = (np.array(values, np.float64) for values in zip(*moments, strict=True))
    return ImagePreprocessor(columns, means, deviations)


def stored_rows(frame: pd.DataFrame, columns: Columns) -> tuple[U8, I64] | None:
    """Where the pixels of a frame lie: one array uint8 [M, C, H, W], and the row of each image, int64 [N].

    None where they lie in several arrays or in the cells.
    """
    if columns.kind != "image" or not len(frame):
        return None
    cells = frame[columns.inputs[0]].astype(str).tolist()
    if not all(cell.startswith(REFERENCE) for cell in cells):
        return None
    places = [place_of(cell) for cell in cells]
    array = places[0][0]
    if any(other is not array for other, _ in places) or array.shape[1:] != columns.shape:
        return None
    return array, np.array([row for _, row in places], np.int64)


def portable(frame: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """A frame whose images are in its cells, to be kept or sent; other kinds of data are as they are.

    Args:
        frame: rows of a `Dataset`.
        columns: its columns.
    """
    if columns.kind != "image":
        return frame
    (name,) = columns.inputs
    cells = [
        file_cell(encode(pixels_of(cell))) if cell.startswith(REFERENCE) else cell
        for cell in frame[name].astype(str)
    ]
    return frame.assign(**{name: pd.Series(cells, index=frame.index, dtype="str")})


def file_cell(content: bytes) -> str:
    """A cell that holds an image file."""
    return base64.b64encode(content).decode("ascii")


def _moments(counts: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Mean and population deviation of values that occur so often; deviation 1 where all are equal."""
    levels, total = np.arange(LEVELS, dtype=np.float64), max(1, int(counts.sum()))
    mean = float((counts * levels).sum() / total)
    if np.count_nonzero(counts) < 2:
        return mean, 1.0
    return mean, float(np.sqrt((counts * (levels - mean) ** 2).sum() / total))


def _check_room(rows: int, shape: tuple[int, ...]) -> None:
    need, free = 4 * rows * int(np.prod(shape)), free_memory()
    if need > free:
        raise DataError(
            "the images do not fit into memory as float32", given=f"{need / 2**20:,.0f} MiB for {rows:,} images",
            rule=f"{free / 2**20:,.0f} MiB are free", remedy="write a smaller `data: image_size:`, or use fewer images",
        )


def _shape_of(cell: str, options: Data) -> Shape:
    if cell.startswith(REFERENCE):
        return shape_of(cell)
    header = _told(cell, lambda content: read_header(content))
    assert isinstance(header, Header)  # what read_header returns
    height, width = options.image_size or (header.height, header.width)
    grey = options.image_mode == "grey" or (options.image_mode == "auto" and header.mode in GREY)
    return (1 if grey else 3), height, width


def _pixels(frame: pd.DataFrame, columns: Columns) -> Iterator[U8]:
    """uint8 [C, H, W] of every row."""
    (name,) = columns.inputs
    if name not in frame.columns:
        raise DataError(
            "the column of the images is missing", given=f"no {name}", rule="the column the model was fitted on"
        )
    channels, height, width = columns.shape
    shape, resize = (channels, height, width), str(columns.how.get("resize", "stretch"))
    for cell in frame[name]:
        if str(cell).startswith(REFERENCE):
            pixels = pixels_of(str(cell))
            if pixels.shape != shape:
                raise DataError(
                    "an image was read in another shape than the model's", given=str(pixels.shape), rule=str(shape),
                )
            yield pixels
        else:
            decoded = _told(str(cell), lambda content: decode(content, shape, resize))
            assert isinstance(decoded, np.ndarray)  # what decode returns
            yield decoded


def _told(cell: str, read: Any) -> object:
    """What a reader makes of a cell in base64."""
    try:
        return read(base64.b64decode(cell, validate=True))
    except (binascii.Error, ValueError) as error:
        raise DataError(
            "a cell is no image", given=str(error)[:100], rule="an image file in base64",
            remedy="correct or remove the row",
        ) from None
