"""The comparison of a record with its replay, by records made by hand; the log of replays; the report's words."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanewise.errors import StudyError, TrackingError
from lanewise.model import Network, resolve
from lanewise.replay import (
    INGREDIENTS,
    TOLERANCE,
    Epoch,
    changes,
    compare,
    recorded_epochs,
    setting_changes,
    trained_epoch,
    words,
)
from lanewise.report import build
from lanewise.study import load_study, rebuild_study
from lanewise.tracking import Tracker
from tasks import replay_log
from tasks.ingredients import network_digest
from tasks.replay import replay
from tasks.study_record import from_text, to_text

CURVES = {
    "train/loss": [(1, 0.5), (2, 0.25), (3, 0.125)],
    "valid/accuracy": [(1, 0.7), (2, 0.8), (3, 0.9)],
    "objective": [(3, 0.9)],
}
TAGS = {
    **dict.fromkeys(INGREDIENTS.values(), "x"),
    "lanewise.libraries": json.dumps({"torch": "2.13.0", "numpy": "2.4.6"}),
}


def epochs(state: str = "complete", reason: str | None = None) -> list[Epoch]:
    return recorded_epochs(CURVES, state, reason)


def test_a_record_is_its_curves_by_epoch() -> None:
    assert epochs() == [
        Epoch(1, {"train/loss": 0.5, "valid/accuracy": 0.7}),
        Epoch(2, {"train/loss": 0.25, "valid/accuracy": 0.8}),
        Epoch(3, {"train/loss": 0.125, "valid/accuracy": 0.9}),
    ]
    assert recorded_epochs({}, "complete", "same configuration as trial 4") == []


def test_a_failure_stands_at_the_epoch_its_reason_names_though_no_number_of_it_is_recorded() -> None:
    reason = "nonfinite loss at epoch 4, step 2"
    found = epochs("failed", reason)
    assert [epoch.failed for epoch in found] == [None, None, None, reason]
    assert found[3].values == {"train/loss": None, "valid/accuracy": None}
    nan = {"train/loss": math.nan, "valid/accuracy": 0.1}
    again = [*found[:3], trained_epoch(4, nan, reason, "valid/accuracy", last=True)]
    assert compare(found, again).differing == 1  # the score: the record has none
    again[3] = trained_epoch(4, dict.fromkeys(nan, math.inf), reason, "valid/accuracy", last=True)
    assert compare(found, again).answer == "EXACT"


def test_an_objective_that_is_not_finite_is_the_failure_the_search_records() -> None:
    values = {"train/loss": 1.0, "valid/auc": math.nan}
    assert trained_epoch(2, values, None, "valid/auc", last=True).failed == "nonfinite valid/auc at epoch 2"
    assert trained_epoch(2, values, None, "valid/auc", last=False).failed is None
    assert trained_epoch(2, values, "burnt", "valid/auc", last=True).failed == "burnt"


def test_equal_bits_are_exact_and_counted() -> None:
    found = compare(epochs(), epochs())
    assert (found.answer, found.epochs, found.values, found.differing) == ("EXACT", 3, 6, 0)
    assert found.first is None and found.largest is None
    assert words(found) == ["EXACT: all 6 values of 3 epochs have the recorded bits"]


@pytest.mark.parametrize(
    ("factor", "answer"),
    [(1 + 2**-52, "WITHIN TOLERANCE"), (1 + 0.9e-5, "WITHIN TOLERANCE"), (1 + 1.1e-5, "DIFFERENT")],
)
def test_the_tolerance_is_relative_and_per_value(factor: float, answer: str) -> None:
    again = epochs()
    again[1] = Epoch(2, {"train/loss": 0.25 * factor, "valid/accuracy": 0.8})
    found = compare(epochs(), again)
    assert found.answer == answer and found.differing == 1
    assert found.first is not None and (found.first.epoch, found.first.metric) == (2, "train/loss")
    assert (found.first.recorded, found.first.now) == (0.25, 0.25 * factor)
    assert words(found)[0].startswith(f"{answer}: 1 of 6 values of 3 epochs differ")


def test_the_first_difference_and_the_largest_are_both_named() -> None:
    again = epochs()
    again[1] = Epoch(2, {"train/loss": 0.25, "valid/accuracy": math.nextafter(0.8, 1)})
    again[2] = Epoch(3, {"train/loss": 0.5, "valid/accuracy": 0.9})
    found = compare(epochs(), again)
    assert found.first is not None and found.largest is not None
    assert (found.first.epoch, found.first.metric) == (2, "valid/accuracy")
    assert (found.largest.epoch, found.largest.metric, found.largest.relative) == (3, "train/loss", 0.75)
    text = "\n".join(words(found))
    assert re.search(r"first: +epoch 2, valid/accuracy: recorded 0\.8, now 0\.80000", text)
    assert re.search(r"largest: +epoch 3, train/loss: recorded 0\.125, now 0\.5 \(relative 7\.5e-01\)", text)
    assert "what is left is the machine" in text


@pytest.mark.parametrize(
    "again",
    [
        [],
        [Epoch(1, {"train/loss": 0.5, "valid/accuracy": None})],
        [Epoch(1, {"train/loss": 0.5, "valid/accuracy": 0.7, "valid/auc": 0.1})],
        [Epoch(1, {"train/loss": 0.5, "valid/accuracy": 0.7}, "nonfinite loss at epoch 1, step 1")],
    ],
    ids=["no epoch", "a number less", "a metric more", "a failure"],
)
def test_what_one_side_lacks_is_a_difference(again: list[Epoch]) -> None:
    found = compare(epochs()[:1], again)
    assert found.answer == "DIFFERENT" and found.largest is not None
    assert math.isinf(found.largest.relative)
    json.dumps(found.to_json(), allow_nan=False)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5), st.data())
def test_exact_says_equal_and_nothing_else_does(numbers: list[float], data: st.DataObject) -> None:
    old = [Epoch(i, {"train/loss": x}) for i, x in enumerate(numbers, 1)]
    place = data.draw(st.integers(0, len(numbers) - 1))
    other = data.draw(st.floats(allow_nan=False, allow_infinity=False))
    new = list(old)
    new[place] = Epoch(place + 1, {"train/loss": other})
    found = compare(old, new)
    assert (found.answer == "EXACT") == (numbers[place] == other)
    if found.answer == "WITHIN TOLERANCE":
        assert math.isclose(numbers[place], other, rel_tol=TOLERANCE * (1 + 1e-9))
    if found.answer == "DIFFERENT":
        assert not math.isclose(numbers[place], other, rel_tol=TOLERANCE * (1 - 1e-9))


@pytest.mark.parametrize("name", sorted(set(INGREDIENTS) - {"libraries"}))
def test_each_ingredient_that_changed_is_named_and_no_other(name: str) -> None:
    changed, unknown = changes(TAGS, TAGS | {INGREDIENTS[name]: "y"})
    assert [(c.ingredient, c.recorded, c.now) for c in changed] == [(name, "x", "y")] and not unknown


def test_libraries_are_ingredients_of_their_own() -> None:
    now = TAGS | {"lanewise.libraries": json.dumps({"torch": "2.14.0", "numpy": "2.4.6", "scipy": "1.17"})}
    changed, _ = changes(TAGS, now)
    assert [(c.ingredient, c.recorded, c.now) for c in changed] == [
        ("scipy", "absent", "1.17"),
        ("torch", "2.13.0", "2.14.0"),
    ]
    assert changes(TAGS, TAGS) == ([], [])
    assert [c.ingredient for c in changes(TAGS | {"lanewise.libraries": "odd"}, TAGS)[0]] == [
        "libraries",
        "numpy",
        "torch",
    ]


def test_what_is_not_in_an_old_record_is_said() -> None:
    changed, unknown = changes({"lanewise.data": "x"}, TAGS)
    assert not changed and unknown == [name for name in INGREDIENTS if name != "data"]
    said = words(compare(epochs(), epochs(), [], unknown))
    assert said[-1].startswith("not in the record, so not compared: split, code")


def test_settings_are_named_by_their_dotted_keys() -> None:
    old = {"seed": 0, "train": {"epochs": 5, "patience": 2}, "data": {"drop": ["a"]}}
    new = {"seed": 7, "train": {"epochs": 5, "patience": 3}, "data": {"drop": ["a"]}}
    found = [(c.ingredient, c.recorded, c.now) for c in setting_changes(old, new)]
    assert found == [("seed", "0", "7"), ("train.patience", "2", "3")]


def test_the_study_comes_back_whole_from_its_record_and_without_its_address(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(
        """
