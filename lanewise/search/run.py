"""The search loop: ask, train a tick, prune, tell, again; strategies before it, the engine beneath it.

The loop is a pure function of study, space and reports (but for a budget in seconds): all that it decides
it decides at ticks, in the order of trial numbers, with draws seeded by trial number. It writes nothing
down; a search that shall survive a crash runs through `search.recorded`.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence

from lanewise.errors import SearchError
from lanewise.ledger import Report, State, TrialRecord, curve_row
from lanewise.noise import NoiseFloor, noise_floor
from lanewise.pruning import Direction, Group, better, pruner_of, spare
from lanewise.search.audit import audit, is_audited
from lanewise.search.auto import Auto
from lanewise.search.budget import Budget, stalled
from lanewise.search.cells import grid_ledger
from lanewise.search.objectives import pareto_front
from lanewise.search.proposals import Proposals
from lanewise.search.random import trial_seed
from lanewise.search.records import (
    FollowsSlopes,
    Improvement,
    InRounds,
    LaneRequest,
    Progress,
    SearchResult,
    Told,
    Trainer,
)
from lanewise.search.strategies import strategy_of
from lanewise.search.trial import Trial
from lanewise.space import Space
from lanewise.study import Study


def search(
    study: Study,
    space: Space,
    engine: Trainer,
    *,
    metric: str,
    direction: Direction,
    elapsed: Callable[[int], float] | None = None,
    earlier: Sequence[Told] = (),
) -> Generator[Progress, None, SearchResult]:
    """Search; yields after every tick, returns the result.

    Lanes are filled in the order of trial numbers. The next trial is asked for only when a lane may be
    empty; if there is none for its shape, the answer is thrown away and the same number is asked again
    after a lane was emptied, with what was told by then. So no trial overtakes another, and none is
    asked earlier than it must be.

    Args:
        study: Its `search`, `train`, `lr_range.control_share` and `seed` are used.
        space: What to search, narrowed if it was.
        engine: Trains the lanes; no lane of it may be in use.
        metric: The objective; reports have it as `valid/<metric>`.
        direction: Whether higher or lower values of it are better.
        elapsed: Tick -> seconds of search up to its end; without it, wall-clock time.
        earlier: Ended trials of earlier studies, which the strategy is told before its own; see `warm_start`.

    Raises:
        SearchError: Too many trials failed in a row, or none completed.
    """
    loop = _Loop(study, space, engine, metric, direction, elapsed or _stopwatch(), earlier)
    while not loop.over:
        progress = loop.step()
        if progress is not None:
            yield progress
        loop.give_up_if_hopeless()
    return loop.result()


def _stopwatch() -> Callable[[int], float]:
    start = time.monotonic()
    return lambda tick: time.monotonic() - start


class _Loop:
    """The state of one search between two ticks."""

    def __init__(
        self,
        study: Study,
        space: Space,
        engine: Trainer,
        metric: str,
        direction: Direction,
        elapsed: Callable[[int], float],
        earlier: Sequence[Told],
    ) -> None:
        self._study, self._space, self._engine, self._elapsed = study, space, engine, elapsed
        self._metric, self._direction, self._earlier = metric, direction, earlier
        self._strategy = strategy_of(study, space, direction)
        self._slopes = self._strategy.slopes if isinstance(self._strategy, FollowsSlopes) else ()
        self._proposals = Proposals(study, space, self._strategy)
        grid = self._proposals.grid
        self._budget = Budget.of(study.search, len(grid.planned) if grid else None)
        self._pruner = pruner_of(study, direction)
        self._rungs: dict[Group, dict[int, float]] = {}  # who is compared -> trial -> score
        self._trials: list[Trial] = []
        self._running: dict[int, Trial] = {}
        self._seen: dict[str, int] = {}  # key -> the first trial that had it
        self._waiting: dict[int, list[Trial]] = {}  # running trial -> its duplicates
        self._ended: list[TrialRecord] = []  # since the last progress
        self._improvements: list[Improvement] = []
        self._told: dict[int, Told] = {}  # of the trials that have ended, in that order; audited ones at their stop
        self._full = False  # the last trial asked for found no lane, and none was emptied since
        self._ending: str | None = None  # why no more trials are asked for
        self._ticks, self._seconds, self._epochs, self._lanes = 0, 0.0, 0, 0
        self.over = False

    def step(self) -> Progress | None:
        """Fill, train one tick, judge; None where nothing happened any more."""
        started = self._fill()
        self._cut()
        reports: list[Report] = []
        if self._running:
            reports = self._tick()
            for report in reports:
                self._take(report)
            self._prune([r.number for r in reports])
        else:
            self.over = True
        if not reports and not self._ended:
            return None
        return self._progress(started, reports)

    def give_up_if_hopeless(self) -> None:
        """End the search where failures leave nothing to hope for.

        Raises:
            SearchError: With the three commonest reasons.
        """
        row = longest = 0
        for trial in self._trials:  # by number: at the start the fast failures of many lanes come first
            if trial.proposal.duplicate_of is None and trial.proposal.retry_of is None:
                row = row + 1 if trial.state == "failed" and trial.audited_from is None else 0
                longest = max(longest, row)
        limit = self._study.search.max_failures
        if longest >= limit:
            what, rule = f"{longest} trials in a row failed", f"fewer than {limit} (search: max_failures)"
        elif self.over and not self._any_complete():
            what, rule = "no trial completed", "at least one complete trial"
        else:
            return
        # "nonfinite loss at epoch 3" and "... at epoch 7" are one reason
        failed = (trial.reason or "" for trial in self._trials if trial.state == "failed")
        reasons = Counter(reason.split(" at epoch ")[0] for reason in failed).most_common(3)
        raise SearchError(
            what,
            where=f"study {self._study.name}",
            rule=rule,
            given="; ".join(f"{count} x {reason}" for reason, count in reasons) or "no failures",
            remedy="lower the range of lr, or correct what the reasons name",
        )

    def result(self) -> SearchResult:
        """The result of a search that is over."""
        best = self._best([t for t in self._trials if t.state == "complete"])
        assert best is not None  # else the search has given up
        trials, grid = tuple(trial.record() for trial in self._trials), self._proposals.grid
        repeats = tuple(trial.number for trial in self._trials if trial.proposal.repeat)
        objectives = self._study.search.objectives
        front = pareto_front(trials, objectives, self._direction, repeats) if objectives else ()
        return SearchResult(
            metric=self._metric,
            direction=self._direction,
            best=front[0] if front else best.number,
            trials=trials,
            epochs_spent=self._epochs,
            epochs_full=self._epochs_full(),
            seconds=self._seconds,
            lanes=self._lanes,
            strategy=self._study.search.strategy,
            chosen=self._strategy.choice.words if isinstance(self._strategy, Auto) else None,
            space=self._space.to_json(),
            ending=self._ending or self._spent(),
            improvements=tuple(self._improvements),
            rounds=self._strategy.rounds(self._history()) if isinstance(self._strategy, InRounds) else (),
            grid=grid_ledger(grid, trials) if grid else None,
            repeats=repeats,
            noise=self._noise(),
            audit=audit(self._study, self._trials, self._direction),
            earlier=len(self._earlier),
            objectives=objectives,
            front=front,
        )

    def _best(self, trials: Sequence[Trial]) -> Trial | None:
        """The first of those with the best value."""
        sign = -1.0 if self._direction == "maximize" else 1.0
        ranked = [
            (sign * t.value, t.number, t) for t in trials if t.value is not None and not t.proposal.repeat
        ]
        return min(ranked)[2] if ranked else None

    def _fill(self) -> list[Trial]:
        """Put the next trials into empty lanes, in the order of their numbers."""
        started: list[Trial] = []
        while not self._full and self._may_ask():
            number = len(self._trials)
            proposal = self._proposals.propose(
                number, self._history(), self._seen, self._duplicates_in_a_row()
            )
            if proposal is None:
                self._full = self._retries_may_come()  # then it is asked again when a trial has ended
                if not self._full:
                    what = "cell of the grid" if self._proposals.grid else "configuration of the space"
                    self._ending = f"every {what} was tried: there are {self._tried()}"
                break
            seed = trial_seed(self._study.seed, number, "lane")
            trial = Trial(number, proposal, seed, self._seconds, self._ticks)
            if proposal.duplicate_of is None:
                train = self._study.train
                request = LaneRequest(number, proposal.config, trial.seed, train.epochs, train.patience, self._slopes)
                self._full = not self._engine.free(request)
                if self._full:
                    break
                self._engine.add(request)
                self._running[number] = trial
                if not proposal.repeat:
                    self._seen[proposal.key] = number
                started.append(trial)
            self._trials.append(trial)
            if proposal.duplicate_of is not None:
                self._stand_in(trial, self._trials[proposal.duplicate_of])
        if self._full and not self._running:
            raise SearchError(
                "no lane is free for a trial though none is in use", given=f"trial {len(self._trials)}"
            )
        self._lanes = max(self._lanes, len(self._running))
        return started

    def _retries_may_come(self) -> bool:
        """Whether a running trial would be asked for again if it failed."""
        return self._proposals.grid is not None and bool(self._running)

    def _tried(self) -> int:
        grid = self._proposals.grid
        return len(grid.cells) if grid else len(self._seen)

    def _spent(self) -> str:
        """Which budget is spent to the point where nothing runs and no trial more fits."""
        by_clock = self._budget.spent_by(1, self._epochs, self._seconds)
        if by_clock is not None and self._budget.another_trial(len(self._trials)):
            return by_clock
        return f"the budget of {len(self._trials)} trials is spent"

    def _may_ask(self) -> bool:
        if self._ending is None and self._stalled():
            patience, noise = self._study.search.patience, self._noise()
            beyond = f" beyond the noise floor of {noise.floor:.4g}" if noise else ""
            self._ending = f"{patience} trials brought no progress{beyond}"
        if self._ending is not None or not self._budget.another_trial(len(self._trials)):
            return False
        return self._budget.spent_by(len(self._running) + 1, self._epochs, self._seconds) is None

    def _stalled(self) -> bool:
        patience = self._study.search.patience
        if patience == 0 or any(trial.proposal.repeat for trial in self._running.values()):
            return False  # the floor is not known yet
        noise = self._noise()
        values = [told.value for told in self._ends()]
        return stalled(values, self._direction, noise.floor if noise else 0.0, patience)

    def _noise(self) -> NoiseFloor | None:
        """What the default's complete trainings say of noise."""
        seeds = self._trials[: self._study.search.noise_seeds]
        scores = [trial.value for trial in seeds if trial.state == "complete" and trial.value is not None]
        return noise_floor(scores, self._study.evaluate.confidence)

    def _any_complete(self) -> bool:
        return any(trial.state == "complete" and not trial.proposal.repeat for trial in self._trials)

    def _ends(self) -> list[Told]:
        """The trials that have ended, in that order, as pruner and patience know them; without repeats."""
        return [told for told in self._told.values() if not self._trials[told.number].proposal.repeat]

    def _history(self) -> list[Told]:
        """What the strategy may know: earlier studies' trials, no duplicates, and the default once."""
        proposed = ((trial, trial.proposal) for trial in self._trials)
        originals = (trial for trial, p in proposed if p.duplicate_of is None and not p.repeat)
        return [*self._earlier, *(self._told.get(trial.number) or trial.told() for trial in originals)]

    def _duplicates_in_a_row(self) -> int:
        count = 0
        while count < len(self._trials) and self._trials[-1 - count].proposal.duplicate_of is not None:
            count += 1
        return count

    def _stand_in(self, duplicate: Trial, original: Trial) -> None:
        """Give the duplicate its original's value, at once or when the original ends."""
        if original.state is None:
            self._waiting.setdefault(original.number, []).append(duplicate)
            return
        duplicate.state, duplicate.value = "duplicate", original.value
        duplicate.reason = f"same configuration as trial {original.number}"
        self._ended.append(duplicate.record())

    def _cut(self) -> None:
        """Stop the running trials where the budget ends, but for one if none has completed yet."""
        reason = self._budget.spent_by(len(self._running), self._epochs, self._seconds)
        if reason is None or not self._running:
            return
        self._ending = reason
        for number in self._but_one(sorted(self._running)):
            self._end(self._running[number], "pruned", reason)

    def _but_one(self, stopping: Sequence[int]) -> list[int]:
        """`stopping` without the one trial that must go on so that at least one completes."""
        running = self._running.items()
        competing = {n: t for n, t in running if not t.proposal.repeat and t.audited_from is None}
        complete = any(told.state == "complete" for told in self._ends())
        if not competing or not competing.keys() <= set(stopping) or complete:
            return list(stopping)
        standing = {n: (trial.epochs, trial.value) for n, trial in competing.items()}
        kept = spare(standing, self._direction)
        return [number for number in stopping if number != kept]

    def _tick(self) -> list[Report]:
        reports = sorted(self._engine.tick(), key=lambda report: report.number)
        self._ticks += 1
        self._seconds = self._elapsed(self._ticks)
        expected = {number: trial.epochs + 1 for number, trial in self._running.items()}
        if len(reports) != len(expected) or {r.number: r.epoch for r in reports} != expected:
            given = [(report.number, report.epoch) for report in reports]
            raise RuntimeError(f"the engine reported (trial, epoch) {given}, not {expected}")
        return reports

    def _take(self, report: Report) -> None:
        """Enter one report; end the trial where it finished or failed."""
        trial = self._running[report.number]
        trial.epochs = report.epoch
        trial.curve.append(curve_row(report))
        self._epochs += 1
        reason = report.failed or self._nonfinite(report)
        if reason is not None:
            trial.value = trial.best_epoch = None  # a score before the failure is not one of a usable trial,
            if trial.audited_from is None:  # one that was stopped before it failed would still stand there
                for scores in self._rungs.values():  # nor one that others must beat
                    scores.pop(trial.number, None)
            self._end(trial, "failed", reason)
            return
        score = report.scores[f"valid/{self._metric}"]
        trial.objective.append(score)
        if trial.value is None or better(score, trial.value, self._direction):
            trial.value, trial.best_epoch = score, report.epoch
        group = self._group(trial)
        if group is not None:  # by its best so far: that is its value, too
            self._rungs.setdefault(group, {})[report.number] = trial.value
        if report.finished:
            self._end(trial, "complete", None)

    def _nonfinite(self, report: Report) -> str | None:
        """Why the report's numbers cannot be used."""
        objective = f"valid/{self._metric}"
        if not math.isfinite(report.train_loss):
            return f"nonfinite loss at epoch {report.epoch}"
        if objective not in report.scores:
            raise SearchError(
                "the engine does not report the objective",
                given=", ".join(report.scores) or "no scores",
                rule=objective,
            )
        if not math.isfinite(report.scores[objective]):
            return f"nonfinite {objective} at epoch {report.epoch}"
        return None

    def _prune(self, reported: Sequence[int]) -> None:
        """Stop the trials that are behind at a rung they reached in this tick; never the default or its repeats."""
        arrived: dict[Group, list[int]] = {}
        for number in reported:
            group = self._group(self._running[number]) if number in self._running else None
            if group is not None:
                arrived.setdefault(group, []).append(number)
        behind: set[int] = set()
        if arrived:
            complete = [told.number for told in self._ends() if told.state == "complete"]
            for group, numbers in arrived.items():
                behind |= set(self._pruner.stops(numbers, self._rungs[group], complete))
        for number in self._but_one(sorted(behind - {0})):
            trial = self._running[number]
            if is_audited(self._study, number):
                self._go_on(trial)
            else:
                self._end(trial, "pruned", f"behind at epoch {trial.epochs}")

    def _go_on(self, trial: Trial) -> None:
        """Train a trial on that the pruner would stop; whoever decides anything is told that it was stopped."""
        trial.audited_from = trial.epochs
        self._told[trial.number] = trial.told()
        self._full = False  # as after an end: with one more result the answer may be another

    def _group(self, trial: Trial) -> Group | None:
        """Which trials it is compared with now; repeats of the default and audited trials with none."""
        if trial.proposal.repeat or trial.audited_from is not None:
            return None
        return self._pruner.group(trial.number, trial.epochs)

    def _end(self, trial: Trial, state: State, reason: str | None) -> None:
        """Empty the trial's lane and record its end."""
        self._engine.drop(trial.number)
        self._full = False
        del self._running[trial.number]
        trial.state, trial.reason, trial.seconds = state, reason, self._seconds - trial.begun_s
        self._ended.append(trial.record())
        if trial.audited_from is None:
            self._told[trial.number] = trial.told()
        if state == "complete" and not trial.proposal.repeat:
            self._note_improvement(trial)
        for duplicate in self._waiting.pop(trial.number, []):
            self._stand_in(duplicate, trial)

    def _note_improvement(self, trial: Trial) -> None:
        best = self._improvements[-1].value if self._improvements else None
        if trial.value is not None and (best is None or better(trial.value, best, self._direction)):
            spent = (self._ticks, self._epochs, self._seconds)
            self._improvements.append(Improvement(*spent, trial.number, trial.value))

    def _epochs_full(self) -> int:
        """Epochs this search would take without pruning; see `Progress`."""
        full = self._study.train.epochs
        originals = (trial for trial in self._trials if trial.proposal.duplicate_of is None)
        known = sum(trial.epochs if trial.state in ("complete", "failed") else full for trial in originals)
        limit = self._budget.expected
        to_ask = 0 if limit is None or self._ending is not None else max(0, limit - len(self._trials))
        return known + full * to_ask

    def _progress(self, started: Sequence[Trial], reports: Sequence[Report]) -> Progress:
        states = Counter(trial.state for trial in self._trials)
        best = self._best([trial for trial in self._trials if trial.state != "duplicate"])
        under_way = sum(trial.epochs for trial in self._running.values()) / self._study.train.epochs
        trials = len(self._trials) - len(self._running) + under_way
        share = self._budget.share(trials, self._epochs, self._seconds)
        ended, self._ended = sorted(self._ended, key=lambda record: record.number), []
        return Progress(
            done=states["complete"],
            pruned=states["pruned"],
            failed=states["failed"],
            duplicates=states["duplicate"],
            running=len(self._running),
            best_number=best.number if best else None,
            best_value=best.value if best else None,
            epochs_spent=self._epochs,
            epochs_full=self._epochs_full(),
            ticks=self._ticks,
            elapsed_s=self._seconds,
            eta_s=0.0 if self.over else self._seconds * (1 - share) / share if share > 0 else None,
            started=tuple((t.number, t.proposal.config, t.seed) for t in started),
            reports=tuple(reports),
            ended=tuple(ended),
        )
