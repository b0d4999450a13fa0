"""The examples run and show what they must; what the documentation says of commands, keys and files is so."""

from __future__ import annotations

import ast
import json
import re
import runpy
import shlex
import shutil
import sqlite3
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer
import yaml

from flows.cli import app
from lanewise.study import TRAINING, Study, load_study

ROOT = Path(__file__).parents[1]
STUDIES = sorted((ROOT / "examples").glob("*.yaml"))
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "examples/README.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
STAGES = ("prepare", "lr_range", "search", "evaluate", "register", "report")
VERDICT = re.compile(r"tuned network|default (stays|is better)|is better here|learned nothing|tuning helped")
SMALL = {
    "train.epochs": 3, "search.trials": 5, "search.lanes": 5, "lr_range.steps": 20, "lr_range.repeats": 2,
    "evaluate.folds": 2, "evaluate.repeats": 1, "evaluate.finalists": 1, "evaluate.bootstrap": 100,
}  # fmt: skip

Lanewise = Callable[..., "subprocess.CompletedProcess[str]"]
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def small() -> list[str]:
    return [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]


def rows(database: Path, sql: str, *values: str) -> list[tuple]:
    with sqlite3.connect(database) as connection:
        return connection.execute(sql, values).fetchall()


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "examples", tmp_path / "examples"))


@pytest.mark.slow
@pytest.mark.parametrize("file", [path.name for path in STUDIES])
def test_an_example_runs_to_a_verdict_and_a_model(file: str, lanewise: Lanewise, examples: Path) -> None:
    here, study = examples.parent, load_study(examples / file)
    if study.data.source.startswith("shapes/"):
        runpy.run_path(str(examples / "shapes.py"))["write"](examples / "shapes")
    ran = lanewise("run", f"examples/{file}", *small())
    assert ran.returncode == 0, ran.stderr
    assert [stage for stage in STAGES if f" {stage}: " in ran.stderr] == list(STAGES)

    said = " ".join(ran.stdout.split())
    verdict = said.split(". ")[0]
    assert VERDICT.search(verdict), verdict
    for line in ("sealed test", "folds", "baseline", "registered", "trials", "use it", "report"):
        assert re.search(rf"^  {line} {{2,}}\S", ran.stdout, re.MULTILINE), f"no line `{line}`"

    page = here / ".lanewise" / "studies" / study.name / "report.html"
    html = page.read_text(encoding="utf-8")
    assert html.lstrip().lower().startswith("<!doctype html>")
    assert verdict.split(":")[0] in re.sub(r"<[^>]+>|\s+", " ", html), "the page says another verdict"
    assert len(pd.read_csv(page.with_name("trials.csv"))) == SMALL["search.trials"]

    mlflow = here / "mlruns" / "mlflow.db"
    aliases = rows(
        mlflow, "SELECT alias, version FROM registered_model_aliases WHERE name = ?", study.model_name
    )
    assert aliases in ([("champion", 1)], [("candidate", 1)])
    assert f'lanewise.load("models:/{study.model_name}@{aliases[0][0]}")' in ran.stdout
    trials = rows(mlflow, "SELECT count(*) FROM runs WHERE name LIKE 'trial-%' AND status != 'RUNNING'")
    assert trials == [(SMALL["search.trials"],)]

    if study.data.source == "own_network:orders":  # the network is found in the working directory
        orders = runpy.run_path(str(examples / "own_network.py"))["orders"]()
        orders.head(7).drop(columns="late").to_csv(here / "rows.csv", index=False)
        shutil.copy(examples / "own_network.py", here)
        told = lanewise("predict", f"{study.model_name}@{aliases[0][0]}", "rows.csv", "-o", "told.csv")
        assert told.returncode == 0, told.stderr
        table = pd.read_csv(here / "told.csv")
        assert list(table.columns) == ["prediction", "probability_no", "probability_yes"]
        assert len(table) == 7 and table.prediction.isin(["no", "yes"]).all()


    if study.data.source.startswith("shapes/"):
        told = lanewise("predict", f"{study.model_name}@{aliases[0][0]}", "examples/shapes/test", "-o", "told.csv")
        assert told.returncode == 0, told.stderr
        table = pd.read_csv(here / "told.csv")
        assert list(table.columns[:2]) == ["image", "prediction"] and len(table) == 60
        assert {image.split("/")[0] for image in table.image} == {"circle", "square", "triangle"}
        assert set(table.prediction) <= {"circle", "square", "triangle"}


def test_every_example_is_in_the_list() -> None:
    listed = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    files = [path.name for path in (ROOT / "examples").iterdir() if path.suffix in (".yaml", ".py")]
    assert len(files) >= 4 and not [name for name in files if f"]({name})" not in listed]


# ---- commands ----


def codes(text: str) -> Iterator[str]:
    """Every line of a fenced block, and every inline code."""
    fenced = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
    for match in fenced.finditer(text):
        if match[1] in ("", "sh", "bash", "console"):
            yield from match[2].splitlines()
    for line in fenced.sub("", text).split("\n\n"):
        yield from (" ".join(code.split()) for code in re.findall(r"`([^`]+)`", line))


def commands(text: str, name: str) -> Iterator[list[str]]:
    """The words of every quoted command of that name, without comments."""
    for code in codes(text):
        code = code.removeprefix("$ ").removeprefix(".venv/bin/")
        if code.startswith(f"{name} "):
            yield shlex.split(code, comments=True)[1:]


