"""The image's Dockerfile line by line, and the wheel it installs; tests/unit/test_docker_files.py reads compose.

No container engine is needed. The wheel is built as the Dockerfile builds it, without a network, and used from
an empty folder where no source tree is in reach.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
PACKAGES = ("lanewise", "flows", "tasks", "models")
FINAL = ("cpu", "cuda")

Line = tuple[str, str]  # instruction, the rest


def dockerfile() -> tuple[dict[str, str], dict[str, list[Line]]]:
    """The arguments before the first stage, and the instructions of each stage by its name."""
    text = re.sub(r"^\s*#.*\n", "", (DOCKER / "Dockerfile").read_text(), flags=re.M)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    arguments: dict[str, str] = {}
    stages: dict[str, list[Line]] = {}
    current: list[Line] = []
    for line in filter(str.strip, lines):
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            current = stages.setdefault(rest.split()[2], [])
        elif word == "ARG" and not stages:
            arguments |= [rest.split("=", 1)]
        current.append((word, rest))
    return arguments, stages


def sources(lines: list[Line]) -> set[str]:
    """What COPY takes from the build's folder."""
    words = [word for name, rest in lines if name == "COPY" for word in rest.split()[:-1]]
    return {word.rstrip("/") for word in words if not word.startswith("--")}


ARGUMENTS, STAGES = dockerfile()


def test_every_stage_begins_with_a_pinned_image_or_a_stage_above() -> None:
    above: list[str] = []
    for name, lines in STAGES.items():
        image = lines[0][1].split()[0]
        if image not in above:
            while found := re.search(r"\$\{(\w+)\}", image):
                image = image.replace(found[0], ARGUMENTS[found[1]])
            assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", image), image
        above.append(name)
    assert set(FINAL) <= set(above)


@pytest.mark.parametrize("name", FINAL)
def test_the_image_runs_as_a_numbered_user_and_holds_no_source(name: str) -> None:
    chain, lines = [name], STAGES[name]
    while (parent := lines[0][1].split()[0]) in STAGES:
        chain.append(parent)
        lines = STAGES[parent]
    users = [rest for stage in chain for word, rest in STAGES[stage] if word == "USER"]
    assert users and re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", users[0])
    assert STAGES[name][-1][0] == "USER"  # nothing is installed as that user: it cannot change what it runs
    copied = {source for stage in chain for source in sources(STAGES[stage])}
    assert copied <= {"prefect.yaml", *(f"docker/{file.name}" for file in DOCKER.glob("*.*"))}
    assert "wheel" not in chain  # the wheel's stage lends the wheel, it is not built upon


def test_nothing_is_fetched_but_pinned_packages() -> None:
    for lines in STAGES.values():
        for word, rest in lines:
            assert word != "ADD"
            assert word not in ("ENV", "ARG") or not re.search(r"(?i)password|secret|token|auth_string", rest)
            if word != "RUN":
                continue
            assert not re.search(r"\b(curl|wget|git|apt-get|sudo)\b", rest)
            for command in re.findall(r"pip install [^&]+", rest):
                pinned = "--constraint" in command or ("--no-deps" in command and "^torch==" in command)
                assert pinned and "--no-cache-dir" in command, command


def test_the_build_sees_what_it_copies_and_nothing_else() -> None:
    rules = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    seen = {rule[1:].rstrip("/") for rule in rules if rule.startswith("!")}
    assert "*" in rules
    copied = {source for lines in STAGES.values() for source in sources(lines)}
    assert copied == seen
    assert all((ROOT / source).exists() for source in copied)


def test_scripts_are_plain_shell(tmp_path: Path) -> None:
    for script in DOCKER.glob("*.sh"):
        assert script.read_text().startswith("#!/bin/sh\n") and os.access(script, os.X_OK)
        subprocess.run(["sh", "-n", script], check=True)
    entry = ["sh", str(DOCKER / "entrypoint.sh")]
    done = subprocess.run([*entry, "echo", "a b", "c"], capture_output=True, text=True, check=True)
    assert done.stdout == "a b c\n"


def test_secrets_are_random_private_and_kept(tmp_path: Path) -> None:
    script = Path(shutil.copy(DOCKER / "make-secrets.sh", tmp_path))
    seen = []
    for _ in range(2):
        done = subprocess.run(["sh", script], capture_output=True, text=True, check=True)
        files = sorted((tmp_path / "secrets").iterdir())
        seen.append([file.read_text() for file in files])
        assert not any(secret in done.stdout + done.stderr for secret in seen[-1])
    assert seen[0] == seen[1] and len(set(seen[0])) == 4
    assert all(re.fullmatch(r"[0-9a-f]{48}", secret) for secret in seen[0])  # safe inside an address
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0


# --- the wheel ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what the Dockerfile's first stage copies, with the tools that are here."""
    pytest.importorskip("hatchling", reason="hatchling is not installed (requirements.lock has it)")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    for name in ("requirements.lock", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-cache-dir", "--no-deps", "--no-index",
         "--no-build-isolation", "--wheel-dir", out, "."],
        cwd=source, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = out.glob("lanewise-*-py3-none-any.whl")
    return found


def test_the_wheel_holds_the_packages_their_data_and_entry_points(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entries,) = (name for name in names if name.endswith(".dist-info/entry_points.txt"))
        points = configparser.ConfigParser()
        points.read_string(archive.read(entries).decode())
    wanted = {
        str(file.relative_to(ROOT))
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and not file.name.startswith(".")
    }
    held = {name for name in names if ".dist-info/" not in name}
    assert held == wanted
    data = {name for name in held if not name.endswith(".py")}
    assert {"lanewise/report/template.html", "lanewise/report/style.css"} <= data
    assert any(name.startswith("lanewise/tracking/mlflow_") for name in data)
    assert points["console_scripts"]["lanewise"] == "flows.cli:main"
    assert points["lanewise.models"]["models"] == "models:MODELS"
    assert any(name.endswith("/licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_the_wheel_works_from_an_empty_folder_without_the_source_tree(wheel: Path, tmp_path: Path) -> None:
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel],
        check=True, capture_output=True,
    )  # fmt: skip
    (empty / "study.yaml").write_text('data: {source: "sklearn:digits"}\n')
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONPATH": str(site)}
    script = (
        "import importlib.metadata as m, sys, flows, lanewise, models, tasks\n"
        f"assert all(p.__file__.startswith({str(site)!r}) for p in (flows, lanewise, models, tasks))\n"
        f"assert not any(str(p).startswith({str(ROOT / 'lanewise')!r}) for p in sys.path)\n"
        "(found,) = {e.load() is models.MODELS for e in m.entry_points(group='lanewise.models')}\n"
        "assert found\n"
    )
    for command in (
        [sys.executable, "-P", "-c", script],
        [sys.executable, str(site / "bin" / "lanewise"), "--help"],
        [sys.executable, str(site / "bin" / "lanewise"), "check", "study.yaml"],
    ):
        done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "all fits" in done.stdout
