"""The search loop and its resumption, with a trainer whose reports are a pure function of the request."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lanewise.errors import SearchError
from lanewise.ledger import Ledger, definition, read_trials
from lanewise.search import (
    STRATEGIES,
    LaneRequest,
    Progress,
    Report,
    SearchResult,
    TrialRecord,
    recorded_search,
    search,
)
from lanewise.space import Config, Space, build_space
from lanewise.study import Study

minimize_rmse = partial(search, metric="rmse", direction="minimize")
minimize_rmse_recorded = partial(recorded_search, metric="rmse", direction="minimize")
FEW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class KilledError(Exception):
    """Stands for the end of the process."""


def chance(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts only."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big") / 2**48


def learning_curve(request: LaneRequest, epoch: int) -> Report:
    """A falling curve whose floor depends on the configuration; a large lr ends in NaN."""
    lr, width = float(request.config["lr"]), float(request.config.get("width", 32))
    floor = abs(math.log10(lr) + 2.5) + abs(width - 48) / 64
    score = floor + 2.0 / epoch + 0.2 * chance(request.seed, epoch)
    loss = math.nan if lr > 0.02 and epoch > 8 * chance(request.seed) else score
    return Report(request.number, epoch, loss, {"valid/rmse": score, "valid/mae": score / 2})


class FakeTrainer:
    """Lanes by width: one pool for each, `capacity` lanes in a pool."""

    def __init__(
        self,
        capacity: int,
        curve: Callable[[LaneRequest, int], Report] = learning_curve,
        dies_at: int | None = None,
    ) -> None:
        self.capacity, self.curve, self.dies_at = capacity, curve, dies_at
        self.lanes: dict[int, tuple[LaneRequest, list[Report]]] = {}
        self.kept: dict[int, list[Report]] = {}  # the one checkpoint
        self.ticks = self.trained = 0

    @property
    def active(self) -> int:
        return len(self.lanes)

    def free(self, request: LaneRequest) -> bool:
        width = request.config.get("width")
        return sum(r.config.get("width") == width for r, _ in self.lanes.values()) < self.capacity

    def saved(self, request: LaneRequest, at_most: int) -> int:
        epochs = len(self.kept.get(request.number, []))
        return epochs if epochs <= at_most else 0

    def add(self, request: LaneRequest, epoch: int = 0) -> None:
        assert self.free(request) and request.number not in self.lanes
        done = self.kept[request.number] if epoch else []
        assert len(done) == epoch
        self.lanes[request.number] = (request, list(done))

    def keep(self, *, at_rung: bool, stopping: bool) -> None:
        if self.ticks % 3 == 0:
            self.kept = {number: list(done) for number, (_, done) in self.lanes.items()}

    def drop(self, number: int) -> None:
        del self.lanes[number]

    def tick(self) -> Sequence[Report]:
        self.ticks += 1
        if self.ticks == self.dies_at:
            raise KilledError
        return [self._train(request, done) for request, done in reversed(self.lanes.values())]

    def _train(self, request: LaneRequest, done: list[Report]) -> Report:
        self.trained += 1
        assert len(done) < request.epochs and not any(r.finished for r in done)
        report = self.curve(request, len(done) + 1)
        scores = [r.scores["valid/rmse"] for r in (*done, report)]
        best = min(range(len(scores)), key=scores.__getitem__)
        stale = request.patience > 0 and len(scores) - 1 - best >= request.patience
        done.append(dataclasses.replace(report, finished=stale or len(scores) == request.epochs))
        return done[-1]


def a_study(
    *, train: Mapping[str, Any] | None = None, space: Mapping[str, Any] | None = None, **search: Any
) -> Study:
    if search.get("strategy") == "grid":  # it has its own number of trials: 28 of `a_space`
        search |= {"trials": None, "grid_points": 3}
    return Study.model_validate(
        {
            "name": "toy", "seed": 3, "data": {"source": "sklearn:diabetes"}, "space": dict(space or {}),
            "train": {"epochs": 12, "patience": 4, **(train or {})},
            "search": {"trials": 30, "rung_first": 2, "rung_factor": 2, "startup": 6, **search},
        }
    )  # fmt: skip


def a_space(study: Study) -> Space:
    return build_space(study, {"width": [16, 32, 64]}, {"width": 32})


def drain(steps: Generator[Progress, None, SearchResult]) -> tuple[list[Progress], SearchResult]:
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as stop:
            return seen, stop.value


def run(
    study: Study, lanes: int = 4, space: Space | None = None, **trainer: Any
) -> tuple[list[Progress], SearchResult]:
    return drain(minimize_rmse(study, space or a_space(study), FakeTrainer(lanes, **trainer)))


def table(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Trials without their wall-clock time."""
    return [dataclasses.replace(trial, seconds=0.0) for trial in trials]


