"""The part of the report about how the result came about: range test, search, cost.

Fills `document.py` from the facts.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from lanewise.report import front, noise, plots_course, plots_grid, plots_space
from lanewise.report.document import Block, Section, Table, Text, section, table
from lanewise.report.facts import Facts
from lanewise.report.importance import Importance, importance
from lanewise.report.parts import Round, Trial
from lanewise.report.pictures import picture
from lanewise.report.winner import range_words
from lanewise.report.wording import (
    NOTHING,
    counted,
    decimals,
    finite,
    fixed,
    joined,
    metric_words,
    percent,
    seconds,
    short,
    thousands,
)

TOP = 10
STATES = ("complete", "pruned", "failed", "duplicate")


def lr_range(facts: Facts) -> Section | None:
    """The range test's curves, its suggestion, and what the control trials say of it."""
    rows = [[ramp.name, _ends(ramp.interval), ramp.reason] for ramp in facts.ramps]
    blocks = [
        picture("lr_range", plots_course.lr_range, facts),
        table(["optimizer", "usable rates", "why"], rows, wordy=[1, 2]),
        _control(facts),
    ]
    return section("lr-range", "Learning-rate range", blocks)


def search(facts: Facts) -> Section | None:
    """What the trials found: progress, parallel coordinates, importance, slices, the best."""
    if not facts.trials:
        return None
    found = importance(facts)
    order = [*found.names, *(n for n in facts.wide_ranges if n not in found.names)]
    inactive = any(name not in trial.config for trial in facts.complete for name in order)
    below = " A line below an axis: not active in that trial." if inactive else ""
    blocks = [
        picture("best_so_far", plots_course.best_so_far, facts),
        *front.blocks(facts),
        noise.floor(facts),
        _coverage(facts),
        picture("parallel", plots_space.parallel(order), facts, inactive=below),
        _rounds(facts),
        _importance(facts, found),
        picture("slices", plots_space.slices(order[:2]), facts, wrong="low" if facts.sign > 0 else "high"),
        _best_trials(facts),
    ]
    return section("search", "The search", blocks)


def cost(facts: Facts) -> Section | None:
    """Trials by state, epochs against a full search, seconds by stage, reasons of failure."""
    return section("cost", "What it cost", [_spent(facts), _stages(facts), _failures(facts)])


def state_counts(facts: Facts) -> str:
    """ "40 complete, 18 pruned and 2 failed"."""
    counts = Counter(t.state for t in facts.trials)
    return joined(f"{thousands(counts[s])} {s}" for s in STATES if counts[s])


def spent_words(facts: Facts) -> str:
    """Epochs trained against those of a search without pruning; empty without a search."""
    spent, full = finite(facts.search.get("epochs_spent")), finite(facts.search.get("epochs_full"))
    if spent is None:
        return ""
    if not full or full <= spent:
        return f"{thousands(spent)} epochs"
    beside = f"that the same trials take without pruning ({percent(spent / full)})"
    return f"{thousands(spent)} epochs of {thousands(full)} {beside}"


def _ends(interval: tuple[float, float] | None) -> str:
    return f"{short(interval[0])} to {short(interval[1])}" if interval else NOTHING


def _control(facts: Facts) -> Text | None:
    """What the trials that ignored the range test reached."""
    narrow, wide = facts.ranges.get("lr"), facts.wide_ranges.get("lr")
    if narrow is None or wide is None or narrow == wide:
        return None

    def inside(trial: Trial) -> bool:
        place = narrow.position(trial.config.get("lr"))
        return place is not None and -1e-9 <= place <= 1 + 1e-9

    outside = [t for t in facts.trials if t.control and not inside(t) and t.state != "duplicate"]
    if not outside:
        return None
    lead = f"Check: {counted(len(outside), 'control trial')} drew a rate outside the interval; "
    ended = [t.value for t in outside if t.state == "complete" and t.value is not None]
    best_inside = [t.value for t in facts.complete if inside(t) and t.number != 0 and t.value is not None]
    if not ended or not best_inside:
        return Text(
            lead + "none of them lasted to the end."
            if not ended
            else lead + "no other trial lasted to the end."
        )
    pick = max if facts.sign > 0 else min
    one, other = pick(ended), pick(best_inside)
    places = decimals(None, None, one, other)
    better = facts.sign * one > facts.sign * other
    judged = (
        "so the range test may have cut off good rates."
        if better
        else "so the interval lost nothing that was seen."
    )
    return Text(
        f"{lead}the best of them has {metric_words(facts.metric)} {fixed(one, places)}, the best inside it "
        f"{fixed(other, places)}, {judged}"
    )


