"""Brings in classes and functions the user wrote, by "pkg.module:Name"; used by model, changes nothing else.

A module is imported in a child process first, with a time limit: code that hangs, exits or crashes at import
ends there. What it does to seeds, defaults, folder and environment of this process is undone.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from lanewise import import_probe
from lanewise.errors import ModelError
from lanewise.import_probe import last_lines
from lanewise.names import nearest
from lanewise.process_guard import unchanged_process

IMPORT_LIMIT_S = 60.0
_GRACE_S = 10.0  # starting Python and writing the answer, on top of the limit
_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_added: list[str] = []  # folders this module put on sys.path, those of the study now in work


def load_object(
    target: str, *, search_path: Sequence[str | Path] = (), limit_s: float = IMPORT_LIMIT_S
) -> Any:
    """What `target` names, from an installed package, the study's folder or the working directory.

    Args:
        target: "pkg.module:Name"; Name may be nested (Outer.Inner).
        search_path: Folders to look in after the installed packages, the study's first.
        limit_s: Seconds the import may take in the child process.

    Raises:
        ModelError: No such module or name; the import raises, hangs, exits or crashes; another module
            of that name comes first.
    """
    if not _TARGET.fullmatch(target) or target.partition(":")[0].endswith(".py"):
        raise _bad_target(target)
    name, _, path = target.partition(":")
    folders = _use_folders(search_path)
    if name not in sys.modules:
        _try_in_child(name, target, folders, limit_s)
    module = _import(name, target)
    _refuse_hidden(module, name, target, folders)
    found: Any = module
    for part in path.split("."):
        if not hasattr(found, part):
            raise _missing_name(found, part, target, module)
        found = getattr(found, part)
    return found


def _bad_target(target: str) -> ModelError:
    file, colon, name = target.rpartition(":")
    remedy = "write pkg.module:Class"
    if colon and file.endswith(".py"):
        module = ".".join(p for p in Path(file).with_suffix("").parts if p not in (".", "/"))
        remedy = f"name the module, not the file: {module}:{name}"
    elif not colon and "." in target:
        remedy = "put a colon before the class: " + ":".join(target.rsplit(".", 1))
    return ModelError(
        "this is no name of a class",
        given=repr(target[:200]),
        remedy=remedy,
        rule="pkg.module:Class, with Python names",
    )


def _use_folders(search_path: Sequence[str | Path]) -> list[str]:
    """Put the folders behind sys.path; forget those of an earlier study and the modules found in them.

    Two studies may each have a net.py. They come last so that no user's file hides an installed package.
    """
    folders = list(dict.fromkeys(str(Path(p).resolve()) for p in (*search_path, ".")))
    for old in [p for p in _added if p not in folders]:
        _added.remove(old)
        if old in sys.path:
            sys.path.remove(old)
        for name, module in list(sys.modules.items()):
            if _root(module, name) == old:
                del sys.modules[name]
    present = {str(Path(p).resolve()) for p in sys.path}
    for folder in folders:
        if folder not in present:
            sys.path.append(folder)
            _added.append(folder)
    importlib.invalidate_caches()
    return folders


def _root(module: ModuleType | None, name: str) -> str | None:
    """The folder of sys.path a loaded module was found in; None for built-in ones."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str):
        return None
    path = Path(file).absolute()
    path = path.parent if path.name == "__init__.py" else path
    parents = path.parents
    depth = name.count(".")
    return str(parents[depth].resolve()) if depth < len(parents) else None


def _try_in_child(name: str, target: str, folders: list[str], limit_s: float) -> None:
    """Import `name` in a child process and raise what it met there."""
    with tempfile.TemporaryDirectory(prefix="lanewise-import-") as temporary:
        folder = Path(temporary)
        order = {"module": name, "path": sys.path, "limit_s": limit_s}
        (folder / "order.json").write_text(json.dumps(order), encoding="utf-8")
        code, late = _run_child(folder, limit_s + _GRACE_S)
        answer_file, stack_file = folder / "answer.json", folder / "stack.txt"
        if answer_file.exists():
            answer = json.loads(answer_file.read_text(encoding="utf-8"))
            if answer:
                raise _told_by_child(answer, name, target, folders)
            return
        stack = stack_file.read_text(encoding="utf-8") if stack_file.exists() else ""
    lines = [
        line
        for line in stack.splitlines()
        if "<frozen importlib" not in line and "importlib/__init__" not in line
    ]
    lines = [line for line in lines if import_probe.__file__ not in line][:8]
    if late or "Timeout" in stack:
        what, remedy = (
            f"importing `{name}` did not end within {limit_s:g} s",
            "move training, downloads and waiting out of the module's top level, into functions",
        )
    elif code < 0:
        what, remedy = (
            f"importing `{name}` killed the process with {_signal(code)}",
            "mend or reinstall what it loads",
        )
    else:
        what, remedy = (
            f"importing `{name}` ended the process with code {code}",
            "remove os._exit from the top level",
        )
    raise ModelError(what, where=target, given=_indented(lines) if lines else None, remedy=remedy)


