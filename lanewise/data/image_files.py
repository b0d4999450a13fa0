"""Finds image files: in a folder with a folder for each class, or by the paths of an index; before `image_reading`.

What is no image by its name, and names that begin with a dot, are left out and counted. Nothing outside the folder is
read: a link that leads out of it is refused. It opens no image.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lanewise.data.image_decoding import SUFFIXES
from lanewise.data.table import shown
from lanewise.errors import DataError

_SYSTEM = frozenset({"Thumbs.db", "desktop.ini", "__MACOSX"})  # what systems leave beside images, beside .DS_Store


@dataclass(frozen=True)
class ImageFiles:
    """Files of images.

    Attributes:
        paths: in the order of the rows.
        names: as messages show them, relative to the folder.
        labels: class of each; empty where there are none.
        left_out: what was left out -> how many.
    """

    paths: Sequence[Path]
    names: Sequence[str]
    labels: Sequence[str] = ()
    left_out: Counter[str] = field(default_factory=Counter)


def files_of_folder(root: Path, name: str, *, labelled: bool = True) -> ImageFiles:
    """All images of a folder, in the order of their paths.

    Args:
        root: the folder.
        name: shown in messages.
        labelled: whether each folder in it is a class; images in folders below that are of the same class. False takes
            all images, as a prediction does.

    Raises:
        DataError: No image; a class without one; images beside the class folders; a link that leads out of the folder.
    """
    found, left_out = _walk(root)
    if not found:
        raise DataError(
            "the folder has no images", where=name, rule=f"files named {', '.join(SUFFIXES)}",
            remedy="name the folder that holds the class folders",
        )
    names = [printable(str(path.relative_to(root))) for path in found]
    if not labelled:
        return ImageFiles(found, names, (), left_out)
    loose = [path.name for path in found if path.parent == root]
    if loose:
        raise DataError(
            "images lie beside the class folders", where=name, given=shown([printable(one) for one in loose]),
            rule="every image lies in the folder of its class",
            remedy="move them into class folders, or name an index file (CSV) with a column of paths and one of labels",
        )
    labels = [printable(path.relative_to(root).parts[0]) for path in found]
    _check_classes(root, name, set(labels))
    deeper = sum(len(path.relative_to(root).parts) > 2 for path in found)
    if deeper:
        left_out["images in folders inside a class folder, taken as of that class"] = deeper
    return ImageFiles(found, names, labels, left_out)


def files_of_index(root: Path, cells: Sequence[str | None], places: Sequence[str]) -> ImageFiles:
    """The files an index names.

    Args:
        root: folder of the index, from which relative paths start.
        cells: the path of each row.
        places: where each row stands, for messages.

    Raises:
        DataError: A row without a path, or one that leads out of the folder.
    """
    inside, paths = root.resolve(), []
    for cell, place in zip(cells, places, strict=True):
        if not cell:
            raise DataError("a row names no image", where=place, rule="every row has a path", remedy="remove the row")
        path = root / cell
        if not _resolved(path).is_relative_to(inside):
            raise _leads_out(place, cell)
        paths.append(path)
    return ImageFiles(paths, [printable(str(cell)) for cell in cells])


def printable(text: str) -> str:
    """A name whose bytes are no UTF-8, with those bytes as hexadecimal numbers."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _walk(root: Path) -> tuple[list[Path], Counter[str]]:
    found: list[Path] = []
    left_out: Counter[str] = Counter()
    inside = root.resolve()
    for folder, folders, names in os.walk(root):
        kept = sorted(one for one in folders if not _hidden(one))
        left_out["hidden folders"] += len(folders) - len(kept)
        folders[:] = kept
        for one in [*kept, *sorted(names)]:
            path = Path(folder, one)
            if path.is_symlink() and not _hidden(one) and not _resolved(path).is_relative_to(inside):
                raise _leads_out(printable(str(path.relative_to(root))), str(_resolved(path)))
        left_out["links to folders"] += sum(Path(folder, one).is_symlink() for one in kept)
        for one in sorted(names):
            if _hidden(one):
                left_out["hidden files"] += 1
            elif Path(one).suffix.lower() not in SUFFIXES:
                left_out["files that are no images by their name"] += 1
            else:
                found.append(Path(folder, one))
    return sorted(found), Counter({what: count for what, count in left_out.items() if count})


def _check_classes(root: Path, name: str, labels: set[str]) -> None:
    folders = [one for one in root.iterdir() if one.is_dir() and not one.is_symlink() and not _hidden(one.name)]
    empty = sorted({printable(one.name) for one in folders} - labels)
    if empty:
        raise DataError(
            "class folders without an image", where=name, given=shown(empty), rule="every class has images",
            remedy="remove the folders, or bring images",
        )
    if {label.lower() for label in labels} == {"train", "test"}:
        raise DataError(
            "the folder holds the folders train and test, not classes", where=name, given=shown(sorted(labels)),
            rule="a folder for each class",
            remedy=f"write `source: {name}/train` and `test_source: {name}/test`; `lanewise init {name}` does",
        )


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in _SYSTEM


def _resolved(path: Path) -> Path:
    """Where a path leads; itself where nobody can say, for example because its name is too long."""
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, or a zero byte
        return Path(os.path.normpath(path))


def _leads_out(place: str, to: str) -> DataError:
    return DataError(
        "a path leads out of the folder of the images", where=place, given=printable(to)[:200],
        rule="images lie inside the folder", remedy="copy the file into it, or remove the entry",
    )
