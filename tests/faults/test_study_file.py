"""Wrong study files, rows G1-G3, G5-G8, G13-G15 and S13 of the fault list: one message, never a traceback."""

from __future__ import annotations

import copy
import difflib
import json
import math
import os
import random
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel

from lanewise.errors import ModelError, StudyError
from lanewise.space import Space, build_space
from lanewise.strict_yaml import MAX_BYTES
from lanewise.study import Data, Study, load_study

SNAPSHOT = Path(__file__).parents[1] / "snapshots" / "study_errors.txt"
BASE = "name: penguins\ndata:\n  source: penguins.csv\n  target: species\n"
NETWORK = (
    {"width": [32, 64, 128], "depth": {"low": 1, "high": 4},
     "skip": {"choices": [8, 16], "when": {"depth": [3, 4]}}},
    {"width": 64, "depth": 2, "skip": 8, "dropout": 0.0, "activation": "relu", "norm": True},
)  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, so that messages hold no folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(text: str | bytes, name: str = "study.yaml") -> tuple[Study, Space]:
    """Load the text as a study file and build its space."""
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    study = load_study(name)
    return study, build_space(study, *NETWORK)


def refusal(text: str | bytes, name: str = "study.yaml") -> StudyError:
    """The error a text is refused with."""
    with pytest.raises(StudyError) as caught:
        read(text, name)
    error = caught.value
    assert error.exit_code == 2
    assert str(error).startswith(str(error.where))
    return error


# --- G1: unknown keys, every key of the schema with one letter wrong


def _keys(model: type[BaseModel], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], str, list[str]]]:
    """(path of the section, key, its neighbours) of every key of the study."""
    names = [field.alias or name for name, field in model.model_fields.items()]
    found = [(path, name, names) for name in names]
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += _keys(field.annotation, (*path, field.alias or name))
    if not path:
        parameter = Study.model_fields["space"].annotation.__args__[1]
        found += _keys(parameter, ("space", "lr"))
    return found


@pytest.mark.parametrize(
    ("section", "key", "names"), _keys(Study), ids=lambda v: ".".join(v) if isinstance(v, tuple) else None
)
def test_g1_one_wrong_letter_names_the_nearest_key(here, section, key, names) -> None:
    for wrong in {key[:-1] + "x", key[0] + key, key[:-2] + key[-1] + key[-2]} - set(names):
        document: dict = {"data": {"source": "a.csv", "target": "y"}}
        place = document
        for part in section:
            place = place.setdefault(part, {})
        place.pop(key, None)
        place[wrong] = 1
        error = refusal(json.dumps(document, indent=1))
        assert f"unknown key `{wrong}`" in error.what
        line = next(
            n for n, text in enumerate(json.dumps(document, indent=1).splitlines(), 1) if f'"{wrong}"' in text
        )
        assert error.where == f"study.yaml:{line}:{len(section) + 2}"
        offered = error.what.rpartition("did you mean `")[2].rstrip("`?")
        ratio = {name: difflib.SequenceMatcher(None, wrong, name).ratio() for name in names}
        assert offered in names or max(ratio.values()) < 0.6
        assert offered == key or ratio[key] < 0.6 or ratio[offered] >= ratio[key] - 0.15


def test_g1_unknown_hyperparameters_name_the_nearest(here) -> None:
    for wrong, right in {
        "learning_rte": "lr",
        "qqq": None,
        "weight_decy": "weight_decay",
        "widht": "width",
        "momentun": "momentum",
    }.items():
        error = refusal(BASE + f"space:\n  {wrong}: 1\n")
        assert error.where == "study.yaml:6:3"
        assert (f"did you mean `{right}`" in error.what) == (right is not None)


# --- G2, G3: what a scalar means


def test_g2_numbers_may_be_written_with_an_exponent_or_quoted(here) -> None:
    study, space = read(
        BASE + "space:\n  lr: {low: 1e-5, high: '1e-2', log: true}\nsearch: {trials: '20', seconds: 1e3}\n"
    )
    assert space.parameters["lr"].bounds == (1e-5, 1e-2)
    assert (study.search.trials, study.search.seconds) == (20, 1000.0)


