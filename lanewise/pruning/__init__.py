"""Which lanes stop before their training ends; fed by the search, which drops the lanes.

One file for each algorithm; `pruner_of` makes the one that a study names. Nothing here has a clock, random
numbers or memory, so a search that is replayed stops the same trials.
"""

from lanewise.pruning.asha import Asha
from lanewise.pruning.choice import pruner_of
from lanewise.pruning.hyperband import Hyperband
from lanewise.pruning.median import Median
from lanewise.pruning.rungs import Direction, Group, NoPruner, Pruner, better, rungs, spare

__all__ = [
    "Asha", "Direction", "Group", "Hyperband", "Median", "NoPruner", "Pruner", "better", "pruner_of", "rungs",
    "spare",
]  # fmt: skip
