"""The study's section `data`: where the rows come from and how they are read; a part of the study, which re-exports it.

It reads no rows: data/ does.
"""

from __future__ import annotations

import codecs
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from lanewise.fields import Int, Real, Section, Text, number, wrong

MOST_SIDE = 4096  # pixels of an image as the network sees it


def _image_size(value: Any) -> Any:
    """`28` means `[28, 28]`."""
    sides = value if isinstance(value, list | tuple) else [value, value]
    if value is None:
        return None
    sides = [number(side) for side in sides]
    if len(sides) != 2 or not all(isinstance(side, int) and 1 <= side <= MOST_SIDE for side in sides):
        raise wrong(
            "this is no size of images", f"[height, width] from 1 to {MOST_SIDE}, or one number for both",
            "write `image_size: [28, 28]`",
        )
    return tuple(sides)


ImageSize = Annotated[
    tuple[int, int] | None,
    BeforeValidator(_image_size),
    WithJsonSchema({
        "anyOf": [
            {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
            {"type": "integer", "minimum": 1, "maximum": MOST_SIDE}, {"type": "null"},
        ]
    }),
]  # fmt: skip


class Data(Section):
    """Where the rows come from and how they are read, checked and split."""

    source: Text = Field(
        description="A file or a folder of images, relative to the study file; or `sklearn:digits`; or "
        "`pkg.module:function`.",
        examples=["penguins.csv", "sklearn:digits", "mypackage.tables:load"],
    )
    target: Text | None = Field(
        default=None, description="Column to predict. Needed for every source but `sklearn:...`."
    )
    task: Literal["auto", "binary", "multiclass", "regression"] = Field(
        default="auto", description="Kind of target; auto decides by the target's type and number of values."
    )
    drop: tuple[Text, ...] = Field(default=(), description="Columns that are not used.")
    types: dict[str, Literal["number", "category", "date", "text", "series", "image"]] = Field(
        default={},
        description="Column -> type, where the detected type is wrong: number, category or date; text: free text, the "
        "whole input; series: cells that list numbers, a channel each; image: cells that hold an image file in base64.",
    )
    separator: str = Field(
        default="auto", description="Character between columns of a text file; auto detects it."
    )
    encoding: str = Field(
        default="auto", description="Text encoding of the file, such as utf-8 or cp1252; auto detects it."
    )
    decimal: Literal["auto", ".", ","] = Field(default="auto", description="Decimal sign of a text file.")
    missing_target: Literal["error", "drop"] = Field(
        default="error",
        description="Rows without a target: refuse the data, or drop the rows and count them.",
    )
    infinite: Literal["error", "clip"] = Field(
        default="error",
        description="Infinite numbers: refuse the data, or clip to the largest finite training value.",
    )
    group: Text | None = Field(
        default=None, description="Column whose equal values stay on one side of every split."
    )
    time: Text | None = Field(
        default=None, description="Column that orders the rows; training rows come before the others."
    )
    split: Literal["auto", "stratified", "random", "group", "time"] = Field(
        default="auto",
        description="How rows are split; auto: by time or group if given, else stratified or random.",
    )
    test: Real = Field(
        default=0.2, gt=0, lt=1, description="Share of all rows that is sealed as the test set."
    )
    test_source: Text | None = Field(
        default=None,
        description="A second source whose rows are the sealed test rows, in place of a share of the first.",
        examples=["questions_test.csv"],
    )
    split_column: Text | None = Field(
        default=None,
        description="Column that says where a row goes: train, valid or test; what it leaves open is drawn.",
    )
    valid: Real = Field(
        default=0.25, gt=0, lt=1, description="Share of the remaining rows that validates the trials."
    )
    numbers: Literal["standard", "quantile"] = Field(
        default="standard",
        description="Scaling of numbers: zero mean and unit variance, or quantiles of a normal distribution.",
    )
    text_level: Literal["words", "characters"] = Field(
        default="words", description="What a token of a text is; words are in lower case."
    )
    text_length: Int | None = Field(
        default=None, ge=1, le=100_000,
        description="Tokens of a text that are read; empty: as many as 99 % of the texts have, at most 256 words "
        "or 1024 characters.",
    )
    text_vocabulary: Int = Field(
        default=20_000, ge=1, le=1_000_000, description="Largest number of tokens with a code of their own."
    )
    text_min_count: Int = Field(
        default=2, ge=1, description="How often a token must occur in the training rows to have its own code."
    )
    image_paths: Text | None = Field(
        default=None,
        description="Column of a table that holds paths to image files, relative to the table's folder and inside it.",
    )
    image_size: ImageSize = Field(
        default=None,
        description="[height, width] that every image gets, or one number for both; empty: their own where all are "
        "equal, else their median with at most 64 on the longer side.",
        examples=[[28, 28], 64],
    )
    image_mode: Literal["auto", "grey", "rgb"] = Field(
        default="auto", description="Channels of images; auto: grey where all are grey."
    )
    image_resize: Literal["stretch", "crop", "pad"] = Field(
        default="stretch",
        description="How another size is reached: stretched to it, its middle cut out, or with black borders.",
    )
    max_broken: Real = Field(
        default=0.0, ge=0, lt=1, description="Share of the images that may be broken; they are left out and listed."
    )
    max_bytes: Int = Field(default=2 * 2**30, ge=1, description="Largest source that is read, in bytes.")
    max_rows: Int | None = Field(
        default=None, ge=10, description="Largest number of rows that is accepted; empty: no limit."
    )

    @field_validator("separator")
    @classmethod
    def _one_character(cls, value: str) -> str:
        if value != "auto" and len(value) != 1:
            raise wrong(
                "the separator is not one character", "one character, or auto", r'write "," or ";" or "\t"'
            )
        return value

    @field_validator("encoding")
    @classmethod
    def _text_encoding(cls, value: str) -> str:
        try:
            if value != "auto":
                codecs.lookup(value)
                "a".encode(value)  # refuses codecs that do not make text, such as base64
        except (LookupError, ValueError):
            raise wrong(
                "unknown encoding", "a text encoding Python knows, or auto", "write utf-8 or cp1252"
            ) from None
        return value

    @model_validator(mode="after")
    def _fits(self) -> Data:
        used = {
            "target": self.target, "group": self.group, "time": self.time, "split_column": self.split_column,
        }
        if self.test_source is not None and self.split_column is not None:
            raise wrong(
                "`test_source` and `split_column` together", "one of them says which rows are sealed",
                "remove one", "split_column",
            )
        if self.target is None and not self.source.startswith("sklearn:"):
            raise wrong(
                "`target` is missing", "every source but `sklearn:...` needs it", "add `target: <column>`"
            )
        for key, column in used.items():
            if column is not None and column in self.drop:
                raise wrong(
                    f"`drop` names the {key} column",
                    f"the {key} column is needed",
                    "take it out of `drop`",
                    "drop",
                )
            if key != "target" and column is not None and column == self.target:
                raise wrong(
                    f"`{key}` is the target",
                    f"{key} and target are different columns",
                    "name another column",
                    key,
                )
        for kind in ("group", "time"):
            if self.split == kind and used[kind] is None:
                raise wrong(
                    f"`split: {kind}` without `{kind}`",
                    f"it needs the {kind} column",
                    f"add `{kind}: <column>`",
                    "split",
                )
        if self.separator == self.decimal != "auto":
            raise wrong(
                "separator and decimal are the same", "they differ", "correct one of the two", "decimal"
            )
        return self