def _coverage(facts: Facts) -> Block | None:
    """What became of every cell of a grid."""
    counts = Counter(str(cell.get("state")) for cell in facts.grid)
    words = joined(f"{thousands(counts[s])} {s}" for s in reversed(plots_grid.WORST_FIRST) if counts[s])
    *edges, most = plots_grid.edges_of(facts.grid)
    tile = f"up to {most} cells in the worst of their states" if most > 1 else "one cell"
    inactive = any(value is None for edge in edges for place in edge.places for value in place)
    dash = f" {NOTHING}: not active there." if inactive else ""
    whole = f"{thousands(len(facts.grid))} cells: {words}"
    return picture("coverage", plots_grid.coverage, facts, counts=whole, tile=tile, inactive=dash)


def _rounds(facts: Facts) -> Table | None:
    """What each round drew from, of a strategy that has several."""
    if len(facts.rounds) < 2:
        return None
    names = list(facts.wide_ranges)[:8]
    starts = [one.first for one in facts.rounds] + [len(facts.trials)]
    values = [
        [t.value for t in facts.complete if start <= t.number < end and t.value is not None]
        for start, end in pairwise(starts)
    ]
    best = [max(found, key=lambda v: facts.sign * v, default=None) for found in values]
    places = decimals(None, None, *best)
    rows = [
        [
            str(one.number),
            f"{start} to {end - 1}" if end - start > 1 else str(start),
            fixed(value, places),
            *(_drawn(one, name) for name in names),
        ]
        for one, value, (start, end) in zip(facts.rounds, best, pairwise(starts), strict=True)
    ]
    return table(
        ["round", "trials", f"best {metric_words(facts.metric)}", *names],
        rows,
        "What every round drew from: each learns from the best trials before it.",
        wordy=range(3, 3 + len(names)),
    )


def _drawn(one: Round, name: str) -> str:
    """The range of a hyperparameter in a round; of choices, how often each is drawn."""
    found = one.ranges.get(name)
    if found is None:
        return NOTHING
    if name in one.weights:
        shares = zip(found.choices, one.weights[name], strict=False)
        return ", ".join(f"{short(choice)} {percent(share)}" for choice, share in shares)
    return range_words(found).removesuffix(", log")


def _importance(facts: Facts, found: Importance) -> Block | None:
    if found.reason is not None:
        return (
            Text(f"Which hyperparameter mattered cannot be told: {found.reason}.") if facts.ranges else None
        )
    bars = plots_space.importance_bars(found)
    explained, trials = percent(found.explained), counted(found.trials, "trial")
    return picture("importance", bars, facts, explained=explained, trials=trials)


def _best_trials(facts: Facts) -> Table | None:
    if len(facts.complete) < 2:
        return None
    best = sorted(facts.complete, key=lambda t: (-facts.sign * (t.value or 0.0), t.number))[:TOP]
    names = list(facts.wide_ranges)[:8]
    places = decimals(None, None, *(t.value for t in best))
    rows = [
        [str(t.number), fixed(t.value, places), thousands(t.epochs), *(short(t.config.get(n)) for n in names)]
        for t in best
    ]
    marked = [i for i, t in enumerate(best) if t is facts.winning_trial]
    return table(
        ["trial", metric_words(facts.metric), "epochs", *names],
        rows,
        f"The best {len(best)} of {counted(len(facts.complete), 'complete trial')}, by the rows that select."
        + noise.tied(facts, len(best)),
        marked=marked,
        folded=True,
    )


def _spent(facts: Facts) -> Table | None:
    if not facts.trials:
        return None
    rows = [["trials", f"{counted(len(facts.trials), 'trial')}: {state_counts(facts)}"]]
    if words := spent_words(facts):
        rows.append(["epochs", words])
    lanes, strategy = facts.search.get("lanes"), facts.search.get("strategy")
    if lanes:
        rows.append(["lanes", f"at most {counted(int(lanes), 'trial')} side by side"])
    if strategy:
        chosen = facts.search.get("chosen")
        rows.append(["strategy", f"{strategy}, here {chosen}" if chosen else str(strategy)])
    if earlier := facts.search.get("earlier"):
        rows.append(["learnt from", f"{counted(int(earlier), 'trial')} of earlier studies"])
    if facts.search.get("ending"):
        rows.append(["ended because", str(facts.search["ending"])])
    return table([], rows, wordy=[1])


def _stages(facts: Facts) -> Table | None:
    total = sum(facts.timings.values())
    if not total:
        return None
    rows = [[stage.replace("_", " "), seconds(s), percent(s / total)] for stage, s in facts.timings.items()]
    rows.append(["all", seconds(total), ""])
    return table(["stage", "time", "share"], rows, "Wall-clock time by stage.", marked=[len(rows) - 1])


def _failures(facts: Facts) -> Table | None:
    reasons = Counter(t.reason or "no reason given" for t in facts.trials if t.state == "failed")
    rows = [[reason, thousands(count)] for reason, count in reasons.most_common(TOP)]
    return table(["why trials failed", "trials"], rows)
