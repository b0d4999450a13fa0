"""What a reader must keep in mind: data, folds, seal, and values of the best at the edge of their range.

Fills `document.py` from the facts. It repeats the warnings of the stages and adds those that only the
records together can show.
"""

from __future__ import annotations

from lanewise.report.document import Notes, Section, section
from lanewise.report.edges import edges
from lanewise.report.facts import Facts
from lanewise.report.noise import lead_is_noise
from lanewise.report.wording import counted, decimals, few, fixed, metric_words, percent

FEW_ROWS = 200  # sealed rows below which a score's interval is wider than most gains
MANY_FAILED = 0.1
MOST_NOTES = 30


def caveats(facts: Facts) -> Section | None:
    """The warnings of all stages, or nothing if there is none."""
    parts = {
        "test": _seal(facts),
        "data": _data(facts),
        "folds": _folds(facts),
        "search": _search(facts),
        "learning rate": [str(w) for w in facts.curve.get("warnings") or []],
        "weights": [str(w) for w in facts.search.get("pretrained") or []],
        "range": [edge.advice for edge in edges(facts)],
    }
    notes = [(label, text) for label, texts in parts.items() for text in texts]
    if len(notes) > MOST_NOTES:
        notes = [
            *notes[:MOST_NOTES],
            ("more", f"{len(notes) - MOST_NOTES} further warnings are in the records."),
        ]
    return section("caveats", "What to keep in mind", [Notes(tuple(notes)) if notes else None])


def _seal(facts: Facts) -> list[str]:
    notes = []
    n, opened, score = facts.test.get("n"), facts.test.get("openings"), facts.sealed("scores")
    if isinstance(n, int) and n < FEW_ROWS:
        rows = counted(n, "sealed row")
        notes.append(f"Only {rows}: differences of a few percent cannot be told from chance.")
    if isinstance(opened, int) and opened > 1:
        notes.append(
            f"These test rows have been opened for {opened} configurations. The more there are, the less "
            + "their scores prove."
        )
    if facts.test and score.estimate is None:
        why = score.method or "no value"
        notes.append(f"{metric_words(facts.metric)} is undefined on the sealed rows: {why}.")
    return notes


def _data(facts: Facts) -> list[str]:
    """The warnings about the data; those that say the same of several columns as one."""
    columns: dict[str, list[str]] = {}
    for warning in facts.dataset.get("warnings") or []:
        record = warning if isinstance(warning, dict) else {"message": warning}
        found = columns.setdefault(str(record.get("message") or record.get("code") or ""), [])
        if record.get("column"):
            found.append(str(record["column"]))
    return [f"{few(names)}: {text}" if names else text for text, names in columns.items()]


def _folds(facts: Facts) -> list[str]:
    said = "No finalist beat the default"  # by the verdict
    notes = [str(w) for w in facts.evaluation.get("warnings") or [] if not str(w).startswith(said)]
    lead, sealed = facts.over_default, facts.sealed_difference
    if facts.winner == "default" or lead.estimate is None or sealed.low is None or sealed.high is None:
        return notes
    if not sealed.low <= lead.estimate <= sealed.high:
        places = decimals(sealed.low, sealed.high, sealed.estimate, lead.estimate)
        pair = f"{fixed(lead.estimate, places)} in cross-validation, {fixed(sealed.estimate, places)} on the"
        notes.append(
            f"Folds and sealed rows disagree: the difference to the default is {pair} sealed rows. "
            + "Believe the sealed rows."
        )
    return notes


def _search(facts: Facts) -> list[str]:
    trained = [t for t in facts.trials if t.state != "duplicate"]
    failed = [t for t in trained if t.state == "failed"]
    notes = []
    if trained and len(failed) / len(trained) > MANY_FAILED:
        share = percent(len(failed) / len(trained))
        notes.append(f"{share} of the trials failed; the reasons stand under what it cost.")
    if trained and not facts.complete:
        notes.append("No trial was trained to its end.")
    if facts.default is not None and facts.default.state == "failed":
        notes.append(f"The default failed: {facts.default.reason or 'no reason given'}.")
    if (tie := lead_is_noise(facts)) is not None:
        notes.append(tie)
    return notes
