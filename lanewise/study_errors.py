"""Turn what is wrong with a study into one plain message; used by the study only, after the YAML is read.

Also applies the command line's overrides, whose place in a message is the option instead of a line.
It knows the schema only through what the study hands in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NoReturn, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lanewise import strict_yaml
from lanewise.errors import StudyError
from lanewise.fields import shown
from lanewise.names import nearest, secret_kind
from lanewise.strict_yaml import Keys

FIX = "fix"  # no section of a study
SHOWN = 5  # mistakes listed in one message


def apply_overrides(
    data: Mapping[str, Any], places: Mapping[Keys, str], overrides: Mapping[str, str]
) -> tuple[dict[str, Any], dict[Keys, str]]:
    """Return the document and its places with each `a.b.c` -> text put in.

    A text is a strict YAML scalar, or, if it starts with a bracket or a quote, any YAML on one line. The key
    `fix.NAME`, which is how `--fix NAME=VALUE` comes here, fixes a hyperparameter: it is `space.NAME`, one value.

    Raises:
        StudyError: A key is empty or leads through a value that is not a mapping, or a text is not YAML.
    """
    result, where = _copy(data), dict(places)
    for dotted, text in overrides.items():
        option, keys = f"--set {dotted}={text}", tuple(dotted.split("."))
        if fixed := keys[0] == FIX and len(keys) > 1:
            keys = ("space", dotted.partition(".")[2])
            option = f"--fix {keys[1]}={text}"
        if not all(keys):
            raise StudyError(
                "this is not a key",
                where=option,
                rule="keys joined by dots",
                remedy="write --set search.trials=10",
            )
        if kind := secret_kind(text, keys[-1]):
            _refuse_secret(f"{option.partition('=')[0]}=...", kind)
        value = _override_value(text, option)
        if fixed and (isinstance(value, Mapping | list) or value is None):
            raise StudyError(
                "this does not fix a hyperparameter", where=option, given=shown(value), rule="one value",
                remedy=f"write --fix {keys[1]}=VALUE, or --set {'.'.join(keys)}={text} for a list or a range",
            )  # fmt: skip
        section = result
        for depth, key in enumerate(keys[:-1], 1):
            if section.get(key) is None:
                section[key] = {}
                where[keys[:depth]] = option
            section = section[key]
            if not isinstance(section, dict):
                raise StudyError(
                    f"`{'.'.join(keys[:depth])}` is not a mapping", where=option, given=shown(section),
                    remedy=f"replace it as a whole: --set {'.'.join(keys[:depth])}=...",
                )  # fmt: skip
        section[keys[-1]] = value
        where = {path: place for path, place in where.items() if path[: len(keys)] != keys}
        where[keys] = option
    return result, where


def _override_value(text: str, option: str) -> Any:
    strict_yaml.check_text(option, repr(option)[1:-1])
    if text.lstrip()[:1] in tuple("[{\"'"):
        return strict_yaml.parse(f"value: {text}", option).data["value"]
    try:
        return strict_yaml.scalar(text)
    except ValueError as error:
        raise StudyError(str(error), where=option, remedy="write a smaller number") from None


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def refuse_secrets(value: Any, places: Mapping[Keys, str], path: Keys = ()) -> None:
    """Refuse strings that look like passwords or keys, since a study is logged where others read it.

    Raises:
        StudyError: With the place, and without the string.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            refuse_secrets(item, places, (*path, key))
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            refuse_secrets(item, places, (*path, position))
    for text in (value, path[-1] if path else None):
        key = path[-1] if path and isinstance(path[-1], str) and text is value else None
        if isinstance(text, str) and (kind := secret_kind(text, key)):
            _refuse_secret(_place(path, places), kind)


def _refuse_secret(where: str | None, kind: str) -> NoReturn:
    raise StudyError(
        "this looks like a secret", where=where, given=f"{kind} (not shown)",
        rule="a study is logged and shown to others",
        remedy="give secrets to your own code and to MLflow through the environment, never through the study",
    )  # fmt: skip


def translate(
    error: ValidationError, schema: type[BaseModel], raw: Mapping[str, Any], places: Mapping[Keys, str]
) -> StudyError:
    """Turn pydantic's errors into one StudyError: the first in file order in full, the next few a line each.

    Args:
        error: What pydantic found.
        schema: The model it checked, to know which keys are legal.
        raw: The document before environment variables were put in, so that their values are never shown.
        places: Where each key stands.
    """
    order = {path: rank for rank, path in enumerate(places)}
    found = []
    for detail in error.errors(include_url=False):
        path, reason = _explain(detail, schema, raw, places)
        # What is missing may only be misspelt, so it comes last.
        found.append((detail["type"] == "missing", order.get(path, len(order)), reason))
    found.sort(key=lambda entry: entry[:2])
    first, *others = (reason for _, _, reason in found)
    also = [f"{other.where}: {other.what}" for other in others[: SHOWN - 1]]
    if len(found) > SHOWN:
        also.append(f"and {len(found) - SHOWN} more")
    remedy = "\n  also:  ".join([first.remedy or "correct it", *also])
    return StudyError(first.what, where=first.where, given=first.given, rule=first.rule, remedy=remedy)


