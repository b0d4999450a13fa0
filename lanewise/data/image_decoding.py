"""An image file's bytes -> its header, and its pixels uint8 [C, H, W] by declared rules; before the readers of images.

Pillow decodes. Rules: a photo is turned as its EXIF says; of several pictures the first counts; transparency lies on
white; 16-bit greys are divided by 257; float greys are 0 to 1; all other modes become 8-bit grey or RGB by Pillow's
conversion (ITU-R 601-2 for grey). Another size is reached by bilinear resampling. It opens no file and keeps nothing.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

U8 = npt.NDArray[np.uint8]
Shape = tuple[int, int, int]  # channels, height, width

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".gif", ".bmp")
MOST_PIXELS = 50_000_000  # of one image; Pillow itself only warns from 89 million on
GREY = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
_WIDE = 257  # 65,535 / 255
_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap height and width
# What Pillow's readers raise on bytes that are no image, whatever is wrong with them.
_BROKEN = (
    OSError, SyntaxError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError,
    OverflowError, ZeroDivisionError, struct.error,
)  # fmt: skip


@dataclass(frozen=True)
class Header:
    """What an image says of itself.

    Attributes:
        height, width: in pixels, upright.
        mode: Pillow's name of the pixels' format.
        pictures: more than 1 in an animation or a TIFF of several pages.
    """

    height: int
    width: int
    mode: str
    pictures: int


def read_header(content: bytes) -> Header:
    """Size and mode, without decoding a pixel.

    Raises:
        ValueError: It is no image of a known format, or has too many pixels; with the reason.
    """
    with _opened(content) as image:
        height, width = image.height, image.width
        if image.getexif().get(ExifTags.Base.Orientation) in _TURNED:
            height, width = width, height
        several = 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))
        return Header(height, width, image.mode, several)


def decode(content: bytes, shape: Shape, resize: str) -> U8:
    """Pixels of an image.

    Args:
        content: of the file.
        shape: (1 or 3, H, W).
        resize: "stretch", "crop" (the middle, as large as the shape allows) or "pad" (black borders).

    Returns:
        uint8 [C, H, W].

    Raises:
        ValueError: The image is broken or has values no rule covers; with the reason.
    """
    channels, height, width = shape
    with _opened(content) as image:
        image.load()
        upright = _eight_bits(ImageOps.exif_transpose(image))
        if "A" in upright.getbands() or "a" in upright.getbands() or "transparency" in upright.info:
            upright = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
        plain = upright.convert("L" if channels == 1 else "RGB")
        pixels = np.asarray(_resized(plain, (width, height), resize), np.uint8)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def encode(pixels: U8) -> bytes:
    """Pixels uint8 [C, H, W] as a PNG, which decodes to the same."""
    file = io.BytesIO()
    array = pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


@contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """The image; whatever goes wrong with it is a ValueError with a reason for people."""
    if not content:
        raise ValueError("an empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of many pixels and of odd metadata; the limit is ours
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise ValueError(f"{image.width:,} x {image.height:,}, more than {MOST_PIXELS:,} pixels")
                yield image
    except UnidentifiedImageError:
        raise ValueError("no image of a known format") from None
    except Image.DecompressionBombError:  # Pillow's own limit lies above ours
        raise ValueError(f"more than {MOST_PIXELS:,} pixels") from None
    except _BROKEN as error:
        raise ValueError(str(error).strip()[:120] or type(error).__name__) from None


def _resized(image: Image.Image, size: tuple[int, int], how: str) -> Image.Image:
    if image.size == size:
        return image
    bilinear = Image.Resampling.BILINEAR
    if how == "crop":
        return ImageOps.fit(image, size, bilinear)
    if how == "pad":
        return ImageOps.pad(image, size, bilinear, color="black")
    return image.resize(size, bilinear)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Greys of more than 8 bits on the scale 0..255; others as they are."""
    if image.mode != "F" and not image.mode.startswith("I"):
        return image
    values = np.asarray(image, np.float64)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    most = 1.0 if image.mode == "F" else 65_535.0
    if np.isnan(values).any() or low < 0 or high > most:
        raise ValueError(f"grey values from {low:g} to {high:g}; they go from 0 to {most:g}")
    scaled = values * 255 if image.mode == "F" else values / _WIDE
    return Image.fromarray(np.round(scaled).astype(np.uint8))
