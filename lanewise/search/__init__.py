"""The search: strategies propose, lanes train, rungs prune; comes after lr_range, before evaluate.

`recorded_search` is what a pipeline calls: a generator that yields `Progress` after every tick, returns
`SearchResult` and survives its process. `search` is the same loop without a record. The engine comes in
as a `Trainer`. This folder is the only one that imports Optuna.
"""

from lanewise.ledger import Report, TrialRecord
from lanewise.search.audit import audit_words
from lanewise.search.auto import choose
from lanewise.search.cells import cells_words, grid_ledger, require_whole
from lanewise.search.grid import Grid
from lanewise.search.recorded import recorded_search
from lanewise.search.records import Audit, Cell, LaneRequest, Progress, SearchResult, Strategy, Told, Trainer
from lanewise.search.run import search
from lanewise.search.strategies import STRATEGIES, strategy_of

__all__ = [
    "STRATEGIES", "Audit", "Cell", "Grid", "LaneRequest", "Progress", "Report", "SearchResult", "Strategy", "Told",
    "Trainer", "TrialRecord", "audit_words", "cells_words", "choose", "grid_ledger", "recorded_search", "require_whole",
    "search", "strategy_of",
]  # fmt: skip
