"""The pruner audit in words: how often early stopping drops a good trial, how rungs rank, what stopping saved.

Fed by the facts; says nothing where the study asked for no audit. It estimates nothing itself: the search did.
"""

from __future__ import annotations

from lanewise.report.document import Block, Section, Table, Text, section, table
from lanewise.report.facts import Facts
from lanewise.report.parts import Json, dicts, mapping
from lanewise.report.wording import counted, decimals, finite, fixed, metric_words, percent, thousands


def audit(facts: Facts) -> Section | None:
    """What the trials say that went on in spite of the pruner."""
    found = mapping(facts.search.get("audit"))
    if not found:
        return None
    blocks: list[Block | None] = [_sample(found), _missed(facts, found), _best(facts), _rungs(found), _epochs(found)]
    return section("pruner", "Is the pruner right?", blocks)


def words(facts: Facts) -> str:
    """How many good trials the pruner dropped, in one line; empty without an audit."""
    found = mapping(facts.search.get("audit"))
    for first in dicts(found.get("missed"))[:1]:
        seen = f"{_whole(first, 'seen')} of {_whole(found, 'audited')} audited trials beat all that were never stopped"
        return f"{seen}: {_among(first, found)} dropped by {percent(finite(found.get('confidence')))} confidence"
    return ""


def _sample(found: Json) -> Text:
    dropped, audited, late = (_whole(found, key) for key in ("dropped", "audited", "late"))
    if not dropped:
        text = "The pruner stopped no trial, so there was none to audit."
    else:
        text = (
            f"Of {counted(dropped, 'trial')} that the pruner would stop, {thousands(audited)} were drawn at random "
            f"(share {percent(finite(found.get('share')))}) and trained on. The search was told that they stopped; "
            "their full trainings compete as any."
        )
    if late:
        text += (
            f" {counted(late, 'more trial')} that it would stop {'does' if late == 1 else 'do'} not count: the "
            "budget had no whole training left when they began."
        )
    return Text(text)


def _missed(facts: Facts, found: Json) -> Table | None:
    """How many dropped trials would have been among the best."""
    records = dicts(found.get("missed"))
    bars = [finite(one.get("bar")) for one in records]
    places = decimals(None, None, *bars)
    audited = _whole(found, "audited")
    rows = [
        [
            "the best" if _whole(one, "best") == 1 else f"among the best {_whole(one, 'best')}",
            f"{'above' if facts.sign > 0 else 'below'} {fixed(bar, places)}",
            f"{thousands(_whole(one, 'seen'))} of {thousands(audited)}",
            percent(_whole(one, "seen") / max(audited, 1)),
            _among(one, found),
        ]
        for one, bar in zip(records, bars, strict=True)
    ]
    return table(
        ["would have been", metric_words(facts.metric), "audited", "share", "of all dropped"],
        rows,
        "Dropped trials whose full training beats the best that were never dropped. The share is an unbiased "
        "estimate for all dropped trials; the last column is its exact interval, "
        f"{percent(finite(found.get('confidence')))} confidence.",
        wordy=[1],
    )


def _best(facts: Facts) -> Text | None:
    """That the search's best is one the pruner would have thrown away."""
    best = facts.best_trial
    if best is None or best.audited_from is None:
        return None
    return Text(
        f"The best trial of this search, trial {best.number}, is one of them: without the audit it would have been "
        f"stopped at epoch {best.audited_from}."
    )


def _rungs(found: Json) -> Table | None:
    rows = [
        [
            str(one.get("epoch")), fixed(tau, 2), percent((1 + tau) / 2), thousands(finite(one.get("trials"))),
        ]
        for one in dicts(found.get("rungs"))
        if (tau := finite(one.get("tau"))) is not None
    ]  # fmt: skip
    return table(
        ["rung, epoch", "rank correlation", "pairs in order", "trials"],
        rows,
        "How the best scores up to a rung rank the trials as they end (Kendall's tau; 1: the same order, 0: none), "
        "estimated for all trials as if none had been dropped. In order: of two trials, the one ahead at the rung "
        "ends ahead.",
    )


def _epochs(found: Json) -> Text | None:
    if finite(found.get("saved")) is None:
        return None
    return Text(
        f"Stopping the others saved about {counted(_whole(found, 'saved'), 'epoch')}; the audit cost "
        f"{counted(_whole(found, 'cost'), 'epoch')}."
    )


def _among(one: Json, found: Json) -> str:
    low, high, dropped = _whole(one, "low"), _whole(one, "high"), _whole(found, "dropped")
    ends = thousands(low) if low == high else f"{thousands(low)} to {thousands(high)}"
    return f"{ends} of {thousands(dropped)}"


def _whole(record: Json, key: str) -> int:
    return round(finite(record.get(key)) or 0)
