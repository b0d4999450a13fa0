"""Where pretrained weights may come from beside a file: what a text names, and a function of the user's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_pretrained import SHAPE, weights
from test_training_checks import studied

from lanewise.errors import ModelError
from lanewise.pretrained import Pretrained, study_network
from lanewise.pretrained_file import read_weights, weights_path
from lanewise.study import Study, weights_kind
from tasks.pretrained import settle_weights, settled

FUNCTIONS = '''
import torch
from torch import nn

torch.manual_seed(7)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(13, 16), nn.LayerNorm(16))])
        self.aside = self.blocks[0]


def module():
    return Two()


def state():
    return {"blocks.0.0.weight": torch.full((16, 13), 2.0).t().contiguous().t()}


def number():
    return 3


def nothing():
    return {}


def raises():
    raise OSError("no such file: encoder.bin")
'''


def study_of(tmp_path: Path, target: str) -> Study:
    study, _ = studied(tmp_path, "sklearn:wine", "mlp", **SHAPE)
    found = study.model_copy(update={"model": study.model.model_copy(update={"pretrained": target})})
    found._path = study._path
    return found


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("w.safetensors", "file"), ("../a/w@2.safetensors", "file"), ("digits@champion", "registry"),
        ("digits/3", "registry"), ("a-b.c/12", "registry"), ("pkg.module:function", "import"), ("m:f", "import"),
        ("digits", None), ("weights.pt", None), ("folder/weights.bin", None), ("digits@", None), ("m:f()", None),
        ("../digits/3", None), ("http://host/w", None), ("models:/digits/3", None),
    ],
)  # fmt: skip
def test_what_a_text_names(text: str, kind: str | None) -> None:
    assert weights_kind(text) == kind
    document = {"name": "s", "data": {"source": "a.csv", "target": "y"}, "model": {"pretrained": text}}
    if kind is None:
        with pytest.raises(ValueError, match="this names no weights"):
            Study.model_validate(document)
    else:
        assert Study.model_validate(document).model.pretrained == text


def test_what_a_function_returns_is_kept_in_the_home_and_not_asked_for_again(tmp_path: Path) -> None:
    (tmp_path / "my_weights_a.py").write_text(FUNCTIONS)
    study = study_of(tmp_path, "my_weights_a:state")
    assert not settled(study)
    settle_weights(study)
    path = weights_path(study)
    assert path is not None and path.is_relative_to(tmp_path / "home") and settled(study)
    kept = read_weights(path)
    assert kept.shapes == {"blocks.0.0.weight": (16, 13)} and kept.origin is None
    assert torch.equal(kept.tensors(["blocks.0.0.weight"])["blocks.0.0.weight"], torch.full((16, 13), 2.0))
    (tmp_path / "my_weights_a.py").write_text("def state():\n    raise OSError\n")
    settle_weights(study)
    assert read_weights(path).sha256 == kept.sha256


def test_a_lane_starts_from_a_module_that_shares_its_tensors(tmp_path: Path) -> None:
    (tmp_path / "my_weights_b.py").write_text(FUNCTIONS)
    study, dataset = studied(tmp_path, "sklearn:wine", "mlp", **SHAPE)
    study = study_of(tmp_path, "my_weights_b:module")
    settle_weights(study)
    network = study_network(study)
    taken = Pretrained(study, network, dataset)
    assert "blocks.0.0.weight" in taken.match.taken and "blocks.1.0.weight" in taken.match.own
    assert any(name.startswith("aside.") for name in taken.match.unused)
    module = network.build(dataset.layout, 3, SHAPE, 1)
    taken.start(module, {**SHAPE, "start": "pretrained", "freeze": "none"})
    assert not torch.equal(module.state_dict()["blocks.0.0.weight"], weights()["blocks.0.0.weight"])
    path = weights_path(study)
    assert path is not None
    tensor = read_weights(path).tensors(["blocks.0.0.weight"])["blocks.0.0.weight"]
    assert torch.equal(module.state_dict()["blocks.0.0.weight"], tensor)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("number", "returned no weights"), ("nothing", "returned no weights"), ("raises", "raised OSError"),
        ("absent", "has no `absent`"),
    ],
)  # fmt: skip
def test_a_function_without_weights_is_refused_and_nothing_is_kept(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "my_weights_c.py").write_text(FUNCTIONS)
    study = study_of(tmp_path, f"my_weights_c:{name}")
    with pytest.raises(ModelError, match=said) as raised:
        settle_weights(study)
    assert "my_weights_c" in str(raised.value) and not settled(study)
    assert not list((tmp_path / "home").rglob("*.safetensors"))
