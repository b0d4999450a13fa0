"""The HTML page: complete, self-contained, escaped, small, fast, and whole whatever is missing."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import re
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from lanewise.report import PICTURES, Records, Report, build, canvas, picture_png, summary_text
from lanewise.report.facts import Facts

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


@pytest.fixture
def unsaved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are drawn but not laid out and saved, which takes most of the time."""

    def svg(name: str, drawing: canvas.Drawing, facts: Facts, alt: str) -> str | None:
        with canvas._style(canvas._MARKS):
            return None if drawing(facts, canvas._MARKS) is None else "<svg></svg>"

    monkeypatch.setattr(canvas, "svg", svg)


def test_every_section_is_there(report: Report) -> None:
    page = Page(report.html)
    assert [a["id"] for a in page.all("section")] == [
        "scores", "caveats", "winner", "errors", "lr-range", "search", "selection", "cost", "data", "use", "provenance",
    ]  # fmt: skip
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
            assert value.startswith("#") or (tag, value) == ("a", "http://localhost:5000/#/experiments/1/runs/5f0c9e")
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
    assert not re.search(r"#[0-9a-f]{6}\b", body.replace("#fe0001", "")), "a colour that is the same in the dark"
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


def test_the_same_records_give_the_same_bytes(fake: Callable[..., Any], report: Report) -> None:
    assert build(fake().records()) == report


def test_json_and_records_give_the_same_report(fake: Callable[..., Any], report: Report) -> None:
    records = fake().records()
    parts = {f.name: getattr(records, f.name) for f in dataclasses.fields(records)}
    assert build(Records(**json.loads(json.dumps(parts)))) == report


def test_large_studies_stay_small_and_fast(fake: Callable[..., Any]) -> None:
    records = fake(trials=500, task="multiclass", classes=30, rows=3000).records()
    assert len(build(records).html) < 1_500_000
    records = fake(trials=256).records()
    begun = time.process_time()
    build(records)
    assert time.process_time() - begun < 4.0


def hostile_records(fake: Callable[..., Any], text: str) -> Records:
    """Records with one text at every place a user can name something."""
    made = fake(trials=24, task="multiclass", classes=3)
    made.names = [f"{text} {i}" for i in range(3)]
    records = made.records()
    for trial in records.search["trials"]:
        trial["config"][text] = trial["config"].pop("activation")
        if trial["state"] == "failed":
            trial["reason"] = text
    for part in ("parameters", "original"):
        ranges = records.search["space"][part]
        ranges[text] = {"choices": ["relu", "gelu", "silu", text]}
        del ranges["activation"]
    records.lr_curve["families"][text] = {**records.lr_curve["families"]["adamw"], "reason": text}
    records.dataset["warnings"] = [{"code": "x", "message": text, "column": text}]
    records.dataset["target"]["name"] = text
    records.version["reason"], records.version["alias"] = text, "candidate"
    records.study["name"] = text
    records.evaluation["warnings"] = [text]
    return dataclasses.replace(
        records, links={text: "javascript:alert(1)", "ok": f"https://h/{text}"}, environment={text: text}
    )


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_name_becomes_markup(fake: Callable[..., Any], text: str) -> None:
    records = hostile_records(fake, text)
    report = build(records)
    page = Page(report.html)
    plain = Page(build(hostile_records(fake, "plain")).html)
    assert [t for t, _ in page.tags if t in ("script", "img")] == []
    assert {t for t, _ in page.tags} == {t for t, _ in plain.tags}
    assert not any(a.get("href", "").lower().startswith("javascript") for _, a in page.tags)
    assert "49" not in page.text or "49" in plain.text  # no template ran
    if text.isascii() and "\n" not in text and len(text) < 100:
        assert " ".join(text.split()) in page.text
    assert "\x00" not in report.html and "\u202e" not in report.html
    summary_text(records)


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in nested records, a long list's first entry for all of them."""
    if at:
        yield at
    if isinstance(value, dict):
        for key in value:
            yield from paths(value[key], (*at, key))
    elif isinstance(value, list) and value and len(at) < 6:
        yield from paths(value[0], (*at, 0))


