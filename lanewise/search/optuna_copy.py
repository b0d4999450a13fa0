"""A copy of a ledger as an Optuna study in a SQLite file, for optuna-dashboard and Optuna's own plots.

Made from a ledger after or during a search, which does not know of it and never reads it. The file is this
module's alone: MLflow's database must be another, since both own a table alembic_version.
"""

from __future__ import annotations

import sqlite3
import warnings
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from lanewise.errors import TrackingError
from lanewise.ledger import Reading, TrialRecord
from lanewise.search.objectives import directions_of, sizes_of
from lanewise.search.optuna_study import distribution_of, within
from lanewise.space import Space

_STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


def write_optuna(reading: Reading, name: str, file: Path) -> int:
    """Write the study into a file, in place of what was there; a dashboard that has it open sees the new one.

    Every trial keeps its number, parameters, value and curve; with several objectives it has all their values, so
    that Optuna finds the Pareto front. A trial that has not ended is shown as waiting. A
    duplicate has the state and value of its original. The ledger has no time of day: durations are right, and
    every trial seems to end when the copy is made.

    Args:
        reading: Of a ledger with a definition.
        name: Of the study.

    Returns:
        Number of ended trials.

    Raises:
        TrackingError: The file cannot be written.
    """
    search = reading.definition["search"]
    objectives = search.get("objectives", [])
    # In memory first: the file changes in one transaction, and no half copy is ever seen.
    storage = RDBStorage("sqlite://")
    loud = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it announces every study it makes
    try:
        study = optuna.create_study(
            storage=storage, study_name=name, directions=directions_of(search["direction"], objectives)
        )
    finally:
        optuna.logging.set_verbosity(loud)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([search["metric"], *objectives])
    study.add_trials(_trials(reading))
    connection = storage.engine.raw_connection()
    database = connection.driver_connection
    assert isinstance(database, sqlite3.Connection)
    _add_curves(database, reading.trials, f"valid/{search['metric']}")
    try:
        _move(database, file)
    except (sqlite3.Error, OSError) as error:
        raise TrackingError(
            "the Optuna copy cannot be written", where=file, given=error,
            rule="a folder that can be written and has room", remedy="see to it, then run the same command again",
        ) from error  # fmt: skip
    finally:
        connection.close()
        storage.engine.dispose()
    return len(reading.trials)


def _trials(reading: Reading) -> list[FrozenTrial]:
    """By number, without gaps: Optuna numbers them by their place."""
    space, now = Space.from_json(reading.definition["space"]), datetime.now()
    objectives = reading.definition["search"].get("objectives", [])
    ended = {trial.number: trial for trial in reading.trials}
    numbers = range(max([*ended, *reading.running], default=-1) + 1)
    return [
        _frozen(ended[n], space, objectives, now, ended) if n in ended else create_trial(state=TrialState.WAITING)
        for n in numbers
    ]


def _frozen(
    trial: TrialRecord, space: Space, objectives: list[str], now: datetime, ended: dict[int, TrialRecord]
) -> FrozenTrial:
    original = trial if trial.duplicate_of is None else ended.get(trial.duplicate_of, trial)
    state = _STATES.get(original.state, TrialState.COMPLETE)
    distributions = {}
    for name in space.searched():
        if name in trial.config:  # a control draw, or the default, may lie outside a narrowed range
            inside = within(space.parameters[name], trial.config[name])
            distributions[name] = distribution_of(space.parameters[name] if inside else space.wide(name))
    attributes: dict[str, Any] = {"config": trial.config, "seed": trial.seed, "epochs": trial.epochs}
    more = {"reason": trial.reason, "best_epoch": trial.best_epoch, "duplicate_of": trial.duplicate_of}
    more["audited_from"] = trial.audited_from
    attributes |= {name: value for name, value in more.items() if value is not None}
    if trial.control:
        attributes["control"] = True
    sizes = sizes_of(original.curve, objectives)  # a duplicate has no curve
    values = None
    if state != TrialState.FAIL and trial.value is not None and sizes is not None:
        values = [trial.value, *sizes]
    frozen = create_trial(
        state=state, values=values,
        params={name: trial.config[name] for name in distributions}, distributions=distributions,
        user_attrs=attributes,
    )  # fmt: skip
    frozen.datetime_start, frozen.datetime_complete = now - timedelta(seconds=trial.seconds), now
    return frozen


def _add_curves(database: sqlite3.Connection, trials: list[TrialRecord], score: str) -> None:
    """The objective by epoch, all in one go: through Optuna each value takes 1.5 ms, minutes for a study."""
    ids = dict(database.execute("SELECT number, trial_id FROM trials"))
    rows = [
        (ids[trial.number], epoch, value)
        for trial in trials
        for epoch, row in enumerate(trial.curve, 1)
        if (value := row.get(score)) is not None
    ]
    database.executemany(
        "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type)"
        " VALUES (?, ?, ?, 'FINITE')",
        rows,
    )
    database.commit()


def _move(database: sqlite3.Connection, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with closing(sqlite3.connect(file)) as target:
            database.backup(target)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        file.unlink()  # damaged: it holds nothing that the ledger does not
        with closing(sqlite3.connect(file)) as target:
            database.backup(target)
