"""From a study's source to development rows and a seal: the order of all steps of the data room.

Reads, types, codes the target, cuts off and seals the test rows, fixes the layout from what is left and
checks it. Fits nothing: preprocessing is fitted per split, by `Dataset`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lanewise.data import checks
from lanewise.data.dataset import Dataset
from lanewise.data.image_reading import Progress
from lanewise.data.images import portable
from lanewise.data.inputs import input_columns, plan_inputs
from lanewise.data.memory import memory_told
from lanewise.data.rows import Rows, read_rows
from lanewise.data.seal import Seal, write_seal
from lanewise.data.sources import load_source, table_from_frame
from lanewise.data.splits import I64, Split, check_fold_room, cut, split_fingerprint
from lanewise.data.table import Table, fingerprint, placed, shown
from lanewise.data.target import pick_metric
from lanewise.errors import DataError
from lanewise.study import Data, Study

IMAGES = "images"  # folder of decoded images, in the study's home


@dataclass(frozen=True)
class DatasetRef:
    """What a stage records about prepared data, as JSON: enough to see that another run has the same."""

    source: str
    fingerprint: str
    split_fingerprint: str
    task: str
    metric: str
    classes: tuple[str, ...]
    rows: int
    train_rows: int
    valid_rows: int
    test_rows: int
    features: int
    seal_path: str
    seal_sha256: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Prepared:
    """Development rows, the sealed test rows, and the record of both."""

    dataset: Dataset
    seal: Seal
    ref: DatasetRef


def prepare(study: Study, progress: Progress | None = None) -> Prepared:
    """Do the whole stage. The same study and source give the same rows, fingerprints and seal.

    Args:
        study: what to prepare.
        progress: told of every image that was decoded: how many, of how many.

    Raises:
        StudyError: The study names a column, metric or split that does not fit.
        DataError: The data cannot be used as they are.
        ModelError: The source is a function of the user that fails.
        TrackingError: The seal cannot be written.
    """
    options = study.data
    with memory_told(options.source), placed(options.source):
        table = load_source(options, study.base_dir, Path(study.tracking.home).absolute() / IMAGES, progress)
        rows = read_rows(table, options, study)
        target, grouping = rows.target, rows.grouping
        metric = pick_metric(target.task, target.values, target.classes, study.search.metric)
        development, test, holdout = first_cuts(rows, options, study.seed)
        check_fold_room(grouping.take(development), len(development), study.evaluate.folds)
        dataset = build_dataset(rows, development, test, holdout, table, options, metric)
        seal = _seal(study, dataset, test, rows)
    return Prepared(dataset, seal, _reference(dataset, seal))


def first_cuts(rows: Rows, options: Data, seed: int) -> tuple[I64, I64, Split]:
    """Development rows, test rows, and the split of the development rows that the search uses.

    What the source itself says comes first: `test_source` and `split_column`. The rest is drawn.

    Args:
        rows: all rows.
        options: the shares.
        seed: of the draws.

    Raises:
        DataError: A part would be empty, or would lack a class.
        StudyError: The split column names no test rows.
    """
    count = len(rows.target.values)
    if rows.given is None:
        development, test = cut(rows.grouping, count, options.test, seed, what="test")
    else:
        sealed = rows.given == "test"
        development, test = np.flatnonzero(~sealed).astype(np.int64), np.flatnonzero(sealed).astype(np.int64)
        if not len(test):  # a column that says "all", or only train and valid
            development, test = cut(rows.grouping, count, options.test, seed, what="test")
    within = rows.grouping.take(development)
    said = None if rows.given is None else rows.given[development]
    if said is not None and (said == "valid").any():
        parts = np.flatnonzero(said != "valid").astype(np.int64), np.flatnonzero(said == "valid").astype(np.int64)
    else:
        parts = cut(within, len(development), options.valid, seed, what="validation")
    return development, test, Split("holdout", *parts)


def _seal(study: Study, dataset: Dataset, test: npt.NDArray[np.int64], rows: Rows) -> Seal:
    """Seal the test rows; studies that share them share the folder, and so the record of openings."""
    home = Path(study.tracking.home).absolute()
    content = [dataset.fingerprint, study.data.model_dump(mode="json"), study.seed]
    name = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
    features = portable(rows.frame[list(dataset.columns.names)].iloc[test], dataset.columns)
    folder = home / "data" / dataset.fingerprint[:16] / split_fingerprint([test])[:16]
    return write_seal(folder, f"seal-{name}.parquet", features, rows.target.values[test])


def build_dataset(
    rows: Rows, development: npt.NDArray[np.int64], test: npt.NDArray[np.int64], holdout: Split, table: Table,
    options: Data, metric: tuple[str, str],
) -> Dataset:
    """The dataset of the development rows: useless columns left out, layout fixed, everything checked.

    Args:
        rows: all rows.
        development, test: their positions on either side of the seal.
        holdout: the search's split of the development rows.
        table: the source, for its fingerprint.
        options: how the study wants it.
        metric: the objective and why it.
    """
    kinds, target = rows.typed.kinds, rows.target.values[development]
    frame = rows.frame.iloc[development].reset_index(drop=True)
    useless = checks.useless_columns(frame, kinds, tuple(options.types))
    kind, used, beside = input_columns({name: kinds[name] for name in frame.columns}, useless)
    frame = frame[used]
    if not len(frame.columns):
        raise DataError(
            "no column is left to learn from", where=table.name,
            given=shown([f"{n} ({w.code})" for n, w in useless.items()]), rule="at least one feature",
            remedy="use `types` to keep one, or bring other columns",
        )
    columns, notes = plan_inputs(kind, frame, kinds, rows.typed.formats, options)
    read = [note for note in rows.notes if note.column is None or note.column not in rows.dropped]
    suspicious = checks.suspicions(frame, kinds, target, rows.target.task) if kind == "table" else []
    hashes = checks.row_hashes(rows.frame[list(frame.columns)], rows.target.values)
    repeated = checks.duplicates(hashes, test, rows.grouping.groups is not None)
    return Dataset(
        frame=frame, target=target, task=rows.target.task, classes=rows.target.classes, columns=columns,
        numbers=options.numbers, infinite=options.infinite, holdout=holdout,
        grouping=rows.grouping.take(development), fingerprint=fingerprint(table),
        split_fingerprint=split_fingerprint([test, holdout.train, holdout.valid]), metric=metric[0],
        metric_reason=metric[1], warnings=(*read, *useless.values(), *notes, *suspicious, *repeated),
        dropped={**rows.dropped, **{name: note.message for name, note in useless.items()}, **beside},
        target_name=rows.target.name, source=options.source, test_rows=len(test),
    )


def _reference(dataset: Dataset, seal: Seal) -> DatasetRef:
    return DatasetRef(
        source=dataset.source, fingerprint=dataset.fingerprint, split_fingerprint=dataset.split_fingerprint,
        task=dataset.task, metric=dataset.metric, classes=dataset.classes, rows=dataset.rows,
        train_rows=len(dataset.holdout.train), valid_rows=len(dataset.holdout.valid), test_rows=seal.rows,
        features=len(dataset.columns.names), seal_path=str(seal.path), seal_sha256=seal.sha256,
        warnings=tuple(
            f"{w.code}: {f'`{w.column}` ' if w.column else ''}{w.message}" for w in dataset.warnings
        ),
    )


def from_frame(
    frame: pd.DataFrame, target: npt.ArrayLike | str, *, task: str = "auto", holdout: Split | None = None,
    seed: int = 0, metric: str = "auto", groups: npt.ArrayLike | None = None,
    times: npt.ArrayLike | None = None, name: str = "frame", **options: Any,
) -> Dataset:
    """A `Dataset` from rows that are all development rows, for benchmarks with splits from outside.

    Args:
        frame: features [N].
        target: values [N], or the name of a column of `frame`.
        task: auto, binary, multiclass or regression.
        holdout: the search's split; without it, one is drawn as `prepare` does.
        seed: of that draw.
        metric: the objective, or auto.
        groups: group of each row [N]; splits then keep groups whole.
        times: time of each row [N]; splits then keep order.
        name: shown in messages and reports.
        options: other fields of `study.Data`, such as numbers="quantile" or types={...}.

    Raises:
        DataError: As `prepare`.
        StudyError: As `prepare`.
    """
    values = frame[target] if isinstance(target, str) else target
    frame = frame.drop(columns=[target]) if isinstance(target, str) else frame
    beside = {"target": values, "group": groups, "time": times}
    added = {f"({key})": np.asarray(given) for key, given in beside.items() if given is not None}
    named = {key: f"({key})" for key, given in beside.items() if given is not None}
    data = Data.model_validate({"source": name, "task": task, **named, **options})
    table = table_from_frame(frame.reset_index(drop=True).assign(**added), name)
    rows = read_rows(table, data, None)
    everything = np.arange(len(rows.target.values), dtype=np.int64)
    if holdout is None:
        holdout = Split("holdout", *cut(rows.grouping, len(everything), data.valid, seed, what="validation"))
    chosen = pick_metric(rows.target.task, rows.target.values, rows.target.classes, metric)
    return build_dataset(rows, everything, everything[:0], holdout, table, data, chosen)
