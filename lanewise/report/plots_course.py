"""Pictures of how it came about: range test and best so far.

Each is a drawing for `canvas.py`: facts and ink in, a figure out, None where there is nothing to draw.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lanewise.report.canvas import Ink, log_axis, robust_limits, sheet
from lanewise.report.facts import Facts
from lanewise.report.parts import Ramp
from lanewise.report.plots_outcome import WIDTH
from lanewise.report.wording import cut, metric_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_RAMPS = 4


def lr_range(facts: Facts, ink: Ink) -> Figure | None:
    """Loss against learning rate: median and quartiles of the repeats, usable interval shaded."""
    ramps = facts.ramps[:MOST_RAMPS]
    if not ramps:
        return None
    figure, axes = sheet(WIDTH if len(ramps) > 1 else 720, 300, len(ramps), sharey=True)
    for panel, ramp in zip(axes, ramps, strict=True):
        _ramp(panel, ramp, ink)
        panel.set_title(cut(ramp.name, 20))
        panel.set_xlabel("learning rate")
    axes[0].set_ylabel("training loss, smoothed")
    known = [[v for v in ramp.median if not math.isnan(v)] for ramp in ramps]
    starts, bottoms = [m[0] for m in known if m], [min(m) for m in known if m]
    if starts:  # where training blows up the loss has no useful scale
        start, bottom = max(starts), min(bottoms)
        reach = max(start - bottom, 0.02 * abs(start), 1e-9)
        axes[0].set_ylim(bottom - 0.15 * reach, start + 0.6 * reach)
    return figure


def _ramp(panel: Axes, ramp: Ramp, ink: Ink) -> None:
    if ramp.interval is not None:
        panel.axvspan(*ramp.interval, color=ink.good, alpha=0.16, linewidth=0)
        for end in ramp.interval:
            panel.axvline(end, color=ink.good, linewidth=1)
    panel.fill_between(ramp.rates, ramp.low, ramp.high, color=ink.tuned, alpha=0.22, linewidth=0)
    panel.plot(ramp.rates, ramp.median, color=ink.tuned, linewidth=1.8)
    panel.set_xscale("log")
    log_axis(panel.xaxis)
    if ramp.rates[0] < ramp.rates[-1]:
        panel.set_xlim(ramp.rates[0], ramp.rates[-1])


def best_so_far(facts: Facts, ink: Ink) -> Figure | None:
    """The best complete trial so far against the epochs spent."""
    if len(facts.complete) < 2:
        return None
    spent, points, steps = 0, [], []
    best: float | None = None
    for trial in facts.trials:
        spent += trial.epochs
        if trial.state != "complete" or trial.value is None:
            continue
        points.append((spent, trial.value))
        if best is None or facts.sign * trial.value > facts.sign * best:
            best = trial.value
            steps.append((spent, best))
    figure, (axes,) = sheet(WIDTH, 280)
    low, high = robust_limits([v for _, v in points], [v for _, v in steps])
    shown = [(x, min(max(v, low), high)) for x, v in points]
    axes.plot(
        *zip(*shown, strict=True),
        "o",
        clip_on=False,
        in_layout=False,
        color=ink.base,
        markersize=4,
        alpha=0.5,
        markeredgewidth=0,
        label="complete trial",
    )
    ends = [*steps, (max(spent, steps[-1][0]), steps[-1][1])]
    axes.step(*zip(*ends, strict=True), where="post", color=ink.tuned, linewidth=2, label="best so far")
    if facts.default is not None and facts.default.value is not None:
        axes.axhline(facts.default.value, color=ink.other, linewidth=1.2, linestyle="--", label="default")
    axes.set_ylim(low, high)
    axes.set_xlim(0, max(spent * 1.02, 1))
    axes.set_xlabel("epochs spent, summed over all trials in the order they were asked")
    axes.set_title(f"{metric_words(facts.metric)} on the validation rows")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0.2)
    return figure
