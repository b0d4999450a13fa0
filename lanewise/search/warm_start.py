"""Trials of earlier studies as a strategy's first history; read before a search, from the ledgers of others.

What is found is settled in the search's own ledger, so a search that is continued learns from the same
trials, whatever became of the earlier studies. Nothing here is trained, and no earlier trial competes: scores
of other rows or splits say where to look, not who wins.

Source: Feurer et al. 2015, "Initializing Bayesian Hyperparameter Optimization via Meta-Learning", AAAI (a new
search begins from what earlier ones found); here with the trials of studies that the user names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lanewise.errors import StudyError
from lanewise.ledger import Reading, TrialRecord, network_definition
from lanewise.pruning import Direction
from lanewise.search.objectives import sizes_of
from lanewise.search.records import Told
from lanewise.space import Space
from lanewise.study import Study


def earlier_trials(
    readings: Mapping[str, Reading], study: Study, space: Space, *, metric: str, direction: Direction
) -> tuple[list[dict[str, Any]], list[str]]:
    """The trials a strategy may learn from, as JSON, and for each study how many they are, in words.

    A trial is legal if it ended, is no duplicate, and its whole configuration lies in the declared space; in a search
    with several objectives a complete one must have the values of all.

    Args:
        readings: Name of an earlier study -> its ledger.
        study: That begins.
        space: Its space.
        metric: Its objective, resolved.
        direction: Of the objective.

    Raises:
        StudyError: An earlier study has another network, or another objective.
    """
    objectives = study.search.objectives
    told: list[Told] = []
    notes = []
    for name, reading in readings.items():
        _check(name, reading.definition, study, metric, direction)
        repeats = range(1, reading.definition["search"].get("noise_seeds", 0))
        tried = [t for t in reading.trials if t.state != "duplicate" and t.number not in repeats]
        inside = [t for t in tried if space.contains(t.config)]
        legal = [t for t in inside if t.state != "complete" or sizes_of(t.curve, objectives) is not None]
        told += [_told(trial, metric, objectives) for trial in legal]
        notes.append(f"learning from {len(legal)} of {len(tried)} trials of {name}" + _why(legal, inside, tried))
    return [asdict(trial) | {"number": place - len(told)} for place, trial in enumerate(told)], notes


def as_history(settled: Sequence[Mapping[str, Any]]) -> tuple[Told, ...]:
    """What `earlier_trials` gave, as it comes from JSON; numbers are below 0, and all ended before tick 0."""
    return tuple(
        Told(**{**trial, "curve": tuple(trial["curve"]), "rows": tuple(trial.get("rows", ()))}) for trial in settled
    )


def _told(trial: TrialRecord, metric: str, objectives: Sequence[str]) -> Told:
    scores = (row.get(f"valid/{metric}") for row in trial.curve)
    curve = tuple(score for score in scores if score is not None)
    assert trial.state != "duplicate"
    rows = tuple(trial.curve[:1]) if objectives else ()  # the first one says how large it is
    return Told(0, trial.config, trial.state, trial.value, trial.epochs, curve, begun=-trial.epochs, rows=rows)


def _why(legal: Sequence[TrialRecord], inside: Sequence[TrialRecord], tried: Sequence[TrialRecord]) -> str:
    reasons = [
        *(["lie outside of the space of this study"] if len(inside) < len(tried) else []),
        *(["have no value of an objective"] if len(legal) < len(inside) else []),
    ]
    return f"; the others {' or '.join(reasons)}" if reasons else ""


def _check(name: str, earlier: Mapping[str, Any], study: Study, metric: str, direction: Direction) -> None:
    model = network_definition(study)
    for what, theirs, ours in (
        ("network", earlier["model"], model),
        ("metric", (earlier["search"]["metric"], earlier["search"]["direction"]), (metric, direction)),
    ):
        if theirs != ours:
            raise StudyError(
                f"the study {name} has another {what}", where=study.where("search", "warm_start"),
                given=f"{theirs}, here {ours}", rule="a warm start has the same network and metric",
                remedy=f"remove {name} from `warm_start`",
            )  # fmt: skip
