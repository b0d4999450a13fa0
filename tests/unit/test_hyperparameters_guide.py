"""The guide to hyperparameters: its names exist, and its example searches what it says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from lanewise.model import resolve
from lanewise.space import build_space
from lanewise.study import load_study
from lanewise.training import LATER, TRAINING, TRAINING_WHEN, TRANSFER
from tasks.job import make_job, opened
from tasks.own_process import needs_child

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "hyperparameters.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
OFF = {"none", 0}


def test_every_name_of_training_stands_in_the_guide_and_nothing_is_on_by_itself() -> None:
    named = set(re.findall(r"`(\w+)`", GUIDE))
    assert set(TRAINING) - named - {n for n, when in TRAINING_WHEN.items() if "schedule" in when} == set()
    switches = {name for name in LATER if name not in TRAINING_WHEN}
    assert switches == {"l1", "averaging", "mixing", "augmentation"}
    assert all(TRAINING[name].default in OFF for name in switches)
    assert {name for name in TRANSFER if name not in TRAINING_WHEN} == {"start"}
    assert TRAINING["start"].default == "scratch"


def test_the_worked_example_searches_under_its_conditions(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(BLOCKS[0])
    study, network = load_study(path), resolve("cnn")
    space = build_space(study, network.space, network.defaults)
    first = space.default()
    assert {n: first[n] for n in ("loss", "averaging", "mixing", "augmentation")} == {
        "loss": "cross_entropy", "averaging": "none", "mixing": "none", "augmentation": "none",
    }  # fmt: skip
    rng, seen = np.random.default_rng(0), set()
    for _ in range(60):
        config = space.sample_uniform(rng)
        seen |= set(config)
        assert ("focal_gamma" in config) == (config["loss"] == "focal")
        assert ("label_smoothing" in config) == (config["loss"] == "cross_entropy")
        assert ("ema_decay" in config) == (config["averaging"] == "ema")
        assert ("mixing_alpha" in config) == (config["mixing"] != "none")
        assert ("augment_rotation" in config) == (config["augmentation"] == "image")
        assert config.get("augment_cutout", 0.25) == 0.25
    assert {"focal_gamma", "ema_decay", "mixing_alpha", "augment_rotation", "augment_crop"} <= seen
    assert "swa_share" not in seen


def test_features_of_a_table_are_searched_in_both_networks(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(BLOCKS[1])
    for name in ("mlp", "resnet"):
        network = resolve(name)
        space = build_space(load_study(path), network.space, network.defaults)
        drawn = [space.sample_uniform(np.random.default_rng(seed)) for seed in range(40)]
        assert {(c["numeric_embedding"], c["interactions"]) for c in drawn} == {
            (embedding, rank) for embedding in ("none", "periodic", "bins") for rank in (0, 8)
        }
        assert all(("frequency_sigma" in c) == (c["numeric_embedding"] == "periodic") for c in drawn)


def test_a_loss_of_ones_own_trains_in_a_child_process(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    for loss, child in (("[cross_entropy, 'margins:margin']", True), ("[cross_entropy, focal]", False)):
        path.write_text(f"name: wine\ndata: {{source: 'sklearn:wine'}}\nspace: {{loss: {loss}}}\n"
                        f"tracking: {{home: {tmp_path / 'home'}}}\n")  # fmt: skip
        with opened(make_job(path)) as shop:
            assert needs_child(shop) == child
