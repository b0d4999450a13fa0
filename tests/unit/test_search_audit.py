"""The pruner audit: it changes no decision of the search, and its estimate is right; by hand and against scipy."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, kendalltau
from test_search_run import FakeTrainer, a_space, a_study, drain, minimize_rmse, recorded, run, table

from lanewise.errors import StudyError
from lanewise.ledger import Ledger, Report, TrialRecord, definition, read_ledger
from lanewise.search import STRATEGIES, Audit, LaneRequest, SearchResult, audit_words
from lanewise.search.audit import audit, hidden, is_audited, kendall
from lanewise.search.proposals import Proposal
from lanewise.search.trial import Trial
from lanewise.study import Study, load_study

FEW = settings(max_examples=15, deadline=None)


def audited(result: SearchResult) -> list[TrialRecord]:
    return [t for t in result.trials if t.audited_from is not None]


# --- what it may not change


class RoomForAudits(FakeTrainer):
    """Lanes of which a trial past the epoch where it would have been stopped takes none."""

    def __init__(self, capacity: int, stops: dict[int, int]) -> None:
        super().__init__(capacity)
        self.stops = stops

    def free(self, request: LaneRequest) -> bool:
        lanes = [r for r, done in self.lanes.values() if len(done) < self.stops.get(r.number, 10_000)]
        return sum(r.config.get("width") == request.config.get("width") for r in lanes) < self.capacity


@given(
    strategy=st.sampled_from(sorted(STRATEGIES.keys() - {"gp"})),  # 0.2 s an answer
    pruner=st.sampled_from(["asha", "hyperband", "median"]),
    lanes=st.integers(1, 9), share=st.sampled_from([0.3, 1.0]), seed=st.integers(0, 99),
    more=st.sampled_from([{}, {"patience": 6}, {"noise_seeds": 3}]),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_with_lanes_to_spare_the_search_decides_as_without_it(
    strategy: str, pruner: str, lanes: int, share: float, seed: int, more: dict[str, Any]
) -> None:
    """Whatever learns, prunes or gives up must not see an audited trial go on: every other trial is the same."""
    if strategy == "grid":
        more = {k: v for k, v in more.items() if k != "patience"}
    study = a_study(strategy=strategy, pruner=pruner, **more).model_copy(update={"seed": seed})
    _, without = run(study, lanes)
    stops = {t.number: t.epochs for t in without.trials if t.state == "pruned"}
    study = study.model_copy(update={"search": study.search.model_copy(update={"audit": share})})
    _, found = drain(minimize_rmse(study, a_space(study), RoomForAudits(lanes, stops)))
    assert {t.number for t in audited(found)} == {n for n in stops if is_audited(study, n)}
    assert found.ending == without.ending and found.rounds == without.rounds
    for before, after in zip(table(without.trials), table(found.trials), strict=True):
        original = after.duplicate_of if after.duplicate_of is not None else after.number
        if found.trials[original].audited_from is None:
            assert after == before
        elif after.duplicate_of is None:
            assert (after.config, after.seed, after.audited_from) == (before.config, before.seed, before.epochs)
            assert after.curve[: before.epochs] == before.curve and after.state in ("complete", "failed")
            assert len(after.curve) > len(before.curve) and before.state == "pruned"


def test_an_audited_trial_is_trained_to_its_end_and_competes() -> None:
    def late_bloomers(request: LaneRequest, epoch: int) -> Report:
        score = 0.1 if epoch == 12 and request.number == 7 else 1.0 + request.number
        return Report(request.number, epoch, 0.1, {"valid/rmse": score})

    options = {"trials": 8, "train": {"patience": 0}, "strategy": "random", "space": {"width": 32}}
    assert run(a_study(**options), 8, curve=late_bloomers)[1].best == 0
    progress, result = run(a_study(**options, audit=1.0), 8, curve=late_bloomers)
    best = result.trials[7]
    assert result.best == 7 and (best.state, best.value, best.epochs, best.audited_from) == ("complete", 0.1, 12, 2)
    assert result.improvements[-1].trial == 7 and progress[-1].best_number == 7
    assert result.audit is not None and result.audit.missed[0].seen == 1 and result.audit.missed[0].bar == 1.0
    assert audit_words(result.audit) == (
        "audit: 1 of 6 dropped trials that went on beat all others (1 to 1 of 6, confidence 95 %)"
    )


def test_a_failure_after_the_stop_is_a_failure_but_not_one_that_ends_the_search() -> None:
    def breaks(request: LaneRequest, epoch: int) -> Report:
        failed = "oom" if request.number and epoch == 5 else None
        return Report(request.number, epoch, 0.1, {"valid/rmse": 1.0 + request.number}, failed=failed)

    options = {"trials": 12, "max_failures": 5, "train": {"patience": 0}, "strategy": "random", "rung_factor": 5}
    _, result = run(a_study(**options, audit=1.0, space={"width": 32}), 1, curve=breaks)
    assert [t.state for t in result.trials] == ["complete"] + ["failed"] * 11
    assert all(t.audited_from == 2 and t.value is None and t.epochs == 5 for t in result.trials[1:])
    assert result.audit is not None and result.audit.dropped == result.audit.audited == 11
    assert result.audit.cost == 11 * 3 and result.audit.missed[0].seen == 0


def test_a_cell_of_a_grid_that_fails_as_a_sample_is_a_pruned_one() -> None:
    def breaks(request: LaneRequest, epoch: int) -> Report:
        failed = "oom" if request.number and epoch == 5 else None
        return Report(request.number, epoch, 0.1, {"valid/rmse": 1.0 + request.number}, failed=failed)

    study = a_study(strategy="grid", audit=1.0, rung_factor=5, train={"patience": 0}, max_failures=99)
    _, result = run(study, 1, curve=breaks)
    assert result.grid is not None and audited(result)
    states = {t.number: cell.state for cell in result.grid for t in audited(result) if t.config == cell.config}
    assert set(states.values()) == {"pruned"}, "nothing is retried, nothing is missing"


# --- resuming and the record


def test_who_was_audited_and_from_where_is_in_the_ledger(tmp_path: Path) -> None:
    study = a_study(audit=0.5, strategy="random")
    _, result = recorded(tmp_path / "l.db", study, FakeTrainer(4))
    assert result is not None and audited(result)
    kept = read_ledger(tmp_path / "l.db").trials
    assert {t.number: t.audited_from for t in kept} == {t.number: t.audited_from for t in result.trials}
    assert {t.state for t in kept if t.audited_from is not None} <= {"complete", "failed"}


def test_a_study_without_audit_is_what_it_was_before_there_was_one(tmp_path: Path) -> None:
    space = a_space(a_study())
    goal = {"metric": "rmse", "direction": "minimize", "data": "sha"}
    assert "audit" not in definition(a_study(), space, **goal)["search"]
    Ledger(tmp_path / "l.db", definition(a_study(audit=0), space, **goal)).close()
    with pytest.raises(StudyError, match=r"search\.audit: absent -> 0\.2"):
        Ledger(tmp_path / "l.db", definition(a_study(audit=0.2), space, **goal))


@pytest.mark.parametrize(
    ("search", "says"),
    [
        ("{audit: 0.2, pruner: none}", "a pruner that stops trials"),
        ("{audit: 1.2}", "less than or equal to 1"),
        ("{audit: -0.1}", "greater than or equal to 0"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, search: str, says: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(f"data: {{source: sklearn:digits}}\nsearch: {search}\n")
    with pytest.raises(StudyError, match=says) as caught:
        load_study(path)
    assert caught.value.where is not None and "audit" in str(caught.value)


# --- the estimate


def drawn(study: Study) -> list[int]:
    return [n for n in range(3000) if is_audited(study, n)]


def test_the_draw_has_the_declared_share_and_depends_on_seed_and_number_only() -> None:
    study = a_study(audit=0.3)
    found = drawn(study)
    assert abs(len(found) - 900) < 4 * math.sqrt(3000 * 0.3 * 0.7)
    assert found == drawn(a_study(audit=0.3, strategy="grid", lanes=3)) and set(found) < set(drawn(a_study(audit=0.6)))
    assert found != drawn(study.model_copy(update={"seed": 4}))
    assert drawn(a_study()) == [] and len(drawn(a_study(audit=1.0))) == 3000


def trial(number: int, state: str, curve: list[float], audited_from: int | None = None, **more: Any) -> Trial:
    config = {"lr": 0.1 / (number + 1)}
    proposal = Proposal(config, str(number), False, None)
    value = None if state == "failed" else min(curve, default=None)
    made = {"seed": 0, "begun_s": 0.0, "begun": 0, "value": value, "epochs": len(curve), "objective": curve}
    return Trial(number, proposal, state=state, audited_from=audited_from, **(made | more))  # type: ignore[arg-type]


FULL = 12  # epochs of `a_study`; rungs at 2 and 4


def curve(*scores: float) -> list[float]:
    """A score for each of some epochs, then the last one up to the end."""
    return [*scores, *[scores[-1]] * (FULL - len(scores))]


BY_HAND = [
    trial(0, "complete", curve(5.0, 4.0, 3.0)),
    trial(1, "complete", curve(4.0, 3.5, 2.0)),
    trial(2, "complete", curve(4.5, 3.9, 2.5)),
    trial(3, "complete", curve(4.9, 4.8, 1.0), 2),  # best of all in the end
    trial(4, "complete", curve(9.0, 8.0, 7.0, 2.7), 2),  # third in the end, after 1 and 2
    trial(5, "failed", [9.0, 9.0, 9.0], 2),
    trial(6, "complete", [6.0, 6.0, 6.0, 6.0, 6.0], 2),  # out of patience
    *(trial(n, "pruned", [9.0, 8.0]) for n in range(7, 11)),
    trial(11, "failed", [1.0]),
    dataclasses.replace(trial(12, "duplicate", []), proposal=Proposal({}, "", False, 3), value=0.1),
    dataclasses.replace(trial(13, "complete", curve(0.2)), proposal=Proposal({}, "", False, None, repeat=True)),
]
BY_HAND[12].value = 0.1


def test_the_estimate_worked_by_hand() -> None:
    study = a_study(audit=0.5)
    found = audit(study, BY_HAND, "minimize")
    assert found is not None
    assert (found.dropped, found.audited, found.late, found.share, found.confidence) == (8, 4, 0, 0.5, 0.95)
    best, third = found.missed
    assert (best.best, best.bar, best.seen) == (1, 2.0, 1)  # 1.0 beats 2.0
    # 4 of 8 are audited: at least one is seen of 1 with probability 1/2, at most one of 5 with 5/70
    assert (best.low, best.high) == (1, 5)
    assert (third.best, third.bar, third.seen) == (3, 3.0, 2)  # 1.0 and 2.7 beat 3.0, the third of 2.0, 2.5, 3.0
    assert found.cost == 10 + 10 + 1 + 3 and found.saved == 24  # four others, 24 / 4 epochs each
    # Rung 2. Weights 1, 1, 1 of trials 0 to 2, 2, 2, 2 of 3, 4 and 6; by then 4.0 3.5 3.9 4.8 8.0 6.0, in the end
    # 3.0 2.0 2.5 1.0 2.7 6.0. In order 01 02 12 04 14 24 06 16 26 36 46?: 46 is not (8.0 > 6.0, 2.7 < 6.0).
    # agree: 01 02 12 (1 each), 14 24 06 16 26 (2), 34 36 (4); against: 03 13 23 04 (2), 46 (4)
    agree, against = 3 + 5 * 2 + 2 * 4, 4 * 2 + 4
    assert [(r.epoch, r.trials) for r in found.rungs] == [(2, 6), (4, 6)]
    assert found.rungs[0].tau == pytest.approx((agree - against) / (agree + against))


def test_maximising_is_minimising_the_negative() -> None:
    turned = [dataclasses.replace(t, value=None if t.value is None else -t.value, objective=[-s for s in t.objective])
              for t in BY_HAND]  # fmt: skip
    one, other = audit(a_study(audit=0.5), BY_HAND, "minimize"), audit(a_study(audit=0.5), turned, "maximize")
    assert one is not None and other is not None
    missed = tuple(dataclasses.replace(m, bar=-m.bar) for m in other.missed)
    assert dataclasses.replace(other, missed=missed) == one


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert audit(a_study(), BY_HAND, "minimize") is None
    study = a_study(audit=0.5)
    nobody = audit(study, [t for t in BY_HAND if t.audited_from is None], "minimize")
    assert nobody is not None and (nobody.dropped, nobody.audited, nobody.missed, nobody.rungs) == (4, 0, (), ())
    assert nobody.saved is None and nobody.cost == 0
    assert audit_words(nobody) == "audit: 0 of 4 dropped trials went on; that says nothing of the pruner"
    alone = audit(study, [t for t in BY_HAND if t.audited_from is not None], "minimize")
    assert alone is not None and alone.audited == alone.dropped == 4 and alone.missed == ()


def test_trials_that_began_too_late_do_not_count_whatever_became_of_them() -> None:
    """The budget ends after tick 14: a whole training fits where a trial began by tick 2."""
    spent = "the budget of 99 epochs is spent"
    cut = trial(14, "pruned", [9.0] * 5, 2, begun=9, reason=spent)
    late = [
        cut,
        trial(15, "pruned", [9.0, 8.0], begun=5),  # dropped; if drawn it could not have ended either
        trial(16, "complete", [0.5] * 6, 2, begun=5),  # ended early by itself, and would count for more than it is
        trial(17, "pruned", [3.0] * 2, begun=12, reason=spent),  # by the budget: not dropped
    ]
    in_time = [trial(18, "pruned", [9.0, 8.0], begun=2), trial(19, "complete", curve(0.7), 2, begun=2)]
    found = audit(a_study(audit=0.5), [*BY_HAND, *late, *in_time], "minimize")
    assert found is not None
    assert (found.dropped, found.audited, found.late) == (8 + 2, 4 + 1, 3)
    assert found.missed[0].seen == 2 and found.cost == 24 + 3 + 4 + 10
    assert found.saved == round(6 * 34 / 5)  # of all others that were dropped, with the mean of those in time


@given(budget=st.integers(60, 160), lanes=st.integers(2, 20), seed=st.integers(0, 99))
@FEW
def test_a_budget_is_kept_and_what_it_cuts_off_is_no_sample(budget: int, lanes: int, seed: int) -> None:
    study = a_study(trials=None, epochs=budget, strategy="random", audit=0.5).model_copy(update={"seed": seed})
    _, result = run(study, lanes)
    complete = [t for t in result.trials if t.state == "complete"]
    assert result.epochs_spent <= budget or sum(t.audited_from is None for t in complete) == 1
    cut = [t for t in audited(result) if t.state == "pruned"]
    assert all(t.reason == f"the budget of {budget} epochs is spent" for t in cut)
    assert result.audit is not None and result.audit.late >= len(cut)
    assert result.audit.audited + result.audit.late >= len(audited(result))


@given(dropped=st.integers(1, 40), data=st.data(), confidence=st.sampled_from([0.5, 0.8, 0.95]))
@settings(max_examples=60, deadline=None)
def test_the_interval_covers_by_counting_all_samples(dropped: int, data: st.DataObject, confidence: float) -> None:
    """Exact coverage, from binomial coefficients; and no wider than Clopper and Pearson's."""
    size = data.draw(st.integers(1, dropped))
    found = [hidden(seen, size, dropped, confidence) for seen in range(size + 1)]
    for seen, (low, high) in enumerate(found):
        assert seen <= low <= high <= dropped - size + seen
        wide = binomtest(seen, size).proportion_ci(confidence, "exact")
        assert high - low <= (wide.high - wide.low) * dropped + 1
    for good in range(dropped + 1):
        covered = sum(
            math.comb(good, seen) * math.comb(dropped - good, size - seen)
            for seen, (low, high) in enumerate(found)
            if low <= good <= high
        )
        assert covered / math.comb(dropped, size) >= confidence - 1e-12