def test_g3_only_yaml_1_2(here) -> None:
    study, _ = read(
        "data: {source: s.csv, target: no, drop: [on, 12:30:00, '010', y], types: {off: date, 010: number}}\n"
        "seed: 010\n"
    )
    assert study.data.target == "no"
    assert study.data.drop == ("on", "12:30:00", "010", "y")
    assert study.data.types == {"off": "date", "010": "number"}
    assert study.seed == 10


# --- G7, G8: nothing is built and nothing runs


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]\n",
        "a: &a {b: *a}\n",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
        "a: &a 1\n",
        BASE + "space: {<<: *x}\n",
        "[" * 5000,
        "{a: " * 3000,
        "\n".join(" " * i + "- " for i in range(900)),
    ],
)
def test_g7_no_anchors_aliases_or_depth(here, text) -> None:
    error = refusal(text)
    assert any(word in error.what for word in ("anchor", "alias", "too many levels"))
    assert str(error.where).startswith("study.yaml:")


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch canary']",
        "!!python/object/new:os.system [touch canary]",
        "!!python/name:os.system",
        "!!python/module:os",
        "!!python/tuple [1]",
        "!!binary aGk=",
        "!!str 1",
        "!x 1",
        "! 1",
        "!<tag:yaml.org,2002:int> 1",
    ],
)
def test_g8_no_tags(here, tag) -> None:
    error = refusal(BASE + f"seed: {tag}\n")
    assert error.what.startswith("a tag")
    assert error.where == "study.yaml:5:7"
    assert not Path("canary").exists()


# --- G13: files that are no studies


def test_g13_a_byte_order_mark_is_accepted(here) -> None:
    study, _ = read(b"\xef\xbb\xbf" + BASE.encode())
    assert study.where("name") == "study.yaml:1:1"
    assert read(BASE.replace("\n", "\r\n"))[0].definition() == study.definition()


def test_g13_files_that_cannot_be_read(here) -> None:
    Path("folder.yaml").mkdir()
    for name in ("nothing.yaml", "folder.yaml", "a\0b", "x" * 5000, ""):
        with pytest.raises(StudyError):
            load_study(name)
    os.mkfifo("pipe.yaml")
    with pytest.raises(StudyError, match="not a file"):
        load_study("pipe.yaml")


def test_g13_ten_megabytes(here) -> None:
    assert "too large" in refusal(b"a: 1\n" * 2_000_000).what
    padded = BASE + "#" * (MAX_BYTES - len(BASE))
    assert read(padded)[0].name == "penguins"
    assert "too large" in refusal(padded + "#").what


# --- G14: names


@pytest.mark.parametrize(
    "name", ["a/b", "../x", "a..b", "a:b", "é", "x" * 501, "-a", "a b", '""', ".", "a\\b", "日本"]
)
def test_g14_names_that_cannot_be_a_folder_or_a_model(here, name) -> None:
    error = refusal(BASE.replace("name: penguins", f"name: {name}"))
    assert error.where == "study.yaml:1:1"
    assert "A-Z a-z 0-9" in str(error.rule)
    error = refusal(BASE + f"register: {{name: {name}}}\n")
    assert error.where == "study.yaml:5:12"
    assert len(str(error)) < 1000


# --- G15, S13: the environment and secrets


def test_g15_environment(here, monkeypatch) -> None:
    monkeypatch.setenv("PENGUINS", "/data/penguins.csv")
    monkeypatch.setenv("TRIALS", "12")
    study, _ = read(BASE.replace("penguins.csv", "${PENGUINS}") + "search: {trials: '${TRIALS}'}\n")
    assert (study.data.source, study.search.trials) == ("/data/penguins.csv", 12)


def test_g15_missing_or_wrong_variables_never_show_a_value(here, monkeypatch) -> None:
    monkeypatch.setenv("SECRET_ONE", "opensesame")
    monkeypatch.delenv("MISSING", raising=False)
    error = refusal(BASE.replace("penguins.csv", "${SECRET_ONE}/${MISSING}.csv"))
    assert "MISSING" in error.what
    assert error.where == "study.yaml:3:3"
    assert "opensesame" not in str(error)
    for place in (
        "seed: '${SECRET_ONE}'",
        "search: {metric: '${SECRET_ONE}'}",
        "lr_range: {enabled: '${SECRET_ONE}'}",
    ):
        text = str(refusal(BASE + place))
        assert "${SECRET_ONE}" in text
        assert "opensesame" not in text