def _explain(
    detail: ErrorDetails, schema: type[BaseModel], raw: Mapping[str, Any], places: Mapping[Keys, str]
) -> tuple[Keys, StudyError]:
    """One error of pydantic -> (path of keys it stands at, StudyError)."""
    loc, kind, context = tuple(detail["loc"]), detail["type"], detail.get("ctx", {})
    name, given = _dotted(loc), _given(raw, loc)
    if kind in ("extra_forbidden", "missing"):
        error = _wrong_key(str(loc[-1]), loc[:-1], _known(schema, loc[:-1]), missing=kind == "missing")
    elif kind == "study":
        at = (*loc, str(context["at"]))
        if context["at"] and at in places:
            loc, given = at, _given(raw, at)
        what = f"`{name}`: {context['what']}" if name else str(context["what"])
        error = StudyError(what, given=given, rule=context["rule"], remedy=context["remedy"])
    elif kind in ("literal_error", "name"):
        legal = context.get("known") or re.findall(r"'([^']*)'", str(context["expected"]))
        near = nearest(str(detail["input"]), legal)
        what = f"`{name}` has a value that is not known" + (f", did you mean `{near}`?" if near else "")
        remedy = f"write `{near}`" if near else "choose one of them"
        error = StudyError(what, given=given, rule="one of " + ", ".join(legal), remedy=remedy)
    else:
        rule, remedy = _words(detail)
        error = StudyError(f"`{name}` is not legal", given=given, rule=rule, remedy=remedy)
    while loc and loc not in places:
        loc = loc[:-1]
    return loc, StudyError(
        error.what, where=places.get(loc), given=error.given, rule=error.rule, remedy=error.remedy
    )


def _wrong_key(key: str, section: Keys, known: Mapping[str, str], *, missing: bool) -> StudyError:
    """A key that is not legal, or one that is not there."""
    inside = f" in `{_dotted(section)}`" if section else ""
    if missing:
        return StudyError(f"`{key}` is missing{inside}", rule=known.get(key), remedy=f"add `{key}: ...`")
    near = nearest(key, known)
    return StudyError(
        f"unknown key `{_short(key)}`{inside}" + (f", did you mean `{near}`?" if near else ""),
        rule="legal keys: " + ", ".join(known),
        remedy=f"write `{near}`" if near else "remove it, or choose a legal key",
    )


def _words(detail: ErrorDetails) -> tuple[str, str]:
    """Rule and remedy for pydantic's own checks, in a user's words instead of Python's."""
    kind, value = detail["type"], detail["input"]
    if kind == "string_type":
        quoted = isinstance(value, int | float) and not isinstance(value, bool)
        return "must be a text", f'put quotes around it: "{value}"' if quoted else "write a text, in quotes"
    if kind in ("bool_type", "bool_parsing"):
        return "must be true or false", "write true or false (in YAML 1.2 yes, no, on and off are text)"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return "must be a mapping of keys", "write its keys indented below it"
    if kind in ("tuple_type", "list_type"):
        return "must be a list", "write a list: [one, two]"
    rule = detail["msg"].replace(
        "Input should be a valid integer, got a number with", "must be whole, without"
    )
    return rule.replace("Input should be", "must be").replace("String should", "must"), "change the value"


def _known(schema: type[BaseModel], keys: Keys) -> dict[str, str]:
    """Legal keys below `keys` -> their description."""
    item: Any = schema
    for key in keys:
        if isinstance(item, type) and issubclass(item, BaseModel):
            fields = {field.alias or name: field.annotation for name, field in item.model_fields.items()}
            item = fields.get(str(key))
        else:  # dict[str, Parameter]: one key further down is a Parameter
            item = get_args(item)[1] if len(get_args(item)) == 2 else None
    if not (isinstance(item, type) and issubclass(item, BaseModel)):
        return {}
    return {field.alias or name: field.description or "" for name, field in item.model_fields.items()}


def _place(path: Keys, places: Mapping[Keys, str]) -> str | None:
    while path and path not in places:
        path = path[:-1]
    return places.get(path)


def _dotted(keys: Keys) -> str:
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{_short(key)}" if text else _short(key)
    return text


def _short(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else text[:limit] + "..."


def _given(raw: Any, keys: Keys) -> str | None:
    """What the document says at `keys`, before the environment was put in."""
    for key in keys:
        try:
            raw = raw[key]
        except (KeyError, IndexError, TypeError):
            break
    if isinstance(raw, Mapping) and len(str(raw)) > 200:
        return None  # a whole section says nothing
    return _short(shown(raw), 200)
