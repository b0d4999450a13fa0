"""Writes a document as one HTML page that needs nothing but itself: no script, no font, no address is loaded.

Fed by `document.py`. Every text is escaped by the template; only our own style sheet and the pictures' SVG,
which `canvas.py` has escaped, pass as they are. A content security policy in the page
forbids whatever should slip through.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from lanewise.report import canvas
from lanewise.report.document import Document

if TYPE_CHECKING:
    from jinja2 import Template

HERE = Path(__file__).parent


def to_html(document: Document) -> str:
    """The document as a page."""
    head, _, rest = document.sentence.partition(": ")
    style = f"{canvas.css()}\n{(HERE / 'style.css').read_text(encoding='utf-8')}"
    return _template().render(document=document, head=head, rest=rest, style=style)


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html")