SECRETS = [
    "AKIAIOSFODNN7EXAMPLE", "ghp_" + "0123456789abcdefABCDEF0123456789abcd", "password=hunter2",
    "postgresql://me:hunter2@db/x",
]  # fmt: skip


@pytest.mark.parametrize("secret", SECRETS)
def test_s13_secrets_are_refused_and_not_shown(here, secret, monkeypatch) -> None:
    for text in (
        BASE + f"model: {{args: {{key: '{secret}'}}}}\n",
        BASE + f"space: {{activation: [relu, '{secret}']}}\n",
        BASE + f"tracking: {{uri: '{secret}'}}\n", BASE + f"model: {{args: {{'{secret}': 1}}}}\n",
    ):  # fmt: skip
        error = refusal(text)
        assert error.what == "this looks like a secret"
        assert secret not in str(error)
    with pytest.raises(StudyError, match="secret") as caught:
        load_study("study.yaml", {"model.name": secret})
    assert secret not in str(caught.value)
    monkeypatch.setenv("HIDDEN", secret)
    assert "secret" in refusal(BASE.replace("penguins.csv", "${HIDDEN}")).what


def test_s13_the_tracking_address_may_take_a_password_from_the_environment(here, monkeypatch) -> None:
    monkeypatch.setenv("PW", "hunter2")
    study, _ = read(BASE + "tracking: {uri: 'postgresql://me:${PW}@db/mlflow'}\n")
    assert study.tracking.uri == "postgresql://me:hunter2@db/mlflow"
    assert "hunter2" not in repr(study) + json.dumps(study.definition())


# --- G1-G3, G5, G6 and the rest: the exact messages

