"""Compares a trial's record with the same trial trained again: EXACT, WITHIN TOLERANCE or DIFFERENT, and why.

Before it stand the record in MLflow and the trainer (tasks/replay.py brings both), after it the command line
and the report. It trains nothing, reads nothing and writes nothing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

TOLERANCE = 1e-5  # relative, per value
FAILURE = "failure"  # stands beside the metrics of the epoch a trial failed at
# What decides a trial's bits beside the study's settings: name for people -> tag of its run.
INGREDIENTS = {
    "data": "lanewise.data",
    "split": "lanewise.split",
    "code": "lanewise.code",
    "network": "lanewise.network",
    "functions": "lanewise.functions",  # losses and metrics of the user's own
    "pretrained": "lanewise.pretrained",
    "libraries": "lanewise.libraries",  # JSON: name -> version; each is an ingredient of its own
    "threads": "lanewise.threads",
    "device": "lanewise.device",
}

NO_FUNCTIONS = "none of the user's own"

Answer = Literal["EXACT", "WITHIN TOLERANCE", "DIFFERENT"]
_EPOCH = re.compile(r"\bat epoch (\d+)")


@dataclass(frozen=True)
class Epoch:
    """What one epoch of a trial gave.

    Args:
        epoch: From 1.
        values: Metric -> value, None for what is not finite: the record keeps no such numbers.
        failed: Why the trial ended in failure here.
    """

    epoch: int
    values: Mapping[str, float | None]
    failed: str | None = None


@dataclass(frozen=True)
class Difference:
    """One value that came out otherwise.

    Args:
        relative: Difference over the larger magnitude; infinite where one side has no number.
    """

    epoch: int
    metric: str
    recorded: float | str | None
    now: float | str | None
    relative: float


@dataclass(frozen=True)
class Change:
    """An ingredient that is not what it was."""

    ingredient: str
    recorded: str
    now: str


@dataclass(frozen=True)
class Verdict:
    """How a replay came out.

    Args:
        epochs: How many were compared.
        values: How many values were compared.
        differing: How many of them have other bits.
        first: The first of those, by epoch.
        largest: The one with the largest relative difference.
        changed: Ingredients that are not what they were.
        unrecorded: Ingredients the record does not name.
    """

    answer: Answer
    epochs: int
    values: int
    differing: int
    first: Difference | None
    largest: Difference | None
    changed: tuple[Change, ...]
    unrecorded: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON; an infinite difference is None, which JSON has no number for."""
        found = {**vars(self), "changed": [vars(change) for change in self.changed], "tolerance": TOLERANCE}
        for name in ("first", "largest"):
            one: Difference | None = found[name]
            found[name] = one and {**vars(one), "relative": _or_none(one.relative)}
        return found | {"unrecorded": list(self.unrecorded)}


def recorded_epochs(
    metrics: Mapping[str, Sequence[tuple[int, float]]], state: str | None, reason: str | None
) -> list[Epoch]:
    """The epochs of a record.

    Args:
        metrics: Name -> [(epoch, value), ...]; those without "/" are no curves.
        state: complete, pruned, failed, abandoned or running.
        reason: Why it ended so. A failure's names its epoch, of which the record may hold no number.
    """
    curves = {name: dict(points) for name, points in metrics.items() if "/" in name}
    last = max((epoch for curve in curves.values() for epoch in curve), default=0)
    failure = reason if state == "failed" else None
    if failure and (named := _EPOCH.search(failure)):
        last = max(last, int(named[1]))
    return [
        Epoch(
            epoch,
            {name: curve.get(epoch) for name, curve in curves.items()},
            failure if epoch == last else None,
        )
        for epoch in range(1, last + 1)
    ]


def trained_epoch(
    epoch: int, values: Mapping[str, float], failed: str | None, objective: str, last: bool
) -> Epoch:
    """An epoch as the trainer reports it, in the form of the record.

    Args:
        values: Metric -> value, finite or not.
        failed: Why the trainer gave the lane up.
        objective: A search gives up a trial whose objective is not finite, too.
        last: Whether the record ends here: before that, nothing failed.
    """
    kept = {name: value if math.isfinite(value) else None for name, value in values.items()}
    if last and failed is None and objective in kept and kept[objective] is None:
        failed = f"nonfinite {objective} at epoch {epoch}"
    return Epoch(epoch, kept, failed)


def changes(recorded: Mapping[str, str], now: Mapping[str, str]) -> tuple[list[Change], list[str]]:
    """Which ingredients changed, and which the record does not name.

    Args:
        recorded: Tags of the trial's run.
        now: The same tags, as they would be recorded today.
    """
    changed: list[Change] = []
    unknown: list[str] = []
    for name, tag in INGREDIENTS.items():
        if tag not in recorded:
            if now.get(tag) != NO_FUNCTIONS:  # records of old do not name what they did not use
                unknown.append(name)
        elif name == "libraries":
            old, new = _versions(recorded[tag]), _versions(now[tag])
            changed += [
                Change(library, old.get(library, "absent"), new.get(library, "absent"))
                for library in sorted(old.keys() | new.keys())
                if old.get(library) != new.get(library)
            ]
        elif recorded[tag] != now[tag]:
            changed.append(Change(name, recorded[tag], now[tag]))
    return changed, unknown


