"""Reads a folder of images, one folder a class; called by `sources`.

Every file is decoded once before anything else happens, so that a broken one is named before training and not in its
third epoch. Files whose names begin with a dot, and what is no image by its name, are left out and counted.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pyarrow as pa

from lanewise.data.images import encode, opened, pictures
from lanewise.data.memory import check_memory, free_memory
from lanewise.data.series_files import LABEL
from lanewise.data.table import DataWarning, Table, shown
from lanewise.errors import DataError
from lanewise.study import Data

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
_NAMED = 20  # broken files in a message


def read_images(root: Path, name: str, options: Data) -> Table:
    """The images of a folder: column `image`, and `class` where they lie in folders, named by the folder.

    Args:
        root: the folder.
        name: shown in messages.
        options: its limits and `max_broken`.

    Raises:
        DataError: No image; broken images beyond the declared share, each with its path and reason; a link that leads
            out of the folder; images beside class folders.
    """
    files, left_out = _listed(root, name, options.max_bytes)
    broken: dict[str, str] = {}
    several: list[str] = []
    cells: list[str] = []
    kept: list[Path] = []
    for path in files:
        content = path.read_bytes()
        try:
            image = opened(content)
        except ValueError as error:
            broken[_shown(path, root)] = str(error)
            continue
        if pictures(image) > 1:
            several.append(_shown(path, root))
        cells.append(encode(content))
        kept.append(path)
    _check_broken(broken, len(files), name, options.max_broken)
    notes = [DataWarning("files_left_out", f"{count:,} {what} left out") for what, count in left_out.items()]
    if broken:
        notes.append(DataWarning("broken_images", f"{len(broken):,} of {len(files):,} left out: {_listing(broken)}"))
    if several:
        said = f"{len(several):,} files have several pictures, of which the first counts: {shown(several)}"
        notes.append(DataWarning("several_pictures", said))
    columns = {"image": cells}
    flat = all(path.parent == root for path in kept)
    if not flat:
        columns[LABEL] = [_printable(path.relative_to(root).parts[0]) for path in kept]
    return Table(
        {key: pa.chunked_array([pa.array(values, pa.large_string())]) for key, values in columns.items()}, name,
        is_text=True, settings={"format": "images"}, notes=tuple(notes), target=None if flat else LABEL,
        kinds={"image": "image"}, places=tuple(f"{name}, {_shown(path, root)}" for path in kept),
    )


def _listed(root: Path, name: str, limit: int) -> tuple[list[Path], Counter[str]]:
    """The images' paths in order, and how many other files there are."""
    files: list[Path] = []
    left_out: Counter[str] = Counter()
    inside = root.resolve()
    for folder, folders, names in os.walk(root):
        left_out["hidden folders"] += sum(one.startswith(".") for one in folders)
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        for one in sorted(names):
            path = Path(folder) / one
            if one.startswith("."):
                left_out["hidden files"] += 1
            elif path.suffix.lower() not in SUFFIXES:
                left_out["files that are no images by their name"] += 1
            else:
                if not path.resolve().is_relative_to(inside):
                    raise DataError(
                        "a link leads out of the folder", where=_shown(path, root), given=str(path.resolve())[:200],
                        rule="images lie inside the folder", remedy="copy the file, or remove the link",
                    )
                files.append(path)
    if not files:
        raise DataError(
            "the folder has no images", where=name,
            rule=f"files named {', '.join(SUFFIXES)}, in a folder for each class",
            remedy="name the folder that holds the class folders",
        )
    loose = [path for path in files if path.parent == root]
    if loose and len(loose) < len(files):
        raise DataError(
            "images lie beside the class folders", where=name, given=shown([path.name for path in loose]),
            rule="every image lies in the folder of its class", remedy="move them into a class folder",
        )
    size = sum(path.stat().st_size for path in files)
    if size > limit:
        raise DataError("the images are larger than the limit", where=name, given=f"{size:,} bytes",
                        rule=f"at most {limit:,} bytes", remedy="raise `data: max_bytes:`, or use fewer")  # fmt: skip
    check_memory(name, size, 0, free_memory())
    return files, Counter({what: count for what, count in left_out.items() if count})


def _check_broken(broken: dict[str, str], files: int, name: str, share: float) -> None:
    if len(broken) > share * files:
        given = f"{len(broken):,} of {files:,}: {_listing(broken)}"
        raise DataError(
            "images cannot be read", where=name, given=given,
            rule=f"at most a share of {share:g} (`data: max_broken:`)" if share else "every image can be read",
            remedy="repair or remove them, or allow a share of them as `data: max_broken: 0.01`",
        )


def _listing(broken: dict[str, str]) -> str:
    return shown([f"{path} ({reason})" for path, reason in broken.items()], _NAMED)


def _shown(path: Path, root: Path) -> str:
    return _printable(str(path.relative_to(root)))


def _printable(text: str) -> str:
    """A name whose bytes are no UTF-8, with a mark in their place."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
