"""A whole run from pretrained weights: said on the terminal, in report and record; replayed; the file changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import save_file

from lanewise.model import resolve
from lanewise.tracking import read_trial
from tasks.replay import replay

STUDY = """
name: warm
data: {source: "sklearn:wine"}
model: {pretrained: w.safetensors}
space: {width: 16, depth: 1, start: [scratch, pretrained], lr: {low: 1e-3, high: 1e-1, log: true}}
lr_range: {enabled: false}
train: {epochs: 4}
search: {trials: 8, lanes: 4}
evaluate: {folds: 2, repeats: 1, finalists: 1, baselines: false, bootstrap: 100}
"""

pytestmark = pytest.mark.slow


def write_weights(path: Path, seed: int) -> str:
    """An mlp on wine with five outputs; the file's SHA-256."""
    layout = SimpleNamespace(numeric=["x"] * 13, categorical=[], cardinalities=[], kind="table", shape=(), tokens=0)
    module = resolve("mlp").build(layout, 5, {"width": 16, "depth": 1}, seed)
    save_file(module.state_dict(), path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_run_from_weights_is_said_recorded_and_replayed(lanewise: Callable, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY, encoding="utf-8")
    sha = write_weights(tmp_path / "w.safetensors", 1)
    checked = lanewise("check", "study.yaml")
    assert checked.returncode == 0 and "4 of 6 tensors from w.safetensors" in checked.stdout, checked.stderr
    ran = lanewise("run", "study.yaml")
    assert ran.returncode == 0, ran.stderr
    said = f"4 of 6 tensors from w.safetensors (SHA-256 {sha[:12]}); at their own start: head.weight"
    report = (tmp_path / ".lanewise" / "studies" / "warm" / "report.md").read_text(encoding="utf-8")
    assert said in " ".join(ran.stderr.split()) and said in report
    assert "the same network from scratch" in report

    uri = f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    trials = [read_trial(f"trial-{n:04d}", uri=uri, study="warm") for n in range(8)]
    assert {t["tags"]["lanewise.pretrained"] for t in trials} == {sha}
    warm = next(t for t in trials if t["config"]["start"] == "pretrained" and t["state"] == "complete")
    cold = trials[0]
    assert cold["config"]["start"] == "scratch" and "freeze" not in cold["config"]
    for trial in (warm, cold):
        found = replay(f"warm/{trial['key']}", uri=uri)
        assert found.verdict.answer == "EXACT" and not found.verdict.changed, found.words()

    write_weights(tmp_path / "w.safetensors", 2)
    found = replay(f"warm/{warm['key']}", uri=uri)
    assert found.verdict.answer == "DIFFERENT"
    assert [change.ingredient for change in found.verdict.changed] == ["pretrained"]
    assert replay(f"warm/{cold['key']}", uri=uri).verdict.answer == "EXACT"
    refused = lanewise("run", "study.yaml")
    assert refused.returncode == 2 and "model.pretrained" in refused.stderr, refused.stderr
    (tmp_path / "w.safetensors").unlink()
    gone = lanewise("run", "study.yaml")
    assert gone.returncode == 4 and "cannot be read" in gone.stderr and "Traceback" not in gone.stderr


FIRST = """
name: first
data: {source: "sklearn:wine"}
space: {width: 16, depth: 1, dropout: 0.0, activation: tanh}
lr_range: {enabled: false}
train: {epochs: 4}
search: {trials: 2}
evaluate: {folds: 2, repeats: 1, finalists: 1, baselines: false, bootstrap: 100}
"""
THEN = """
name: then
data: {source: "sklearn:wine"}
model: {pretrained: first/1}
space: {start: [scratch, pretrained]}
lr_range: {enabled: false}
train: {epochs: 3}
search: {trials: 4}
"""


def test_a_study_starts_from_a_registered_model_and_keeps_what_it_began_with(
    lanewise: Callable, tmp_path: Path
) -> None:
    (tmp_path / "first.yaml").write_text(FIRST, encoding="utf-8")
    (tmp_path / "then.yaml").write_text(THEN, encoding="utf-8")
    early = lanewise("check", "then.yaml")
    assert early.returncode == 5 and "Traceback" not in early.stderr
    assert lanewise("run", "first.yaml", "-q").returncode == 0
    checked = lanewise("check", "then.yaml")
    assert checked.returncode == 0 and "6 of 6 tensors" in checked.stdout, checked.stderr
    assert "narrowed to the architecture of the weights: depth 1, width 16" in checked.stdout
    assert not list(tmp_path.glob(".lanewise/pretrained/*"))  # a check leaves nothing
    ran = lanewise("search", "then.yaml")
    assert ran.returncode == 0, ran.stderr
    assert "the space is narrowed to the architecture of the weights" in " ".join(ran.stderr.split())
    (kept,) = tmp_path.glob(".lanewise/pretrained/then-*.safetensors")

    uri = f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    trials = [read_trial(f"trial-{n:04d}", uri=uri, study="then") for n in range(4)]
    assert {t["config"]["activation"] for t in trials} == {"tanh"}
    warm = next(t for t in trials if t["config"]["start"] == "pretrained")
    sha = hashlib.sha256(kept.read_bytes()).hexdigest()
    assert warm["tags"]["lanewise.pretrained"] == sha
    found = replay(f"then/{warm['key']}", uri=uri)
    assert found.verdict.answer == "EXACT" and not found.verdict.changed, found.words()
    kept.unlink()  # brought again, for the replay alone: the same version has the same bytes
    found = replay(f"then/{warm['key']}", uri=uri)
    assert found.verdict.answer == "EXACT" and not found.verdict.changed, found.words()
    assert not kept.exists()