def without_clock(result: SearchResult) -> SearchResult:
    """All but the trials and the seconds."""
    improvements = tuple(dataclasses.replace(i, seconds=0.0) for i in result.improvements)
    return dataclasses.replace(result, trials=(), seconds=0.0, improvements=improvements)


def hot(request: LaneRequest, epoch: int) -> Report:
    return Report(request.number, epoch, math.inf, {"valid/rmse": 0.1})


def test_trial_0_is_the_default_and_every_trial_is_recorded() -> None:
    study = a_study()
    progress, result = run(study)
    assert [t.number for t in result.trials] == list(range(30))
    assert result.trials[0].config == a_space(study).default() and not result.trials[0].control
    assert len({t.seed for t in result.trials}) == 30
    assert result.trials[0].state == "complete"
    ended = [t for p in progress for t in p.ended]
    assert sorted(table(ended), key=lambda t: t.number) == table(result.trials)
    assert [n for p in progress for n, _, _ in p.started] == [
        t.number for t in result.trials if t.state != "duplicate"
    ]
    assert (
        sum(len(p.reports) for p in progress) == result.epochs_spent == sum(t.epochs for t in result.trials)
    )
    complete = [(t.value, t.number) for t in result.trials if t.state == "complete" and t.value is not None]
    assert result.best == min(complete)[1]
    assert json.loads(json.dumps(dataclasses.asdict(result), allow_nan=False))["best"] == result.best


@pytest.mark.parametrize("pruner", ["asha", "none"])
def test_improvements_are_the_best_complete_trial_so_far(pruner: str) -> None:
    progress, result = run(a_study(pruner=pruner))
    expected: list[tuple[int, int, float]] = []
    for p in progress:
        for trial in p.ended:
            better = trial.state == "complete" and trial.value is not None
            if better and (not expected or trial.value < expected[-1][2]):
                expected.append((p.ticks, trial.number, trial.value))
    assert [(i.ticks, i.trial, i.value) for i in result.improvements] == expected and len(expected) > 1
    spent = {p.ticks: (p.epochs_spent, len(p.reports)) for p in progress}
    for found in result.improvements:
        after, reports = spent[found.ticks]
        assert after - reports < found.epochs <= after
    assert result.improvements[-1].trial == result.best


def test_values_and_epochs_are_those_of_the_reports() -> None:
    progress, result = run(a_study())
    by_trial: dict[int, list[Report]] = {}
    for report in (r for p in progress for r in p.reports):
        by_trial.setdefault(report.number, []).append(report)
    for trial in result.trials:
        scores = [r.scores["valid/rmse"] for r in by_trial.get(trial.number, [])]
        assert trial.epochs == len(scores) == len(trial.curve)
        if trial.state in ("complete", "pruned"):
            assert trial.value == min(scores) and trial.best_epoch == scores.index(min(scores)) + 1
        if trial.state == "failed":
            assert trial.value is trial.best_epoch is None
            assert trial.reason == f"nonfinite loss at epoch {trial.epochs}"
            assert trial.curve[-1]["train/loss"] is None


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_twice_the_same_search_gives_the_same_table(strategy: str) -> None:
    study = a_study(strategy=strategy, rung_first=4)  # late enough for a large lr to fail before it is behind
    (_, once), (_, again) = run(study), run(study)
    assert table(once.trials) == table(again.trials)
    assert {t.state for t in once.trials} >= {"complete", "pruned", "failed"}


