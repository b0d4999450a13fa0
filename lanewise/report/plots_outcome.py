"""Pictures of what came out: differences, scores by fold, learning curves, confusion, residuals.

Each is a drawing for `canvas.py`: facts and ink in, a figure out, None where there is nothing to draw.
They compute nothing that is printed as a number elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lanewise.intervals import Interval
from lanewise.report.canvas import Ink, robust_limits, sheet
from lanewise.report.facts import Facts
from lanewise.report.parts import Candidate, Trial
from lanewise.report.wording import MINUS, candidate_words, cut, decimals, finite, fixed, metric_words, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 950  # CSS pixels of a full-width picture
MOST_SHARES = 8  # classes up to which a confusion matrix shows shares beside the counts
MOST_NUMBERED = 16  # classes up to which a confusion matrix shows its counts
_BESIDE: Any = ("axes fraction", "data")  # a place across the axes, at the height of a row
MOST_NAMED = 40  # classes up to which it names them


def differences(facts: Facts, ink: Ink) -> Figure | None:
    """The three differences with their intervals around zero."""
    rows: list[tuple[str, Interval]] = []
    if facts.winner != "default":
        rows.append((f"winner {MINUS} default,\nsealed rows", facts.sealed_difference))
        rows.append((f"winner {MINUS} default,\nfolds", facts.over_default))
    baseline = facts.best_baseline
    if baseline is not None:
        rows.append((f"winner {MINUS} {candidate_words(baseline.name)},\nfolds", facts.over_baseline))
    rows = [(label, found) for label, found in rows if found.estimate is not None]
    if not rows:
        return None
    figure, (axes,) = sheet(WIDTH, 62 + 46 * len(rows))
    for i, (_, found) in enumerate(rows):
        _whisker(axes, len(rows) - 1 - i, found, facts.sign, ink)
    axes.axvline(0, color=ink.muted, linewidth=1)
    axes.set_yticks(range(len(rows)), [label for label, _ in reversed(rows)])
    axes.tick_params(axis="y", length=0, labelcolor=ink.ink)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.12)
    low, high = axes.get_xlim()
    reach = 0.06 * (high - low)
    axes.set_xlim(min(low, -reach), max(high, reach))
    better = "winner better →" if facts.sign > 0 else "← winner better"
    axes.set_xlabel(f"difference in {_unit(facts)}    ({better})")
    return figure


def _whisker(axes: Axes, y: int, found: Interval, sign: int, ink: Ink) -> None:
    from lanewise.report.verdict import side

    assert found.estimate is not None  # rows without one were left out
    colour = {1: ink.good, 0: ink.muted, -1: ink.bad}[side(found, sign)]
    places = decimals(found.low, found.high, found.estimate)
    label = signed(found.estimate, places)
    if found.low is not None and found.high is not None:
        axes.plot([found.low, found.high], [y, y], color=colour, linewidth=2.4)
        label += f"   ({signed(found.low, places)} to {signed(found.high, places)})"
    axes.plot([found.estimate], [y], "o", color=colour, markersize=7)
    axes.annotate(
        label,
        (found.estimate, y),
        (0, 7),
        textcoords="offset points",
        ha="center",
        va="bottom",
        color=ink.ink,
        fontsize=8.5,
    )


def folds(facts: Facts, ink: Ink) -> Figure | None:
    """Every candidate's objective: one dot per fold, a bar at the mean; the best at the top."""
    known = [(c, mean) for c in facts.candidates if (mean := c.mean) is not None]
    if not known:
        return None
    known.sort(key=lambda pair: facts.sign * pair[1])
    figure, (axes,) = sheet(WIDTH, 70 + 27 * len(known))
    places = decimals(None, None, *(mean for _, mean in known))
    low, high = _fold_limits([c for c, _ in known])
    for y, (candidate, mean) in enumerate(known):
        plain = ink.other if candidate.kind == "default" else ink.base
        colour = ink.tuned if candidate.name == facts.winner else plain
        values = [v for v in candidate.values if v is not None and low <= v <= high]
        axes.plot(values, [y] * len(values), "o", color=colour, markersize=4.5, alpha=0.4, markeredgewidth=0)
        if low <= mean <= high:
            axes.plot([mean], [y], "|", color=colour, markersize=16, markeredgewidth=2.6)
        else:
            place, text = (0.0, " ← beyond the axis") if mean < low else (1.0, "beyond the axis → ")
            side: Any = {"ha": "left" if mean < low else "right", "color": ink.muted}
            axes.annotate(text, (place, y), xycoords=_BESIDE, va="center", fontsize=8.5, **side)
        axes.annotate(
            fixed(mean, places), (1.01, y), xycoords=_BESIDE, va="center", color=ink.ink, fontsize=8.5
        )
    axes.set_xlim(low, high)
    names = [_label(facts, candidate.name) for candidate, _ in known]
    axes.set_yticks(range(len(known)), names)
    axes.tick_params(axis="y", length=0, labelcolor=ink.ink)
    axes.set_ylim(-0.6, len(known) - 0.4)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(f"{_unit(facts)} in each fold    ({_better(facts)})")
    return figure


