"""Looks at a source before there is a study and proposes one, for `lanewise init`. Trains and seals nothing.

The proposal is text for people: every guess stands there with its reason. It looks at the rows `prepare`
would make development rows, so that what it says has not seen the test rows either.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lanewise.data.checks import LEAK_ADVICE
from lanewise.data.dataset import Dataset
from lanewise.data.inference import infer_types
from lanewise.data.memory import memory_told
from lanewise.data.prepare import build_dataset, first_cuts
from lanewise.data.proposals import NETWORKS, image_paths_of, parts_of, split_column_of, text_column_of
from lanewise.data.rows import read_rows
from lanewise.data.sources import load_source
from lanewise.data.table import DataWarning, Table, placed
from lanewise.data.target import pick_metric
from lanewise.study import Data, Study

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"}
_KINDS = ("number", "category", "date", "image", "series", "text")
_WIDTH = 110
_FEW_SERIES, _SMALL_BATCH, _STEPS = 2_000, 16, 1_200  # up to so many rows, batches and steps of a training
_FEW_VALID = 30  # validation rows, below which shares of rows that are right are too coarse to choose by


@dataclass(frozen=True)
class ColumnNote:
    """What was seen in one column: its kind, empty cells and different values among the development rows."""

    name: str
    kind: str
    missing: int
    different: int


@dataclass(frozen=True)
class Look:
    """What was seen in a source.

    Attributes:
        source, target: as they will stand in the study.
        task, metric: proposed, each with its reason.
        rows: rows of the source.
        columns: the features that will be used.
        drop: column -> why the study should drop it: leaks and columns that cannot be read.
        left_out: column -> why prepare leaves it out by itself.
        settings: how a file was read.
        gaps: rows without a target.
        infinite: columns with infinite numbers.
        warnings: everything else prepare will say.
        development: rows that are not sealed.
        test_source, split_column: where the source itself has test rows.
        image_paths: column of paths to images.
        kind: table, image, series or text.
        types: column -> type that the study must declare.
    """

    source: str
    target: str
    task: str
    task_reason: str
    metric: str
    metric_reason: str
    rows: int
    columns: tuple[ColumnNote, ...]
    drop: Mapping[str, str]
    left_out: Mapping[str, str]
    settings: Mapping[str, str]
    gaps: int
    infinite: tuple[str, ...]
    warnings: tuple[DataWarning, ...]
    development: int = 0
    test_source: str | None = None
    split_column: str | None = None
    kind: str = "table"
    types: Mapping[str, str] = field(default_factory=dict)
    image_paths: str | None = None


def look(source: str | Path, target: str | None = None) -> Look:
    """Read a source and say what a study of it should know.

    Args:
        source: a file, relative to the working directory, or another source as in `data: source:`.
        target: the column to predict; may be left out for `sklearn:...`.

    Raises:
        DataError: It cannot be read, or has no such column (the nearest is named).
        StudyError: No target is named.
        ModelError: The source is a function of the user that fails.
    """
    name, test = parts_of(str(source))
    options = Data.model_construct(source=name, test_source=test)  # without a target: the source may name one
    if target is not None:
        options = Data(source=name, test_source=test, target=target)
    with memory_told(name), placed(name):
        table = load_source(options, Path.cwd())
        paths = image_paths_of(table, Path(name).parent, target)
        if paths is not None:
            options = options.model_copy(update={"image_paths": paths})
            table = load_source(options, Path.cwd())
        return _look(table, name, target, options)


def _look(table: Table, name: str, target: str | None, options: Data) -> Look:
    target = target or table.target
    split = None if options.test_source else split_column_of(table, target)
    text = text_column_of(table, {target, split})
    types = {text: "text"} if text else {}
    # Columns that cannot be read must not end the look: the study has to name them, and there is none yet.
    broken = infer_types(table, {}, collect=True) if target in table.columns else None
    drop = {column: reason for column, reason in broken.mixed.items() if column != target} if broken else {}
    numbers = [column for column, kind in broken.kinds.items() if kind == "number"] if broken else []
    infinite = tuple(column for column in numbers if broken and np.isinf(broken.frame[column]).any())
    options = options.model_copy(
        update={
            "target": target, "drop": tuple(drop), "missing_target": "drop", "infinite": "clip",
            "split_column": split, "types": types,
        }
    )
    dataset = _development(table, options)
    told = [warning for warning in dataset.warnings if warning.code == "leak"]
    leaks = {str(warning.column): warning.message.removesuffix(LEAK_ADVICE) for warning in told}
    drop |= leaks
    notes = {w.code: w.message for w in dataset.warnings if w.column == target}
    metric, reason = _metric(dataset)
    return Look(
        source=name, target=dataset.target_name, task=dataset.task,
        task_reason=notes.get("task", "").partition(": ")[2], metric=metric, metric_reason=reason,
        rows=table.rows, columns=tuple(_column_notes(dataset, leaks)),
        drop=drop, left_out={c: reason for c, reason in dataset.dropped.items() if c not in drop},
        settings=table.settings or {}, gaps=table.rows - dataset.rows - dataset.test_rows,
        infinite=tuple(c for c in infinite if c not in drop),
        warnings=tuple(
            w for w in dataset.warnings if w.code not in (
                "leak", "task", "target_missing",
            ) and w.column not in dataset.dropped
        ),
        development=dataset.rows, test_source=options.test_source, split_column=split,
        kind=dataset.layout.kind, types=types,
        image_paths=options.image_paths,
    )


def _development(table: Table, options: Data) -> Dataset:
    """The dataset a study with these settings would train on; nothing is sealed, the test rows are let go."""
    rows = read_rows(table, options, None)
    seed = Study.model_fields["seed"].default
    metric = pick_metric(rows.target.task, rows.target.values, rows.target.classes)
    development, test, holdout = first_cuts(rows, options, seed)
    return build_dataset(rows, development, test, holdout, table, options, metric)


def _metric(dataset: Dataset) -> tuple[str, str]:
    """The metric to propose and why: prepare's, but for few rows one that sees more than right and wrong."""
    valid = round(0.2 * dataset.rows)
    if dataset.metric not in ("accuracy", "balanced_accuracy") or valid >= _FEW_VALID:
        return dataset.metric, dataset.metric_reason
    return "log_loss", f"{dataset.metric} on {valid} validation rows moves in steps; the probabilities do not"


