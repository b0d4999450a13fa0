"""The part of the report about several objectives: the trials that no other one beats in all of them.

Fed by the facts, put into the section of the search by `course.py`. The search says which trials these are; here they
are worded.
"""

from __future__ import annotations

from lanewise.prediction_time import ROWS
from lanewise.report import plots_front
from lanewise.report.document import Block, Table, Text, table
from lanewise.report.facts import Facts
from lanewise.report.parts import Trial, mapping
from lanewise.report.pictures import picture
from lanewise.report.wording import (
    NOTHING,
    counted,
    decimals,
    finite,
    fixed,
    joined,
    metric_words,
    objective_words,
    short,
    thousands,
)

MOST = 30  # members in the table
OPEN = 12  # members up to which it is shown open


def blocks(facts: Facts) -> list[Block | None]:
    """The front in a sentence, as a picture and as a table; nothing where there is one objective."""
    if not facts.front:
        return []
    names = joined([metric_words(facts.metric), *map(objective_words, facts.objectives)])
    line = "" if len(facts.objectives) > 1 else " The line is what can be had up to a size."
    return [
        Text(f"{words(facts)}{_smallest_tie(facts)}"),
        picture("front", plots_front.front, facts, objectives=names, line=line),
        _members(facts),
    ]


def words(facts: Facts) -> str:
    """ "Pareto front: 5 of 40 complete trials, from trial 3 (1 226 parameters, accuracy 0.91) to ..."."""
    first, last = facts.front[0], facts.front[-1]
    lead = f"Pareto front: {len(facts.front)} of {counted(len(facts.complete), 'complete trial')}"
    if first is last:
        return f"{lead}, {_one(facts, first)}."
    return f"{lead}, from {_one(facts, last)} to {_one(facts, first)}."


def _one(facts: Facts, trial: Trial) -> str:
    """ "trial 3 (accuracy 0.91, 1 226 parameters)"."""
    sizes = [f"{thousands(trial.size(name))} {objective_words(name)}" for name in facts.objectives]
    return f"trial {trial.number} ({joined([_score(facts, trial), *sizes])})"


def _score(facts: Facts, trial: Trial) -> str:
    return f"{metric_words(facts.metric)} {fixed(trial.value, _places(facts))}"


def _places(facts: Facts) -> int:
    return decimals(None, None, *(t.value for t in facts.front))


def _smallest_tie(facts: Facts) -> str:
    """Which trial is the smallest of those that tie with the best, where the noise floor is known."""
    ties, objective = [t for t in facts.ties if t in facts.front], facts.objectives[0]
    if len(ties) < 2:
        return ""
    smallest = min(ties, key=lambda t: t.size(objective) or 0.0)
    if smallest is ties[0]:
        return " No smaller trial ties with the best within the noise floor."
    share = (ties[0].size(objective) or 0.0) / max(smallest.size(objective) or 0.0, 1.0)
    return (
        f" Within the noise floor of the best, trial {ties[0].number}, the smallest is {_one(facts, smallest)}: "
        + f"{share:.2g} times fewer {objective_words(objective)}."
    )


def _members(facts: Facts) -> Table | None:
    members, names = facts.front[:MOST], list(facts.wide_ranges)[:6]
    timed = [trial for trial in members if trial.number in facts.prediction_ms]
    rows = [
        [
            str(trial.number),
            fixed(trial.value, _places(facts)),
            *(thousands(trial.size(objective)) for objective in facts.objectives),
            *([_ms(facts, trial)] if timed else []),
            _note(facts, trial),
            *(short(trial.config.get(name)) for name in names),
        ]
        for trial in members
    ]
    times = [f"ms for {ROWS} rows"] if timed else []
    header = ["trial", metric_words(facts.metric), *map(objective_words, facts.objectives), *times, "", *names]
    first = f"The first {MOST} of them, by" if len(facts.front) > MOST else "By"
    return table(
        header,
        rows,
        f"The Pareto front. {first} the rows that select, with one training each: members whose scores lie closer than "
        "two seeds of one configuration do are no trade-off." + (_timing(facts) if timed else ""),
        marked=[place for place, trial in enumerate(members) if trial is facts.winning_trial],
        wordy=[2 + len(facts.objectives) + len(times)],
        folded=len(members) > OPEN,
    )


def _ms(facts: Facts, trial: Trial) -> str:
    value = facts.prediction_ms.get(trial.number)
    return NOTHING if value is None else f"{value:.2f}"


def _timing(facts: Facts) -> str:
    threads = int(finite(mapping(facts.study.get("train")).get("threads")) or 1)
    return (
        f" Milliseconds: the network alone, measured once on this machine, on {counted(threads, 'thread')} of its "
        "processor; another machine has others, and the search did not ask by them."
    )


def _note(facts: Facts, trial: Trial) -> str:
    said = (("winner", trial is facts.winning_trial), ("default", trial.number == 0))
    return ", ".join(word for word, true in said if true)
