"""Puts a drawing and its caption together, for `outcome.py`, `winner.py` and `course.py`."""

from __future__ import annotations

from lanewise.report import canvas
from lanewise.report.captions import caption
from lanewise.report.document import Picture
from lanewise.report.facts import Facts


def picture(name: str, drawing: canvas.Drawing, facts: Facts, **fields: str) -> Picture | None:
    """The drawing with its words; None if there is nothing to draw.

    Args:
        name: a key of `CAPTIONS`.
        drawing: draws it.
        facts: what it draws.
        fields: what the caption leaves open.
    """
    alt, text = caption(name, **fields)
    svg = canvas.svg(name.replace("_", "-"), drawing, facts, alt)
    return None if svg is None else Picture(svg, text, alt)
