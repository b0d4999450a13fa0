"""The report: records of all stages in, one self-contained HTML page, Markdown, a short text and a CSV out.

Before it stand all stages, after it the tasks that store what it returns. It trains nothing, reads no
file and no clock, and judges by the intervals it is given: the same records give the same bytes.

Reading order: `records` (input), `facts` (read once), `verdict`, `importance`, `document` (what a report
consists of) filled by `caveats` (`edges`), `outcome`, `winner`, `course` (`front`, `noise`, `pruner`) and `origin`,
or by `comparison`, pictures in `plots_outcome`, `plots_course`, `plots_front`, `plots_grid`, `plots_space` and
`canvas`, `replays` counted, written out by `page`, `markdown` and `summary`.
"""

from __future__ import annotations

from dataclasses import dataclass

from lanewise.comparison import Comparison
from lanewise.report.document import Document
from lanewise.report.facts import Facts
from lanewise.report.records import Records
from lanewise.report.summary import summary
from lanewise.report.verdict import Verdict, verdict

__all__ = [
    "PICTURES",
    "Records",
    "Report",
    "Verdict",
    "build",
    "build_comparison",
    "comparison_words",
    "picture_png",
    "summary_text",
    "trials_csv",
    "verdict_of",
]

PICTURES = (
    "differences", "folds", "learning", "confusion", "residuals", "lr_range", "best_so_far", "coverage", "front",
)  # fmt: skip


@dataclass(frozen=True)
class Report:
    """The report, written out.

    Attributes:
        html: one page that needs nothing but itself.
        markdown: the same without pictures, for Prefect and MLflow.
    """

    html: str
    markdown: str


def build(records: Records) -> Report:
    """Writes the report; parts without a record are left out.

    Args:
        records: what the stages left, as records or as JSON.
    """
    from lanewise.report.markdown import to_markdown
    from lanewise.report.page import to_html

    found = _document(Facts(records))
    return Report(to_html(found), to_markdown(found))


def summary_text(records: Records) -> str:
    """Verdict, scores, gate and where to look next, as plain text for a terminal."""
    return summary(Facts(records))


def verdict_of(records: Records) -> Verdict:
    """The verdict alone, for a flow's last log line or a notification."""
    return verdict(Facts(records))


def trials_csv(records: Records) -> str:
    """All trials as CSV, one row each, safe to open in a spreadsheet."""
    import pandas as pd

    from lanewise.data.export import safe_csv

    facts = Facts(records)
    trials = facts.trials
    own = ("number", "state", "reason", "value", "epochs", "best_epoch", "control", "audited_from")
    names = list(dict.fromkeys(name for trial in trials for name in trial.config))
    columns = {name: [getattr(trial, name) for trial in trials] for name in own}
    columns |= {f"size.{name}": [trial.size(name) for trial in trials] for name in facts.objectives}
    columns |= {f"config.{name}": [trial.config.get(name) for trial in trials] for name in names}
    return safe_csv(pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in columns.items()}))


def build_comparison(found: Comparison, date: str, link: str | None) -> Report:
    """Writes the page that compares search strategies.

    Args:
        found: the comparison.
        date: ISO 8601.
        link: how to see the searches side by side in MLflow.
    """
    from lanewise.report.comparison import to_document
    from lanewise.report.markdown import to_markdown
    from lanewise.report.page import to_html

    document = to_document(found, date, link)
    return Report(to_html(document), to_markdown(document))


def comparison_words(found: Comparison) -> str:
    """Which strategy leads, and the table, as plain text for a terminal."""
    from lanewise.report.comparison import words

    return words(found)


def picture_png(name: str, records: Records) -> bytes | None:
    """One picture as PNG, for MLflow; None where the records do not hold what it shows.

    Args:
        name: one of `PICTURES`.
        records: at least the part the picture shows, such as `Records(lr_curve=...)`.
    """
    from lanewise.report import canvas, plots_course, plots_front, plots_grid, plots_outcome

    if name not in PICTURES:
        raise ValueError(f"no picture {name!r}; there are {', '.join(PICTURES)}")
    parts = (plots_outcome, plots_course, plots_front, plots_grid)
    drawing = next(found for part in parts if (found := getattr(part, name, None)))
    return canvas.png(drawing, Facts(records))


def _document(facts: Facts) -> Document:
    from lanewise.report import caveats, course, origin, outcome, pruner, winner
    from lanewise.report.wording import date_words

    found = verdict(facts)
    sections = (
        outcome.scores(facts),
        caveats.caveats(facts),
        winner.winner(facts),
        winner.errors(facts),
        course.lr_range(facts),
        course.search(facts),
        pruner.audit(facts),
        winner.selection(facts),
        course.cost(facts),
        origin.data(facts),
        origin.use(facts),
        origin.provenance(facts),
    )
    return Document(
        name=facts.name,
        date=date_words(facts.environment.get("created_at") or str(facts.test.get("opened_at") or "")),
        tone=found.tone,
        sentence=found.sentence,
        registration=found.registration,
        asides=found.asides,
        cards=outcome.cards(facts),
        sections=tuple(s for s in sections if s is not None),
    )
