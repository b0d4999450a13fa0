"""What the strategies with generations (cmaes, nsga2) share: results in the order they came, and how many are one.

Told by the loop through the history, so a generation is a function of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from lanewise.search.records import Told
from lanewise.study import Study


def ended(history: Sequence[Told]) -> list[Told]:
    """The complete and the pruned trials, in the order in which they ended; later results only add to the end."""
    results = [t for t in history if t.state in ("complete", "pruned") and t.value is not None]
    return sorted(results, key=lambda trial: (trial.begun + trial.epochs, trial.number))


def population_of(study: Study, searched: int) -> int:
    """Trials of a generation: `search.population`, else the rule of CMA-ES, 4 + 3 ln(dimensions).

    Source: Hansen 2016, "The CMA Evolution Strategy: A Tutorial", equation 48.
    """
    return study.search.population or 4 + math.floor(3 * math.log(max(searched, 1)))
