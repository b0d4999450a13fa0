"""Where a study stands, read without holding it or starting anything: `lanewise status`; also who may resume it.

A run may be writing meanwhile: the ledger is read in one transaction, the lock is only looked at. Missed runs of
a schedule come from Prefect, where an address of one is set.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lanewise.errors import StudyError, TrackingError
from lanewise.ledger import Reading, read_ledger
from lanewise.owner import Owner, held_error, owner_in
from lanewise.space import Space
from lanewise.study import Study, load_study
from lanewise.tracking import waiting
from tasks.job import LOCK
from tasks.study_record import latest_rows, ledger_place, study_folder
from tasks.sweep import FILE

LATE = timedelta(minutes=2)  # a worker polls every few seconds; later than this nobody has come


@dataclass(frozen=True)
class Status:
    """A study.

    Args:
        study: Its name.
        owner: Who runs it now; None when nobody does.
        begun: Whether it was ever run.
        cut_off: Its last run did not come to its end.
        trials: Ended trials by state.
        running: Trials in lanes, or that were when it was cut off.
        grid: Cells of a grid by state; empty for other strategies.
        budget: Trials in all; None without such a bound.
        best: Trial number and value of the best complete trial; None when there is none.
        metric: The objective.
        waiting: Records that have not reached MLflow.
        report: The last report; None when there is none.
        missed: Scheduled runs that nobody has started, by their time.
    """

    study: str
    owner: Owner | None = None
    begun: bool = False
    cut_off: bool = False
    trials: dict[str, int] = field(default_factory=dict)
    running: int = 0
    grid: dict[str, int] = field(default_factory=dict)
    budget: int | None = None
    best: tuple[int, float] | None = None
    metric: str = ""
    waiting: int = 0
    report: str | None = None
    missed: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As JSON, what `--json` prints."""
        return {**asdict(self), "state": self.state}

    @property
    def state(self) -> str:
        """running, cut off, done or not begun."""
        if self.owner:
            return "running"
        return "not begun" if not self.begun else "cut off" if self.cut_off else "done"

    def words(self, path: Path, overrides: Mapping[str, str]) -> list[str]:
        """For a terminal.

        Args:
            path, overrides: As they were given, for the next command.
        """
        study = " ".join([str(path), *(f"--set {key}={shlex.quote(text)}" for key, text in overrides.items())])
        lines = [f"{self.study}: {self.state}{f', {self.owner}' if self.owner else ''}"]
        if self.trials or self.running:
            ended = ", ".join(f"{n} {state}" for state, n in sorted(self.trials.items()))
            n = sum(self.trials.values())
            of = f" of {self.budget}" if self.budget and self.budget >= n else ""  # it had more when it ran
            going = "in lanes" if self.owner else "to go on with"
            lanes = f"; {self.running} {going}" if self.running else ""
            lines.append(f"  trials    {n}{of} ended ({ended or 'none'}){lanes}")
        if self.grid:
            cells = ", ".join(f"{n} {state}" for state, n in sorted(self.grid.items()))
            lines.append(f"  grid      {sum(self.grid.values())} cells ({cells})")
        if self.best:
            lines.append(f"  best      {self.metric} {self.best[1]:.4g} (trial {self.best[0]})")
        if self.waiting:
            lines.append(f"  tracking  {self.waiting} records wait for MLflow: lanewise sync {study}")
        if self.report:
            lines.append(f"  report    {self.report}")
        lines += [f"  missed    the run scheduled for {at} has not started" for at in self.missed]
        todo = {"cut off": f"lanewise resume {study}", "not begun": f"lanewise run {study}"}.get(self.state)
        return [*lines, *([f"  next      {todo}"] if todo else [])]


