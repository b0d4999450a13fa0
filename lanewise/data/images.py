"""Images as arrays: cells that hold an image file in base64 -> float32 [N, C, H, W]; after `inference`.

A cell is a PNG, JPEG, WebP or TIFF as it lay in its file, so sealed rows, stored examples and requests to a served
model are images too. Pillow decodes it. Rules: grey images stay grey, all others become RGB; transparency lies on
white; 16-bit and float images are scaled to 0..255 by their own smallest and largest value; of several pictures the
first counts. Sizes other than the network's are resampled bilinearly.
"""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, UnidentifiedImageError

from lanewise.data.columns import Columns, Layout
from lanewise.data.preprocessing import F32, F64, I64, mean_and_deviation, standardised
from lanewise.data.table import DataWarning
from lanewise.errors import DataError
from lanewise.study import Data

U8 = npt.NDArray[np.uint8]
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF")
MOST_PIXELS = 50_000_000  # of one image; Pillow itself only warns from 89 million on
LARGEST_SIDE = 64  # of the automatic size, where images differ
GREY = frozenset({"1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F"})


@dataclass(frozen=True, eq=False)
class ImagePreprocessor:
    """Scaling of one set of training rows.

    Attributes:
        columns: the column of the images and their shape [C, H, W].
        means, deviations: float64 [C], of all pixels of the training rows, on the scale 0..255.
    """

    columns: Columns
    means: F64
    deviations: F64

    @property
    def layout(self) -> Layout:
        """The shape of what `transform` returns."""
        return self.columns.layout

    def transform(self, frame: pd.DataFrame) -> tuple[F32, I64]:
        """Arrays for a network.

        Args:
            frame: [N] rows with at least the column of the images.

        Returns:
            x_num float32 [N, C, H, W]; x_cat int64 [N, 0].

        Raises:
            DataError: The column is missing, or a cell is no image.
        """
        pixels = _pixels(frame, self.columns)
        scale = self.means[:, None, None], self.deviations[:, None, None]
        return standardised(pixels.astype(np.float64), *scale), np.zeros((len(frame), 0), np.int64)

    def one_hot(self, x_num: F32, x_cat: I64) -> F32:
        """The one input of a network: x_num."""
        return x_num

    def unseen(self, frame: pd.DataFrame) -> dict[str, int]:
        """What new rows have that the training rows had not -> number of rows."""
        _, height, width = self.columns.shape
        other = sum(_header(cell)[:2] != (height, width) for cell in frame[self.columns.inputs[0]])
        return {f"images of another size than {height} x {width}": other} if other else {}

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
    """Size and channels, from the development rows.

    Args:
        frame: development rows, the column of the images.
        options: its `image_*` fields.
    """
    (name,) = (str(column) for column in frame.columns)
    headers = [_header(cell) for cell in frame[name]]
    sizes, modes = Counter(header[:2] for header in headers), Counter(header[2] for header in headers)
    notes = []
    if options.image_size is not None:
        height = width = options.image_size
    elif len(sizes) == 1:
        ((height, width),) = sizes
    else:
        sides = np.median(np.array(list(sizes.elements())), axis=0)
        height, width = (min(LARGEST_SIDE, round(float(side))) for side in sides)
        said = f"{len(sizes):,} sizes; all are resampled to {height} x {width}, `image_size` changes it"
        notes.append(DataWarning("image_sizes", said, name))
    grey = options.image_mode == "grey" or (options.image_mode == "auto" and GREY.issuperset(modes))
    if len(modes) > 1 or not {"L", "RGB"}.issuperset(modes):
        listed = ", ".join(f"{count:,} {mode}" for mode, count in modes.most_common())
        notes.append(DataWarning("image_modes", f"{listed}; all become {'grey' if grey else 'RGB'}", name))
    shape = (1 if grey else 3, height, width)
    return Columns((), {}, (), (), (), {}, "image", (name,), shape), notes


def fit_images(frame: pd.DataFrame, columns: Columns) -> ImagePreprocessor:
    """Fit on a frame that holds the training rows and no others: mean and deviation of each channel's pixels."""
    pixels = _pixels(frame, columns)
    moments = [mean_and_deviation(pixels[:, channel].astype(np.float64).ravel()) for channel in range(pixels.shape[1])]
    means, deviations = (np.array(values, np.float64) for values in zip(*moments, strict=True))
    return ImagePreprocessor(columns, means, deviations)


def encode(content: bytes) -> str:
    """A file's content as a cell."""
    return base64.b64encode(content).decode("ascii")


def opened(content: bytes) -> Image.Image:
    """A file's content as an image whose pixels are read.

    Raises:
        ValueError: It is no image of a known format, is broken, or has too many pixels; with the reason.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of many pixels and of odd metadata; the limit is ours
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"{image.width:,} x {image.height:,} pixels, more than {MOST_PIXELS:,}")
            image.load()
    except UnidentifiedImageError:
        raise ValueError(f"no {', '.join(FORMATS)} image" if content else "an empty file") from None
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(str(error).strip() or type(error).__name__) from None
    return image


def pictures(image: Image.Image) -> int:
    """How many pictures a file has; more than one in an animation or a TIFF of several pages."""
    return int(getattr(image, "n_frames", 1))


def _image_of(cell: str) -> Image.Image:
    try:
        return opened(base64.b64decode(cell, validate=True))
    except (binascii.Error, ValueError) as error:
        raise DataError(
            "a cell is no image", given=str(error)[:100],
            rule=f"{', '.join(FORMATS)}, in base64", remedy="correct or remove the row",
        ) from None


@lru_cache(maxsize=200_000)
def _header(cell: str) -> tuple[int, int, str]:
    """Height, width and mode of an image."""
    image = _image_of(cell)
    return image.height, image.width, image.mode


def _pixels(frame: pd.DataFrame, columns: Columns) -> U8:
    """uint8 [N, C, H, W]."""
    (name,) = columns.inputs
    if name not in frame.columns:
        raise DataError(
            "the column of the images is missing", given=f"no {name}", rule="the column the model was fitted on"
        )
    channels, height, width = columns.shape
    out = np.zeros((len(frame), *columns.shape), np.uint8)
    for row, cell in enumerate(frame[name]):
        out[row] = _decoded(str(cell), channels, height, width)
    return out


@lru_cache(maxsize=20_000)
def _decoded(cell: str, channels: int, height: int, width: int) -> U8:
    """uint8 [C, H, W] of one image."""
    image = _eight_bits(_image_of(cell))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.uint8)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and float greys on the scale 0..255; others as they are."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values = np.nan_to_num(np.asarray(image, np.float64))
    low, high = values.min(), values.max()
    if image.mode != "F" and low >= 0 and high <= 255:
        return Image.fromarray(values.astype(np.uint8))
    scaled = (values - low) / (high - low) * 255 if high > low else np.zeros_like(values)
    return Image.fromarray(np.round(scaled).astype(np.uint8))
