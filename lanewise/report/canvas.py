"""Turns a drawing into an inline SVG that follows the page's light or dark colours, or into a PNG.

Under the three files of plots. A drawing is a function of the facts and an `Ink`; in an SVG the ink's colours
are placeholders which become the page's CSS variables, so one picture serves both
themes. It knows no record. matplotlib is imported when the first picture is drawn.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from html import escape
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lanewise.report.facts import Facts

POINT = 4 / 3  # CSS pixels of a point
_LOCK = threading.Lock()  # matplotlib's settings are global, and tasks run in threads


@dataclass(frozen=True)
class Ink:
    """Colours by role; the names are those of the page's CSS variables (with a dash for the underscore)."""

    paper: str
    ink: str
    muted: str
    line: str
    tuned: str
    other: str
    base: str
    good: str
    bad: str
    q1: str
    q2: str
    q3: str
    q4: str
    q5: str

    @property
    def scale(self) -> tuple[str, ...]:
        """Worst to best."""
        return self.q1, self.q2, self.q3, self.q4, self.q5


ROLES = tuple(f.name for f in fields(Ink))
LIGHT = Ink(
    paper="#ffffff",
    ink="#1b2027",
    muted="#5a6470",
    line="#d5dbe2",
    tuned="#0b62c4",
    other="#b8590a",
    base="#6d7782",
    good="#17733c",
    bad="#b3261e",
    q1="#d2d9e0",
    q2="#b3c3d6",
    q3="#82a5d1",
    q4="#4480c6",
    q5="#0b4fa8",
)
DARK = Ink(
    paper="#14181d",
    ink="#e4e8ec",
    muted="#9ba6b2",
    line="#343d47",
    tuned="#6db1ff",
    other="#f0a150",
    base="#8d99a6",
    good="#63c789",
    bad="#ff8f85",
    q1="#38424d",
    q2="#3f566f",
    q3="#4a7bad",
    q4="#63a2e4",
    q5="#a3d0ff",
)
# Placeholders no drawing would use by itself: #fe0001, #fe0002 ...
_MARKS = Ink(**{role: f"#fe{i:04x}" for i, role in enumerate(ROLES, 1)})
_MARK = re.compile(r"#fe(00[0-9a-f]{2})")

Shown = TypeVar("Shown")  # what a drawing shows: the facts of a run, or a comparison
Drawing = Callable[["Facts", Ink], "Figure | None"]


def css() -> str:
    """The roles as CSS variables, light and dark; print is always light."""
    light, dark = ("".join(f"--{role}:{getattr(ink, role)};" for role in ROLES) for ink in (LIGHT, DARK))
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"


def svg(
    name: str, drawing: Callable[[Shown, Ink], Figure | None], facts: Shown, alt: str
) -> str | None:
    """The drawing as an SVG element without addresses or fonts of its own; None if there is none.

    `name` starts the identifiers inside, so that no picture uses another one's.
    """
    with _style(_MARKS):
        figure = drawing(facts, _MARKS)
        if figure is None:
            return None
        sink = io.StringIO()
        figure.savefig(sink, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return _inline(sink.getvalue(), name, alt)


def png(drawing: Callable[[Shown, Ink], Figure | None], facts: Shown) -> bytes | None:
    """The drawing as a PNG of 144 dots per inch on white; None if there is none."""
    with _style(LIGHT):
        figure = drawing(facts, LIGHT)
        if figure is None:
            return None
        sink = io.BytesIO()
        figure.savefig(sink, format="png", dpi=144, metadata={"Software": None})
    return sink.getvalue()


def sheet(width: float, height: float, columns: int = 1, **settings: Any) -> tuple[Figure, Sequence[Axes]]:
    """A figure of `width` x `height` CSS pixels with a row of axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / POINT / 72, height / POINT / 72), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False, **settings)[0]
    return figure, list(axes)


def log_axis(axis: Any) -> None:
    """A logarithmic axis with plain numbers: 0.001, not a formula."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}".replace("e-0", "e-")))
    axis.set_minor_formatter(NullFormatter())


def robust_limits(values: Sequence[float], always: Sequence[float] = ()) -> tuple[float, float]:
    """Ends of an axis that a few far values do not squeeze: three interquartile ranges, `always` inside."""
    import numpy as np

    low, mid_low, mid_high, high = np.quantile(values, (0, 0.25, 0.75, 1))
    reach = 3 * (mid_high - mid_low)
    low, high = max(low, mid_low - reach), min(high, mid_high + reach)
    low, high = min([float(low), *always]), max([float(high), *always])
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    return low - margin, high + margin


@contextmanager
def _style(ink: Ink) -> Iterator[None]:
    """matplotlib's settings while one picture is drawn and saved."""
    import matplotlib

    settings: Any = {
        "font.family": "sans-serif",
        "font.size": 9,
        "svg.fonttype": "none",
        "svg.hashsalt": "lanewise",
        "text.parse_math": False,  # a class named "$x" is no formula
        "text.color": ink.ink,
        "axes.labelcolor": ink.muted,
        "axes.edgecolor": ink.line,
        "axes.facecolor": "none",
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.titlesize": 9,
        "axes.titlelocation": "left",
        "axes.labelsize": 9,
        "grid.color": ink.line,
        "grid.linewidth": 0.6,
        "xtick.color": ink.line,
        "ytick.color": ink.line,
        "xtick.labelcolor": ink.muted,
        "ytick.labelcolor": ink.muted,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "xtick.minor.size": 0,
        "ytick.minor.size": 0,
        "figure.facecolor": "none" if ink is _MARKS else ink.paper,
        "savefig.facecolor": "auto",
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "lines.solid_capstyle": "round",
        "path.simplify_threshold": 0.3,
    }
    with _LOCK, matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        warnings.filterwarnings("ignore", message="constrained_layout not applied", category=UserWarning)
        yield


def _inline(text: str, name: str, alt: str) -> str:
    """What matplotlib saved, cut down to what a page needs."""
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.S)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r'(?:xlink:)?href="#([^"]*)"', rf'href="#{name}-\1"', text)
    text = re.sub(r"url\(#([^)]*)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    text = _MARK.sub(lambda m: f"var(--{ROLES[int(m[1], 16) - 1]})", text)
    text = re.sub(r"\n\s*", "\n", text)
    box = re.search(r'viewBox="([^"]+)"', text)
    assert box is not None  # matplotlib always writes one
    width = float(box[1].split()[2]) * POINT
    label = escape(alt, quote=True)
    head = f'<svg role="img" aria-label="{label}" viewBox="{box[1]}" style="--w:{width:.0f}px">'
    return head + text[text.index(">") + 1 :]
