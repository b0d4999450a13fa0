"""The part of the report about the scores: sealed test, cross-validation, differences.

Fills `document.py` from the facts. It compares numbers the records hold and computes no new ones but means.
"""

from __future__ import annotations

from lanewise.intervals import Interval
from lanewise.report import plots_outcome
from lanewise.report.document import Card, Section, Table, Text, section, table
from lanewise.report.facts import Facts, direction_of
from lanewise.report.parts import mapping
from lanewise.report.pictures import picture
from lanewise.report.wording import (
    MINUS,
    NOTHING,
    candidate_words,
    confidence_words,
    counted,
    decimals,
    finite,
    fixed,
    metric_words,
    signed,
    thousands,
)


def cards(facts: Facts) -> tuple[Card, ...]:
    """The figures under the verdict: sealed scores and difference, or those of the folds."""
    metric = metric_words(facts.metric)
    tuned, default, lead = facts.sealed("scores"), facts.sealed("default_scores"), facts.sealed_difference
    where = f"on {counted(int(facts.test.get('n') or 0), 'sealed row')}"
    metric += "" if facts.sign > 0 else " (lower is better)"
    if tuned.estimate is None:
        own, base = facts.candidate(facts.winner), facts.candidate("default")
        if own is None or own.mean is None:
            return ()
        tuned = _bare(own.mean)
        default = _bare(None if base is None else base.mean)
        lead = facts.over_default
        where = f"mean of {counted(len(own.values), 'fold')}"
    places = decimals(lead.low, lead.high, tuned.estimate, default.estimate)
    if facts.winner == "default":
        places = decimals(tuned.low, tuned.high, tuned.estimate)
        found = [Card("default, the winner", fixed(tuned.estimate, places), f"{metric} {where}")]
    else:
        found = [
            Card("tuned", fixed(tuned.estimate, places), f"{metric} {where}"),
            Card("default", fixed(default.estimate, places), f"{metric} {where}"),
            Card(f"tuned {MINUS} default", signed(lead.estimate, places), _span(lead, places)),
        ]
    baseline = facts.best_baseline
    if baseline is not None and baseline.mean is not None:
        over = facts.over_baseline
        digits = decimals(over.low, over.high, over.estimate)
        winner = "default" if facts.winner == "default" else "tuned"
        found.append(
            Card(
                f"{winner} {MINUS} {candidate_words(baseline.name)}",
                signed(over.estimate, digits),
                f"{_span(over, digits)}, on the folds",
            )
        )
    return tuple(found)


def scores(facts: Facts) -> Section | None:
    """Differences, sealed scores and cross-validation."""
    folds, repeats = (int(finite(facts.evaluation.get(key)) or 0) for key in ("folds", "repeats"))
    drawn = f"{folds} folds, drawn {repeats} times" if repeats > 1 else f"{folds} folds" if folds else "folds"
    confidence = confidence_words(facts.sealed_difference.confidence)
    return section(
        "scores",
        "Scores",
        [
            picture("differences", plots_outcome.differences, facts, intervals=f"{confidence}s"),
            _sealed(facts),
            picture("folds", plots_outcome.folds, facts, drawn=drawn),
            _fold_table(facts),
            *_calibration(facts),
        ],
    )


