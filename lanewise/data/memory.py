"""Estimates the memory a table will take before it is read; called by the readers. It reads no table."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lanewise.errors import DataError

# Peak of prepare, measured on text tables of 2 to 20 bytes a cell: numbers, categories and ids (within 40 %).
BYTE_COST = 4  # bytes of memory per byte of the source
CELL_COST = 56  # bytes of memory per cell


def check_memory(name: str, size: int, cells: int, free: int) -> None:
    """Refuse a source that would not fit.

    Args:
        name: the source, for the message.
        size: its bytes, decompressed.
        cells: rows times columns; 0 where not known yet.
        free: bytes of memory that are free.

    Raises:
        DataError: With what is needed and what is free.
    """
    need = BYTE_COST * size + CELL_COST * cells
    if need > free:
        raise DataError(
            "the source does not fit into memory", where=name, given=f"about {need / 2**20:,.0f} MiB needed",
            rule=f"{free / 2**20:,.0f} MiB are free", remedy="use fewer columns or rows, or a larger machine",
        )


def free_memory() -> int:
    """Bytes this process may still take: the least that machine, container and process limits leave."""
    limits = [2**62]
    pages = os.sysconf("SC_PAGE_SIZE")
    try:
        words = Path("/proc/meminfo").read_text(encoding="ascii").split()
        limits.append(int(words[words.index("MemAvailable:") + 1]) * 1024)
        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            limits.append(soft - int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * pages)
        group = Path("/sys/fs/cgroup")
        most = (group / "memory.max").read_text(encoding="ascii").strip()
        if most != "max":
            limits.append(int(most) - int((group / "memory.current").read_text(encoding="ascii")))
    except (OSError, ValueError):
        pass  # not Linux, or no limit to read: what was found so far counts
    return max(min(limits), 0)


@contextmanager
def memory_told(name: str) -> Iterator[None]:
    """Turn a lack of memory, which the estimate did not foresee, into a DataError."""
    try:
        yield
    except MemoryError:
        raise DataError(
            "the source does not fit into memory", where=name, given="memory ran out",
            remedy="use fewer columns or rows, Parquet instead of text, or a larger machine",
        ) from None
