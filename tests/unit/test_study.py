"""The study: defaults, places, overrides, short forms, the strict scalars and the editor's schema."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanewise import strict_yaml
from lanewise.errors import StudyError
from lanewise.names import check_name, is_name, nearest, path_inside, secret_kind
from lanewise.study import (
    METRIC_NAMES,
    TRAINING,
    TRAINING_WHEN,
    Data,
    Parameter,
    Register,
    Study,
    json_schema,
    load_study,
    training_defaults,
)

SNAPSHOTS = Path(__file__).parents[1] / "snapshots"
FIVE_LINES = "name: penguins\ndata:\n  source: penguins.csv\n  target: species\n"
FULL = """\
name: full
seed: 7
data: {source: rows.csv, target: price, task: regression, drop: [id], types: {zip: category}, separator: ";"}
model: {name: resnet, args: {bias: false, sizes: [1, 2]}}
space:
  lr: {low: 1e-4, high: 1e-2, log: true}
  optimizer: [sgd, adamw]
  momentum: {low: 0.5, high: 0.9, when: {optimizer: sgd}}
  batch_size: 128
  width: {low: 16, high: 64, step: 16}
search: {metric: mae, trials: null, epochs: 500, lanes: 8}
register: {name: prices, members: 3}
"""


@pytest.fixture
def write(tmp_path: Path):
    """Writes a study file and returns its path."""

    def to_file(text: str, name: str = "study.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


def test_five_lines_are_a_study(write) -> None:
    study = load_study(write(FIVE_LINES))
    assert (study.name, study.data.source, study.data.target) == ("penguins", "penguins.csv", "species")
    assert (study.seed, study.model.name, study.space) == (0, "mlp", {})
    assert (study.train.epochs, study.train.patience, study.search.trials) == (50, 15, 50)
    assert (study.data.test, study.data.valid, study.evaluate.folds) == (0.2, 0.25, 5)
    assert (study.model_name, study.tracking.uri) == ("penguins", "sqlite:///mlruns/mlflow.db")


def test_name_and_folder_come_from_the_file(write) -> None:
    path = write("data: {source: 'sklearn:digits'}\n", "digits-v2.yaml")
    study = load_study(path)
    assert study.name == "digits-v2"
    assert study.data.target is None
    assert study.base_dir == path.parent.resolve()


def test_places_are_those_of_the_keys(write) -> None:
    path = write(FULL)
    study = load_study(path, {"search.lanes": "4"})
    assert study.where("space", "momentum", "when") == f"{path}:8:35"
    assert study.where("data", "drop", 0) == f"{path}:3:66"
    assert study.where("data", "drop") == f"{path}:3:59"
    assert study.where("data", "decimal") == f"{path}:3:1"  # not written: the section's place
    assert study.where("search", "lanes") == "--set search.lanes=4"
    assert Study(name="a", data=Data(source="sklearn:iris")).where("data") is None


def test_definition_reads_back_as_the_same_study(write) -> None:
    study = load_study(write(FULL))
    again = Study.model_validate(json.loads(json.dumps(study.definition())))
    assert again.definition() == study.definition()
    assert again.registration == Register(name="prices", members=3)
    assert "tracking" not in study.definition()
    assert study.definition()["register"]["name"] == "prices"


def test_a_study_does_not_change(write) -> None:
    study = load_study(write(FIVE_LINES))
    with pytest.raises(ValueError, match="frozen"):
        study.seed = 1
    with pytest.raises(ValueError, match="frozen"):
        study.train.epochs = 1


def test_empty_sections_have_their_defaults(write) -> None:
    study = load_study(write(FIVE_LINES + "search:\n  # trials: 3\nspace:\n"))
    assert (study.search.trials, study.space) == (50, {})


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"search.trials": "10"}, ("search", "trials", 10)),
        ({"search.trials": "1e1"}, ("search", "trials", 10)),
        ({"search.trials": "null", "search.epochs": "9"}, ("search", "trials", None)),
        ({"search.seconds": "010"}, ("search", "seconds", 10.0)),
        ({"train.device": "cpu"}, ("train", "device", "cpu")),
        ({"data.target": '"3"'}, ("data", "target", "3")),
        ({"data.drop": "[a, no]"}, ("data", "drop", ("a", "no"))),
        ({"lr_range.enabled": "false"}, ("lr_range", "enabled", False)),
    ],
)
def test_overrides_are_read_like_the_file(write, overrides, expected) -> None:
    section, key, value = expected
    found = getattr(getattr(load_study(write(FIVE_LINES), overrides), section), key)
    assert found == value
    assert type(found) is type(value)


def test_overrides_replace_a_whole_value_and_make_sections(write) -> None:
    study = load_study(write(FULL), {"space.lr": "0.5", "space.depth.low": "1", "space.depth.high": "3"})
    assert study.space["lr"].value == 0.5
    assert study.space["depth"].bounds == (1, 3)
    assert study.space["momentum"].bounds == (0.5, 0.9)


@pytest.mark.parametrize(
    ("given_value", "kind", "listed"),
    [
        (0.01, "fixed", (0.01,)),
        (False, "fixed", (False,)),
        ("sgd", "fixed", ("sgd",)),
        (0, "fixed", (0,)),
        ([32, 64], "choice", (32, 64)),
        (["no", "yes"], "choice", ("no", "yes")),
        ({"value": 3, "when": {"optimizer": "sgd"}}, "fixed", (3,)),
        ({"low": 1, "high": 4}, "int", ()),
        ({"low": 1, "high": 9, "step": 2}, "int", ()),
        ({"low": 1, "high": 4.0}, "float", ()),
        ({"low": 1, "high": 4, "step": 0.5}, "float", ()),
        ({"low": "1e-3", "high": "1", "log": True}, "float", ()),
    ],
)
def test_short_forms_of_a_parameter(given_value, kind, listed) -> None:
    parameter = Parameter.model_validate(given_value)
    assert (parameter.kind, parameter.listed) == (kind, listed)
    assert [type(v) for v in parameter.listed] == [type(v) for v in listed]
    assert Parameter.model_validate(parameter.model_dump(mode="json")) == parameter


def test_a_condition_may_be_one_value_or_a_list() -> None:
    one = Parameter.model_validate({"value": 1, "when": {"a": "x"}})
    more = Parameter.model_validate({"value": 1, "when": {"a": ["x", True]}})
    assert (one.when, more.when) == ({"a": ("x",)}, {"a": ("x", True)})


# --- the table of training hyperparameters


def test_training_defaults_are_legal_and_in_their_ranges() -> None:
    for name, entry in TRAINING.items():
        if entry.choices:
            assert entry.default in entry.choices, name
        elif not isinstance(entry.default, bool):
            assert entry.allows(entry.default), name
        if entry.searched is not None:
            assert entry.searched.legal(entry.default), name
            assert entry.searched.log, name
    assert {name for name, entry in TRAINING.items() if entry.searched} == {"lr", "weight_decay"}
    assert training_defaults()["optimizer"] == "adamw"


def test_training_conditions_name_legal_values() -> None:
    for name, conditions in TRAINING_WHEN.items():
        assert name in TRAINING
        for parent, values in conditions.items():
            assert set(values) < set(TRAINING[parent].choices), (name, parent)


def test_the_names_are_those_the_other_rooms_know() -> None:
    metrics = pytest.importorskip("lanewise.metrics")
    schedules = pytest.importorskip("lanewise.engine.schedules")
    optimizers = pytest.importorskip("lanewise.engine.optimizers")
    assert set(METRIC_NAMES) == set(metrics.METRICS)
    assert set(TRAINING["schedule"].choices) == set(schedules.SCHEDULES) - {"ramp"}
    assert set(TRAINING["optimizer"].choices) == set(optimizers.FAMILIES)


# --- strict scalars

SCALARS = {
    "": None, "~": None, "null": None, "NULL": None, "nULL": "nULL",
    "true": True, "True": True, "FALSE": False, "tRUE": "tRUE",
    "yes": "yes", "no": "no", "on": "on", "Off": "Off", "y": "y", "NO": "NO",
    "1e-3": 0.001, "1.0e-3": 0.001, "1E3": 1000.0, ".5": 0.5, "5.": 5.0, "-.5e1": -5.0, "+1.5": 1.5,
    "010": 10, "-010": -10, "+3": 3, "0": 0, "0o10": 8, "0x1F": 31, "0b11": "0b11", "0O10": "0O10",
    "12:30:00": "12:30:00", "1:30": "1:30", "2020-01-01": "2020-01-01", "1_000": "1_000", "1,5": "1,5",
    "-0x1F": "-0x1F", "1e": "1e", "e1": "e1", ".": ".", "-": "-", "+": "+", "1.2.3": "1.2.3", "٣": "٣",
    ".inf": math.inf, "-.INF": -math.inf, "inf": "inf", "nan": "nan", "<<": "<<", "=": "=", "1 ": "1 ",
}  # fmt: skip


@pytest.mark.parametrize(("text", "value"), SCALARS.items())
def test_scalars_follow_yaml_1_2(text, value) -> None:
    found = strict_yaml.scalar(text)
    assert found == value
    assert type(found) is type(value)


def test_not_a_number_is_a_float() -> None:
    assert math.isnan(strict_yaml.scalar(".nan"))


@pytest.mark.parametrize("text", ["9" * 401, "1e999", "-1e999", "9" * 400 + "."])
def test_numbers_a_computer_cannot_hold_are_refused(text) -> None:
    with pytest.raises(ValueError, match="a number"):
        strict_yaml.scalar(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["C"], exclude_characters="\u2028\u2029"), max_size=20),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8), inner, max_size=4
    ),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text("abcxyz", min_size=1, max_size=5), JSON, min_size=1, max_size=4))
def test_json_is_yaml(document) -> None:
    """The json library is the oracle: YAML 1.2 contains JSON."""
    text = json.dumps(document, ensure_ascii=False)
    assert strict_yaml.parse(text, "x").data == json.loads(text)


def test_block_text_is_read_as_yaml() -> None:
    text = "a:\n  - 1\n  - b: no\n    'c d': |\n      x\n       y\n010: z\n"
    document = strict_yaml.parse(text, "f")
    assert document.data == {"a": [1, {"b": "no", "c d": "x\n y\n"}], "010": "z"}
    assert document.places == {
        (): "f:1:1", ("a",): "f:1:1", ("a", 0): "f:2:5", ("a", 1): "f:3:5", ("a", 1, "b"): "f:3:5",
        ("a", 1, "c d"): "f:4:5", ("010",): "f:7:1",
    }  # fmt: skip


# --- names and secrets


@pytest.mark.parametrize("name", ["a", "A.b-c_1", "_x", "0", "x" * 100, "a.b.c"])
def test_legal_names(name) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a..b", "-a", "a/b", "a:b", "a b", "é", "a\n", "x" * 101, "a\\b", "C:"]
)
def test_illegal_names(name) -> None:
    with pytest.raises(StudyError, match="cannot be used"):
        check_name(name)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(max_size=12) | st.sampled_from(["..", ".", "a", "a.b", "/etc", "../x"]), max_size=3))
def test_a_path_of_names_stays_inside(names) -> None:
    root = Path("/nowhere/root")
    try:
        path = path_inside(root, *names)
    except StudyError:
        assert not all(is_name(name) for name in names)
    else:
        assert path == root.joinpath(*names)
        assert path.is_relative_to(root)


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    with pytest.raises(StudyError, match="leaves its folder"):
        path_inside(tmp_path / "root", "link")


def test_secrets_are_recognised_and_ordinary_text_is_not() -> None:
    secrets = [
        "AKIAIOSFODNN7EXAMPLE", "x ghp_" + "0123456789abcdefABCDEF0123456789abcd", "password=hunter2",
        "PWD: abc",
        "postgresql://me:hunter2@db/x", "-----BEGIN RSA " + "PRIVATE KEY-----",
        "github_pat_" + "11ABCDEFG0123456789abc",
        "hf_" + "abcdefghijklmnopqrstuvwxyzABCDEFGH", "api_key=1", "sk-" + "proj-abcdefghijklmnopqrstuvwx012",
    ]  # fmt: skip
    harmless = [
        "password", "passwords.csv", "sklearn:digits", "sqlite:///mlruns/mlflow.db", "http://host:5000",
        "akia",
        "postgresql://${USER}:${PW}@db/x", "secretary", "task-sk-learn-data-of-the-year-2020-all.csv", "a=b",
    ]  # fmt: skip
    assert [text for text in secrets if not secret_kind(text)] == []
    assert [text for text in harmless if secret_kind(text)] == []
    assert secret_kind("x", "password")
    assert not secret_kind("x", "tokens")


def test_nearest_name() -> None:
    assert nearest("samper", ["sampler", "seed"]) == "sampler"
    assert nearest("TRIALS", ["trials", "seed"]) == "trials"
    assert nearest("zzz", ["trials", "seed"]) is None


# --- the editor's schema


def test_schema_is_the_recorded_one() -> None:
    """Write it anew with UPDATE_SNAPSHOTS=1 and read the difference."""
    file, text = SNAPSHOTS / "study.schema.json", json.dumps(json_schema(), indent=2) + "\n"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        file.write_text(text)
    assert file.read_text() == text


def test_schema_describes_every_key() -> None:
    schema = json_schema()
    for name, part in {"Study": schema, **schema["$defs"]}.items():
        assert part.get("description") or name == "JsonValue", name
        for form in [part, *part.get("anyOf", [])]:
            for key, entry in form.get("properties", {}).items():
                assert entry.get("description") or "$ref" in entry, (name, key)


def test_schema_agrees_with_the_loader(write) -> None:
    """jsonschema is the oracle; the loader knows more rules, so only these verdicts are compared."""
    jsonschema = pytest.importorskip("jsonschema")
    checker = jsonschema.Draft202012Validator(json_schema())
    checker.check_schema(json_schema())
    good = [FIVE_LINES, FULL, "data: {source: 'sklearn:digits'}", FIVE_LINES + "register: {name: a.b}"]
    bad = [
        "name: x", FIVE_LINES + "sede: 1", FIVE_LINES + "seed: -1", FIVE_LINES + "search: {trails: 1}",
        FIVE_LINES + "search: {metric: acc}", FIVE_LINES + "evaluate: {folds: 1}", FIVE_LINES + "name2: x",
        FIVE_LINES + "space: {lr: {lo: 1}}", FIVE_LINES + "space: {lr: []}",
        FIVE_LINES + "space: {lr: [[1]]}",
        FIVE_LINES + "register: {name: ../x}", FIVE_LINES + "lr_range: {enabled: yes}",
    ]  # fmt: skip
    for text in good:
        load_study(write(text))
        assert list(checker.iter_errors(strict_yaml.parse(text, "x").data)) == [], text
    for text in bad:
        with pytest.raises(StudyError):
            load_study(write(text))
        assert list(checker.iter_errors(strict_yaml.parse(text, "x").data)), text


# --- the package's front


def test_importing_lanewise_imports_nothing_heavy() -> None:
    code = (
        "import sys, lanewise\n"
        "heavy = {'torch', 'pandas', 'sklearn', 'mlflow', 'optuna', 'prefect', 'pydantic', 'numpy'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "from lanewise import load_study, LanewiseError\n"
        "assert 'torch' not in sys.modules\n"
        "assert set(lanewise.__all__) <= set(dir(lanewise))\n"
        "try: lanewise.nothing\n"
        "except AttributeError as error: assert 'nothing' in str(error)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
