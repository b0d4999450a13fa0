"""Arrows point one way, one door per outside system, nothing loads code from data: read from the source."""

from __future__ import annotations

import ast
import logging
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("lanewise", "flows", "tasks", "models")
DOORS = {"prefect": ("flows/", "tasks/"), "mlflow": ("lanewise/tracking",), "optuna": ("lanewise/search/",)}
NAMELESS = {"utils", "util", "common", "helpers", "helper", "misc", "base", "core"}


def sources(*packages: str) -> Iterator[Path]:
    for package in packages:
        yield from sorted((ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, those inside functions too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: imports are absolute"
            yield node.lineno, node.module or ""


def test_import_contracts() -> None:
    from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

    config = str(ROOT / "pyproject.toml")
    try:
        assert lint_imports(config_filename=config, cache_dir=None) == EXIT_STATUS_SUCCESS
    finally:
        for logger in logging.Logger.manager.loggerDict.values():  # it turns every other logger off
            if isinstance(logger, logging.Logger):
                logger.disabled = False


@pytest.mark.parametrize("system", DOORS)
def test_one_door(system: str) -> None:
    outside = [
        f"{name_of(path)}:{line}"
        for path in sources(*PACKAGES)
        for line, module in imports(path)
        if module.split(".")[0] == system and not name_of(path).startswith(DOORS[system])
    ]
    assert not outside, f"{system} is imported in {DOORS[system]} only"


def test_models_know_torch_only() -> None:
    known = {"torch", "models"} | set(sys.stdlib_module_names)
    strangers = [
        f"{name_of(path)}:{line} imports {module}"
        for path in sources("models")
        for line, module in imports(path)
        if module.split(".")[0] not in known
    ]
    assert not strangers


def test_dependencies_are_those_imported() -> None:
    """Every import of a package is declared, and every declared one imported or explained as a pin."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    wanted = {normal(re.split(r"[\s<>=!~\[;]", line)[0]) for line in declared}
    owners = packages_distributions()
    used: dict[str, str] = {}
    for path in sources(*PACKAGES):
        for line, module in imports(path):
            top = module.split(".")[0]
            if top not in sys.stdlib_module_names and top not in PACKAGES and top:
                for owner in owners.get(top, [top]):
                    used[normal(owner)] = f"{name_of(path)}:{line}"
    # These two hold modules of mlflow.
    for same in ("mlflow-skinny", "mlflow-tracing"):
        used.pop(same, None)
    pins = {"fastapi", "sqlalchemy"}
    assert not {owner: place for owner, place in used.items() if owner not in wanted}, (
        "imported, not declared"
    )
    assert not wanted - set(used) - pins, "declared, not imported"


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def calls(path: Path) -> Iterator[tuple[ast.Call, str]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def test_nothing_runs_code_from_data() -> None:
    """No pickle, no eval, no shell; torch.load only with weights_only=True written out."""
    banned = {
        "eval", "exec", "pickle.load", "pickle.loads", "cloudpickle.load", "cloudpickle.loads", "joblib.load",
        "dill.load", "dill.loads", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system", "os.popen",
        "marshal.loads", "shelve.open", "pd.read_pickle", "pandas.read_pickle",
        "torch.hub.load", "torch.package.PackageImporter",
    }  # fmt: skip
    found = []
    for path in sources(*PACKAGES, "benchmarks", "examples"):
        found += [
            f"{name_of(path)}:{line} imports {module}"
            for line, module in imports(path)
            if module.split(".")[0] in {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
        ]
        for node, callee in calls(path):
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if callee in banned or keywords.get("shell") == "True" or keywords.get("allow_pickle") == "True":
                found.append(f"{name_of(path)}:{node.lineno} {callee}")
            if callee in ("np.load", "numpy.load") and keywords.get("allow_pickle") != "False":
                found.append(f"{name_of(path)}:{node.lineno} np.load without allow_pickle=False")
            if callee == "torch.load" and keywords.get("weights_only") != "True":
                found.append(f"{name_of(path)}:{node.lineno} torch.load without weights_only=True")
    assert not found


def test_nothing_is_swallowed_or_left_open() -> None:
    found = []
    for path in sources(*PACKAGES):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ExceptHandler) and node.type is None:
                found.append(f"{name_of(path)}:{node.lineno} bare except")
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(r"\b(TODO|FIXME|XXX)\b|#\s*type:\s*ignore\s*$|NotImplementedError", text):
                found.append(f"{name_of(path)}:{number} {text.strip()}")
    assert not found


def test_every_module_says_what_it_is() -> None:
    silent = [name_of(path) for path in sources(*PACKAGES) if not ast.get_docstring(tree(path))]
    assert not silent


def test_file_names_say_what_is_inside() -> None:
    assert not [name_of(path) for path in sources(*PACKAGES, "tests") if path.stem in NAMELESS]


def test_files_and_functions_stay_readable() -> None:
    long = [name_of(p) for p in sources(*PACKAGES) if len(p.read_text(encoding="utf-8").splitlines()) > 500]
    for path in sources(*PACKAGES):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or node.lineno) - node.lineno
                if size > 70:
                    long.append(f"{name_of(path)}:{node.lineno} {node.name}: {size} lines")
    assert not long, "a file over 500 lines becomes a folder, a function over 70 is split"


def test_defaults_stand_in_the_study_only() -> None:
    """The command line repeats no default of a study: every option that a study has is set through --set."""
    text = (ROOT / "flows" / "cli.py").read_text(encoding="utf-8")
    assert not re.search(r"--(trials|epochs|seed|lanes|folds|metric)\b", text)
