"""Draws the images of 04_images.yaml: `python examples/shapes.py` writes the folder `shapes` beside itself.

Circles, squares and triangles of 16 x 16 grey pixels, turned, moved and noisy: 60 a class in `train`, 20 in `test`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIDE, TRAIN, TEST = 16, 60, 20
CORNERS = {"circle": 24, "square": 4, "triangle": 3}  # a polygon of 24 corners is a circle at this size


def draw(corners: int, rng: np.random.Generator) -> Image.Image:
    """One image of a regular polygon."""
    angles = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(corners) / corners
    middle, radius = rng.uniform(6.5, 8.5, 2), rng.uniform(4, 6.5)
    points = [(middle[0] + radius * np.cos(a), middle[1] + radius * np.sin(a)) for a in angles]
    image = Image.new("L", (SIDE, SIDE), 40)
    ImageDraw.Draw(image).polygon(points, fill=200)
    noisy = np.asarray(image) + rng.normal(0, 25, (SIDE, SIDE))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def write(folder: Path) -> None:
    """The same images each time."""
    rng = np.random.default_rng(0)
    for part, count in (("train", TRAIN), ("test", TEST)):
        for name, corners in CORNERS.items():
            (folder / part / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                draw(corners, rng).save(folder / part / name / f"{number:02}.png")


if __name__ == "__main__":
    write(Path(__file__).parent / "shapes")
