"""The kinds of fields a study is made of and how they refuse wrong values; before the study, reads no file.

pydantic checks; these types decide what is accepted: numbers also as text that is a number (quoted, or
from the environment), but never true or false; no NaN and no infinity anywhere; no unknown keys.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainValidator,
    Strict,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from lanewise import strict_yaml
from lanewise.names import NAME_PATTERN, NAME_RULE, is_name

Value = str | int | float | bool

EXACT = 2**53  # whole numbers up to here survive a trip through a float and through JSON


def wrong(what: str, rule: str, remedy: str, at: str | None = None) -> PydanticCustomError:
    """An error of the study with its rule and its remedy; `at` is the key of the section it stands at."""
    return PydanticCustomError("study", "{what}", {"what": what, "rule": rule, "remedy": remedy, "at": at})


def shown(value: object) -> str:
    """A value as a study file spells it: true, not True."""
    return json.dumps(value, ensure_ascii=False, default=str)


def word(value: object) -> str:
    """A value inside a sentence: texts without quotes."""
    return value if isinstance(value, str) else shown(value)


def number(value: Any) -> Any:
    """Accept numbers and strings that are numbers (quoted, or from the environment), never true and false."""
    if isinstance(value, str):
        try:
            read = strict_yaml.scalar(value.strip())
        except ValueError:
            read = value
        value = read if isinstance(read, int | float) and not isinstance(read, bool) else value
    remedy = "write a number such as 20, 0.5 or 1e-3"
    if isinstance(value, bool) or not isinstance(value, int | float):
        kinds = {bool: "true or false", str: "text", list: "a list", dict: "a mapping"}
        raise wrong(f"{kinds.get(type(value), 'nothing')} where a number belongs", "must be a number", remedy)
    if isinstance(value, float) and not math.isfinite(value):
        raise wrong("not a finite number", "must be finite", remedy)
    if isinstance(value, int) and abs(value) > EXACT:
        raise wrong("the number is too large", "at most 2**53", remedy)
    return value


def _scalar(value: Any) -> Value:
    """One value of a hyperparameter: a string, a finite number, true or false."""
    if isinstance(value, str | bool):
        return value
    if isinstance(value, int | float):
        return number(value)  # type: ignore[no-any-return]  # a number stays a number
    kinds = {dict: "a mapping", list: "a list", tuple: "a list", type(None): "an empty value"}
    kind = kinds.get(type(value), "something else")
    raise wrong(
        f"{kind} where a single value belongs", "a value is a string, a number, true or false",
        "give lists and mappings a name: let the network take a string and look it up",
    )  # fmt: skip


def _name(value: str) -> str:
    if not is_name(value):
        raise wrong(
            "this name cannot be used", NAME_RULE, "choose letters, digits, dots, dashes and underscores"
        )
    return value


def plain(value: JsonValue) -> JsonValue:
    """A constant of the network: JSON without NaN and infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        raise wrong("not a finite number", "must be finite", "write a finite number")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        plain(item)
    return value


def _tuples(value: Any) -> Any:
    """`when: {optimizer: sgd}` means `when: {optimizer: [sgd]}`."""
    if not isinstance(value, Mapping):
        return value
    return {key: item if isinstance(item, list | tuple) else [item] for key, item in value.items()}


Int = Annotated[int, BeforeValidator(number)]
Real = Annotated[float, BeforeValidator(number)]
Number = Annotated[int | float, PlainValidator(number), WithJsonSchema({"type": "number"})]
Flag = Annotated[bool, Strict()]
Text = Annotated[str, Field(min_length=1, max_length=1000)]
Name = Annotated[str, AfterValidator(_name), Field(json_schema_extra={"pattern": NAME_PATTERN})]
Scalar = Annotated[Value, PlainValidator(_scalar), WithJsonSchema({"type": ["string", "number", "boolean"]})]
Condition = Annotated[
    dict[str, tuple[Scalar, ...]],
    BeforeValidator(_tuples),
    WithJsonSchema({
        "type": "object",
        "additionalProperties": {"type": ["string", "number", "boolean", "array"]},
    }),
]  # fmt: skip


class Section(BaseModel):
    """A part of the study: frozen, no unknown keys, no NaN or infinity."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, validate_by_name=True, validate_by_alias=True,
        hide_input_in_errors=True,
    )  # fmt: skip