@pages
def test_quoted_commands_exist(page: Path) -> None:
    help_of = typer.main.get_command(app)
    known: Mapping[str, Any] = help_of.commands  # type: ignore[attr-defined]  # a group, as it has several
    for words in commands(page.read_text(encoding="utf-8"), "lanewise"):
        command, rest = words[0], words[1:]
        if command.startswith("-"):
            assert command in ("-h", "--help")
            continue
        assert command in known, f"lanewise {command}"
        flags = {flag for parameter in known[command].params for flag in parameter.opts} | {"-h", "--help"}
        strange = [word for word in rest if re.match(r"--?[a-z]", word) and word.split("=")[0] not in flags]
        assert not strange, f"lanewise {command} knows no {strange}"


def test_the_readers_first_commands_are_quoted() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {"run", "init", "check", "predict", "ui"} <= {words[0] for words in commands(text, "lanewise")}


@pages
def test_quoted_make_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    for words in commands(page.read_text(encoding="utf-8"), "make"):
        assert not words or words[0] in targets, f"make {words[0]}"


def test_quoted_deployments_exist() -> None:
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    names = {f"{each['entrypoint'].rpartition('.')[2]}/{each['name']}" for each in declared}
    for page in PAGES:
        for words in commands(page.read_text(encoding="utf-8"), "prefect"):
            if words[:2] == ["deployment", "run"]:
                assert words[2] in names, f"{page.name}: {words[2]}"


# ---- files ----


@pages
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s#]+)[^)]*\)", text)
    dead = [to for to in links if "://" not in to and not (page.parent / to).exists()]
    assert not dead


@pages
def test_named_files_exist(page: Path) -> None:
    """Every path in code that begins with a folder of the repository."""
    if page.parent.name in ("adr",) or page.name == "lab-log.md":  # they say what was, on their date
        return
    folders = (
        "lanewise/",
        "flows/",
        "tasks/",
        "models/",
        "tests/",
        "examples/",
        "docs/",
        "benchmarks/",
        "docker/",
    )
    named = re.findall(r"`((?:\w+/)+[\w.-]*)(?:::\w+)?`", page.read_text(encoding="utf-8"))
    assert not [path for path in named if path.startswith(folders) and not (ROOT / path).exists()]


def test_the_readme_tree_is_the_tree() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = re.search(r"```\n(lanewise/.*?)```", text, re.DOTALL)
    assert tree is not None
    said = {line.split()[0] for line in tree[1].splitlines()}
    kept = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = {name.split("/")[0] + "/" for name in kept.splitlines() if "/" in name and name[0] != "."}
    assert not folders - said, "folders the README does not name"
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"][
        "wheel"
    ]
    assert {f"{name}/" for name in packages["packages"]} <= said


def test_pictures_are_small() -> None:
    big = [path.name for path in (ROOT / "docs" / "images").glob("*.png") if path.stat().st_size > 300_000]
    assert not big


# ---- the study file ----


def cell(value: object) -> str:
    if value is None:
        return "-"
    value = list(value) if isinstance(value, tuple) else value
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def test_the_guide_names_every_key_with_its_default() -> None:
    guide = (ROOT / "docs" / "guides" / "study-file.md").read_text(encoding="utf-8")
    parts = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^##|\Z)", guide, re.MULTILINE | re.DOTALL))
    wrong = []
    for name, section in Study.model_fields.items():
        fields = getattr(section.annotation, "model_fields", None)
        if fields is None:
            continue
        key = section.alias or name
        said = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", parts[key], re.MULTILINE))
        want = {
            name: "required" if field.is_required() else cell(field.get_default(call_default_factory=True))
            for name, field in fields.items()
        }
        wrong += [
            f"{key}.{k}: {said.get(k)}, not {want.get(k)}"
            for k in want.keys() | said.keys()
            if said.get(k) != want.get(k)
        ]
    training = dict(
        re.findall(
            r"^\| `(\w+)` \| (.*?) \|", guide.partition("### Hyperparameters of training")[2], re.MULTILINE
        )
    )
    want = {name: cell(entry.default) for name, entry in TRAINING.items()}
    assert not wrong and training == want


@pages
def test_quoted_studies_are_legal(page: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for number, block in enumerate(blocks):
        path = tmp_path / f"study-{number}.yaml"
        whole = re.search(r"^data:", block, re.MULTILINE)
        path.write_text(
            block if whole else f"data: {{source: rows.csv, target: y}}\n{block}", encoding="utf-8"
        )
        load_study(path)


def test_the_guide_to_data_names_notes_that_exist() -> None:
    guide = (ROOT / "docs" / "guides" / "data.md").read_text(encoding="utf-8")
    table = guide.partition("| note | meaning |")[2].partition("\n\n")[0]
    named = {
        code
        for row in table.splitlines()
        for code in re.findall(r"`(\w+)`", row.split("|")[1] if "|" in row else "")
    }
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "lanewise" / "data").glob("*.py"))
    texts = {
        node.value
        for node in ast.walk(ast.parse(source.replace("from __future__ import annotations", "")))
        if isinstance(node, ast.Constant)
    }
    assert len(named) > 10 and named <= texts
