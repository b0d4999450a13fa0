"""Says what is suspicious in the development rows: leaks, twins, duplicates, columns that say nothing.

Comes after the split, so the sealed rows are not asked, except for one count: how many of them also stand
among the development rows. Checks warn; they drop only columns no network could use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lanewise.data.table import TARGET, DataWarning

LEAK_CLASSES = 0.98  # share of a majority vote's errors that one column alone takes away
LEAK_NUMBERS = 0.999  # share of the target's variance that one column alone explains
LEAK_ADVICE = "; if it is known only after the target, put it under `drop`"
_TWIN = 0.9999  # correlation of ranks from which two numbers count as the same
FEW = 20  # rows that are too few to judge by, and different values that are few
_SAMPLE = 20_000  # rows that are enough to see a leak
_ID_NAME = re.compile(r"(?i)(^|[_\s.])(id|uuid|guid|index|idx|rownum|row_?number|key|no|nr)$|^unnamed")


def useless_columns(
    frame: pd.DataFrame, kinds: Mapping[str, str], declared: Sequence[str],
) -> dict[str, DataWarning]:
    """Columns to leave out, with the reason: constant, all missing, ids, free text, row numbers.

    Args:
        frame: development rows.
        kinds: column -> number, category or date.
        declared: columns whose type the user wrote: they stay unless they never change.
    """
    found = {}
    for name in frame.columns:
        values = frame[name]
        note = _says_nothing(values) or (None if name in declared else _names_rows(values, kinds[name]))
        if note is not None:
            found[name] = DataWarning(note[0], f"left out: {note[1]}", name)
    return found


def _says_nothing(values: pd.Series) -> tuple[str, str] | None:
    gaps = int(values.isna().sum())
    if gaps == len(values):
        return "all_missing", "no value in any development row"
    if gaps:
        return None
    first = values.iloc[0]
    if (values == first).all():
        return "constant", f"the same value ({str(first)[:40]}) in every development row"
    return None


def _names_rows(values: pd.Series, kind: str) -> tuple[str, str] | None:
    """Ids, free text and row numbers: (nearly) every row has its own value, so there is nothing to learn."""
    present = values.dropna()
    if len(present) < 20:
        return None
    if kind in ("text", "series", "image"):
        return None
    if kind == "category":
        different = present.nunique()
        if different > 0.5 * len(present):
            counts = f"{different:,} different texts in {len(present):,} rows"
            return "id_like", f"{counts}, like an id or free text; `types` keeps it"
    if kind == "number" and _ID_NAME.search(str(values.name)) and _all_differ(values):
        return "id_like", "every row has its own whole number, like an id; `types` keeps it"
    return None


def _all_differ(values: pd.Series) -> bool:
    """Whether every row has a whole number of its own."""
    return bool((values == np.floor(values)).all() and values.is_unique)


def row_counters(frame: pd.DataFrame, kinds: Mapping[str, str]) -> list[DataWarning]:
    """Numbers that count the rows in the order of the file: a feature, unless they are row numbers."""
    found = []
    for name in (column for column in frame.columns if kinds[column] == "number"):
        numbers = frame[name].to_numpy()
        # Development rows are a sample: their row numbers rise by 1 on the whole, with gaps.
        rises = len(numbers) >= 20 and bool((numbers[1:] > numbers[:-1]).all()) and _all_differ(frame[name])
        if rises and numbers[-1] - numbers[0] < 2 * len(numbers):
            message = "counts the rows in the order of the file; if it is a row number, put it under `drop`"
            found.append(DataWarning("row_counter", message, name))
    return found


def suspicions(
    frame: pd.DataFrame, kinds: Mapping[str, str], target: npt.NDArray[Any], task: str
) -> list[DataWarning]:
    """Leaks, twins and row counters among the used columns of the development rows."""
    return [*leaks(frame, kinds, target, task), *twins(frame, kinds), *row_counters(frame, kinds)]


def leaks(
    frame: pd.DataFrame, kinds: Mapping[str, str], target: npt.NDArray[Any], task: str,
) -> list[DataWarning]:
    """Columns that alone tell the target, judged on rows the guess was not made from.

    Each row's target is guessed from the other rows with the same value; a number without a twin is guessed
    from its two neighbours in order. So an id, which no other row shares, tells nothing, and a column of many
    categories is not blamed for having many. Copies of a row count once.

    Args:
        frame: development rows, used columns.
        kinds: column -> kind.
        target: class codes or values [N].
        task: binary, multiclass or regression.
    """
    everything = np.arange(len(frame))
    once = np.flatnonzero(~frame.assign(**{TARGET: target}).duplicated().to_numpy())
    judge = _class_skill if task != "regression" else _number_skill
    limit = LEAK_CLASSES if task != "regression" else LEAK_NUMBERS
    found = []
    for name in frame.columns:
        # With few values, rows are equal by chance; with many, because they are copies, which prove nothing.
        few = frame[name].nunique() <= min(FEW, len(frame) // FEW)
        rows = _sample(everything if few else once)
        if len(rows) < FEW:
            continue
        y, values = target[rows], frame[name].iloc[rows]
        codes, ordered = _codes(values, kinds[name])
        skill = judge(codes, y, ordered)
        if skill < limit:
            continue
        if task != "regression" and _one_to_one(codes, y):
            how = "the target under another name: its values and the classes belong together one to one"
        elif task == "regression" and kinds[name] == "number" and np.array_equal(values.to_numpy(), y):
            how = "equal to the target"
        elif task != "regression":
            how = f"alone it tells the class of {1 - (1 - skill) * _majority_error(y):.1%} of the rows"
        else:
            how = "alone it tells the target"
        found.append(DataWarning("leak", how + LEAK_ADVICE, name))
    return found


def _sample(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Enough of the rows to judge by, always the same ones."""
    if len(rows) <= _SAMPLE:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, _SAMPLE, replace=False))