def _calibration(facts: Facts) -> list[Text]:
    """What temperature and threshold are worth, on rows they were not fitted on."""
    found = mapping(facts.winning_candidate.get("calibration"))
    before, after = mapping(found.get("before")), mapping(found.get("after"))
    temperature, threshold = finite(found.get("temperature")), finite(found.get("threshold"))
    rows = thousands(finite(found.get("rows")))
    texts = []

    def change(name: str) -> str:
        old, new = finite(before.get(name)), finite(after.get(name))
        places = decimals(None, None, old, new)
        return f"{metric_words(name)} {fixed(old, places)} before and {fixed(new, places)} after"

    if temperature == 1.0:
        texts.append(
            f"Probabilities stay as the network gives them: on {rows} out-of-fold rows no temperature improved "
            + f"the log loss ({change('log_loss')})."
        )
    elif temperature is not None:
        way = "less" if temperature > 1 else "more"
        texts.append(
            f"Probabilities are calibrated with the temperature {fixed(temperature, 3)}, which makes them {way} "
            + f"sure. On {rows} out-of-fold rows, each fold corrected by what the others say: "
            + f"{change('log_loss')}, {change('ece')}. The sealed scores are those of calibrated probabilities."
        )
    if threshold is not None:
        texts.append(
            f"The second class is predicted from a probability of {fixed(threshold, 3)} on, chosen on the same "
            + f"rows: {change(facts.metric)}, by folds as above."
        )
    return [Text(text) for text in texts]


def _bare(estimate: float | None) -> Interval:
    return Interval(estimate, None, None, 0.95, "")


def _span(found: Interval, places: int) -> str:
    if found.low is None:
        return f"no interval: {found.method}" if found.method else "no interval"
    return f"{confidence_words(found.confidence)} {signed(found.low, places)} to {signed(found.high, places)}"


def _sealed(facts: Facts) -> Table | None:
    scores = facts.test.get("scores") or {}
    rows: list[list[str]] = []
    marked: list[int] = []
    names = (
        [facts.metric, *(n for n in scores if n != facts.metric)] if facts.metric in scores else list(scores)
    )
    same = facts.winner == "default"
    for name in names:
        own, other = facts.sealed("scores", name), facts.sealed("default_scores", name)
        places = decimals(own.low, own.high, own.estimate, other.estimate)
        better = facts.direction if name == facts.metric else direction_of(name) or ""
        arrow = {"maximize": "higher", "minimize": "lower"}.get(better, "")
        if name == facts.metric:
            marked.append(len(rows))
        cells = [metric_words(name), _with_ends(own, places), _with_ends(other, places), arrow]
        rows.append([c for i, c in enumerate(cells) if not (same and i == 2)])
    n = counted(int(facts.test.get("n") or 0), "sealed row")
    confidence = confidence_words(facts.sealed("scores").confidence)
    head = ["metric", "default" if same else "winner", "default", "better is"]
    return table(
        [h for i, h in enumerate(head) if not (same and i == 2)],
        rows,
        f"Scores on {n}, which no one read before the configuration was frozen, with {confidence}s. "
        "The study tuned the marked metric; the others are for orientation.",
        marked=marked,
        wordy=[len(head) - (2 if same else 1)],
    )


def _with_ends(found: Interval, places: int) -> str:
    if found.estimate is None:
        return f"{NOTHING} ({found.method})" if found.method else NOTHING
    if found.low is None or found.low == found.high:
        return fixed(found.estimate, places)
    return f"{fixed(found.estimate, places)} ({fixed(found.low, places)} to {fixed(found.high, places)})"


def _fold_table(facts: Facts) -> Table | None:
    known = [(c, m) for c in facts.candidates if (m := c.mean) is not None]
    known.sort(key=lambda pair: -facts.sign * pair[1])
    places = decimals(None, None, *(m for _, m in known))
    rows = []
    for candidate, mean in known:
        values = [v for v in candidate.values if v is not None]
        spread = (
            (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5 if len(values) > 1 else None
        )
        rows.append(
            [
                candidate_words(candidate.name),
                candidate.kind,
                fixed(mean, places),
                fixed(spread, places),
                fixed(min(values), places),
                fixed(max(values), places),
                thousands(len(values)),
            ]
        )
    marked = [i for i, (c, _) in enumerate(known) if c.name == facts.winner]
    return table(
        ["candidate", "kind", "mean", "std. dev.", "lowest", "highest", "folds"],
        rows,
        f"Cross-validation in numbers ({metric_words(facts.metric)}). The standard deviation is that of "
        "single folds.",
        marked=marked,
        wordy=[1],
        folded=True,
    )
