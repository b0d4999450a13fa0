"""The strategy that `search: strategy: auto` becomes, by a rule of budget, lanes and space; proposes nothing itself.

The rule is a pure function of the study and its space, so a search that is continued chooses the same. The answers are
those of the chosen strategy, to the bit.

Where no trial can learn from another, TPE is random search, and Sobol's points fill the space more evenly (Bergstra and
Bengio 2012, "Random Search for Hyper-Parameter Optimization", JMLR 13, section 5). Everywhere else it is TPE: the only
strategy here that takes choices, ranges, conditions and free lanes at once and answers in milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lanewise.pruning import Direction
from lanewise.search.records import Strategy, Told
from lanewise.search.sobol import Sobol
from lanewise.search.tpe import TPE
from lanewise.space import Config, Space
from lanewise.study import Search, Study


@dataclass(frozen=True)
class Choice:
    """What `auto` became.

    Args:
        strategy: Its name.
        why: In words.
    """

    strategy: str
    why: str

    @property
    def words(self) -> str:
        """For people, in one line."""
        return f"{self.strategy}: {self.why}"


def choose(search: Search, space: Space) -> Choice:
    """The strategy for a search.

    Args:
        search: Its `warm_start`, `trials`, `startup`, `noise_seeds` and `lanes` are used.
        space: The declared space or the narrowed one: narrowing changes no answer.
    """
    if search.warm_start:
        return Choice("tpe", "earlier studies say where to look")
    if not space.searched():
        return Choice("tpe", "nothing is searched")
    trials = search.trials
    if trials is None:
        return Choice("tpe", "results come before the budget is spent")
    if trials - max(1, search.noise_seeds) < search.startup:  # of the default's seeds only the first is told
        return Choice("sobol", f"with {trials} trials no one has {search.startup} results to learn from")
    if search.lanes != "auto" and search.lanes >= trials:
        return Choice("sobol", f"all {trials} trials train at once, so none can learn from another")
    return Choice("tpe", f"of {trials} trials the later ones learn from the earlier")


class Auto:
    """The chosen strategy.

    Args:
        study: Its `search` decides.
        space: What is searched.
        direction: Of the objective.
    """

    def __init__(self, study: Study, space: Space, direction: Direction) -> None:
        self.choice = choose(study.search, space)
        made: type[Sobol] | type[TPE] = Sobol if self.choice.strategy == "sobol" else TPE
        self._strategy: Strategy = made(study, space, direction)

    def ask(self, number: int, history: Sequence[Told]) -> Config | None:
        """What the chosen strategy answers."""
        return self._strategy.ask(number, history)
