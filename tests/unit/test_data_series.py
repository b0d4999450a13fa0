"""Series: cells and files against arrays worked by hand, NumPy and properties."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanewise.data import prepare, read_fitted
from lanewise.data.series import SeriesPreprocessor, fit_series, plan_series, read_series
from lanewise.data.series_files import read_npz, read_ts
from lanewise.errors import DataError
from lanewise.study import Study

EQUAL = pd.DataFrame({"a": ["1,2,3", "3,4,5"], "b": ["0,0,0", "2,2,2"]})
UNEQUAL = pd.DataFrame({"a": ["1,2,3", "5"], "b": ["0,?,0", "2"]})


def fitted(frame: pd.DataFrame) -> SeriesPreprocessor:
    return fit_series(frame, plan_series(frame)[0])


def test_equal_series_are_scaled_channel_by_channel() -> None:
    columns, notes = plan_series(EQUAL)
    assert (columns.layout.kind, columns.layout.shape, notes) == ("series", (2, 3), [])
    x, none = fitted(EQUAL).transform(EQUAL)
    # channel a: mean 3, variance (4 + 1 + 0 + 0 + 1 + 4) / 6; channel b: mean 1, deviation 1
    expected = [[[-2, -1, 0], [-1, -1, -1]], [[0, 1, 2], [1, 1, 1]]]
    deviations = np.array([np.sqrt(10 / 6), 1.0])[:, None]
    np.testing.assert_allclose(x, np.array(expected) / deviations, rtol=1e-6, atol=1e-12)
    assert x.dtype == np.float32 and none.shape == (2, 0)


def test_shorter_series_and_gaps_are_zeros_and_a_channel_says_where() -> None:
    columns, notes = plan_series(UNEQUAL)
    assert columns.layout.shape == (3, 3)
    assert [note.code for note in notes] == ["unequal_lengths", "missing_values"]
    x, _ = fitted(UNEQUAL).transform(UNEQUAL)
    mean, deviation = 11 / 4, np.std([1, 2, 3, 5])
    np.testing.assert_allclose(x[0, 0], (np.array([1, 2, 3]) - mean) / deviation, rtol=1e-6)
    second = (2 - 2 / 3) / np.std([0, 0, 2])
    np.testing.assert_allclose(x[1], [[(5 - mean) / deviation, 0, 0], [second, 0, 0], [1, 0, 0]], rtol=1e-6)
    assert x[0, 1, 1] == 0 and x[0, 2].tolist() == [1, 0, 1]


def test_longer_new_series_are_cut_and_counted_and_shorter_ones_filled_up() -> None:
    model = fitted(UNEQUAL)
    new = pd.DataFrame({"a": ["1,2,3,99", "1"], "b": ["0,0,0,99", "?"]})
    x, _ = model.transform(new)
    same, _ = model.transform(pd.DataFrame({"a": ["1,2,3", "1"], "b": ["0,0,0", "?"]}))
    np.testing.assert_array_equal(x, same)
    assert model.unseen(new) == {"series longer than 3, cut": 1}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6), min_size=2, max_size=5))
def test_json_keeps_every_bit_and_cells_every_number(rows: list[list[float]]) -> None:
    frame = pd.DataFrame({"a": [",".join(map(repr, row)) for row in rows]})
    read = read_series(frame, ("a",))
    assert [values[0].tolist() for values in read] == rows
    model = fitted(frame)
    again = read_fitted(json.loads(json.dumps(model.to_json())))
    np.testing.assert_array_equal(again.transform(frame)[0], model.transform(frame)[0])
    assert again.layout == model.layout


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"a": ["1,2", "1,x"]}, "row 2"),
        ({"a": ["1,2", "1,inf"]}, "infinite"),
        ({"a": ["1,2", "?,?"]}, "a series has no value"),
        ({"a": ["1,2", ""]}, "a series has no value"),
        ({"a": ["1,2", "1"], "b": ["1,2", "1,2"]}, "the channels of a series differ in length"),
    ],
)
def test_a_cell_that_is_no_series_is_refused_with_its_row(cells: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        plan_series(pd.DataFrame(cells))


def test_a_channel_that_new_rows_lack_is_named() -> None:
    with pytest.raises(DataError, match="no b"):
        fitted(EQUAL).transform(EQUAL[["a"]])


TS = """# words
@problemName Toy
@timeStamps false
@univariate false
@classLabel true u v
@data
1,2,3:4,5,6:u
1,2:4,?:v
"""


def test_a_ts_file_has_a_column_a_channel_and_the_label() -> None:
    table = read_ts(TS.encode(), "toy.ts")
    assert {name: values.to_pylist() for name, values in table.columns.items()} == {
        "dim_0": ["1,2,3", "1,2"], "dim_1": ["4,5,6", "4,?"], "class": ["u", "v"],
    }  # fmt: skip
    assert (table.target, table.kinds) == ("class", {"dim_0": "series", "dim_1": "series"})
    assert table.place(1) == "toy.ts, line 8"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TS.replace("@data\n", ""), "line 6"),  # the first row stands before a line @data
        ("@problemName x\n", "no line @data"),
        ("@data\n", "0 rows"),
        (TS + "1,2:w\n", "line 9"),
        (TS.replace("@timeStamps false", "@timeStamps true"), "time stamps"),
        ("@data\n1,2\n", "no channel"),
    ],
)
def test_a_broken_ts_file_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_ts(text.encode(), "toy.ts")


def test_a_ts_file_that_is_no_text_is_refused() -> None:
    with pytest.raises(DataError, match="not text"):
        read_ts(b"@data\n1,\x00:u\n", "toy.ts")
    with pytest.raises(DataError, match="not utf-8"):
        read_ts(b"@data\n\xff\xfe1:u\n", "toy.ts", "utf-8")


def archive(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def test_an_archive_of_two_parts_says_which_rows_are_sealed() -> None:
    content = archive(
        X_train=np.array([[1.0, 2.0], [3.0, np.nan]]), y_train=np.array(["u", "v"]),
        X_test=np.array([[5.0, 6.0]]), y_test=np.array(["u"]),
    )  # fmt: skip
    table = read_npz(content, "toy.npz", 10**6)
    assert {name: values.to_pylist() for name, values in table.columns.items()} == {
        "dim_0": ["1.0,2.0", "3.0,?", "5.0,6.0"], "class": ["u", "v", "u"], "split": ["train", "train", "test"],
    }  # fmt: skip


def test_an_archive_of_channels_keeps_every_number() -> None:
    values = np.random.default_rng(0).normal(size=(4, 2, 5))
    table = read_npz(archive(X=values, y=np.arange(4)), "toy.npz", 10**6)
    frame = pd.DataFrame({name: table.columns[name].to_pylist() for name in ("dim_0", "dim_1")})
    np.testing.assert_array_equal(np.stack(read_series(frame, ("dim_0", "dim_1"))), values)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (archive(X=np.zeros((3, 4))), "add y"),
        (archive(X=np.zeros((3, 4)), y=np.zeros(2)), "differ in length"),
        (archive(X=np.array([{}, {}], object), y=np.zeros(2)), "without Python objects"),
        (archive(X=np.zeros((3, 4, 5, 6)), y=np.zeros(3)), "no series and no images"),
        (archive(X=np.zeros((30_000, 50)), y=np.zeros(30_000)), "larger than the limit"),
        (archive(X_train=np.zeros((3, 4)), y_train=np.zeros(3), X_test=np.zeros((3, 5)), y_test=np.zeros(3)), "shape"),
        (b"PK\x03\x04broken", "cannot be read"),
        (b"", "cannot be read"),
    ],
    ids=["no label", "lengths", "objects", "shape", "bomb", "parts", "broken", "empty"],
)  # fmt: skip
def test_a_broken_archive_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_npz(content, "toy.npz", 10**6)


def test_a_fold_is_scaled_by_its_training_rows_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [",".join(f"{v:.3f}" for v in rng.normal(size=6)) + f":{'uv'[i % 2]}" for i in range(60)]
    (tmp_path / "toy.ts").write_text("@classLabel true u v\n@data\n" + "\n".join(rows))
    data = {"source": str(tmp_path / "toy.ts"), "target": "class"}
    study = Study.model_validate({"name": "t", "data": data, "tracking": {"home": str(tmp_path / "home")}})
    dataset = prepare(study).dataset
    assert dataset.layout.shape == (1, 6) and dataset.summary()["kind"] == "series"
    for split in dataset.folds(3, 1, 0):
        arrays = dataset.arrays(split)
        np.testing.assert_allclose(arrays.x_num_train.mean(), 0, atol=1e-6)
        np.testing.assert_allclose(arrays.x_num_train.std(), 1, atol=1e-5)
        raw = np.stack(read_series(dataset.frame.iloc[split.train], ("dim_0",)))
        valid = np.stack(read_series(dataset.frame.iloc[split.valid], ("dim_0",)))
        np.testing.assert_allclose(arrays.x_num_valid, (valid - raw.mean()) / raw.std(), rtol=1e-4, atol=1e-5)
