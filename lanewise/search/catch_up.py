"""Brings lanes back to epochs they had reached: after a crash, or where some must be trained without a neighbour.

Used by `recorded` and `guarded`. Lanes start from their checkpoint where the trainer has one, else from their
start, each so early that all arrive in the same tick. A lane's bits do not depend on its neighbours, so what
they report on the way is what they reported before; the caller may compare it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lanewise.ledger import Report
from lanewise.search.records import LaneRequest, Trainer


def catch_up(engine: Trainer, wanted: Mapping[int, tuple[LaneRequest, int]]) -> Iterator[Report]:
    """Train lanes to their epochs; afterwards the engine holds them all.

    Args:
        engine: With none of these lanes in it.
        wanted: Trial number -> its request and the epochs it had trained.

    Yields:
        The reports on the way. A lane that is finished or failed before its epoch must be dropped by the
        caller then.
    """
    starts = {number: engine.saved(request, epochs) for number, (request, epochs) in wanted.items()}
    left = {number: epochs - starts[number] for number, (_, epochs) in wanted.items()}
    for ticks in range(max(left.values(), default=0), -1, -1):
        for number in sorted(n for n in wanted if left[n] == ticks):  # the furthest behind first
            engine.add(wanted[number][0], starts[number])
        if ticks:
            yield from engine.tick()