def _fold_limits(candidates: Sequence[Candidate]) -> tuple[float, float]:
    """Ends of the axis: all folds of all candidates, without the dummy where it would squeeze the others."""
    others = [v for c in candidates if c.name != "dummy" for v in c.values if v is not None]
    dummy = [v for c in candidates if c.name == "dummy" for v in c.values if v is not None]
    if not others:
        others = dummy
    low, high = min(others), max(others)
    reach = 1.5 * (high - low)
    if dummy and (low - reach <= min(dummy) and max(dummy) <= high + reach):
        low, high = min(low, *dummy), max(high, *dummy)
    margin = 0.04 * (high - low) or 0.02 * abs(high) or 0.5
    return low - margin, high + margin


def _label(facts: Facts, name: str) -> str:
    words = candidate_words(name)
    return f"{words} (winner)" if name == facts.winner else words


def learning(facts: Facts, ink: Ink) -> Figure | None:
    """Training loss and objective by epoch, winner and default."""
    lines: list[tuple[Trial, str, str]] = []
    if facts.winning_trial is not None and facts.winning_trial.number != 0:
        trial = facts.winning_trial
        lines.append((trial, f"winner (trial {trial.number})", ink.tuned))
    if facts.default is not None:
        label = "default (trial 0)" if lines else "default (trial 0, winner)"
        lines.append((facts.default, label, ink.other if lines else ink.tuned))
    lines = [line for line in lines if line[0].curve]
    if not lines:
        return None
    from matplotlib.ticker import MaxNLocator

    figure, axes = sheet(WIDTH, 290, 2)
    objective = f"valid/{facts.metric}"
    for panel, key in zip(axes, ("train/loss", objective), strict=True):
        every = [v for trial, _, _ in lines for v in trial.course(key) if v is not None]
        for trial, label, colour in lines:
            values = [float("nan") if v is None else v for v in trial.course(key)]
            epochs = range(1, len(values) + 1)
            marker = "o" if len(values) == 1 else None
            panel.plot(epochs, values, color=colour, linewidth=1.7, label=label, marker=marker)
            best = trial.best_epoch
            if key == objective and best is not None and 0 < best <= len(values):
                panel.plot(
                    [best], [values[best - 1]], "o", color=colour, markersize=6, markeredgecolor=ink.paper
                )
        if every:
            panel.set_ylim(*robust_limits(every))
        panel.set_xlabel("epoch")
        panel.set_xlim(left=1)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes[0].set_title("loss on the training rows")
    axes[1].set_title(f"{_unit(facts)} on the validation rows    ({_better(facts)})")
    axes[0].legend(loc="upper right")
    return figure


