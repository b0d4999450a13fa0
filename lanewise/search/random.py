"""Random search, and the seeds of everything a search draws; asked by the loop, knows no results.

Source: Bergstra and Bengio 2012, "Random Search for Hyper-Parameter Optimization", JMLR 13.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from lanewise.pruning import Direction
from lanewise.search.records import Told
from lanewise.space import Config, Space
from lanewise.study import Study


def trial_seed(study_seed: int, number: int, purpose: str) -> int:
    """A seed below 2**32 for one purpose of one trial; the same on every machine and in every version."""
    return _digest(study_seed, number, purpose) % 2**32


def trial_rng(study_seed: int, number: int, purpose: str) -> np.random.Generator:
    """A generator for one purpose of one trial; different purposes and trials are independent."""
    return np.random.default_rng(_digest(study_seed, number, purpose))


def _digest(study_seed: int, number: int, purpose: str) -> int:
    text = f"{study_seed}/{number}/{purpose}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "big")


class RandomSearch:
    """Every configuration is an independent uniform draw from the space."""

    def __init__(self, study: Study, space: Space, direction: Direction) -> None:
        self._seed, self._space = study.seed, space

    def ask(self, number: int, history: Sequence[Told]) -> Config:
        """One draw, seeded by the trial's number; the history does not matter."""
        return self._space.sample_uniform(trial_rng(self._seed, number, "ask"))
