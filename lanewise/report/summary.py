"""The report in a dozen lines of plain text: what the terminal prints when a run ends.

Fed by the facts. ASCII but for what the user named himself; no colour, no width it depends on.
"""

from __future__ import annotations

import textwrap

from lanewise.report import front, pruner
from lanewise.report.course import spent_words, state_counts
from lanewise.report.edges import edges
from lanewise.report.facts import Facts
from lanewise.report.origin import address
from lanewise.report.verdict import verdict
from lanewise.report.wording import (
    GAP,
    MINUS,
    NOTHING,
    candidate_words,
    counted,
    cut,
    decimals,
    fixed,
    metric_words,
    seconds,
    signed,
)

WIDTH = 96


def summary(facts: Facts) -> str:
    """Verdict, scores, registration, cost and where to look next."""
    found = verdict(facts)
    lines = [*_wrapped(found.sentence), *(line for aside in found.asides for line in _wrapped(aside))]
    rows = [*_scores(facts), ("registered", found.registration), ("trials", _trials(facts))]
    rows += [*_front(facts), ("pruner", pruner.words(facts)), *_next(facts)]
    rows += [(cut(label, 14), address) for label, address in facts.links.items()]
    there = [(label, text) for label, text in rows if text]
    if there:
        lines.append("")
    for label, text in there:
        first, *rest = textwrap.wrap(text, WIDTH - 16, break_long_words=False, break_on_hyphens=False) or [""]
        lines += [f"  {label:<14}{first}", *(f"{'':16}{line}" for line in rest)]
    return _ascii("\n".join(lines))


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _scores(facts: Facts) -> list[tuple[str, str]]:
    metric = metric_words(facts.metric)
    rows = []
    tuned, default, lead = facts.sealed("scores"), facts.sealed("default_scores"), facts.sealed_difference
    if tuned.estimate is not None:
        judged = tuned if facts.winner == "default" else lead
        places = decimals(judged.low, judged.high, tuned.estimate, default.estimate)
        text = f"{metric} {fixed(tuned.estimate, places)} on {counted(int(facts.test.get('n') or 0), 'row')}"
        if tuned.low is not None:
            text += f" ({fixed(tuned.low, places)} to {fixed(tuned.high, places)})"
        if facts.winner != "default":
            text += f"; default {fixed(default.estimate, places)}"
        rows.append(("sealed test", text))
    known = [(c, m) for c in facts.candidates if (m := c.mean) is not None]
    if known:
        wanted = [facts.winner, "default", facts.best_baseline.name if facts.best_baseline else ""]
        shown = sorted((p for p in known if p[0].name in wanted), key=lambda p: -facts.sign * p[1])
        places = decimals(None, None, *(m for _, m in shown))
        parts = ", ".join(f"{candidate_words(c.name)} {fixed(m, places)}" for c, m in shown)
        rows.append(("folds", f"{parts} (mean of {len(known[0][0].values)})"))
    over = facts.over_baseline
    if facts.best_baseline is not None and over.low is not None:
        places = decimals(over.low, over.high, over.estimate)
        ends = f"{signed(over.low, places)} to {signed(over.high, places)}"
        rows.append(
            (
                "baseline",
                f"{signed(over.estimate, places)} over {candidate_words(facts.best_baseline.name)} ({ends})",
            )
        )
    return rows


def _trials(facts: Facts) -> str:
    if not facts.trials:
        return ""
    parts = [f"{len(facts.trials)}: {state_counts(facts)}", spent_words(facts)]
    total = sum(facts.timings.values())
    parts.append(seconds(total) if total else "")
    return "; ".join(p for p in parts if p)


def _front(facts: Facts) -> list[tuple[str, str]]:
    return [("front", front.words(facts).removeprefix("Pareto front: "))] if facts.front else []


def _next(facts: Facts) -> list[tuple[str, str]]:
    """What to look at, and how to use the model."""
    rows = [("look at", edge.advice) for edge in edges(facts)]
    warnings = len(facts.dataset.get("warnings") or []) + len(facts.evaluation.get("warnings") or [])
    if warnings:
        rows.append(("look at", f"{counted(warnings, 'warning')} in the report"))
    if where := address(facts):
        rows.append(("use it", f'lanewise.load("{where}").predict(frame)'))
    return rows


def _ascii(text: str) -> str:
    """The signs the report's own words use, in ASCII; terminals of some systems have no others."""
    for sign, plain in ((NOTHING, "-"), (GAP, " "), (MINUS, "-"), ("²", "2"), ("…", "...")):
        text = text.replace(sign, plain)
    return text
