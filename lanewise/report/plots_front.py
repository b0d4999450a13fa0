"""The picture of the Pareto front: the score of every complete trial against the size of its network.

A drawing for `canvas.py`, as in the other files of plots.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lanewise.report.canvas import Ink, sheet
from lanewise.report.facts import Facts
from lanewise.report.parts import Trial
from lanewise.report.plots_outcome import WIDTH
from lanewise.report.wording import metric_words, objective_words, thousands

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NUMBERED = 12  # members of a front whose trial numbers stand beside them
MOST_TICKS = 8
MANY_TIMES = 5  # larger than the smallest: from here on the axis of sizes is logarithmic


def front(facts: Facts, ink: Ink) -> Figure | None:
    """One panel for each size: all complete trials, those on the front, the winner and the default."""
    if not facts.front:
        return None
    figure, axes = sheet(WIDTH, 330, len(facts.objectives), sharey=True)
    limits = _limits([t.value for t in (*facts.front, facts.default) if t is not None and t.value is not None])
    for panel, objective in zip(axes, facts.objectives, strict=True):
        _panel(panel, objective, limits, facts, ink)
    better = "higher is better" if facts.sign > 0 else "lower is better"
    axes[0].set_title(f"{metric_words(facts.metric)} on the validation rows    ({better})")
    axes[-1].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, borderaxespad=0.2)
    return figure


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Ends of the axis of scores: the front and the default with as much room again; a bad trial would squeeze them."""
    low, high = min(values), max(values)
    room = 0.5 * (high - low) or 0.05 * abs(high) or 0.5
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten from `low` to `high`; the powers alone where those are too many."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1,)):
        found = [digit * 10.0**exponent for exponent in exponents for digit in digits]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) <= MOST_TICKS:
            break
    return found


def _panel(panel: Axes, objective: str, limits: tuple[float, float], facts: Facts, ink: Ink) -> None:
    from matplotlib.ticker import NullLocator

    low, high = limits

    def places(trials: Sequence[Trial | None]) -> list[tuple[float, float]]:
        return [
            (size, min(max(t.value, low), high))
            for t in trials
            if t is not None and t.value is not None and (size := t.size(objective)) is not None
        ]

    others = [t for t in facts.complete if t not in facts.front]
    shown: list[tuple[str, Sequence[Trial | None], str, str, float, float]] = [
        ("other trial", others, "o", ink.base, 4.0, 0.5),
        ("on the front", facts.front, "o", ink.tuned, 6.0, 1.0),
        ("default", [facts.default], "D", ink.other, 6.0, 1.0),
        ("winner", [facts.winning_trial], "o", ink.good, 12.0, 1.0),
    ]
    for label, trials, marker, colour, width, opacity in shown:
        found = places(trials)
        if not found:
            continue
        ring = label == "winner"
        panel.plot(
            *zip(*found, strict=True), marker, color=colour, markersize=width, alpha=opacity, label=label,
            markerfacecolor="none" if ring else colour, markeredgewidth=1.8 if ring else 0, clip_on=False,
            in_layout=False,
        )  # fmt: skip
    known = [size for t in facts.complete if (size := t.size(objective)) is not None]
    if min(known) > 0 and max(known) > MANY_TIMES * min(known):
        panel.set_xscale("log")
        ticks = _ticks(min(known), max(known))
        panel.set_xticks(ticks, [thousands(tick) for tick in ticks])
        panel.xaxis.set_minor_locator(NullLocator())
    if len(facts.objectives) == 1:  # of more than two objectives a front is a surface, and no line
        steps = sorted(places(facts.front))
        ends = [*steps, (max(known), steps[-1][1])]
        panel.step(*zip(*ends, strict=True), where="post", color=ink.tuned, linewidth=1.2, zorder=1)
    if len(facts.front) <= MOST_NUMBERED:
        at: dict[tuple[float, float], list[str]] = {}
        for trial, place in zip(facts.front, places(facts.front), strict=True):
            at.setdefault(place, []).append(str(trial.number))
        for place, numbers in at.items():
            panel.annotate(
                ", ".join(numbers), place, (0, 8), textcoords="offset points", ha="center", color=ink.muted, fontsize=8
            )
    panel.set_ylim(low, high)
    panel.set_xlabel(objective_words(objective))
