"""Augmentation and mixing: lanes against the slow twin, bits among neighbours, and the changes against SciPy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from lanes import CLASSES, CONFIG, VALUES, lane, run, split
from scipy import ndimage
from test_lane_bits import bits
from torch import nn

from lanewise.checkpoints import decode, encode
from lanewise.engine import Engine, Lane, SplitTensors, reference
from lanewise.engine.augmentation import amounts
from lanewise.engine.mixing import draws
from lanewise.engine.transforms import contrasted, moved, turned

TOLERANCE = 5e-5  # as for plain lanes, and a bilinear interpolation before
IMAGE, SERIES = {"augmentation": "image"}, {"augmentation": "series"}
STRENGTHS: dict[str, Any] = {
    "flip_horizontal": 0.5, "flip_vertical": 0.3, "crop": 2, "shift": 0.2, "rotation": 25.0, "brightness": 0.5,
    "contrast": 0.4, "noise": 0.3, "cutout": 0.4,
}  # fmt: skip
OF_SERIES = ("shift", "noise", "cutout")


def augment(*names: str) -> dict[str, Any]:
    return {f"augment_{name}": STRENGTHS[name] for name in names}


IMAGE_CHANGES = [*({**IMAGE, **augment(n)} for n in STRENGTHS), {**IMAGE, **augment(*STRENGTHS)}]
SERIES_CHANGES = [*({**SERIES, **augment(n)} for n in OF_SERIES), {**SERIES, **augment(*OF_SERIES)}]


def pictures(rows: int = 60, shape: tuple[int, ...] = (2, 7, 9), present: bool = False) -> SplitTensors:
    """Random images (or series) with a learnable target."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(rows, *shape, generator=g)
    if present:
        x[:, -1] = 1.0
        x[::2, :, -3:] = 0.0
    y = (x.flatten(1) @ torch.randn(x[0].numel(), 3, generator=g)).argmax(1)
    cut = 2 * rows // 3
    return SplitTensors((x[:cut],), y[:cut], (x[cut:],), y[cut:], present=present)


def of_shape(k: int, config: dict[str, Any], shape: tuple[int, ...] = (2, 7, 9), epochs: int = 2) -> Lane:
    """A lane whose network takes images or series; a convolution, so that places count."""
    with torch.random.fork_rng():
        torch.manual_seed(k)
        convolution = nn.Conv2d if len(shape) == 3 else nn.Conv1d
        layers = [convolution(shape[0], 4, 3), nn.ReLU(), nn.Flatten()]
        inner = 4 * int(np.prod([side - 2 for side in shape[1:]]))
        module = nn.Sequential(*layers, nn.Linear(inner, 3))
    own = {**CONFIG, "lr": 3e-3 * (1 + k / 7), **config}
    return Lane(k, 1000 + k, own, module, f"{shape}", epochs, batch=16)


def check(lanes: list[Lane], data: SplitTensors, goal: Any = CLASSES) -> None:
    curves = run(lanes, [data], goal)
    for one in lanes:
        expected, _ = reference.train(one, data, goal)
        got = [r.train_loss for r in curves[one.key]]
        assert np.allclose(got, [e["train/loss"] for e in expected], rtol=TOLERANCE), one.config


@pytest.mark.parametrize("change", IMAGE_CHANGES, ids=str)
def test_every_change_of_images_equals_the_slow_twins(change: dict[str, Any]) -> None:
    check([of_shape(k, change if k else {}) for k in range(3)], pictures())


@pytest.mark.parametrize("present", [False, True])
@pytest.mark.parametrize("change", SERIES_CHANGES, ids=str)
def test_every_change_of_series_equals_the_slow_twins(change: dict[str, Any], present: bool) -> None:
    data = pictures(shape=(3, 11), present=present)
    check([of_shape(k, change if k else {}, (3, 11)) for k in range(3)], data)


MIXED = [{"mixing": "mixup", "mixing_alpha": 0.4}, {"mixing": "cutmix", "mixing_alpha": 1.0}]


@pytest.mark.parametrize("smooth", [{}, {"label_smoothing": 0.1}, {"class_weight": "balanced"}], ids=str)
@pytest.mark.parametrize("change", MIXED, ids=str)
def test_mixed_images_equal_the_slow_twins(change: dict[str, Any], smooth: dict[str, Any]) -> None:
    both = {**IMAGE, **augment("flip_horizontal", "crop")}
    check([of_shape(k, {**smooth, **(change if k else {}), **(both if k == 2 else {})}) for k in range(3)], pictures())


@pytest.mark.parametrize("loss", ["mse", "mae"])
def test_mixed_rows_of_a_table_mix_their_numbers_to_predict(loss: str) -> None:
    lanes = [lane(k, config=MIXED[0], outputs=1) for k in range(3)]
    check(lanes, split(regression=True), replace(VALUES, loss=loss))


