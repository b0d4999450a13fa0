"""How the replays of a study came out, one JSON line each, beside its ledger: what the report counts.

Written by tasks/replay.py, read by tasks/report.py. A line that a crash cut off is skipped, and the next
one begins on a line of its own; nothing is ever rewritten.

    <tracking.home>/studies/<study>/rows-<split>/replays.jsonl
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lanewise.errors import TrackingError

FILE = "replays.jsonl"


def keep(folder: Path, record: Mapping[str, Any]) -> Path | None:
    """Append one replay, durable when this returns.

    Args:
        folder: The records of the study's rows.
        record: JSON.

    Returns:
        The file; None where the study's folder is not on this machine.

    Raises:
        TrackingError: The disk is full or the file cannot be written.
    """
    if not folder.is_dir():
        return None
    path = folder / FILE
    line = json.dumps(record, sort_keys=True, allow_nan=False).encode() + b"\n"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(handle).st_size
            torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            os.write(handle, (b"\n" if torn else b"") + line)  # one write: two replays do not mix
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise TrackingError(
            f"the outcome of the replay cannot be kept: {error.strerror}", where=path,
            remedy="free space or correct permissions and replay it again",
        ) from error  # fmt: skip
    return path


def kept(folder: Path) -> list[dict[str, Any]]:
    """Every replay that was kept, oldest first; what is no whole line is left out."""
    try:
        text = (folder / FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found = []
    for line in text.splitlines():
        try:
            record = json.loads(line, parse_constant=_refuse)
        except ValueError:
            continue
        if isinstance(record, dict):
            found.append(record)
    return found


def all_kept(study_folder: Path) -> list[list[dict[str, Any]]]:
    """The replays of every rows of a study; what its report depends on."""
    return [kept(path.parent) for path in sorted(study_folder.glob(f"rows-*/{FILE}"))]


def _refuse(constant: str) -> None:
    """NaN and Infinity are no JSON; a line with one was not written here."""
    raise ValueError(constant)
