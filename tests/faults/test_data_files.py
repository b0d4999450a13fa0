"""Bad tables, rows E1-E3, E5, E7, E9-E19, E21-E23 and S15, S16 of the fault list, each as a real file."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from lanewise.data import Dataset, Prepared, prepare, safe_csv
from lanewise.errors import DataError, LanewiseError, ModelError
from lanewise.study import Study

SNAPSHOT = Path(__file__).parents[1] / "snapshots" / "data_errors.txt"
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, so that messages hold no folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(count: int = 40, **columns: object) -> str:
    """A CSV of `count` rows: x, y (the target, two classes) and more columns, each one value or a list."""
    lines = [",".join(["x", *columns, "y"])]
    for i in range(count):
        more = [str(v[i % len(v)]) if isinstance(v, list) else str(v) for v in columns.values()]
        lines.append(",".join([str(i * 7 % 31 + 0.5), *more, "ab"[i % 2]]))
    return "\n".join(lines) + "\n"


def run(
    content: str | bytes, name: str = "t.csv", target: str = "y", folds: int = 5, **data: object,
) -> Prepared:
    """Prepare a file of this content."""
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    study = {"source": name, "target": target, **data}
    return prepare(Study.model_validate({"name": "t", "data": study, "evaluate": {"folds": folds}}))


def refusal(content: str | bytes, name: str = "t.csv", **data: Any) -> DataError:
    """The error a file is refused with; nothing is sealed before."""
    with pytest.raises(DataError) as caught:
        run(content, name, **data)
    assert caught.value.exit_code == 3
    assert not Path(".lanewise").exists()
    return caught.value


def warned(prepared: Prepared, code: str) -> list[str | None]:
    """Columns the warnings of this code name."""
    return [warning.column for warning in prepared.dataset.warnings if warning.code == code]


def line(text: str, number: int, content: str) -> str:
    """The text with one line (from 1) replaced."""
    lines = text.split("\n")
    lines[number - 1] = content
    return "\n".join(lines)


# --- E1, E2: too little


@pytest.mark.parametrize("content", ["", " \n\n", "x,y\n", "x,y", "\ufeff"])
def test_E1_an_empty_file_or_a_header_alone_has_0_rows(content: str) -> None:
    assert "0 rows" in str(refusal(content))


def test_E1_an_empty_parquet_has_0_rows() -> None:
    pq.write_table(pa.table({"x": pa.array([], pa.float64()), "y": pa.array([], pa.string())}), "t.parquet")
    assert "0 rows" in str(refusal(Path("t.parquet").read_bytes(), "t.parquet"))


def test_E2_one_row_is_refused_with_the_count() -> None:
    assert "one value only" in str(refusal("x,z,y\n1,2,3.5\n"))
    assert "the data have 2 rows with a target" in str(
        refusal("x,z,y\n1,2,3.5\n2,3,4\n5,6,\n", missing_target="drop")
    )


def test_E2_fewer_rows_than_folds_is_refused_with_both_counts() -> None:
    error = refusal(
        rows(12).replace(",a", ",1.5").replace(",b", ",2.5").replace("0.5,1.5", "0.5,9.5"), folds=11,
    )
    assert "9 development rows for 11 folds" in str(error)


def test_E2_a_class_smaller_than_the_folds_is_refused_with_its_count() -> None:
    text = rows(60) + "3,c\n4,c\n5,c\n6,c\n"
    assert "class `c` has 3 development rows for 5 folds" in str(refusal(text))
    assert run(text, folds=3).dataset.classes == ("a", "b", "c")


def test_E2_a_class_of_one_row_is_refused_with_its_count() -> None:
    assert "class `c` has 1 row" in str(refusal(rows(60) + "3,c\n"))


# --- E3, E5, E7: the shape of the file


def test_E3_double_names_are_named_with_their_places() -> None:
    error = refusal("x,z,x,y,z\n" + "1,2,3,a,4\n" * 20)
    assert error.given == "x, z (`x` in columns 1, 3)"


@pytest.mark.parametrize(("row", "kind"), [("1,2", "shorter"), ("1,2,a,4", "longer"), ("1", "shorter")])
@pytest.mark.parametrize("blank", ["", "\n"])
def test_E5_a_row_of_another_length_is_refused_with_its_line(row: str, kind: str, blank: str) -> None:
    text = line(rows(40, z="7"), 18, blank + row)
    error = refusal(text)
    assert f"a row is {kind} than the header" in str(error)
    assert error.where == f"t.csv, line {18 + len(blank)}"


def test_E5_lines_count_quoted_line_breaks() -> None:
    text = line(line(rows(40, z="7"), 5, '1.5,"two\nlines",a'), 18, "1,2")
    assert refusal(text).where == "t.csv, line 18"


def test_E5_an_unclosed_quote_is_suspected() -> None:
    assert "double quote" in str(refusal(line(rows(40, z="7"), 18, '1.5,"7,a')).remedy)


def test_E7_a_wrong_separator_is_told_the_right_one() -> None:
    text = rows().replace(",", ";")
    assert refusal(text, separator=",").remedy == 'did you mean `separator: ";"`?'
    assert refusal(text.replace(";", "\t"), separator=",").remedy == 'did you mean `separator: "\\t"`?'


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_E7_separators_and_decimal_commas_are_found(separator: str) -> None:
    text = rows(z=[1.25, 2.5, 1e-3]).replace(",", separator).replace(".", ",")
    found, plain = run(text), run(rows(z=[1.25, 2.5, 1e-3]))
    assert found.dataset.columns.numbers == ("x", "z")
    pd.testing.assert_frame_equal(found.dataset.frame, plain.dataset.frame)
    assert warned(found, "decimal") == [None]


def test_E7_one_column_is_refused() -> None:
    assert "one column found" in str(refusal("y\n" + "a\nb\n" * 20))


# --- E9 to E12: values


def test_E9_the_category_NA_is_not_lost() -> None:
    prepared = run(rows(country=["NA", "DE", "", "FR"]))
    assert set(prepared.dataset.frame["country"].dropna()) == {"NA", "DE", "FR"}
    assert prepared.dataset.frame["country"].isna().any()
    assert warned(prepared, "kept_words") == ["country"]
    assert prepared.dataset.layout.cardinalities == (4,)


def test_E9_a_question_mark_among_numbers_is_missing_and_said() -> None:
    prepared = run(rows(z=["1.5", "?", "2.5", "4"]))
    assert prepared.dataset.columns.numbers == ("x", "z")
    assert prepared.dataset.layout.numeric == ("x", "z", "z (missing)")
    message = next(w.message for w in prepared.dataset.warnings if w.code == "missing_words")
    assert message == "10 cells with ? between numbers are taken as missing"


def test_E10_ids_keep_their_zeros_and_digits() -> None:
    long = [str(12345678901234567890 + i // 8) for i in range(40)]
    prepared = run(rows(zip=["01234", "99999", "00012"], serial=long))
    assert prepared.dataset.columns.categories == ("zip", "serial")
    assert set(prepared.dataset.frame["zip"]) == {"01234", "99999", "00012"}
    assert set(prepared.dataset.frame["serial"]) <= set(long)
    assert (warned(prepared, "leading_zeros"), warned(prepared, "long_integers")) == (["zip"], ["serial"])


def test_E10_the_user_may_take_them_as_numbers() -> None:
    prepared = run(rows(zip=["01234", "99999", "00012"]), types={"zip": "number"})
    assert set(prepared.dataset.frame["zip"]) == {1234.0, 99999.0, 12.0}
    assert warned(prepared, "leading_zeros") == []


def test_E10_typed_integers_beyond_a_float_are_kept_as_text() -> None:
    frame = pd.DataFrame({"x": np.arange(40) % 7, "big": 2**60 + np.arange(40) // 10, "y": ["a", "b"] * 20})
    frame.to_parquet("t.parquet")
    prepared = run(Path("t.parquet").read_bytes(), "t.parquet")
    assert set(prepared.dataset.frame["big"]) == {str(2**60 + i) for i in range(4)}
    assert warned(prepared, "long_integers") == ["big"]


def test_E11_gaps_in_the_target_are_refused_or_dropped_with_the_count() -> None:
    text = line(line(rows(), 5, "1.5,"), 9, "2.5,")
    error = refusal(text)
    assert (error.where, error.given) == ("t.csv, line 5", "2 of 40 rows have no target, this one first")
    prepared = run(text, missing_target="drop")
    assert prepared.dataset.rows + prepared.seal.rows == 38
    assert warned(prepared, "target_missing") == ["y"]


def test_E11_gaps_in_features_are_counted_and_marked() -> None:
    prepared = run(rows(z=["1.5", "", "2.5", "4"], c=["u", "", "v", ""]))
    summary = prepared.dataset.summary()
    assert summary["missing"]["z"] == int(prepared.dataset.frame["z"].isna().sum()) > 0
    assert "z (missing)" in prepared.dataset.layout.numeric


@pytest.mark.parametrize("value", ["inf", "-Infinity", "1e400", "-1e999"])
def test_E12_infinity_is_refused_with_its_line_or_clipped(value: str) -> None:
    text = line(rows(z=["1.5", "2.5", "4"]), 7, f"1.5,{value},b")
    error = refusal(text)
    assert "column `z` holds infinite numbers" in str(error)
    assert error.where == "t.csv, line 7"
    prepared = run(text, infinite="clip")
    x = prepared.dataset.arrays(prepared.dataset.everything()).x_num_train[:, 1]
    assert np.isfinite(x).all()
    assert len(np.unique(x)) == 3  # clipped to a value that was there


def test_E12_an_infinite_target_is_refused() -> None:
    text = "x,y\n" + "".join(f"{i},{i * 1.5}\n" for i in range(30)) + "3,inf\n"
    assert refusal(text, infinite="clip").where == "t.csv, line 32"


# --- E13 to E16: what the rows say


def test_E13_constant_and_empty_columns_are_dropped_with_a_line() -> None:
    prepared = run(rows(same="7", text="u", empty=""))
    assert prepared.dataset.columns.names == ("x",)
    dropped = prepared.dataset.summary()["dropped"]
    assert dropped["same"] == "left out: the same value (7.0) in every development row"
    assert dropped["empty"] == "left out: no value in any development row"
    assert (warned(prepared, "constant"), warned(prepared, "all_missing")) == (["same", "text"], ["empty"])


def test_E13_nothing_left_to_learn_from_is_refused() -> None:
    assert "no column is left" in str(refusal("x,y\n" + "1,a\n1,b\n" * 20))


def test_E14_one_class_is_refused() -> None:
    assert "one value only" in str(refusal("x,y\n" + "".join(f"{i},a\n" for i in range(30))))


def test_E14_a_class_in_one_group_only_is_refused_where_a_split_would_lose_it() -> None:
    text = "x,g,y\n" + "".join(
        f"{i * 7 % 31},g{i % 12},{'c' if i % 12 == 0 else 'ab'[i % 2]}\n" for i in range(240)
    )
    with pytest.raises(DataError, match="lack the class `c`"):
        run(text, group="g").dataset.folds(5, 1, 0)


def test_E15_duplicates_are_counted_across_the_seal() -> None:
    text = rows(40)
    body = text.split("\n", 1)[1]
    prepared = run(text + body)
    message = next(w.message for w in prepared.dataset.warnings if w.code == "duplicates")
    assert message == "40 of 80 rows repeat an earlier row"
    across = next(w.message for w in prepared.dataset.warnings if w.code == "duplicates_across")
    frame, target = prepared.seal.open("frozen")
    development = {(x, y) for x, y in zip(prepared.dataset.frame["x"], prepared.dataset.target, strict=True)}
    shared = sum((x, y) in development for x, y in zip(frame["x"], target, strict=True))
    assert across.startswith(f"{shared} of 16 test rows also stand among the development rows")
    assert "name its column as `group`" in across


def test_E16_a_column_that_tells_the_target_is_named() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=200)
    frame = pd.DataFrame(
        {"noise": rng.normal(size=200), "copy": y, "scaled": 3 - 2 * y, "cubed": y**3, "y": y}
    )
    prepared = run(frame.to_csv(index=False))
    assert warned(prepared, "leak") == ["copy", "scaled", "cubed"]
    frame["y"] = np.where(y > 0, "up", "down")
    frame["code"] = np.where(y > 0, 7, 3)
    assert warned(run(frame.to_csv(index=False)), "leak") == ["copy", "scaled", "cubed", "code"]


def test_E16_preprocessing_is_fitted_inside_the_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    from lanewise.data import dataset as module

    seen = []
    fit = module.fit_inputs

    def spy(frame: pd.DataFrame, *rest: Any) -> object:
        seen.append(frame["x"].to_numpy().copy())
        return fit(frame, *rest)

    monkeypatch.setattr(module, "fit_inputs", spy)
    dataset = run(rows(60)).dataset
    assert seen == []  # prepare itself fits nothing
    for split in [dataset.holdout, *dataset.folds(4, 2, 0)]:
        dataset.arrays(split)
        np.testing.assert_array_equal(seen.pop(), dataset.frame["x"].to_numpy()[split.train])


# --- E17, E18, E19


def test_E17_an_unknown_category_is_code_0_and_counted() -> None:
    dataset = run(rows(c=["u", "v", "w"])).dataset
    preprocessor = dataset.preprocess(dataset.everything().train)
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "c": ["u", "new", None, "newer"]})
    _, codes = preprocessor.transform(frame)
    assert codes[:, 0].tolist() == [1, 0, 0, 0]
    assert preprocessor.unseen(frame) == {"c": 2}


def test_E18_mixed_types_are_refused_with_the_first_bad_line() -> None:
    text = line(line(rows(z=[i * 1.5 for i in range(20)]), 30, "1.5,oops,a"), 33, "1.5,again,a")
    error = refusal(text)
    assert "column `z` mixes numbers with other text" in str(error)
    assert (error.where, error.given) == ("t.csv, line 30", "'oops'; 38 of 40 values are numbers")
    assert run(text, types={"z": "category"}).dataset.columns.categories == ("z",)


def test_E18_few_numbers_among_texts_are_categories() -> None:
    assert run(rows(doors=["2", "3", "4", "5more"])).dataset.columns.categories == ("doors",)


def test_E18_a_declared_type_is_held_against_every_line() -> None:
    assert refusal(rows(c=["1", "2", "u"]), types={"c": "number"}).where == "t.csv, line 4"
    dates = ["2024-01-05", "2024-02-30", "2024-03-01"]
    assert refusal(rows(d=dates), types={"d": "date"}).where == "t.csv, line 3"
    assert "`d` mixes dates" in str(refusal(rows(d=dates)))


def test_E18_objects_of_several_types_are_refused() -> None:
    frame = pd.DataFrame({"x": [1, "two", 3.0] * 20})
    with pytest.raises(DataError, match="column `x` mixes texts with other types") as caught:
        Dataset.from_frame(frame, [1.5, 2.5, 4.0] * 20)
    assert (caught.value.where, caught.value.given) == ("frame, row 1", "1")


def _limited(script: str, limit: int) -> subprocess.CompletedProcess[str]:
    """Run Python code that may take `limit` bytes of address space on top of what its imports took."""
    head = textwrap.dedent(f"""
        import resource
        from pathlib import Path
        import numpy as np, pandas as pd, pyarrow as pa, pyarrow.parquet, pyarrow.csv, sklearn.model_selection
        from lanewise.data import prepare
        from lanewise.errors import DataError
        from lanewise.study import Study
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + {limit}, used + {limit}))
    """)
    tail = textwrap.dedent("""
        try:
            prepare(Study.model_validate({"name": "t", "data": data}))
        except DataError as error:
            print(error)
    """)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", head + textwrap.dedent(script) + tail],
        capture_output=True, text=True, timeout=120, env=environment, check=True,
    )


def test_E19_a_table_that_does_not_fit_is_refused_before_it_is_read(here: Path) -> None:
    with (here / "big.csv").open("w") as file:
        file.write("id,x,y\n")
        file.writelines(f"category-{i},{i % 97},{i % 2}\n" for i in range(400_000))
    done = _limited('data = {"source": "big.csv", "target": "y"}', 60 * 2**20)
    assert "the source does not fit into memory" in done.stdout
    assert "MiB needed" in done.stdout
    assert done.stderr == ""


def test_E19_many_categories_are_no_feature(here: Path) -> None:
    with (here / "ids.csv").open("w") as file:
        file.write("id,x,y\n")
        file.writelines(f"c{i},{i * 7 % 97},{i % 2}\n" for i in range(100_000))
    prepared = prepare(Study.model_validate({"name": "t", "data": {"source": "ids.csv", "target": "y"}}))
    assert prepared.dataset.columns.names == ("x",)
    assert warned(prepared, "id_like") == ["id"]


def test_E19_many_columns_end_in_time(here: Path) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.integers(0, 1000, (60, 1000)), columns=[f"c{i}" for i in range(1000)])
    started = time.monotonic()
    prepared = run(table.assign(y=["a", "b"] * 30).to_csv(index=False))
    assert len(prepared.dataset.layout.numeric) == 1000
    assert time.monotonic() - started < 30


def test_E19_the_limits_of_the_study_hold(here: Path) -> None:
    assert "larger than the limit" in str(refusal(rows(1000), max_bytes=1000))
    assert "more rows than the limit" in str(refusal(rows(1000), max_rows=500))


# --- E21 to E23: files that are not what they say


def _parquet(**columns: object) -> bytes:
    table = pa.table({"x": list(range(50)), **columns, "y": ["a", "b"] * 25})
    pq.write_table(table, "made.parquet")
    return Path("made.parquet").read_bytes()


def test_E21_a_cut_parquet_is_refused() -> None:
    content = _parquet()
    for length in (4, 8, 100, len(content) // 2, len(content) - 1, len(content) - 9):
        assert "cut off or damaged" in str(refusal(content[:length], "t.parquet"))


def test_E21_flipped_bytes_never_end_in_a_traceback() -> None:
    content, rng = _parquet(c=["u", "v"] * 25), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            damaged[place] ^= int(rng.integers(1, 256))
        with contextlib.suppress(LanewiseError):
            run(bytes(damaged), "t.parquet")


def test_E21_a_wrong_extension_is_named() -> None:
    assert "is Parquet but is named .csv" in str(refusal(_parquet(), "t.csv"))
    assert "named .parquet but is not" in str(refusal(rows(), "t.parquet"))
    assert "zip archive or an Excel file" in str(refusal(b"PK\x03\x04" + bytes(100), "t.xlsx"))


def test_E21_encrypted_and_nested_files_are_refused() -> None:
    assert "encrypted" in str(refusal(b"PARE" + bytes(50) + b"PARE", "t.parquet"))
    assert "`n` holds nested values" in str(refusal(_parquet(n=[[1, 2]] * 50), "t.parquet"))
    assert "`n` holds nested values" in str(refusal(_parquet(n=[{"a": 1}] * 50), "t.parquet"))
    assert "no table cells" in str(refusal(_parquet(n=[b"x"] * 50), "t.parquet"))


def test_E21_a_cut_feather_is_refused() -> None:
    pyarrow.feather.write_feather(pa.table({"x": list(range(50)), "y": ["a", "b"] * 25}), "made.feather")
    content = Path("made.feather").read_bytes()
    for length in (7, 100, len(content) // 2, len(content) - 3):
        assert "cut off or damaged" in str(refusal(content[:length], "t.feather"))


def test_E22_S16_a_gzip_bomb_is_refused_by_its_decompressed_size() -> None:
    bomb = gzip.compress(b"x,y\n" + b"0" * (60 * 2**20), compresslevel=1)
    assert len(bomb) < 2**20 * 2
    started = time.monotonic()
    error = refusal(bomb, "t.csv.gz", max_bytes=10 * 2**20)
    assert "larger than the limit when decompressed" in str(error)
    assert time.monotonic() - started < 10


def test_E22_S16_repeated_gzip_members_count_together() -> None:
    member = gzip.compress(b"1,a\n" * 2**18)
    error = refusal(gzip.compress(b"x,y\n") + member * 20, "t.csv.gz", max_bytes=10 * 2**20)
    assert "larger than the limit" in str(error)


def test_E22_S16_a_parquet_of_one_repeated_text_is_measured_first(here: Path) -> None:
    text = pa.array(["a" * 1_000_000]).dictionary_encode()
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(5000, np.int32)), text.dictionary)
    pq.write_table(pa.table({"x": column, "y": ["a", "b"] * 2500}), "bomb.parquet")
    content = (here / "bomb.parquet").read_bytes()
    assert len(content) < 2**21
    assert "larger than the limit when decompressed" in str(refusal(content, "t.parquet"))


def test_E22_S16_a_compressed_feather_is_measured_first(here: Path) -> None:
    zeros = pa.array(np.zeros(50_000_000))
    pyarrow.feather.write_feather(pa.table({"x": zeros, "y": zeros}), "bomb.feather", compression="zstd")
    content = (here / "bomb.feather").read_bytes()
    assert len(content) < 2**21
    error = refusal(content, "t.feather", max_bytes=100 * 2**20)
    assert "larger than the limit when decompressed" in str(error)


@pytest.mark.parametrize("kind", ["directory", "fifo", "/dev/zero", "loop", "missing", "socket"])
def test_E23_what_is_no_file_is_refused_at_once(here: Path, kind: str) -> None:
    path = here / "source"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "/dev/zero":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "socket":
        import socket

        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
    started = time.monotonic()
    with pytest.raises(DataError) as caught:
        prepare(Study.model_validate({"name": "t", "data": {"source": "source", "target": "y"}}))
    assert time.monotonic() - started < 2
    expected = {
        "directory": "the folder has no images", "fifo": "a pipe", "/dev/zero": "a device", "loop": "symbolic links",
        "missing": "does not exist", "socket": "cannot be opened",
    }[kind]
    assert expected in str(caught.value)


# --- the user's own function; S15; all texts


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import nowhere_at_all", "nowhere_at_all"),
        ("def load():\n    raise ValueError('my own words')", "my own words"),
        ("def load():\n    import sys; sys.exit(3)", "SystemExit"),
        ("load = 3", "no function"),
    ],
)
def test_a_failing_function_shows_the_users_own_message(here: Path, code: str, expected: str) -> None:
    (here / "broken_source.py").write_text(code + "\n")
    sys.modules.pop("broken_source", None)
    with pytest.raises(ModelError) as caught:
        prepare(Study.model_validate({"name": "t", "data": {"source": "broken_source:load", "target": "y"}}))
    assert expected in str(caught.value)


def test_a_function_that_returns_no_frame_is_refused(here: Path) -> None:
    (here / "list_source.py").write_text("def load():\n    return [1, 2]\n")
    with pytest.raises(DataError, match="returned no table"):
        prepare(Study.model_validate({"name": "t", "data": {"source": "list_source:load", "target": "y"}}))


def test_S15_no_text_of_an_export_starts_a_formula() -> None:
    texts = ["=HYPERLINK(1)", "+1", "-1", "@x", "\tx", "\rx", "plain", None, 'a"b']
    frame = pd.DataFrame({"=name": texts, "number": [-1.5] * len(texts), "mixed": [-1, "=2", *[None] * 7]})
    cells = pd.read_csv(io.StringIO(safe_csv(frame)), dtype=str, keep_default_na=False)
    assert list(cells.columns) == ["'=name", "number", "mixed"]
    assert cells["'=name"].tolist()[:5] == ["'=HYPERLINK(1)", "'+1", "'-1", "'@x", "'\tx"]
    assert cells["'=name"].tolist()[6:] == ["plain", "", 'a"b']
    assert set(cells["number"]) == {"-1.5"}
    assert cells["mixed"].tolist()[:2] == ["-1", "'=2"]


CASES: dict[str, tuple[str | bytes, dict[str, Any]]] = {
    "header only": ("x,y\n", {}),
    "few rows": (rows(6), {}),
    "small class": (rows(60) + "3,c\n4,c\n5,c\n6,c\n", {}),
    "double names": ("x,x,y\n1,2,a\n", {}),
    "short row": (line(rows(z="7"), 18, "1,2"), {}),
    "long row": (line(rows(z="7"), 18, "1,2,3,4"), {}),
    "separator": (rows().replace(",", ";"), {"separator": ","}),
    "one column": ("y\na\nb\n", {}),
    "unknown target": (rows(), {"target": "Y2"}),
    "unknown type": (rows(), {"types": {"xx": "number"}}),
    "no header": ("1.5,2.5\n" * 20, {}),
    "target gaps": (line(rows(), 5, "1.5,"), {}),
    "infinite": (line(rows(z="7"), 5, "1.5,1e400,a"), {}),
    "mixed": (line(rows(z=[i * 1.5 for i in range(20)]), 30, "1.5,oops,a"), {}),
    "no number": (rows(c=["u", "v"]), {"types": {"c": "number"}}),
    "no date": (rows(c=["u", "v"]), {"types": {"c": "date"}}),
    "one class": ("x,y\n" + "1,a\n2,a\n" * 10, {}),
    "three classes": (rows(c=["u", "v", "w"]), {"target": "c", "task": "binary"}),
    "texts as numbers": (rows(), {"task": "regression"}),
    "nothing left": ("x,y\n" + "1,a\n1,b\n" * 20, {}),
    "group gap": (rows(g=["1", "", "2"]), {"group": "g"}),
    "time of texts": (rows(g=["u", "v", "w"]), {"time": "g"}),
    "few groups": (rows(g=["u", "v", "w"]), {"group": "g"}),
    "not utf-8": (rows().encode() + b"\xff,a\n", {"encoding": "utf-8"}),
    "zero byte": (rows().replace("a", "a\0", 1), {}),
    "excel": (b"PK\x03\x04", {}),
    "too many rows": (rows(50), {"max_rows": 20}),
    "too large": (rows(50), {"max_bytes": 20}),
}


def test_every_message_is_the_recorded_one() -> None:
    """Write them anew with UPDATE_SNAPSHOTS=1 and read the difference."""
    text = "".join(f"[{title}]\n{refusal(content, **data)}\n\n" for title, (content, data) in CASES.items())
    if os.environ.get("UPDATE_SNAPSHOTS"):
        SNAPSHOT.write_text(text)
    assert SNAPSHOT.read_text() == text


def test_every_message_has_a_place_or_a_value_and_a_way_out() -> None:
    for title, (content, data) in CASES.items():
        error = refusal(content, **data)
        assert error.where or error.given, title
        assert error.remedy or error.rule, title
