"""A search that survives its process: the loop of `run` over a ledger; resuming is running it again.

The loop is a pure function of its engine's reports. So a resumed search starts from the beginning, takes the
recorded reports in place of training, and where the record ends brings every running lane silently to
its present epoch; a lane's bits do not depend on its neighbours, so it goes on as if nothing had
happened. The loop knows nothing of all this.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Generator, Sequence
from dataclasses import replace

from lanewise.fault_points import fault
from lanewise.ledger import Ledger, Report, TrialRecord, finite
from lanewise.pruning import Direction
from lanewise.search.catch_up import catch_up
from lanewise.search.records import LaneRequest, Progress, SearchResult, Told, Trainer
from lanewise.search.run import search
from lanewise.space import Space
from lanewise.study import Study

_log = logging.getLogger(__name__)


def recorded_search(
    study: Study,
    space: Space,
    engine: Trainer,
    ledger: Ledger,
    *,
    metric: str,
    direction: Direction,
    earlier: Sequence[Told] = (),
) -> Generator[Progress, None, SearchResult]:
    """Search with every tick written down before it is yielded; continue where the ledger ends.

    Yields, returns and raises what `run.search` does. Ticks that were recorded are yielded again, marked
    `replayed`, so a consumer that mirrors them can make up for what it missed; nothing is trained in them.
    """
    recorded = RecordedEngine(engine, ledger)
    loop = search(
        study, space, recorded, metric=metric, direction=direction, elapsed=recorded.elapsed, earlier=earlier
    )
    repeated: list[TrialRecord] = []  # ended in replayed ticks: in the ledger already, but for new duplicates
    last: Progress | None = None
    while True:
        try:
            last = next(loop)
        except StopIteration as stop:
            if repeated and last is not None:
                ledger.write(last.ticks, last.elapsed_s, started=(), reports=(), ended=repeated)
            result: SearchResult = stop.value
            return result
        if recorded.replaying:
            repeated += last.ended
        else:
            ended = [*repeated, *last.ended]
            fault("before_tell")
            ledger.write(last.ticks, last.elapsed_s, started=last.started, reports=last.reports, ended=ended)
            fault("after_tell")
            engine.keep(at_rung=any(trial.state == "pruned" for trial in last.ended), stopping=False)
            repeated = []
        yield replace(last, replayed=recorded.replaying)


class RecordedEngine:
    """A `Trainer` that repeats a ledger's reports, then trains on with the engine it wraps.

    While it repeats, lanes are added to the engine and dropped from it but never trained, so that `free`
    says what it said the first time. In the first tick in which a running lane has no recorded report
    (or was recorded with another configuration), all running lanes are trained up to their present epochs.

    Args:
        engine: Empty.
        ledger: Only read here.
    """

    def __init__(self, engine: Trainer, ledger: Ledger) -> None:
        self._engine, self._ledger = engine, ledger
        self._recorded_s = ledger.ticks()
        self.replaying = bool(self._recorded_s)
        self._requests: dict[int, LaneRequest] = {}
        self._records: dict[int, list[Report]] = {}
        self._epochs: dict[int, int] = {}  # trial -> epochs reported, while replaying
        self._broken: dict[int, str] = {}  # lanes that could not be brought to their epoch
        self._seconds, self._since = 0.0, time.monotonic()

    @property
    def active(self) -> int:
        """Number of occupied lanes."""
        return self._engine.active

    def free(self, request: LaneRequest) -> bool:
        """Whether there is an empty lane for this trial."""
        return self._engine.free(request)

    def saved(self, request: LaneRequest, at_most: int) -> int:
        """Epochs from which the trial can go on."""
        return self._engine.saved(request, at_most)

    def keep(self, *, at_rung: bool, stopping: bool) -> None:
        """Write down where the lanes stand, if it is time."""
        self._engine.keep(at_rung=at_rung, stopping=stopping)

    def add(self, request: LaneRequest, epoch: int = 0) -> None:
        """Put the trial into an empty lane."""
        self._engine.add(request, epoch)
        if self.replaying:
            same = self._ledger.started_with(request.number) == (request.config, request.seed)
            self._records[request.number] = self._ledger.reports(request.number) if same else []
            self._requests[request.number], self._epochs[request.number] = request, 0

    def drop(self, number: int) -> None:
        """Empty the trial's lane."""
        if self._broken.pop(number, None) is None:
            self._engine.drop(number)
        for kept in (self._requests, self._records, self._epochs):
            kept.pop(number, None)

    def tick(self) -> Sequence[Report]:
        """Repeat one epoch of every lane where all are recorded, else train it."""
        if self.replaying:
            if all(self._epochs[n] < len(records) for n, records in self._records.items()):
                return [self._repeat(number) for number in sorted(self._requests)]
            self.replaying = False
            self._catch_up()
        reports = list(self._engine.tick())
        for number, reason in self._broken.items():
            reports.append(Report(number, self._epochs[number] + 1, math.nan, {}, failed=reason))
        return reports

    def elapsed(self, tick: int) -> float:
        """Seconds of search up to the end of a tick: recorded ones, then those of this process on top."""
        now = time.monotonic()
        if self.replaying:
            self._seconds = self._recorded_s[min(tick, len(self._recorded_s)) - 1]
        else:
            self._seconds += now - self._since
        self._since = now
        return self._seconds

    def _repeat(self, number: int) -> Report:
        self._epochs[number] += 1
        return self._records[number][self._epochs[number] - 1]

    def _catch_up(self) -> None:
        """Train every running lane up to its present epoch, all arriving in the same tick."""
        for number in self._requests:
            self._engine.drop(number)
        different: set[int] = set()
        wanted = {number: (request, self._epochs[number]) for number, request in self._requests.items()}
        for report in catch_up(self._engine, wanted):
            if _as_kept(report) != _as_kept(self._records[report.number][report.epoch - 1]):
                different.add(report.number)
            if report.failed or report.finished:
                self._broken[report.number] = report.failed or "it ended earlier than recorded"
                self._engine.drop(report.number)
        if different:
            _log.warning(
                "resuming: trials %s train differently from their record, so their numbers mix both "
                "(another machine, device or version?)",
                sorted(different),
            )


def _as_kept(report: Report) -> tuple[object, ...]:
    """A report in the form in which two of the same epoch compare equal: NaN is None."""
    scores = {name: finite(value) for name, value in report.scores.items()}
    return report.number, report.epoch, finite(report.train_loss), scores, report.finished, report.failed
