"""Writes files that are whole or not there: under another name, forced to the disk, then renamed.

It knows no contents: the seal, the cache of images, the registry and the records of stages use it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lanewise.errors import TrackingError


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the name `path` when everything is on the disk; nothing is left of a failure.

    Args:
        path: In a folder that exists; a file that is there is replaced.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def write_told(path: Path, what: str) -> Iterator[None]:
    """Turn what a disk refuses into one error.

    Args:
        path: Named in it.
        what: Of the file, as in "cannot write the sealed test rows".

    Raises:
        TrackingError: In place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise TrackingError(
            f"cannot write {what}", where=path, given=error.strerror,
            remedy="free space, give write permission, or set `tracking: home:` to another folder",
        ) from None
