"""check_model passes what the engine can train and names, in one line, what it cannot."""

from __future__ import annotations

import itertools
import random
import re
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lanewise.model_checks import TOY_LAYOUTS, ToyLayout
from lanewise.testing import CheckReport, check_model
from models import MODELS
from models.layers import ACTIVATIONS, INITIALISATIONS

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "your-own-model.md"


class Good(nn.Module):
    """A network as a user writes it; the faulty ones below each change one thing."""

    space: ClassVar[dict[str, Any]] = {"width": [8, 16], "dropout": {"low": 0.0, "high": 0.5}}
    lane_parameters: ClassVar[frozenset[str]] = frozenset({"dropout"})

    def __init__(
        self, n_features: int, n_outputs: int, width: int = 8, dropout: float = 0.1, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.body = nn.Linear(n_features, width)
        self.norm = nn.BatchNorm1d(width)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(width, n_outputs)
        self.scale = scale

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.drop(self.norm(self.body(x)).relu())) * self.scale


def found(report: CheckReport, status: str) -> list[str]:
    return [f"{item.check}: {item.text}" for item in report.items if item.status == status]


def the_only(report: CheckReport, status: str) -> str:
    """The one line of that status; whatever else was tried went well."""
    other = "warn" if status == "fail" else "fail"
    assert not found(report, other), str(report)
    lines = found(report, status)
    assert len(lines) == 1, str(report)
    return lines[0]


def test_good_network_has_no_remarks() -> None:
    report = check_model(Good)
    assert report.ok and not found(report, "warn"), str(report)
    assert len(report.lines) == len(report.items) == 13


SETTINGS = [
    {"activation": activation, "normalisation": normalisation, "numeric_embedding": numeric}
    for activation, (normalisation, numeric) in zip(
        itertools.cycle(ACTIVATIONS),
        itertools.product(["none", "layer", "batch"], ["none", "linear", "periodic"]),
        strict=False,
    )
]


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("mlp", "resnet")])
def test_shipped_networks_for_other_data_have_no_remarks(name: str) -> None:
    cls: Any = MODELS[name]
    rates = {rate: [0.0, 0.5] for rate in cls.lane_parameters if "dropout" in rate}
    tried = rates | ({"initialisation": list(INITIALISATIONS)} if "initialisation" in cls.lane_parameters else {})
    for kind in cls.kinds:
        report = check_model(name, layout=TOY_LAYOUTS[kind], space=tried)
        assert report.ok and not found(report, "warn"), str(report)
        assert "not tried" not in str(report)


@pytest.mark.parametrize("name", ["mlp", "resnet"])
@pytest.mark.parametrize("hyper", SETTINGS, ids=lambda h: "-".join(h.values()))
def test_shipped_networks_have_no_remarks(name: str, hyper: dict[str, Any]) -> None:
    extra = {"residual": True, "depth": 3} if name == "mlp" else {}
    tried = {"initialisation": list(INITIALISATIONS), "frequency_sigma": [0.1, 5.0], "dropout": [0.0, 0.5]}
    report = check_model(name, hyper={**hyper, **extra}, space=tried)
    assert report.ok and not found(report, "warn"), str(report)
    assert "not tried" not in str(report)


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_other_numbers_of_outputs_and_other_columns(n_outputs: int) -> None:
    layout = ToyLayout(("a",), ("k",), (9,))
    assert check_model(Good, n_outputs=n_outputs, layout=layout).ok


class FunctionalDropout(Good):
    def forward(self, x: torch.Tensor) -> Any:
        return self.head(F.dropout(self.body(x).relu(), 0.5, self.training) + self.norm(self.body(x)))


class Noise(Good):
    def forward(self, x: torch.Tensor) -> Any:
        out = super().forward(x)
        return out + torch.randn_like(out) if self.training else out


class HiddenTensor(Good):
    def __init__(self, n_features: int, n_outputs: int, dropout: float = 0.1, width: int = 8) -> None:
        super().__init__(n_features, n_outputs, width, dropout)
        self.projection = torch.randn(n_features, n_features)

    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(x @ self.projection)


class WritesInput(Good):
    def forward(self, x: torch.Tensor) -> Any:
        x += 1
        return super().forward(x)


class MixesRows(Good):
    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(x - x.mean(0))


class Unused(Good):
    def __init__(self, n_features: int, n_outputs: int, dropout: float = 0.1, width: int = 8) -> None:
        super().__init__(n_features, n_outputs, width, dropout)
        self.spare = nn.Linear(width, width)


class Clock(Good):
    def __init__(self, n_features: int, n_outputs: int, dropout: float = 0.1, width: int = 8) -> None:
        super().__init__(n_features, n_outputs, width, dropout)
        nn.init.constant_(self.head.bias, next(_ticks) / 100)


_ticks = itertools.count()


class FalseWidth(Good):
    lane_parameters: ClassVar[frozenset[str]] = frozenset({"dropout", "width"})


class FalseScale(Good):
    space: ClassVar[dict[str, Any]] = {"scale": [1.0, 2.0]}
    lane_parameters: ClassVar[frozenset[str]] = frozenset({"dropout", "scale"})


class SometimesDropout(Good):
    def __init__(self, n_features: int, n_outputs: int, dropout: float = 0.1, width: int = 8) -> None:
        super().__init__(n_features, n_outputs, width, dropout)
        if not dropout:
            self.drop = nn.Identity()  # type: ignore[assignment]  # the fault under test