@pytest.mark.parametrize("threads", [1, 2])
def test_bits_do_not_depend_on_neighbours(threads: int) -> None:
    """Lanes with every change, with one, with none; alone, in chunks, in another order."""
    data, before = pictures(), torch.get_num_threads()
    every, two = {**IMAGE, **augment(*STRENGTHS)}, {**IMAGE, **augment("rotation", "contrast")}
    how = [every, {}, {**every, **MIXED[1]}, MIXED[0], two, {**every, **MIXED[0]}]
    lanes = [of_shape(k, how[k % 6]) for k in range(7)]
    torch.set_num_threads(threads)  # convolutions themselves depend on it (torch 2.13), with augmentation or without
    try:
        alone = {one.key: bits(run([one], [data]), one.key) for one in lanes}
        for some, chunk in ((lanes, 64), (lanes[::-1], 2), (lanes[1::2], None)):
            together = run(some, [data], chunk=chunk)
            assert {one.key: bits(together, one.key) for one in some} == {one.key: alone[one.key] for one in some}
    finally:
        torch.set_num_threads(before)


def test_a_lane_with_every_change_goes_on_from_its_checkpoint() -> None:
    """Nothing that is drawn is carried from one epoch to the next."""
    data, config = pictures(), {**IMAGE, **augment(*STRENGTHS), **MIXED[1]}
    whole = run([of_shape(0, config, epochs=4)], [data])[0]
    engine = Engine([data], CLASSES, lanes=2)
    engine.add(of_shape(0, config, epochs=4))
    for _ in range(2):
        engine.tick()
    kept = decode(encode({"0": engine.state(0)}))["0"]
    again = Engine([data], CLASSES, lanes=2)
    again.add(of_shape(1, {}, epochs=4))
    again.add(of_shape(0, config, epochs=4), kept)
    for epoch in (2, 3):
        assert again.tick()[1] == whole[epoch]


def test_a_change_draws_from_its_own_stream() -> None:
    """What is switched on beside it does not change a change; seeds and epochs do."""
    config = {**CONFIG, **IMAGE, **augment(*STRENGTHS)}
    every = amounts(config, 1, 0, (3, 4), (1, 8, 8))
    single = amounts({**CONFIG, **IMAGE, **augment("contrast")}, 1, 0, (3, 4), (1, 8, 8))
    assert list(single) == ["contrast"] and (single["contrast"][0] == every["contrast"][0]).all()
    for seed, epoch in ((2, 0), (1, 1)):
        assert (amounts(config, seed, epoch, (3, 4), (1, 8, 8))["turn"][0] != every["turn"][0]).all()


def test_amounts_stay_in_their_bounds_and_reach_them() -> None:
    found = amounts({**CONFIG, **IMAGE, **augment(*STRENGTHS)}, 5, 0, (50, 64), (1, 20, 40))
    assert set(found["crop"][0].ravel()) == {-2, -1, 0, 1, 2}
    angle, down, right = found["turn"]
    for values, most in ((angle, np.radians(25)), (down, 4.0), (right, 8.0)):
        assert 0.99 * most < np.abs(values).max() <= most and abs(values.mean()) < 0.05 * most
    assert 0.47 < found["flip_horizontal"][0].mean() < 0.53
    assert found["cutout"][1].max() == 8 and found["cutout"][3].max() == 16
    shares = draws({**CONFIG, "mixing": "mixup", "mixing_alpha": 2.0}, 5, 0, (4000, 4), (3,)).share
    assert shares.mean() == pytest.approx(0.5, abs=0.02) and shares.var() == pytest.approx(1 / 20, rel=0.1)


@pytest.mark.parametrize("shape", [(9, 9), (8, 13)])
def test_turned_images_are_scipys(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(4, *shape)).astype(np.float32)
    angles, down, right = np.radians([0, 90, -30, 170]), np.array([1, 0, -1.5, 0.25]), np.array([0, 2, 0.5, -3.0])
    got = turned(torch.from_numpy(images).unsqueeze(1), *(torch.from_numpy(v).float() for v in (angles, down, right)))
    centre = (np.array(shape) - 1) / 2
    for i, image in enumerate(images):
        cos, sin = np.cos(angles[i]), np.sin(angles[i])
        back = np.array([[cos, sin], [-sin, cos]])  # (row, column) of the result -> of the source
        offset = centre - back @ (centre + np.array([down[i], right[i]]))
        expected = ndimage.affine_transform(image, back, offset, order=1, mode="nearest")
        assert np.allclose(got[i, 0].numpy(), expected, atol=1e-4)
    square, how = torch.from_numpy(images[:1, None, :8, :8]), (np.pi / 2, 0.0, 0.0)
    quarter = turned(square, *(torch.tensor([v]) for v in how))
    assert np.allclose(quarter[0, 0].numpy(), np.rot90(images[0, :8, :8]), atol=1e-4)  # counter-clockwise, as numpy


def test_moved_and_contrasted_by_hand() -> None:
    x = torch.tensor([[[1.0, 2.0, 3.0, 4.0]], [[1.0, 2.0, 3.0, 4.0]]])
    assert moved(x, torch.tensor([1, -2]), 2).tolist() == [[[1, 1, 2, 3]], [[3, 4, 4, 4]]]
    assert contrasted(x, torch.tensor([2.0, 0.0])).tolist() == [[[-0.5, 1.5, 3.5, 5.5]], [[2.5] * 4]]
