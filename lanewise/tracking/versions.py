"""Model versions in MLflow: bring a stored model there, check it there, give it its alias, fetch it again.

Before it stands `lanewise.registry`, which made and can verify the folder; after it whoever asks for
`models:/NAME@champion`. The order is upload, verify what was uploaded, version, alias, so that an alias
always points to a complete model, whenever the process is killed. Only data is uploaded, never a pickle.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lanewise.errors import TrackingError
from lanewise.fault_points import fault
from lanewise.names import check_name, redacted
from lanewise.tracking.spool import held
from lanewise.tracking.store import client, ensure_store, lock_file

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import Model, ModelSignature

DATA = "model"  # folder of our own files inside MLflow's model folder
LOADER = "lanewise.registry"
ADDRESS_VARIABLE = "MLFLOW_TRACKING_URI"
REQUIREMENTS = ("numpy", "pandas", "safetensors", "torch")
MANIFEST_TAG = "lanewise.manifest"
LOCK_WAIT_S = 60.0

_COLUMN_TYPES = {"number": "double", "boolean": "boolean", "date": "datetime", "text": "string"}
_default_address = threading.RLock()
_log = logging.getLogger("lanewise.tracking")


def register(
    folder: Path,
    name: str,
    *,
    uri: str,
    run_id: str,
    digest: str,
    verify: Callable[[Path], object],
    tags: Mapping[str, str] | None = None,
    requirements: Sequence[str] = REQUIREMENTS,
) -> tuple[str, str]:
    """Bring a stored model to MLflow as a new version; a second call with the same model finds the first.

    Args:
        folder: A model stored by `lanewise.registry.save`.
        name: Registered model.
        uri: Tracking address.
        run_id: The MLflow run that made it.
        digest: `Manifest.digest` of the folder.
        verify: `lanewise.registry.verify`; called with the folder as it came back from MLflow.
        tags: Of the version.
        requirements: Packages it needs, pinned to what is installed.

    Returns:
        The version and its address, `models:/NAME/VERSION`.

    Raises:
        TrackingError: MLflow is away, or what came back is not what was sent.
    """
    check_name(name, what="model name")
    with _mlflow_errors(uri):
        uri = ensure_store(uri)
        mlflow = client(uri)
        run = mlflow.get_run(run_id)
        known = _known_version(mlflow, name, digest, run_id)
        if known and _verifies(uri, f"models:/{name}/{known}", verify):
            return known, f"models:/{name}/{known}"
        model_id = _uploaded(mlflow, uri, run.info.experiment_id, run_id, digest, verify)
        if model_id is None:
            fault("before_upload")
            model_id = _upload(mlflow, folder, name, run.info.experiment_id, run_id, digest, requirements)
            verify(_fetch(uri, f"models:/{model_id}"))
            mlflow.finalize_logged_model(model_id, "READY")
        fault("after_upload")
        made = _version(mlflow, uri, name, model_id, run_id, {**(tags or {}), MANIFEST_TAG: digest})
        fault("after_version")
        return made


def promote(
    name: str,
    version: str,
    *,
    alias: Literal["champion", "candidate"],
    reason: str,
    expected_previous: str | None,
    uri: str,
) -> None:
    """Give a version its alias, if the champion is still the one it was compared with.

    Compare and set under a lock: beside a SQLite database for everyone who uses it, for a server among the
    processes of this user on this machine.

    Args:
        version: As returned by `register`.
        alias: "champion" when it passed the gate, else "candidate".
        reason: Why; kept as the version's tag `lanewise.reason`.
        expected_previous: Version of the champion when the gate decided; None when there was none.

    Raises:
        TrackingError: Someone else changed the champion meanwhile: decide anew. Or MLflow is away.
    """
    with _mlflow_errors(uri), held(lock_file(uri, "alias"), wait_s=LOCK_WAIT_S) as got:
        if not got:
            raise TrackingError("another process has been changing aliases for too long", where=name)
        mlflow = client(uri)
        now = _alias(mlflow, name, "champion")
        if alias == "champion" and now not in (expected_previous, version):
            raise TrackingError(
                "another run has changed the champion meanwhile", where=name, given=f"version {now}",
                rule=f"the version it was compared with, {expected_previous}",
                remedy="compare with the new champion: run the same command again",
            )  # fmt: skip
        fault("before_alias")
        mlflow.set_model_version_tag(name, version, "lanewise.reason", reason[:500])
        mlflow.set_model_version_tag(name, version, "lanewise.alias", alias)
        mlflow.set_registered_model_alias(name, alias, version)
        if alias == "champion" and _alias(mlflow, name, "candidate") == version:
            mlflow.delete_registered_model_alias(name, "candidate")


def alias_version(name: str, alias: str, uri: str) -> str | None:
    """The version an alias points to; None when there is none."""
    with _mlflow_errors(uri):
        return _alias(client(ensure_store(uri)), name, alias)


def fetch(model_uri: str, uri: str | None = None) -> Path:
    """Bring a registered model to this disk; one that lies there already is not copied.

    Args:
        model_uri: `models:/NAME@champion`, `models:/NAME/VERSION` or `models:/MODEL_ID`.
        uri: Tracking address; by default MLFLOW_TRACKING_URI, else the study file's default.

    Returns:
        The folder that `lanewise.registry` reads.

    Raises:
        TrackingError: There is no such model, or MLflow is away.
    """
    if uri is None:
        # The study owns the default; it is imported here because it takes a tenth of a second.
        from lanewise.study import Tracking

        uri = os.environ.get(ADDRESS_VARIABLE) or str(Tracking().uri)
    with _mlflow_errors(uri, where=model_uri):
        return _fetch(ensure_store(uri), model_uri)


def _fetch(uri: str, model_uri: str) -> Path:
    client(uri)
    from mlflow.artifacts import download_artifacts

    with _as_default(uri):
        folder = Path(download_artifacts(artifact_uri=model_uri, tracking_uri=uri, registry_uri=uri), DATA)
    if not folder.is_dir():
        raise TrackingError(
            "this model was not stored by Lanewise, or its upload was cut off", where=model_uri,
            given=f"no {folder}", remedy="load another version",
        )  # fmt: skip
    return folder


def _verifies(uri: str, model_uri: str, verify: Callable[[Path], object]) -> bool:
    """Whether what an earlier, killed registration left behind is whole."""
    from mlflow.exceptions import MlflowException

    try:
        verify(_fetch(uri, model_uri))
    except (TrackingError, MlflowException, OSError) as error:
        _log.warning("%s is incomplete and is replaced: %s", model_uri, error)
        return False
    return True


def _known_version(mlflow: MlflowClient, name: str, digest: str, run_id: str) -> str | None:
    versions = mlflow.search_model_versions(
        f"name = '{name}'", max_results=200, order_by=["version_number DESC"]
    )
    found = (v for v in versions if v.tags.get(MANIFEST_TAG) == digest and v.run_id == run_id)
    return next((str(v.version) for v in found), None)


def _uploaded(
    mlflow: MlflowClient,
    uri: str,
    experiment_id: str,
    run_id: str,
    digest: str,
    verify: Callable[[Path], object],
) -> str | None:
    """The whole upload of a registration that was killed before its version; half ones are marked failed."""
    query = f"tags.`{MANIFEST_TAG}` = '{digest}'"
    for model in mlflow.search_logged_models([experiment_id], query):
        if model.source_run_id != run_id or str(model.status) not in ("READY", "PENDING"):
            continue
        if _verifies(uri, f"models:/{model.model_id}", verify):
            mlflow.finalize_logged_model(model.model_id, "READY")
            return str(model.model_id)
        mlflow.finalize_logged_model(model.model_id, "FAILED")
    return None


def _upload(
    mlflow: MlflowClient,
    folder: Path,
    name: str,
    experiment_id: str,
    run_id: str,
    digest: str,
    needs: Sequence[str],
) -> str:
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    logged = mlflow.create_logged_model(
        experiment_id, name=name, source_run_id=run_id, tags={MANIFEST_TAG: digest}, model_type="lanewise"
    )
    model = Model(
        artifact_path=logged.artifact_location,
        model_uuid=logged.model_id,
        run_id=run_id,
        model_id=logged.model_id,
    )
    mlflow.log_model_artifacts(logged.model_id, str(folder), DATA)
    fault("mid_upload")
    with tempfile.TemporaryDirectory() as temporary:
        _describe(model, folder, Path(temporary), needs)
        mlflow.log_model_artifacts(logged.model_id, temporary)
    mlflow.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
    return str(logged.model_id)


def _describe(model: Model, stored: Path, folder: Path, needs: Sequence[str]) -> None:
    """Write what MLflow wants beside the stored model: MLmodel, requirements, input example.

    `mlflow.pyfunc.save_model` writes the same, but looks through every installed package first (0.5 s).
    """
    from mlflow.pyfunc import add_to_model

    example = json.loads((stored / "example.json").read_text())
    split = {"columns": [name for name, _ in example["inputs"]["columns"]], "data": example["inputs"]["rows"]}
    pins = [
        f"mlflow=={installed('mlflow')}",
        *(f"{package}=={installed(package).split('+')[0]}" for package in needs),
    ]
    python = platform.python_version()
    files = {
        "requirements.txt": "\n".join(pins) + "\n",
        "python_env.yaml": f"python: {python}\nbuild_dependencies:\n- pip\n"
        "dependencies:\n- -r requirements.txt\n",
        "conda.yaml": f"channels:\n- conda-forge\ndependencies:\n- python={python}\n- pip\n- pip:\n"
        + "".join(f"  - {pin}\n" for pin in pins)
        + "name: mlflow-env\n",
        "input_example.json": json.dumps(split),
        "serving_input_example.json": json.dumps({"dataframe_split": split}),
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    add: Any = add_to_model  # MLflow leaves it untyped
    add(model, LOADER, data=DATA, conda_env="conda.yaml", python_env="python_env.yaml")
    model.signature = _signature(example)
    model.saved_input_example_info = {
        "artifact_path": "input_example.json", "type": "dataframe", "pandas_orient": "split",
        "serving_input_path": "serving_input_example.json",
    }  # fmt: skip
    model.save(str(folder / "MLmodel"))


def _signature(example: Mapping[str, Any]) -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    def schema(part: str) -> Schema:
        return Schema([ColSpec(_COLUMN_TYPES[kind], name) for name, kind in example[part]["columns"]])

    return ModelSignature(schema("inputs"), schema("predictions"))


def _version(
    mlflow: MlflowClient, uri: str, name: str, model_id: str, run_id: str, tags: Mapping[str, str]
) -> tuple[str, str]:
    from mlflow.exceptions import MlflowException

    try:
        mlflow.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    with _as_default(uri):
        made = mlflow.create_model_version(
            name, f"models:/{model_id}", run_id=run_id, model_id=model_id, tags=dict(tags)
        )
    return str(made.version), f"models:/{name}/{made.version}"


def _alias(mlflow: MlflowClient, name: str, alias: str) -> str | None:
    from mlflow.exceptions import MlflowException

    try:
        return str(mlflow.get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


@contextmanager
def _as_default(uri: str) -> Iterator[None]:
    """Make an address MLflow's default for a moment.

    MLflow 3.17 looks up the source of a version with a client of its own, at the default address.
    """
    import mlflow

    with _default_address:
        variable = os.environ.get(ADDRESS_VARIABLE)
        # MLflow leaves both untyped.
        before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None  # type: ignore[no-untyped-call]
        mlflow.set_tracking_uri(uri)
        try:
            yield
        finally:
            # An address that only the variable gives must stay one that the variable can change.
            mlflow.set_tracking_uri(None if before == variable else before)  # type: ignore[arg-type]  # None resets
            if variable is not None:
                os.environ[ADDRESS_VARIABLE] = variable


@contextmanager
def _mlflow_errors(uri: str, where: str | None = None) -> Iterator[None]:
    """Turn MLflow's exceptions into ours, with the place and without the password."""
    client(uri)
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise TrackingError(
            "MLflow refused or cannot be reached", where=where or redacted(uri),
            given=str(error).splitlines()[0][:300],
            remedy="check tracking.uri, the name and that the server runs, then run the same command again",
        ) from error  # fmt: skip
