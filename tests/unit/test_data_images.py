"""Images: what is read is what Pillow and NumPy say, once, however it comes: folder, index, archive or base64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from lanewise.data import Prepared, look, prepare, read_fitted, read_new_rows, write_study
from lanewise.data import image_reading as reading
from lanewise.data.image_decoding import decode, encode
from lanewise.data.images import file_cell
from lanewise.errors import DataError, LanewiseError
from lanewise.study import Data, Study, load_study

DIGITS = load_digits()
PIXELS = (DIGITS.images[:120] * 15).astype(np.uint8)  # [N, 8, 8]
LABELS = DIGITS.target[:120]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the folder `digits`: ten classes, 120 grey images of 8 x 8."""
    monkeypatch.chdir(tmp_path)
    for number, (pixels, label) in enumerate(zip(PIXELS, LABELS, strict=True)):
        folder = Path("digits", str(label))
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    return tmp_path


def run(source: str = "digits", target: str = "class", **data: Any) -> Prepared:
    study = {"source": source, "target": target, **data}
    return prepare(Study.model_validate({"name": "t", "data": study, "evaluate": {"folds": 3}}))


def in_order(prepared: Prepared) -> tuple[np.ndarray, np.ndarray]:
    """Training images of the search's split, and their labels, in an order that depends on them alone."""
    arrays = prepared.dataset.arrays(prepared.dataset.everything())
    keys = [image.tobytes() for image in arrays.x_num_train]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__))
    return arrays.x_num_train[order], arrays.y_train[order]


def test_a_folder_is_its_pixels_standardised_by_the_training_rows() -> None:
    dataset = run().dataset
    assert dataset.layout.kind == "image" and dataset.layout.shape == (1, 8, 8)
    assert dataset.classes == tuple("0123456789")
    split = dataset.holdout
    arrays = dataset.arrays(split)
    files = [Path("digits", dataset.classes[code]) for code in dataset.target]
    raw = {image.tobytes(): int(label) for image, label in zip(PIXELS, LABELS, strict=True)}
    assert len(files) == len(dataset.frame)
    mean, deviation = arrays_moments(dataset, split)
    for x, y in ((arrays.x_num_train, arrays.y_train), (arrays.x_num_valid, arrays.y_valid)):
        assert x.dtype == np.float32
        back = np.round(x * deviation + mean).astype(np.uint8)
        assert [raw[image[0].tobytes()] for image in back] == y.tolist()  # the pixels of its own label
        assert np.allclose(x, (back - mean) / deviation, atol=1e-6)
    assert abs(arrays.x_num_train.mean()) < 1e-6 and abs(arrays.x_num_train.std() - 1) < 1e-6
    assert abs(arrays.x_num_valid.mean()) > 1e-4  # the validation rows were not asked


def arrays_moments(dataset: Any, split: Any) -> tuple[float, float]:
    """Mean and deviation of the training pixels by NumPy, from the files."""
    from lanewise.data.image_store import pixels_of

    pixels = np.stack([pixels_of(cell) for cell in dataset.frame["image"].iloc[split.train]]).astype(np.float64)
    fitted = dataset.preprocess(split.train)
    assert fitted.means[0] == pytest.approx(pixels.mean(), rel=1e-12)
    assert fitted.deviations[0] == pytest.approx(pixels.std(), rel=1e-12)
    return float(pixels.mean()), float(pixels.std())


