"""Warm start: which earlier trials are told, that strategies learn from them, and that a resume does too."""

from __future__ import annotations

import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from test_search_iterative import DEFAULTS, NETWORK, OneShape, bowl, run
from test_search_iterative import a_study as a_bowl
from test_search_run import (
    FakeTrainer,
    a_space,
    a_study,
    drain,
    minimize_rmse,
    minimize_rmse_recorded,
    the_ledger,
)

from lanewise.errors import StudyError
from lanewise.ledger import Reading, TrialRecord, definition
from lanewise.metrics import METRICS
from lanewise.search import SearchResult, Told
from lanewise.search.warm_start import as_history, earlier_trials
from lanewise.space import build_space
from lanewise.study import Study, load_study


def a_reading(study: Study, trials: list[TrialRecord], metric: str = "rmse") -> Reading:
    space = a_space(study)
    return Reading(definition(study, space, metric=metric, direction="minimize", data="sha"), trials, [])


def told_of(readings: dict[str, Reading], study: Study) -> tuple[tuple[Told, ...], list[str]]:
    """As a search gets them: through JSON."""
    found, notes = earlier_trials(readings, study, a_space(study), metric="rmse", direction="minimize")
    return as_history(json.loads(json.dumps(found))), notes


def test_legal_trials_are_told_before_all_others() -> None:
    study = a_study(noise_seeds=3, space={"lr": {"low": 1e-3, "high": 1e-1, "log": True}})
    default = a_space(study).default()
    curve = [{"train/loss": 1.0, "valid/rmse": 0.9}, {"train/loss": 1.0, "valid/rmse": 0.8}]
    trials = [
        TrialRecord(0, default, 1, "complete", None, 0.8, 2, 2, curve),
        TrialRecord(1, default, 2, "complete", None, 0.7, 2, 2, curve),  # repeats the default
        TrialRecord(2, default, 3, "complete", None, 0.7, 2, 2, curve),
        TrialRecord(3, default | {"lr": 1e-2}, 4, "pruned", "behind", 0.9, 1, 1, curve[:1]),
        TrialRecord(4, default | {"lr": 1e-2}, 5, "duplicate", None, 0.9, duplicate_of=3),
        TrialRecord(5, default | {"lr": 1e-4}, 6, "complete", None, 0.5, 2, 2, curve),  # below the range
        TrialRecord(6, default | {"lr": 2e-2}, 7, "failed", "nan", None, 1, None, []),
        TrialRecord(7, default | {"other": 1}, 8, "complete", None, 0.5, 2, 2, curve),
    ]
    told, notes = told_of({"old": a_reading(study, trials)}, study)
    assert told == (
        Told(-3, default, "complete", 0.8, 2, (0.9, 0.8), begun=-2),
        Told(-2, default | {"lr": 1e-2}, "pruned", 0.9, 1, (0.9,), begun=-1),
        Told(-1, default | {"lr": 2e-2}, "failed", None, 1, (), begun=-1),
    )
    assert notes == ["learning from 3 of 5 trials of old; the others lie outside of the space of this study"]
    plain = a_study()
    _, notes = told_of({"a": a_reading(plain, trials[3:4]), "b": a_reading(plain, trials[:1])}, plain)
    assert notes == ["learning from 1 of 1 trials of a", "learning from 1 of 1 trials of b"]


@pytest.mark.parametrize("other", ["network", "metric"])
def test_another_network_or_metric_is_refused(other: str) -> None:
    study = a_study()
    changed = study.model_copy(update={"model": study.model.model_copy(update={"name": "resnet"})})
    reading = a_reading(changed if other == "network" else study, [], "mae" if other == "metric" else "rmse")
    with pytest.raises(StudyError, match=f"the study old has another {other}"):
        told_of({"old": reading}, study)


def earlier_of(seed: int) -> tuple[Told, ...]:
    """60 random trials of an earlier study on the same bowl, with another seed."""
    study = a_bowl(seed + 1000, strategy="random", trials=60, pruner="none")
    _, result = run(study, 10)
    return tuple(
        Told(t.number - 60, t.config, t.state, t.value, t.epochs, (), begun=-t.epochs)  # type: ignore[arg-type]
        for t in result.trials
    )


