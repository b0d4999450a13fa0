"""Pictures of the space that was searched: parallel coordinates, importance, slices.

Each is a drawing for `canvas.py`: facts and ink in, a figure out, None where there is nothing to draw.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lanewise.report.canvas import Ink, log_axis, robust_limits, sheet
from lanewise.report.facts import Facts
from lanewise.report.importance import Importance
from lanewise.report.parts import Range, Trial
from lanewise.report.plots_outcome import WIDTH
from lanewise.report.wording import cut, decimals, finite, fixed, metric_words, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_AXES = 10  # parallel coordinates with more cannot be read
MOST_LINES = 400
GROUPS = (0.35, 0.6, 0.8, 0.92)  # shares of the trials, worst first, at which the next stronger colour begins


def parallel(order: Sequence[str]) -> Callable[[Facts, Ink], Figure | None]:
    """A drawing of every trial as a line through its hyperparameters, in the order given."""

    def drawing(facts: Facts, ink: Ink) -> Figure | None:
        return _parallel(facts, ink, order)

    return drawing


def _parallel(facts: Facts, ink: Ink, order: Sequence[str]) -> Figure | None:
    from matplotlib.collections import LineCollection

    names = [n for n in order if n in facts.wide_ranges][:MOST_AXES]
    trials = sorted(facts.complete, key=lambda t: facts.sign * (t.value or 0.0))[-MOST_LINES:]
    if not names or len(trials) < 2:
        return None
    ranges = [_shown(facts, name, trials) for name in names]
    low, high = robust_limits([t.value for t in trials if t.value is not None])
    figure, (axes,) = sheet(WIDTH, 340)
    last = len(names)
    shown: list[list[tuple[float, float]]] = []
    for trial in trials:
        places = [_place(r, trial, i) for i, r in enumerate(ranges)]
        end = min(max(((trial.value or 0.0) - low) / (high - low), 0.0), 1.0)
        shown.append([*enumerate(places), (float(last), end)])
    group = [bisect_right(GROUPS, (i + 0.5) / len(trials)) for i in range(len(trials))]
    for q, colour in enumerate(ink.scale):
        lines = [line for line, g in zip(shown, group, strict=True) if g == q]
        axes.add_collection(
            LineCollection(
                lines, colors=colour, linewidths=1.6 if q == 4 else 0.9, alpha=0.9 if q == 4 else 0.7
            )
        )
    winner = next((i for i, t in enumerate(trials) if t is facts.winning_trial), None)
    if winner is not None:
        axes.plot(*zip(*shown[winner], strict=True), color=ink.ink, linewidth=2.4)
    _label_axes(axes, ranges, names, (low, high), facts, ink)
    return figure


def _shown(facts: Facts, name: str, trials: Sequence[Trial]) -> Range:
    """The range the trials really used: the wide one if a control trial left the narrow one."""
    narrow = facts.ranges.get(name, facts.wide_ranges[name])
    places = [narrow.position(t.config.get(name)) for t in trials]
    return (
        facts.wide_ranges[name]
        if any(p is not None and not -1e-9 <= p <= 1 + 1e-9 for p in places)
        else narrow
    )


def _place(searched: Range, trial: Trial, axis: int) -> float:
    """Height on an axis; choices and whole numbers are spread a little, so that lines stay visible."""
    place = searched.position(trial.config.get(searched.name))
    if place is None:
        return -0.07  # not active in this trial
    if not searched.choices and not searched.whole:
        return place
    spread = ((trial.number * 0.618034 + axis * 0.37) % 1 - 0.5) * 0.05
    return min(max(0.03 + 0.94 * place + spread, 0.0), 1.0)


def _label_axes(
    axes: Axes,
    ranges: Sequence[Range],
    names: Sequence[str],
    ends: tuple[float, float],
    facts: Facts,
    ink: Ink,
) -> None:
    halo = {"facecolor": ink.paper, "edgecolor": "none", "alpha": 0.75, "pad": 1.0}
    for i, one in enumerate(ranges):
        for height, label in _ticks(one):
            axes.text(i, height, label, ha="center", va="center", fontsize=8, color=ink.ink, bbox=halo)
    places = decimals(*ends, sum(ends) / 2)
    for height, value in ((0.0, ends[0]), (0.5, sum(ends) / 2), (1.0, ends[1])):
        axes.text(
            len(names) + 0.04, height, fixed(value, places), ha="left", va="center", fontsize=8, color=ink.ink
        )
    axes.set_xticks(
        range(len(names) + 1), [*(cut(n, 16) for n in names), cut(metric_words(facts.metric), 18)]
    )
    axes.tick_params(axis="x", length=0, labelcolor=ink.ink, labeltop=True, labelbottom=False)
    axes.set_yticks([])
    axes.grid(axis="x", color=ink.line, linewidth=1.2)
    axes.set_xlim(-0.35, len(names) + 0.45)
    axes.set_ylim(-0.12, 1.06)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _ticks(searched: Range) -> list[tuple[float, str]]:
    """Heights and labels of a few values on an axis."""
    if searched.choices:
        last = max(len(searched.choices) - 1, 1)
        step = -(-len(searched.choices) // 8)
        return [
            (0.03 + 0.94 * i / last, cut(short(c), 14))
            for i, c in enumerate(searched.choices)
            if i % step == 0
        ]
    assert searched.low is not None and searched.high is not None  # a searched range has ends
    low, high = searched.low, searched.high
    middle = math.sqrt(low * high) if searched.log and low > 0 else (low + high) / 2
    if not searched.whole:
        return [(0.0, short(low)), (0.5, f"{middle:.2g}".replace("e-0", "e-")), (1.0, short(high))]
    values = range(int(low), int(high) + 1) if high - low <= 6 else (int(low), round(middle), int(high))
    return [(0.03 + 0.94 * (searched.position(v) or 0.0), str(v)) for v in values]


def importance_bars(found: Importance) -> Callable[[Facts, Ink], Figure | None]:
    """A drawing of the importances."""

    def drawing(facts: Facts, ink: Ink) -> Figure | None:
        if not found.names:
            return None
        count = min(len(found.names), 12)
        figure, (axes,) = sheet(720, 62 + 24 * count)
        y = range(count - 1, -1, -1)
        axes.barh(y, [max(v, 0.0) for v in found.share[:count]], height=0.6, color=ink.tuned, alpha=0.8)
        axes.errorbar(
            found.share[:count],
            list(y),
            xerr=found.spread[:count],
            fmt="none",
            ecolor=ink.ink,
            elinewidth=1,
        )
        axes.set_yticks(y, [cut(n, 24) for n in found.names[:count]])
        axes.tick_params(axis="y", length=0, labelcolor=ink.ink)
        axes.grid(axis="y", visible=False)
        axes.axvline(0, color=ink.muted, linewidth=1)
        axes.set_xlabel("share of the variance in rank (total effect)")
        return figure

    return drawing


def slices(names: Sequence[str]) -> Callable[[Facts, Ink], Figure | None]:
    """A drawing of the objective against each of two hyperparameters."""

    def drawing(facts: Facts, ink: Ink) -> Figure | None:
        chosen = [n for n in names if n in facts.wide_ranges][:2]
        if not chosen or len(facts.complete) < 2:
            return None
        figure, axes = sheet(WIDTH if len(chosen) > 1 else 720, 310, len(chosen), sharey=True)
        values = [t.value for t in facts.complete if t.value is not None]
        known = [
            t.value for t in (facts.default, facts.winning_trial) if t is not None and t.value is not None
        ]
        ends = robust_limits(values, known)
        for panel, name in zip(axes, chosen, strict=True):
            _slice(panel, facts, name, ends, ink)
        axes[0].set_ylim(*ends)
        axes[0].set_title(f"{metric_words(facts.metric)} on the validation rows")
        axes[-1].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, borderaxespad=0.2)
        return figure

    return drawing


def _slice(panel: Axes, facts: Facts, name: str, ends: tuple[float, float], ink: Ink) -> None:
    searched = _shown(facts, name, [t for t in facts.trials if t.value is not None])
    pruned = [t for t in facts.trials if t.state == "pruned"]
    named = [t for t in (facts.default,) if t is not None]
    winner = [t for t in (facts.winning_trial,) if t is not None and facts.winner != "default"]
    edge = {"markeredgecolor": ink.paper}
    looks: tuple[tuple[str, str, Sequence[Trial], dict[str, Any]], ...] = (
        ("pruned", "o", pruned, {"color": ink.base, "markersize": 4, "fillstyle": "none", "alpha": 0.5}),
        ("complete", "o", facts.complete, {"color": ink.tuned, "alpha": 0.6, "markeredgewidth": 0}),
        ("default", "D", named, {"color": ink.other, "markersize": 7, **edge}),
        ("winner", "*", winner, {"color": ink.ink, "markersize": 13, **edge}),
    )
    for label, marker, trials, look in looks:
        points = [
            (x, t.value) for t in trials if t.value is not None and (x := _across(searched, t)) is not None
        ]
        if points:
            xs, ys = [x for x, _ in points], [min(max(y, ends[0]), ends[1]) for _, y in points]
            look = {"markersize": 4.5, **look}
            panel.plot(xs, ys, marker, label=label, clip_on=False, in_layout=False, **look)
    if searched.choices:
        panel.set_xticks(range(len(searched.choices)), [cut(short(c), 14) for c in searched.choices])
    elif searched.log:
        panel.set_xscale("log")
        log_axis(panel.xaxis)
    panel.set_xlabel(cut(name, 30))


def _across(searched: Range, trial: Trial) -> float | None:
    """Where a trial stands on a slice's axis; choices are spread a little. None where it has no place."""
    value = trial.config.get(searched.name)
    if not searched.choices:
        return finite(value)
    place = searched.position(value)
    spread = ((trial.number * 0.618034) % 1 - 0.5) * 0.25
    return None if place is None else place * (len(searched.choices) - 1) + spread
