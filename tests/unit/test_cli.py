"""The command line: answers at once, refuses in one message with the right exit code, repeats no default."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.cli import main
from lanewise.study import load_study
from lanewise.testing import toy_classification

ROOT = Path(__file__).parents[2]
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Run a command in this process: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gc.freeze", lambda: None)  # the tests go on

    def run(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(args)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return int(end.value.code or 0), out, err

    return run


@pytest.fixture
def study(tmp_path: Path) -> Path:
    toy_classification(60).to_csv(tmp_path / "rows.csv", index=False)
    path = tmp_path / "toy.yaml"
    path.write_text("data: {source: rows.csv, target: target}\n")
    return path


def fresh(*args: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *args], env=environment, capture_output=True, text=True, check=False
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, contextlib\n"
        "from flows.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & set(sys.argv[1:])), file=sys.stderr)"
    )
    heavy = ("torch", "prefect", "mlflow", "optuna", "pandas", "numpy", "sklearn", "pydantic", "matplotlib")
    found = fresh("-c", code, *heavy)
    assert found.stderr.strip() == "[]"
    commands = "run lr-range check init schema check-model predict sync export-optuna ui"
    for command in commands.split():
        assert f" {command} " in found.stdout


def test_a_fixed_hyperparameter_is_not_searched(call: Call, study: Path) -> None:
    code, free, err = call("check", str(study))
    assert code == 0 and ": lr, " in free, err
    code, fixed, err = call("check", str(study), "--fix", "lr=1e-3")
    line = free.splitlines()[1].replace("lr, ", "").replace("5 searched", "4 searched")
    assert code == 0 and fixed.splitlines()[1] == line, err
    by_set = load_study(study, {"space.lr": "1e-3"}).definition()
    assert load_study(study, {"fix.lr": "1e-3"}).definition() == by_set


def test_a_wrong_study_is_refused_before_anything_starts(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("data: {source: rows.csv, target: y}\nserch: {trials: 3}\n")
    begun = time.monotonic()
    code, out, err = call("run", str(path))
    assert code == 2
    assert out == ""
    assert "wrong.yaml:2:1" in err
    assert "did you mean `search`" in err or "search" in err
    assert time.monotonic() - begun < 5
    assert not (tmp_path / ".lanewise").exists()


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("run",), 2, "Missing argument 'STUDY'"),
        (("nonsense",), 2, "No such command 'nonsense'"),
        (("run", "toy.yaml", "--trials", "3"), 2, "No such option"),
        (("check", "toy.yaml", "--set", "search.trials"), 2, "KEY=VALUE"),
        (("check", "toy.yaml", "--set", "search.trails=3"), 2, "trials"),
        (("check", "toy.yaml", "--fix", "lr"), 2, "NAME=VALUE"),
        (("check", "toy.yaml", "--fix", "lrr=0.1"), 2, "--fix lrr=0.1: unknown hyperparameter `lrr`, did you mean"),
        (("check", "toy.yaml", "--fix", "search.trials=3"), 2, "--fix search.trials=3: unknown hyperparameter"),
        (("check", "toy.yaml", "--fix", "lr=fast"), 2, "`lr` has a value of the wrong type"),
        (("check", "toy.yaml", "--fix", "lr=200000"), 2, "--fix lr=200000: `lr` is out of bounds"),
        (("check", "toy.yaml", "--fix", "lr=[0.1, 0.2]"), 2, "write --fix lr=VALUE, or --set space.lr=[0.1, 0.2]"),
        (("check", "toy.yaml", "--fix", "lr="), 2, "this does not fix a hyperparameter"),
        (("check", "toy.yaml", "--fix", "lr=1e-3", "--set", "space.lr.low=1e-4"), 2, "`lr` is given twice"),
        (("check", "toy.yaml", "--set", "data.source=gone.csv"), 3, "gone.csv"),
        (("check", "toy.yaml", "--set", "model.name=mpl"), 4, "mlp"),
        (("check", "gone.yaml"), 2, "gone.yaml"),
        (("check", "toy.yaml", "--set", "tracking.ledger=notes.txt"), 2, "this is no place for the ledger"),
        (("export-optuna", "toy.yaml"), 2, "there are no trials to copy"),
        (("check-model", "nowhere.module:Network"), 4, "nowhere"),
        (("predict", "folder-that-is-not-there/1", "rows.csv"), 5, "folder-that-is-not-there"),
        (("sync", "toy.yaml"), 5, "spool"),
    ],
)
def test_exit_codes(call: Call, study: Path, args: tuple[str, ...], code: int, words: str) -> None:
    found, out, err = call(*args)
    assert (found, words in out + err) == (code, True), out + err


@pytest.mark.parametrize("uri", ["postgresql://u@h/db", "postgresql+psycopg://mlflow@h:5432/db"])
def test_b16_ledger_and_mlflow_in_one_database_are_refused(call: Call, study: Path, uri: str) -> None:
    """B16: whoever logs in, and by which driver."""
    place = ("--set", "tracking.ledger=postgresql://lanewise@h/db")
    code, out, err = call("check", "toy.yaml", "--set", f"tracking.uri={uri}", *place)
    assert (code, out) == (2, "") and "the ledger and MLflow name the same database" in err


def test_check_writes_nothing(call: Call, study: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    code, out, _ = call("check", str(study), "--set", "search.trials=3")
    assert code == 0
    assert out.endswith("all fits\n")
    assert "48 rows to work with, 12 to be sealed" in out
    assert sorted(tmp_path.rglob("*")) == before


def test_init_writes_a_study_that_fits(call: Call, study: Path, tmp_path: Path) -> None:
    assert call("init", "rows.csv", "--target", "target", "-o", "new.yaml")[0] == 0
    assert call("check", "new.yaml")[0] == 0
    code, _, err = call("init", "rows.csv", "--target", "target", "-o", "new.yaml")
    assert (code, "the file is there already" in err) == (2, True)


def test_schema_is_the_study_schema(call: Call) -> None:
    from lanewise.study import json_schema

    assert json.loads(call("schema")[1]) == json_schema()


def test_check_model(call: Call) -> None:
    code, out, _ = call("check-model", "mlp")
    assert code == 0
    assert "fits the contract" in out


def test_predict_from_a_stored_folder(call: Call, study: Path, tmp_path: Path) -> None:
    """The table's predictions are those of the model itself; formulas are made harmless."""
    import pandas as pd

    from lanewise import registry
    from lanewise.data import prepare
    from lanewise.model import resolve
    from lanewise.refit import refit
    from lanewise.space import build_space
    from lanewise.study import load_study
    from lanewise.trainer import full_trainer

    read = load_study(study)
    dataset, network = prepare(read).dataset, resolve("mlp")
    config = build_space(read, network.space, network.defaults).default()
    train = full_trainer(read, network, dataset)
    fitted = refit(dataset, network, config, epochs=2, members=1, seed=0, train_full=train)
    example = dataset.frame.head(8)
    registry.save(fitted.to_parts(), tmp_path / "model", example, fitted.predict(example))

    code, _, err = call("predict", str(tmp_path / "model"), "rows.csv", "-o", "out.csv")
    assert code == 0, err
    found = pd.read_csv(tmp_path / "out.csv")
    expected = fitted.predict(pd.read_csv(tmp_path / "rows.csv").drop(columns="target"))
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-6)

    rows = pd.read_csv(tmp_path / "rows.csv")
    column = dataset.columns.categories[0] if dataset.columns.categories else None
    assert ("a category" in err) is False
    if column is not None:
        rows.loc[:2, column] = "never seen"
        rows.to_csv(tmp_path / "odd.csv", index=False)
        code, _, err = call("predict", str(tmp_path / "model"), "odd.csv")
        said = f"{column}: a category that training did not have, or rarely: 3 of {len(rows)} rows"
        assert (code, said in err) == (0, True)

    pd.read_csv(tmp_path / "rows.csv").drop(columns="x1").to_csv(tmp_path / "less.csv", index=False)
    code, _, err = call("predict", str(tmp_path / "model"), "less.csv")
    assert (code, "x1" in err) == (3, True)
