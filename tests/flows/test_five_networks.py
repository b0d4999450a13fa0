"""The five cases of docs/guides/your-own-model.md: its files, its commands, and the outputs printed there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guides" / "your-own-model.md").read_text(encoding="utf-8")
Lanewise = Callable[..., "subprocess.CompletedProcess[str]"]


def block(language: str, begin: str) -> str:
    """The code block that begins so."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    found = [text for text in blocks if text.startswith(begin)]
    assert len(found) == 1, begin
    return str(found[0])


def plain(text: str) -> str:
    """Without numbers, times and line ends: they are another machine's."""
    return " ".join(re.sub(r"\d+([.:]\d+)*", "#", text).split())


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The guide's package, installed by pip outside the project."""
    source = tmp_path / "gatednet"
    (source / "gatednet").mkdir(parents=True)
    (source / "pyproject.toml").write_text(block("toml", "[build-system]"))
    (source / "gatednet" / "__init__.py").write_text(block("python", '"""gatednet: '))
    where = ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(tmp_path / "site"), str(source)]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *where], check=True, capture_output=True)
    return tmp_path / "site"


@pytest.mark.slow
@pytest.mark.parametrize(("case", "code"), [("loss", 0), ("package", 0), ("stubborn", 0), ("chatty", 0), ("short", 4)])
def test_it_ends_as_the_guide_says(
    case: str, code: int, lanewise: Lanewise, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "five.py").write_text(block("python", '"""five.py: '))
    (tmp_path / "five.yaml").write_text(block("yaml", "name: five"))
    environment = {"PYTHONPATH": f"{ROOT}:{request.getfixturevalue('package')}"} if case == "package" else {}
    command, *told = block("text", f"$ lanewise run five.yaml --set name={case}").splitlines()
    done = lanewise(*shlex.split(command)[2:], **environment)
    output = plain(f"{done.stderr} {done.stdout}")
    assert done.returncode == code, done.stderr + done.stdout
    for line in told:
        assert plain(line) in output, line
    folder = tmp_path / ".lanewise" / "studies" / case
    assert len(list(folder.glob("rows-*/ledger.db"))) == (0 if case == "short" else 1)
    if case == "chatty":
        kept = next(folder.glob("rows-*/network-output.txt")).read_text()
        assert set(map(plain, kept.splitlines())) == {"forward with (#, #)"}