CASES = {
    "unknown section": BASE + "serach: {trials: 3}",
    "unknown key": BASE + "data2: {}\nsearch: {strateg: tpe}",
    "key of another tool": BASE + "search: {samper: tpe}",
    "hyperparameter of another tool": BASE + "space: {learning_rate: 0.1}",
    "unknown key, none near": BASE + "train: {zzz: 1}",
    "misspelt and so missing": "data: {sourec: a.csv, target: y}",
    "no data": "name: x",
    "no target": "data: {source: a.csv}",
    "four mistakes": BASE + "seed: -1\ntrain: {epoch: 1}\nsearch: {trials: many}\nevaluate: {folds: 1}",
    "seven mistakes": BASE + "train: {a: 1, b: 2, c: 3, d: 4, e: 5, f: 6, g: 7}",
    "section is a list": BASE + "search: [1]",
    "text for a number": BASE + "train: {epochs: ten}",
    "truth for a number": BASE + "train: {epochs: true}",
    "fraction for a whole number": BASE + "train: {epochs: 2.5}",
    "number for a text": "data: {source: a.csv, target: 3}",
    "yes for true": BASE + "lr_range: {enabled: yes}",
    "out of bounds": BASE + "evaluate: {folds: 1}",
    "share of one": "data: {source: a.csv, target: y, test: 1.0}",
    "not finite": BASE + "search: {seconds: .inf}",
    "too large": BASE + "search: {seconds: 1e999}",
    "metric misspelt": BASE + "search: {metric: acuracy}",
    "metric of another task": "data: {source: a.csv, target: y, task: regression}\nsearch: {metric: f1}",
    "choice misspelt": BASE + "search: {pruner: ahsa}",
    "objective misspelt": BASE + "search: {objectives: [parameter]}",
    "objective twice": BASE + "search: {objectives: [parameters, parameters]}",
    "pruner of several objectives": BASE + "search: {objectives: [parameters], pruner: asha}",
    "strategy of one objective": BASE + "search: {objectives: [parameters], strategy: gp}",
    "patience of several objectives": BASE + "search: {objectives: [parameters], patience: 9}",
    "lanes": BASE + "search: {lanes: 0}",
    "no end": BASE + "search: {trials: null}",
    "separator": BASE + "  separator: ';;'",
    "encoding": BASE + "  encoding: utf-9",
    "encoding that is no text": BASE + "  encoding: base64",
    "group without column": BASE + "  split: group",
    "target dropped": BASE + "  drop: [id, species]",
    "duplicate key": BASE + "seed: 1\nseed: 2",
    "key that is a list": BASE + "? [a]\n: 1",
    "two documents": BASE + "---\n" + BASE,
    "open bracket": BASE + "search: {trials: 3",
    "bad indentation": BASE + " seed: 1",
    "tab": BASE + "search:\n\ttrials: 3",
    "escape that does not exist": BASE + 'model: {name: "\\U99999999"}',
    "zero byte in a string": BASE + 'model: {name: "a\\0b"}',
    "list at the top": "- a\n- b",
    "text at the top": "hello",
    "alias": "a: &x 1\nb: *x",
    "tag": BASE + "seed: !!python/object/apply:os.getcwd []",
    "name": "name: ../x\ndata: {source: 'sklearn:digits'}",
    "variable": BASE + "model: {name: '${NOT_SET_ANYWHERE}'}",
    "half a variable": BASE + "model: {name: '${NOT_SET'}",
    "secret": BASE + "model: {args: {note: 'password=hunter2'}}",
    "low above high": BASE + "space: {lr: {low: 1e-1, high: 1e-5}}",
    "low is high": BASE + "space: {lr: {low: 1e-1, high: 1e-1}}",
    "logarithm of zero": BASE + "space: {lr: {low: 0, high: 1, log: true}}",
    "no choices": BASE + "space: {width: []}",
    "bounds not a number": BASE + "space: {lr: {low: .nan, high: .inf}}",
    "step does not fit": BASE + "space: {width: {low: 16, high: 100, step: 16}}",
    "step of zero": BASE + "space: {width: {low: 16, high: 100, step: 0}}",
    "step and log": BASE + "space: {lr: {low: 0.1, high: 0.2, step: 0.1, log: true}}",
    "half a range": BASE + "space: {lr: {low: 0.1}}",
    "value and choices": BASE + "space: {lr: {value: 0.1, choices: [0.1]}}",
    "nothing": BASE + "space: {lr: {}}",
    "empty parameter": BASE + "space: {lr: }",
    "step without a range": BASE + "space: {lr: {value: 1, step: 1}}",
    "list among choices": BASE + "space: {width: [[32, 32], [64]]}",
    "mapping among choices": BASE + "space: {width: [{a: 1}]}",
    "null among choices": BASE + "space: {width: [32, null]}",
    "same choice twice": BASE + "space: {width: [32, 64, 32.0]}",
    "true and 1": BASE + "space: {norm: [true, 1]}",
    "hyperparameter unknown": BASE + "space: {widht: 3}",
    "hyperparameter of the wrong type": BASE + "space: {width: [32, wide]}",
    "whole number with a fraction": BASE + "space: {depth: {low: 1, high: 2.5}}",
    "truth as text": BASE + "space: {norm: [yes, no]}",
    "learning rate of zero": BASE + "space: {lr: [0, 0.1]}",
    "momentum of one": BASE + "space: {optimizer: sgd, momentum: {low: 0.5, high: 1.0}}",
    "optimiser misspelt": BASE + "space: {optimizer: [adam, sdg]}",
    "batch of a half": BASE + "space: {batch_size: 0.5}",
    "momentum without its optimiser": BASE + "space: {momentum: 0.5}",
    "condition on nothing": BASE + "space: {width: {value: 3, when: {dept: 1}}}",
    "condition on a value never taken": BASE + "space: {width: {value: 32, when: {depth: 9}}}",
    "condition that excludes": BASE
    + "space: {optimizer: [sgd, adam], nesterov: {value: true, when: {optimizer: adam}}}",
    "condition misspelt": BASE
    + "space: {optimizer: [sgd, adam], width: {value: 32, when: {optimizer: sdg}}}",
    "condition without values": BASE + "space: {width: {value: 32, when: {depth: []}}}",
    "cycle": BASE
    + "space: {width: {value: 32, when: {depth: 1}}, depth: {low: 1, high: 2, when: {width: 32}}}",
    "cycle of one": BASE + "space: {width: {value: 32, when: {width: 32}}}",
    "constant and hyperparameter": BASE + "model: {args: {width: 3}}\nspace: {width: [1, 2]}",
    "depends on a constant": BASE + "model: {args: {depth: 1}}\nspace: {skip: 16}",
    "empty file": "",
    "only comments": "# nothing\n\n---\n",
}  # fmt: skip