@pytest.mark.parametrize(
    ("cls", "check", "remedy"),
    [
        (WritesInput, "The inputs are not written to", "write x = x + 1"),
        (MixesRows, "a row's output does not depend on the other rows", "do not normalise over dimension 0"),
        (Unused, "A gradient reaches every parameter", "spare.weight, spare.bias have none"),
        (FalseWidth, "What lane_parameters names", "`width`=16 changes the shape or the code"),
        (FalseScale, "What lane_parameters names", "`scale`=2.0 changes the shape or the code"),
        (SometimesDropout, "What lane_parameters names", "`dropout`=0.0 changes the shape or the code"),
    ],
)
def test_one_fault_gives_one_line(cls: type[nn.Module], check: str, remedy: str) -> None:
    report = check_model(cls)
    assert not report.ok
    line = the_only(report, "fail")
    assert check in line and remedy in line


@pytest.mark.parametrize(
    ("cls", "check"),
    [
        (HiddenTensor, "All that is random at the start is in parameters and buffers"),
        (Clock, "The same seed builds the same module"),
    ],
)
def test_faults_that_touch_several_checks_are_named(cls: type[nn.Module], check: str) -> None:
    assert any(line.startswith(check) for line in found(check_model(cls), "fail"))


@pytest.mark.parametrize("cls", [FunctionalDropout, Noise])
def test_draws_of_its_own_are_a_warning_and_run_one_after_another(cls: type[nn.Module]) -> None:
    report = check_model(cls)
    assert report.ok, str(report)
    random_draws, stacking = found(report, "warn")
    assert random_draws.startswith("Nothing is random in training but nn.Dropout modules: two passes differ")
    assert "one after another, slowly; vmap says: " in stacking and "draw with nn.Dropout modules only" in stacking


class Softmax(Good):
    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(x).softmax(-1)


class Item(Good):
    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(x if x.abs().max().item() < 100 else x / 2)


class Slow(Good):
    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(torch.renorm(x, 2, 0, 100.0))


class OwnSeed(Good):
    def __init__(self, n_features: int, n_outputs: int, dropout: float = 0.1, width: int = 8) -> None:
        torch.manual_seed(0)
        super().__init__(n_features, n_outputs, width, dropout)


class Modest(Good):
    lane_parameters: ClassVar[frozenset[str]] = frozenset()


class NumbersOnly(nn.Module):
    def __init__(self, n_numeric: int, n_outputs: int) -> None:
        super().__init__()
        if not n_numeric:
            raise ValueError("needs numbers")
        self.layer = nn.Linear(n_numeric, n_outputs)

    def forward(self, x_num: torch.Tensor, x_cat: torch.Tensor) -> Any:
        return self.layer(x_num)


@pytest.mark.parametrize(
    ("cls", "check", "remedy"),
    [
        (Softmax, "The outputs are logits", "remove the softmax"),
        (Item, "Stacked lanes give", "its trials will train one after another, slowly; vmap says: "),
        (Slow, "Every operation has a form for lanes", "aten::renorm runs one lane at a time"),
        (OwnSeed, "another seed builds another module", "remove manual_seed"),
        (Modest, "Every dropout rate", "add dropout if it sets only nn.Dropout rates"),
        (NumbersOnly, "It runs on categories alone", "needs numbers"),
    ],
)
def test_what_works_but_costs_is_a_warning(cls: type[nn.Module], check: str, remedy: str) -> None:
    report = check_model(cls)
    assert report.ok
    line = the_only(report, "warn")
    assert check.lower() in line.lower() and remedy in line


def test_zeros_at_the_start_are_no_fault() -> None:
    class ZeroHead(Good):
        def __init__(self, n_features: int, n_outputs: int, dropout: float = 0.1, width: int = 8) -> None:
            super().__init__(n_features, n_outputs, width, dropout)
            nn.init.zeros_(self.head.weight)

    report = check_model(ZeroHead)
    assert report.ok, str(report)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nett", "there is no network `nett`"),
        ("no_such_file:Net", "there is no module"),
        ("json:loads", "function"),
    ],
)
def test_what_cannot_be_found_is_a_report_too(target: str, said: str, tmp_path: Path) -> None:
    report = check_model(target, search_path=[tmp_path])
    assert not report.ok and len(report.items) == 1
    assert said in str(report)


def test_wrong_shape_ends_the_report_with_the_smoke_message() -> None:
    class Wrong(Good):
        def forward(self, x: torch.Tensor) -> Any:
            return super().forward(x)[:, :2]

    report = check_model(Wrong)
    assert [item.status for item in report.items] == ["ok", "fail"]
    assert "returned (8, 2), expected (8, 3)" in str(report)


def test_process_is_as_before() -> None:
    torch.manual_seed(5)
    random.seed(5)
    before = torch.get_rng_state(), random.getstate()
    check_model(Good)
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]


def test_report_as_text() -> None:
    text = str(check_model(Softmax)).splitlines()
    assert text[0].startswith("network ") and text[0].endswith(":Softmax")
    assert text[1] == "  ok   The class is found and its signatures fit: flat inputs"
    assert text[-1] == "  fits the contract, 1 warning"
    assert str(check_model(Unused)).splitlines()[-1] == "  1 of 13 checks failed"


def test_the_guide_s_network_fits_and_its_report_is_the_printed_one(tmp_path: Path) -> None:
    blocks = re.findall(r"```(\w+)\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    code = next(text for kind, text in blocks if kind == "python")
    printed = next(text for kind, text in blocks if kind == "text")
    (tmp_path / "gated.py").write_text(code, encoding="utf-8")
    report = check_model("gated:Gated", search_path=[tmp_path])
    assert report.ok and not found(report, "warn"), str(report)
    assert str(report).strip() == printed.strip()
