"""Bad images, rows F1 to F9 of the fault list, each as real files."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lanewise.data import Prepared, prepare
from lanewise.errors import DataError
from lanewise.study import Study


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the folder `pets`: two classes of 15 grey images, each image its own grey."""
    monkeypatch.chdir(tmp_path)
    for number in range(30):
        save(Image.new("L", (6, 5), 8 * number), f"pets/{('cat', 'dog')[number % 2]}/{number:02}.png")
    return tmp_path


def save(image: Image.Image, path: str, **how: object) -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file, **how)
    return file


def run(source: str = "pets", **data: object) -> Prepared:
    study = {"source": source, "target": "class", **data}
    return prepare(Study.model_validate({"name": "t", "data": study, "evaluate": {"folds": 3}}))


def refusal(source: str = "pets", **data: object) -> DataError:
    """The error a folder is refused with; nothing is sealed before."""
    with pytest.raises(DataError) as caught:
        run(source, **data)
    assert caught.value.exit_code == 3
    assert not Path(".lanewise/data").exists()
    return caught.value


def warned(prepared: Prepared, code: str) -> str:
    """The one warning of this code."""
    (message,) = [warning.message for warning in prepared.dataset.warnings if warning.code == code]
    return message


def noise(size: int = 40) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size), np.uint8))


# --- F1: broken files


def truncated_jpeg(path: Path) -> None:
    save(noise(), str(path))
    path.write_bytes(path.read_bytes()[:-300])


def truncated_png(path: Path) -> None:
    save(noise(), str(path))
    path.write_bytes(path.read_bytes()[:-300])


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut.jpg": (truncated_jpeg, "image file is truncated"),
    "cut.png": (truncated_png, "image file is truncated"),
    "empty.png": (lambda path: path.write_bytes(b""), "an empty file"),
    "text.png": (lambda path: path.write_text("no image"), "no image of a known format"),
    "pipe.png": (lambda path: os.mkfifo(path), "no regular file"),
    "gone.png": (lambda path: path.symlink_to("nowhere.png"), "No such file or directory"),
    "script.png": (lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "no image of"),
}


def test_F1_every_broken_file_is_listed_by_path_with_its_reason() -> None:
    for name, (make, _) in BROKEN.items():
        make(Path("pets/cat") / name)
    error = refusal()
    assert str(error.given).startswith("7 of 37: ")
    for name, (_, reason) in BROKEN.items():
        assert f"cat/{name} ({reason}" in str(error.given), name
    assert "max_broken" in str(error.remedy)


def test_F1_a_declared_share_is_left_out_and_listed_and_nothing_more() -> None:
    truncated_jpeg(Path("pets/cat/cut.jpg"))
    Path("pets/dog/text.png").write_text("no image")
    prepared = run(max_broken=0.1)
    assert prepared.dataset.rows + prepared.dataset.test_rows == 30
    said = warned(prepared, "broken_images")
    assert "2 of 32 left out" in said and "cat/cut.jpg" in said and "dog/text.png" in said
    Path("pets/dog/text2.png").write_text("no image")
    Path("pets/dog/text3.png").write_text("no image")
    with pytest.raises(DataError, match="4 of 34"):
        run(max_broken=0.1)


def test_F1_a_second_run_knows_the_broken_files_too() -> None:
    truncated_jpeg(Path("pets/cat/cut.jpg"))
    first, second = (run(max_broken=0.1) for _ in range(2))  # the second takes the pixels from the cache
    assert warned(first, "broken_images") == warned(second, "broken_images")
    assert first.ref == second.ref


def test_F1_all_broken_is_refused_whatever_is_allowed() -> None:
    for file in Path("pets").rglob("*.png"):
        file.write_bytes(b"\x89PNG\r\n\x1a\n")
    assert "30 of 30" in str(refusal(max_broken=0.99).given)


# --- F2: bombs