name: all
seed: 3
data: {source: t.csv, target: y, drop: [a], types: {b: category}}
model: {name: resnet, args: {}}
space:
  lr: {low: 1e-4, high: 1e-1, log: true}
  width: [16, 32]
  momentum: {low: 0.5, high: 0.9, when: {optimizer: sgd}}
register: {name: other, members: 2}
tracking: {uri: "postgresql://u:${CANARY}@h/db"}
""",
        encoding="utf-8",
    )
    os.environ["CANARY"] = "CANARY_9f3"
    study = load_study(file, {"train.epochs": "7"})
    del os.environ["CANARY"]
    text = to_text(study, tmp_path / "home")
    assert "CANARY_9f3" not in text and "postgresql" not in text
    record = from_text(text, "run")
    assert (record.base_dir, record.home) == (tmp_path.resolve(), tmp_path / "home")
    again = rebuild_study(record.definition, record.base_dir)
    assert again.model_copy(update={"tracking": study.tracking}).model_dump() == study.model_dump()
    assert again.train.epochs == 7
    assert again.base_dir == study.base_dir
    with pytest.raises(StudyError, match="epohcs"):
        rebuild_study(record.definition, record.base_dir, {"train.epohcs": "1"})
    for broken in ("", "[]", '{"format": 2}', '{"format": 1, "study": 3}'):
        with pytest.raises(TrackingError, match="cannot be read"):
            from_text(broken, "run")


def test_an_own_network_is_known_by_its_source(tmp_path: Path) -> None:
    def digest(name: str, extra: str) -> str:
        (tmp_path / f"{name}.py").write_text(
            "from torch import nn\nclass Tiny(nn.Module):\n"
            "    def __init__(self, n_features, n_outputs):\n        super().__init__()\n"
            f"        self.body = nn.Linear(n_features, n_outputs)\n{extra}"
            "    def forward(self, x):\n        return self.body(x)\n",
            encoding="utf-8",
        )
        return network_digest(resolve(f"{name}:Tiny", search_path=[tmp_path]))

    same = digest("replay_net_a", ""), digest("replay_net_b", "")
    assert same[0] == same[1] != digest("replay_net_c", "        self.n = 1\n")
    made: Any = dict  # written in C
    assert network_digest(Network("m", made, {}, {}, {}, frozenset(), "flat", ())) == "no source"


def test_replays_are_appended_and_a_torn_line_costs_itself_only(tmp_path: Path) -> None:
    assert replay_log.keep(tmp_path / "elsewhere", {"trial": "trial-0001"}) is None
    assert replay_log.kept(tmp_path) == []
    replay_log.keep(tmp_path, {"trial": "trial-0001"})
    path = tmp_path / replay_log.FILE
    path.write_bytes(path.read_bytes() + b'{"trial": "trial-0002", "ans')  # killed while it wrote
    assert replay_log.kept(tmp_path) == [{"trial": "trial-0001"}]
    replay_log.keep(tmp_path, {"trial": "trial-0003"})
    path.write_bytes(path.read_bytes() + b'[1]\n{"x": NaN}\n\xff\xfe\n')
    assert [one["trial"] for one in replay_log.kept(tmp_path)] == ["trial-0001", "trial-0003"]


def test_a_log_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / replay_log.FILE).mkdir()
    with pytest.raises(TrackingError, match="cannot be kept"):
        replay_log.keep(tmp_path, {})


def outcome(trial: int, answer: str = "EXACT", **more: Any) -> dict[str, Any]:
    counts = {"epochs": 9, "epochs_recorded": 9, "tolerance": 1e-5, "overrides": {}, "changed": []}
    return {"trial": f"trial-{trial:04d}", "answer": answer, **counts, **more}


def report_line(replays: list[dict[str, Any]] | None) -> str:
    from lanewise.report import Records

    trials = [
        {"number": n, "state": "complete", "value": 0.5, "epochs": 9, "config": {}, "curve": []}
        for n in range(8)
    ]
    search = {"metric": "accuracy", "direction": "maximize", "trials": trials, "best": 0}
    page = build(Records(study={"name": "s"}, search=search, replays=replays)).markdown
    found = re.search(r"^\| *replays *\| *(.*?) *\|$", page, re.MULTILINE)
    return found[1].replace("\u00a0", " ") if found else ""


def test_the_report_says_how_many_trials_were_replayed_and_how_they_came_out() -> None:
    assert report_line(None) == ""
    assert report_line([]) == (
        "none of 8 trials was trained again; this does it: lanewise replay s/trial-0000"
    )
    changed = [{"ingredient": "data", "recorded": "a", "now": "b"}]
    kept = [
        outcome(1, "DIFFERENT"),  # replayed again below: the last one counts
        outcome(1),
        outcome(2),
        outcome(3, "WITHIN TOLERANCE"),
        outcome(4, "DIFFERENT", changed=changed),
        outcome(5, epochs=3),  # its first epochs only
        outcome(6, "DIFFERENT", overrides={"seed": "7"}),  # on purpose
        outcome(7, overrides={"data.source": "new.csv"}),
    ]
    assert report_line(kept) == (
        "5 of 8 trials trained again from the record alone: 3 gave the recorded bits, "
        "1 came within 1e-05 of each value and 1 differed: trial 4 (data changed)"
    )


@pytest.fixture(scope="module")
def odd_runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Runs that cannot be replayed, in a real store."""
    folder = tmp_path_factory.mktemp("odd")
    uri = f"sqlite:///{folder}/mlflow.db"
    with Tracker("odd", uri, folder / "spool") as tracker:
        tracker.start_run("pipeline", stage="pipeline")
        tags = {"lanewise.split": "ab", "lanewise.seed": 1}
        for number in range(3):
            tracker.start_run(f"trial-{number:04d}", stage="search", parent="pipeline", config={}, tags=tags)
        tracker.end("trial-0001", "complete", reason="same configuration as trial 0", objective=1.0)
        tracker.log("trial-0002", 1, {"train/loss": 1.0})
        tracker.end("trial-0002", "pruned")
        tracker.start_run("trial-0003", stage="search", tags={"lanewise.split": "ab"})
        tracker.log("trial-0003", 1, {"train/loss": 1.0})
        assert not tracker.flush(30).unreachable

    def tried(run: str, **more: Any) -> Any:
        return replay(run, **{"uri": uri, **more})

    return tried


