"""Reads images into a table: every file once, broken ones listed by path before anything trains; called by `sources`.

After `image_files`, before `inference`. The table's cells are references to pixels on the disk (`image_store`). Size
and mode are settled from the headers of all files, so that every split has the same shape.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lanewise.data.image_decoding import GREY, U8, Header, Shape, decode, read_header
from lanewise.data.image_files import ImageFiles, files_of_folder, files_of_index, printable
from lanewise.data.image_store import cell_of, store_images
from lanewise.data.table import DataWarning, Table, shown
from lanewise.errors import DataError
from lanewise.study import Data

IMAGE, LABEL = "image", "class"  # columns of a folder
LARGEST_SIDE = 64  # of the automatic size, where images differ
_NAMED = 50  # broken files in a message

Progress = Callable[[int, int], None]  # images done, images in all


@dataclass(frozen=True)
class Reading:
    """How images are read.

    Attributes:
        options: the study's; size and mode may still be open.
        cache: folder of decoded images; None keeps none.
        progress: told after every image.
    """

    options: Data
    cache: Path | None = None
    progress: Progress | None = None


def read_image_folder(
    root: Path, name: str, how: Reading, *, labelled: bool = True,
) -> tuple[Table, Sequence[str]]:
    """The images of a folder: column `image`, and `class` with the name of the folder each lies in.

    Args:
        root: the folder.
        name: shown in messages.
        how: rules and cache.
        labelled: whether folders are classes; see `files_of_folder`.

    Returns:
        The table, and the path of each row's image, relative to the folder.

    Raises:
        DataError: As `files_of_folder`; more images are broken than the study allows.
        TrackingError: The cache cannot be written.
    """
    return _table(files_of_folder(root, name, labelled=labelled), name, how)


def read_image_file(path: Path, how: Reading) -> tuple[Table, Sequence[str]]:
    """One image; as `read_image_folder`."""
    return _table(ImageFiles([path], [printable(path.name)]), printable(str(path)), how)


def _table(files: ImageFiles, name: str, how: Reading) -> tuple[Table, Sequence[str]]:
    cells, kept, notes, settings = _read(files, name, how)
    columns, kinds = {IMAGE: _texts([cells[i] for i in kept])}, {IMAGE: "image"}
    if files.labels:
        columns[LABEL], kinds[LABEL] = _texts([files.labels[i] for i in kept]), "category"
    names = [files.names[i] for i in kept]
    table = Table(
        columns, name, is_text=True, settings={"format": "images", **settings}, notes=tuple(notes),
        target=LABEL if files.labels else None, kinds=kinds, places=tuple(f"{name}, {one}" for one in names),
    )
    return table, names


def read_image_index(
    table: Table, root: Path, column: str, how: Reading,
) -> tuple[Table, Sequence[str]]:
    """The table of an index file with the images in place of their paths.

    Args:
        table: the index as read.
        root: folder of the index, from which relative paths start.
        column: of the paths.
        how: rules and cache.

    Returns:
        The table, and the path of each row's image as the index has it.

    Raises:
        DataError: No such column; a path that leads out of the folder; too many broken images.
        TrackingError: The cache cannot be written.
    """
    if column not in table.columns:
        raise DataError(
            "`image_paths` names a column the data do not have", where=table.name,
            given=f"{column}; the columns are {shown(list(table.columns), 12)}", remedy="correct the name",
        )
    places = [table.place(row) for row in range(table.rows)]
    paths = [None if cell is None else str(cell) for cell in table.columns[column].to_pylist()]
    files = files_of_index(root, paths, places)
    cells, kept, notes, settings = _read(files, table.name, how)
    rows = pa.array(kept, pa.int64())
    columns = {name: values.take(rows) for name, values in table.columns.items()}
    columns[column] = _texts([cells[i] for i in kept])
    names = [files.names[i] for i in kept]
    table = replace(
        table, columns=columns, settings={**(table.settings or {}), **settings}, notes=(*table.notes, *notes),
        line_of=None, places=tuple(f"{places[i]} ({files.names[i]})" for i in kept), kinds={column: "image"},
    )
    return table, names


def settled(table: Table, options: Data) -> Data:
    """The options with the size and mode of the images of a table, for a second source of the same kind."""
    size = (table.settings or {}).get("image_size")
    if size is None:
        return options
    height, width = (int(side) for side in size.split("x"))
    mode = (table.settings or {})["image_mode"]
    return options.model_copy(update={"image_size": (height, width), "image_mode": mode})


def _read(
    files: ImageFiles, name: str, how: Reading,
) -> tuple[list[str], list[int], list[DataWarning], dict[str, str]]:
    """A reference to each image, which are whole, what the user should know, and the rules as settled."""
    limit = how.options.max_bytes
    headers: dict[int, Header] = {}
    digests: dict[int, str] = {}
    broken: dict[int, str] = {}
    for i, path in enumerate(files.paths):
        try:
            content = _content(path, limit)
            headers[i], digests[i] = read_header(content), hashlib.sha256(content).hexdigest()
        except (OSError, ValueError) as error:
            broken[i] = getattr(error, "strerror", None) or str(error)
    if not headers:
        raise _too_many(broken, files, name, how.options.max_broken)
    shape, notes = _shape(list(headers.values()), how.options)
    rows = list(headers)

    def make(row: int) -> U8:
        if how.progress is not None:
            how.progress(row + 1, len(rows))
        path = files.paths[rows[row]]
        try:
            content = _content(path, limit)
        except OSError as error:
            raise ValueError(error.strerror) from None
        if hashlib.sha256(content).hexdigest() != digests[rows[row]]:
            raise DataError("an image changed while it was read", where=str(path), remedy="run the same command again")
        return decode(content, shape, how.options.image_resize)

    inside = store_images(how.cache, [digests[i] for i in rows], shape, how.options.image_resize, make)
    broken |= {rows[row]: reason for row, reason in inside.items()}
    if len(broken) > min(how.options.max_broken * len(files.paths), len(files.paths) - 1):
        raise _too_many(broken, files, name, how.options.max_broken)
    kept = [i for i in rows if i not in broken]
    cells = [cell_of(digests.get(i, ""), shape, how.options.image_resize) for i in range(len(files.paths))]
    several = [files.names[i] for i in kept if headers[i].pictures > 1]
    notes = [*_notes(files, broken, several), *notes]
    mode = "grey" if shape[0] == 1 else "rgb"
    return cells, kept, notes, {"image_size": f"{shape[1]}x{shape[2]}", "image_mode": mode}


def _content(path: Path, limit: int) -> bytes:
    """The bytes of a regular file; a pipe or a device is not waited for.

    Raises:
        OSError, ValueError: It cannot be read, is no file or too large; with the reason.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("no regular file")
        if found.st_size > limit:
            raise ValueError(f"{found.st_size:,} bytes, more than `max_bytes: {limit}`")
        return file.read()


