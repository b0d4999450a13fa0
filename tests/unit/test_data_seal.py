"""The sealed rows: out of reach until the configuration is frozen, and every opening on record."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lanewise.data import Prepared, prepare
from lanewise.data.seal import OPENINGS
from lanewise.errors import DataError, TrackingError
from lanewise.study import Study


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepared:
    monkeypatch.chdir(tmp_path)
    return make()


def make(**data: Any) -> Prepared:
    """50 rows whose value of x is the row's number in the file, so that every row can be recognised."""
    frame = pd.DataFrame(
        {
            "x": np.arange(50) * 3 % 50 + 1000.5, "c": ["u", "v", "w", ""] * 12 + ["u", "v"],
            "y": ["a", "b"] * 25,
        }
    )
    frame.to_csv("t.csv", index=False)
    return prepare(Study.model_validate({"name": "t", "data": {"source": "t.csv", "target": "y", **data}}))


def test_opening_gives_the_rows_that_are_missing_from_the_dataset(prepared: Prepared) -> None:
    frame, target = prepared.seal.open('{"lr": 0.1}')
    assert len(frame) == len(target) == prepared.seal.rows == 10
    assert list(frame.columns) == list(prepared.dataset.frame.columns)
    assert list(frame.dtypes) == list(prepared.dataset.frame.dtypes)
    assert sorted([*frame["x"], *prepared.dataset.frame["x"]]) == [i + 1000.5 for i in range(50)]
    source = pd.read_csv("t.csv").set_index("x")["y"]
    assert [prepared.dataset.classes[code] for code in target] == list(source[frame["x"]])


@pytest.mark.parametrize("configuration", ["", "  ", "{}", "null", None, {}, {"lr": 0.1}])
def test_nothing_frozen_nothing_opened(prepared: Prepared, configuration: Any) -> None:
    with pytest.raises(DataError, match="stay sealed"):
        prepared.seal.open(configuration)
    assert prepared.seal.openings() == []


def test_every_opening_is_recorded_before_the_rows_are_read(prepared: Prepared, monkeypatch) -> None:
    prepared.seal.open("one")
    monkeypatch.setattr("lanewise.data.seal.pq.read_table", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepared.seal.open("two")
    openings = prepared.seal.openings()
    assert [o["configuration"] for o in openings] == [hashlib.sha256(c).hexdigest() for c in (b"one", b"two")]
    assert all(o["seal"] == prepared.seal.sha256 and o["time"].endswith("+00:00") for o in openings)


def test_the_record_is_flushed_to_disk(prepared: Prepared, monkeypatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(str(Path(f"/proc/self/fd/{handle}").readlink())))
    prepared.seal.open("one")
    folder = prepared.seal.path.parent
    assert synced == [str(folder / OPENINGS), str(folder)]


def test_a_study_with_the_same_test_rows_shares_the_record(prepared: Prepared) -> None:
    prepared.seal.open("one")
    other = make(numbers="quantile")
    assert other.seal.path != prepared.seal.path
    assert len(other.seal.openings()) == 1
    assert len(make(test=0.3).seal.openings()) == 0


def test_a_torn_line_is_cut_off(prepared: Prepared) -> None:
    prepared.seal.open("one")
    record = prepared.seal.path.parent / OPENINGS
    whole = record.read_bytes()
    for length in range(1, len(whole)):
        record.write_bytes(whole + whole[:length].rstrip(b"\n"))
        assert len(prepared.seal.openings()) == 1
    prepared.seal.open("two")
    assert len(prepared.seal.openings()) == 2
    assert record.read_bytes().startswith(whole)
    assert all(json.loads(line) for line in record.read_bytes().splitlines())


def test_openings_at_the_same_time_all_count(prepared: Prepared) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: prepared.seal.open(f"c{i}"), range(24)))
    assert len({o["configuration"] for o in prepared.seal.openings()}) == 24


def test_a_changed_file_is_refused_and_restored_by_prepare(prepared: Prepared) -> None:
    path = prepared.seal.path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="were changed"):
        prepared.seal.open("one")
    path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        prepared.seal.open("one")
    assert prepared.seal.openings() == []
    assert make().seal == prepared.seal
    prepared.seal.open("one")


def test_only_the_owner_can_read_it(prepared: Prepared) -> None:
    assert stat.S_IMODE(prepared.seal.path.stat().st_mode) == 0o600
    prepared.seal.open("one")
    assert stat.S_IMODE((prepared.seal.path.parent / OPENINGS).stat().st_mode) == 0o600
    assert [p.name for p in prepared.seal.path.parent.iterdir() if p.name.startswith(".")] == []


def test_preparing_again_writes_nothing(prepared: Prepared) -> None:
    before = prepared.seal.path.stat()
    again = make()
    after = again.seal.path.stat()
    assert again.seal == prepared.seal and again.ref == prepared.ref
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


def test_a_folder_that_cannot_be_written_is_said(prepared: Prepared, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    study = {"name": "t", "data": {"source": "t.csv", "target": "y"}, "tracking": {"home": "file/x"}}
    with pytest.raises(TrackingError, match="cannot write the sealed test rows"):
        prepare(Study.model_validate(study))


def _walk(value: Any, seen: set[int]) -> list[Any]:
    """Everything that can be reached from a dataset by its fields, columns and array bases."""
    if id(value) in seen or isinstance(value, int | float | bool):
        return []
    seen.add(id(value))
    if dataclasses.is_dataclass(value):
        inner = [getattr(value, field.name) for field in dataclasses.fields(value)]
    elif isinstance(value, dict):
        inner = [*value, *value.values()]
    elif isinstance(value, list | tuple):
        inner = list(value)
    elif isinstance(value, pd.DataFrame):
        inner = [value[name].array for name in value]
    elif isinstance(value, np.ndarray):
        inner = [value.base]
    else:
        inner = [getattr(value, "_ndarray", None), getattr(value, "_pa_array", None)]
    return [value, *(found for part in inner for found in _walk(part, seen))]


def test_a_dataset_has_no_way_to_the_test_rows(prepared: Prepared) -> None:
    frame, _ = prepared.seal.open("one")
    hidden = set(frame["x"])
    for value in _walk(prepared.dataset, set()):
        assert not isinstance(value, Path)
        assert not (isinstance(value, str) and ("seal-" in value or ".lanewise" in value))
        if isinstance(value, np.ndarray) and value.dtype == np.float64:
            assert not hidden & set(value.ravel().tolist())
    assert "seal" not in json.dumps(prepared.dataset.summary())
