"""Predictions of a registered model for the rows of a file: what `lanewise predict` calls. Logs nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lanewise import registry, tracking
from lanewise.data import safe_csv
from lanewise.data.inference import infer_types
from lanewise.data.sources import load_table
from lanewise.study import Data


def predict_file(model: str, source: Path, tracking_uri: str | None = None) -> str:
    """Predict the rows of a file.

    Args:
        model: `NAME@champion`, `NAME/VERSION`, an address `models:/...`, or the folder of a stored model.
        source: A file like the one the study was made from; the target is not needed.
        tracking_uri: Where it is registered; by default MLFLOW_TRACKING_URI, else the study file's default.

    Returns:
        CSV: `prediction`, and for classes the probability of each.

    Raises:
        TrackingError: There is no such model, or it was changed.
        DataError: The file does not hold the columns the model was trained on.
    """
    address = model if model.startswith("models:/") or Path(model).is_dir() else f"models:/{model}"
    fitted = registry.load(
        address, search_path=[Path.cwd()], fetch=lambda uri: tracking.fetch(uri, tracking_uri)
    )
    table = load_table(str(source), Data.model_construct(source=str(source)), Path.cwd())
    columns = fitted.preprocessor.columns
    kinds = columns.kinds
    used = {name: values for name, values in table.columns.items() if name in kinds}
    types = {name: kinds[name] for name in used}
    typed = infer_types(replace(table, columns=used), types, formats=columns.date_formats)
    return safe_csv(fitted.predict(typed.frame))
