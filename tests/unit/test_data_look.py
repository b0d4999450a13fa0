"""What `lanewise init` writes: it names the leaks, and every file it writes is a study that prepares."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanewise.data import Look, look, prepare, write_study
from lanewise.errors import DataError, StudyError
from lanewise.study import Study, load_study

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
SNAPSHOT = Path(__file__).parents[1] / "snapshots" / "data_look.yaml"
TARGETS = {
    "titanic": ("survived", "binary", "accuracy"), "penguins": ("species", "multiclass", "accuracy"),
    "credit-g": ("class", "binary", "accuracy"), "wine-quality": ("quality", "regression", "rmse"),
    "diamonds": ("price", "regression", "rmse"), "abalone": ("rings", "regression", "rmse"),
    "auto-imports": ("price", "regression", "rmse"), "mammography": ("class", "binary", "roc_auc"),
    "car": ("class", "multiclass", "balanced_accuracy"), "googleplaystore": ("Rating", "regression", "rmse"),
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text: str) -> Study:
    Path("study.yaml").write_text(text, encoding="utf-8")
    return load_study("study.yaml")


def shared(name: str) -> Path:
    path = SHARED / name / "data.csv"
    if not path.exists():
        pytest.skip(f"no {path}")
    return path


@pytest.mark.parametrize("name", TARGETS)
def test_real_tables_go_from_look_to_prepared(name: str) -> None:
    target, task, metric = TARGETS[name]
    seen = look(shared(name), target)
    assert (seen.task, seen.metric) == (task, metric)
    study = load(write_study(seen))
    dataset = prepare(study).dataset
    assert (dataset.task, dataset.metric) == (task, metric)
    assert [w.column for w in dataset.warnings if w.code == "leak"] == []
    assert {column.name: column.kind for column in seen.columns} == dataset.summary()["columns"]
    arrays = dataset.arrays(dataset.holdout)
    assert np.isfinite(arrays.x_num_train).all() and np.isfinite(arrays.x_num_valid).all()
    json.dumps(dataset.summary(), allow_nan=False)


def test_titanic_drops_alive_with_its_reason_and_names_the_twins() -> None:
    seen = look(shared("titanic"), "survived")
    assert list(seen.drop) == ["alive"]
    text = write_study(seen)
    assert "  drop:\n    # the target under another name" in text and "\n    - alive\n" in text
    assert {w.column for w in seen.warnings if w.code == "twin"} == {"class", "embark_town"}
    assert load(text).data.drop == ("alive",)


def test_wine_counts_its_duplicates() -> None:
    messages = [w.message for w in look(shared("wine-quality"), "quality").warnings if w.code == "duplicates"]
    assert messages == ["1,177 of 6,497 rows repeat an earlier row"]


def test_the_shifted_line_of_the_play_store_is_named() -> None:
    seen = look(shared("googleplaystore"), "Rating")
    assert set(seen.drop) == {"Reviews", "Last Updated"}
    assert all("line 10474" in reason for reason in seen.drop.values())
    assert seen.gaps == 1474
    with pytest.raises(DataError, match="line 10474"):
        prepare(
            load(f"data:\n  source: {shared('googleplaystore')}\n  target: Rating\n  missing_target: drop\n")
        )


def test_a_misspelt_target_names_the_nearest() -> None:
    with pytest.raises(DataError, match="did you mean `survived`"):
        look(shared("titanic"), "surived")
    with pytest.raises(StudyError, match="`target` is missing"):
        look(shared("titanic"))


def test_bundled_data_need_no_target() -> None:
    seen = look("sklearn:iris")
    assert (seen.target, seen.task, seen.rows) == ("target", "multiclass", 150)
    assert prepare(load(write_study(seen))).dataset.classes == ("setosa", "versicolor", "virginica")


def test_few_rows_are_judged_by_their_probabilities() -> None:
    seen = look("sklearn:iris")  # 120 development rows, 24 of them for validation
    assert seen.metric == "log_loss"
    assert seen.metric_reason == "accuracy on 24 validation rows moves in steps; the probabilities do not"
    assert load(write_study(seen)).search.metric == "log_loss"
    assert look("sklearn:wine").metric == "log_loss"  # 28 of 142
    assert look("sklearn:breast_cancer").metric == "accuracy"  # 91 of 455


def test_look_seals_nothing(here: Path) -> None:
    look("sklearn:iris")
    assert list(here.iterdir()) == []


def test_infinite_numbers_are_named_and_left_to_the_user(here: Path) -> None:
    frame = pd.DataFrame(
        {"x": [1.5, np.inf, 2.5, 3.5, 4.5] * 8, "z": np.arange(40) % 7, "y": ["a", "b"] * 20}
    )
    frame.to_csv("t.csv", index=False)
    text = write_study(look("t.csv", "y"))
    assert "infinite: error  # infinite numbers in x" in text
    with pytest.raises(DataError, match="infinite"):
        prepare(load(text))


IRIS = look("sklearn:iris")
NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12,
).map(str.strip).filter(bool)


@settings(max_examples=60, deadline=None)
@given(st.lists(NAMES, min_size=3, max_size=3, unique=True), st.text(max_size=30))
def test_any_names_and_texts_make_a_study_that_reads_back(names: list[str], text: str) -> None:
    nasty = dataclasses.replace(
        IRIS, target=names[0], drop={names[1]: text, names[2]: "x " * 90}, left_out={names[1]: text},
        task_reason=text, infinite=(names[1],),
        settings={"format": "text", "encoding": "utf-8", "separator": "\t", "decimal": "."},
    )
    study = load(write_study(nasty))
    assert (study.data.target, study.data.drop) == (names[0], (names[1], names[2]))
    assert study.data.source == "sklearn:iris"


def test_the_text_is_the_recorded_one(here: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60)
    frame = pd.DataFrame({
        "customer_id": np.arange(60) + 1, "size": rng.normal(size=60).round(3),
        "copy": np.array(["u", "v"])[labels], "colour": ["red", "NA", "", "blue"] * 15,
        "bought": ["2024-01-05", "2023-11-30", "2024-02-29"] * 20, "fixed": 7,
        "mixed": [*(str(i * 1.5) for i in range(59)), "oops"], "label": np.array(["no", "yes"])[labels],
    })
    frame.to_csv("shop.csv", index=False)
    text = write_study(look("shop.csv", "label"))
    if os.environ.get("UPDATE_SNAPSHOTS"):  # then read the difference
        SNAPSHOT.write_text(text, encoding="utf-8")
    assert text == SNAPSHOT.read_text(encoding="utf-8")


def test_a_look_is_plain_data() -> None:
    seen = look("sklearn:wine")
    assert isinstance(seen, Look)
    json.dumps(dataclasses.asdict(seen), allow_nan=False)


@pytest.mark.parametrize(
    ("rows", "batch"), [(891, None), (6_000, None), (11_183, 128), (53_940, 512), (10_000_000, 1024)]
)
def test_a_large_table_gets_larger_batches_and_fewer_folds(rows: int, batch: int | None) -> None:
    from lanewise.data.look import _pace

    lines = _pace(rows, "table")
    assert (f"  batch_size: {batch}" in "\n".join(lines)) == (batch is not None)
    assert ("  repeats: 1  # large folds vary little" in lines) == (rows > 10_000)
