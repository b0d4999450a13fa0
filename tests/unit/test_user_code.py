"""User code that is missing, mistyped, raises, hangs, exits, crashes or meddles (fault rows G9 and D11)."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from lanewise import user_code
from lanewise.errors import ModelError
from lanewise.process_guard import unchanged_process
from lanewise.user_code import load_object

Write = Callable[[str, str], None]


@pytest.fixture(autouse=True)
def _forget_folders() -> Iterator[None]:
    """No folder of a test stays on sys.path, and none of its modules in sys.modules."""
    yield
    user_code._use_folders(())


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def file(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    return file


def refused(target: str, folder: Path, limit_s: float = 30.0) -> str:
    with pytest.raises(ModelError) as caught:
        load_object(target, search_path=[folder], limit_s=limit_s)
    assert caught.value.exit_code == 4
    return str(caught.value)


def test_finds_a_class_in_the_study_s_folder_with_its_siblings(tmp_path: Path, write: Write) -> None:
    write("pack/__init__.py", "")
    write(
        "pack/part.py",
        "from sibling_of_mine import NAME\nclass Outer:\n    class Inner:\n        name = NAME\n",
    )
    write("sibling_of_mine.py", "NAME = 'here'\n")
    assert load_object("pack.part:Outer.Inner", search_path=[tmp_path]).name == "here"


def test_finds_a_class_in_the_working_directory(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("lies_in_cwd.py", "class Net: ...\n")
    monkeypatch.chdir(tmp_path)
    assert load_object("lies_in_cwd:Net").__name__ == "Net"


def test_a_module_that_is_loaded_needs_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_code, "_run_child", lambda *_: pytest.fail("started a child"))
    assert load_object("random:Random") is random.Random


def test_two_studies_may_each_have_a_module_of_one_name(tmp_path: Path, write: Write) -> None:
    write("a/twin_net.py", "from twin_part import WHERE\nclass Net:\n    where = WHERE\n")
    write("a/twin_part.py", "WHERE = 'a'\n")
    write("b/twin_net.py", "from twin_part import WHERE\nclass Net:\n    where = WHERE\n")
    write("b/twin_part.py", "WHERE = 'b'\n")
    first = load_object("twin_net:Net", search_path=[tmp_path / "a"])
    second = load_object("twin_net:Net", search_path=[tmp_path / "b"])
    assert (first.where, second.where) == ("a", "b")
    assert str(tmp_path / "a") not in sys.path
    assert "torch" in sys.modules  # only what lay in the first folder is forgotten


@pytest.mark.parametrize(
    ("target", "remedy"),
    [
        ("net.py:Net", "name the module, not the file: net:Net"),
        ("./sub/net.py:Net", "name the module, not the file: sub.net:Net"),
        ("net:", "write pkg.module:Class"),
        (":Net", "write pkg.module:Class"),
        ("net:Net()", "write pkg.module:Class"),
        ("os;import sys:x", "write pkg.module:Class"),
    ],
)
def test_what_is_no_name_is_refused(target: str, remedy: str, tmp_path: Path) -> None:
    assert remedy in refused(target, tmp_path)


def test_missing_module_names_the_nearest_file(tmp_path: Path, write: Write) -> None:
    write("my_network.py", "")
    text = refused("my_netwrok:Net", tmp_path)
    assert "there is no module `my_netwrok`" in text
    assert str(tmp_path) in text
    assert "did you mean `my_network`?" in text
    assert "no module `no_such_package`" in refused("no_such_package.deep.net:Net", tmp_path)


def test_mistyped_class_names_the_nearest_class(tmp_path: Path, write: Write) -> None:
    write("typo_net.py", "class TinyNet: ...\n")
    text = refused("typo_net:TinyNte", tmp_path)
    assert "`typo_net` has no `TinyNte`" in text
    assert "did you mean `TinyNet`?" in text


def test_error_at_import_shows_the_user_s_own_lines(tmp_path: Path, write: Write) -> None:
    write("broken_net.py", "import json\n\ndef load():\n    return {}['width']\n\nWIDTH = load()\n")
    text = refused("broken_net:Net", tmp_path)
    assert "importing `broken_net` raised KeyError" in text
    assert f'File "{tmp_path}/broken_net.py", line 6, in <module>' in text
    assert "WIDTH = load()" in text
    assert text.splitlines()[-2].endswith("| KeyError: 'width'")
    assert "importlib" not in text and "import_probe" not in text


def test_package_missing_inside_the_module_is_named(tmp_path: Path, write: Write) -> None:
    write("needs_more.py", "import not_installed_anywhere\n")
    text = refused("needs_more:Net", tmp_path)
    assert "raised ModuleNotFoundError" in text
    assert "install `not_installed_anywhere`" in text
    assert "line 1, in <module>" in text


def test_syntax_error_shows_its_line(tmp_path: Path, write: Write) -> None:
    write("odd_syntax.py", "class Net:\n    def forward(self, x)\n        return x\n")
    text = refused("odd_syntax:Net", tmp_path)
    assert "raised SyntaxError" in text
    assert "line 2" in text and "def forward(self, x)" in text


def test_exit_at_import(tmp_path: Path, write: Write) -> None:
    write("leaves.py", "import sys\nsys.exit('bye')\n")
    text = refused("leaves:Net", tmp_path)
    assert "importing `leaves` called sys.exit" in text
    assert "line 2, in <module>" in text
    assert '__name__ == "__main__"' in text


def test_hard_exit_and_crash_at_import(tmp_path: Path, write: Write) -> None:
    write("leaves_hard.py", "import os\nos._exit(3)\n")
    assert "ended the process with code 3" in refused("leaves_hard:Net", tmp_path)
    write("crashes.py", "import ctypes\nctypes.string_at(0)\n")
    text = refused("crashes:Net", tmp_path)
    assert "killed the process with SIGSEGV" in text
    assert 'crashes.py", line 2' in text


def test_hang_at_import_ends_in_time_and_shows_where(tmp_path: Path, write: Write) -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "open({path!r}, 'w').write(str(child.pid))\n"
        "time.sleep(1e9)\n"
    )
    write("hangs.py", code.format(path=str(tmp_path / "pid")))
    start = time.monotonic()
    text = refused("hangs:Net", tmp_path, limit_s=1.5)
    assert time.monotonic() - start < 10
    assert "importing `hangs` did not end within 1.5 s" in text
    assert 'hangs.py", line 4' in text
    # What the module started is gone too.
    pid = int((tmp_path / "pid").read_text())
    state = Path(f"/proc/{pid}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_module_may_not_read_the_terminal_and_may_print_much(tmp_path: Path, write: Write) -> None:
    write("asks.py", "print('x' * 10_000_000)\ninput('ready?')\n")
    assert "raised EOFError" in refused("asks:Net", tmp_path)


def test_own_file_hidden_by_a_package_is_refused(tmp_path: Path, write: Write) -> None:
    write("json.py", "class Net: ...\n")
    text = refused("json:JSONEncoder", tmp_path)
    assert "`json` means two things" in text
    assert str(tmp_path / "json.py") in text


_MEDDLE = """
import os, random
import numpy as np
import torch
torch.manual_seed(99)
np.random.seed(99)
random.seed(99)
torch.set_default_dtype(torch.float64)
torch.set_grad_enabled(False)
torch.set_num_threads(2)
torch.use_deterministic_algorithms(True)
torch.set_default_device("meta")
os.environ["LANEWISE_TEST_NEW"] = "1"
os.environ["PATH"] = ""
os.environ.pop("LANEWISE_TEST_OLD")
os.chdir("/")
class Net(torch.nn.Module): ...
"""


def _draws() -> tuple[float, ...]:
    return torch.rand(1).item(), float(np.random.rand()), random.random()  # the global generator


def test_meddling_at_import_leaves_no_trace(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANEWISE_TEST_OLD", "kept")
    write("meddles.py", _MEDDLE)
    torch.manual_seed(1)
    np.random.seed(1)  # the global generator is what is looked at
    random.seed(1)
    expected = _draws()
    torch.manual_seed(1)
    np.random.seed(1)  # as above
    random.seed(1)
    before = dict(os.environ), Path.cwd(), torch.get_num_threads()
    assert load_object("meddles:Net", search_path=[tmp_path]).__name__ == "Net"
    assert _draws() == expected
    assert (dict(os.environ), Path.cwd(), torch.get_num_threads()) == before
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.zeros(1).device.type == "cpu"


def test_guard_restores_after_an_error_too() -> None:
    torch.manual_seed(1)
    expected = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="on purpose"), unchanged_process():
        torch.manual_seed(2)
        torch.set_default_dtype(torch.float64)
        raise RuntimeError("on purpose")
    assert torch.equal(torch.get_rng_state(), expected)
    assert torch.get_default_dtype() == torch.float32
