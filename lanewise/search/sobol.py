"""Quasi-random search: scrambled Sobol points, one for each trial number; asked by the loop, knows no results.

Source: Sobol 1967, USSR Computational Mathematics and Mathematical Physics 7(4), with Owen's scrambling as
in Matousek 1998, Journal of Complexity 14; the points are scipy's.
"""

from __future__ import annotations

from collections.abc import Sequence

from lanewise.pruning import Direction
from lanewise.search.random import trial_seed
from lanewise.search.records import Told
from lanewise.space import Config, Space
from lanewise.study import Study


class Sobol:
    """Trial n gets point n of one sequence over all searched hyperparameters.

    Every hyperparameter has its own coordinate, whether it is active or not, so that a condition does not shift
    the others. The trials 1 to 2^k fill the space evenly: each of 2^k equal parts of any scale once.
    """

    def __init__(self, study: Study, space: Space, direction: Direction) -> None:
        self._space, self._names = space, space.searched()
        self._seed = trial_seed(study.seed, 0, "sobol")

    def ask(self, number: int, history: Sequence[Told]) -> Config:
        """The point of this number; the history does not matter."""
        if not self._names:
            return self._space.at({})
        from scipy.stats.qmc import Sobol as Points  # takes a second, which other strategies need not wait

        points = Points(len(self._names), scramble=True, rng=self._seed)
        if number > 1:  # scipy cannot go forward by nothing; trial 0 is the default and takes no point
            points.fast_forward(number - 1)
        (point,) = points.random(1)
        return self._space.at(dict(zip(self._names, point.tolist(), strict=True)))
