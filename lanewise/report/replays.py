"""What the report says of trials that were trained again from their record: how many, and how they came out.

Read from the facts, put among the page's provenance by `origin.py`. It trains and compares nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lanewise.report.facts import Facts
from lanewise.report.wording import candidate_words, counted, few, joined, thousands

MOVED = "data.source"  # the one setting that may be given anew without asking for something else


def replayed(facts: Facts) -> str:
    """The replays in one sentence; empty where the report does not know of any trial or any record of them."""
    if facts.replays is None or not facts.trials:
        return ""
    latest = {str(one.get("trial")): one for one in facts.replays if _counts(one)}
    answers = {name: str(one.get("answer")) for name, one in latest.items()}
    of_all = f"of {counted(len(facts.trials), 'trial')}"
    if not answers:
        return f"none {of_all} was trained again; this does it: lanewise replay {facts.name}/trial-0000"
    exact = sum(answer == "EXACT" for answer in answers.values())
    near = sorted(name for name, answer in answers.items() if answer == "WITHIN TOLERANCE")
    other = sorted(name for name, answer in answers.items() if answer == "DIFFERENT")
    parts = [f"{thousands(exact)} gave the recorded bits"] if exact else []
    if near:
        tolerance = latest[near[0]].get("tolerance")
        parts.append(f"{thousands(len(near))} came within {tolerance} of each value")
    if other:
        named = few([f"{candidate_words(name)}{_reason(latest[name])}" for name in other])
        parts.append(f"{thousands(len(other))} differed: {named}")
    return f"{thousands(len(answers))} {of_all} trained again from the record alone: {joined(parts)}"


def _counts(one: Mapping[str, Any]) -> bool:
    """Whether it says something of the record: a trial that was asked to train otherwise does not.

    One that was compared in its first epochs only counts where it differed.
    """
    if set(one.get("overrides") or {}) - {MOVED}:
        return False
    return one.get("answer") != "EXACT" or one.get("epochs") == one.get("epochs_recorded")


def _reason(one: Mapping[str, Any]) -> str:
    names = [str(change.get("ingredient")) for change in one.get("changed") or [] if isinstance(change, dict)]
    names = [name for name in names if name != MOVED]
    return f" ({joined(names)} changed)" if names else ""