def _codes(values: pd.Series, kind: str) -> tuple[npt.NDArray[np.int64], bool]:
    """Values as codes, in order where they have one; missing is a value of its own."""
    ordered = kind != "category"
    codes, unique = pd.factorize(values, sort=ordered)
    codes = codes.astype(np.int64)
    codes[codes < 0] = len(unique)
    return codes, ordered


def _class_skill(codes: npt.NDArray[np.int64], y: npt.NDArray[Any], ordered: bool) -> float:
    """1 - errors / errors of a majority vote, each row guessed without itself."""
    classes = int(y.max()) + 1
    groups = int(codes.max()) + 1
    counts = np.bincount(codes * classes + y, minlength=groups * classes).reshape(groups, classes)
    right = _votes(counts, codes, y)
    alone = counts.sum(1)[codes] == 1
    if ordered and alone.any():
        # A step between two classes may fall beside any row: one agreeing neighbour is enough.
        used = np.flatnonzero(counts.sum(1))
        rank = np.searchsorted(used, codes[alone])
        majority = counts[used].argmax(1)
        below, above = majority[np.maximum(rank - 1, 0)], majority[np.minimum(rank + 1, len(used) - 1)]
        mine = y[alone]
        right[alone] = ((rank > 0) & (below == mine)) | ((rank < len(used) - 1) & (above == mine))
    error = _majority_error(y)
    return float(1 - (1 - right.mean()) / error) if error else 0.0


def _votes(
    counts: npt.NDArray[Any], codes: npt.NDArray[np.int64], y: npt.NDArray[Any],
) -> npt.NDArray[np.bool_]:
    """Whether the other rows of each row's group vote for its class; a row alone gets the commonest class."""
    others = counts[codes]
    others[np.arange(len(y)), y] -= 1
    alone = others.sum(1) == 0
    guess = others.argmax(1)
    guess[alone] = np.bincount(y).argmax()
    return np.asarray(guess == y)


