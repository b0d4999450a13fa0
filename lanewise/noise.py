"""The noise floor: how far two trainings of one configuration may lie apart by their seeds alone.

Fed by a search with the scores of the default under several seeds; its stop rule and the report measure
differences by it. It is a pure function of scores and knows no trial.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from lanewise.study import NOISE_SEEDS


@dataclass(frozen=True)
class NoiseFloor:
    """Spread of one configuration's scores over seeds, in units of the objective.

    Attributes:
        scores: number of trainings.
        mean: of their scores.
        spread: standard deviation of their scores.
        floor: difference of two single trainings that seeds alone exceed with probability 1 - confidence.
        confidence: for example 0.95.
    """

    scores: int
    mean: float
    spread: float
    floor: float
    confidence: float


def noise_floor(scores: Sequence[float], confidence: float) -> NoiseFloor | None:
    """The floor t * s * sqrt(2): s is the scores' standard deviation, t Student's quantile of n - 1 degrees.

    It assumes that scores of other configurations spread as those of this one do, and about normally.

    Args:
        scores: Of n trainings that differ by their seed only.
        confidence: With which a smaller difference is called noise.

    Returns:
        None where there are fewer than three scores.
    """
    if len(scores) < NOISE_SEEDS:
        return None
    from scipy.special import stdtrit

    spread = statistics.stdev(scores)
    quantile = float(stdtrit(len(scores) - 1, (1 + confidence) / 2))
    floor = quantile * spread * math.sqrt(2)
    return NoiseFloor(len(scores), statistics.fmean(scores), spread, floor, confidence)
