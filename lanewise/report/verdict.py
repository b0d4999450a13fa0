"""The one sentence the report opens with: what came out, by how much, and how sure that is.

Before it stand the facts, after it the page and the terminal summary. It decides nothing about the model:
it puts intervals into words, and it says "no difference" wherever an interval holds 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from lanewise.intervals import Interval
from lanewise.report.facts import Facts
from lanewise.report.wording import (
    candidate_words,
    confidence_words,
    counted,
    decimals,
    fixed,
    metric_words,
    the,
    thousands,
)

# kind -> tone of the page's headline
TONES = {
    "better": "good",
    "baseline": "warn",
    "nothing": "warn",
    "worse": "bad",
    "same": "calm",
    "default": "calm",
    "unchecked": "calm",
    "empty": "bad",
}


@dataclass(frozen=True)
class Verdict:
    """What came out.

    Attributes:
        kind: a key of `TONES`.
        sentence: the verdict.
        registration: what became of the model; empty if nothing was registered.
        asides: what a reader of the sentence must know besides, one sentence each.
    """

    kind: str
    sentence: str
    registration: str
    asides: tuple[str, ...] = ()

    @property
    def tone(self) -> str:
        """ "good", "warn", "bad" or "calm"."""
        return TONES[self.kind]


def verdict(facts: Facts) -> Verdict:
    """Words the outcome.

    A baseline that is surely better than the winner leads, because then the network is not the model to
    use. Otherwise the sealed rows decide; without them the folds, and without these nothing is claimed.
    """
    if not facts.evaluation and not facts.test:
        kind, sentence = _search_only(facts)
        return Verdict(kind, sentence, registration(facts))
    leads = _baseline_leads(facts)
    kind, sentence = leads or _network(facts)
    asides = []
    if leads:
        asides.append(_network(facts)[1])
    elif (near := _baseline_near(facts)) is not None:
        asides.append(near)
    return Verdict(kind, sentence, registration(facts), tuple(asides))


def registration(facts: Facts) -> str:
    """What became of the model: registered as champion or candidate, and why not as champion."""
    version = facts.version
    if not version:
        return ""
    name = f"{version.get('name') or facts.name} version {version.get('version') or '?'}"
    alias = version.get("alias") or "without alias"
    reason = str(version.get("reason") or "").strip().rstrip(".")
    if alias == "champion" or not reason:
        return f"Registered as {name}, {alias}."
    return f"Registered as {name}, {alias}, not champion: {reason}."


def side(difference: Interval, sign: int) -> int:
    """1 if the interval lies on the better side of 0, -1 if on the worse, 0 if it holds 0 or has no ends.

    An interval that touches 0 holds it.
    """
    if difference.low is None or difference.high is None:
        return 0
    low, high = sorted((sign * difference.low, sign * difference.high))
    return 1 if low > 0 else -1 if high < 0 else 0


def _network(facts: Facts) -> tuple[str, str]:
    """The winner against the default: kind and sentence."""
    if facts.winner == "default":
        return "default", _default_stays(facts)
    if not facts.test:
        return "unchecked", _by_folds(facts, "It has not been checked on sealed rows.")
    difference, scores = facts.sealed_difference, (facts.sealed("scores"), facts.sealed("default_scores"))
    tuned, default = (score.estimate for score in scores)
    metric = metric_words(facts.metric)
    if tuned is None:
        reason = scores[0].method or "no value"
        return "unchecked", _by_folds(facts, f"On the sealed rows {metric} is undefined: {reason}.")
    if difference.estimate is None or default is None:
        reason = difference.method or "no value"
        lead = "The tuned network could not be compared with the default"
        return "unchecked", f"{lead}: {reason}; it has {_scored(facts)}."
    rows = counted(int(facts.test.get("n") or 0), "sealed row")
    pair, ends = _against(facts, tuned, default, difference), _ends(difference, tuned, default)
    found = side(difference, facts.sign)
    if found > 0:
        return "better", f"The tuned network beats the default: {pair} on {rows} {ends}."
    if found < 0:
        return "worse", f"The default is better than the tuned network: {pair} on {rows} {ends}."
    if difference.low is None:
        return "same", f"Whether tuning helped is open: {pair} on {rows} {ends}."
    lead = f"No difference between the tuned network and the default that {rows} can show"
    return "same", f"{lead}: {pair} {ends}."


def _default_stays(facts: Facts) -> str:
    tried = len([t for t in facts.trials if t.number != 0])
    folds = len(facts.candidates[0].values) if facts.candidates else 0
    lead = f"The default stays: no finalist of {counted(tried, 'other trial')} beat it"
    lead += f" on the same {counted(folds, 'fold')}" if folds else ""
    lead = lead if tried else "The default stays: nothing else was tried"
    return f"{lead}." if facts.sealed("scores").estimate is None else f"{lead}; it has {_scored(facts)}."


def _by_folds(facts: Facts, why: str) -> str:
    """The winner against the default by cross-validation, with the reason why not by the sealed rows."""
    winner, default = facts.candidate(facts.winner), facts.candidate("default")
    difference = facts.over_default
    if winner is None or winner.mean is None or default is None or default.mean is None:
        return f"{candidate_words(facts.winner).capitalize()} won, but has no score to compare. {why}"
    folds = counted(len(winner.values), "fold")
    pair = _against(facts, winner.mean, default.mean, difference)
    ends = _ends(difference, winner.mean, default.mean)
    sure = side(difference, facts.sign) > 0
    lead = "The tuned network leads the default" if sure else "No sure difference to the default"
    return f"{lead} in cross-validation: {pair} on {folds} {ends}. {why}"


def _baseline_leads(facts: Facts) -> tuple[str, str] | None:
    """Kind and sentence where a baseline is surely better than the winner, or the dummy no worse."""
    baseline, winner = facts.best_baseline, facts.candidate(facts.winner)
    if baseline is None or baseline.mean is None or winner is None or winner.mean is None:
        return None
    difference = facts.over_baseline
    found = side(difference, facts.sign)
    beside = f"on the same {counted(len(winner.values), 'fold')}"
    if baseline.name == "dummy" and found <= 0:
        pair = _against(facts, winner.mean, baseline.mean, difference, "for the dummy")
        ends = _ends(difference, winner.mean, baseline.mean)
        lead = "The network learned nothing that a constant prediction does not know"
        return "nothing", f"{lead}: {pair} {beside} {ends}."
    if found >= 0:
        return None
    turned = _turned(difference)
    pair = _against(facts, baseline.mean, winner.mean, turned, "for the network")
    ends = _ends(turned, winner.mean, baseline.mean)
    return "baseline", f"{_capital(baseline.name)} is better here: {pair} {beside} {ends}."


def _baseline_near(facts: Facts) -> str | None:
    """Says so where a baseline is within noise of the winner."""
    baseline, winner = facts.best_baseline, facts.candidate(facts.winner)
    difference = facts.over_baseline
    if baseline is None or baseline.mean is None or winner is None or winner.mean is None:
        return None
    if difference.low is None or side(difference, facts.sign) != 0:
        return None
    pair = _against(facts, baseline.mean, winner.mean, difference)
    folds = counted(len(winner.values), "fold")
    return f"{_capital(baseline.name)} does as well within noise: {pair} on the same {folds}."


def _search_only(facts: Facts) -> tuple[str, str]:
    """What can be said without cross-validation and test."""
    best, default = facts.best_trial, facts.default
    if best is None or best.value is None:
        failed = len([t for t in facts.trials if t.state == "failed"])
        if failed:
            of = counted(len(facts.trials), "trial")
            return "empty", f"No trial completed: {thousands(failed)} of {of} failed."
        return "empty", "No results yet: neither the search nor the evaluation has left a record."
    other = default.value if default is not None and best.number != 0 else None
    places = decimals(None, None, best.value, other)
    beside = "" if other is None else f", the default {fixed(other, places)}"
    score = f"{metric_words(facts.metric)} {fixed(best.value, places)}"
    return "unchecked", (
        f"Search only: trial {best.number} has {score} on the rows that selected it{beside}. "
        "Nothing has been compared on other rows, so the figure flatters."
    )


def _scored(facts: Facts) -> str:
    """ "balanced accuracy 0.84 (95 % interval 0.80 to 0.88) on 262 sealed rows"."""
    score = facts.sealed("scores")
    places = decimals(score.low, score.high, score.estimate)
    ends = ""
    if score.low is not None:
        words = confidence_words(score.confidence)
        ends = f" ({words} {fixed(score.low, places)} to {fixed(score.high, places)})"
    rows = counted(int(facts.test.get("n") or 0), "sealed row")
    return f"{metric_words(facts.metric)} {fixed(score.estimate, places)}{ends} on {rows}"


def _against(facts: Facts, one: float, other: float, difference: Interval, whose: str = "") -> str:
    """ "balanced accuracy 0.84 against 0.79"."""
    places = decimals(difference.low, difference.high, one, other)
    pair = f"{metric_words(facts.metric)} {fixed(one, places)} against {fixed(other, places)}"
    return f"{pair} {whose}" if whose else pair


def _ends(difference: Interval, *beside: float) -> str:
    """ "(difference 0.05, 95 % interval 0.01 to 0.09)"."""
    places = decimals(difference.low, difference.high, *beside)
    head = f"difference {fixed(difference.estimate, places)}"
    if difference.low is None:
        return f"({head}, no interval: {difference.method or 'not computed'})"
    ends = f"{fixed(difference.low, places)} to {fixed(difference.high, places)}"
    return f"({head}, {confidence_words(difference.confidence)} {ends})"


def _turned(difference: Interval) -> Interval:
    """The same difference the other way round."""
    estimate, high, low = (
        None if end is None else -end for end in (difference.estimate, difference.low, difference.high)
    )
    return Interval(estimate, low, high, difference.confidence, difference.method)


def _capital(name: str) -> str:
    """A candidate at the start of a sentence."""
    words = the(name)
    return words[0].upper() + words[1:]
