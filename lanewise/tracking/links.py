"""Links into MLflow's pages that its menus hide; used by the notes of runs and by the command line.

The run table folds child runs away unless it is sorted by a metric, and the comparison page is reached only
by ticking boxes. These links go there directly. They are relative to the server's address.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import quote

COMPARED = 20  # more lines than this cannot be told apart in the parallel plot


def trials_link(
    experiment_id: str, metric: str = "objective", *, ascending: bool, stage: str = "search"
) -> str:
    """The trials of one experiment, flat and best first, as charts.

    Args:
        metric: Sorted by this.
        ascending: True where small is good.
        stage: Which runs.
    """
    filter_ = quote(f"tags.`lanewise.stage` = '{stage}'", safe="")
    order = quote(f"metrics.`{metric}`", safe="")
    return (
        f"#/experiments/{experiment_id}/runs?searchFilter={filter_}&orderByKey={order}"
        f"&orderByAsc={str(ascending).lower()}&compareRunsMode=CHART"
    )


def compare_link(run_ids: Sequence[str], experiment_id: str) -> str:
    """The page that compares runs, with parallel coordinates: the first 20 of `run_ids`, so best first."""
    runs = quote(json.dumps(list(run_ids)[:COMPARED]), safe="")
    return f"#/compare-runs?runs={runs}&experiments={quote(json.dumps([experiment_id]), safe='')}"
