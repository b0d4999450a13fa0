"""Searches of one study by several strategies and seeds, and the page that compares them; asked for by the flow.

Every search is a study of its own name, `STUDY-STRATEGY-SEED`, so it is kept, continued and reused as any other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from lanewise import report
from lanewise.comparison import Comparison, Course, compare
from lanewise.errors import StudyError
from lanewise.names import check_name, nearest, redacted
from lanewise.search import STRATEGIES
from lanewise.study import load_study
from tasks.artifacts import show_markdown
from tasks.job import Job, make_job
from tasks.report import put
from tasks.stages import StageResult

PAGE, TEXT = "compare.html", "compare.md"


def searches(
    study: str, strategies: Sequence[str], seeds: int, overrides: Mapping[str, str]
) -> list[tuple[Job, str, int]]:
    """(job, strategy, seed) of every search, seed after seed, so that what is done so far is balanced.

    Raises:
        StudyError: A strategy is unknown or named twice, or the study says something wrong.
    """
    for strategy in strategies:
        if strategy not in STRATEGIES and ":" not in strategy:
            like = nearest(strategy, STRATEGIES)
            raise StudyError(
                "unknown strategy", where="--strategies", given=strategy, rule=f"one of {', '.join(STRATEGIES)}",
                remedy=f"did you mean `{like}`?" if like else "correct it",
            )  # fmt: skip
    if len(set(strategies)) < len(strategies):
        raise StudyError("a strategy is named twice", where="--strategies", given=", ".join(strategies))
    read = load_study(study, overrides)
    found = []
    for seed in range(read.seed, read.seed + seeds):
        for strategy in strategies:
            changes = {
                "name": _name(read.name, strategy, seed), "seed": str(seed), "search.strategy": f'"{strategy}"',
            }  # fmt: skip
            job = make_job(study, {**overrides, **changes})
            load_study(study, dict(job.overrides))  # what is wrong is said before anything trains
            found.append((job, strategy, seed))
    return found


def _name(study: str, strategy: str, seed: int) -> str:
    return check_name(f"{study}-{re.sub(r'[^A-Za-z0-9_-]', '-', strategy)}-{seed}", where="name of a search")


def write_comparison(
    study: str, overrides: Mapping[str, str], searched: Sequence[tuple[Job, str, int, StageResult]]
) -> dict[str, str]:
    """Compare what the searches found and write the page.

    Returns:
        The words for the terminal, and the page's path.
    """
    read = load_study(study, overrides)
    courses = [Course.of(dict(job.overrides)["name"], name, seed, r.result) for job, name, seed, r in searched]
    first = searched[0][3].result
    found = compare(
        read.name, first["metric"], first["direction"], courses, confidence=read.evaluate.confidence
    )
    folder = Path(read.tracking.home).absolute() / "comparisons" / read.name
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    written = report.build_comparison(found, now, _link(found, read.tracking.uri))
    put(folder / PAGE, written.html.encode())
    put(folder / TEXT, written.markdown.encode())
    show_markdown("comparison", written.markdown, "Which strategy found what")
    return {"says": report.comparison_words(found), "page": str(folder / PAGE)}


def _link(found: Comparison, uri: str) -> str:
    names = [course.name for standing in found.standings for course in standing.courses]
    server = redacted(uri) if uri.startswith(("http://", "https://")) else "lanewise ui, then MLflow"
    return "\n".join([f"{server}: tick these experiments, then Compare", *(f"  {name}" for name in names)])
