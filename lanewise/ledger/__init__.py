"""The ledger: what every trial of a study did, durable, from which a search is continued.

Reading order: `records` (what is kept), `ledger` (how), `definition` (for which study), `soundness` (whether it is
whole), `stores` and `postgres` (where), `upgrade` (of earlier versions). It decides nothing and trains nothing.
"""

from lanewise.ledger.definition import definition, network_definition
from lanewise.ledger.ledger import Ledger, read_ledger, read_trials
from lanewise.ledger.records import SIZE, Reading, Report, State, TrialRecord, curve_row, finite, size_of

__all__ = [
    "SIZE",
    "Ledger",
    "Reading",
    "Report",
    "State",
    "TrialRecord",
    "curve_row",
    "definition",
    "finite",
    "network_definition",
    "read_ledger",
    "read_trials",
    "size_of",
]