def _number_skill(codes: npt.NDArray[np.int64], y: npt.NDArray[Any], ordered: bool) -> float:
    """Explained share of the variance, each row guessed without itself; 1 where both rise together."""
    if ordered and abs(np.corrcoef(codes, pd.factorize(y, sort=True)[0])[0, 1]) > _TWIN:
        return 1.0
    y = y / np.abs(y).max()  # squares of huge values would overflow
    y = y - y.mean()
    size = np.bincount(codes)
    total = np.bincount(codes, weights=y)
    others = size[codes] - 1
    guess = np.where(others > 0, (total[codes] - y) / np.maximum(others, 1), 0.0)
    alone = others == 0
    if ordered and alone.any():
        used = np.flatnonzero(size)
        rank = np.searchsorted(used, codes[alone])
        mean = total[used] / size[used]
        below, above = np.maximum(rank - 1, 0), np.minimum(rank + 1, len(used) - 1)
        guess[alone] = np.where(
            rank == 0, mean[above],
            np.where(rank == len(used) - 1, mean[below], (mean[below] + mean[above]) / 2),
        )
    spread = float((y**2).sum())
    return 1 - float(((y - guess) ** 2).sum()) / spread if spread else 0.0


def _one_to_one(codes: npt.NDArray[np.int64], y: npt.NDArray[Any]) -> bool:
    pairs = len(np.unique(codes * (int(y.max()) + 1) + y))
    return pairs == len(np.unique(codes)) == len(np.unique(y))


def _majority_error(y: npt.NDArray[Any]) -> float:
    return 1 - float(np.bincount(y).max()) / len(y)


def twins(frame: pd.DataFrame, kinds: Mapping[str, str]) -> list[DataWarning]:
    """Columns that say the same as an earlier one: equal up to names, or numbers that rise together."""
    found: list[DataWarning] = []
    seen: dict[bytes, str] = {}
    for name in frame.columns:
        codes, unique = pd.factorize(frame[name])
        # Where (nearly) every row has its own value, any two columns are one-to-one: that says nothing.
        if len(unique) > len(frame) // 2:
            continue
        first = seen.setdefault(codes.tobytes(), name)
        if first != name:
            found.append(
                DataWarning(
                    "twin", f"says the same as `{first}`: their values belong together one to one", name,
                )
            )
    told = {note.column for note in found}
    numbers = [n for n in frame.columns if kinds[n] == "number" and n not in told and frame[n].nunique() > 1]
    if 2 <= len(numbers) <= 500:
        # Ranks, so that one far value cannot make two columns look alike.
        ranks = frame[numbers].rank().to_numpy()
        filled = np.where(np.isnan(ranks), np.nanmean(ranks, axis=0), ranks)
        same = np.abs(np.corrcoef(filled, rowvar=False)) > _TWIN
        for late, early in np.argwhere(np.tril(same, -1)):
            if numbers[late] not in told:
                told.add(numbers[late])
                message = f"puts the rows in the order of `{numbers[early]}`, like the same in another scale"
                found.append(DataWarning("twin", message, numbers[late]))
    return found


def row_hashes(frame: pd.DataFrame, target: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """One hash per row over all its used cells and its target: equal rows, equal hashes."""
    hashes = pd.util.hash_pandas_object(frame.assign(**{TARGET: target}), index=False)
    return np.asarray(hashes, np.uint64)


def duplicates(
    hashes: npt.NDArray[np.uint64], test: npt.NDArray[np.int64], grouped: bool,
) -> list[DataWarning]:
    """Rows that occur more than once, and sealed rows that also train."""
    first = np.zeros(len(hashes), bool)
    first[np.unique(hashes, return_index=True)[1]] = True
    again = int((~first).sum())
    if not again:
        return []
    in_test = np.zeros(len(hashes), bool)
    in_test[test] = True
    shared = int(np.isin(hashes[in_test], hashes[~in_test]).sum())
    notes = [DataWarning("duplicates", f"{again:,} of {len(hashes):,} rows repeat an earlier row")]
    if shared:
        offer = "" if grouped else "; if equal rows come from one source, name its column as `group`"
        notes.append(DataWarning(
            "duplicates_across",
            f"{shared:,} of {len(test):,} test rows also stand among the development rows, "
            f"which flatters every score{offer}",
        ))
    return notes
