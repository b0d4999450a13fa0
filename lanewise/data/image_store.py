"""Decoded images on the disk, uint8 [N, C, H, W], memory-mapped; between the readers of images and the preprocessor.

A cell of a frame is a reference to them: `image:1x28x28:stretch:<SHA-256 of the file>`. So a frame of images is small,
however large they are, and the pixels come from the disk when they are asked for. The name of a stored array is a hash
of all it depends on (files, rules, Pillow's version): it is never wrong, only unused, and may be deleted at any time.
An array is used only if its own hash is right.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import PIL

from lanewise.data.image_decoding import U8, Shape
from lanewise.durable import whole_file, write_told
from lanewise.errors import DataError

REFERENCE = "image:"
_FORMAT = "lanewise-images-1"
_MAPPED: Literal["c"] = "c"  # writes, which nobody does, would stay in memory; torch takes no array it may not write
_places: dict[str, tuple[U8, int]] = {}  # cell -> array and row, of all stores this process has opened


def cell_of(digest: str, shape: Shape, resize: str) -> str:
    """The reference to a file's pixels.

    Args:
        digest: SHA-256 of the file.
        shape, resize: as in `image_decoding.decode`.
    """
    return f"{REFERENCE}{'x'.join(map(str, shape))}:{resize}:{digest}"


def shape_of(cell: str) -> Shape:
    """Channels, height and width behind a reference."""
    channels, height, width = (int(part) for part in cell.split(":")[1].split("x"))
    return channels, height, width


def pixels_of(cell: str) -> U8:
    """uint8 [C, H, W] behind a reference.

    Raises:
        DataError: This process has not read the image.
    """
    array, row = place_of(cell)
    pixels: U8 = array[row]
    return pixels


def place_of(cell: str) -> tuple[U8, int]:
    """The array uint8 [N, C, H, W] a reference leads to, and the row in it.

    Raises:
        DataError: This process has not read the image.
    """
    if cell not in _places:
        raise DataError(
            "a row refers to an image that was not read", given=cell[:60],
            rule="references are used in the process that read the images", remedy="read the folder or index again",
        )
    return _places[cell]


def store_images(
    folder: Path | None, digests: Sequence[str], shape: Shape, resize: str, make: Callable[[int], U8],
) -> dict[int, str]:
    """Make references work: from the array that is there, or by decoding every image once.

    Args:
        folder: where arrays are kept; None for a file that ends with the process.
        digests: SHA-256 of each file.
        shape, resize: rules of the pixels.
        make: position -> pixels uint8 [C, H, W]; raises ValueError with the reason where an image is broken.

    Returns:
        Position -> reason, of broken images; there is no reference to these.

    Raises:
        TrackingError: The folder cannot be written.
    """
    rules = json.dumps([_FORMAT, PIL.__version__, shape, resize])
    key = hashlib.sha256("\n".join([rules, *digests]).encode()).hexdigest()[:32]
    size = (len(digests), *shape)
    if folder is None:
        with tempfile.TemporaryFile() as file:
            broken, _ = _write(file, shape, len(digests), make)
            file.flush()
            array: U8 = np.memmap(file, np.uint8, _MAPPED, shape=size)
    else:
        path = folder / f"{key}.npy"
        found = _found(path, size)
        if found is None:
            with write_told(path, "the cache of decoded images"):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                with whole_file(path) as file:
                    broken, digest = _write(file, shape, len(digests), make, header=True)
                with whole_file(path.with_suffix(".json")) as file:
                    file.write(json.dumps({"sha256": digest, "broken": broken}).encode())
            array = np.load(path, mmap_mode=_MAPPED, allow_pickle=False)
        else:
            array, broken = found
    for row, digest in enumerate(digests):
        if row not in broken:
            _places[cell_of(digest, shape, resize)] = array, row
    return broken


def _found(path: Path, size: tuple[int, ...]) -> tuple[U8, dict[int, str]] | None:
    """A stored array that is whole, and which of its images are broken."""
    try:
        said = json.loads(path.with_suffix(".json").read_bytes())
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != said["sha256"]:
                return None
        array: U8 = np.load(path, mmap_mode=_MAPPED, allow_pickle=False)
        broken = {int(row): str(reason) for row, reason in said["broken"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return (array, broken) if array.shape == size and array.dtype == np.uint8 else None


def _write(
    file: BinaryIO, shape: Shape, count: int, make: Callable[[int], U8], *, header: bool = False,
) -> tuple[dict[int, str], str]:
    """All images one after another, broken ones black; which are broken, and the hash of what was written.

    Written, not mapped: a full disk is an error of a write, but would kill a process that writes through a map.
    """
    digest, broken = hashlib.sha256(), {}
    if header:
        start = _header((count, *shape))
        file.write(start)
        digest.update(start)
    for row, pixels in _made(count, make):
        if isinstance(pixels, str):
            broken[row] = pixels
            pixels = np.zeros(shape, np.uint8)
        content = pixels.tobytes()
        file.write(content)
        digest.update(content)
    return broken, digest.hexdigest()


def _made(count: int, make: Callable[[int], U8]) -> Iterable[tuple[int, U8 | str]]:
    for row in range(count):
        try:
            yield row, make(row)
        except ValueError as error:
            yield row, str(error)


def _header(size: tuple[int, ...]) -> bytes:
    """The first bytes of a NumPy file of uint8."""
    import io

    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": size})
    return file.getvalue()
