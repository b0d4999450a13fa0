"""Readers: every format and encoding of one table is the same table, and its fingerprint sees every cell."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import datasets

from lanewise.data import memory
from lanewise.data.arrow_files import _messages
from lanewise.data.inference import infer_types
from lanewise.data.sources import BUNDLED, load_table, table_from_frame
from lanewise.data.table import Table, fingerprint
from lanewise.data.text_files import read_text
from lanewise.errors import DataError
from lanewise.study import Data


def read(content: str | bytes, **how: Any) -> Table:
    return read_text(content if isinstance(content, bytes) else content.encode(), "t.csv", 10**10, **how)


def cells(table: Table) -> list[list[Any]]:
    return [
        list(table.columns),
        *(list(row) for row in zip(*(v.to_pylist() for v in table.columns.values()), strict=True)),
    ]


FRAME = pd.DataFrame(
    {
        "n": [0.1, -2.5, None, 1e300] * 5, "c": ["u", "ü", None, "w"] * 5,
        "d": pd.to_datetime(["2024-01-05", "", "2023-12-31", "2020-02-29"] * 5),
    }
)


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet", "feather", "function"])
def test_every_format_gives_the_same_frame(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = f"t.{kind}"
    if kind.startswith("csv"):
        FRAME.to_csv(path, index=False, compression="gzip" if kind.endswith("gz") else None)
    elif kind == "parquet":
        FRAME.to_parquet(path)
    elif kind == "feather":
        pyarrow.feather.write_feather(FRAME, path)
    else:
        FRAME.to_parquet("frame.parquet")
        code = "import pandas as pd\ndef load():\n    return pd.read_parquet('frame.parquet')\n"
        Path("own_source.py").write_text(code)
        path = "own_source:load"
    typed = infer_types(load_table(path, Data(source=path, target="n"), tmp_path), {})
    assert typed.kinds == {"n": "number", "c": "category", "d": "date"}
    expected = FRAME.astype({"c": "str", "d": "datetime64[us]"})
    pd.testing.assert_frame_equal(typed.frame, expected)


TEXTS = {
    "cp1252": "nom,ville\nÉlodie,Orléans\nFrançois,Besançon\nHélène,Nîmes 5 €\n",
    "latin-1": "name,stadt\nMüller,Köln\nSchröder,München\nWeiß,Düsseldorf\n",
    "cp1250": "imię,miasto\nŁukasz,Łódź\nŚwięty,Gdańsk\nŻaneta,Częstochowa\n",
    "cp1251": "имя,город\nИван,Москва\nПётр,Казань\nОльга,Тула\n",  # noqa: RUF001
    "shift_jis": "名前,都市\n太郎,東京\n花子,大阪\n次郎,京都\n",
    "utf-8": "näme,x\n☃,1\né,2\n",
    "utf-8-sig": "näme,x\n☃,1\né,2\n",
    "utf-16": "näme,x\nü,1\né,2\n",
    "utf-16-le": "name,x\nabc,1\ndef,2\n",
    "utf-16-be": "name,x\nabc,1\ndef,2\n",
    "utf-32": "näme,x\nü,1\né,2\n",
}


@pytest.mark.parametrize("encoding", TEXTS)
def test_encodings_are_found_or_named(encoding: str) -> None:
    text = TEXTS[encoding]
    expected = [line.split(",") for line in text.splitlines()]
    table = read(text.encode(encoding))
    assert cells(table) == expected
    sure = encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32")
    assert [note.code for note in table.notes] == ([] if sure else ["encoding"])
    assert cells(read(text.encode(encoding), encoding=encoding)) == expected


def test_a_late_byte_that_is_not_utf_8_is_found() -> None:
    content = b"name,x\n" + b"abc,1\n" * 200_000 + "Müller,2\n".encode("cp1252")
    assert read(content).columns["name"][-1].as_py() == "Müller"
    with pytest.raises(DataError) as caught:
        read(content, encoding="utf-8")
    assert caught.value.where == "t.csv, line 200002"


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)] * 3), min_size=1,
        max_size=8,
    ),
    st.sampled_from([",", ";", "\t", "|"]), st.sampled_from(["\n", "\r\n"]), st.booleans(),
)
def test_what_python_writes_is_read_back(
    rows: list[tuple[str, ...]], separator: str, end: str, quote: bool,
) -> None:
    import csv
    import io

    file = io.StringIO()
    writer = csv.writer(
        file, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL if quote else csv.QUOTE_MINIMAL,
    )
    writer.writerows([["a", "b", "c"], *rows])
    table = read(file.getvalue(), separator=separator)
    assert cells(table) == [["a", "b", "c"], *(list(row) for row in rows)]
    assert [table.place(i) for i in range(len(rows))] == [f"t.csv, line {i + 2}" for i in range(len(rows))]


def test_places_count_blank_lines_and_breaks_in_quotes() -> None:
    table = read('a,b\n\n1,2\n"x\ny",3\n\n\n4,5\n')
    assert [table.place(row) for row in range(3)] == [f"t.csv, line {n}" for n in (3, 4, 8)]


@pytest.mark.parametrize(
    ("text", "separator", "decimal"),
    [
        ("a,b\n1.5,2\n", ",", "."),
        ("a;b\n1,5;2\n", ";", ","),
        ("a;b\n1,234;2\n", ";", ","),
        ("a\tb\n1,5\t2.5\n", "tab", "."),
        ("a;b\nx,y;2\n", ";", "."),
        ('a,b\n"1,5","2,25"\n', ",", ","),
        ('a,b\n"1,234","2,500"\n', ",", "."),
        ("a|b\n1.5|x,y;z\n", "|", "."),
        ("a,b;c,d\n1,2;3,4\n", ",", "."),
    ],
)
def test_separator_and_decimal_sign(text: str, separator: str, decimal: str) -> None:
    settings = read(text).settings
    assert settings is not None
    assert (settings["separator"], settings["decimal"]) == (separator, decimal)


def test_columns_without_a_name_get_one() -> None:
    table = read(",a,\n0,x,1\n1,y,2\n")
    assert list(table.columns) == ["unnamed_1", "a", "unnamed_3"]
    assert [note.code for note in table.notes] == ["unnamed", "unnamed"]


def test_a_record_longer_than_a_block_is_read() -> None:
    long = "x" * (20 * 2**20)
    assert read(f'a,b\n1,2\n"{long}",3\n').columns["a"][1].as_py() == long


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_data_are_scikit_learns(name: str, tmp_path: Path) -> None:
    source = f"sklearn:{name}"
    table = load_table(source, Data(source=source), tmp_path)
    bunch = getattr(datasets, f"load_{name}")()
    assert table.target == "target" and table.rows == len(bunch.data)
    features = [values.to_numpy() for column, values in table.columns.items() if column != "target"]
    np.testing.assert_array_equal(np.stack(features, 1), bunch.data)
    labels = table.columns["target"].to_pylist()
    expected = bunch.target if name == "diabetes" else [
        str(bunch.target_names[code]) for code in bunch.target
    ]
    assert labels == list(expected)


def test_an_unknown_bundle_names_the_nearest() -> None:
    with pytest.raises(DataError, match="did you mean `sklearn:digits`"):
        load_table("sklearn:digit", Data(source="sklearn:digit"), Path())


# --- fingerprint


VALUES = st.lists(
    st.tuples(
        st.one_of(st.none(), st.text(max_size=4)), st.one_of(st.none(), st.floats(allow_nan=False)),
        st.one_of(st.none(), st.booleans()),
    ),
    min_size=1, max_size=6,
)


def arrow(rows: list[tuple[Any, ...]], names: str = "abc", chunk: int | None = None) -> Table:
    kinds = (pa.large_string(), pa.float64(), pa.bool_())
    columns = {}
    for i, name in enumerate(names):
        values = [row[i] for row in rows]
        parts = [values] if chunk is None else [values[k : k + chunk] for k in range(0, len(values), chunk)]
        columns[name] = pa.chunked_array([pa.array(part, kinds[i]) for part in parts], kinds[i])
    return Table(columns, "t")


@settings(max_examples=150, deadline=None)
@given(VALUES, VALUES, st.integers(1, 3))
def test_the_fingerprint_is_of_the_content_alone(
    one: list[tuple[Any, ...]], other: list[tuple[Any, ...]], chunk: int,
) -> None:
    same = repr(one) == repr(other)  # repr tells -0.0 from 0.0, as the fingerprint does
    assert (fingerprint(arrow(one)) == fingerprint(arrow(other))) == same
    assert fingerprint(arrow(one)) == fingerprint(arrow(one, chunk=chunk))
    assert fingerprint(arrow(one)) != fingerprint(arrow(one, names="abd"))


def test_the_fingerprint_sees_the_last_cell_and_is_fast() -> None:
    import time

    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(50_000, 10)).round(3)).rename(columns=str)
    text = frame.to_csv(index=False)
    started = time.perf_counter()
    first = fingerprint(read(text))
    assert time.perf_counter() - started < 3  # 0.1 s measured; other tests may share the machine
    assert first != fingerprint(read(text[:-2] + ("1" if text[-2] != "1" else "2") + "\n"))
    assert fingerprint(table_from_frame(frame, "f")) != fingerprint(
        table_from_frame(frame[frame.columns[::-1]], "f")
    )


def test_the_fingerprint_of_a_slice_is_its_own() -> None:
    rows = [("ab", 1.0, True), ("c", None, None), (None, 3.0, False)]
    whole = arrow(rows)
    part = Table({name: values.slice(1) for name, values in whole.columns.items()}, "t")
    assert fingerprint(part) == fingerprint(arrow(rows[1:]))


# --- memory


def test_the_size_of_a_feather_file_is_read_before_it_is_decompressed(tmp_path: Path) -> None:
    table = pa.table(
        {
            "x": np.zeros(100_000), "t": pa.array(["ab"] * 100_000),
            "k": pa.array(["u", "v"] * 50_000).dictionary_encode(),
        }
    )
    for compression in ("uncompressed", "lz4", "zstd"):
        pyarrow.feather.write_feather(
            table, str(tmp_path / "t.feather"), compression=compression, chunksize=30_000,
        )
        batches = list(_messages(pa.py_buffer((tmp_path / "t.feather").read_bytes())))
        assert sum(rows for rows, _ in batches) == 100_000
        real = table.nbytes
        assert real <= sum(size for _, size in batches) < real * 1.3 + 10_000


def test_limits_of_the_process_count(monkeypatch: pytest.MonkeyPatch) -> None:
    free = memory.free_memory()
    assert 0 < free < 2**62
    used = 2**20
    monkeypatch.setattr(memory.resource, "getrlimit", lambda _: (used, used))
    assert memory.free_memory() == 0
    with pytest.raises(DataError, match="does not fit into memory"):
        memory.check_memory("t.csv", 10, 10, memory.free_memory())


def test_a_gzip_of_several_members_is_one_text(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n") + gzip.compress(b"3,4\n"))
    table = load_table("t.csv.gz", Data(source="t.csv.gz", target="a"), tmp_path)
    assert cells(table) == [["a", "b"], ["1", "2"], ["3", "4"]]
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n")[:-4])
    with pytest.raises(DataError, match="cut off"):
        load_table("t.csv.gz", Data(source="t.csv.gz", target="a"), tmp_path)