def _column_notes(dataset: Dataset, leaks: Mapping[str, str]) -> Iterable[ColumnNote]:
    kinds = dataset.columns.kinds
    for name, values in dataset.frame.items():
        if name not in leaks:
            yield ColumnNote(str(name), kinds[str(name)], int(values.isna().sum()), int(values.nunique()))


def write_study(seen: Look) -> str:
    """A study file with the reasons as comments; `lanewise.study.load_study` reads it."""
    source = Path(seen.source).name if "/" in seen.source else seen.source
    lines = [
        f"# A study of {source}: {seen.rows:,} rows. Every guess below says why; change what is wrong.",
        "data:",
        f"  source: {_quoted(seen.source)}{_settings(seen.settings)}",
        *_test_rows(seen),
        *([f"  image_paths: {_quoted(seen.image_paths)}  # its files are the images"] if seen.image_paths else []),
        f"  target: {_quoted(seen.target)}",
        *(f"  types: {{{_quoted(name)}: {kind}}}" for name, kind in seen.types.items()),
        f"  task: {seen.task}{_comment(seen.task_reason)}",
    ]
    if seen.gaps:
        lines.append(f"  missing_target: drop  # {seen.gaps:,} of {seen.rows:,} rows have no target")
    if seen.infinite:
        names = _one_line(", ".join(seen.infinite))
        lines.append(f"  infinite: error  # infinite numbers in {names}: correct them, or write clip")
    if seen.drop:
        lines.append("  drop:")
        for column, reason in seen.drop.items():
            lines += [*_wrapped(reason, "    # "), f"    - {_quoted(column)}"]
    lines += _types(seen)
    for column, reason in seen.left_out.items():
        lines += _wrapped(f"{column}: {reason}", "  # ")
    for warning in seen.warnings:
        lines += _wrapped(
            f"{warning.code}{f' ({warning.column})' if warning.column else ''}: {warning.message}", "  # ",
        )
    if seen.kind != "table":
        what = {"image": "images", "series": "series", "text": "texts"}[seen.kind]
        lines += ["model:", f"  name: {NETWORKS[seen.kind]}  # the data are {what}"]
    lines += ["search:", f"  metric: {seen.metric}{_comment(seen.metric_reason)}", *_pace(_paced_rows(seen), seen.kind)]
    return "\n".join(lines) + "\n"


