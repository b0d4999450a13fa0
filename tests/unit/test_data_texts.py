"""Texts: vocabularies against scikit-learn, codes worked by hand, folds, splits that the data bring."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from lanewise.data import Prepared, look, prepare, read_fitted, write_study
from lanewise.data.texts import fit_texts, plan_texts
from lanewise.errors import DataError, StudyError
from lanewise.study import Data, Study, load_study

WORDS = ["where", "who", "why", "cat", "dog", "tree", "house", "river"]


def column(texts: list[Any]) -> pd.DataFrame:
    return pd.DataFrame({"t": pd.Series(texts, dtype="str")})


def options(**fields: Any) -> Data:
    return Data.model_validate({"source": "x.csv", "target": "y", **fields})


def sentences(rows: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=rng.integers(3, 9))) + f" {i}" for i in range(rows)]


def test_codes_worked_by_hand() -> None:
    frame = column(["The cat, the dog.", "the CAT", "", None, "a bird"])
    columns, notes = plan_texts(frame, options(text_min_count=2))
    # the 3, cat 2; `,` `.` dog a bird 1 each
    assert (columns.tokens, columns.shape) == (4, (6,))
    assert [note.code for note in notes] == ["empty_texts"]
    _, codes = fit_texts(frame, columns).transform(frame)
    assert codes.tolist() == [
        [2, 3, 1, 2, 1, 1], [2, 3, 0, 0, 0, 0], [0] * 6, [0] * 6, [1, 1, 0, 0, 0, 0],
    ]  # fmt: skip


@pytest.mark.parametrize("min_count", [1, 2, 5])
def test_the_vocabulary_is_that_of_scikit_learn(min_count: int) -> None:
    texts = sentences(40)
    frame = column(texts)
    columns, _ = plan_texts(frame, options(text_min_count=min_count))
    model = fit_texts(frame, columns)
    counted = CountVectorizer(token_pattern=r"\w+|[^\w\s]").fit(texts)
    totals = np.asarray(counted.transform(texts).sum(0)).ravel()
    kept = {word for word, place in counted.vocabulary_.items() if totals[place] >= min_count}
    assert set(model.vocabulary) == kept and columns.tokens == len(kept) + 2
    order = [(-totals[counted.vocabulary_[word]], word) for word in model.vocabulary]
    assert order == sorted(order)
    chosen = CountVectorizer(token_pattern=r"\w+|[^\w\s]", vocabulary=list(model.vocabulary))
    _, codes = model.transform(frame)
    counts = np.stack([(codes == code).sum(1) for code in range(2, columns.tokens)], 1)
    if columns.shape[0] >= max(len(text.split()) for text in texts):
        np.testing.assert_array_equal(counts, chosen.transform(texts).toarray())


def test_characters_a_length_and_a_smaller_vocabulary() -> None:
    frame = column(["abca", "ab d"])
    made = options(text_level="characters", text_length=3, text_vocabulary=2, text_min_count=1)
    columns, notes = plan_texts(frame, made)
    assert (columns.tokens, columns.shape) == (4, (3,))  # a 3, b 2 of a b c d and the space
    assert [note.code for note in notes] == ["long_texts"]
    model = fit_texts(frame, columns)
    assert model.transform(frame)[1].tolist() == [[2, 3, 1], [2, 3, 1]]
    assert model.unseen(column(["ab", "xy", "abcd"])) == {
        "texts longer than 3 tokens, cut": 1, "texts with tokens without a code": 2,
    }  # fmt: skip
    again = read_fitted(json.loads(json.dumps(model.to_json())))
    assert again.transform(frame)[1].tolist() == model.transform(frame)[1].tolist()


def test_the_automatic_length_cuts_one_text_in_a_hundred() -> None:
    frame = column([" ".join(["word"] * (10 if i else 5000)) for i in range(300)])
    columns, notes = plan_texts(frame, options())
    assert columns.shape == (10,) and "1 of 300 texts have more than 10 tokens" in notes[0].message


def test_an_endless_text_is_cut_at_256_words() -> None:
    columns, _ = plan_texts(column([" ".join(["word"] * 100_000)] * 3), options())
    assert columns.shape == (256,)


def test_texts_without_a_token_are_refused() -> None:
    with pytest.raises(DataError, match="has no text"):
        plan_texts(column(["", " ", None]), options())


def written(folder: Path, frame: pd.DataFrame, **data: Any) -> Prepared:
    frame.to_csv(folder / "x.csv", index=False)
    study = {"source": str(folder / "x.csv"), "target": "y", **data}
    return prepare(
        Study.model_validate({"name": "t", "data": study, "tracking": {"home": str(folder / "home")}})
    )


def questions(rows: int = 60) -> pd.DataFrame:
    return pd.DataFrame({"t": sentences(rows), "y": ["u", "v"] * (rows // 2)})


def test_a_fold_knows_the_words_of_its_training_rows_alone(tmp_path: Path) -> None:
    frame = questions()
    dataset = written(tmp_path, frame, types={"t": "text"}, text_min_count=1).dataset
    assert dataset.layout.kind == "text" and dataset.summary()["columns"] == {"t": "text"}
    for split in dataset.folds(3, 1, 0):
        arrays = dataset.arrays(split)
        words = {word for text in dataset.frame["t"].iloc[split.train] for word in text.split()}
        number = [text.split()[-1] for text in dataset.frame["t"].iloc[split.valid]]
        assert not words & set(number)  # every row has a number of its own, which no other row has
        for codes, text in zip(arrays.x_cat_valid, dataset.frame["t"].iloc[split.valid], strict=True):
            own = codes[: len(text.split())]
            assert [code == 1 for code in own] == [word not in words for word in text.split()][: len(own)]
        assert arrays.x_cat_train.max() < dataset.layout.tokens


def test_other_columns_of_a_study_of_texts_are_left_out_with_the_reason(tmp_path: Path) -> None:
    frame = questions().assign(n=range(60))
    dataset = written(tmp_path, frame, types={"t": "text"}).dataset
    assert list(dataset.frame.columns) == ["t"] and "texts" in dataset.dropped["n"]


def test_two_columns_of_texts_are_refused(tmp_path: Path) -> None:
    frame = questions().assign(u=sentences(60, seed=1))
    with pytest.raises(DataError, match="more than one input"):
        written(tmp_path, frame, types={"t": "text", "u": "text"})


# --- rows that the source itself sets apart


def test_a_split_column_sends_rows_where_it_says(tmp_path: Path) -> None:
    frame = questions().assign(part=["train"] * 30 + ["valid"] * 10 + ["TEST"] * 20)
    prepared = written(tmp_path, frame, types={"t": "text"}, split_column="part")
    holdout = prepared.dataset.holdout
    assert prepared.seal.rows == 20 and prepared.dataset.frame["t"].tolist() == frame["t"][:40].tolist()
    assert holdout.train.tolist() == list(range(30)) and holdout.valid.tolist() == list(range(30, 40))
    sealed, target = prepared.seal.open("{'frozen': 1}")
    assert sealed["t"].tolist() == frame["t"][40:].tolist() and target.tolist() == [0, 1] * 10
    assert "split column" in prepared.dataset.dropped["part"]


def test_what_a_split_column_leaves_open_is_drawn(tmp_path: Path) -> None:
    frame = questions().assign(part=["train"] * 40 + ["test"] * 20)
    prepared = written(tmp_path, frame, types={"t": "text"}, split_column="part")
    assert (len(prepared.dataset.holdout.train), len(prepared.dataset.holdout.valid)) == (30, 10)


def test_a_test_source_is_sealed_and_another_source_is_not(tmp_path: Path) -> None:
    frame = questions(80)
    frame[60:].to_csv(tmp_path / "later.csv", index=False)
    prepared = written(tmp_path, frame[:60], types={"t": "text"}, test_source=str(tmp_path / "later.csv"))
    assert (prepared.ref.rows, prepared.ref.test_rows) == (60, 20)
    assert prepared.seal.open("{'frozen': 1}")[0]["t"].tolist() == frame["t"][60:].tolist()


@pytest.mark.parametrize(
    ("change", "data", "said"),
    [
        ({"part": ["train"] * 59 + ["tset"]}, {"split_column": "part"}, "line 61"),
        ({}, {"split_column": "parts"}, "a column the data do not have"),
        ({}, {"test_source": "nowhere.csv"}, "does not exist"),
    ],
)
def test_a_wrong_split_column_or_test_source_is_refused(
    tmp_path: Path, change: dict[str, Any], data: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        written(tmp_path, questions().assign(**change), types={"t": "text"}, **data)


def test_a_test_source_of_other_columns_is_refused(tmp_path: Path) -> None:
    questions().rename(columns={"t": "text"}).to_csv(tmp_path / "later.csv", index=False)
    with pytest.raises(DataError, match="the test source has other columns"):
        written(tmp_path, questions(), types={"t": "text"}, test_source=str(tmp_path / "later.csv"))


def test_a_test_source_beside_a_split_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("data: {source: x.csv, target: y, test_source: z.csv, split_column: part}\n")
    with pytest.raises(StudyError, match="together"):
        load_study(tmp_path / "s.yaml")


def test_init_proposes_texts_and_the_split_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    questions().assign(part=["train"] * 40 + ["test"] * 20).to_csv("x.csv", index=False)
    text = write_study(look("x.csv", "y"))
    for line in ("  split_column: part", "  types: {t: text}", "  name: text_cnn"):
        assert line in text
    (tmp_path / "s.yaml").write_text(text)
    prepared = prepare(load_study(tmp_path / "s.yaml"))
    assert prepared.dataset.layout.kind == "text" and prepared.seal.rows == 20


def test_init_keeps_a_table_with_names_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    questions().assign(age=np.arange(60) % 7).to_csv("x.csv", index=False)
    seen = look("x.csv", "y")
    assert seen.kind == "table" and "t" in seen.left_out


def test_init_finds_the_test_file_beside_the_training_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "\n".join(f"{i % 5},{i % 3},{i}:{'uv'[i % 2]}" for i in range(40))
    for part in ("TRAIN", "TEST"):
        Path(f"Toy_{part}.ts").write_text(f"@classLabel true u v\n@data\n{rows}\n")
    text = write_study(look("Toy_TRAIN.ts"))
    assert "test_source: Toy_TEST.ts" in text and "name: fcn" in text and "target: class" in text
    (tmp_path / "s.yaml").write_text(text)
    assert prepare(load_study(tmp_path / "s.yaml")).seal.rows == 40
