"""What is stored of a fitted model, and how it is read back: plain data with hash sums, never a pickle.

Before it stands `fitted.py`, after it `lanewise.tracking`, which brings the folder to MLflow. A stored model
is four files: `weights.safetensors`, `model.json` (network, preprocessing, classes, layout), `example.json`
(rows with their predictions) and `manifest.json` with the SHA-256 of each. A folder appears under its name
whole or not at all, and nothing is parsed before its hash was found right. MLflow is not imported here.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from lanewise import example_rows, signing
from lanewise.durable import sync_folder
from lanewise.errors import TrackingError
from lanewise.fitted import FittedModel

WEIGHTS, MODEL, EXAMPLE, MANIFEST = "weights.safetensors", "model.json", "example.json", "manifest.json"
FILES = (WEIGHTS, MODEL, EXAMPLE)
FORMAT = 1
TOLERANCE = 1e-5  # of a prediction against the stored one, relative above 1
EXAMPLE_ROWS = 8
STRICT_VARIABLE = "LANEWISE_REQUIRE_SIGNATURE"

Parts = tuple[Mapping[str, Any], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Manifest:
    """The list of a stored model's files.

    Args:
        files: Name -> SHA-256.
        versions: Of lanewise's format, torch and safetensors, when it was stored.
        key_id: Which installation signed it; empty when none did.
        signature: HMAC-SHA-256 of `digest` with that installation's key.
    """

    files: dict[str, str]
    versions: dict[str, str]
    format: int = FORMAT
    key_id: str = ""
    signature: str = field(default="", repr=False)

    @property
    def digest(self) -> str:
        """One SHA-256 over everything that is stored; two models with the same digest are the same model."""
        content = {name: value for name, value in asdict(self).items() if name not in ("key_id", "signature")}
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class ModelVersion:
    """A registered version.

    Args:
        name: Registered model.
        version: Number of the version, as MLflow writes it.
        alias: "champion" when it passed the gate, else "candidate".
        reason: Why.
        uri: `models:/NAME/VERSION`.
        run_id: The MLflow run it came from.
    """

    name: str
    version: str
    alias: Literal["champion", "candidate"]
    reason: str
    uri: str
    run_id: str


def save(
    fitted_parts: Parts,
    folder: Path,
    example_frame: pd.DataFrame,
    example_prediction: pd.DataFrame,
    *,
    search_path: Sequence[str | Path] = (),
) -> Manifest:
    """Store a fitted model: write, force to the disk, check by loading it back, then rename.

    Args:
        fitted_parts: What `FittedModel.to_parts` returns.
        folder: Folder of the model; one that is there is replaced.
        example_frame: Rows it can predict; the first 8 are stored.
        example_prediction: What it predicts for them, same number of rows.
        search_path: Folders with the network's class.

    Returns:
        The manifest.

    Raises:
        TrackingError: What was written does not predict what was given, or the disk refuses.
    """
    spec, tensors = fitted_parts
    # Tensors that share memory would be refused, and a view would store its whole base.
    weights = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    example = {
        "inputs": example_rows.to_json(example_frame.head(EXAMPLE_ROWS)),
        "predictions": example_rows.to_json(example_prediction.head(EXAMPLE_ROWS)),
    }
    contents = {
        WEIGHTS: safetensors.torch.save(weights),
        MODEL: _json(spec),
        EXAMPLE: _json(example),
    }
    versions = {"torch": torch.__version__, "safetensors": safetensors.__version__}
    manifest = _signed(Manifest({name: _sha256(data) for name, data in contents.items()}, versions))
    contents[MANIFEST] = _json(asdict(manifest))
    folder = Path(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
            new = Path(temporary, folder.name)
            new.mkdir()
            for name, data in contents.items():
                _write(new / name, data)
            verify(new, search_path=search_path)
            _put_in_place(new, folder)
    except OSError as error:
        raise TrackingError(
            "the model cannot be stored",
            where=folder,
            given=error,
            remedy="free space or choose another folder",
        ) from error
    return manifest


def verify(
    folder: Path, *, search_path: Sequence[str | Path] = (), require_signature: bool = False
) -> Manifest:
    """Check every hash, load the model and compare its predictions with the stored ones.

    Args:
        folder: A stored model.
        search_path: Folders with the network's class.
        require_signature: Refuse a model that this installation has not signed.

    Raises:
        TrackingError: A file is missing or changed, or the predictions differ by more than 1e-5.
    """
    manifest, contents = _read(Path(folder), require_signature)
    _smoke(_build(contents, search_path), contents, Path(folder))
    return manifest


def load(
    uri: str | Path,
    *,
    search_path: Sequence[str | Path] = (),
    require_signature: bool | None = None,
    fetch: Callable[[str], Path] | None = None,
) -> FittedModel:
    """Read a model back, from a folder or from the registry.

    ::

        model = lanewise.load("models:/penguins@champion")
        model.predict(frame)

    Args:
        uri: A folder, or `models:/NAME@champion`, `models:/NAME/VERSION`.
        search_path: Folders with the network's class, for networks that are not Lanewise's own.
        require_signature: Refuse what this installation has not signed; by default as the environment
            variable LANEWISE_REQUIRE_SIGNATURE says.
        fetch: Brings a registered model to this disk; by default MLflow does.

    Returns:
        The model, with verified files and predictions.

    Raises:
        TrackingError: It is not there, a file is missing or changed, or it predicts other values than when
            it was stored.
    """
    folder = Path(uri)
    if str(uri).startswith(("models:/", "runs:/")):
        # By name, not by an import: tracking stands below, and only these two lines look there.
        fetch = fetch or import_module("lanewise.tracking").fetch
        folder = fetch(str(uri))
    strict = (
        os.environ.get(STRICT_VARIABLE, "") not in ("", "0")
        if require_signature is None
        else require_signature
    )
    try:
        _, contents = _read(folder, strict)
        model = _build(contents, search_path)
        _smoke(model, contents, folder)
    except TrackingError as error:
        if str(uri) == str(folder):
            raise
        raise TrackingError(error.what, where=f"{uri}: {error.where}", given=error.given, rule=error.rule,
                            remedy=error.remedy) from error  # fmt: skip
    return model


def predict(model: FittedModel | str | Path, frame: pd.DataFrame) -> pd.DataFrame:
    """Predict rows with a model or with where it is stored; see `FittedModel.predict`."""
    fitted = model if isinstance(model, FittedModel) else load(model)
    return fitted.predict(frame)


def _load_pyfunc(path: str) -> _Served:
    """What MLflow calls to load the model for `mlflow.pyfunc` (`loader_module` in its MLmodel file)."""
    return _Served(load(Path(path)))


class _Served:
    """A model behind `mlflow.pyfunc`."""

    def __init__(self, model: FittedModel) -> None:
        self._model = model

    def predict(self, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Predict rows; there are no parameters."""
        return self._model.predict(model_input)