def test_an_index_and_an_archive_are_the_same_images() -> None:
    folder, labels = in_order(run(test=0.1, split="random"))
    paths = [f"{label}/{number:03}.png" for number, label in enumerate(LABELS)]
    pd.DataFrame({"file": paths, "digit": LABELS, "writer": LABELS % 3}).to_csv("digits/index.csv", index=False)
    np.savez("digits.npz", X=PIXELS, y=LABELS)
    from_index = run("digits/index.csv", "digit", image_paths="file")
    assert from_index.dataset.layout.shape == (1, 8, 8)
    assert "writer" in from_index.dataset.dropped  # a network of images takes nothing else
    assert run("digits.npz").dataset.layout.shape == (1, 8, 8)
    everything = {image.tobytes() for image in PIXELS}
    for prepared, name in ((from_index, "file"), (run("digits.npz"), "image")):
        frame = prepared.dataset.frame
        fitted = prepared.dataset.preprocess(np.arange(len(frame)))
        back = fitted.transform(frame)[0] * fitted.deviations[0] + fitted.means[0]
        assert {image.tobytes() for image in np.round(back[:, 0]).astype(np.uint8)} <= everything
        assert list(frame.columns) == [name]
    assert len(folder) == len(labels)


def test_groups_of_an_index_stay_on_one_side() -> None:
    paths = [f"{label}/{number:03}.png" for number, label in enumerate(LABELS)]
    writers = np.arange(120) // 5
    pd.DataFrame({"file": paths, "digit": LABELS % 2, "writer": writers}).to_csv("digits/index.csv", index=False)
    dataset = run("digits/index.csv", "digit", image_paths="file", group="writer").dataset
    assert dataset.groups is not None
    assert not {*dataset.groups[dataset.holdout.train]} & {*dataset.groups[dataset.holdout.valid]}


def test_pixels_are_decoded_once_and_a_damaged_cache_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []

    def counted(*args: Any) -> Any:
        decoded.append(1)
        return decode(*args)

    monkeypatch.setattr(reading, "decode", counted)
    first = run()
    assert len(decoded) == 120
    assert run().ref == first.ref and len(decoded) == 120
    (cache,) = Path(".lanewise/images").glob("*.npy")
    kept = cache.read_bytes()
    assert np.load(cache).shape == (120, 1, 8, 8)
    cache.write_bytes(kept[:-1] + b"\xff")
    assert run().ref == first.ref and len(decoded) == 240 and cache.read_bytes() == kept
    cache.write_bytes(kept[:200])
    assert run().ref == first.ref and len(decoded) == 360 and cache.read_bytes() == kept
    cache.with_suffix(".json").unlink()
    assert run().ref == first.ref and len(decoded) == 480
    Path("digits/0/000.png").write_bytes(encode(np.zeros((1, 8, 8), np.uint8)))
    assert run().ref.fingerprint != first.ref.fingerprint and len(decoded) == 600
    assert len(list(Path(".lanewise/images").glob("*.npy"))) == 2


def test_progress_counts_every_image_that_is_decoded() -> None:
    said: list[tuple[int, int]] = []
    data = {"source": "digits", "target": "class"}
    study = Study.model_validate({"name": "t", "data": data, "evaluate": {"folds": 3}})
    prepare(study, lambda done, total: said.append((done, total)))
    assert said == [(number, 120) for number in range(1, 121)]
    prepare(study, lambda done, total: said.append((done, total)))
    assert len(said) == 120


def test_sealed_rows_carry_their_pixels() -> None:
    """They are scored alike without the cache, in another process too: there is no reference in them."""
    prepared = run()
    sealed, _ = prepared.seal.open("frozen")
    assert len(sealed) == prepared.ref.test_rows
    assert not sealed["image"].str.startswith("image:").any()
    fitted = prepared.dataset.preprocess(prepared.dataset.holdout.train)
    back = np.round(fitted.transform(sealed)[0] * fitted.deviations[0] + fitted.means[0]).astype(np.uint8)
    development = {image.tobytes() for image in PIXELS}
    assert {image[0].tobytes() for image in back} <= development


def test_a_test_folder_takes_size_and_mode_of_the_first() -> None:
    for number, pixels in enumerate(PIXELS[:20]):
        folder = Path("more", str(LABELS[number]))
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).convert("RGB").resize((11, 9)).save(folder / f"{number}.png")
    prepared = run(test_source="more")
    assert prepared.ref.test_rows == 20 and prepared.dataset.rows == 120
    assert prepared.dataset.layout.shape == (1, 8, 8)


