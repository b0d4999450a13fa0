"""Predictions of a registered model for the rows of a file: what `lanewise predict` calls. Logs nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lanewise import registry, tracking
from lanewise.data import read_new_rows, safe_csv


def predict_file(
    model: str,
    source: Path,
    tracking_uri: str | None = None,
    say: Callable[[str], None] | None = None,
) -> str:
    """Predict the rows of a file.

    Args:
        model: `NAME@champion`, `NAME/VERSION`, an address `models:/...`, or the folder of a stored model.
        source: A file like the one the study was made from, the target not needed; for images also a folder or one
            image.
        tracking_uri: Where it is registered; by default MLFLOW_TRACKING_URI, else the study file's default.
        say: Told of rows that hold a category the model does not know.

    Returns:
        CSV: for images of a folder or an index their paths; `prediction`, and for classes the probability of each.

    Raises:
        TrackingError: There is no such model, or it was changed.
        DataError: The file does not hold the columns the model was trained on.
    """
    address = model if model.startswith("models:/") or Path(model).is_dir() else f"models:/{model}"
    fitted = registry.load(
        address, search_path=[Path.cwd()], fetch=lambda uri: tracking.fetch(uri, tracking_uri)
    )
    rows, names = read_new_rows(source, fitted.preprocessor.columns)
    told = fitted.predict(rows)
    if say is not None:
        for column, count in fitted.preprocessor.unseen(rows).items():
            known = column in rows.columns
            what = f"{column}: a category that training did not have, or rarely" if known else column
            say(f"{what}: {count:,} of {len(rows):,} rows")
    if names:
        told.insert(0, "image", names)
    return safe_csv(told)
