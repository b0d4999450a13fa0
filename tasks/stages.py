"""Results of stages on disk under the hash of everything they depend on, so that nothing is done twice.

A stage asks for its result before it works and keeps it after. A result is a folder that appears under its
name only when it is whole: `record.json` with the SHA-256 of every file beside it. Plain files, so that a
run needs no server to know what was done, and no reader runs code. This module decides nothing.

    <tracking.home>/stages/<stage>-<key>/record.json, ...
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lanewise.durable import sync_folder
from lanewise.errors import TrackingError

RECORD = "record.json"
FORMAT = 1


def digest(*parts: object) -> str:
    """First 16 hexadecimal digits of the SHA-256 of JSON values; the same values give the same text."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def code_version() -> str:
    """Hash of the source code that decides results: lanewise, models and tasks, not the order of flows."""
    found = hashlib.sha256()
    for package in ("lanewise", "models", "tasks"):
        spec = find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            root = Path(place)
            for path in sorted(root.rglob("*.py")):
                found.update(f"{package}/{path.relative_to(root).as_posix()}\n".encode())
                found.update(path.read_bytes())
    return found.hexdigest()[:16]


@dataclass(frozen=True)
class StageResult:
    """Where a stage's result lies: small, so that it passes from task to task.

    Args:
        stage: Its name.
        key: The hash of everything it depends on.
        folder: Where it lies.
        identity: The hash of the result; later stages depend on it, not on how it was reached.
    """

    stage: str
    key: str
    folder: str
    identity: str

    def read(self) -> dict[str, Any]:
        """What was kept: `says`, `seconds` and the stage's own `result`."""
        record: dict[str, Any] = json.loads((Path(self.folder) / RECORD).read_text(encoding="utf-8"))[
            "record"
        ]
        return record

    @property
    def result(self) -> dict[str, Any]:
        """The stage's own record."""
        result: dict[str, Any] = self.read()["result"]
        return result

    def path(self, name: str) -> Path:
        """One of its files."""
        return Path(self.folder) / name


class StageStore:
    """All stage results of one home.

    Args:
        home: The study's `tracking.home`, absolute.
    """

    def __init__(self, home: Path) -> None:
        self.root = home / "stages"

    def folder(self, stage: str, key: str) -> Path:
        """Where a result lies or will lie."""
        return self.root / f"{stage}-{key}"

    def find(self, stage: str, key: str) -> StageResult | None:
        """The result of a stage, or None where there is none or its files were changed or removed."""
        folder = self.folder(stage, key)
        try:
            kept = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            whole = kept["format"] == FORMAT and all(
                file_digest(folder / name) == sha for name, sha in kept["files"].items()
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return StageResult(stage, key, str(folder), kept["identity"]) if whole else None

    def keep(
        self, stage: str, key: str, record: Mapping[str, Any], files: Mapping[str, bytes] | None = None
    ) -> StageResult:
        """Keep a result: all of it or nothing, and durable when this returns.

        Args:
            stage: Its name.
            key: The hash of everything it depends on.
            record: JSON.
            files: File name -> content, beside the record.

        Raises:
            TrackingError: The disk is full or the folder cannot be written.
        """
        files = files or {}
        kept = {
            "format": FORMAT,
            "stage": stage,
            "key": key,
            "identity": digest(record.get("result", record)),
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
            "record": record,
        }
        text = json.dumps(kept, indent=1, allow_nan=False).encode()
        target = self.folder(stage, key)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            new = Path(tempfile.mkdtemp(prefix=f".{stage}-", dir=self.root))
            try:
                for name, content in {**files, RECORD: text}.items():
                    _write_durably(new / name, content)
                sync_folder(new)
                if (
                    target.exists()
                ):  # damaged, or kept by a run beside this one: the same inputs, the same result
                    shutil.rmtree(target, ignore_errors=True)
                new.rename(target)
                sync_folder(self.root)
            except BaseException:
                shutil.rmtree(new, ignore_errors=True)
                raise
        except OSError as error:
            raise TrackingError(
                f"the result of {stage} cannot be kept: {error.strerror}", where=target,
                remedy="free space or correct permissions and run the same command again",
            ) from error  # fmt: skip
        return StageResult(stage, key, str(target), str(kept["identity"]))


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())

