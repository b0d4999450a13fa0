"""What must not change between two runs of one study, and how to say what did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from lanewise.pretrained_file import weights_digest
from lanewise.space import Space
from lanewise.study import Study


def definition(study: Study, space: Space, *, metric: str, direction: str, data: str) -> dict[str, Any]:
    """What must not change between two runs of one study, as plain JSON.

    Of pretrained weights it is what they are, not where they lie.

    Budgets and the number of lanes may: a search that is continued with more trials gives what a longer
    one would have given.

    Args:
        space: As searched, so after the learning-rate range was narrowed.
        metric: The objective, resolved (never "auto").
        data: Fingerprint of rows and splits.

    Raises:
        ModelError: The study's pretrained weights cannot be read.
    """
    free = {"patience", "trials", "epochs", "seconds", "lanes", "max_failures", "max_retries", "trial_timeout_s"}
    search = study.search.model_dump(mode="json", exclude=free)
    # What a study does not use must not differ from a ledger that was begun before there was such a setting.
    search = {key: value for key, value in search.items() if value not in (None, []) and (key, value) != ("audit", 0)}
    return {
        "seed": study.seed,
        "model": network_definition(study),
        "space": space.to_json(),
        "train": study.train.model_dump(mode="json", exclude={"threads"}),
        "search": search | {"metric": metric, "direction": direction},
        "control_share": study.lr_range.control_share,
        "data": data,
    }


def network_definition(study: Study) -> dict[str, Any]:
    """The network and what it starts from, as plain JSON.

    Raises:
        ModelError: The study's pretrained weights cannot be read.
    """
    weights = {"pretrained": weights_digest(study)} if study.model.pretrained else {}
    return study.model.model_dump(mode="json", exclude={"pretrained"}) | weights


def changes(old: Any, new: Any, place: str = "") -> Iterator[str]:
    """What differs between two JSON values, as `place: old -> new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            inner = f"{place}.{key}" if place else key
            if key not in old or key not in new:
                yield f"{inner}: {short(old.get(key, 'absent'))} -> {short(new.get(key, 'absent'))}"
            else:
                yield from changes(old[key], new[key], inner)
    elif old != new or type(old) is not type(new):
        yield f"{place}: {short(old)} -> {short(new)}"


def short(value: Any) -> str:
    """A JSON value in at most 80 characters."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