def bomb(width: int, height: int) -> bytes:
    """A PNG of 69 bytes that says it is so large."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [30_000, 10_000, 7_100])
def test_F2_a_bomb_is_refused_by_name_before_a_pixel_is_decoded(side: int) -> None:
    """Pillow raises from 179 million pixels on, only warns from 89 million on, and says nothing below."""
    Path("pets/cat/bomb.png").write_bytes(bomb(side, side))
    given = str(refusal().given)
    assert given.startswith("1 of 31: cat/bomb.png (") and given.endswith("more than 50,000,000 pixels)")


# --- F4: modes


def test_F4_every_mode_is_converted_by_the_declared_rule() -> None:
    """One image of each mode, all of the same red or grey; expected by hand."""
    red, grey = (200, 0, 0), 120
    clear = Image.new("RGBA", (6, 5), (0, 0, 0, 0))
    modes = {
        "rgb.png": (Image.new("RGB", (6, 5), red), red),
        "palette.png": (Image.new("RGB", (6, 5), red).quantize(4), red),
        "cmyk.tif": (Image.new("CMYK", (6, 5), (55, 255, 255, 0)), red),
        "opaque.png": (Image.new("RGBA", (6, 5), (*red, 255)), red),
        "clear.png": (clear, (255, 255, 255)),  # transparency lies on white, whatever colour hides in it
        "greyalpha.png": (Image.new("LA", (6, 5), (0, 0)), (255, 255, 255)),
        "onebit.png": (Image.new("1", (6, 5), 1), (255, 255, 255)),
        "sixteen.png": (Image.fromarray(np.full((5, 6), grey * 257, np.uint16)), (grey,) * 3),
        "float.tif": (Image.fromarray(np.full((5, 6), grey / 255, np.float32)), (grey,) * 3),
    }
    for name, (image, _) in modes.items():
        save(image, f"pets/odd/{name}")
    prepared = run()
    assert prepared.dataset.layout.shape == (3, 5, 6)
    said = warned(prepared, "image_modes")
    for mode in ("1 1", "1 CMYK", "1 F", "1 I;16", "30 L", "1 LA", "1 P", "1 RGB", "2 RGBA"):
        assert mode in said, mode
    assert said.endswith("all become RGB")
    from lanewise.data.image_decoding import decode

    for name, (_, expected) in modes.items():
        pixels = decode(Path("pets/odd", name).read_bytes(), (3, 5, 6), "stretch")
        assert np.abs(pixels.astype(int) - np.array(expected)[:, None, None]).max() <= 1, name


def test_F4_float_values_no_rule_covers_are_listed() -> None:
    save(Image.fromarray(np.full((5, 6), -3.5, np.float32)), "pets/cat/odd.tif")
    assert "cat/odd.tif (grey values from -3.5 to -3.5; they go from 0 to 1)" in str(refusal().given)


# --- F6: more than one picture


def test_F6_of_an_animation_or_several_pages_the_first_counts() -> None:
    first, second = Image.new("L", (6, 5), 7), Image.new("L", (6, 5), 250)
    for name in ("pages.tif", "film.gif"):
        save(first, f"pets/cat/{name}", save_all=True, append_images=[second])
    first.convert("RGB").save("pets/cat/film.webp", save_all=True, append_images=[second.convert("RGB")], lossless=True)
    said = warned(run(), "several_pictures")
    assert "3 files hold several pictures" in said and "cat/film.gif" in said
    from lanewise.data.image_decoding import decode

    for name in ("pages.tif", "film.gif", "film.webp"):
        assert np.all(decode(Path("pets/cat", name).read_bytes(), (1, 5, 6), "stretch") == 7), name


# --- F7: the tree


def test_F7_an_empty_class_folder_is_refused_by_name() -> None:
    Path("pets/bird").mkdir()
    Path("pets/fish").mkdir()
    Path("pets/fish/notes.txt").write_text("none yet")
    assert refusal().given == "bird, fish"


def test_F7_one_class_is_refused() -> None:
    for file in Path("pets/dog").iterdir():
        file.unlink()
    Path("pets/dog").rmdir()
    assert "one class" in str(refusal()) or "one value" in str(refusal())


def test_F7_hidden_and_other_files_are_counted_and_make_no_class() -> None:
    hidden = ("cat/.DS_Store", "cat/._01.png", "dog/Thumbs.db", ".git/HEAD", ".x/1.png")
    for name in (*hidden, "cat/notes.txt", "readme.md"):
        Path("pets", name).parent.mkdir(exist_ok=True)
        Path("pets", name).write_bytes(b"x")
    prepared = run()
    assert prepared.dataset.classes == ("cat", "dog")
    said = warned(prepared, "other_files")
    assert "3 hidden files" in said and "2 hidden folders" in said and "2 files that are no images" in said


def test_F7_nested_folders_belong_to_the_class_and_are_counted() -> None:
    save(Image.new("L", (6, 5), 3), "pets/cat/2021/may/99.png")
    prepared = run()
    assert prepared.dataset.classes == ("cat", "dog")
    assert prepared.dataset.rows + prepared.dataset.test_rows == 31
    assert "1 images in folders inside a class folder" in warned(prepared, "other_files")


def test_F7_images_beside_class_folders_are_refused() -> None:
    save(Image.new("L", (6, 5), 3), "pets/loose.png")
    assert "loose.png" in str(refusal().given)


def test_F7_train_and_test_are_no_classes() -> None:
    Path("all").mkdir()
    for part in ("train", "test"):
        Path("all", part, "cat").mkdir(parents=True)
        save(Image.new("L", (6, 5), 3), f"all/{part}/cat/1.png")
    error = refusal("all")
    assert "source: all/train" in str(error.remedy) and "test_source: all/test" in str(error.remedy)


# --- F9: names and links


def test_F9_names_that_are_no_utf8_and_very_long_paths_are_read() -> None:
    content = Path("pets/cat/00.png").read_bytes()
    Path(os.fsdecode(b"pets/cat/caf\xe9.png")).write_bytes(content)
    deep = Path("pets/dog", *["d" * 100] * 3)
    save(Image.new("L", (6, 5), 3), str(deep / ("n" * 250 + ".png")))
    prepared = run()
    assert prepared.dataset.rows + prepared.dataset.test_rows == 32
    Path(os.fsdecode(b"pets/cat/na\xefve.png")).write_bytes(content[:40])
    with pytest.raises(DataError) as caught:
        run()
    assert r"cat/na\xefve.png" in str(caught.value.given)


def test_F9_a_class_named_in_other_bytes_keeps_its_name_in_print() -> None:
    Path("pets/cat").rename(os.fsdecode(b"pets/c\xe4t"))
    assert run().dataset.classes == (r"c\xe4t", "dog")


@pytest.mark.parametrize("what", ["a file", "a folder"])
def test_F9_a_link_out_of_the_folder_is_refused(what: str) -> None:
    save(Image.new("L", (6, 5), 3), "secret/1.png")
    if what == "a file":
        Path("pets/cat/link.png").symlink_to(Path("secret/1.png").absolute())
    else:
        Path("pets/bird").symlink_to(Path("secret").absolute())
    error = refusal()
    assert "leads out of the folder" in error.what and "secret" in str(error.given)


def test_F9_a_link_inside_the_folder_is_read() -> None:
    Path("pets/cat/again.png").symlink_to("00.png")
    prepared = run()
    assert prepared.dataset.rows + prepared.dataset.test_rows == 31


def index(*paths: str) -> None:
    lines = [f"{path},{'ab'[i % 2]}" for i, path in enumerate(paths)]
    Path("index.csv").write_text("path,class\n" + "\n".join(lines) + "\n")


def test_F9_an_index_names_nothing_outside_its_folder() -> None:
    inside = sorted(str(path) for path in Path("pets").rglob("*.png"))
    for outside in ("../other.png", "/etc/hostname.png", "pets/../../other.png"):
        index(*inside, outside)
        error = refusal("index.csv", image_paths="path")
        assert "leads out" in error.what and error.where == "index.csv, line 32"


def test_F9_an_index_with_names_too_long_or_missing_lists_them() -> None:
    inside = sorted(str(path) for path in Path("pets").rglob("*.png"))
    index(*inside, "n" * 300 + ".png", "pets/cat/none.png")
    error = refusal("index.csv", image_paths="path")
    assert "2 of 32" in str(error.given)
    assert "(File name too long)" in str(error.given) and "pets/cat/none.png (No such file" in str(error.given)


def test_a_png_of_another_name_is_read_by_its_bytes() -> None:
    content = io.BytesIO()
    Image.new("L", (6, 5), 9).save(content, "PNG")
    Path("pets/cat/really-a-png.jpg").write_bytes(content.getvalue())
    prepared = run()
    assert prepared.dataset.rows + prepared.dataset.test_rows == 31


def test_b1_a_disk_without_room_for_the_cache_is_an_error_and_leaves_nothing() -> None:
    """A real limit of a real process: no file may grow past 4 KiB, and the 30 images take more."""
    code = """
import resource, signal
from lanewise.data import prepare
from lanewise.study import Study
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
data = {"source": "pets", "target": "class", "image_size": 16}
prepare(Study.model_validate({"name": "t", "data": data, "evaluate": {"folds": 3}}))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert "TrackingError" in ended.stderr and "cannot write the cache of decoded images" in ended.stderr
    assert "File too large" in ended.stderr
    assert list(Path(".lanewise/images").iterdir()) == []
    assert run(image_size=16).dataset.rows == 24
