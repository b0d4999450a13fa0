"""Stage results: found again only whole and unchanged, kept all or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lanewise.errors import StudyHeldError, TrackingError
from lanewise.study import load_study
from tasks import stages
from tasks.job import make_job, opened, workshop
from tasks.stage_task import stage_key
from tasks.stages import RECORD, StageStore, code_version, digest


def test_digest_is_of_values_not_of_their_order() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5})
    assert digest([1, 2]) != digest([2, 1])
    # printf '["x"]' | sha256sum
    assert digest("x") == "cd65ea2c2ad99e94"
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest(float("nan"))


def test_kept_is_found(tmp_path: Path) -> None:
    store = StageStore(tmp_path)
    assert store.find("search", "k") is None
    kept = store.keep("search", "k", {"says": "so", "result": {"best": 3}}, {"plot.png": b"\x89PNG"})
    found = StageStore(tmp_path).find("search", "k")
    assert found == kept
    assert found is not None
    assert found.result == {"best": 3}
    assert found.read()["says"] == "so"
    assert found.path("plot.png").read_bytes() == b"\x89PNG"
    assert found.identity == digest({"best": 3})


def test_another_key_is_another_result(tmp_path: Path) -> None:
    store = StageStore(tmp_path)
    store.keep("search", "k", {"result": 1})
    assert store.find("search", "l") is None
    assert store.find("evaluate", "k") is None


@pytest.mark.parametrize("damage", ["change", "remove", "cut", "empty", "format"])
def test_damaged_is_not_found_and_replaced(tmp_path: Path, damage: str) -> None:
    store = StageStore(tmp_path)
    kept = store.keep("search", "k", {"result": 1}, {"file": b"content"})
    file, record = kept.path("file"), kept.path(RECORD)
    if damage == "change":
        file.write_bytes(b"Content")
    elif damage == "remove":
        file.unlink()
    elif damage == "cut":
        record.write_bytes(record.read_bytes()[:-5])
    elif damage == "empty":
        record.write_bytes(b"")
    else:
        record.write_text(json.dumps(json.loads(record.read_text()) | {"format": 99}))
    assert store.find("search", "k") is None
    store.keep("search", "k", {"result": 1}, {"file": b"content"})
    assert store.find("search", "k") == kept


def test_half_a_result_never_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever write fails, there is no folder under the result's name and nothing is left lying about."""
    store = StageStore(tmp_path)
    written = stages._write_durably
    for allowed in range(3):
        left = [allowed]

        def fail_later(path: Path, content: bytes, left: list[int] = left) -> None:
            if left[0] == 0:
                raise OSError(28, "No space left on device")
            left[0] -= 1
            written(path, content)

        monkeypatch.setattr(stages, "_write_durably", fail_later)
        with pytest.raises(TrackingError, match="No space left on device"):
            store.keep("search", "k", {"result": 1}, {"a": b"1", "b": b"2"})
        assert list(store.root.iterdir()) == []


def test_code_version_follows_the_source() -> None:
    assert code_version() == code_version()
    assert len(code_version()) == 16


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "toy.yaml"
    path.write_text("data: {source: rows.csv, target: y}\n")
    return path


def test_key_reads_what_it_names(study: Path) -> None:
    def key(**overrides: str) -> str:
        changed = {name.replace("__", "."): value for name, value in overrides.items()}
        return stage_key(load_study(study, changed), "prepare", ("data", "search.metric"), (), None)

    assert key() == key(search__trials="7")
    assert key() != key(search__metric="f1")
    assert key() != key(data__test="0.3")
    assert key() != key(seed="1")
    assert key() != key(name="other")


def test_one_process_holds_a_job(study: Path) -> None:
    job = make_job(study)
    with opened(job) as shop:
        assert workshop(job) is shop
        with pytest.raises(StudyHeldError, match=f"process {os.getpid()}"), opened(job):
            pass
    with opened(job), pytest.raises(ZeroDivisionError), opened(make_job(study, {"name": "other"})):
        raise ZeroDivisionError  # another study is another lock
    with opened(job):
        assert not job.overrides
