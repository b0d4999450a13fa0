"""Read YAML without surprises; comes before the study, after errors only; may open one file and run nothing.

Scalars follow the YAML 1.2 core schema (`no` and `12:30:00` are strings, `1e-3` is a number, `010` is
ten). Tags, anchors, aliases, duplicate keys, tabs and deep or huge documents are refused, each with its
line and column. PyYAML scans and parses; values are built here from its events, so nothing a file says
can construct anything but dicts, lists and scalars.

Source: https://yaml.org/spec/1.2.2/#103-core-schema
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from lanewise.errors import StudyError

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_NODES = 20_000
MAX_DIGITS = 400

Keys = tuple[str | int, ...]
Scalar = None | bool | int | float | str

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"(true|True|TRUE)|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INF = re.compile(r"([-+])?(?:\.inf|\.Inf|\.INF)")
_NAN = re.compile(r"\.nan|\.NaN|\.NAN")
_VARIABLE = re.compile(r"\$\{([^}]*)\}?")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")


@dataclass(frozen=True)
class Document:
    """What a file says and where it says it."""

    data: dict[str, Any]
    places: dict[Keys, str] = field(repr=False)  # path of keys -> "file.yaml:line:column" of the key


def scalar(text: str) -> Scalar:
    """Return the value of an unquoted YAML 1.2 core scalar.

    Raises:
        ValueError: A number has too many digits or does not fit a float.
    """
    if _NULL.fullmatch(text):
        return None
    if match := _BOOL.fullmatch(text):
        return match[1] is not None
    if _INT.fullmatch(text):
        if len(text) > MAX_DIGITS:
            raise ValueError(f"a number has more than {MAX_DIGITS} digits")
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if _FLOAT.fullmatch(text):
        value = float(text)
        if math.isinf(value):
            raise ValueError("a number is too large for a float (at most about 1.8e308)")
        return value
    if match := _INF.fullmatch(text):
        return -math.inf if match[1] == "-" else math.inf
    return math.nan if _NAN.fullmatch(text) else text


def read(path: Path | str) -> Document:
    """Read one file.

    Raises:
        StudyError: The file is not there, not text, too large, empty, or not strict YAML.
    """
    name, file = str(path), Path(path)
    try:
        if not file.exists():
            raise StudyError(
                "the study file is not there",
                where=name,
                remedy="check the path, or write one: `lanewise init`",
            )
        if not file.is_file():
            raise StudyError("this is not a file", where=name, remedy="name the YAML file of the study")
        with file.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: the path itself holds a zero byte
        reason = getattr(error, "strerror", None) or str(error)
        raise StudyError(f"the study file cannot be read: {reason}", where=repr(name)[1:-1]) from None
    return parse(_decode(raw, name), name)


def parse(text: str, name: str) -> Document:
    """Build the document of `text`; `name` is what errors call it.

    Raises:
        StudyError: Not strict YAML, or its top level is not a mapping.
    """
    for number, line in enumerate(text.splitlines(), 1):
        if "\t" in line:
            raise StudyError(
                "a tab character",
                where=f"{name}:{number}:{line.index(chr(9)) + 1}",
                rule="a study file holds no tabs",
                remedy=r'indent with spaces; in a string write "\t"',
            )
    builder = _Builder(name)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise StudyError(
            f"not valid YAML: {error.problem or error.context}",
            where=_where(name, mark),
            remedy="check indentation, colons and quotes near this place",
        ) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        raise StudyError(
            "a character YAML does not allow",
            where=f"{name}:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}",
            given=f"U+{ord(text[error.position]):04X}",
            remedy="delete it",
        ) from None
    except (ValueError, OverflowError):  # from chr(), which PyYAML calls unchecked
        raise StudyError(
            "not valid YAML: an escape of a character that does not exist",
            where=_where(name, builder.end),
            rule=r'in double quotes "\U" is followed by the number of a character, at most 0010FFFF',
            remedy="correct the escape, or use single quotes, which have none",
        ) from None
    if not builder.started or builder.root is None:
        raise StudyError(
            "the study file is empty",
            where=name,
            rule="a study says at least where the data is",
            remedy="start with `data:`, `source:` and `target:`, or run `lanewise init`",
        )
    if not isinstance(builder.root, dict):
        raise StudyError(
            "the file is not a mapping",
            where=f"{name}:1:1",
            given="a list" if isinstance(builder.root, list) else "a single value",
            rule="the top level holds keys such as `data:`",
            remedy="write `key: value` lines",
        )
    return Document(builder.root, builder.places)


def check_text(text: str, where: str) -> str:
    """Return `text` when it holds no control characters and no half characters.

    Raises:
        StudyError: It does.
    """
    if match := _CONTROL.search(text):
        raise StudyError(
            "a control character",
            where=where,
            given=f"U+{ord(match[0]):04X}",
            rule="a study is plain text",
            remedy="is this a binary file? Otherwise delete the character",
        )
    return text


def substitute(value: Any, places: Mapping[Keys, str], path: Keys = ()) -> Any:
    """Return `value` with every `${NAME}` in its strings replaced by the environment's value.

    Raises:
        StudyError: A variable is missing or misspelt; its value is never shown.
    """
    if isinstance(value, dict):
        return {key: substitute(item, places, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [substitute(item, places, (*path, i)) for i, item in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value

    def replace(match: re.Match[str]) -> str:
        variable = match[1]
        if not match[0].endswith("}") or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
            raise StudyError(
                "this is not an environment variable",
                where=places.get(path),
                given=repr(match[0]),
                rule="${NAME} of letters, digits and _",
                remedy="close the brace or correct the name",
            )
        found = os.environ.get(variable)
        if found is None:
            raise StudyError(
                f"the environment variable {variable} is not set",
                where=places.get(path),
                given=repr(match[0]),
                remedy=f"set it before the run: export {variable}=...",
            )
        if _CONTROL.search(found):
            raise StudyError(
                f"the environment variable {variable} holds a control character",
                where=places.get(path),
                rule="it must be plain text",
                remedy="set it again without control characters",
            )
        return found

    return _VARIABLE.sub(replace, value)


def _decode(raw: bytes, name: str) -> str:
    """Bytes -> text; refuses what is too large or not UTF-8 text. A UTF-8 byte order mark is dropped."""
    if len(raw) > MAX_BYTES:
        raise StudyError(
            "the study file is too large",
            where=name,
            given=f"more than {MAX_BYTES:,} bytes",
            rule=f"at most {MAX_BYTES:,} bytes",
            remedy="is this the data? Name it under `data: source:` instead",
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise StudyError(
            "the file is not UTF-8 text",
            where=f"{name}:{line}:{column}",
            given=f"byte 0x{raw[error.start]:02x}",
            rule="a study is a UTF-8 text file",
            remedy="save it as UTF-8, without UTF-16 or a binary format",
        ) from None
    if match := _CONTROL.search(text):
        line, column = (
            text.count("\n", 0, match.start()) + 1,
            match.start() - text.rfind("\n", 0, match.start()),
        )
        raise StudyError(
            "the file holds a control character",
            where=f"{name}:{line}:{column}",
            given=f"U+{ord(match[0]):04X}",
            rule="a study is a text file",
            remedy="is this a binary file? Otherwise delete the character",
        )
    return text


def _where(name: str, mark: Any) -> str:
    return name if mark is None else f"{name}:{mark.line + 1}:{mark.column + 1}"


@dataclass
class _Open:
    """A mapping or list that is not closed yet."""

    items: dict[str, Any] | list[Any]
    path: Keys
    key: str | None = None


class _Builder:
    """Builds plain values from PyYAML's events, with an explicit stack instead of recursion."""

    def __init__(self, name: str) -> None:
        self.name, self.started, self.nodes = name, False, 0
        self.root: Any = None
        self.end: Any = None  # where the last event ended
        self.places: dict[Keys, str] = {(): f"{name}:1:1"}
        self.stack: list[_Open] = []

    def take(self, event: yaml.Event) -> None:
        """Take the next event."""
        self.end = event.end_mark
        if isinstance(event, yaml.AliasEvent):
            self._refuse(event, "an alias (`*name`)", "aliases are not allowed", "write the value out again")
        elif isinstance(event, yaml.DocumentStartEvent):
            if self.started:
                self._refuse(
                    event, "a second document (`---`)", "one study per file", "put it in its own file"
                )
            self.started = True
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self.stack.pop()
        elif isinstance(event, yaml.NodeEvent):
            self._node(event)

    def _node(self, event: Any) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self._refuse(event, f"more than {MAX_NODES:,} values", "a study is small", "shorten the file")
        if event.anchor is not None:
            self._refuse(event, "an anchor (`&name`)", "anchors are not allowed", "write the value out again")
        if event.tag is not None:
            self._refuse(event, f"a tag ({event.tag[:80]!r})", "tags are not allowed", "remove the tag")
        top = self.stack[-1] if self.stack else None
        if top is not None and isinstance(top.items, dict) and top.key is None:
            self._key(top, event)
        elif isinstance(event, yaml.ScalarEvent):
            self._attach(top, event, self._scalar(event))
        else:
            if len(self.stack) >= MAX_DEPTH:
                self._refuse(event, "too many levels", f"at most {MAX_DEPTH} levels", "nest less")
            items: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
            self.stack.append(_Open(items, self._attach(top, event, items)))

    def _key(self, top: _Open, event: Any) -> None:
        """A mapping's next key: always a string, as written."""
        if not isinstance(event, yaml.ScalarEvent) or not event.value:
            self._refuse(event, "a key that is not a word", "a key is a single word", "write `key: value`")
        path = (*top.path, event.value)
        if event.value in top.items:
            self._refuse(
                event,
                f"the key `{event.value}` twice",
                f"first at {self.places[path]}",
                "keep one of the two",
            )
        self._text(event)
        top.key = event.value
        self.places[path] = _where(self.name, event.start_mark)

    def _attach(self, top: _Open | None, event: Any, value: Any) -> Keys:
        """Hang a value into the open mapping or list; return its path."""
        if top is None:
            self.root = value
            return ()
        if isinstance(top.items, list):
            path: Keys = (*top.path, len(top.items))
            self.places[path] = _where(self.name, event.start_mark)
            top.items.append(value)
            return path
        assert top.key is not None  # _node sends a mapping's first event of each pair to _key
        path, top.items[top.key], top.key = (*top.path, top.key), value, None
        return path

    def _scalar(self, event: Any) -> Scalar:
        if event.style is not None:
            return self._text(event)
        try:
            value = scalar(event.value)
        except ValueError as error:
            self._refuse(event, str(error), "a number a computer can hold", "write it as text in quotes")
        return self._text(event) if isinstance(value, str) else value

    def _text(self, event: Any) -> str:
        if match := _CONTROL.search(event.value):
            self._refuse(event, f"the character U+{ord(match[0]):04X} in a string", "text only", "remove it")
        return str(event.value)

    def _refuse(self, event: Any, what: str, rule: str, remedy: str) -> NoReturn:
        raise StudyError(what, where=_where(self.name, event.start_mark), rule=rule, remedy=remedy)