def confusion(facts: Facts, ink: Ink) -> Figure | None:
    """Confusion matrix of the sealed rows: counts, coloured by the share of the true class."""
    rows = facts.confusion
    size = len(rows)
    if size == 0:
        return None
    names = (
        [cut(n, 18) for n in facts.classes] if len(facts.classes) == size else [str(i) for i in range(size)]
    )
    side = min(560, max(240, 52 * size)) if size <= MOST_NUMBERED else 620
    figure, (axes,) = sheet(side + 130, side + 70)
    for i, row in enumerate(rows):
        total = sum(row) or 1
        for j, count in enumerate(row):
            share = count / total
            if count:
                colour = ink.tuned if i == j else ink.bad
                axes.fill(
                    [j - 0.48, j + 0.48, j + 0.48, j - 0.48],
                    [i - 0.48, i - 0.48, i + 0.48, i + 0.48],
                    color=colour,
                    alpha=0.15 + 0.75 * share,
                    linewidth=0,
                )
            if size <= MOST_NUMBERED:
                text = ink.paper if share > 0.55 else ink.ink if count else ink.muted
                label = f"{count}\n{100 * share:.0f} %" if count and size <= MOST_SHARES else str(count)
                axes.text(j, i, label, ha="center", va="center", color=text, fontsize=9, linespacing=1.3)
    step = 1 if size <= MOST_NAMED else -(-size // MOST_NAMED)
    ticks = range(0, size, step)
    long = max(len(n) for n in names) * min(size, MOST_NAMED) > 70
    axes.set_xticks(ticks, names[::step], rotation=90 if long else 0)
    axes.set_yticks(ticks, names[::step])
    axes.set_xlim(-0.5, size - 0.5)
    axes.set_ylim(size - 0.5, -0.5)
    axes.set_aspect("equal")
    axes.grid(visible=False)
    axes.tick_params(length=0, labelcolor=ink.ink)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    return figure


def residuals(facts: Facts, ink: Ink) -> Figure | None:
    """Predicted against actual, and the residuals' distribution."""
    pairs = [
        (a, p)
        for row in facts.test.get("residuals") or []
        if isinstance(row, list)
        and len(row) == 2
        and (a := finite(row[0])) is not None
        and (p := finite(row[1])) is not None
    ]
    if not pairs:
        return None
    actual, found = [a for a, _ in pairs], [p for _, p in pairs]
    figure, axes = sheet(WIDTH, 330, 2)
    target = cut(facts.target, 30) or "target"
    low, high = robust_limits(actual, [min(actual), max(actual)])
    axes[0].plot([low, high], [low, high], color=ink.muted, linewidth=1, linestyle="--")
    axes[0].plot(actual, found, "o", color=ink.tuned, markersize=4, alpha=0.4, markeredgewidth=0)
    axes[0].set_xlim(low, high)
    axes[0].set_ylim(*robust_limits(found, [low, high]))
    axes[0].set_xlabel(f"actual {target}")
    axes[0].set_title(f"predicted {target}")
    misses = [p - a for a, p in pairs]
    axes[1].hist(
        misses,
        bins=min(40, max(8, len(misses) // 12)),
        color=ink.tuned,
        alpha=0.75,
        range=robust_limits(misses),
    )
    axes[1].axvline(0, color=ink.muted, linewidth=1)
    axes[1].set_xlabel(f"predicted {MINUS} actual {target}")
    axes[1].set_title("rows")
    return figure


def _unit(facts: Facts) -> str:
    """The metric, and for an error in the target's unit the target."""
    words = metric_words(facts.metric)
    return (
        f"{words} (unit of {cut(facts.target, 24)})"
        if facts.metric in ("rmse", "mae") and facts.target
        else words
    )


def _better(facts: Facts) -> str:
    return "higher is better" if facts.sign > 0 else "lower is better"
