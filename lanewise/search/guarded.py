"""Lanes of which one may fail without harm to the others; `run.search` and `recorded` train through it.

Where a tick is cut off by an exception, or by the end of the process that trained, nobody knows which lane it
was. So every lane is brought back to its last epoch and trained for one epoch alone: a lane's bits do not
depend on its neighbours, and the ones that come through have what they would have had. Which lane fails is
told in its report; the search decides what that means. Trains nothing itself.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lanewise.errors import DataError, StudyError, TrackingError
from lanewise.ledger import Report
from lanewise.search.catch_up import catch_up
from lanewise.search.causes import Cause, cause_of
from lanewise.search.deaths import Deaths
from lanewise.search.records import LaneRequest, Trainer

_log = logging.getLogger(__name__)


class Restartable(Trainer, Protocol):
    """A trainer that can be emptied whatever has become of it, and remembers lanes meanwhile."""

    def restart(self, chunk: int | None) -> None:
        """Forget all lanes and whatever state training was left in; step at most `chunk` lanes at once."""
        ...

    def put_aside(self, number: int) -> None:
        """Remember where a lane stands, so that `saved` names this epoch, also after a restart."""
        ...

    def forget(self, number: int) -> None:
        """The lane's state is not asked for again."""
        ...


@dataclass
class _Held:
    request: LaneRequest
    epoch: int
    inside: bool = False  # the engine has it


class GuardedLanes:
    """A `records.Trainer` over one that may fail at any time.

    Args:
        lanes: Empty.
        capacity: Most lanes at once.
        attempts: How often a lane that ends the process it trains in is tried alone; and how often this whole
            process may be killed in one tick before its lanes are trained one by one to find the one that does it,
            and then with the same one alone before that one counts as it.
        deaths: Where such ends are counted; None counts none.
    """

    def __init__(
        self, lanes: Restartable, capacity: int, attempts: int = 3, deaths: Deaths | None = None
    ) -> None:
        self._lanes, self._capacity, self._attempts, self._deaths = lanes, capacity, attempts, deaths
        self._held: dict[int, _Held] = {}
        self._chunk: int | None = None

    @property
    def active(self) -> int:
        """Number of occupied lanes."""
        return len(self._held)

    def free(self, request: LaneRequest) -> bool:
        """Whether there is an empty lane; every lane takes every shape."""
        return len(self._held) < self._capacity

    def saved(self, request: LaneRequest, at_most: int) -> int:
        """Epochs from which the trial can go on; none where the trainer cannot say."""
        try:
            return self._lanes.saved(request, at_most)
        except Exception as error:  # noqa: BLE001 - the process may end at any time
            self._restart(cause_of(error))
            return 0

    def add(self, request: LaneRequest, epoch: int = 0) -> None:
        """Give the trial a lane; it is built at the next tick, where its failure can be told."""
        self._held[request.number] = _Held(request, epoch)

    def drop(self, number: int) -> None:
        """Empty the trial's lane."""
        held = self._held.pop(number, None)
        if held is None:
            return
        try:
            if held.inside:
                self._lanes.drop(number)
            self._lanes.forget(number)
        except Exception as error:  # noqa: BLE001 - as above
            self._restart(cause_of(error))

    def keep(self, *, at_rung: bool, stopping: bool) -> None:
        """Write down where the lanes stand, if it is time."""
        try:
            if not all(held.inside for held in self._held.values()):
                if not stopping:
                    return  # the lanes are put aside; what was kept before stays
                self._enter()
            self._lanes.keep(at_rung=at_rung, stopping=stopping)
        except Exception as error:  # noqa: BLE001 - as above
            self._restart(cause_of(error))

    def tick(self) -> Sequence[Report]:
        """One epoch of every lane; a lane that fails says why in its report."""
        if self._deaths and self._held:
            killed, alone, times = self._deaths.begin({n: held.epoch for n, held in self._held.items()})
            if killed >= self._attempts:
                cause = Cause(f"the run was killed {killed} times in this epoch")
                poison = alone if times >= self._attempts else None
                return self._took(self._one_by_one(cause, poison))
        try:
            self._enter()
            reports = list(self._lanes.tick())
        except (StudyError, DataError, TrackingError):
            raise  # not a lane's doing
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a network does
            cause = cause_of(error)
        else:
            return self._took(reports)
        return self._took(self._one_by_one(cause))

    def _took(self, reports: list[Report]) -> list[Report]:
        for report in reports:
            self._held[report.number].epoch = report.epoch
        return reports

    def _enter(self) -> None:
        """Put the lanes that wait outside into the engine."""
        outside = {n: held for n, held in self._held.items() if not held.inside}
        late = {
            n: (held.request, held.epoch)
            for n, held in outside.items()
            if held.epoch and self._lanes.saved(held.request, held.epoch) != held.epoch
        }
        for _ in catch_up(self._lanes, late):  # after a restart only: the engine is empty
            pass
        for number, held in outside.items():
            if number not in late:
                self._lanes.add(held.request, held.epoch)
            held.inside = True

    def _restart(self, cause: Cause) -> None:
        _log.warning("training starts anew from the last states kept: %s", cause.reason)
        self._empty()

    def _empty(self) -> None:
        self._lanes.restart(self._chunk)
        for held in self._held.values():
            held.inside = False

    def _one_by_one(self, cause: Cause, poison: int | None = None) -> list[Report]:
        """One epoch of every lane but `poison`, each alone; all of them are outside afterwards."""
        if len(self._held) > 1:
            _log.info("%s; its %d lanes train one after another for an epoch", cause.reason, len(self._held))
        self._empty()
        reports = []
        for number in sorted(self._held):
            if number == poison:
                alone = f"{self._attempts} times in a row while this trial trained alone"
                reason = f"{cause.reason}, {alone}: a poison trial"
                reports.append(Report(number, self._held[number].epoch + 1, math.nan, {}, failed=reason))
                continue
            if self._deaths:
                self._deaths.alone(number)
            reports.append(self._alone(number))
        if len(reports) > 1 and not any(report.failed for report in reports):
            # None fails by itself: together they need too much, or it was an accident. Fewer at once from now on.
            self._chunk = max(1, (self._chunk or len(reports)) // 2)
            _log.warning("%s; %d lanes step at once from now on", cause.reason, self._chunk)
        self._empty()
        return reports

    def _alone(self, number: int) -> Report:
        """One epoch of one lane, with no other in the engine."""
        held = self._held[number]
        tries = 0
        while True:
            try:
                return self._epoch_alone(held)
            except (StudyError, DataError, TrackingError):
                raise
            except (Exception, SystemExit) as error:  # noqa: BLE001 - as in tick
                cause = cause_of(error)
            self._lanes.restart(self._chunk)
            tries += 1
            if not cause.worth_another or tries >= self._attempts:
                times = f", {tries} times alone: a poison trial" if cause.worth_another and tries > 1 else ""
                return Report(number, held.epoch + 1, math.nan, {}, failed=cause.reason + times)

    def _epoch_alone(self, held: _Held) -> Report:
        number = held.request.number
        for report in catch_up(self._lanes, {number: (held.request, held.epoch)}):
            if report.failed or report.finished:
                raise RuntimeError(report.failed or "it ended earlier than before")
        (report,) = self._lanes.tick()
        if not report.failed and not report.finished:
            self._lanes.put_aside(number)
        self._lanes.drop(number)
        return report
