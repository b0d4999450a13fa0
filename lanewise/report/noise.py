"""The noise floor in words: what seeds alone do to a score, and which trials tie by that measure.

Fed by the facts; says nothing where the search trained the default under too few seeds. It measures nothing
itself: the floor is the search's.
"""

from __future__ import annotations

from lanewise.report.document import Text
from lanewise.report.facts import Facts
from lanewise.report.parts import Noise
from lanewise.report.wording import counted, decimals, fixed, metric_words, percent


def floor(facts: Facts) -> Text | None:
    """The floor, what it comes from, and how many trials tie with the best."""
    noise, ties = facts.noise, facts.ties
    if noise is None or not ties:
        return None
    places = _places(noise)
    text = (
        f"Noise floor {fixed(noise.floor, places)}: trained with {noise.scores} seeds, the default has "
        + f"{metric_words(facts.metric)} {fixed(noise.mean, places)} on average, with a standard deviation of "
        + f"{fixed(noise.spread, places)}. Two trainings that differ by less than the floor are a tie: with "
        + f"{percent(noise.confidence)} confidence, seeds alone set them as far apart."
    )
    others = len(ties) - 1
    if others:
        of = f"{counted(others, 'trial')} of {len(facts.complete) - 1}"
        text += f" {of} {'ties' if others == 1 else 'tie'} with the best, trial {ties[0].number}."
    else:
        text += f" No other trial ties with the best, trial {ties[0].number}."
    return Text(text)


def tied(facts: Facts, shown: int) -> str:
    """How many of the best trials that are shown tie, as the end of a caption."""
    count = min(len(facts.ties), shown)
    return f" The first {count} are a tie: the noise floor does not tell them apart." if count > 1 else ""


def lead_is_noise(facts: Facts) -> str | None:
    """The warning that the best trial leads the default by less than seeds do."""
    noise, ties = facts.noise, facts.ties
    if noise is None or not ties or ties[0].number == 0:
        return None
    lead = facts.sign * ((ties[0].value or 0.0) - noise.mean)
    if lead > noise.floor:
        return None
    places = _places(noise)
    return (
        f"The search's best, trial {ties[0].number}, leads the default's mean of {noise.scores} seeds by "
        + f"{fixed(lead, places)}; the noise floor is {fixed(noise.floor, places)}. As far as the search can "
        + "tell, that is a tie; cross-validation, with fresh seeds, says more."
    )


def _places(noise: Noise) -> int:
    """Decimals that show the floor with two digits."""
    return decimals(noise.mean - noise.floor, noise.mean + noise.floor, noise.mean) + 1