def _shape(headers: Sequence[Header], options: Data) -> tuple[Shape, list[DataWarning]]:
    """The shape all images get: what the study says, else what the images have."""
    sizes = Counter((header.height, header.width) for header in headers)
    modes = Counter(header.mode for header in headers)
    grey = options.image_mode == "grey" or (options.image_mode == "auto" and GREY.issuperset(modes))
    if options.image_size is not None:
        height, width = options.image_size
    elif len(sizes) == 1:
        ((height, width),) = sizes
    else:
        middle = np.median(np.array(list(sizes.elements()), np.float64), axis=0)
        scale = min(1.0, LARGEST_SIDE / float(middle.max()))
        height, width = (max(1, round(float(side) * scale)) for side in middle)
    notes = []
    if set(sizes) != {(height, width)}:
        largest, smallest = max(sizes), min(sizes)
        said = (
            f"{len(sizes):,} sizes, {smallest[0]} x {smallest[1]} to {largest[0]} x {largest[1]}; all become "
            f"{height} x {width} (height x width) by `image_resize: {options.image_resize}`"
        )
        notes.append(DataWarning("image_sizes", said))
    if len(modes) > 1 or not {"L", "RGB"}.issuperset(modes) or (grey != GREY.issuperset(modes)):
        listed = ", ".join(f"{count:,} {mode}" for mode, count in sorted(modes.items()))
        notes.append(DataWarning("image_modes", f"{listed}; all become {'grey' if grey else 'RGB'}"))
    return (1 if grey else 3, height, width), notes


def _notes(files: ImageFiles, broken: dict[int, str], several: list[str]) -> list[DataWarning]:
    counted = "; ".join(f"{count:,} {what}" for what, count in files.left_out.items())
    notes = [DataWarning("other_files", counted)] if counted else []
    if broken:
        said = f"{len(broken):,} of {len(files.paths):,} left out: {_listing(broken, files)}"
        notes.append(DataWarning("broken_images", said))
    if several:
        said = f"{len(several):,} files hold several pictures, of which the first counts: {shown(several)}"
        notes.append(DataWarning("several_pictures", said))
    return notes


def _too_many(broken: dict[int, str], files: ImageFiles, name: str, share: float) -> DataError:
    return DataError(
        "images cannot be read", where=name,
        given=f"{len(broken):,} of {len(files.paths):,}: {_listing(broken, files)}",
        rule=f"at most a share of {share:g} (`data: max_broken:`)" if share else "every image can be read",
        remedy="repair or remove them, or allow a share of them to be left out: `data: max_broken: 0.01`",
    )


def _listing(broken: dict[int, str], files: ImageFiles) -> str:
    return shown([f"{files.names[i]} ({broken[i]})" for i in sorted(broken)], _NAMED)


def _texts(values: Sequence[Any]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, pa.large_string())])
