"""Markdown, terminal summary and CSV: snapshots, and renderers of others as oracles."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from syrupy.assertion import SnapshotAssertion

from lanewise.report import Records, build, summary_text, trials_csv
from lanewise.report.markdown import escaped
from lanewise.report.records import printable

READER = MarkdownIt("commonmark").enable("table")


@pytest.mark.usefixtures("unsaved")
def test_markdown_of_a_study(fake: Callable[..., Any], snapshot: SnapshotAssertion) -> None:
    assert build(fake().records()).markdown == snapshot


def test_summary_of_a_study(fake: Callable[..., Any], snapshot: SnapshotAssertion) -> None:
    assert summary_text(fake().records()) == snapshot


@pytest.mark.usefixtures("unsaved")
@pytest.mark.parametrize(
    ("kind", "shape", "tokens", "said"),
    [
        ("image", [1, 28, 28], 0, "1 x 28 x 28 (channels x height x width)"),
        ("series", [2, 24], 0, "2 x 24 (channels x length)"),
        ("text", [40], 5120, "40 (tokens), 5\u202f120 codes"),
    ],
)
def test_the_input_is_said_where_the_data_are_no_table(
    fake: Callable[..., Any], kind: str, shape: list[int], tokens: int, said: str
) -> None:
    records = fake().records()
    plain = build(records).markdown
    dataset = {**(records.dataset or {}), "kind": kind, "shape": shape, "tokens": tokens}
    told = build(dataclasses.replace(records, dataset=dataset)).markdown
    assert said in told.replace("\xa0", "\u202f").replace("\\", "") and said not in plain
    assert ("FOLDER" in told) == (kind == "image")


@pytest.mark.usefixtures("unsaved")
def test_the_report_tells_what_calibration_is_worth_by_nested_rows(fake: Callable[..., Any]) -> None:
    records = fake().records()
    plain = build(records).markdown
    found = {
        "temperature": 1.62, "threshold": 0.31, "rows": 800,
        "before": {"log_loss": 0.512, "ece": 0.081, fake().metric: 0.70},
        "after": {"log_loss": 0.454, "ece": 0.022, fake().metric: 0.74},
    }  # fmt: skip

    def told(record: dict[str, Any]) -> str:
        evaluation = dict(records.evaluation or {})
        evaluation["candidates"] = [
            {**c, "calibration": record if c["name"] == evaluation["winner"] else None}
            for c in evaluation["candidates"]
        ]
        return build(dataclasses.replace(records, evaluation=evaluation)).markdown

    assert "temperature" not in plain and build(records).markdown == plain
    text = told(found)
    assert "temperature 1.62" in text and "less sure" in text and "0.512" in text and "0.454" in text
    assert "from a probability of 0.31" in text.replace("0.310", "0.31") and "0.74" in text
    assert "Probabilities stay as the network gives them" in told({**found, "temperature": 1.0})


def test_summary_of_a_regression_that_boosting_wins(
    fake: Callable[..., Any], snapshot: SnapshotAssertion
) -> None:
    assert summary_text(fake(task="regression", boosting=0.06).records()) == snapshot


def test_the_summary_is_plain_text(fake: Callable[..., Any]) -> None:
    text = summary_text(fake(task="regression").records())
    assert text.isascii() and max(map(len, text.splitlines())) <= 100


@pytest.mark.usefixtures("unsaved")
def test_tables_are_read_as_tables(fake: Callable[..., Any]) -> None:
    made = fake(trials=24, task="multiclass", classes=3)
    made.names = ["a|b", "c\\|d", "`|`"]
    tokens = READER.parse(build(made.records()).markdown)
    for start, token in enumerate(tokens):
        if token.type == "table_open":
            head = next(i for i in range(start, len(tokens)) if tokens[i].type == "tr_close")
            width = sum(t.type == "th_open" for t in tokens[start:head])
            end = next(i for i in range(start, len(tokens)) if tokens[i].type == "table_close")
            cells = sum(t.type == "td_open" for t in tokens[start:end])
            rows = sum(t.type == "tr_open" for t in tokens[start:end]) - 1
            assert cells == width * rows
    text = "".join(
        t.content for token in tokens for t in token.children or [] if t.type in ("text", "text_special")
    )
    assert "a|b" in text and "c\\|d" in text


@given(st.text(max_size=60))
def test_a_text_in_markdown_reads_as_it_was(text: str) -> None:
    text = " ".join(printable(text).split())
    tokens = READER.parse(f"x {escaped(text)}")
    kinds = {t.type for token in tokens for t in token.children or []}
    assert kinds <= {"text", "text_special"}
    assert "".join(t.content for t in tokens[1].children or []) == f"x {text}".strip()


@pytest.mark.usefixtures("unsaved")
@pytest.mark.parametrize(
    "text",
    ["<script>alert(1)</script>", "![](http://evil/x.png)", "[a](javascript:alert(1))", "# x", "1. x", "- x"],
)
def test_no_name_formats_markdown(fake: Callable[..., Any], text: str) -> None:
    records = fake(trials=3).records()
    records.study["name"] = records.version["reason"] = text
    records.version["alias"] = "candidate"
    records.dataset["warnings"] = [text]
    records = dataclasses.replace(records, links={text: "javascript:alert(1)"})
    plain = dataclasses.replace(records, links={"x": "javascript:alert(1)"})
    kinds = [t.type for t in READER.parse(build(records).markdown)]
    assert kinds == [t.type for t in READER.parse(build(plain).markdown)]
    html = READER.render(build(records).markdown)
    assert "<script" not in html and "<img" not in html and 'href="javascript' not in html


def test_csv_holds_every_trial_and_no_formula(fake: Callable[..., Any]) -> None:
    records = fake(trials=24).records()
    records.search["trials"][17]["reason"] = '=HYPERLINK("http://evil","x")'
    records.search["trials"][1]["config"]["activation"] = "@SUM(1)"
    rows = list(csv.DictReader(io.StringIO(trials_csv(records))))
    assert [int(row["number"]) for row in rows] == list(range(24))
    assert rows[17]["reason"].startswith("'=HYPERLINK") and rows[1]["config.activation"] == "'@SUM(1)"
    assert float(rows[2]["value"]) == records.search["trials"][2]["value"]
    assert rows[2]["config.width"] == str(records.search["trials"][2]["config"]["width"])
    assert trials_csv(Records()).startswith("number,state,")