@given(seed=st.integers(0, 2**32 - 1), lanes=st.sampled_from([2, 7, 64]))
@FEW
def test_random_search_without_pruning_does_not_depend_on_the_number_of_lanes(seed: int, lanes: int) -> None:
    # choices only, so that there are duplicates, of running trials too
    space = {"lr": [1e-4, 1e-3, 1e-2, 0.06], "weight_decay": 0.0, "batch_size": [32, 64]}
    study = a_study(strategy="random", pruner="none", space=space)
    study = study.model_copy(update={"seed": seed})
    one, many = run(study, 1)[1], run(study, lanes)[1]
    assert table(one.trials) == table(many.trials)
    assert one.best == many.best and one.epochs_spent == many.epochs_spent
    assert any(t.state == "duplicate" for t in one.trials)


def test_pruned_trials_were_behind_at_a_rung_and_the_best_was_not() -> None:
    _, result = run(a_study(trials=40, strategy="random"), 64)
    pruned = [t for t in result.trials if t.state == "pruned"]
    assert pruned and {t.epochs for t in pruned} <= {2, 4, 8}
    assert all(t.reason == f"behind at epoch {t.epochs}" for t in pruned)
    assert result.epochs_spent < result.epochs_full
    # by hand: all that get to the first rung arrive in one tick; the better half stays, and the default
    at_rung = sorted(
        (min(c["valid/rmse"] or 9.0 for c in t.curve[:2]), t.number) for t in result.trials if t.epochs >= 2
    )
    reached = [n for _, n in at_rung if result.trials[n].state != "failed" or result.trials[n].epochs > 2]
    stopped = {t.number for t in pruned if t.epochs == 2}
    assert stopped == set(reached[len(reached) // 2 :]) - {0}


def test_epochs_full_counts_what_pruning_saved() -> None:
    progress, result = run(a_study(strategy="random"))
    expected = sum(12 if t.state == "pruned" else t.epochs for t in result.trials)
    assert result.epochs_full == expected == progress[-1].epochs_full
    assert progress[0].epochs_full == 30 * 12


def test_progress_adds_up_and_ends_at_nothing_left() -> None:
    progress, result = run(a_study())
    for p in progress:
        asked = p.done + p.pruned + p.failed + p.duplicates + p.running
        assert asked <= 30 and (p.eta_s is None or p.eta_s >= 0)
    assert progress[-1].running == 0 and progress[-1].eta_s == pytest.approx(0.0)
    assert [p.ticks for p in progress] == sorted(p.ticks for p in progress)
    assert result.ending == "the budget of 30 trials is spent"


# --- budgets


@given(budget=st.integers(1, 150), lanes=st.integers(1, 20))
@FEW
def test_a_budget_of_epochs_is_not_exceeded_but_to_complete_one_trial(budget: int, lanes: int) -> None:
    _, result = run(a_study(trials=None, epochs=budget, strategy="random"), lanes)
    complete = [t for t in result.trials if t.state == "complete"]
    assert complete
    last = max(t.epochs for t in complete)
    assert result.epochs_spent <= budget or (len(complete) == 1 and result.epochs_spent <= budget + last)
    assert result.ending == f"the budget of {budget} epochs is spent"
    assert budget - result.epochs_spent < 3 * lanes  # and it is used: three pools of lanes at most remain


def test_a_budget_of_seconds_ends_the_search_at_a_tick() -> None:
    study = a_study(trials=None, seconds=20.0, pruner="none")
    steps = minimize_rmse(study, a_space(study), FakeTrainer(3), elapsed=lambda tick: 1.0 * tick)
    progress, result = drain(steps)
    assert result.seconds == 20.0 and result.ending == "the budget of 20 seconds is spent"
    assert progress[-1].ticks == 20
    cut = [t for t in result.trials if t.reason == result.ending]
    assert cut and all(t.state == "pruned" for t in cut)


def test_budgets_combine_and_the_first_one_spent_counts() -> None:
    assert run(a_study(trials=5, epochs=10_000))[1].ending == "the budget of 5 trials is spent"
    assert run(a_study(trials=500, epochs=60))[1].ending == "the budget of 60 epochs is spent"


# --- duplicates


SMALL = {"lr": [1e-3, 1e-2], "weight_decay": 0.0, "width": [16, 32, 64]}  # 6 configurations


@pytest.mark.parametrize("strategy", ["random", "tpe", "iterative"])
def test_a_small_space_is_tried_once_and_the_search_says_so(strategy: str) -> None:
    study = a_study(space=SMALL, trials=200, strategy=strategy, pruner="none")
    space = a_space(study)
    _, result = run(study, 2)
    trained = [t for t in result.trials if t.state != "duplicate"]
    assert len(trained) == len({space.key(t.config) for t in trained}) == 6
    assert result.ending == "every configuration of the space was tried: there are 6"
    assert len(result.trials) < 6 + 6 * 6


def test_a_duplicate_has_the_value_of_its_original_and_costs_nothing() -> None:
    study = a_study(space=SMALL, trials=12, strategy="random", pruner="none")
    progress, result = run(study, 64)
    duplicates = [t for t in result.trials if t.state == "duplicate"]
    assert duplicates
    for t in duplicates:
        assert t.duplicate_of is not None
        original = result.trials[t.duplicate_of]
        assert original.state != "duplicate" and t.config == original.config and t.value == original.value
        assert (
            t.epochs == 0 and t.curve == [] and t.reason == f"same configuration as trial {original.number}"
        )
        when = {e.number: place for place, p in enumerate(progress) for e in p.ended}
        assert when[t.number] >= when[original.number]


def test_with_nothing_to_search_one_trial_is_trained() -> None:
    _, result = run(a_study(space={"lr": 0.01, "weight_decay": 0.0, "width": 32}))
    assert [t.state for t in result.trials] == ["complete"] + ["duplicate"] * 5
    assert result.best == 0


# --- control draws


def test_control_draws_come_from_the_wide_range() -> None:
    study = a_study(trials=200, strategy="random")
    space = a_space(study).narrow("lr", 1e-3, 1e-2)
    _, result = run(study, 64, space)
    controls = [t for t in result.trials if t.control]
    assert 10 <= len(controls) <= 32  # 20 expected, three standard deviations
    assert not result.trials[0].control
    assert any(not 1e-3 <= float(t.config["lr"]) <= 1e-2 for t in controls)
    assert all(1e-5 <= float(t.config["lr"]) <= 1e-1 for t in controls)
    assert all(1e-3 <= float(t.config["lr"]) <= 1e-2 for t in result.trials[1:] if not t.control)
    assert not any(t.control for t in run(study, 64)[1].trials)  # nothing narrowed, nothing to check


# --- failures


def test_all_trials_fail() -> None:
    steps = minimize_rmse(study := a_study(max_failures=5), a_space(study), FakeTrainer(2, hot))
    seen: list[Progress] = []
    with pytest.raises(SearchError, match="nonfinite loss") as caught:
        seen.extend(steps)
    assert caught.value.exit_code == 6
    assert "6 x nonfinite loss" in str(caught.value) or "5 x nonfinite loss" in str(caught.value)
    assert sum(p.failed for p in seen[-1:]) >= 5  # what failed was yielded before


def test_all_of_few_trials_fail() -> None:
    with pytest.raises(SearchError, match="no trial completed"):
        run(a_study(trials=3), 1, curve=hot)


def test_the_three_commonest_reasons_are_named() -> None:
    reasons = ["a", "b", "b", "c", "c", "c", "d", "d", "d", "d"]

    def fails(request: LaneRequest, epoch: int) -> Report:
        return Report(
            request.number, epoch, 0.1, {"valid/rmse": 1.0}, failed=f"{reasons[request.number]} at epoch 1"
        )

    with pytest.raises(SearchError) as caught:
        run(a_study(trials=10), 1, curve=fails)
    assert caught.value.given == "4 x d; 3 x c; 2 x b"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_nonfinite_metric_is_a_failure_and_never_the_best(bad: float) -> None:
    def third_fails(request: LaneRequest, epoch: int) -> Report:
        report = learning_curve(request, epoch)
        broken = request.number == 3 and epoch == 2
        return dataclasses.replace(report, scores={"valid/rmse": bad} if broken else report.scores)

    _, result = run(a_study(trials=6, strategy="random"), 6, curve=third_fails)
    assert result.trials[3].state == "failed" and result.trials[3].reason == "nonfinite valid/rmse at epoch 2"
    assert result.trials[3].value is None and result.best != 3


def test_an_undefined_side_metric_is_stored_as_none_and_fails_nobody() -> None:
    def undefined(request: LaneRequest, epoch: int) -> Report:
        report = learning_curve(request, epoch)
        return dataclasses.replace(report, scores={**report.scores, "valid/mae": math.nan})

    _, result = run(a_study(trials=2), curve=undefined)
    assert result.trials[0].state == "complete" and result.trials[0].curve[0]["valid/mae"] is None


def test_failures_in_a_row_are_counted_by_number_not_by_time() -> None:
    def most_fail_at_once(request: LaneRequest, epoch: int) -> Report:
        report = learning_curve(request, epoch)
        return dataclasses.replace(report, failed=None if request.number % 4 == 0 else "oom")

    study = a_study(trials=16, max_failures=4, strategy="random", space={"lr": {"low": 1e-4, "high": 1e-2}})
    _, result = run(study, 64, curve=most_fail_at_once)
    assert sum(t.state == "failed" for t in result.trials) == 12  # all in the first tick, never 4 neighbours


def test_the_last_trial_completes_if_all_others_failed_or_were_behind() -> None:
    def worse_and_worse(request: LaneRequest, epoch: int) -> Report:
        failed = "oom" if request.number == 0 or (request.number == 1 and epoch == 4) else None
        return Report(request.number, epoch, 0.1, {"valid/rmse": 1.0 + request.number}, failed=failed)

    _, result = run(
        a_study(trials=8, train={"patience": 0}, strategy="random", space={"width": 32}),
        2,
        curve=worse_and_worse,
    )
    # 1 stops 2 at the first rung, then fails; 2 stops all that follow but 7, when nothing else is left
    assert [t.state for t in result.trials] == ["failed", "failed"] + ["pruned"] * 5 + ["complete"]
    assert result.best == 7


def test_a_trial_that_failed_later_is_not_one_to_beat() -> None:
    def falls_apart(request: LaneRequest, epoch: int) -> Report:
        failed = "oom" if request.number == 1 and epoch == 3 else None
        return Report(request.number, epoch, 0.1, {"valid/rmse": 9.0 - request.number % 3}, failed=failed)

    study = a_study(trials=3, train={"patience": 0}, strategy="random", rung_factor=3, space={"width": 32})
    _, result = run(study, 1, curve=falls_apart)
    assert [t.state for t in result.trials] == ["complete", "failed", "complete"]


def test_the_objective_must_be_reported() -> None:
    with pytest.raises(SearchError, match="valid/r2"):
        drain(search(a_study(), a_space(a_study()), FakeTrainer(2), metric="r2", direction="maximize"))


def test_a_trainer_without_lanes_is_refused() -> None:
    with pytest.raises(SearchError, match="no lane is free"):
        run(a_study(), 0)


# --- several shapes


def test_no_trial_overtakes_one_that_waits_for_its_shape() -> None:
    study = a_study(strategy="random", pruner="none", train={"patience": 0})
    progress, result = run(study, 1)  # one lane for each width
    started = [n for p in progress for n, _, _ in p.started]
    assert started == sorted(started)
    assert max(p.running for p in progress) > 1 and result.lanes > 1


def test_tpe_is_asked_as_late_as_possible() -> None:
    """With one lane, trial n knows all the results before it: as if asked by hand, one after another."""
    study = a_study(space={"width": 32}, pruner="none", startup=3, trials=8)
    space = a_space(study)
    _, result = run(study, 1)
    from lanewise.search.records import Told

    history: list[Told] = []
    for trial in result.trials:
        if trial.number > 0:
            config: Config = STRATEGIES["tpe"](study, space, "minimize").ask(trial.number, history)
            assert config == trial.config
        state = trial.state
        assert state != "duplicate"
        history.append(Told(trial.number, trial.config, state, trial.value, trial.epochs, ()))


# --- resuming


def the_ledger(path: Path, study: Study, space: Space) -> Ledger:
    return Ledger(path, definition(study, space, metric="rmse", direction="minimize", data="sha"))


def recorded(
    path: Path, study: Study, trainer: FakeTrainer, stop_after: int | None = None
) -> tuple[list[Progress], SearchResult | None]:
    """One run of the program: until its end, or until it is killed in a tick or between two."""
    space = a_space(study).narrow("lr", 1e-4, 0.08)
    progress: list[Progress] = []
    with the_ledger(path, study, space) as ledger:
        steps = minimize_rmse_recorded(study, space, trainer, ledger)
        try:
            for _ in itertools.count():
                if len(progress) == stop_after:
                    return progress, None
                progress.append(next(steps))
        except KilledError:
            return progress, None
        except StopIteration as stop:
            return progress, stop.value
    raise AssertionError("unreachable")


@given(
    kills=st.lists(st.integers(1, 40), max_size=3),
    lanes=st.integers(1, 9),
    strategy=st.sampled_from(sorted(STRATEGIES.keys() - {"gp"})),  # it has its own test: 0.2 s an answer
    pruner=st.sampled_from(["asha", "hyperband", "median"]),
    seed=st.integers(0, 99),
    checkpoints=st.booleans(),
    audit=st.sampled_from([0.0, 0.4]),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_resumed_search_is_the_uninterrupted_one(
    tmp_path_factory: pytest.TempPathFactory, kills: list[int], lanes: int, strategy: str, pruner: str,
    seed: int, checkpoints: bool, audit: float,
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("resume")
    study = a_study(strategy=strategy, pruner=pruner, trials=18, audit=audit).model_copy(update={"seed": seed})
    _, straight = recorded(folder / "straight.db", study, FakeTrainer(lanes))
    kept: dict[int, list[Report]] = {}
    for kill in [*kills, None]:
        trainer = FakeTrainer(lanes, dies_at=kill)
        trainer.kept = kept if checkpoints else {}
        progress, resumed = recorded(folder / "broken.db", study, trainer)
        kept = trainer.kept
    assert straight is not None and resumed is not None
    assert table(resumed.trials) == table(straight.trials)
    assert without_clock(resumed) == without_clock(straight)
    assert sum(len(p.reports) for p in progress) == straight.epochs_spent
    # the files agree too: nothing twice, nothing left over, wherever it was killed
    files = [table(read_trials(folder / name)) for name in ("broken.db", "straight.db")]
    assert files == [table(straight.trials)] * 2


def test_a_checkpoint_saves_the_epochs_before_it(tmp_path: Path) -> None:
    study = a_study(pruner="none", train={"patience": 0})
    trained, saved = {}, 0
    for name, with_checkpoint in (("without", False), ("with", True)):
        killed, again = FakeTrainer(4, dies_at=12), FakeTrainer(4)
        recorded(tmp_path / name, study, killed)  # 11 ticks are in the ledger, 9 in the checkpoint
        again.kept = killed.kept if with_checkpoint else {}
        recorded(tmp_path / name, study, again)
        trained[name] = again.trained
        saved = 9 * len(killed.lanes)
    assert trained["without"] - trained["with"] == saved >= 4 * 9


def test_replayed_ticks_train_nothing_and_say_so(tmp_path: Path) -> None:
    study = a_study(pruner="none", train={"patience": 0})
    first, _ = recorded(tmp_path / "l.db", study, FakeTrainer(4, dies_at=18))
    assert len(first) == 17 and not any(p.replayed for p in first)
    trainer = FakeTrainer(4)
    again, result = recorded(tmp_path / "l.db", study, trainer)
    assert result is not None
    assert [p.replayed for p in again] == [True] * 17 + [False] * (len(again) - 17)
    assert [dataclasses.replace(p, replayed=False) for p in again[:17]] == first  # seconds and all
    assert again[17].elapsed_s >= first[-1].elapsed_s
    # of the 17 ticks, only the present epochs of the lanes that ran were trained again
    interrupted = {r.number for r in again[17].reports}
    lost = sum(r.number in interrupted for p in again[:17] for r in p.reports)
    assert lost > 0 and trainer.trained == lost + sum(len(p.reports) for p in again[17:])


def test_a_finished_search_is_repeated_without_training(tmp_path: Path) -> None:
    _, result = recorded(tmp_path / "l.db", a_study(), FakeTrainer(4))
    idle = FakeTrainer(4)
    progress, again = recorded(tmp_path / "l.db", a_study(), idle)
    assert idle.ticks == 0 and all(p.replayed for p in progress)
    assert again == result  # wall-clock seconds too: they are those of the first time


def test_a_search_killed_between_ticks_keeps_what_it_yielded(tmp_path: Path) -> None:
    progress, _ = recorded(tmp_path / "l.db", a_study(), FakeTrainer(4), stop_after=14)
    ended = {t.number for p in progress for t in p.ended}
    assert ended and {t.number for t in read_trials(tmp_path / "l.db")} == ended


@pytest.mark.parametrize("strategy", sorted(STRATEGIES.keys() - {"grid", "gp"}))
def test_a_search_continued_with_more_trials_is_the_longer_search(tmp_path: Path, strategy: str) -> None:
    short, long = a_study(trials=9, strategy=strategy), a_study(trials=25, strategy=strategy)
    recorded(tmp_path / "l.db", short, FakeTrainer(4))
    _, continued = recorded(tmp_path / "l.db", long, FakeTrainer(4))
    _, straight = recorded(tmp_path / "s.db", long, FakeTrainer(4))
    assert continued is not None and straight is not None
    assert table(continued.trials) == table(straight.trials) == table(read_trials(tmp_path / "l.db"))


def test_a_budget_of_epochs_may_grow(tmp_path: Path) -> None:
    short, long = a_study(epochs=40), a_study(epochs=90)
    recorded(tmp_path / "l.db", short, FakeTrainer(4))
    _, continued = recorded(tmp_path / "l.db", long, FakeTrainer(4))
    _, straight = recorded(tmp_path / "s.db", long, FakeTrainer(4))
    assert continued is not None and straight is not None
    assert table(continued.trials) == table(straight.trials) == table(read_trials(tmp_path / "l.db"))


def test_other_lanes_give_the_search_with_those_lanes(tmp_path: Path) -> None:
    study = a_study(strategy="tpe")
    recorded(tmp_path / "l.db", study, FakeTrainer(7, dies_at=20))
    _, moved = recorded(tmp_path / "l.db", study, FakeTrainer(2))
    _, straight = recorded(tmp_path / "s.db", study, FakeTrainer(2))
    assert moved is not None and straight is not None
    assert table(moved.trials) == table(straight.trials) == table(read_trials(tmp_path / "l.db"))


def test_seconds_of_earlier_runs_count(tmp_path: Path) -> None:
    study = a_study(trials=None, seconds=1e-9 + 3600.0)
    space = a_space(study)
    with the_ledger(tmp_path / "l.db", study, space) as ledger:
        for tick, p in enumerate(minimize_rmse_recorded(study, space, FakeTrainer(2), ledger), start=1):
            ledger.write(tick, 3599.9 if tick == 3 else p.elapsed_s, started=(), reports=(), ended=())
            if tick == 3:
                break
    with the_ledger(tmp_path / "l.db", study, space) as ledger:
        ledger.write(3, 3600.5, started=(), reports=(), ended=())
        _, result = drain(minimize_rmse_recorded(study, space, FakeTrainer(2), ledger))
    assert result.seconds >= 3600.5 and result.ending == "the budget of 3600 seconds is spent"


def test_a_lane_that_does_not_repeat_its_record_fails_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study = a_study(
        pruner="none", train={"patience": 0}, space={"lr": {"low": 1e-4, "high": 1e-2, "log": True}}
    )
    recorded(tmp_path / "l.db", study, FakeTrainer(2, dies_at=6))

    def changed(request: LaneRequest, epoch: int) -> Report:
        report = learning_curve(request, epoch)
        return dataclasses.replace(report, failed="oom" if request.number == 1 and epoch == 4 else None)

    _, result = recorded(tmp_path / "l.db", study, FakeTrainer(2, changed))
    assert result is not None and result.trials[1].state == "failed" and result.trials[1].reason == "oom"
    assert result.trials[1].epochs == 6
    assert result.trials[0].state == "complete"
    assert "trials [1] train differently" in caplog.text
