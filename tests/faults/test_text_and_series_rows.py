"""Bad texts and series, rows T1 to T9 of the fault list, each as real files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lanewise.data import Prepared, prepare, read_new_rows
from lanewise.data.preprocessing import standardised
from lanewise.errors import DataError
from lanewise.study import Study

HEAD = "@timeStamps false\n@classLabel true u v\n@data\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(source: str, **data: Any) -> Prepared:
    study = {"source": source, "target": "y" if source.endswith(".csv") else "class", **data}
    return prepare(Study.model_validate({"name": "t", "data": study, "evaluate": {"folds": 3}}))


def refusal(source: str, **data: Any) -> DataError:
    """The error a file is refused with; nothing is sealed before."""
    with pytest.raises(DataError) as caught:
        run(source, **data)
    assert caught.value.exit_code == 3
    assert not Path(".lanewise/data").exists()
    return caught.value


def texts(change: dict[int, Any] | None = None, encoding: str = "utf-8", word: str = "word") -> Prepared:
    """Forty texts of four to six words in a file; `change` puts others in their places."""
    rows = [f"{word} {'red' if i % 2 else 'blue'} number {i}" + " more" * (i % 3) for i in range(40)]
    for row, text in (change or {}).items():
        rows[row] = text
    frame = pd.DataFrame({"t": rows, "y": ["u", "v"] * 20})
    frame.to_csv("x.csv", index=False, encoding=encoding)
    return run("x.csv", types={"t": "text"}, text_min_count=1)


def rows_of(lines: dict[int, str] | None = None, count: int = 40) -> list[str]:
    """Lines of a .ts file: three values and the label; `lines` puts others in their places."""
    made = [f"{i},{i % 5},{i % 3}:{'uv'[i % 2]}" for i in range(count)]
    for row, line in (lines or {}).items():
        made[row] = line
    return made


def series(lines: dict[int, str] | None = None, head: str = HEAD, name: str = "x.ts") -> str:
    Path(name).write_text(head + "\n".join(rows_of(lines)) + "\n", encoding="utf-8")
    return name


def warned(prepared: Prepared, code: str) -> str:
    """The one warning of this code."""
    (message,) = [warning.message for warning in prepared.dataset.warnings if warning.code == code]
    return message


def told(prepared: Prepared, source: str) -> dict[str, int]:
    """What predict counts for a file of new rows, by a preprocessor of all development rows."""
    fitted = prepared.dataset.preprocess(np.arange(prepared.dataset.rows))
    return fitted.unseen(read_new_rows(Path(source), prepared.dataset.columns)[0])


# --- texts


def test_T1_empty_texts_are_kept_and_counted() -> None:
    prepared = texts({row: " " * (row % 3) for row in range(0, 40, 4)})
    sealed = sum(not str(text).strip() for text in prepared.seal.open("{'frozen': 1}")[0]["t"].fillna(""))
    assert warned(prepared, "empty_texts") == f"{10 - sealed} texts have no token"
    assert prepared.ref.rows + prepared.ref.test_rows == 40


def test_T1_a_column_without_a_text_is_refused() -> None:
    pd.DataFrame({"t": [""] * 40, "y": ["u", "v"] * 20}).to_csv("x.csv", index=False)
    error = str(refusal("x.csv", types={"t": "text"}))
    assert "no column is left to learn from" in error and "t (" in error


def test_T2_texts_of_one_word() -> None:
    prepared = texts({row: "red" if row % 2 else "blue" for row in range(40)})
    assert prepared.dataset.layout.shape == (1,) and prepared.dataset.layout.tokens == 4


def test_T2_the_same_word_everywhere_is_refused() -> None:
    pd.DataFrame({"t": ["word"] * 40, "y": ["u", "v"] * 20}).to_csv("x.csv", index=False)
    assert "t (constant)" in str(refusal("x.csv", types={"t": "text"}))


def test_T3_a_text_of_100_000_words_is_cut_and_counted() -> None:
    long = " ".join(["endless"] * 99_999)
    prepared = texts({row: f"{long} {'red' if row % 2 else 'blue'}" for row in range(40)})
    assert prepared.dataset.layout.shape == (256,)
    assert f"{prepared.ref.rows} of {prepared.ref.rows} texts have more than 256" in warned(prepared, "long_texts")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_T4_texts_in_another_encoding_are_read_as_in_utf8(encoding: str) -> None:
    expected = texts(word="Größe").dataset.frame["t"].tolist()
    assert texts(word="Größe", encoding=encoding).dataset.frame["t"].tolist() == expected


def test_T4_an_encoding_that_was_guessed_is_said_and_can_be_declared() -> None:
    expected = texts(word="привет").dataset.frame["t"].tolist()
    guessed = texts(word="привет", encoding="cp1251")  # one word is too little to tell
    assert "if letters are wrong, write `encoding:`" in warned(guessed, "encoding")
    declared = run("x.csv", types={"t": "text"}, text_min_count=1, encoding="cp1251")
    assert declared.dataset.frame["t"].tolist() == expected


def test_T4_a_wrong_declared_encoding_is_refused_with_its_line() -> None:
    frame = pd.DataFrame({"t": [f"schön {i}" for i in range(40)], "y": ["u", "v"] * 20})
    frame.to_csv("x.csv", index=False, encoding="cp1252")
    error = refusal("x.csv", types={"t": "text"}, encoding="utf-8")
    assert "x.csv, line 2" in str(error) and "encoding" in str(error)


def test_T4_a_ts_file_may_name_its_authors_in_any_encoding() -> None:
    text = "# by André Müller\n" + HEAD + "\n".join(rows_of()) + "\n"
    Path("x.ts").write_bytes(text.encode("cp1252"))
    read = run("x.ts").dataset
    Path("x.ts").write_text(text, encoding="utf-8")
    pd.testing.assert_frame_equal(read.frame, run("x.ts").dataset.frame)


def test_T5_unknown_words_empty_and_long_texts_of_new_rows_are_counted() -> None:
    prepared = texts()
    (length,) = prepared.dataset.layout.shape
    new = ["word red", "word unheard", "", " ".join(["word"] * (length + 1))]
    pd.DataFrame({"t": new}).to_csv("new.csv", index=False)
    assert told(prepared, "new.csv") == {
        "texts without a token": 1, f"texts longer than {length} tokens, cut": 1, "texts with tokens without a code": 1,
    }  # fmt: skip


def test_T5_new_rows_without_the_column_are_refused() -> None:
    prepared = texts()
    pd.DataFrame({"other": ["word"]}).to_csv("new.csv", index=False)
    with pytest.raises(DataError, match="no t"):
        told(prepared, "new.csv")


# --- series


def test_T6_unequal_lengths_are_said_and_marked() -> None:
    prepared = run(series({i: f"{i}:{'uv'[i % 2]}" for i in range(0, 40, 3)}))
    assert "1 to 3 values" in warned(prepared, "unequal_lengths")
    dataset = prepared.dataset
    assert dataset.layout.shape == (2, 3)
    x = dataset.arrays(dataset.holdout).x_num_train
    lengths = [cell.count(",") + 1 for cell in dataset.frame["dim_0"].iloc[dataset.holdout.train]]
    assert x[:, 1].sum(axis=1).tolist() == lengths


def test_T7_missing_values_are_said() -> None:
    gaps = {i: f"{i},?,NaN:{'uv'[i % 2]}" for i in range(0, 40, 3)}
    prepared = run(series(gaps))
    count = prepared.dataset.frame["dim_0"].str.contains("?", regex=False).sum()
    assert warned(prepared, "missing_values").startswith(f"{count} series have missing values") and count


# Rows whose cell is wrong, wherever they are: the last lines of a test source are sealed.
WRONG = {
    "a word": ("1,x,3:u", "'x'"),
    "infinite": ("1,inf,3:u", "infinite"),
    "no value": ("?,?,?:u", "no value"),
    "no channel": (":u", "no value"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("row", [0, 17, 39])
def test_T8_a_wrong_cell_is_refused_with_its_line_before_anything_is_sealed(case: str, row: int) -> None:
    line, said = WRONG[case]
    error = refusal(series({row: line}))
    assert f"x.ts, line {row + 4}" in str(error) and said in str(error)


@pytest.mark.parametrize("case", WRONG)
def test_T8_a_wrong_cell_among_the_sealed_rows_is_refused_at_once(case: str) -> None:
    line, said = WRONG[case]
    series({7: line}, name="later.ts")
    error = refusal(series(), test_source="later.ts")
    assert said in str(error) and "later.ts, line 11" in str(error)


@pytest.mark.parametrize(
    ("lines", "head", "said"),
    [
        ({5: "1,2,3:4,5,6:u"}, HEAD, "line 9"),
        ({}, HEAD.replace("@data\n", ""), "before @data"),
        ({}, HEAD.replace("false", "true"), "time stamps"),
        ({}, "", "before @data"),
        ({4: "1,2,3:"}, HEAD, "line 8"),
    ],
    ids=["channels", "no @data", "time stamps", "no header", "no label"],
)
def test_T8_a_ts_file_that_is_none_is_refused(lines: dict[int, str], head: str, said: str) -> None:
    assert said in str(refusal(series(lines, head)))


@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02" * 50, b"@data\n"])
def test_T8_an_empty_or_binary_file_is_refused(content: bytes) -> None:
    Path("x.ts").write_bytes(content)
    assert "x.ts" in str(refusal("x.ts"))


def test_T9_new_series_shorter_longer_and_with_gaps_are_counted() -> None:
    prepared = run(series())
    series({0: "1,2:u", 1: "1,2,3,4:v", 2: "1,?,3:u"}, name="new.ts")
    assert told(prepared, "new.ts") == {
        "series longer than 3, cut": 1, "series shorter than 3, filled up with the mean": 1,
        "series with missing values, taken as the mean": 1,
    }  # fmt: skip
    fitted = prepared.dataset.preprocess(np.arange(prepared.dataset.rows))
    x, _ = fitted.transform(read_new_rows(Path("new.ts"), prepared.dataset.columns)[0])
    mean = standardised(fitted.means, fitted.means, fitted.deviations)[0]
    assert x[0, 0, 2] == mean == x[2, 0, 1]


def test_T9_new_series_need_no_label_and_name_what_is_wrong_with_its_line() -> None:
    prepared = run(series())
    Path("new.ts").write_text("@classLabel false\n@data\n1,2,3\n4,5,6\n")
    assert len(read_new_rows(Path("new.ts"), prepared.dataset.columns)[0]) == 2
    Path("new.ts").write_text("@classLabel false\n@data\n1,2,3\n4,no,6\n")
    with pytest.raises(DataError, match=r"new\.ts, line 4"):
        read_new_rows(Path("new.ts"), prepared.dataset.columns)


def test_T9_new_series_of_fewer_channels_are_refused_by_name() -> None:
    prepared = run(series({i: f"1,2,{i}:4,5,{i}:{'uv'[i % 2]}" for i in range(40)}))
    series(name="new.ts")
    with pytest.raises(DataError, match="no dim_1"):
        told(prepared, "new.ts")
