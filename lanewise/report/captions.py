"""What stands under each picture: what it shows, and what to see in it. Words only.

Used by `outcome.py`, `winner.py` and `course.py`, which fill in the fields.
"""

from __future__ import annotations

# name -> (what a reader who cannot see it is told, the caption)
CAPTIONS = {
    "differences": (
        "Differences of the winner to default and best baseline",
        """Differences with their {intervals}. An interval that holds 0 (grey) shows no difference. The sealed
        rows are the fair judge; the folds also chose the winner, which flatters it a little.""",
    ),
    "folds": (
        "Scores of all candidates in each fold",
        """Cross-validation: {drawn}, the same for all. A dot is one fold; the bar, and the number at the
        right, is the mean.""",
    ),
    "learning": (
        "Learning curves of {lines}",
        """Learning curves of {lines} in the search. The dot is the best epoch. Training loss that keeps
        falling while the right-hand curve turns is overfitting; both still moving at the end is a training
        cut short.""",
    ),
    "confusion": (
        "Confusion matrix of the winner on the sealed rows",
        """The {rows} sealed rows by true and predicted class. Strength of colour is the share of the true
        class: blue is right, red is wrong.""",
    ),
    "residuals": (
        "Predicted against actual values, and residuals, on the sealed rows",
        """Sealed rows (at most 500). Left: on the dashed line a prediction is exact. Right: a good model's
        residuals are narrow and centred on 0.""",
    ),
    "lr_range": (
        "Training loss against learning rate",
        """One short training in which the rate climbs, repeated with different seeds: the line is the median
        loss, the band the middle half of the repeats. Green: the usable interval, from where the loss
        starts to fall to where it stops.""",
    ),
    "best_so_far": (
        "Best score so far against epochs spent",
        """Best complete trial so far. A line that still climbs at the right end promises more from a longer
        search. These scores come from the rows that select, so the best of many looks better than it is.
        Trials beyond the axis stand at its edge.""",
    ),
    "front": (
        "Trials by {objectives}, with those on the Pareto front",
        """Every complete trial by {objectives}. No other trial is at least as good in all of them as one on the front
        (blue); their numbers are beside them.{line} Trials beyond the axis stand at its edge.""",
    ),
    "coverage": (
        "Every cell of the grid and what became of it: {counts}",
        """The grid, {counts}. A tile is {tile}; the stronger the blue, the better the score. A cell that failed
        every time is impossible (cross), a pruned one was behind (dot).{inactive}""",
    ),
    "strategies": (
        "Best complete trial so far by strategy, against {cost}",
        """Best complete trial so far against {cost}: the line is the median of {seeds}, the band the middle half of
        them. A line begins where every seed has a complete trial.""",
    ),
    "finals": (
        "Final value of every search, by strategy and seed",
        """What each search had found at its end: a dot is one seed, the bar, and the number at the right, their mean.
        A thin line joins the searches of one seed, which share their rows: what counts is how it leans.""",
    ),
    "parallel": (
        "Parallel coordinates of the trials",
        """Every complete trial is a line; the stronger the blue, the better its score, and the bold line is
        the winner. Where strong lines bundle, a hyperparameter has good values; where they spread, it
        hardly matters.{inactive}""",
    ),
    "importance": (
        "Importance of the hyperparameters",
        """Which hyperparameters decided whether a trial was good: the share of the variance in rank that goes
        back to each, with its standard deviation, by a random forest that explains {explained} of it in
        {trials} it was not fitted on. A bar whose line crosses 0 is noise.""",
    ),
    "slices": (
        "Score against the two most important hyperparameters",
        """Each dot is a trial; those beyond the axis stand at its edge. A pruned trial shows the best it
        reached before it was stopped, so it lies too {wrong} to compare.""",
    ),
}


def caption(name: str, **fields: str) -> tuple[str, str]:
    """The two texts of a picture with their fields filled in, each on one line."""
    alt, text = (" ".join(part.split()).format(**fields) for part in CAPTIONS[name])
    return alt, text
