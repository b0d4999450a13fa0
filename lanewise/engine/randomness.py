"""Where every random number of a lane comes from; used by stack and pool, knows nothing of neighbours.

Each draw has its own generator, seeded from (the lane's seed, the stream's name, the epoch). Nothing is
carried from one epoch to the next, so a lane can be resumed or replayed at any epoch without stored
generator states, and no draw depends on who trains beside it. Draws happen on the CPU on every device,
so a lane sees the same numbers wherever it trains.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn


def stream_seed(seed: int, *path: object) -> int:
    """A 63-bit seed for one named stream of one lane (SHA-256 of the path, so streams do not overlap)."""
    text = "/".join(str(part) for part in (seed, *path))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *path: object) -> torch.Generator:
    """A CPU generator for one named stream of one lane."""
    return torch.Generator().manual_seed(stream_seed(seed, *path))


def numbers(seed: int, *path: object) -> np.random.Generator:
    """numpy's generator for one named stream of one lane, for what is drawn for a whole epoch at once."""
    return np.random.Generator(np.random.PCG64(stream_seed(seed, *path)))


def epoch_order(seed: int, epoch: int, rows: int, batch: int) -> np.ndarray:
    """The order in which a lane sees its training rows in one epoch.

    Every batch is full: the last one is filled up from the front of the permutation, so shapes never
    change and every row is seen at least once.

    Args:
        seed: The lane's seed.
        epoch: 0-based epoch.
        rows: Number of training rows.
        batch: Rows in a batch; at most `rows`.

    Returns:
        int64 array [steps, batch], steps = ceil(rows / batch).
    """
    order = torch.randperm(rows, generator=generator(seed, "order", epoch)).numpy()
    steps = -(-rows // batch)
    return np.resize(order, steps * batch).reshape(steps, batch)


class MaskStream:
    """Dropout decisions of one lane in one epoch, drawn in step order in blocks of any size."""

    def __init__(self, seed: int, epoch: int) -> None:
        self._generator = generator(seed, "dropout", epoch)
        self._mark = self._generator.get_state()

    def mark(self) -> None:
        """Where `rewind` comes back to."""
        self._mark = self._generator.get_state()

    def rewind(self) -> None:
        """Draw again what was drawn since the mark."""
        self._generator.set_state(self._mark)

    def draw(self, steps: int, size: int) -> torch.Tensor:
        """Uniform 16-bit integers, int16 [steps, size]; `size` must be a multiple of 4."""
        raw = torch.empty(steps * size // 4, dtype=torch.int64)
        raw.random_(-(2**63), None, generator=self._generator)
        return raw.view(torch.int16).view(steps, size)


def keep_threshold(rate: float) -> int:
    """A 16-bit draw keeps its unit when it is at least this; -32768 keeps all. Rates round to 1/65,536."""
    return round(rate * 65536) - 32768


def own_seed(seed: int, epoch: int | str, place: int) -> int:
    """Seeds what a network draws by itself: in a step of an epoch, or on a batch of rows in "evaluation"."""
    return stream_seed(seed, "own", epoch, place)


@contextmanager
def drawing_from(seed: int, device: torch.device) -> Iterator[None]:
    """The process's own generators (torch's, numpy's, Python's), seeded for what is inside and then as before.

    For networks that draw by themselves (torch.rand, F.dropout): inside it they draw from the lane's stream.
    """
    known = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(known[0])
            np.random.set_state(known[1])


@contextmanager
def watched_draws() -> Iterator[list[str]]:
    """A list that has an entry, when the `with` ends, if something inside drew from numpy's or Python's generator."""
    drew: list[str] = []
    before = _state()
    yield drew
    if _state() != before:
        drew.append("numpy or Python")


def _state() -> tuple[object, ...]:
    numbers: Any = np.random.get_state()
    return random.getstate(), bytes(numbers[1]), numbers[2]


def own_generators(module: nn.Module) -> list[tuple[nn.Module, str]]:
    """Where a network keeps random generators as attributes."""
    kinds = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
    return [(m, name) for m in module.modules() for name, value in vars(m).items() if isinstance(value, kinds)]


def seed_generators_of(module: nn.Module, seed: int) -> None:
    """Give a network's own generators a seed."""
    for owner, name in own_generators(module):
        old = getattr(owner, name)
        if isinstance(old, torch.Generator):
            old.manual_seed(seed)
        elif isinstance(old, np.random.Generator):
            setattr(owner, name, np.random.default_rng(seed))
        else:
            old.seed(seed % 2**32)