@pytest.mark.parametrize("strategy", ["tpe", "iterative", "gp", "cmaes", "nsga2"])
def test_a_warm_start_is_ahead_from_its_first_trials(strategy: str) -> None:
    """Eight trials that run side by side, so that none learns from another: their median against random ones."""

    def median(seed: int, earlier: tuple[Told, ...]) -> float:
        study = a_bowl(seed, strategy=strategy, trials=9, pruner="none")
        space = build_space(study, NETWORK, DEFAULTS)
        _, result = drain(minimize_rmse(study, space, OneShape(9, bowl), earlier=earlier))
        assert result.earlier == len(earlier)
        assert [r.number > 0 for r in result.rounds] == ([bool(earlier)] if strategy == "iterative" else [])
        return statistics.median(t.value for t in result.trials[1:] if t.value is not None)

    cold, warm = ([median(seed, e) for seed in range(6)] for e in ((), earlier_of(0)))
    assert statistics.median(warm) < 0.6 * statistics.median(cold)


def test_earlier_trials_do_not_compete() -> None:
    study = a_study(strategy="tpe", trials=12)
    best = [Told(-1, a_space(study).default(), "complete", -99.0, 9, (), begun=-9)]
    _, result = drain(minimize_rmse(study, a_space(study), FakeTrainer(4), earlier=best))
    assert [t.number for t in result.trials] == list(range(12))
    assert (result.trials[result.best].value or -99.0) > 0
    assert result.trials[0].state == "complete"  # no duplicate of the earlier one


@pytest.mark.parametrize("strategy", ["tpe", "iterative"])
def test_resumed_it_learns_from_the_same_trials(tmp_path: Path, strategy: str) -> None:
    study = a_study(strategy=strategy, trials=25, round_trials=5)
    space = a_space(study)
    earlier = tuple(
        Told(
            n - 20,
            space.default({"lr": 10 ** (-4 + n / 10)}),
            "complete",
            abs(n - 12) / 10,
            12,
            (),
            begun=-12,
        )
        for n in range(20)
    )

    def once(path: Path, trainer: FakeTrainer) -> SearchResult | None:
        with the_ledger(path, study, space) as ledger:
            history = as_history(ledger.settle("earlier", [dataclasses.asdict(t) for t in earlier]))
            assert history == earlier and as_history(ledger.settled("earlier")) == earlier
            steps = minimize_rmse_recorded(study, space, trainer, ledger, earlier=history)
            try:
                return drain(steps)[1]
            except Exception:
                return None

    straight = once(tmp_path / "s.db", FakeTrainer(4))
    assert once(tmp_path / "l.db", FakeTrainer(4, dies_at=9)) is None
    resumed = once(tmp_path / "l.db", FakeTrainer(4))
    assert straight is not None and resumed is not None

    def table(result: SearchResult) -> list[Any]:
        return [dataclasses.replace(t, seconds=0.0) for t in result.trials]

    assert table(resumed) == table(straight)


def test_what_was_never_settled_is_none(tmp_path: Path) -> None:
    study = a_study()
    with the_ledger(tmp_path / "l.db", study, a_space(study)) as ledger:
        assert ledger.settled("earlier") is None
        ledger.settle("earlier", [])
        assert ledger.settled("earlier") == []


@pytest.mark.parametrize("name", ["unknown", "s"])
def test_a_study_that_was_never_searched_or_is_this_one_is_refused(tmp_path: Path, name: str) -> None:
    from tasks.search import _earlier

    study = a_study(warm_start=[name])
    home = study.tracking.model_copy(update={"home": str(tmp_path)})
    study = study.model_copy(update={"name": "s", "tracking": home})
    (tmp_path / "studies" / "s" / "rows-1" / "spool").mkdir(parents=True)
    with the_ledger(tmp_path / "l.db", study, a_space(study)) as ledger:
        with pytest.raises(StudyError, match="no earlier study to learn from") as caught:
            _earlier(study, a_space(study), ledger, METRICS["rmse"])
        assert caught.value.given == name and ledger.settled("earlier") is None


def test_a_strategy_that_learns_nothing_refuses_it(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text('data: {source: "sklearn:digits"}\nsearch: {strategy: random, warm_start: [old]}\n')
    with pytest.raises(StudyError, match="a strategy that learns from results"):
        load_study(path)