def test_a_preprocessor_comes_back_from_json_to_the_bit() -> None:
    import json

    dataset = run().dataset
    fitted = dataset.preprocess(dataset.holdout.train)
    again = read_fitted(json.loads(json.dumps(fitted.to_json())))
    assert again.layout == fitted.layout
    assert again.transform(dataset.frame)[0].tobytes() == fitted.transform(dataset.frame)[0].tobytes()


def test_a_constant_channel_becomes_zero() -> None:
    for path in Path("digits").rglob("*.png"):
        grey = np.asarray(Image.open(path))
        Image.fromarray(np.stack([grey, np.full_like(grey, 9), grey // 2], axis=2)).save(path)
    dataset = run().dataset
    assert dataset.layout.shape == (3, 8, 8)
    arrays = dataset.arrays(dataset.holdout)
    assert np.all(arrays.x_num_train[:, 1] == 0) and np.all(arrays.x_num_valid[:, 1] == 0)


# --- rules


def halves(width: int, height: int) -> bytes:
    """Grey 0 in the left half, 200 in the right."""
    pixels = np.zeros((1, height, width), np.uint8)
    pixels[:, :, width // 2 :] = 200
    return encode(pixels)


def test_sizes_are_reached_by_the_declared_rule() -> None:
    """8 x 4 to 4 x 4, by hand: stretched, the middle cut out, or with borders above and below."""
    stretched, cut, padded = (decode(halves(8, 4), (1, 4, 4), how)[0] for how in ("stretch", "crop", "pad"))
    assert stretched[:, 0].tolist() == [0] * 4 and stretched[:, 3].tolist() == [200] * 4
    assert cut.tolist() == [[0, 0, 200, 200]] * 4
    assert padded[0].tolist() == [0] * 4 == padded[3].tolist()
    assert padded[1, 0] == 0 and padded[1, 3] == 200


def test_a_photo_is_turned_as_its_exif_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to see it upright
    Path("photos").mkdir()
    for label in ("a", "b"):
        Path("photos", label).mkdir()
        for number in range(10):
            image = Image.fromarray(np.full((4, 6), 10 * number, np.uint8))
            image.putpixel((0, 0), 255)
            image.save(Path("photos", label, f"{number}.png"), exif=exif)
    dataset = run("photos").dataset
    assert dataset.layout.shape == (1, 6, 4)  # upright
    pixels = decode(Path("photos/a/0.png").read_bytes(), (1, 6, 4), "stretch")
    assert np.argwhere(pixels[0] == 255).tolist() == [[0, 3]]  # from the left top corner to the right one


@pytest.mark.parametrize(
    ("given", "shape"),
    [(None, (1, 10, 8)), (16, (1, 16, 16)), ([12, 6], (1, 12, 6)), ("12", (1, 12, 12))],
)
def test_mixed_sizes_become_their_median_or_the_declared_size(given: Any, shape: tuple[int, ...]) -> None:
    for label in ("a", "b"):
        Path("mixed", label).mkdir(parents=True)
        for number in range(12):
            Image.new("L", (6 + number % 5, 8 + number % 5), number).save(Path("mixed", label, f"{number}.png"))
    prepared = run("mixed", image_size=given)
    assert prepared.dataset.layout.shape == shape
    (note,) = [w.message for w in prepared.dataset.warnings if w.code == "image_sizes"]
    assert "5 sizes, 8 x 6 to 12 x 10" in note


def test_large_mixed_images_become_64_on_the_longer_side() -> None:
    for label in ("a", "b"):
        Path("large", label).mkdir(parents=True)
        for number in range(6):
            Image.new("L", (200 + number, 100), number).save(Path("large", label, f"{number}.png"))
    assert run("large").dataset.layout.shape == (1, 32, 64)


@pytest.mark.parametrize("mode", ["grey", "rgb"])
def test_the_mode_may_be_declared(mode: str) -> None:
    assert run(image_mode=mode).dataset.layout.shape == ({"grey": 1, "rgb": 3}[mode], 8, 8)


@pytest.mark.parametrize("size", [0, 5000, [1, 2, 3], "large", [8, 0]])
def test_a_size_that_is_none_is_refused(size: Any) -> None:
    with pytest.raises((LanewiseError, ValueError), match=r"no size of images|number"):
        Data.model_validate({"source": "digits", "target": "class", "image_size": size})


# --- init and predict


def test_init_finds_train_and_test_and_an_index() -> None:
    for part in ("train", "test"):
        for number, (pixels, label) in enumerate(zip(PIXELS, LABELS, strict=True)):
            folder = Path("both", part, str(label))
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    Path("both.yaml").write_text(write_study(look("both")))
    study = load_study("both.yaml")
    assert (study.data.source, study.data.test_source) == ("both/train", "both/test")
    assert study.model.name == "cnn" and study.data.target == "class"
    assert prepare(study).ref.test_rows == 120
    paths = [f"{label}/{number:03}.png" for number, label in enumerate(LABELS)]
    pd.DataFrame({"file": paths, "digit": LABELS}).to_csv("digits/index.csv", index=False)
    Path("index.yaml").write_text(write_study(look("digits/index.csv", "digit")))
    study = load_study("index.yaml")
    assert study.data.image_paths == "file" and study.model.name == "cnn"
    assert prepare(study).dataset.layout.shape == (1, 8, 8)


def test_new_rows_are_a_folder_one_image_an_index_or_cells_in_base64() -> None:
    dataset = run().dataset
    fitted = dataset.preprocess(dataset.holdout.train)
    columns = dataset.columns

    def pixels(source: str) -> np.ndarray:
        frame, _ = read_new_rows(Path(source), columns)
        back = fitted.transform(frame)[0] * fitted.deviations[0] + fitted.means[0]
        return np.round(back[:, 0]).astype(np.uint8)

    files = sorted(path for path in Path("digits").rglob("*.png"))
    frame, names = read_new_rows(Path("digits"), columns)
    assert list(names) == [str(path.relative_to("digits")) for path in files] and len(frame) == 120
    expected = np.stack([np.asarray(Image.open(path)) for path in files])
    assert np.array_equal(pixels("digits"), expected)
    assert np.array_equal(pixels(str(files[5])), expected[5:6])
    pd.DataFrame({"image": [str(path.relative_to("digits")) for path in files[:9]]}).to_csv("digits/i.csv", index=False)
    assert np.array_equal(pixels("digits/i.csv"), expected[:9])
    cells = [file_cell(path.read_bytes()) for path in files[:9]]
    pd.DataFrame({"image": cells, "more": range(9)}).to_csv("cells.csv", index=False)
    assert np.array_equal(pixels("cells.csv"), expected[:9])


def test_new_images_of_another_size_and_mode_get_those_of_the_model() -> None:
    dataset = run().dataset
    fitted = dataset.preprocess(dataset.holdout.train)
    Path("new").mkdir()
    Image.new("RGB", (30, 20), (50, 50, 50)).save("new/a.jpg")
    frame, names = read_new_rows(Path("new"), dataset.columns)
    assert list(names) == ["a.jpg"]
    x, _ = fitted.transform(frame)
    assert x.shape == (1, 1, 8, 8)
    assert np.allclose(x * fitted.deviations[0] + fitted.means[0], 50, atol=1.01)


def test_a_cell_that_is_no_image_is_refused() -> None:
    dataset = run().dataset
    fitted = dataset.preprocess(dataset.holdout.train)
    for cell in ("no image", file_cell(b"no image"), "image:1x8x8:stretch:0000"):
        with pytest.raises(DataError):
            fitted.transform(pd.DataFrame({"image": [cell]}))
