"""The sealed test rows: written once by prepare, opened once by register, and every opening is on record.

Nothing that trains or searches holds a `Seal`; a `Dataset` knows no path to it. Opening needs the frozen
configuration, so that a score on these rows cannot have chosen it. The record comes before the rows.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lanewise.data.table import TARGET
from lanewise.durable import sync_folder, whole_file, write_told
from lanewise.errors import DataError

OPENINGS = "openings.jsonl"


@dataclass(frozen=True)
class Seal:
    """Test rows nobody reads before the configuration is frozen.

    Attributes:
        path: the Parquet file, mode 600.
        sha256: of that file.
        rows: how many rows it holds.
    """

    path: Path
    sha256: str
    rows: int

    def open(self, frozen_configuration: str) -> tuple[pd.DataFrame, npt.NDArray[Any]]:
        """Break the seal: the opening is recorded and on disk before any row is returned.

        Args:
            frozen_configuration: the canonical text of the one configuration that will be scored.

        Returns:
            The rows' features, and their target (class codes int64, or values float64).

        Raises:
            DataError: No frozen configuration is given; the file is gone or is not the one that was sealed.
        """
        if not isinstance(frozen_configuration, str) or frozen_configuration.strip() in ("", "{}", "null"):
            raise DataError(
                "the test rows stay sealed: no frozen configuration is given", where=self.path,
                given=repr(frozen_configuration)[:80],
                rule="one configuration is chosen first, then tested once",
                remedy="finish the search and the evaluation, then register",
            )
        content = self._verified()
        self._record(frozen_configuration)
        table = pq.read_table(pa.BufferReader(content))
        target = table.column(TARGET).to_numpy()
        return frame_of(table.drop_columns([TARGET])), target

    def openings(self) -> list[dict[str, Any]]:
        """All openings of these test rows so far, oldest first; of other configurations and studies too."""
        path = self.path.parent / OPENINGS
        if not path.exists():
            return []
        content = path.read_bytes()
        complete = content[: content.rfind(b"\n") + 1]  # a line torn by a crash is none
        return [json.loads(line) for line in complete.splitlines()]

    def _verified(self) -> bytes:
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise DataError(
                "the sealed test rows cannot be read", where=self.path, given=error.strerror,
                remedy="prepare again: the same source and study seal the same rows",
            ) from None
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise DataError(
                "the sealed test rows were changed", where=self.path, rule=f"SHA-256 {self.sha256}",
                remedy="find out who changed the file; prepare again to restore it from the source",
            )
        return content

    def _record(self, frozen_configuration: str) -> None:
        record = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"), "seal": self.sha256, "rows": self.rows,
            "configuration": hashlib.sha256(frozen_configuration.encode()).hexdigest(),
        }
        path = self.path.parent / OPENINGS
        with write_told(path, "the sealed test rows"):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                content = os.pread(handle, os.fstat(handle).st_size, 0)
                if content and not content.endswith(b"\n"):
                    os.ftruncate(handle, content.rfind(b"\n") + 1)
                os.write(handle, json.dumps(record).encode() + b"\n")
                os.fsync(handle)
            finally:
                os.close(handle)
            sync_folder(path.parent)


def write_seal(folder: Path, name: str, frame: pd.DataFrame, target: npt.NDArray[Any]) -> Seal:
    """Seal test rows in `folder/name`, readable by their owner only; the same rows give the same file.

    Raises:
        TrackingError: The folder cannot be written.
    """
    table = pa.Table.from_pandas(frame, preserve_index=False).append_column(TARGET, pa.array(target))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    content = sink.getvalue().to_pybytes()
    path, digest = folder / name, hashlib.sha256(content).hexdigest()
    with write_told(path, "the sealed test rows"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not (path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest):
            with whole_file(path) as file:
                file.write(content)
        path.chmod(0o600)
    return Seal(path, digest, len(frame))


def frame_of(table: pa.Table) -> pd.DataFrame:
    """An Arrow table as the frame it was made from: float64, str and datetime64."""
    frame: pd.DataFrame = table.to_pandas(date_as_object=False)
    return frame
