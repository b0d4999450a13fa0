"""A loss named by its import path: what is no loss is refused before anything trains; one that is one trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_training_checks import studied

from lanewise.errors import LanewiseError, ModelError, StudyError
from lanewise.model import resolve
from lanewise.own_loss import load_loss, try_loss
from lanewise.search.gradient import Gradient
from lanewise.space import build_space
from lanewise.trainer import Trainer

LOSSES = '''
import torch
import torch.nn.functional as F

number = 3


class Loss(torch.nn.Module):
    pass


def good(outputs, target):
    return F.cross_entropy(outputs, target)


def raises(outputs, target):
    return F.cross_entropy(outputs, target[:3])


def rows(outputs, target):
    return F.cross_entropy(outputs, target, reduction="none")


def python_number(outputs, target):
    return F.cross_entropy(outputs, target).item()


def detached(outputs, target):
    return F.cross_entropy(outputs.detach(), target)


def broken(outputs, target):
    return (outputs - outputs).log().sum() * 0
'''


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("number", "this is not a loss"),
        ("Loss", "this is not a loss"),
        ("raises", "the loss raised ValueError"),
        ("rows", r"the loss returned \(8,\), expected a scalar tensor"),
        ("python_number", "the loss returned float, expected a scalar tensor"),
        ("detached", "the loss does not depend on the outputs"),
        ("broken", "the loss is nan on random rows"),
        ("godo", "has no `godo`"),
    ],
)
def test_what_is_no_loss_is_refused_with_its_name(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "my_losses_a.py").write_text(LOSSES)
    with pytest.raises(ModelError, match=said) as raised:
        try_loss(f"my_losses_a:{name}", load_loss(f"my_losses_a:{name}", [tmp_path]), 3, regression=False)
    assert "my_losses_a" in str(raised.value)


def test_the_guides_loss_is_one(tmp_path: Path) -> None:
    guide = Path(__file__).parents[2] / "docs" / "guides" / "hyperparameters.md"
    code = guide.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    (tmp_path / "margins.py").write_text(code)
    margin = load_loss("margins:margin", [tmp_path])
    try_loss("margins:margin", margin, 3, regression=False)
    outputs, target = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    expected = 3 * torch.nn.MultiMarginLoss()(outputs, target)  # torch divides by the number of classes
    assert margin(outputs, target) == pytest.approx(expected.item())


def test_a_study_trains_with_a_loss_of_its_own_beside_another(tmp_path: Path) -> None:
    (tmp_path / "my_losses_b.py").write_text(LOSSES)
    loss = "my_losses_b:good"
    study, dataset = studied(tmp_path, "sklearn:wine", "mlp", loss=["cross_entropy", loss])
    trainer = Trainer(study, resolve("mlp"), dataset)
    for k, name in enumerate(("cross_entropy", loss)):
        trainer.add(trainer.lane(k, {"loss": name, "optimizer": "sgd", "lr": 0.01}, 7))
    reports = trainer.tick()
    assert reports[0].train_loss == pytest.approx(reports[1].train_loss, rel=1e-5)
    assert reports[0].scores["valid/accuracy"] == reports[1].scores["valid/accuracy"]


@pytest.mark.parametrize(
    ("loss", "error", "said"),
    [("my_losses_c:rows", ModelError, "expected a scalar"), ("mean_square", StudyError, "or pkg.module:function")],
)
def test_a_loss_that_cannot_be_used_ends_before_training(
    loss: str, error: type[LanewiseError], said: str, tmp_path: Path
) -> None:
    (tmp_path / "my_losses_c.py").write_text(LOSSES)
    study, dataset = studied(tmp_path, "sklearn:wine", "mlp", loss=loss)
    network: Any = resolve("mlp")
    with pytest.raises(error, match=said):
        build_space(study, network.space, network.defaults)
        Trainer(study, network, dataset)


def test_gradient_based_search_refuses_a_loss_without_its_derivatives(tmp_path: Path) -> None:
    study, _ = studied(tmp_path, "sklearn:wine", "mlp", loss="my_losses_d:good")
    with pytest.raises(StudyError, match="cannot follow a loss of your own"):
        Gradient(study, build_space(study, {}, {}), "minimize")
