"""One trial while the loop holds it: what it was asked, how far it came, how it ended.

Made and changed by `run`; it says what the ledger keeps of it and what a strategy may know. It decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lanewise.ledger import State, TrialRecord
from lanewise.search.proposals import Proposal
from lanewise.search.records import Told


@dataclass
class Trial:
    """A trial's state in the loop."""

    number: int
    proposal: Proposal
    seed: int
    begun_s: float
    begun: int  # ticks before its first epoch
    state: State | None = None  # None: running
    reason: str | None = None
    value: float | None = None
    epochs: int = 0
    best_epoch: int | None = None
    seconds: float = 0.0
    audited_from: int | None = None  # the epoch at which the pruner would have stopped it
    objective: list[float] = field(default_factory=list)
    curve: list[dict[str, float | None]] = field(default_factory=list)

    def record(self) -> TrialRecord:
        """What became of it."""
        assert self.state is not None  # it has ended
        return TrialRecord(
            self.number,
            self.proposal.config,
            self.seed,
            self.state,
            self.reason,
            self.value,
            self.epochs,
            self.best_epoch,
            self.curve,
            self.proposal.control,
            self.seconds,
            self.proposal.duplicate_of,
            self.audited_from,
        )

    def told(self) -> Told:
        """What a strategy may know of it; not asked of duplicates, nor of an audited trial after its stop."""
        assert self.state != "duplicate"
        return Told(
            self.number,
            self.proposal.config,
            self.state or ("running" if self.audited_from is None else "pruned"),
            self.value,
            self.epochs,
            tuple(self.objective),
            self.begun,
            tuple(self.curve),
        )