def test_every_message_is_the_recorded_one(here) -> None:
    """Write them anew with UPDATE_SNAPSHOTS=1 and read the difference."""
    text = "".join(f"[{title}]\n{refusal(case)}\n\n" for title, case in CASES.items())
    text += f"[binary]\n{refusal(bytes(range(128, 200)))}\n\n[control]\n{refusal('name: a' + chr(0))}\n"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        SNAPSHOT.write_text(text)
    assert SNAPSHOT.read_text() == text


def test_every_message_has_place_and_remedy(here) -> None:
    for title, case in CASES.items():
        error = refusal(case)
        assert str(error.where).startswith("study.yaml"), title
        assert error.remedy or error.given, title
        assert "Input should" not in str(error) and "pydantic" not in str(error), title


def test_a_wrong_option_is_named_as_it_was_given(here) -> None:
    Path("study.yaml").write_text(BASE)
    for key, text, expected in [
        ("serach.trials", "3", "unknown key `serach`"),
        ("search.trials", "many", "text where a number belongs"),
        ("search.", "1", "this is not a key"),
        ("name.x", "1", "`name` is not a mapping"),
        ("space.lr", "[1, 2", "not valid YAML"),
        ("space.lr", "{a: &a 1}", "an anchor"),
        ("seed", "1e999", "too large"),
        ("model.name", "a\0b", "control character"),
    ]:
        with pytest.raises(StudyError) as caught:
            load_study("study.yaml", {key: text})
        assert expected in str(caught.value)
        assert str(caught.value.where).startswith(f"--set {key}")


# --- the network's own mistakes are the network's


@pytest.mark.parametrize(
    ("space", "defaults", "expected"),
    [
        ({"width": []}, {"width": 1}, "the network's range of `width` is wrong"),
        ({"width": {"low": 3, "high": 1}}, {"width": 1}, "the network's range of `width` is wrong"),
        ({"widht": [1, 2]}, {"width": 1}, "the network's space names `widht`"),
        ({"width": ["a"]}, {"width": 1}, "`width` has a value of the wrong type"),
        ({"lr": [0.1]}, {"lr": 0.1}, "the name of one of training's"),
        ({"width": {"choices": [1, 2], "when": {"dpth": 1}}}, {"width": 1}, "depends on `dpth`"),
    ],
)
def test_a_network_with_a_wrong_space(here, space, defaults, expected) -> None:
    Path("study.yaml").write_text(BASE)
    with pytest.raises(ModelError, match=expected) as caught:
        build_space(load_study("study.yaml"), space, defaults)
    assert caught.value.where == "network mlp"


# --- G13: mutated files

TOKENS = [
    b"!!python/object/apply:os.system ['touch canary']", b"&a ", b"*a", b"${HOME}", b"${NO_SUCH}", b"\t",
    b"\0", b"\xff", b"[[[[[", b"}", b"{", b": ", b"- ", b"? ", b"|\n", b"'", b'"', b"\\U99999999", b"1e999",
    b".nan", b"-.inf", b"null", b"yes", b"\n---\n", b"\n...\n", b"%YAML 2.0\n", b"# ", b"9" * 500,
    b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\r", b"<<: ", b"AKIAIOSFODNN7EXAMPLE", b"\xf0\x9f\x90\xa7", b"0x",
    b"true", b"[]", b"{}", b"''", b"-1", b"0.5", b"~",
]  # fmt: skip
SEEDS = [text for text in CASES.values() if text] + [
    BASE + "space:\n  lr: {low: 1e-4, high: 1e-2, log: true}\n  optimizer: [sgd, adamw]\n  momentum:\n"
    "    low: 0.5\n    high: 0.9\n"
    "    when: {optimizer: sgd}\n  width: [32, 64]\n  depth: 3\n  dropout: {low: 0, high: 1, step: 0.25}\n"
    "search: {metric: f1, trials: 30, lanes: auto}\nregister: {name: a.b, members: 2}\n"
    "tracking: {home: /tmp/x}\n",
] * 250  # fmt: skip


