"""The page of a comparison of search strategies: which one to use on this study, and how sure that is.

Filled from `lanewise.comparison`; written out by `page.py` and `markdown.py` as the report of a run is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from lanewise.comparison import Comparison, Cost, Standing
from lanewise.report import canvas
from lanewise.report.canvas import Ink, robust_limits, sheet
from lanewise.report.captions import caption
from lanewise.report.document import Block, Code, Document, Notes, Picture, section, table
from lanewise.report.plots_outcome import WIDTH
from lanewise.report.wording import (
    NOTHING,
    counted,
    date_words,
    decimals,
    fixed,
    metric_words,
    percent,
    seconds,
    thousands,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("tuned", "other", "good", "bad", "ink", "base")
DASHES = ("-", "--", ":")
COSTS: tuple[Cost, ...] = ("epochs", "seconds")


def to_document(found: Comparison, date: str, link: str | None) -> Document:
    """The comparison as a page.

    Args:
        found: The comparison.
        date: For people.
        link: Where MLflow shows the searches side by side, or how to get there.
    """
    blocks: list[Block | None] = [
        *(_picture(f"by-{cost}", "strategies", partial(_courses, cost=cost), found, cost=cost) for cost in COSTS),
        _picture("finals", "finals", _finals, found),
    ]
    sections = (
        section("table", "Strategies", [_standings(found), _speed(found)]),
        section("courses", "How they got there", blocks),
        section("mind", "What to keep in mind", [_notes(found)]),
        section("runs", "The searches", [_runs(found), None if link is None else Code(link)]),
    )
    return Document(
        name=found.study,
        date=date_words(date),
        tone=_tone(found),
        sentence=_sentence(found),
        registration="",
        asides=(_aside(found),),
        cards=(),
        sections=tuple(s for s in sections if s is not None),
    )


def words(found: Comparison) -> str:
    """The finding and the table, as plain text for a terminal."""
    places = _places(found)
    width = max(len(s.strategy) for s in found.standings)
    lines = [_sentence(found), ""]
    for standing in found.standings:
        value = f"{fixed(standing.mean, places)}  mean rank {standing.rank:.1f}"
        lines.append(f"  {standing.strategy:{width}}  {value}{_difference(standing, places, '  ')}")
    return "\n".join(lines)


def _places(found: Comparison) -> int:
    return decimals(None, None, *(s.mean for s in found.standings))


def _decided(found: Comparison) -> list[Standing]:
    """The strategies that are worse than the first beyond their interval."""
    return [
        s
        for s in found.standings[1:]
        if s.difference is not None
        and s.difference.low is not None
        and s.difference.high is not None
        and (s.difference.high < 0 if found.sign > 0 else s.difference.low > 0)
    ]


def _tone(found: Comparison) -> str:
    return "good" if len(_decided(found)) == len(found.standings) - 1 else "warn"


def _sentence(found: Comparison) -> str:
    first, rest = found.standings[0], found.standings[1:]
    metric, places = metric_words(found.metric), _places(found)
    value = f"{metric} {fixed(first.mean, places)} on average over {counted(len(found.seeds), 'seed')}"
    if not rest:
        return f"Only {first.strategy} was tried: {value}"
    if all(a.final == b.final for s in rest for a, b in zip(s.courses, first.courses, strict=True)):
        return f"No difference between the strategies: {value}, the same by all with every seed"
    decided = _decided(found)
    if len(decided) == len(rest):
        return f"{first.strategy} found the best networks: {value}, better than every other beyond the intervals"
    open_ = [s.strategy for s in rest if s not in decided]
    return f"{first.strategy} leads, but is not shown to beat {', '.join(open_)}: {value}"


def _aside(found: Comparison) -> str:
    return (
        f"The same budget and rows for each, over {counted(len(found.seeds), 'seed')}; by the score on the validation "
        "rows, which is the one that a search chooses by."
    )


def _standings(found: Comparison) -> Block | None:
    places = _places(found)
    rows = [
        [
            s.strategy,
            f"{s.rank:.1f}",
            fixed(s.mean, places),
            _difference(s, places) or NOTHING,
            thousands(round(sum(c.epochs for c in s.courses) / len(s.courses))),
            seconds(sum(c.seconds for c in s.courses) / len(s.courses)),
        ]
        for s in found.standings
    ]
    header = ["strategy", "mean rank", metric_words(found.metric), "to the first, and interval", "epochs", "time"]
    confidence = [s.difference.confidence for s in found.standings if s.difference is not None]
    text = f" ({percent(confidence[0])} paired t interval)" if confidence else ""
    return table(header, rows, f"Means over the seeds; differences seed by seed{text}.", marked=[0])


def _difference(standing: Standing, places: int, lead: str = "") -> str:
    found = standing.difference
    if found is None or found.estimate is None:
        return ""
    if found.low is None or found.high is None:
        return f"{lead}{fixed(found.estimate, places)}, no interval: {found.method}"
    ends = f"{fixed(found.low, places)} to {fixed(found.high, places)}"
    return f"{lead}{fixed(found.estimate, places)} ({ends})"


def _speed(found: Comparison) -> Block | None:
    """When each strategy had reached what the last one ended with."""
    if len(found.standings) < 2:
        return None
    goal = found.standings[-1]
    rows = []
    for standing in found.standings:
        cells = [standing.strategy]
        for cost in COSTS:
            spent = [
                course.reached(cost, other.final, found.sign)
                for course, other in zip(standing.courses, goal.courses, strict=True)
            ]
            known = sorted(s for s in spent if s is not None)
            write = thousands if cost == "epochs" else seconds
            cells.append(write(known[(len(known) - 1) // 2]) if known else NOTHING)
            if cost == "epochs":
                cells.append(f"{len(known)} of {len(spent)}")
        rows.append(cells)
    text = f"When a strategy first had a network as good as the one {goal.strategy} ended with: median of the seeds."
    return table(["strategy", "epochs", "seeds that got there", "time"], rows, text)


def _notes(found: Comparison) -> Notes:
    optimistic = (
        "The values come from the rows by which a search chooses, so all are somewhat optimistic, and more so for who "
        "tries more. The winner of a study is checked by folds and a sealed test: run it."
    )
    items = [
        ("selection", optimistic),
        ("this study", "The answer holds for this study, its space and its budget; another one may differ."),
    ]
    if (seeds := len(found.seeds)) < 5:
        items.append(("few seeds", f"{counted(seeds, 'seed')} cannot show small differences; try 5 or more."))
    return Notes(tuple(items))


def _runs(found: Comparison) -> Block | None:
    places = decimals(None, None, *(c.final for s in found.standings for c in s.courses))
    rows = [
        [c.name, str(c.seed), fixed(c.final, places), thousands(c.trials), thousands(c.epochs), seconds(c.seconds)]
        for s in found.standings
        for c in s.courses
    ]
    header = ["study", "seed", metric_words(found.metric), "trials", "epochs", "time"]
    return table(header, rows, "Every search is a study of its own, with its runs in MLflow.", folded=True)


def _picture(
    name: str, key: str, drawing: Callable[[Comparison, Ink], Figure | None], found: Comparison, **fields: str
) -> Picture | None:
    alt, text = caption(key, seeds=counted(len(found.seeds), "seed"), **fields)
    svg = canvas.svg(name, drawing, found, alt)
    return None if svg is None else Picture(svg, text, alt)


def _courses(found: Comparison, ink: Ink, cost: Cost) -> Figure | None:
    figure, (axes,) = sheet(WIDTH, 320)
    medians: list[float] = []
    for place, standing in enumerate(found.standings):
        rows = found.curve(standing.strategy, cost)
        spent, median, low, high = zip(*rows, strict=True)
        colour = getattr(ink, COLOURS[place % len(COLOURS)])
        axes.fill_between(spent, low, high, step="post", color=colour, alpha=0.14, linewidth=0)
        axes.step(
            spent, median, where="post", color=colour, linewidth=1.8,
            linestyle=DASHES[place // len(COLOURS) % len(DASHES)], label=standing.strategy,
        )  # fmt: skip
        medians += [*median, *low, *high]
    axes.set_ylim(*robust_limits(medians))
    axes.set_xlim(left=0)
    axes.set_xlabel("epochs spent, summed over all trials" if cost == "epochs" else "seconds of search")
    axes.set_title(f"{metric_words(found.metric)} of the best complete trial")
    axes.legend(loc="lower right" if found.sign > 0 else "upper right", ncols=min(4, len(found.standings)))
    return figure


def _finals(found: Comparison, ink: Ink) -> Figure | None:
    count = len(found.standings)
    figure, (axes,) = sheet(WIDTH, 90 + 34 * count)
    places = _places(found)
    for seed in range(len(found.seeds)):
        values = [s.courses[seed].final for s in found.standings]
        axes.plot(values, range(count), color=ink.base, linewidth=0.7, alpha=0.6)
    for place, standing in enumerate(found.standings):
        colour = getattr(ink, COLOURS[place % len(COLOURS)])
        values = [c.final for c in standing.courses]
        axes.plot(values, [place] * len(values), "o", color=colour, markersize=5, alpha=0.55, markeredgewidth=0)
        axes.plot([standing.mean] * 2, [place - 0.28, place + 0.28], color=colour, linewidth=2.4)
        axes.annotate(
            fixed(standing.mean, places), (1.01, place), xycoords=("axes fraction", "data"), va="center", color=ink.ink,
        )  # fmt: skip
    axes.set_yticks(range(count), [s.strategy for s in found.standings])
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_xlabel(metric_words(found.metric))
    axes.grid(axis="y", visible=False)
    return figure