@pytest.mark.parametrize(
    ("run", "error", "says"),
    [
        ("odd/trial-0000", TrackingError, "not one epoch"),
        ("odd/trial-0001", StudyError, "lanewise replay odd/trial-0000"),
        ("odd/trial-0002", TrackingError, "study of this trial is not in the record"),
        ("odd/trial-0003", TrackingError, "no lanewise.seed, lanewise.config"),
        ("odd/trial-0004", TrackingError, "no such run"),
        ("other/trial-0001", TrackingError, "no such experiment"),
        ("odd/pipeline", StudyError, "names no trial"),
        ("odd", StudyError, "names no trial"),
        ("../odd/trial-0001", StudyError, "names no trial"),
        ("0" * 32, TrackingError, "cannot be read"),
    ],
)
def test_a_run_that_cannot_be_replayed_is_refused_with_the_reason(
    odd_runs: Callable[[str], Any], run: str, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        odd_runs(run)


def test_best_without_a_champion_and_a_place_without_a_database(
    odd_runs: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(TrackingError, match="no champion"):
        odd_runs("odd", best=True)
    with pytest.raises(StudyError, match="names no study"):
        odd_runs("o'dd", best=True)
    missing = tmp_path / "no.db"
    with pytest.raises(TrackingError, match="no MLflow database"):
        odd_runs("odd/trial-0001", uri=f"sqlite:///{missing}")
    assert not missing.exists()  # reading makes nothing


def test_a_server_that_is_away_is_said_within_seconds(odd_runs: Callable[..., Any]) -> None:
    with pytest.raises(TrackingError, match="cannot be read"):
        odd_runs("odd/trial-0001", uri="http://127.0.0.1:9")