def _test_rows(seen: Look) -> list[str]:
    """Lines that say where the source itself has its test rows."""
    lines = []
    if seen.test_source:
        lines.append(f"  test_source: {_quoted(seen.test_source)}  # its rows are sealed as the test set")
    if seen.split_column:
        lines.append(f"  split_column: {_quoted(seen.split_column)}  # it says which rows train and which test")
    return lines


def _paced_rows(seen: Look) -> int:
    """Rows of a source of which a fifth is sealed; where the test rows are given, as many as would leave these."""
    given = seen.test_source or seen.split_column
    return round(seen.development / 0.8) if given else seen.rows


def _pace(rows: int, kind: str) -> list[str]:
    """Lines that keep a large table's study within minutes; none for a small one, whose defaults fit.

    About 60 to 120 steps an epoch: the power of two next to a sixty-fourth of the training rows (60 % of all).
    """
    batch = min(1024, 2 ** round(math.log2(max(0.6 * rows / 64, 64))))
    lines = []
    if kind == "series" and rows <= _FEW_SERIES:
        steps = max(1, round(0.6 * rows / _SMALL_BATCH))
        return [
            "space:", f"  batch_size: {_SMALL_BATCH}  # few series: smaller batches make more steps", "train:",
            f"  epochs: {min(200, max(50, round(_STEPS / steps)))}  # of {steps} steps", "  patience: 50",
        ]  # fmt: skip
    if kind in ("image", "text") and rows > 1_000:
        return [
            "  trials: 30", "evaluate:", "  repeats: 1  # large folds vary little", "  finalists: 2", "train:",
            "  epochs: 15  # each is many steps",
        ]  # fmt: skip
    if batch > 64:
        lines += ["space:", f"  batch_size: {batch}  # for about {0.6 * rows:,.0f} training rows"]
    if rows > 10_000:
        lines += ["evaluate:", "  repeats: 1  # large folds vary little", "  finalists: 2"]
    if rows > 20_000:
        lines += ["train:", "  epochs: 30  # each is many steps"]
    return lines


def _types(seen: Look) -> list[str]:
    """The types that were found, as a comment to take lines from."""
    lines = ["  # Types as found; to change one, write it under `types:`, as in `types: {column: category}`"]
    for kind in _KINDS:
        names = [
            c.name + (f" ({c.missing:,} empty)" if c.missing else "") for c in seen.columns if c.kind == kind
        ]
        if names:
            lines += _wrapped(f"{kind}: {', '.join(names)}", "  #   ")
    return lines


def _settings(settings: Mapping[str, str]) -> str:
    if settings.get("format") != "text":
        return ""
    encoding, separator, decimal = (settings[key] for key in ("encoding", "separator", "decimal"))
    return f"  # read as {encoding}, separator {separator!r}, decimal sign {decimal!r}"


def _comment(text: str) -> str:
    return f"  # {_one_line(text)}" if text else ""


def _wrapped(text: str, start: str) -> list[str]:
    """Comment lines of at most 110 characters, the following ones indented."""
    lines, line = [], start
    for word in _one_line(text).split(" "):
        if len(line) + len(word) > _WIDTH and line.strip("# "):
            lines.append(line.rstrip())
            line = start + "  "
        line += word + " "
    return [*lines, line.rstrip()]


def _one_line(text: str) -> str:
    """A text without line breaks and control characters: no cell of a table may end a comment."""
    return "".join(c if c.isprintable() else " " for c in text)


def _quoted(text: str) -> str:
    """A YAML scalar that is this text and nothing else; JSON's quotes are YAML's."""
    return text if _PLAIN.fullmatch(text) and text.lower() not in _WORDS else json.dumps(
        text, ensure_ascii=False,
    )
