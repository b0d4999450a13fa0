"""The part of the report about the winner: configuration, learning curves, errors, and the bias of selection.

Fills `document.py` from the facts.
"""

from __future__ import annotations

from typing import Any

from lanewise.report import plots_outcome
from lanewise.report.document import Block, Section, Table, Text, section, table
from lanewise.report.edges import edges
from lanewise.report.facts import Facts
from lanewise.report.parts import Range
from lanewise.report.pictures import picture
from lanewise.report.wording import (
    NOTHING,
    counted,
    decimals,
    finite,
    fixed,
    joined,
    metric_words,
    percent,
    short,
    the,
    thousands,
)

MOST_CONFUSED = 5


def winner(facts: Facts) -> Section | None:
    """The winning configuration beside the default, and both learning curves."""
    if not facts.winning_config:
        return None
    lines = "winner and default" if facts.winner != "default" else "the default"
    curves = picture("learning", plots_outcome.learning, facts, lines=lines)
    return section("winner", "The winning configuration", [_configuration(facts), _fixed(facts), curves])


def errors(facts: Facts) -> Section | None:
    """Where the winner errs on the sealed rows."""
    rows = thousands(finite(facts.test.get("n")))
    blocks = [
        picture("confusion", plots_outcome.confusion, facts, rows=rows),
        _per_class(facts),
        _confused(facts),
        picture("residuals", plots_outcome.residuals, facts),
    ]
    return section("errors", "Where it errs", blocks)


def selection(facts: Facts) -> Section | None:
    """How far the search's own score flattered its choice."""
    record = facts.evaluation.get("overtuning") or {}
    seen, checked, gap = (finite(record.get(key)) for key in ("selection", "cross_validated", "gap"))
    if seen is None or checked is None or gap is None:
        return None
    places = decimals(None, None, seen, checked)
    trial = str(record.get("trial") or "")
    texts = [
        f"The search would have chosen {the(trial)}: {metric_words(facts.metric)} {fixed(seen, places)} on "
        + f"the rows that selected it, {fixed(checked, places)} in cross-validation. The first looks "
        + f"{fixed(abs(gap), places)} {'better' if gap > 0 else 'worse'}."
    ]
    own = finite(record.get("default_gap"))
    if own is not None and gap > 0 and trial != "default":
        texts.append(
            f"The default, which nobody selected, looks {fixed(abs(own), places)} "
            + f"{'better' if own > 0 else 'worse'} there. What is between the two is what selection adds."
        )
    lost, relative = finite(record.get("overtuning")), finite(record.get("relative"))
    if lost is not None and round(lost, places) > 0:
        share = "" if relative is None else f", {percent(relative)} of what tuning gains over the default"
        texts.append(
            "Overtuning: by cross-validation another finalist is better than the search's choice by "
            + f"{fixed(lost, places)}{share}."
        )
    elif lost is not None and facts.winner != "default":
        texts.append("No overtuning among the finalists: cross-validation confirms the search's choice.")
    blocks: list[Block | None] = [Text(text) for text in texts]
    return section("selection", "Selection bias", blocks)


def _configuration(facts: Facts) -> Table | None:
    default = facts.default.config if facts.default else {}
    at_edge = {edge.name: edge for edge in edges(facts)}
    names = [n for n in facts.wide_ranges if n in facts.winning_config]
    rows = [
        [
            name,
            short(facts.winning_config[name]),
            short(default.get(name)),
            _range_words(facts, name),
            at_edge[name].words if name in at_edge else "",
        ]
        for name in names
    ]
    header = ["hyperparameter", "winner", "default", "searched", "note"]
    caption = f"What was searched, and the values of {the(facts.winner)}, which goes on."
    if facts.winner == "default":  # no edges, and its own values stand in the first column
        return table(
            ["hyperparameter", "default", "searched"], [[r[0], r[1], r[3]] for r in rows], caption, wordy=[2]
        )
    if not at_edge:
        rows, header = [r[:4] for r in rows], header[:4]
    marked = [i for i, name in enumerate(names) if name in at_edge]
    return table(header, rows, caption, marked=marked, wordy=[3, 4])


def _fixed(facts: Facts) -> Table | None:
    rest = [n for n in facts.winning_config if n not in facts.wide_ranges]
    rows = [[name, short(facts.winning_config[name])] for name in rest]
    return table(
        ["hyperparameter", "value"],
        rows,
        f"{counted(len(rest), 'hyperparameter')} that the study did not search.",
        wordy=[1],
        folded=True,
    )


def _range_words(facts: Facts, name: str) -> str:
    one = facts.ranges.get(name)
    if one is None:
        return "fixed" if name not in facts.wide_ranges else "fixed by the range test"
    words = range_words(one)
    wide = facts.wide_ranges.get(name)
    return words if wide is None or wide == one else f"{words} (narrowed from {range_words(wide)})"


def range_words(one: Range) -> str:
    """A range as printed: "1e-5 to 0.1, log"."""
    if one.choices:
        return joined([short(c) for c in one.choices]).replace(" and ", " or ")
    return f"{short(_whole(one, one.low))} to {short(_whole(one, one.high))}{', log' if one.log else ''}"


def _whole(one: Range, value: float | None) -> Any:
    return int(value) if one.whole and value is not None else value


def _per_class(facts: Facts) -> Table | None:
    rows = facts.confusion
    if len(rows) < 2 or len(rows) != len(facts.classes):
        return None
    cells = []
    for i, name in enumerate(facts.classes):
        true, found = sum(rows[i]), sum(row[i] for row in rows)
        recall = percent(rows[i][i] / true) if true else NOTHING
        precision = percent(rows[i][i] / found) if found else NOTHING
        cells.append([name, thousands(true), recall, thousands(found), precision])
    return table(
        ["class", "rows", "found of them (recall)", "predicted", "right of them (precision)"],
        cells,
        "By class, on the sealed rows.",
        folded=len(cells) > 12,
    )


def _confused(facts: Facts) -> Table | None:
    rows = facts.confusion
    if len(rows) <= 4 or len(rows) != len(facts.classes):
        return None
    pairs = [(n, i, j) for i, row in enumerate(rows) for j, n in enumerate(row) if i != j and n]
    pairs.sort(key=lambda p: (-p[0], p[1], p[2]))
    return table(
        ["true class", "taken for", "rows", "of the true class"],
        [
            [facts.classes[i], facts.classes[j], thousands(n), percent(n / sum(rows[i]))]
            for n, i, j in pairs[:MOST_CONFUSED]
        ],
        "The most frequent confusions.",
        wordy=[1],
    )