def _signed(manifest: Manifest) -> Manifest:
    key = signing.installation_key()
    if key is None:
        return manifest
    return replace(manifest, key_id=signing.key_id(key), signature=signing.sign(key, manifest.digest))


def _check_signature(manifest: Manifest, folder: Path, required: bool) -> None:
    key = signing.installation_key()
    ours = key is not None and manifest.key_id == signing.key_id(key)
    if (
        ours
        and key is not None
        and not hmac.compare_digest(manifest.signature, signing.sign(key, manifest.digest))
    ):
        raise TrackingError(
            "the signature of this model is wrong: it was changed after it was stored",
            where=folder / MANIFEST, remedy="do not use it; load an earlier version",
        )  # fmt: skip
    if required and not ours:
        raise TrackingError(
            "this model was not signed by this installation", where=folder / MANIFEST,
            given=manifest.key_id or "unsigned", rule=f"{STRICT_VARIABLE} asks for a signature",
            remedy=f"point {signing.KEY_VARIABLE} at the key it was signed with",
        )  # fmt: skip


def _read(folder: Path, require_signature: bool) -> tuple[Manifest, dict[str, bytes]]:
    """The files of a stored model, each read once and found unchanged."""
    try:
        manifest = Manifest(**json.loads(_bytes(folder / MANIFEST)))
    except (ValueError, TypeError) as error:
        raise TrackingError(
            "the manifest of this model is damaged", where=folder / MANIFEST, given=error
        ) from error
    if manifest.format != FORMAT:
        raise TrackingError(
            "this model was stored in another format",
            where=folder,
            given=manifest.format,
            rule=f"format {FORMAT}",
        )
    if set(manifest.files) != set(FILES):
        raise TrackingError("the manifest names other files than a model has", where=folder / MANIFEST,
                            given=sorted(manifest.files), rule=", ".join(FILES))  # fmt: skip
    _check_signature(manifest, folder, require_signature)
    contents = {name: _bytes(folder / name) for name in FILES}
    for name, data in contents.items():
        if not hmac.compare_digest(_sha256(data), manifest.files[name]):
            raise TrackingError(
                "this file is not what was stored", where=folder / name,
                given=f"SHA-256 {_sha256(data)}, {len(data)} bytes", rule=f"SHA-256 {manifest.files[name]}",
                remedy="restore it from a copy, or load another version",
            )  # fmt: skip
    return manifest, contents


def _build(contents: Mapping[str, bytes], search_path: Sequence[str | Path]) -> FittedModel:
    tensors = safetensors.torch.load(contents[WEIGHTS])
    return FittedModel.from_parts(json.loads(contents[MODEL]), tensors, search_path=search_path)


def _smoke(model: FittedModel, contents: Mapping[str, bytes], folder: Path) -> None:
    """Compare predictions for the stored rows with the stored predictions."""
    example = json.loads(contents[EXAMPLE])
    expected = example_rows.from_json(example["predictions"])
    found = example_rows.from_json(
        example_rows.to_json(model.predict(example_rows.from_json(example["inputs"])))
    )
    if list(found.columns) != list(expected.columns) or len(found) != len(expected):
        raise TrackingError(
            "this model predicts other columns than when it was stored", where=folder,
            given=list(found.columns), rule=str(list(expected.columns)),
        )  # fmt: skip
    for name in expected.columns:
        if pd.api.types.is_float_dtype(expected[name].dtype):
            off = np.abs(found[name] - expected[name]) / np.maximum(1.0, np.abs(expected[name]))
            wrong = ~(off <= TOLERANCE)
        else:
            wrong = found[name] != expected[name]
        if wrong.any():
            row = int(np.argmax(wrong.to_numpy()))
            raise TrackingError(
                "this model predicts other values than when it was stored",
                where=f"{folder}: {name}, row {row + 1}", given=found[name].iloc[row],
                rule=f"{expected[name].iloc[row]} within {TOLERANCE}",
                remedy="use the torch and the network's code it was stored with, or another version",
            )  # fmt: skip


def _put_in_place(new: Path, folder: Path) -> None:
    old = folder.with_name(f".{folder.name}.old-{secrets.token_hex(4)}")
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    sync_folder(folder.parent)  # the rename itself must survive a power cut
    shutil.rmtree(old, ignore_errors=True)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise TrackingError(
            "a file of this model is missing",
            where=path,
            remedy="restore it from a copy, or load another version",
        ) from error


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
