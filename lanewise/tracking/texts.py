"""What a run says as texts that MLflow takes whole, and without secrets; used by the tracker.

MLflow refuses some names and cuts long parameters without a word. So both are refused here, before the
record is written, and what looks like a password is replaced: tracked runs are shown to others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping

from lanewise.errors import TrackingError
from lanewise.names import secret_kind

# Narrower than MLflow's own limits (tags 8000, parameters 6000 cut silently), so that nothing is ever cut.
TAG_LENGTH, PARAM_LENGTH, REASON_LENGTH = 5000, 500, 500

_NAME = re.compile(r"[A-Za-z0-9_\-. :/]{1,250}")
_NAME_RULE = "1 to 250 of A-Z a-z 0-9 _ - . : / and space"


def as_text(value: object) -> str:
    """A parameter or tag as text: short floats, lower-case truth values, nothing for None."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(value)


def param_texts(params: Mapping[str, object], log_scale: Collection[str]) -> dict[str, str]:
    """Parameters as texts; those of `log_scale` get a `log10_` twin: the axes of charts are linear."""
    values = {name: as_text(value) for name, value in params.items()}
    for name in log_scale:
        value = params.get(name)
        if isinstance(value, float | int) and value > 0:
            values[f"log10_{name}"] = f"{math.log10(value):.4f}"
    return values


def check_pairs(key: str, pairs: Mapping[str, str], length: int) -> None:
    """Refuse names and lengths that MLflow would refuse or cut.

    Args:
        key: The run, for the message.
        pairs: Name -> value.
        length: Longest value.

    Raises:
        TrackingError: With the name that is wrong.
    """
    for name, value in pairs.items():
        if not _NAME.fullmatch(name):
            raise TrackingError("MLflow takes no such name", where=key, given=name, rule=_NAME_RULE)
        if len(value) > length:
            raise TrackingError(
                f"the value of {name!r} is too long", where=key,
                given=f"{len(value)} characters", rule=f"at most {length}",
            )  # fmt: skip


def hidden(text: str) -> str:
    """The text, unless it holds what looks like a password or a key."""
    kind = secret_kind(text)
    return text if kind is None else f"[hidden: looks like {kind}]"