def _mutate_bytes(rng: random.Random, text: bytes) -> bytes:
    raw = bytearray(text)
    for _ in range(rng.randint(1, 3)):
        at, size, kind = rng.randrange(len(raw) + 1), rng.randint(1, 12), rng.randrange(12)
        if kind < 5:
            raw[at : at + 1] = bytes([rng.choice(b"0123456789abcexyz.-_:,[]{}\"'# \n")])
        elif kind == 5:
            raw[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 6:
            raw[at:at] = rng.choice(TOKENS)
        elif kind < 9:
            del raw[at : at + size]
        elif kind < 11:
            raw[at:at] = raw[at : at + size]
        else:
            lines = bytes(raw).split(b"\n")
            rng.shuffle(lines)
            raw = bytearray(b"\n".join(lines))
    return bytes(raw)


VALUES = [
    None, True, False, 0, 1, -1, 2, 10**20, 0.0, 0.5, 1.0, -0.5, 1e300, "", "x", "a/b", "sgd", "auto", "1e-3",
    "no", [], [1], [1, 2], ["a", "b"], [[1]], [None], [True, 1], {}, {"a": 1}, {"low": 1, "high": 2},
    {"low": 2, "high": 1},
    {"low": 0.1, "high": 0.9, "log": True}, {"choices": [1, 2], "when": {"depth": 1}}, {"value": "adam"},
    "x" * 2000,
    {"low": -1e308, "high": 1e308}, {"low": 1, "high": 9, "step": 2}, {"low": 5e-324, "high": 1, "log": True},
]  # fmt: skip


SPACE = {
    "lr": {"low": 1e-4, "high": 1e-2, "log": True}, "optimizer": ["sgd", "adam"], "width": [16, 32.0],
    "depth": 3,
    "momentum": {"low": 0.5, "high": 0.9}, "schedule": "step", "batch_size": [32, 64], "norm": [True, False],
    "skip": {"choices": [8], "when": {"depth": [3]}}, "dropout": {"low": 0, "high": 1, "step": 0.25},
    "activation": "tanh",
}  # fmt: skip
PLAIN = Study(name="a", data=Data(source="a.csv", target="y"))
DEFAULTS = {
    (section,): values
    for section, values in PLAIN.model_dump(mode="json", by_alias=True).items()
    if isinstance(values, dict)
}  # fmt: skip


def _mutate_values(rng: random.Random) -> bytes:
    """A study with the right keys and often wrong values, as JSON, which is YAML."""
    document: dict = {"data": {"source": "a.csv", "target": "y"}}
    keys = _keys(Study)
    for _ in range(rng.randint(1, 4)):
        path, key, _ = rng.choice(keys)
        if rng.random() < 0.4:
            path, key = (
                ("space",),
                rng.choice([*NETWORK[1], "lr", "optimizer", "momentum", "schedule", "batch_size"]),
            )
        place = document
        for part in path:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                break
        else:
            fitting = (SPACE if path == ("space",) else place | DEFAULTS.get(path, {})).get(key)
            place[key] = copy.deepcopy(fitting if rng.random() < 0.6 else rng.choice(VALUES))
    return json.dumps(document).encode()


FILES = int(os.environ.get("FUZZ_FILES", "2000"))  # tried with 60,000


@pytest.mark.parametrize("seed", range(2))
def test_g13_mutated_files(here, monkeypatch, seed) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    rng = random.Random(seed)
    loaded = 0
    for number in range(FILES // 2):
        text = _mutate_values(rng) if number % 2 else _mutate_bytes(rng, rng.choice(SEEDS).encode())
        try:
            study, space = read(text)
        except StudyError as error:
            assert error.where is not None, text
            assert str(error).isprintable() or "\n" in str(error), text
            continue
        except BaseException as error:
            pytest.fail(f"{type(error).__name__} for file {number}: {text!r}")
        loaded += 1
        assert Study.model_validate(study.definition()).definition() == study.definition()
        default = space.default()
        assert space.contains(default), text
        assert space.contains(space.sample_uniform(np.random.default_rng(number))), text
        assert Space.from_json(json.loads(json.dumps(space.to_json()))) == space, text
        assert not any(isinstance(value, float) and not math.isfinite(value) for value in default.values()), (
            text
        )
    assert FILES / 20 < loaded < FILES / 2.2, "the mutations are too mild or too wild to say anything"
    assert not Path("canary").exists()
