"""The search of a run: after lr_range, before evaluate. Every trial is in the ledger first, then in MLflow.

A tick is written to the ledger before this module sees it, so what it shows as ended stays ended. A
search that was cut off is continued: its recorded ticks come by again, marked as replayed, and only what
MLflow has not heard of yet is told.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

from lanewise.checkpoints import Checkpoints
from lanewise.errors import StudyError
from lanewise.ledger import Ledger, TrialRecord, curve_row, definition, read_ledger, size_of
from lanewise.metrics import Metric, find_metric
from lanewise.pretrained import PRETRAINED
from lanewise.report import Records, picture_png
from lanewise.search import (
    Cell,
    Grid,
    Progress,
    SearchResult,
    audit_words,
    cells_words,
    choose,
    recorded_search,
    require_whole,
)
from lanewise.search.child import ChildLanes
from lanewise.search.deaths import Deaths
from lanewise.search.guarded import GuardedLanes
from lanewise.search.lanes import SearchLanes
from lanewise.search.records import Told
from lanewise.search.warm_start import as_history, earlier_trials
from lanewise.space import Config, Space
from lanewise.study import Study
from lanewise.tracking.runs import RunState
from lanewise.trainer import Trainer, choose_device, lane_count
from tasks.artifacts import Bar, show_picture, show_table
from tasks.job import PIPELINE, Job, Workshop, pretrained_digest, workshop
from tasks.lr_range import searched_space
from tasks.own_process import child_lanes, needs_child, prediction_times
from tasks.prepare import same_rows
from tasks.progress import Event, say, stop_asked, stop_here
from tasks.stage_task import Made, stage_task
from tasks.stages import StageResult
from tasks.study_record import latest_rows, ledger_place

SHOWN = 20  # trials in the table of the best
CELLS_SHOWN = 1000  # cells in the table of the grid
STATES: dict[str, RunState] = {
    "complete": "complete", "pruned": "pruned", "failed": "failed", "duplicate": "complete",
}  # fmt: skip


@stage_task("search", reads=("model", "space", "train", "lr_range", "search"), extra=pretrained_digest)
def search_trials(job: Job, prepared: StageResult, ranged: StageResult) -> Made:
    """Search until the budget is spent, or as far as this process lives; then continue."""
    shop = workshop(job)
    same_rows(job, prepared.result["ref"])
    shop.smoke()
    study, dataset = shop.study, shop.prepared.dataset
    space = searched_space(shop, ranged)
    metric = find_metric(dataset.metric, dataset.task)
    grid = Grid(study, space, metric.direction) if study.search.strategy == "grid" else None
    if grid:
        say(Event("search", "note", f"grid of {grid.words}"))
    if study.search.strategy == "auto":
        say(Event("search", "note", f"auto is {choose(study.search, space).words}"))
    settings = definition(
        study, space, metric=metric.name, direction=metric.direction, data=dataset.split_fingerprint
    )
    where, name = ledger_place(study, shop.records)
    with Ledger(where, settings, name) as ledger:
        lanes = ledger.settle("lanes", lane_count(study, choose_device(study)))
        checkpoints = Checkpoints(shop.records / "checkpoints", study.tracking.checkpoint_seconds)
        deaths = Deaths(shop.records / "checkpoints" / "deaths.json")
        with _training(shop, lanes, checkpoints) as trained:
            engine = GuardedLanes(trained, lanes, study.search.max_retries, deaths)
            steps = recorded_search(
                study, space, engine, ledger, metric=metric.name, direction=metric.direction,
                earlier=_earlier(study, space, ledger, metric),
            )  # fmt: skip
            trials = len(grid.planned) if grid else study.search.trials or 0
            result = _follow(steps, engine, Mirror(shop, space, metric.name), trials)
            notes = trained.notes
            weights = [n.removeprefix(PRETRAINED) for n in notes if n.startswith(PRETRAINED)]
            result = replace(result, pretrained=tuple(weights))
        if result.grid is not None:
            _show_grid(shop, result, result.grid)
        checkpoints.remove()
        deaths.remove()
    for note in notes:
        say(Event("search", "note", note))
    _summarise(shop, result)
    found = asdict(result)
    if result.objectives:
        times = prediction_times(shop, [result.trials[number].config for number in result.front[:SHOWN]])
        found["prediction_ms"] = dict(zip(map(str, result.front), times, strict=False))
        _show_front(shop, result, found)
    best = result.trials[result.best]
    ended = {
        state: sum(t.state == state for t in result.trials) for state in ("pruned", "failed", "duplicate")
    }
    extra = "".join(f", {n} {state}" for state, n in ended.items() if n)
    says = f"{len(result.trials)} trials{extra}; best {result.metric} {best.value:.4g} (trial {best.number})"
    if result.audit is not None:
        says += f", {audit_words(result.audit)}"
    if result.noise is not None:
        says += f", noise floor {result.noise.floor:.2g}"
    if result.objectives:
        says += f", {len(result.front)} on the Pareto front"
    return Made(found, f"{says}; {result.epochs_spent:,} of {result.epochs_full:,} epochs")


def _earlier(study: Study, space: Space, ledger: Ledger, metric: Metric) -> tuple[Told, ...]:
    """The trials of earlier studies, as they were when this search began."""
    if not study.search.warm_start:
        return ()
    settled = ledger.settled("earlier")
    if settled is None:
        readings = {}
        for name in study.search.warm_start:
            other = study.model_copy(update={"name": name})
            rows = latest_rows(other)
            if rows is None or name == study.name:
                raise StudyError(
                    "no earlier study to learn from", where=study.where("search", "warm_start"), given=name,
                    rule=f"another study that was searched in {study.tracking.home}",
                    remedy="correct the name, or run that study first",
                )  # fmt: skip
            readings[name] = read_ledger(*ledger_place(other, rows))
        found, notes = earlier_trials(readings, study, space, metric=metric.name, direction=metric.direction)
        for note in notes:
            say(Event("search", "note", note))
        settled = ledger.settle("earlier", found)
    return as_history(settled)


@contextmanager
def _training(shop: Workshop, lanes: int, checkpoints: Checkpoints) -> Iterator[SearchLanes | ChildLanes]:
    """What trains the trials: this process, or for a network the user wrote one that it may take down."""
    study, dataset = shop.study, shop.prepared.dataset
    if not needs_child(shop):
        yield SearchLanes(Trainer(study, shop.network, dataset, lanes=lanes), checkpoints)
        return
    child = child_lanes(shop, lanes, study.search.trial_timeout_s)
    try:
        yield child
    finally:
        child.close()


def _follow(
    steps: Generator[Progress, None, SearchResult], engine: GuardedLanes, mirror: Mirror, trials: int
) -> SearchResult:
    bar = Bar("search", "Share of the search that is done")
    while True:
        try:
            progress = next(steps)
        except StopIteration as end:
            bar.show(1.0)
            result: SearchResult = end.value
            return result
        mirror.take(progress)
        say(Event("search", "searching", total=trials, progress=progress))
        if progress.eta_s is not None and not progress.replayed:
            bar.show(progress.elapsed_s / max(progress.elapsed_s + progress.eta_s, 1e-9))
        if stop_asked():
            if not progress.replayed:  # else nothing was trained that is not kept
                engine.keep(at_rung=False, stopping=True)
            stop_here()


class Mirror:
    """Tells MLflow what the ledger holds, each trial once.

    Args:
        shop: Open; its tracker is used.
        space: What is searched; only what varies becomes a parameter of a run.
        metric: The objective.
    """

    def __init__(self, shop: Workshop, space: Space, metric: str) -> None:
        self._shop, self._metric = shop, metric
        self._told = shop.ended_runs()  # before this process: replayed, they are not told again
        self._varying = frozenset(space.searched())
        self._started: set[int] = set()

    def take(self, progress: Progress) -> None:
        """Pass one tick on."""
        with self._shop.tracker.tick():
            for number, config, seed in progress.started:
                self._start(number, config, seed)
            for report in progress.reports:
                if report.number in self._started:
                    self._shop.tracker.log(trial_key(report.number), report.epoch, curve_row(report))
            for trial in progress.ended:
                self._end(trial)

    def _start(self, number: int, config: Config, seed: int) -> None:
        key = trial_key(number)
        if key in self._told:
            return
        self._started.add(number)
        self._shop.tracker.start_run(
            key,
            stage="search",
            parent=PIPELINE,
            params={name: value for name, value in config.items() if name in self._varying},
            tags=self._shop.tags() | self._tags(number) | {"lanewise.seed": seed},
            config=config,
        )

    def _tags(self, number: int) -> dict[str, object]:
        repeat = 0 < number < self._shop.study.search.noise_seeds
        return {"lanewise.trial": number} | ({"lanewise.repeats": trial_key(0)} if repeat else {})

    def _end(self, trial: TrialRecord) -> None:
        key = trial_key(trial.number)
        if key in self._told:
            return
        if trial.number not in self._started:  # a duplicate never had a lane
            self._start(trial.number, trial.config, trial.seed)
        self._started.discard(trial.number)
        self._shop.tracker.end(
            key,
            STATES[trial.state],
            reason=trial.reason,
            objective=trial.value if trial.state in ("complete", "duplicate") else None,
            tags={
                "lanewise.best_epoch": trial.best_epoch,
                "lanewise.control": trial.control,
                **({} if trial.audited_from is None else {"lanewise.audited_from": trial.audited_from}),
            },
        )


def trial_key(number: int) -> str:
    """Name of a trial's run: trial-0042."""
    return f"trial-{number:04d}"


