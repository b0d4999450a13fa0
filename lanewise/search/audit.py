"""The pruner audit: a share of the trials that the pruner would stop goes on, to see what it throws away.

`run` asks whether a trial goes on, and for what was found when the search is over. For the strategy, the pruner and
the patience an audited trial is one that was stopped, so no answer of theirs changes; it holds its lane longer, and
being trained to its end it competes with the other complete trials.

The audited trials are drawn by number, whatever their scores: a random sample of those that were dropped. So their
share of good ones is an unbiased estimate of that among all dropped trials. Those trials, and the ones never dropped
by which they are measured, are taken as given; where audited trials kept others waiting for a lane, both depend on
the draw a little.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lanewise.pruning import Direction, better, rungs
from lanewise.search.budget import cut_off
from lanewise.search.random import trial_rng
from lanewise.search.records import Audit, Missed, RungRanks
from lanewise.search.trial import Trial
from lanewise.study import Study

FEWEST_RANKED = 3  # trials; an order of two is no rank correlation


def is_audited(study: Study, number: int) -> bool:
    """Whether a trial goes on if the pruner would stop it; drawn by its number."""
    return trial_rng(study.seed, number, "audit").random() < study.search.audit


def audit(study: Study, trials: Sequence[Trial], direction: Direction) -> Audit | None:
    """What the audited trials say of the pruner; None where the study asks for no audit.

    Args:
        study: Its `search`, `train.epochs` and `evaluate` are used.
        trials: Of a search that is over.
        direction: Whether higher or lower scores are better.
    """
    if not study.search.audit:
        return None
    trained = [t for t in trials if t.proposal.duplicate_of is None and not t.proposal.repeat]
    every = [t for t in trained if _dropped(t)]
    dropped = _in_time(every, trained, study.train.epochs)
    audited = [t for t in dropped if t.audited_from is not None]
    never = [t for t in trained if t.state == "complete" and not _dropped(t)]
    cost = {t.number: t.epochs - t.audited_from for t in every if t.audited_from is not None}
    others = len(every) - len(cost)
    confidence, finalists = study.evaluate.confidence, study.evaluate.finalists
    return Audit(
        share=study.search.audit,
        confidence=confidence,
        dropped=len(dropped),
        audited=len(audited),
        late=len(every) - len(dropped),
        missed=tuple(
            _missed(best, never, audited, len(dropped), direction, confidence)
            for best in sorted({1, finalists})
            if audited and len(never) >= best
        ),
        rungs=_ranks(study, _in_time(never, trained, study.train.epochs), audited, direction),
        cost=sum(cost.values()),
        saved=round(others * sum(cost[t.number] for t in audited) / len(audited)) if audited else None,
    )


def _dropped(trial: Trial) -> bool:
    """Whether the pruner stopped it, or would have; a budget is no pruner."""
    return trial.audited_from is not None or (trial.state == "pruned" and not cut_off(trial.record()))


def _in_time(chosen: Sequence[Trial], trained: Sequence[Trial], epochs: int) -> list[Trial]:
    """Those that had time for a whole training before a budget cut trials off.

    Which trials count must depend on neither their scores nor the draw. So it is not those that were cut off that
    are left out, but all that began too late, those that ended early by themselves too.
    """
    cut = min((t.begun + t.epochs for t in trained if cut_off(t.record())), default=None)
    return [t for t in chosen if cut is None or t.begun + epochs <= cut]


def _missed(
    best: int, never: Sequence[Trial], audited: Sequence[Trial], dropped: int, direction: Direction, confidence: float
) -> Missed:
    """How many audited trials beat the one of rank `best` among those never dropped."""
    values = sorted((t.value for t in never if t.value is not None), reverse=direction == "maximize")
    bar = values[best - 1]
    seen = sum(t.value is not None and better(t.value, bar, direction) for t in audited)  # a failed one has none
    return Missed(best, bar, seen, *hidden(seen, len(audited), dropped, confidence))


def hidden(seen: int, audited: int, dropped: int, confidence: float) -> tuple[int, int]:
    """Exact interval of how many of `dropped` trials have a property that `seen` of a random `audited` of them have.

    The numbers that two one-sided tests of level (1 - confidence) / 2 do not reject, so it covers the true one at
    least as often as it says. A binomial interval (Clopper-Pearson) would be wider: it takes no notice that all
    dropped trials may have been seen.

    Source: Buonaccorsi 1987, "A Note on Confidence Intervals for Proportions in Finite Populations", The American
    Statistician 41.

    Args:
        seen: At most `audited`.
        audited: At least 1, at most `dropped`.
        dropped: All of them.
        confidence: For example 0.95.
    """
    from scipy.stats import hypergeom

    possible = np.arange(seen, dropped - audited + seen + 1)
    level = (1 - confidence) / 2
    so_many = hypergeom.sf(seen - 1, dropped, possible, audited)
    so_few = hypergeom.cdf(seen, dropped, possible, audited)
    return int(possible[so_many > level].min()), int(possible[so_few > level].max())


def _ranks(
    study: Study, never: Sequence[Trial], audited: Sequence[Trial], direction: Direction
) -> tuple[RungRanks, ...]:
    """Rank correlation of the best scores up to each rung with those at the end; nothing of survivors alone.

    An audited trial stands for the dropped ones that were not drawn, so it weighs 1 / share.
    """
    search = study.search
    best = max if direction == "maximize" else min
    ended = [(t.objective, 1.0) for t in never]
    ended += [(t.objective, 1 / search.audit) for t in audited if t.state == "complete"]
    if not audited:
        return ()
    found = []
    for epoch in rungs(search.rung_first, search.rung_factor, study.train.epochs):
        there = [(curve, weight) for curve, weight in ended if len(curve) >= epoch]
        early, last = [best(curve[:epoch]) for curve, _ in there], [best(curve) for curve, _ in there]
        tau = kendall(early, last, [weight for _, weight in there])
        if tau is not None and len(there) >= FEWEST_RANKED:
            found.append(RungRanks(epoch, tau, len(there)))
    return tuple(found)


def kendall(a: Sequence[float], b: Sequence[float], weights: Sequence[float]) -> float | None:
    """Kendall's tau-b in which a pair counts by the product of its weights; None where all values are equal.

    With weights 1 / (probability to be in the sample), its sums over pairs are unbiased estimates of those over
    all trials.

    Source: Kendall 1945, "The Treatment of Ties in Ranking Problems", Biometrika 33; Horvitz and Thompson 1952.
    """
    values, others, shares = (np.asarray(x, dtype=float) for x in (a, b, weights))
    both = by_a = by_b = 0.0
    for value, other, share in zip(values, others, shares, strict=True):  # a row of pairs at a time
        order_a, order_b, pairs = np.sign(values - value), np.sign(others - other), shares * share
        both += float((pairs * order_a * order_b).sum())
        by_a += float((pairs * np.abs(order_a)).sum())
        by_b += float((pairs * np.abs(order_b)).sum())
    return both / (by_a * by_b) ** 0.5 if by_a * by_b > 0 else None


def audit_words(found: Audit) -> str:
    """For people, in one line."""
    if not found.missed:
        return f"audit: {found.audited} of {found.dropped} dropped trials went on; that says nothing of the pruner"
    first = found.missed[0]
    among = f"{first.low} to {first.high} of {found.dropped}, confidence {100 * found.confidence:g} %"
    return f"audit: {first.seen} of {found.audited} dropped trials that went on beat all others ({among})"