def setting_changes(recorded: Any, now: Any, place: str = "") -> Iterator[Change]:
    """Which settings of a study are not those of the record, by their dotted names."""
    if isinstance(recorded, Mapping) and isinstance(now, Mapping):
        for key in sorted(recorded.keys() | now.keys()):
            inner = f"{place}.{key}" if place else str(key)
            yield from setting_changes(recorded.get(key), now.get(key), inner)
    elif recorded != now:
        yield Change(place, json.dumps(recorded), json.dumps(now))


def compare(
    recorded: Sequence[Epoch],
    replayed: Sequence[Epoch],
    changed: Sequence[Change] = (),
    unrecorded: Sequence[str] = (),
) -> Verdict:
    """Compare epoch by epoch, every metric, bit for bit.

    Bits are equal where the numbers are: 0.0 and -0.0 count as one, which SQLite cannot tell apart.

    Args:
        recorded: Epochs to compare, from 1.
        replayed: The same epochs trained again; those it lacks count as without a number.
        changed: Ingredients that changed, for the verdict.
        unrecorded: Those that cannot be compared.
    """
    again = {epoch.epoch: epoch for epoch in replayed}
    found: list[Difference] = []
    values = 0
    for old in recorded:
        new = again.get(old.epoch, Epoch(old.epoch, {}))
        for metric, before, after in _pairs(old, new):
            values += 1
            if before != after:
                found.append(Difference(old.epoch, metric, before, after, _relative(before, after)))
    largest = max(found, key=lambda one: one.relative, default=None)
    answer: Answer = "EXACT"
    if largest is not None:
        answer = "WITHIN TOLERANCE" if largest.relative <= TOLERANCE else "DIFFERENT"
    return Verdict(
        answer, len(recorded), values, len(found), found[0] if found else None, largest, tuple(changed),
        tuple(unrecorded),
    )  # fmt: skip


def words(verdict: Verdict) -> list[str]:
    """The verdict in lines for a terminal."""
    size = f"{verdict.values} values of {verdict.epochs} epoch{'s' if verdict.epochs != 1 else ''}"
    lines = []
    if verdict.first is None or verdict.largest is None:
        lines.append(f"EXACT: all {size} have the recorded bits")
    else:
        within = f", all by at most {TOLERANCE:g} of their size" if verdict.answer != "DIFFERENT" else ""
        lines.append(f"{verdict.answer}: {verdict.differing} of {size} differ{within}")
        lines.append(f"  first:    {_difference(verdict.first)}")
        lines.append(f"  largest:  {_difference(verdict.largest)}")
    if verdict.changed:
        lines.append("changed since it was recorded:")
        width = max(len(change.ingredient) for change in verdict.changed)
        for change in verdict.changed:
            lines.append(f"  {change.ingredient:<{width}}  {_short(change.recorded)} -> {_short(change.now)}")
    elif verdict.first is not None:
        lines.append(
            "of what is recorded nothing changed: what is left is the machine, or a fault of Lanewise"
        )
    if verdict.unrecorded:
        lines.append(f"not in the record, so not compared: {', '.join(verdict.unrecorded)}")
    return lines


def _pairs(old: Epoch, new: Epoch) -> Iterator[tuple[str, float | str | None, float | str | None]]:
    """Every value of an epoch that one side has: the training loss first, then the scores, then a failure."""
    names = dict.fromkeys([*new.values, *old.values])
    for metric in sorted(names, key=lambda name: name != "train/loss"):
        before, after = old.values.get(metric), new.values.get(metric)
        if before is not None or after is not None:
            yield metric, before, after
    if old.failed is not None or new.failed is not None:
        yield FAILURE, old.failed, new.failed


def _relative(before: float | str | None, after: float | str | None) -> float:
    if not isinstance(before, float | int) or not isinstance(after, float | int):
        return math.inf
    return abs(before - after) / max(abs(before), abs(after))


def _difference(one: Difference) -> str:
    sides = f"recorded {_value(one.recorded)}, now {_value(one.now)}"
    relative = f" (relative {one.relative:.1e})" if math.isfinite(one.relative) else ""
    return f"epoch {one.epoch}, {one.metric}: {sides}{relative}"


def _value(value: float | str | None) -> str:
    return "none" if value is None else str(value)


def _short(text: str) -> str:
    """Fingerprints cut; what is cut says so."""
    long = re.fullmatch(r"[0-9a-f]{32,}", text)
    return f"{text[:12]}..." if long else text if len(text) <= 100 else f"{text[:97]}..."


def _versions(text: str) -> dict[str, str]:
    """Library -> version; a tag that someone else wrote is one nameless library."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        return {"libraries": text}
    return {str(name): str(version) for name, version in found.items()}


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