def test_the_interval_is_not_wider_than_it_must_be() -> None:
    assert hidden(3, 10, 10, 0.95) == (3, 3)  # all were seen
    assert hidden(0, 1, 100, 0.95) == (0, 97)  # 97 of 100 good, and one seen is not: 3 of 100; 98: below 2.5
    assert hidden(1, 2, 4, 0.95) == (1, 3)


@given(values=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 3)), min_size=2, max_size=12))
@settings(max_examples=60, deadline=None)
def test_a_weight_is_that_many_trials(values: list[tuple[int, int, int]]) -> None:
    """scipy's tau-b of the trials written out as often as they weigh; of weights 1 it is scipy's own."""
    a, b, weights = zip(*values, strict=True)
    many_a, many_b = np.repeat(a, weights), np.repeat(b, weights)
    expected = float(kendalltau(many_a, many_b).statistic)
    found = kendall(a, b, weights)
    assert (found is None) == math.isnan(expected)
    assert found is None or found == pytest.approx(expected, abs=1e-12)


def test_over_many_searches_the_estimate_is_unbiased_and_the_interval_covers() -> None:
    """150 small searches with lanes to spare; the truth is the same search with every dropped trial audited."""
    misses, covered, rates = [], [], []
    for seed in range(150):
        studies = [
            a_study(strategy="random", audit=share, trials=24, rung_first=1, rung_factor=4, space={"width": 32})
            for share in (0.4, 1.0)
        ]
        some, every = (run(s.model_copy(update={"seed": seed}), 64)[1].audit for s in studies)
        assert some is not None and every is not None and some.dropped == every.dropped == every.audited
        for mine, true in zip(some.missed, every.missed, strict=False):
            assert (mine.best, mine.bar) == (true.best, true.bar) and true.low == true.high == true.seen
            misses.append(mine.seen / some.audited - true.seen / every.dropped)
            covered.append(mine.low <= true.seen <= mine.high)
            rates.append(true.seen)
    error = float(np.std(misses, ddof=1) / math.sqrt(len(misses)))
    assert len(misses) >= 150 and np.mean(np.asarray(rates) > 0) > 0.2 and abs(np.mean(misses)) < 4 * error
    assert np.mean(covered) >= 0.95 - 4 * math.sqrt(0.05 * 0.95 / len(covered))


def test_the_record_is_plain_json() -> None:
    found = audit(a_study(audit=0.5), BY_HAND, "minimize")
    assert isinstance(found, Audit)
    assert json.loads(json.dumps(dataclasses.asdict(found), allow_nan=False))["missed"][0]["seen"] == 1
