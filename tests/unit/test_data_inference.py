"""What a column is taken for, and that reading it loses nothing."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanewise.data.inference import MISSING_WORDS, Typed, infer_types
from lanewise.data.sources import table_from_frame
from lanewise.data.table import Table
from lanewise.data.text_files import read_text
from lanewise.errors import DataError


def texts(values: list[str], decimal: str = ".", **types: str) -> Typed:
    """One column `c` of a text file, typed."""
    column = pa.chunked_array([pa.array(values, pa.large_string())])
    return infer_types(Table({"c": column}, "t", True, decimal, line_of=lambda row: row + 2), types)


def codes(typed: Typed) -> list[str]:
    return [note.code for note in typed.notes]


MANY = [str(i * 1.5) for i in range(30)]


@pytest.mark.parametrize(
    ("values", "kind", "notes"),
    [
        (["1", "2", "3"], "number", []),
        (["0", "1", "0"], "number", []),  # few whole numbers stay numbers
        (["-1.5", "+2", ".5", "3.", "1e5", "1E-3", ""], "number", []),
        ([" 1", "2 ", "\t3"], "number", []),
        (["inf", "1", "-Infinity"], "number", []),
        (["", " ", ""], "number", []),
        ([*MANY, "?", "?"], "number", ["missing_words"]),
        ([*MANY, "NaN"], "number", ["missing_words"]),
        ([*MANY, "n/a", "?"], "number", ["missing_words"]),
        (["True", "False", "True"], "category", []),
        (["a", "NA", "b"], "category", ["kept_words"]),
        (["2", "4", "more"], "category", []),
        (["1_000", "2_000"], "category", []),
        (["0x1F", "0x20"], "category", []),
        (["007", "12", "13"], "category", ["leading_zeros"]),
        (["0", "00", "1"], "category", ["leading_zeros"]),
        (["0.5", "00.5", "1.0"], "number", []),
        (["12345678901234567", "1"], "category", ["long_integers"]),
        (["1e20", "1"], "number", []),
        (["9007199254740991", "1"], "number", []),
        ([f"${i}.99" for i in range(30)], "category", ["number_like"]),
        ([f"{i},{i:03}" for i in range(1, 30)], "category", ["number_like"]),
        (["2024-01-05", "2024-02-29", ""], "date", []),
        (["2024-01-05T10:00:00Z", "2024-01-05 11:30:00+02:00"], "date", []),
        (["5.1.2024", "31.12.2023"], "date", []),
        (["12/31/2023", "01/05/2024"], "date", []),
        (["31/12/2023", "01/05/2024"], "date", []),
        (["01/02/2024", "03/04/2024"], "date", ["date_order"]),
        (["January 7, 2018", "May 12, 2019"], "date", []),
        (["7 January 2018", "12 May 2019"], "date", []),
        (["2024", "2023"], "number", []),
        (["10:30", "11:45"], "category", []),
        (["1.2.3", "1.0.19"], "category", []),
    ],
)
def test_what_texts_are_taken_for(values: list[str], kind: str, notes: list[str]) -> None:
    typed = texts(values)
    assert (typed.kinds["c"], codes(typed)) == (kind, notes)


@pytest.mark.parametrize(
    ("values", "row"),
    [
        ([*MANY, "oops"], 30),
        ([*MANY[:5], "1,5", *MANY[5:], "2,5"], 5),
        ([*(["0"] * 99), "free"], 99),  # one stray among a hundred, though few different numbers
        (["2024-01-05", "2024-02-30", "2024-03-01"], 1),
        (["January 7, 2018", "May 12, 2019", "soon", "June 1, 2019"], 2),
    ],
)
def test_strays_are_refused_where_they_stand(values: list[str], row: int) -> None:
    with pytest.raises(DataError) as caught:
        texts(values)
    assert caught.value.where == f"t, line {row + 2}"
    assert repr(values[row]) in str(caught.value.given)


@pytest.mark.parametrize(
    ("values", "declared"),
    [
        (["1", "2", "x"], "number"), (["1,5", "2"], "number"), (["2024-01-01", "x", "y"], "date"),
        (["a", "b"], "date"),
    ],
)
def test_a_declared_type_must_fit(values: list[str], declared: str) -> None:
    with pytest.raises(DataError):
        texts(values, c=declared)


def test_a_declared_category_keeps_every_text() -> None:
    typed = texts(["1", "01", "?", "", "2024-01-01"], c="category")
    assert typed.frame["c"].dropna().tolist() == ["1", "01", "?", "2024-01-01"]


def test_a_declared_number_reads_zeros_and_words() -> None:
    assert texts(["007", "?", "12"], c="number").frame["c"].tolist()[::2] == [7.0, 12.0]


def test_a_decimal_comma_is_read() -> None:
    typed = texts(["1,5", "-2", "1e-3", "1000,25"], decimal=",")
    assert typed.frame["c"].tolist() == [1.5, -2.0, 1e-3, 1000.25]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_every_float_comes_back_to_the_bit(values: list[float]) -> None:
    typed = texts([repr(value) for value in values], c="number")
    np.testing.assert_array_equal(typed.frame["c"].to_numpy().view(np.int64), np.array(values).view(np.int64))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(st.floats(), st.integers(-(10**25), 10**25).map(str), st.text("01.,-+eE aN?", max_size=6)),
        min_size=2, max_size=12,
    )
)
def test_reading_never_fails_but_with_a_place_and_loses_no_text(values: list[object]) -> None:
    cells = [str(value) for value in values]
    try:
        typed = texts(cells)
    except DataError as error:
        assert str(error.where).startswith("t, line ")
        return
    column = typed.frame["c"]
    if typed.kinds["c"] == "category":
        gone = MISSING_WORDS if "missing_words" in codes(typed) else ()
        kept = ["" if cell.strip().lower() in gone else cell.strip() for cell in cells]
        assert ["" if pd.isna(v) else v for v in column] == kept
    elif typed.kinds["c"] == "number":
        for cell, number in zip(cells, column, strict=True):
            try:
                assert number == float(cell) or (np.isnan(number) and np.isnan(float(cell)))
            except ValueError:
                assert np.isnan(number)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)), min_size=3, max_size=8),
    st.sampled_from(["%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%d.%m.%Y", "%Y/%m/%d", "%B %d, %Y", "%d %B %Y"]),
)
def test_dates_are_those_of_the_standard_library(dates: list[datetime], form: str) -> None:
    typed = texts([when.strftime(form) for when in dates])
    assert typed.kinds["c"] == "date"
    expected = [datetime.strptime(when.strftime(form), form) for when in dates]
    assert [stamp.to_pydatetime() for stamp in typed.frame["c"]] == expected


def test_the_format_of_a_model_wins_over_a_guess() -> None:
    column = pa.chunked_array([pa.array(["01/02/2024", "03/04/2024"], pa.large_string())])
    table = Table({"c": column}, "t", True)
    read = [infer_types(table, {"c": "date"}, formats=f).frame["c"][0].month for f in ({}, {"c": "%d/%m/%Y"})]
    assert read == [1, 2]


def test_typed_columns_keep_their_types() -> None:
    zone = datetime(2024, 1, 1, 12, tzinfo=UTC)
    frame = pd.DataFrame({
        "flag": [True, False, True], "small": np.array([1, 2, 3], np.int8),
        "half": np.array([0.5, np.nan, 2], np.float32), "text": ["1", "02", None],
        "category": pd.Categorical([3, 1, 3]), "when": pd.to_datetime(["2024-01-01"] * 3),
        "day": [date(2024, 1, 2)] * 3, "zoned": [zone, zone + timedelta(hours=1), None],
        "nullable": pd.array([1, None, 3], dtype="Int64"), "span": pd.to_timedelta([1, 2, 3], unit="h"),
        "none": [None, None, None],
    })
    typed = infer_types(table_from_frame(frame, "f"), {})
    assert typed.kinds == {
        "flag": "category", "small": "number", "half": "number", "text": "category", "category": "category",
        "when": "date", "day": "date", "zoned": "date", "nullable": "number", "span": "number",
        "none": "number",
    }
    assert typed.frame["flag"].tolist() == ["True", "False", "True"]
    assert typed.frame["category"].tolist() == ["3", "1", "3"]
    assert typed.frame["text"].tolist()[:2] == ["1", "02"]
    assert typed.frame["zoned"][0] == pd.Timestamp("2024-01-01 12:00") and typed.frame["zoned"].isna()[2]
    assert typed.frame["span"].tolist() == [3600.0, 7200.0, 10800.0]
    assert [
        str(kind) for kind in typed.frame.dtypes[["small", "text", "when", "zoned"]]
    ] == ["float64", "str", "datetime64[us]", "datetime64[us]"]


def test_texts_of_a_typed_source_are_read_where_declared() -> None:
    frame = pd.DataFrame({"n": ["1.5", "2"], "d": ["2024-01-01", "2024-05-01"]})
    typed = infer_types(table_from_frame(frame, "f"), {"n": "number", "d": "date"})
    assert typed.frame["n"].tolist() == [1.5, 2.0]
    assert typed.frame["d"].dt.month.tolist() == [1, 5]


def test_faults_can_be_collected() -> None:
    table = read_text(
        ("a,b\n" + "".join(f"{i}.5,{i}\n" for i in range(20)) + "x,3\n").encode(), "t.csv", 10**9,
    )
    typed = infer_types(table, {}, collect=True)
    assert typed.mixed == {
        "a": "column `a` mixes numbers with other text, t.csv, line 22: 'x'; 20 of 21 values are numbers"
    }
    assert typed.kinds == {"a": "category", "b": "number"}