def without(value: Any, at: tuple[Any, ...], instead: Any) -> Any:
    """A copy with one place removed, or replaced."""
    copy = json.loads(json.dumps(value))
    inner = copy
    for key in at[:-1]:
        inner = inner[key]
    if instead is KeyError:
        del inner[at[-1]]
    else:
        inner[at[-1]] = instead
    return copy


@pytest.mark.parametrize("instead", [KeyError, None], ids=["removed", "null"])
@pytest.mark.parametrize("part", ["study", "dataset", "lr_curve", "search", "evaluation", "test", "version"])
@pytest.mark.usefixtures("unsaved")
def test_whatever_is_missing_there_is_a_report(fake: Callable[..., Any], part: str, instead: Any) -> None:
    records = fake(trials=8).records()
    whole = getattr(records, part)
    for at in paths(whole):
        changed = dataclasses.replace(records, **{part: without(whole, at, instead)})
        try:
            html = build(changed).html
            summary_text(changed)
        except Exception as error:
            raise AssertionError(f"{part}: {at}") from error
        assert "<h1>" in html and "nan" not in Page(html).text.split()
    assert "<h1>" in build(dataclasses.replace(records, **{part: None})).html


@pytest.mark.parametrize(
    "change",
    [
        {"trials": 1}, {"trials": 2}, {"task": "regression"}, {"task": "multiclass", "classes": 30, "rows": 900},
        {"gain": 0.0}, {"gain": -0.1}, {"rows": 1}, {"epochs": 1}, {"boosting": 0.1},
    ],
    ids=str,
)  # fmt: skip
def test_unusual_studies(fake: Callable[..., Any], change: Json) -> None:
    Page(build(fake(**({"trials": 12} | change)).records()).html)


def test_only_one_part_is_enough(fake: Callable[..., Any]) -> None:
    whole = fake(trials=6).records()
    for field in dataclasses.fields(Records):
        only = Records(**{field.name: getattr(whole, field.name)})
        assert "<h1>" in build(only).html and summary_text(only)
    assert "No results yet" in Page(build(Records()).html).text


def test_values_that_are_no_numbers_are_never_printed(fake: Callable[..., Any]) -> None:
    records = fake(trials=6).records()
    records.test["scores"]["accuracy"]["estimate"] = math.nan
    records.search["trials"][3]["value"] = math.inf
    records.search["trials"][2]["curve"][0]["train/loss"] = math.nan
    text = Page(build(records).html).text
    assert not {"nan", "inf", "None"} & set(text.split())


def test_logins_are_not_shown(fake: Callable[..., Any]) -> None:
    links = {"server": "https://me:CANARY_9f3@tracking.example/x"}
    records = dataclasses.replace(fake(trials=3).records(), links=links)
    report = build(records)
    assert "CANARY_9f3" not in report.html + report.markdown + summary_text(records)


def test_edges_of_ranges_are_named(fake: Callable[..., Any]) -> None:
    records = fake().records()
    winner = records.evaluation["winner"]
    config = next(c["config"] for c in records.evaluation["candidates"] if c["name"] == winner)
    config |= {"lr": 0.0249, "weight_decay": 0.0999, "dropout": 0.0, "depth": 4, "width": 32}
    text = Page(build(records).html).text
    assert "weight_decay = 0.0999 is at the upper end of its range (0.1): better values may lie beyond." in text
    assert "lr = 0.0249 is at the upper end of the range that the range test left (0.025)." in text
    assert "depth = 4 is at the upper end of its range" in text
    assert "dropout = 0" not in text  # nothing lies below 0
    assert "width = 32" not in text  # choices have no end


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_as_png(fake: Callable[..., Any], name: str) -> None:
    task = "regression" if name == "residuals" else "binary"
    found = picture_png(name, fake(trials=6, task=task).records())
    assert found is not None and found.startswith(base64.b64decode("iVBORw0KGgo="))
    assert picture_png(name, Records()) is None


def test_an_unknown_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="there are differences, folds"):
        picture_png("pie", Records())