def _run_child(folder: Path, limit_s: float) -> tuple[int, bool]:
    """Run the probe to its end or to the limit: (exit code, whether it was late). Nothing of it stays."""
    # Its own session: what the module starts is ended with it, and it may not read from the terminal.
    child = subprocess.Popen(
        [sys.executable, "-P", import_probe.__file__, str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return child.wait(limit_s), False
    except subprocess.TimeoutExpired:
        return -signal.SIGTERM, True
    finally:
        try:
            if hasattr(os, "killpg"):
                os.killpg(child.pid, signal.SIGKILL)
            else:
                child.kill()
        except (ProcessLookupError, PermissionError):
            pass  # ended by itself, and left no one behind
        child.wait()


def _told_by_child(answer: dict[str, Any], name: str, target: str, folders: list[str]) -> ModelError:
    missing = answer["missing"]
    if missing and (name == missing or name.startswith(missing + ".")):
        here = sorted(
            {p.stem for f in folders for p in Path(f).glob("*.py")}
            | {p.parent.name for f in folders for p in Path(f).glob("*/__init__.py")}
        )
        near = nearest(missing, here)
        return ModelError(
            f"there is no module `{missing}`",
            where=target,
            given="looked in " + ", ".join(folders) + " and the packages",
            remedy=f"did you mean `{near}`?"
            if near
            else "put its file beside the study file or install its package",
        )
    if answer["exit"]:
        what, remedy = f"importing `{name}` called sys.exit", 'put it under `if __name__ == "__main__":`'
    else:
        what, remedy = (
            f"importing `{name}` raised {answer['error']}",
            f"make `python -c 'import {name}'` work",
        )
        if missing:
            remedy = f"install `{missing}`, or correct its name"
    return ModelError(what, where=target, given=_indented(answer["lines"]), remedy=remedy)


def _import(name: str, target: str) -> ModuleType:
    with unchanged_process():
        try:
            return importlib.import_module(name)
        except (Exception, SystemExit) as error:
            raise ModelError(
                f"importing `{name}` raised {type(error).__name__}, though a fresh process could import it",
                where=target,
                given=traceback_text(error),
                remedy="make the import independent of what ran before",
            ) from error


def _refuse_hidden(module: ModuleType, name: str, target: str, folders: list[str]) -> None:
    """Refuse when the user's own file of that name is not the one that was imported."""
    top = name.partition(".")[0]
    own = [p for f in folders for p in (Path(f, f"{top}.py"), Path(f, top, "__init__.py")) if p.is_file()]
    root = _root(module, name)
    if own and root is not None and not any(Path(root) in p.parents for p in own):
        raise ModelError(
            f"`{top}` means two things: your file and a package that comes first",
            where=target,
            given=f"{own[0]} and {module.__file__}",
            remedy="rename yours, or remove the other",
        )


def _missing_name(owner: Any, part: str, target: str, module: ModuleType) -> ModelError:
    classes = [n for n, v in vars(owner).items() if inspect.isclass(v) or inspect.isfunction(v)]
    near = nearest(part, classes)
    return ModelError(
        f"`{target.partition(':')[0]}` has no `{part}`",
        where=target,
        given=f"the module is {module.__file__}",
        remedy=f"did you mean `{near}`?" if near else "correct the name behind the colon",
    )


def _signal(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def traceback_text(error: BaseException) -> str:
    """The last lines of an error's traceback, indented to stand in a LanewiseError."""
    return _indented(last_lines(error))


def _indented(lines: Sequence[str]) -> str:
    return "".join(f"\n    | {line}" for line in lines)
