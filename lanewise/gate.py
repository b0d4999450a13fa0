"""Decides whether a new model becomes champion; after the sealed test, before the alias is set.

Both models are scored on the same sealed rows. What is there stays unless the new one is better by the
margin; where no comparison is possible, a person decides. It stores nothing and asks no server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lanewise.metrics import Metric


@dataclass(frozen=True)
class Decision:
    """What the gate says.

    Attributes:
        alias: "champion" or "candidate".
        reason: why, in words.
    """

    alias: Literal["champion", "candidate"]
    reason: str


def gate(
    metric: Metric,
    margin: float,
    *,
    new: float | None,
    default: float | None,
    new_is_default: bool,
    champion: float | None = None,
    champion_name: str | None = None,
    obstacle: str | None = None,
) -> Decision:
    """Compare a new model with what it would replace.

    A tuned model that is worse than its own default on the sealed rows is no champion, and neither is one
    that does not beat the champion that is there. The champion may have been trained on rows that are sealed now,
    which flatters it; so the gate errs on the side of what is there.

    Args:
        metric: The objective.
        margin: By how much, in its unit, the new one must be better; 0: not worse than the default, strictly
            better than a champion.
        new: Score of the new model; None where undefined.
        default: Score of the default configuration.
        new_is_default: The winner is the default itself.
        champion: Score of the present champion; None where there is none or it could not be scored.
        champion_name: Which one it is, for the reason; None where there is none.
        obstacle: Why the champion could not be scored.
    """
    sign = 1.0 if metric.direction == "maximize" else -1.0
    if new is None:
        return Decision("candidate", f"{metric.name} is undefined on the sealed rows")
    if champion_name is None:
        if new_is_default:
            return Decision("champion", "the first version; no trial beat the default")
        if default is None:
            return Decision("candidate", f"the default has no {metric.name} on the sealed rows")
        lead = sign * (new - default)
        words = f"{metric.name} {new:.4g} on the sealed rows, {default:.4g} by the default"
        if lead >= margin:
            return Decision("champion", f"the first version; {words}")
        return Decision(
            "candidate", f"{words}; it must be better by {margin:g}" if margin else f"worse: {words}"
        )
    if obstacle is not None or champion is None:
        return Decision("candidate", f"{champion_name} cannot be compared: {obstacle or 'it has no score'}")
    if not new_is_default and default is not None and sign * (new - default) < margin:
        words = f"{metric.name} {new:.4g} on the sealed rows, {default:.4g} by the default"
        return Decision("candidate", f"{words}; it must be better" + (f" by {margin:g}" if margin else ""))
    lead = sign * (new - champion)
    words = f"{metric.name} {new:.4g} on the sealed rows, {champion:.4g} by {champion_name}"
    if lead > 0 and lead >= margin:
        return Decision("champion", words)
    return Decision("candidate", f"{words}; it must be better" + (f" by {margin:g}" if margin else ""))
