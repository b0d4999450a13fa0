"""What a report is made of: the records of every stage, as they are or as JSON made them.

Before it stand all stages, after it `facts.py`. It only turns records into plain values and makes their
texts safe to print; it computes nothing and knows no page.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LONGEST_TEXT = 400  # characters of one string; a class name or a reason longer than that is cut
# Control characters break SVG and terminals; direction overrides make a text look like another one.
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]+"
)
_LOGIN = re.compile(r"(?<=://)[^/\s@]*:[^/\s@]*@")


@dataclass(frozen=True)
class Records:
    """All a report may show; every part may be missing, and each may be a record or a mapping.

    Attributes:
        study: JSON of the study.
        dataset: `Dataset.summary()`.
        lr_curve: `LRCurve` of the range test.
        search: `SearchResult`.
        evaluation: `Evaluation`.
        test: `TestResult`.
        version: `ModelVersion`.
        timings: stage -> seconds of wall-clock time.
        links: label -> address, shown as links where it is an http, https or file address.
        environment: name -> version or other text; `created_at`, if given, is shown as the report's date.
        replays: How replays of its trials came out, oldest first; None where nobody kept count.
    """

    study: Any = None
    dataset: Any = None
    lr_curve: Any = None
    search: Any = None
    evaluation: Any = None
    test: Any = None
    version: Any = None
    timings: Mapping[str, float] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    replays: Sequence[Mapping[str, Any]] | None = None


def printable(text: str) -> str:
    """The text on one line, without control characters and logins in addresses, cut where it is too long."""
    clean = _LOGIN.sub("***@", _UNPRINTABLE.sub(" ", text)).strip()
    return clean if len(clean) <= LONGEST_TEXT else clean[: LONGEST_TEXT - 1] + "…"


def plain(value: Any) -> Any:
    """Dataclasses and mappings as dicts, sequences as lists, every text and key printable.

    The epochs of a trial under `curve` are passed through: most are never looked at.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return printable(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _part(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {printable(str(key)): _part(key, part) for key, part in value.items()}
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes):
        return [plain(part) for part in value]
    if hasattr(value, "model_dump"):  # a pydantic model, such as a Study
        return plain(value.model_dump(mode="json", by_alias=True))
    if hasattr(value, "tolist"):  # numpy arrays and scalars
        return plain(value.tolist())
    return printable(str(value))


def _part(name: object, value: Any) -> Any:
    return value if name == "curve" else plain(value)