def status_of(path: Path, overrides: Mapping[str, str], missed: Sequence[str] = ()) -> Status:
    """Look at a study.

    Args:
        missed: As given by `missed_runs`.

    Raises:
        StudyError: The study file is wrong.
        TrackingError: Its ledger cannot be read.
    """
    study = load_study(path, overrides)
    folder = study_folder(Path(study.tracking.home).absolute(), study.name)
    owner = owner_in(folder / LOCK)
    rows = latest_rows(study)
    ledger = read_ledger(*ledger_place(study, rows)) if rows and searched(study, rows) else None
    metric, best = _best(ledger) if ledger else ("", None)
    report = folder / "report.html"
    return Status(
        study.name,
        owner=owner if owner and owner.alive() is not False else None,
        begun=owner is not None or ledger is not None,
        cut_off=(folder / FILE).exists(),
        trials=dict(Counter(trial.state for trial in ledger.trials)) if ledger else {},
        running=len(ledger.running) if ledger else 0,
        grid=_cells(study, ledger) if ledger and study.search.strategy == "grid" else {},
        budget=study.search.trials,
        best=best,
        metric=metric,
        waiting=sum(waiting(spool) for spool in folder.glob("rows-*/spool")),
        report=str(report) if report.exists() else None,
        missed=list(missed),
    )


def check_resumable(path: Path, overrides: Mapping[str, str]) -> None:
    """Refuse where there is nothing to go on with.

    Raises:
        StudyHeldError: It is running.
        StudyError: It was never run, or its last run came to its end.
    """
    found = status_of(path, overrides)
    if found.state == "running":
        raise held_error(path, found.owner)
    if found.state != "cut off":
        raise StudyError(
            "there is nothing to resume", where=path, given=f"{found.study} is {found.state}",
            rule="its last run was cut off",
            remedy=f"lanewise run {path}" if not found.begun else f"lanewise extend {path} --trials N",
        )  # fmt: skip


def check_extendable(path: Path, overrides: Mapping[str, str], trials: int) -> None:
    """Refuse a budget that is no larger than what was searched.

    Raises:
        StudyError: It was never run, or has that many trials.
    """
    found = status_of(path, overrides)
    ended = sum(found.trials.values())
    if not ended or trials <= ended:
        raise StudyError(
            "this does not extend the study", where="--trials", given=trials,
            rule=f"more than the {ended} trials that have ended" if ended else "a study that was run",
            remedy="give the number of trials in all" if ended else f"lanewise run {path}",
        )  # fmt: skip


def searched(study: Study, rows: Path) -> bool:
    """Whether these rows have a ledger already."""
    where, _ = ledger_place(study, rows)
    return not isinstance(where, Path) or where.exists()


def _best(ledger: Reading) -> tuple[str, tuple[int, float] | None]:
    if not ledger.definition:  # none was searched yet, in a database of others
        return "", None
    search = ledger.definition["search"]
    sign = -1 if search["direction"] == "maximize" else 1
    repeats = range(1, search.get("noise_seeds", 0))  # of the default, which do not compete
    complete = [
        (sign * t.value, t.number, t.value)
        for t in ledger.trials
        if t.state == "complete" and t.value is not None and t.number not in repeats
    ]
    return str(search["metric"]), min(complete)[1:] if complete else None


def _cells(study: Study, ledger: Reading) -> dict[str, int]:
    """Cells of the grid by state, as the ledger has them."""
    from lanewise.search import Grid, grid_ledger  # Optuna takes a second to import

    if not ledger.definition:
        return {}
    grid = Grid(study, Space.from_json(ledger.definition["space"]), "minimize")
    return dict(Counter(cell.state for cell in grid_ledger(grid, ledger.trials)))


def missed_runs(path: Path) -> list[str]:
    """Runs of this study that a schedule of Prefect's has planned and no worker has taken, by their time.

    Raises:
        TrackingError: Prefect does not answer.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.objects import StateType

    wanted = FlowRunFilter.model_validate(
        {
            "state": {"type": {"any_": [StateType.SCHEDULED]}},
            "expected_start_time": {"before_": datetime.now(UTC) - LATE},
        }
    )
    try:
        with get_client(sync_client=True) as client:
            runs = client.read_flow_runs(flow_run_filter=wanted)
    except Exception as error:
        raise TrackingError(
            "Prefect does not answer", where="PREFECT_API_URL", given=type(error).__name__,
            remedy="start it, or unset PREFECT_API_URL",
        ) from error  # fmt: skip
    mine = [run for run in runs if Path(str(run.parameters.get("study"))).absolute() == path.absolute()]
    return [f"{run.expected_start_time:%Y-%m-%d %H:%M %Z}" for run in mine if run.expected_start_time]
