"""What is stored comes back bit for bit, what was changed is refused, and the champion is always whole."""

from __future__ import annotations

import json
import os
import pickletools
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

import lanewise
from lanewise import example_rows, registry
from lanewise.data.columns import Columns
from lanewise.data.preprocessing import fit_preprocessor
from lanewise.errors import DataError, TrackingError
from lanewise.fitted import FittedModel
from lanewise.model import resolve
from lanewise.tracking import Tracker, alias_version, ensure_store, fetch, promote, register

COLUMNS = Columns(("size", "age"), {}, ("colour",), (4,), ("age",))
CONFIG = {"width": 8, "depth": 1, "dropout": 0.0}


def rows(n: int = 40) -> pd.DataFrame:
    draw = np.random.default_rng(3)
    age = np.where(draw.random(n) < 0.2, np.nan, draw.normal(40, 10, n))
    return pd.DataFrame(
        {"size": draw.normal(size=n), "age": age, "colour": draw.choice(["red", "blue", "ü"], n)}
    )


def fitted(seed: int = 0, classes: tuple[str, ...] = ("no", "yes", "3")) -> FittedModel:
    """A model with random weights: what it predicts does not matter here, only that it comes back."""
    network = resolve("mlp")
    preprocessor = fit_preprocessor(rows(), COLUMNS, "standard", "error")
    modules = [network.build(COLUMNS.layout, len(classes) or 1, CONFIG, seed + member) for member in range(2)]
    return FittedModel(
        network=network, config=dict(CONFIG), preprocessor=preprocessor,
        task="multiclass" if classes else "regression", classes=classes,
        target_mean=0.0 if classes else 1000.0, target_std=1.0 if classes else 100.0,
        states=tuple(module.state_dict() for module in modules), seeds=(seed, seed + 1), epochs=3,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def key(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path_factory.mktemp("key") / "installation.key"
    monkeypatch.setenv("LANEWISE_KEY_FILE", str(path))
    return path


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    model = fitted()
    registry.save(model.to_parts(), tmp_path / "m", rows(), model.predict(rows()))
    return tmp_path / "m"


# --- on the disk ----------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [("no", "yes", "3"), ()])
def test_a_model_comes_back_bit_for_bit(classes: tuple[str, ...], tmp_path: Path) -> None:
    model = fitted(classes=classes)
    registry.save(model.to_parts(), tmp_path / "m", rows(), model.predict(rows()))
    again = registry.load(tmp_path / "m")
    pd.testing.assert_frame_equal(again.predict(rows()), model.predict(rows()), check_exact=True)
    assert again.frozen() == model.frozen()
    pd.testing.assert_frame_equal(
        lanewise.predict(tmp_path / "m", rows()), model.predict(rows()), check_exact=True
    )


def test_the_same_model_is_stored_as_the_same_bytes(tmp_path: Path) -> None:
    model = fitted()
    one, two = (registry.save(model.to_parts(), tmp_path / n, rows(), model.predict(rows())) for n in "ab")
    other = registry.save(fitted(1).to_parts(), tmp_path / "c", rows(), fitted(1).predict(rows()))
    assert one == two and one.digest == two.digest != other.digest


def test_nothing_that_runs_code_is_stored(stored: Path) -> None:
    assert sorted(p.name for p in stored.iterdir()) == [
        "example.json", "manifest.json", "model.json", "weights.safetensors",
    ]  # fmt: skip
    for file in stored.iterdir():
        assert_no_pickle(file)


def assert_no_pickle(file: Path) -> None:
    assert not zipfile.is_zipfile(file), file
    data = file.read_bytes()
    for start in [
        0,
        *(
            at
            for at in range(len(data))
            if data[at : at + 1] == b"\x80" and data[at + 1 : at + 2] in b"\2\3\4\5"
        ),
    ]:
        try:
            found = [op.name for op, _, _ in pickletools.genops(data[start:])]
        except Exception:  # any damage means: no pickle begins here
            continue
        assert not {"GLOBAL", "STACK_GLOBAL", "REDUCE", "INST"} & set(found), file


@pytest.mark.parametrize("name", [*registry.FILES, registry.MANIFEST])
def test_one_changed_byte_is_refused(name: str, stored: Path) -> None:
    whole = (stored / name).read_bytes()
    for place in (0, len(whole) // 2, len(whole) - 1):
        (stored / name).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(
            TrackingError, match=r"not what was stored|damaged|signature|format|other files|missing"
        ):
            registry.load(stored)
    (stored / name).write_bytes(whole)
    registry.load(stored)


@pytest.mark.parametrize("name", [*registry.FILES, registry.MANIFEST])
def test_a_missing_or_cut_file_is_refused_by_name(name: str, stored: Path) -> None:
    whole = (stored / name).read_bytes()
    (stored / name).write_bytes(whole[:-5])
    with pytest.raises(TrackingError) as cut:
        registry.load(stored)
    (stored / name).unlink()
    with pytest.raises(TrackingError, match="a file of this model is missing") as gone:
        registry.load(stored)
    assert name in str(cut.value) and name in str(gone.value)


def swapped(folder: Path, *, sign: bool) -> None:
    """Other weights with hashes that fit, as someone who knows the format would put them there."""
    other = {
        name: tensor + 0.01
        for name, tensor in safetensors.torch.load_file(folder / "weights.safetensors").items()
    }
    safetensors.torch.save_file(other, folder / "weights.safetensors")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["weights.safetensors"] = registry._sha256((folder / "weights.safetensors").read_bytes())
    if sign:
        manifest |= {"key_id": "", "signature": ""}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_swapped_weights_with_new_hashes_break_the_signature(stored: Path) -> None:
    swapped(stored, sign=False)
    with pytest.raises(TrackingError, match="signature of this model is wrong"):
        registry.load(stored)


def test_swapped_weights_without_a_signature_predict_other_values(stored: Path) -> None:
    swapped(stored, sign=True)
    with pytest.raises(TrackingError, match="predicts other values") as error:
        registry.load(stored)
    assert "probability_" in str(error.value)
    with pytest.raises(TrackingError, match="not signed by this installation"):
        registry.load(stored, require_signature=True)


def test_a_model_of_another_installation_loads_unless_strict(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANEWISE_KEY_FILE", str(tmp_path / "other.key"))
    registry.load(stored)
    monkeypatch.setenv("LANEWISE_REQUIRE_SIGNATURE", "1")
    with pytest.raises(TrackingError, match="not signed by this installation"):
        registry.load(stored)


def test_the_key_is_private_and_in_no_stored_file(stored: Path, key: Path) -> None:
    assert key.stat().st_mode & 0o777 == 0o600
    assert all(key.read_bytes() not in file.read_bytes() for file in stored.iterdir())


def test_without_a_home_models_are_stored_unsigned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LANEWISE_KEY_FILE", str(tmp_path / "file" / "key"))
    model = fitted()
    assert registry.save(model.to_parts(), tmp_path / "m", rows(), model.predict(rows())).signature == ""
    registry.load(tmp_path / "m")


def test_a_model_that_does_not_predict_what_is_claimed_is_never_stored(tmp_path: Path) -> None:
    model = fitted()
    with pytest.raises(TrackingError, match="predicts other values"):
        registry.save(model.to_parts(), tmp_path / "m", rows(), fitted(5).predict(rows()))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_the_stored_model(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lanewise.registry.os.fsync", full)
    with pytest.raises(TrackingError, match="No space left"):
        registry.save(fitted(1).to_parts(), stored, rows(), fitted(1).predict(rows()))
    monkeypatch.undo()
    assert registry.load(stored).frozen() == fitted().frozen()
    assert [p.name for p in stored.parent.iterdir()] == ["m"]


def test_examples_of_every_kind_come_back() -> None:
    frame = pd.DataFrame(
        {
            "float": [0.1, np.nan], "int": [3, -4], "bool": [True, False], "text": ["=x", None],
            "date": pd.to_datetime(["2026-01-02T03:04:05.000006", None]),
            "zone": pd.to_datetime(["2026-01-02T03:00+02:00", "2026-01-02T03:00+02:00"]),
            "category": pd.Categorical(["a", "b"]), "nullable": pd.array([1, None], dtype="Int64"),
        }
    )  # fmt: skip
    data = example_rows.to_json(frame)
    assert [kind for _, kind in data["columns"]] == [
        "number", "number", "boolean", "text", "date", "date", "text", "number",
    ]  # fmt: skip
    again = example_rows.from_json(json.loads(json.dumps(data, allow_nan=False)))
    assert example_rows.to_json(again) == data
    assert again["zone"].iloc[0] == pd.Timestamp("2026-01-02T01:00")
    with pytest.raises(DataError, match="infinite"):
        example_rows.to_json(pd.DataFrame({"a": [np.inf]}))


# --- in MLflow ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    ensure_store(f"sqlite:///{path}")
    return path


@pytest.fixture
def uri(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    path = tmp_path / "mlruns" / "mlflow.db"
    path.parent.mkdir()
    shutil.copy(template, path)
    monkeypatch.chdir(tmp_path)  # where mlruns/mlflow.db is the default
    return f"sqlite:///{path}"


@pytest.fixture
def run_id(uri: str, tmp_path: Path) -> str:
    with Tracker("study", uri, tmp_path / "spool") as tracker:
        tracker.start_run("final", stage="register")
        return tracker.flush(30).run_ids["final"]


@pytest.fixture
def mlflow() -> Iterator[Any]:
    """MLflow as a user has it, forgotten afterwards: its default address is the whole process's."""
    import mlflow

    yield mlflow
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # None resets


def digest(folder: Path) -> str:
    return registry.verify(folder).digest


def registered(folder: Path, uri: str, run_id: str, name: str = "penguins") -> str:
    return register(folder, name, uri=uri, run_id=run_id, digest=digest(folder), verify=registry.verify)[0]


def test_two_lines_predict_with_the_champion(stored: Path, uri: str, run_id: str, mlflow: Any) -> None:
    version, address = register(
        stored,
        "penguins",
        uri=uri,
        run_id=run_id,
        digest=digest(stored),
        verify=registry.verify,
        tags={"a": "b"},
    )
    assert (version, address) == ("1", "models:/penguins/1")
    promote("penguins", version, alias="champion", reason="better by 0.1", expected_previous=None, uri=uri)
    expected = fitted().predict(rows())
    model = lanewise.load("models:/penguins@champion")
    pd.testing.assert_frame_equal(model.predict(rows()), expected, check_exact=True)
    for file in (Path("mlruns/artifacts")).rglob("*"):
        if file.is_file():
            assert_no_pickle(file)

    mlflow.set_tracking_uri(uri)
    served = mlflow.pyfunc.load_model("models:/penguins@champion")
    pd.testing.assert_frame_equal(served.predict(rows()), expected, check_exact=True)
    assert served.metadata.signature.inputs.to_dict() == [
        {"type": "double", "name": "size", "required": True},
        {"type": "double", "name": "age", "required": True},
        {"type": "string", "name": "colour", "required": True},
    ]
    example = served.input_example
    # Compared with the same eight rows: a matrix product of more rows may have other last bits.
    pd.testing.assert_frame_equal(served.predict(example), fitted().predict(rows().head(8)), check_exact=True)
    with pytest.raises(mlflow.exceptions.MlflowException, match="colour"):
        served.predict(rows().drop(columns="colour"))
    found = mlflow.MlflowClient(uri).get_model_version("penguins", "1")
    assert (
        found.tags["a"] == "b" and found.tags["lanewise.reason"] == "better by 0.1" and found.run_id == run_id
    )
    logged = mlflow.MlflowClient(uri).get_logged_model(found.source.removeprefix("models:/"))
    assert str(logged.status) == "READY" and logged.source_run_id == run_id


def test_the_users_own_address_is_left_alone(
    stored: Path, uri: str, run_id: str, mlflow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(stored, uri, run_id)
    assert not mlflow.is_tracking_uri_set()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://by.variable")
    registered(stored, uri, run_id, "again")
    assert mlflow.get_tracking_uri() == os.environ["MLFLOW_TRACKING_URI"] == "http://by.variable"
    mlflow.set_tracking_uri("http://by.call")
    registered(stored, uri, run_id, "more")
    assert mlflow.get_tracking_uri() == os.environ["MLFLOW_TRACKING_URI"] == "http://by.call"


def test_registering_twice_makes_one_version(stored: Path, uri: str, run_id: str, tmp_path: Path) -> None:
    assert [registered(stored, uri, run_id) for _ in range(2)] == ["1", "1"]
    registry.save(fitted(1).to_parts(), tmp_path / "n", rows(), fitted(1).predict(rows()))
    assert registered(tmp_path / "n", uri, run_id) == "2"


def test_a_candidate_is_no_champion(stored: Path, uri: str, run_id: str) -> None:
    version = registered(stored, uri, run_id)
    promote("penguins", version, alias="candidate", reason="not better", expected_previous=None, uri=uri)
    assert (alias_version("penguins", "champion", uri), alias_version("penguins", "candidate", uri)) == (
        None,
        "1",
    )
    with pytest.raises(TrackingError, match="champion"):
        lanewise.load("models:/penguins@champion")
    promote("penguins", version, alias="champion", reason="by hand", expected_previous=None, uri=uri)
    assert (alias_version("penguins", "champion", uri), alias_version("penguins", "candidate", uri)) == (
        "1",
        None,
    )


def test_of_two_that_promote_at_once_one_is_refused(
    stored: Path, uri: str, run_id: str, tmp_path: Path
) -> None:
    registry.save(fitted(1).to_parts(), tmp_path / "n", rows(), fitted(1).predict(rows()))
    versions = [registered(stored, uri, run_id), registered(tmp_path / "n", uri, run_id)]
    barrier, refused = threading.Barrier(2), []

    def decide(version: str) -> None:
        barrier.wait()
        try:
            promote("penguins", version, alias="champion", reason="x", expected_previous=None, uri=uri)
        except TrackingError as error:
            refused.append((version, error))

    threads = [threading.Thread(target=decide, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [(loser, error)] = refused
    winner = next(version for version in versions if version != loser)
    assert "another run has changed the champion" in str(error)
    assert alias_version("penguins", "champion", uri) == winner
    promote("penguins", loser, alias="champion", reason="better", expected_previous=winner, uri=uri)
    assert alias_version("penguins", "champion", uri) == loser


KILLED = """
import os, signal, sys
from pathlib import Path
from lanewise import registry
from lanewise.tracking import promote, register
from mlflow import MlflowClient

point, folder, uri, run_id = sys.argv[1:]

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def half(self, model_id, local_dir, artifact_path=None):
    upload(self, model_id, local_dir, artifact_path)
    next(Path("mlruns").rglob(model_id + "/artifacts/model/weights.safetensors")).write_bytes(b"half")
    die()

upload = MlflowClient.log_model_artifacts
if point == "mid_upload":
    MlflowClient.log_model_artifacts = half
elif point == "after_upload":
    MlflowClient.finalize_logged_model = die
elif point == "before_version":
    MlflowClient.create_model_version = die
elif point == "after_version":
    real = MlflowClient.create_model_version
    MlflowClient.create_model_version = lambda *a, **k: (real(*a, **k), die())
version, _ = register(Path(folder), "penguins", uri=uri, run_id=run_id,
                      digest=registry.verify(Path(folder)).digest, verify=registry.verify)
if point == "before_alias":
    MlflowClient.set_registered_model_alias = die
promote("penguins", version, alias="champion", reason="better", expected_previous="1", uri=uri)
"""


@pytest.mark.parametrize(
    "point", ["mid_upload", "after_upload", "before_version", "after_version", "before_alias"]
)
def test_killed_at_any_point_the_champion_stays_whole_and_the_next_run_finishes(
    point: str, stored: Path, uri: str, run_id: str, tmp_path: Path
) -> None:
    promote(
        "penguins",
        registered(stored, uri, run_id),
        alias="champion",
        reason="x",
        expected_previous=None,
        uri=uri,
    )
    new = fitted(1)
    registry.save(new.to_parts(), tmp_path / "n", rows(), new.predict(rows()))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", KILLED, point, str(tmp_path / "n"), uri, run_id]
    assert subprocess.run(command, env=environment, cwd=tmp_path).returncode == -signal.SIGKILL
    assert lanewise.load("models:/penguins@champion").frozen() == fitted().frozen()

    version = registered(tmp_path / "n", uri, run_id)
    assert version == "2"
    promote("penguins", version, alias="champion", reason="better", expected_previous="1", uri=uri)
    assert lanewise.load("models:/penguins@champion").frozen() == new.frozen()

    from lanewise.tracking.store import client

    statuses = [str(m.status) for m in client(uri).search_logged_models(["1"])]
    assert sorted(statuses) == (["FAILED", "READY", "READY"] if point == "mid_upload" else ["READY", "READY"])


def test_a_version_someone_registered_from_a_half_upload_is_found(
    stored: Path, uri: str, run_id: str
) -> None:
    version = registered(stored, uri, run_id)
    folder = fetch(f"models:/penguins/{version}")
    (folder / "weights.safetensors").unlink()
    with pytest.raises(TrackingError, match="missing") as error:
        lanewise.load("models:/penguins/1")
    assert "models:/penguins/1" in str(error.value) and "weights.safetensors" in str(error.value)
    assert registered(stored, uri, run_id) == "2"  # the damaged one is not taken for ours


def test_what_is_not_there_is_named(uri: str) -> None:
    for address in ("models:/nobody@champion", "models:/nobody/1", "models:/nobody"):
        with pytest.raises(TrackingError, match="nobody"):
            lanewise.load(address)
    with pytest.raises(TrackingError, match="missing"):
        lanewise.load("no/such/folder")


def test_tensors_that_share_memory_are_stored_apart(tmp_path: Path) -> None:
    model = fitted()
    spec, tensors = model.to_parts()
    base = torch.arange(4096.0)
    name = next(name for name, tensor in tensors.items() if tensor.numel() == 8)
    views = {**tensors, name: base[:8].reshape(tensors[name].shape)}
    changed = FittedModel.from_parts(spec, views)
    registry.save((spec, views), tmp_path / "m", rows(), changed.predict(rows()))
    assert (tmp_path / "m" / "weights.safetensors").stat().st_size < 4096 * 4
