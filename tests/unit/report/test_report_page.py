"""The HTML page: complete, self-contained, escaped, small, fast, and whole whatever is missing."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import random
import re
import time
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from lanewise.report import PICTURES, Records, Report, build, canvas, picture_png, summary_text
from lanewise.report.records import printable

Json = dict[str, Any]
VOID = {"meta", "br", "link", "img", "input", "hr"}
# Names a user, a column or a class may have, and what they must not do to a page.
HOSTILE = (
    "</text></svg><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "$x_1$ \\frac{1}{2",
    "{{ 7 * 7 }}{% raw %}",
    "a|b`c*d_e[f](javascript:alert(1))",
    "line\nbreak\x00\u202eback",
    "&amp;&lt;",
    "\u96ea\u306e \U0001f600",
    "x" * 3000,
    "#fe0001 url(#x) <!-- -->",
)


class Page(HTMLParser):
    """Reads a page: elements, attributes, text, and whether every element is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("\n".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def report(fake: Callable[..., Any]) -> Report:
    return build(fake().records())


def test_every_section_is_there(report: Report) -> None:
    page = Page(report.html)
    assert [a["id"] for a in page.all("section")] == [
        "scores",
        "caveats",
        "winner",
        "errors",
        "lr-range",
        "search",
        "selection",
        "cost",
        "data",
        "use",
        "provenance",
    ]
    inside = [a["href"] for a in page.all("a") if a["href"].startswith("#")]
    assert inside == [f"#{a['id']}" for a in page.all("section")]
    assert len(page.all("svg")) == 9
    assert all(a["aria-label"] and a["role"] == "img" for a in page.all("svg"))
    assert page.all("h1") and 'lanewise.load("models:/titanic@champion")' in page.text


def test_the_page_needs_nothing_but_itself(report: Report) -> None:
    page = Page(report.html)
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "image", "img", "base", "form"}
        assert not any(name.startswith("on") for name in attributes)
        assert "src" not in attributes and "xmlns" not in attributes
        for name in ("href", "xlink:href"):
            value = attributes.get(name, "#")
            assert value.startswith("#") or (tag, value) == (
                "a",
                "http://localhost:5000/#/experiments/1/runs/5f0c9e",
            )
    assert "@import" not in report.html
    assert all(m.startswith("#") for m in re.findall(r"url\(([^)]*)", report.html))
    policy = [a for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy[0]["content"].startswith("default-src 'none'")


def test_references_inside_the_page_are_unique_and_resolve(report: Report) -> None:
    page = Page(report.html)
    names = [a["id"] for _, a in page.tags if "id" in a]
    assert len(names) == len(set(names))
    wanted = {a["href"][1:] for _, a in page.tags if a.get("href", "").startswith("#")}
    wanted |= set(re.findall(r"url\(#([^)]+)\)", report.html))
    assert wanted <= set(names)


def test_colours_follow_the_theme(report: Report) -> None:
    body = report.html[report.html.index("<body>") :]
    assert not re.search(r"#[0-9a-f]{6}\b", body.replace("#fe0001", "")), (
        "a colour that is the same in the dark"
    )
    used = set(re.findall(r"var\(--([a-z0-9]+)\)", body))
    assert used - {"w"} <= {f.name for f in dataclasses.fields(canvas.Ink)}
    assert report.html.count("prefers-color-scheme") == 1


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("ink", [canvas.LIGHT, canvas.DARK])
def test_texts_and_lines_stand_out_from_the_paper(ink: canvas.Ink) -> None:
    def contrast(one: str) -> float:
        light, dark = sorted((luminance(one), luminance(ink.paper)), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    assert all(contrast(c) >= 4.5 for c in (ink.ink, ink.muted, ink.tuned, ink.other, ink.good, ink.bad))
    assert contrast(ink.base) >= 3
    steps = [contrast(c) for c in ink.scale]
    assert steps == sorted(steps), "worse trials must stand out less"


def test_the_same_records_give_the_same_bytes_also_from_json(
    fake: Callable[..., Any], report: Report
) -> None:
    records = fake().records()
    parts = {f.name: getattr(records, f.name) for f in dataclasses.fields(records)}
    assert build(Records(**json.loads(json.dumps(parts)))) == report


def test_large_studies_stay_small_and_fast(fake: Callable[..., Any]) -> None:
    records = fake(trials=400, task="multiclass", classes=30, rows=3000).records()
    begun = time.process_time()
    size = len(build(records).html)
    assert time.process_time() - begun < 5.0  # 1.5 s on an idle machine
    assert size < 1_500_000


def hostile_records(fake: Callable[..., Any], texts: list[str]) -> Records:
    """Records with these ten texts at the places where a user can name something."""
    made = fake(trials=22, task="multiclass", classes=len(texts))
    made.names = texts
    records = made.records()
    for trial in records.search["trials"]:
        trial["config"][texts[0]] = trial["config"].pop("activation")
        if trial["state"] == "failed":
            trial["reason"] = texts[1]
    for part in ("parameters", "original"):
        ranges = records.search["space"][part]
        ranges[texts[0]] = {"choices": ["relu", "gelu", "silu", *texts[1:4]]}
        del ranges["activation"]
    records.lr_curve["families"][texts[2]] = {**records.lr_curve["families"]["adamw"], "reason": texts[3]}
    records.dataset["warnings"] = [{"code": "x", "message": text, "column": text} for text in texts]
    records.dataset["target"]["name"] = texts[4]
    records.version["reason"], records.version["alias"] = texts[5], "candidate"
    records.study["name"] = texts[6]
    records.evaluation["warnings"] = list(texts)
    links = {texts[7]: "javascript:alert(1)", "ok": f"https://h/{texts[8]}"}
    return dataclasses.replace(records, links=links, environment={texts[9]: texts[8]})


@pytest.mark.parametrize("turn", [0, 5])
def test_no_name_becomes_markup(fake: Callable[..., Any], report: Report, turn: int) -> None:
    texts = [*HOSTILE[turn:], *HOSTILE[:turn]]
    records = hostile_records(fake, texts)
    html = build(records).html
    page = Page(html)
    assert [t for t, _ in page.tags if t in ("script", "img")] == []
    assert {t for t, _ in page.tags} <= {t for t, _ in Page(report.html).tags} | {"text"}
    assert not any(a.get("href", "").lower().startswith("javascript") for _, a in page.tags)
    assert not any(name.startswith("on") for _, a in page.tags for name in a)
    for text in texts:
        shown = " ".join(printable(text).split())
        assert shown in page.text  # as it was written: no template, no formula, no entity was read in it
    assert "\x00" not in html and "\u202e" not in html
    summary_text(records)


def thinned(value: Any, rng: random.Random, depth: int = 4) -> Any:
    """A copy in which one part in six is missing or null."""
    if depth == 0 or not isinstance(value, dict | list):
        return value
    if isinstance(value, list):
        return [thinned(part, rng, depth - 1) for part in value]
    kept = {key: thinned(part, rng, depth - 1) for key, part in value.items() if rng.random() > 0.08}
    return {key: None if rng.random() < 0.08 else part for key, part in kept.items()}


@pytest.mark.parametrize("part", ["study", "dataset", "lr_curve", "search", "evaluation", "test", "version"])
@pytest.mark.usefixtures("unsaved")
def test_whatever_is_missing_there_is_a_report(fake: Callable[..., Any], part: str) -> None:
    records = fake(trials=6).records()
    for seed in range(6):
        rng = random.Random(f"{part} {seed}")
        changed = dataclasses.replace(records, **{part: thinned(getattr(records, part), rng)})
        html = build(changed).html
        summary_text(changed)
        assert "<h1>" in html and not {"nan", "None"} & set(Page(html).text.split())
    assert "<h1>" in build(dataclasses.replace(records, **{part: None})).html


UNUSUAL: tuple[Json, ...] = (
    {"trials": 1},
    {"trials": 2},
    {"gain": 0.0},
    {"gain": -0.1},
    {"rows": 1},
    {"epochs": 1},
    {"boosting": 0.1},
)


@pytest.mark.parametrize("change", UNUSUAL, ids=str)
@pytest.mark.usefixtures("unsaved")
def test_unusual_studies(fake: Callable[..., Any], change: Json) -> None:
    Page(build(fake(**({"trials": 12} | change)).records()).html)


@pytest.mark.parametrize("change", [{"task": "regression"}, {"task": "multiclass", "classes": 30}], ids=str)
def test_other_tasks(fake: Callable[..., Any], change: Json) -> None:
    page = Page(build(fake(trials=3, **change).records()).html)
    assert len(page.all("svg")) >= 6


@pytest.mark.usefixtures("unsaved")
def test_only_one_part_is_enough(fake: Callable[..., Any]) -> None:
    whole = fake(trials=6).records()
    for field in dataclasses.fields(Records):
        only = Records(**{field.name: getattr(whole, field.name)})
        assert "<h1>" in build(only).html and summary_text(only)
    assert "No results yet" in Page(build(Records()).html).text


@pytest.mark.usefixtures("unsaved")
def test_values_that_are_no_numbers_are_never_printed(fake: Callable[..., Any]) -> None:
    records = fake(trials=6).records()
    records.test["scores"]["accuracy"]["estimate"] = math.nan
    records.search["trials"][3]["value"] = math.inf
    records.search["trials"][2]["curve"][0]["train/loss"] = math.nan
    text = Page(build(records).html).text
    assert not {"nan", "inf", "None"} & set(text.split())


@pytest.mark.usefixtures("unsaved")
def test_logins_are_not_shown(fake: Callable[..., Any]) -> None:
    links = {"server": "https://me:CANARY_9f3@tracking.example/x"}
    records = dataclasses.replace(fake(trials=3).records(), links=links)
    report = build(records)
    assert "CANARY_9f3" not in report.html + report.markdown + summary_text(records)


@pytest.mark.usefixtures("unsaved")
def test_edges_of_ranges_are_named(fake: Callable[..., Any]) -> None:
    records = fake().records()
    winner = records.evaluation["winner"]
    config = next(c["config"] for c in records.evaluation["candidates"] if c["name"] == winner)
    config |= {"lr": 0.0249, "weight_decay": 0.0999, "dropout": 0.0, "depth": 4, "width": 32}
    text = Page(build(records).html).text
    assert (
        "weight_decay = 0.0999 is at the upper end of its range (0.1): better values may lie beyond. Write for "
        "example weight_decay: {low: 1e-6, high: 1.0, log: true} in the study's space and run again." in text
    )
    assert "lr = 0.0249 is at the upper end of the range that the range test left (0.025)." in text
    assert "depth = 4 is at the upper end of its range" in text
    assert "dropout = 0" not in text  # nothing lies below 0
    assert "width = 32" not in text  # choices have no end


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_as_png(fake: Callable[..., Any], name: str) -> None:
    task = "regression" if name == "residuals" else "binary"
    records = fake(trials=6, task=task).records()
    if name == "coverage":
        records.search["grid"] = [{"config": {"width": w}, "state": "missing"} for w in (16, 32)]
    if name == "front":
        for trial in records.search["trials"]:
            trial["curve"] = [{**trial["curve"][0], "size/parameters": 9.0}] if trial["curve"] else []
        records.search.update(objectives=["parameters"], front=[records.search["best"]])
    found = picture_png(name, records)
    assert found is not None and found.startswith(base64.b64decode("iVBORw0KGgo="))
    assert picture_png(name, Records()) is None


def test_an_unknown_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="there are differences, folds"):
        picture_png("pie", Records())
