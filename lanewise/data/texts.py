"""Texts as token codes: int64 [N, L], with a vocabulary of the training rows; after `inference`.

Tokens are words (runs of letters and digits, and every other sign alone, in lower case) or characters. Code 0 is the
place behind the end of a text, code 1 a token without a code of its own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lanewise.data.columns import Columns, Layout
from lanewise.data.preprocessing import F32, I64
from lanewise.data.table import DataWarning
from lanewise.errors import DataError
from lanewise.study import Data

RESERVED = 2  # codes: padding and unknown
KEPT_WHOLE = 0.99  # share of the development texts that the automatic length does not cut
LONGEST = {"words": 256, "characters": 1024}  # of the automatic length
_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, eq=False)
class TextPreprocessor:
    """The vocabulary of one set of training rows.

    Attributes:
        columns: the column of the texts, the length and the number of codes; `how["level"]` says what a token is.
        vocabulary: token with code 2, 3, 4 ...
    """

    columns: Columns
    vocabulary: tuple[str, ...]

    @property
    def layout(self) -> Layout:
        """The shape of what `transform` returns."""
        return self.columns.layout

    def transform(self, frame: pd.DataFrame) -> tuple[F32, I64]:
        """Arrays for a network.

        Args:
            frame: [N] rows with at least the column of the texts; a missing text has no token.

        Returns:
            x_num float32 [N, 0]; x_cat int64 [N, L].

        Raises:
            DataError: The column is missing.
        """
        (length,) = self.columns.shape
        code_of = {token: code for code, token in enumerate(self.vocabulary, RESERVED)}
        x = np.zeros((len(frame), length), np.int64)
        for row, tokens in enumerate(tokenised(frame, self.columns)):
            codes = [code_of.get(token, 1) for token in tokens[:length]]
            x[row, : len(codes)] = codes
        return np.zeros((len(frame), 0), np.float32), x

    def unseen(self, frame: pd.DataFrame) -> dict[str, int]:
        """What new rows have that the training rows had not -> number of rows."""
        (length,), known = self.columns.shape, set(self.vocabulary)
        read = tokenised(frame, self.columns)
        counts = {
            "texts without a token": sum(not tokens for tokens in read),
            f"texts longer than {length} tokens, cut": sum(len(tokens) > length for tokens in read),
            "texts with tokens without a code": sum(not known.issuperset(tokens) for tokens in read),
        }
        return {what: count for what, count in counts.items() if count}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"columns": self.columns.to_json(), "vocabulary": list(self.vocabulary)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TextPreprocessor:
        """What `to_json` wrote; it transforms to the same codes."""
        return cls(Columns.from_json(data["columns"]), tuple(data["vocabulary"]))


def plan_texts(frame: pd.DataFrame, options: Data) -> tuple[Columns, list[DataWarning]]:
    """Length and number of codes, from the development rows; the vocabulary itself is fitted per split.

    Args:
        frame: development rows, the column of the texts.
        options: its `text_*` fields.

    Raises:
        DataError: No text has a token.
    """
    how = {"level": options.text_level, "min_count": options.text_min_count}
    columns = Columns((), {}, (), (), (), {}, "text", (str(frame.columns[0]),), (1,), 0, how)
    read = tokenised(frame, columns)
    lengths = np.array([len(tokens) for tokens in read])
    if not lengths.any():
        raise DataError(f"column `{columns.inputs[0]}` has no text", rule="texts with at least one token")
    most = LONGEST[options.text_level]
    length = options.text_length or min(most, max(1, int(np.quantile(lengths, KEPT_WHOLE, method="higher"))))
    kept = _vocabulary(read, options.text_min_count, options.text_vocabulary)
    notes = []
    if cut := int((lengths > length).sum()):
        said = f"{cut:,} of {len(read):,} texts have more than {length} tokens and are cut; `text_length` changes it"
        notes.append(DataWarning("long_texts", said, columns.inputs[0]))
    if empty := int((lengths == 0).sum()):
        notes.append(DataWarning("empty_texts", f"{empty:,} texts have no token", columns.inputs[0]))
    planned = Columns(
        (), {}, (), (), (), {}, "text", columns.inputs, (length,), len(kept) + RESERVED, how,
    )
    return planned, notes


def fit_texts(frame: pd.DataFrame, columns: Columns) -> TextPreprocessor:
    """Fit on a frame that holds the training rows and no others: the most frequent tokens get a code."""
    most = columns.tokens - RESERVED
    return TextPreprocessor(columns, _vocabulary(tokenised(frame, columns), columns.how["min_count"], most))


def tokenised(frame: pd.DataFrame, columns: Columns) -> list[list[str]]:
    """Every row's tokens.

    Raises:
        DataError: The column is missing.
    """
    (name,) = columns.inputs
    if name not in frame.columns:
        raise DataError(
            "the column of the texts is missing", given=f"no {name}", rule="the column the model was fitted on",
            remedy="add it, or rename the column that holds the texts",
        )
    texts = [text if isinstance(text, str) else "" for text in frame[name].tolist()]
    if columns.how["level"] == "characters":
        return [list(text) for text in texts]
    return [_WORD.findall(text.lower()) for text in texts]


def _vocabulary(texts: Sequence[Sequence[str]], min_count: int, most: int) -> tuple[str, ...]:
    """Tokens that earn a code, most frequent first, then by name."""
    counts = Counter(token for tokens in texts for token in tokens)
    ranked = sorted((-count, token) for token, count in counts.items() if count >= min_count)
    return tuple(token for _, token in ranked[:most])
