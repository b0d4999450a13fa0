"""Pretrained weights: what is taken of a file, what is refused and how, and what a study may say of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from test_training_checks import studied

from lanewise.data import Dataset
from lanewise.errors import LanewiseError, ModelError, StudyError
from lanewise.ledger import definition
from lanewise.model import resolve
from lanewise.pretrained import study_network
from lanewise.pretrained_file import MAX_BYTES, Origin, read_weights, weights_digest
from lanewise.search.gradient import Gradient
from lanewise.space import Space, build_space
from lanewise.study import Study
from lanewise.trainer import Trainer

SHAPE = {"width": 16, "depth": 2}
WINE = 13  # columns


def weights(width: int = 16, depth: int = 2, outputs: int = 3, **how: Any) -> dict[str, torch.Tensor]:
    """The tensors of an mlp on wine, each with numbers of its own."""
    layout = type("Layout", (), {
        "numeric": ["x"] * WINE, "categorical": [], "cardinalities": [], "kind": "table", "shape": (), "tokens": 0,
    })()  # fmt: skip
    module = resolve("mlp").build(layout, outputs, {"width": width, "depth": depth, **how}, 5)
    return {n: t + 0.01 if t.is_floating_point() else t for n, t in module.state_dict().items()}


def wine(
    tmp_path: Path, tensors: dict[str, torch.Tensor] | None = None, origin: Origin | None = None,
    args: dict[str, Any] | None = None, **space: Any,
) -> tuple[Study, Dataset]:  # fmt: skip
    """A study of wine that may start from tensors."""
    metadata = {"lanewise": origin.to_text()} if origin else None
    save_file(weights() if tensors is None else tensors, tmp_path / "w.safetensors", metadata)
    study, dataset = studied(tmp_path, "sklearn:wine", "mlp", **space)
    changed = study.model.model_copy(update={"pretrained": "w.safetensors", "args": args or {}})
    again = study.model_copy(update={"model": changed})
    again._path = study._path
    return again, dataset


def a_space(study: Study) -> Space:
    network = study_network(study)
    return build_space(study, network.space, network.defaults)


def refused(study: Study, dataset: Dataset) -> LanewiseError:
    with pytest.raises((ModelError, StudyError)) as raised:
        Trainer(study, study_network(study), dataset)
    return raised.value


# --- the file


def test_what_is_no_safetensors_file_is_refused_unread(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "pickle.safetensors")
    whole = tmp_path / "whole.safetensors"
    save_file(weights(), whole)
    (tmp_path / "cut.safetensors").write_bytes(whole.read_bytes()[:200])
    (tmp_path / "folder.safetensors").mkdir()
    huge = (2**40).to_bytes(8, "little") + b"{}"
    (tmp_path / "header.safetensors").write_bytes(huge)
    with (tmp_path / "large.safetensors").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    said = {
        "pickle": "no safetensors file", "cut": "no safetensors file", "header": "no safetensors file",
        "folder": "no file of pretrained weights", "large": "no file of pretrained weights", "absent": "cannot be read",
    }  # fmt: skip
    for name, expected in said.items():
        with pytest.raises(ModelError, match=expected) as raised:
            read_weights(tmp_path / f"{name}.safetensors")
        assert f"{name}.safetensors" in str(raised.value) and raised.value.remedy
    assert read_weights(whole).shapes["head.weight"] == (3, 16)


def test_other_files_are_refused_by_the_study_with_how_to_write_one() -> None:
    for name in ("weights.pt", "weights.bin", "digits"):
        with pytest.raises(ValueError, match="this names no weights"):
            Study.model_validate({"name": "s", "data": {"source": "a.csv"}, "model": {"pretrained": name}})


def test_numbers_that_are_not_finite_are_refused_with_their_tensor(tmp_path: Path) -> None:
    bad = weights()
    bad["blocks.1.0.bias"][3] = torch.nan
    error = refused(*wine(tmp_path, bad, **SHAPE))
    assert "blocks.1.0.bias" in str(error.where) and "1 of 16 numbers" in str(error.given)


# --- what is taken


def test_a_lane_starts_from_the_file_and_one_from_scratch_does_not(tmp_path: Path) -> None:
    study, dataset = wine(tmp_path, **SHAPE)
    trainer = Trainer(study, study_network(study), dataset)
    taken = trainer.lane("a", {**SHAPE, "start": "pretrained", "freeze": "all"}, seed=3)
    scratch = trainer.lane("b", {**SHAPE, "start": "scratch"}, seed=3)
    plain = resolve("mlp")
    study_without = study.model_copy(update={"model": study.model.model_copy(update={"pretrained": None})})
    before = Trainer(study_without, plain, dataset).lane("c", SHAPE, seed=3)
    for name, tensor in weights().items():
        assert torch.equal(taken.module.state_dict()[name], tensor), name
        assert torch.equal(scratch.module.state_dict()[name], before.module.state_dict()[name]), name
    assert "head.weight" not in taken.taken and "blocks.0.0.weight" in taken.taken
    assert taken.frozen == taken.taken and scratch.taken == scratch.frozen == ()


def test_running_statistics_and_half_precision_are_taken_too(tmp_path: Path) -> None:
    tensors = weights(normalisation="batch")
    halved = {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}
    study, dataset = wine(tmp_path, halved, normalisation="batch", **SHAPE)
    trainer = Trainer(study, study_network(study), dataset)
    config = {**SHAPE, "normalisation": "batch", "start": "pretrained"}
    state = trainer.lane(0, config, 1).module.state_dict()
    assert state["blocks.0.1.running_mean"].dtype == torch.float32
    assert torch.allclose(state["blocks.0.1.running_mean"], tensors["blocks.0.1.running_mean"], atol=1e-3)
    assert not torch.equal(state["blocks.0.1.running_mean"], torch.zeros(16))


def test_an_output_layer_of_other_classes_keeps_its_own_start_and_is_named(tmp_path: Path) -> None:
    study, dataset = wine(tmp_path, weights(outputs=10) | {"aside": torch.zeros(2)}, **SHAPE)
    trainer = Trainer(study, study_network(study), dataset)
    lane = trainer.lane(0, {**SHAPE, "start": "pretrained", "freeze": "all"}, 1)
    assert torch.equal(lane.module.state_dict()["blocks.0.0.weight"], weights()["blocks.0.0.weight"])
    assert "head.weight" not in lane.taken
    said = " | ".join(trainer.notes)
    assert "head.weight (10 x 16 in the file, 3 x 16 here), head.bias (10 in the file, 3 here)" in said
    assert "not used: aside" in said and "the default, trial 0, is the same network from scratch" in said


def test_layers_that_do_not_fit_are_named_one_by_one_with_what_to_fix(tmp_path: Path) -> None:
    error = refused(*wine(tmp_path, weights(width=32), width=[32, 64], depth=2))
    text = str(error)
    assert re.search(r"layer +file +network", text)
    assert re.search(r"blocks\.0\.0\.weight +32 x 13 +64 x 13", text)
    assert re.search(r"blocks\.1\.0\.weight +32 x 32 +64 x 64", text)
    assert "head" not in text and error.remedy == "fix in `space`: `width: 32`"
    study, dataset = wine(tmp_path, weights(width=32), width=32, depth=2)
    assert Trainer(study, study_network(study), dataset)


def test_a_shape_that_is_searched_must_be_fixed_even_where_the_default_fits(tmp_path: Path) -> None:
    error = refused(*wine(tmp_path, width=16, depth={"low": 2, "high": 3}))
    assert "the shape of the network is searched" in error.what and error.remedy == "fix in `space`: `depth: 2`"
    error = refused(*wine(tmp_path, width=[16, 32], depth=2))
    assert error.remedy == "fix in `space`: `width: 16`"
    error = refused(*wine(tmp_path, weights(width=48), width=[16, 32], depth=2))
    assert "architecture of the file" in str(error.remedy)


def test_a_file_of_other_names_is_refused_with_both(tmp_path: Path) -> None:
    renamed = {f"encoder.{n}": t for n, t in weights().items()}
    error = refused(*wine(tmp_path, renamed, **SHAPE))
    assert "encoder.blocks.0.0.weight" in str(error.given) and "the network has blocks.0.0.weight" in str(error.given)


# --- what may be said of it


def test_what_is_searched_and_under_which_conditions(tmp_path: Path) -> None:
    study, _ = wine(tmp_path, **SHAPE)
    space = a_space(study)
    assert {"start", "freeze", "thaw_epoch", "pretrained_lr_factor"} <= set(space.searched())
    assert space.default()["start"] == "scratch" and "freeze" not in space.default()
    warm = space.default({"start": "pretrained"})
    assert warm["freeze"] == "none" and "thaw_epoch" not in warm and warm["pretrained_lr_factor"] == 1.0
    assert space.parameters["thaw_epoch"].bounds == (1, study.train.epochs)
    own, _ = wine(tmp_path, freeze=["none", "blocks.0", "blocks.0.0, blocks.1"], **SHAPE)
    assert "thaw_epoch" in a_space(own).default({"start": "pretrained", "freeze": "blocks.0"})
    assert "thaw_epoch" not in a_space(own).default({"start": "pretrained", "freeze": "none"})


def test_without_weights_there_is_nothing_of_it_in_the_space_and_its_names_are_refused(tmp_path: Path) -> None:
    study, _ = studied(tmp_path, "sklearn:wine", "mlp", freeze="all")
    with pytest.raises(StudyError, match="`freeze` has no effect") as raised:
        build_space(study, {}, {})
    assert "model: pretrained:" in str(raised.value.remedy)


@pytest.mark.parametrize(
    ("freeze", "lanes"),
    [
        ("none", ()), ("blocks.0.0", ("blocks.0.0.weight", "blocks.0.0.bias")),
        ("blocks.0.0, blocks.1.0", tuple(f"blocks.{i}.0.{part}" for i in (0, 1) for part in ("weight", "bias"))),
    ],
)  # fmt: skip
def test_layers_are_frozen_by_their_names(freeze: str, lanes: tuple[str, ...], tmp_path: Path) -> None:
    study, dataset = wine(tmp_path, freeze=freeze, start="pretrained", **SHAPE)
    trainer = Trainer(study, study_network(study), dataset)
    assert trainer.lane(0, {**SHAPE, "start": "pretrained", "freeze": freeze}, 1).frozen == lanes


def test_a_layer_that_is_not_there_is_refused_with_the_nearest(tmp_path: Path) -> None:
    error = refused(*wine(tmp_path, freeze=["none", "blocks.0, block.1"], start="pretrained", **SHAPE))
    assert "`freeze` names `block.1`" in error.what and error.remedy == "write `blocks.1`"
    error = refused(*wine(tmp_path, freeze="head", start="pretrained", **SHAPE))
    assert "`freeze` names `head`" in error.what
    with pytest.raises(StudyError, match="`freeze` has a value that is not known"):
        a_space(wine(tmp_path, freeze="blocks 0", **SHAPE)[0])


def test_gradient_based_search_refuses_it(tmp_path: Path) -> None:
    study, _ = wine(tmp_path, **SHAPE)
    with pytest.raises(StudyError, match="cannot follow pretrained weights"):
        Gradient(study, a_space(study), "minimize")


# --- a file that says whose weights it holds

CLASSES = ("class_0", "class_1", "class_2")


def of_mlp(classes: tuple[str, ...] = CLASSES, **config: Any) -> Origin:
    return Origin("mlp", {}, {**SHAPE, "dropout": 0.3, "lr": 0.1, **config}, classes)


def test_the_architecture_of_known_weights_narrows_the_space_and_is_said(tmp_path: Path) -> None:
    study, dataset = wine(tmp_path, origin=of_mlp(activation="gelu"))
    space = a_space(study)
    fixed = {n: space.parameters[n].value for n in ("width", "depth", "activation")}
    assert fixed == {"width": 16, "depth": 2, "activation": "gelu"}
    assert {n: space.default()[n] for n in fixed} == fixed  # also from scratch: the same network
    assert "dropout" in space.searched() and space.default()["lr"] == 0.001
    trainer = Trainer(study, study_network(study), dataset)
    assert "narrowed to the architecture of the weights: depth 2, width 16" in " ".join(trainer.notes)
    lane = trainer.lane(0, space.default({"start": "pretrained"}), 1)
    assert torch.equal(lane.module.state_dict()["head.weight"], weights()["head.weight"])


def test_an_output_layer_for_other_classes_of_the_same_number_is_not_taken(tmp_path: Path) -> None:
    study, dataset = wine(tmp_path, origin=of_mlp(("a", "b", "c")))
    trainer = Trainer(study, study_network(study), dataset)
    lane = trainer.lane(0, a_space(study).default({"start": "pretrained"}), 1)
    assert not torch.equal(lane.module.state_dict()["head.weight"], weights()["head.weight"])
    assert "head.weight (the classes are others)" in " ".join(trainer.notes)


@pytest.mark.parametrize(
    ("origin", "args", "space", "said"),
    [
        (Origin("resnet", {}, {}, CLASSES), {}, {}, "weights of `resnet` for `mlp`"),
        (of_mlp(), {}, {"width": [16, 32]}, "decide `width`"),
        (of_mlp(), {}, {"width": 32}, "decide `width`"),
        (of_mlp(), {"depth": 3}, {}, "decide `depth`"),
        (Origin("mlp", {"sizes": [1]}, SHAPE, CLASSES), {}, {}, "decide `sizes`"),
    ],
)
def test_another_architecture_than_that_of_known_weights_is_refused(
    origin: Origin, args: dict[str, Any], space: dict[str, Any], said: str, tmp_path: Path
) -> None:
    study, _ = wine(tmp_path, origin=origin, args=args, **space)
    with pytest.raises(StudyError) as raised:
        study_network(study)
    assert said in str(raised.value)


def test_what_is_no_origin_is_refused(tmp_path: Path) -> None:
    for text in ("{", "[]", json.dumps({"network": "mlp"})):
        save_file(weights(), tmp_path / "w.safetensors", {"lanewise": text})
        with pytest.raises(ModelError, match="what the file says of its network"):
            read_weights(tmp_path / "w.safetensors")


# --- the record


def test_a_ledger_knows_what_the_weights_are_and_not_where_they_lie(tmp_path: Path) -> None:
    study, _ = wine(tmp_path, **SHAPE)
    what = {"metric": "accuracy", "direction": "maximize", "data": "x"}
    first = definition(study, a_space(study), **what)
    assert first["model"]["pretrained"] == weights_digest(study) == read_weights(tmp_path / "w.safetensors").sha256
    save_file({n: t + 1 for n, t in weights().items()}, tmp_path / "w.safetensors")
    assert definition(study, a_space(study), **what) != first
    plain, _ = studied(tmp_path, "sklearn:wine", "mlp")
    assert "pretrained" not in definition(plain, build_space(plain, {}, {}), **what)["model"]
    assert weights_digest(plain) == "none"