def ranked(result: SearchResult) -> list[TrialRecord]:
    """Complete trials, best first; without those that repeat the default."""
    sign = -1.0 if result.direction == "maximize" else 1.0
    complete = [
        t
        for t in result.trials
        if t.state == "complete" and t.value is not None and t.number not in result.repeats
    ]
    return sorted(complete, key=lambda t: (sign * (t.value or 0.0), t.number))


def _show_grid(shop: Workshop, result: SearchResult, cells: tuple[Cell, ...]) -> None:
    """Show what became of every cell.

    Raises:
        SearchError: Some are missing.
    """
    say(Event("search", "note", f"grid of {cells_words(cells)}"))
    told = sorted(cells, key=lambda cell: cell.state == "done")[:CELLS_SHOWN]
    rows = [{"state": c.state, "trials": len(c.trials), **c.config, "reason": c.reason or ""} for c in told]
    show_table("grid", rows, "What became of the cells of the grid, those that are not done first")
    picture = picture_png("coverage", Records(search=asdict(result)))
    if picture is not None:
        show_picture("grid-coverage", picture, "Every cell of the grid")
    require_whole(cells, f"study {shop.study.name}")


def _show_front(shop: Workshop, result: SearchResult, found: Mapping[str, Any]) -> None:
    """Show the trials that no other one dominates, and say of every complete trial in MLflow whether it is one.

    Args:
        shop: Open.
        result: Of the search.
        found: The same as JSON, with the times of predictions.
    """
    trials = [result.trials[number] for number in result.front]
    rows = [
        {"trial": t.number, result.metric: t.value}
        | {name: size_of(t.curve, name) for name in result.objectives}
        | {"prediction_ms": found["prediction_ms"].get(str(t.number))}
        | t.config
        for t in trials[:SHOWN]
    ]
    show_table("pareto-front", rows, "The trials that no other one is at least as good as in every objective")
    picture = picture_png("front", Records(search=found))
    if picture is not None:
        show_picture("pareto-front-picture", picture, "Score against size, with the Pareto front")
    with shop.tracker.tick():
        for trial in ranked(result):  # a longer search may take one off the front, so the others are told, too
            shop.tracker.tag(trial_key(trial.number), {"lanewise.pareto": trial.number in result.front})


def _summarise(shop: Workshop, result: SearchResult) -> None:
    best = ranked(result)
    rows = [{"trial": t.number, result.metric: t.value, "epochs": t.epochs, **t.config} for t in best[:SHOWN]]
    show_table("best-trials", rows, "The best complete trials")
    for one in result.rounds:
        text = json.dumps(asdict(one), indent=2)
        shop.tracker.artifact(PIPELINE, text, f"space/round-{one.number}.json")
    share = 1 - result.epochs_spent / result.epochs_full if result.epochs_full else 0.0
    more = f". Strategy auto is {result.chosen}" if result.chosen else ""
    if result.front:
        more += f". On the Pareto front: {', '.join(map(trial_key, result.front[:SHOWN]))}"
    shop.tracker.note(
        PIPELINE,
        f"{len(result.trials)} trials, {share:.0%} of the epochs saved by pruning. {result.ending}{more}",
        ascending=result.direction == "minimize",
        best=[trial_key(t.number) for t in best],
    )
