"""What a run shows on Prefect's pages: Markdown, tables, pictures, a bar. Cosmetic, so it never ends a run.

Called by the stages beside their work. When Prefect is away, it is asked no more in this process: each
question would hold the work up for a minute.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from prefect import artifacts

BAR_EVERY_S = 5.0

_log = logging.getLogger("lanewise.run")
_away: list[str] = []


def show_markdown(key: str, text: str, description: str) -> None:
    """Show a page."""
    _shown(lambda: artifacts.create_markdown_artifact(text, key=key, description=description))


def show_table(key: str, rows: Sequence[Mapping[str, Any]], description: str) -> None:
    """Show a table."""
    table = [dict(row) for row in rows]
    _shown(lambda: artifacts.create_table_artifact(table, key=key, description=description))


def show_picture(key: str, png: bytes, description: str) -> None:
    """Show a picture, which travels inside the artifact."""
    address = "data:image/png;base64," + base64.b64encode(png).decode()
    _shown(lambda: artifacts.create_image_artifact(address, key=key, description=description))


class Bar:
    """A bar that shows how far some work is, redrawn every few seconds."""

    def __init__(self, key: str, description: str) -> None:
        self._key, self._description = key, description
        self._id: UUID | None = None
        self._drawn = time.monotonic()

    def show(self, share: float) -> None:
        """Show how much is done.

        Args:
            share: 0 to 1; at 1 it is drawn at once, if it was ever drawn.
        """
        due = time.monotonic() - self._drawn > BAR_EVERY_S
        if not due and not (share >= 1 and self._id is not None):
            return
        self._drawn = time.monotonic()
        percent = 100.0 * min(max(share, 0.0), 1.0)
        if self._id is None:
            made = _shown(
                lambda: artifacts.create_progress_artifact(
                    percent, key=self._key, description=self._description
                )
            )
            self._id = made if isinstance(made, UUID) else None
        else:
            bar = self._id
            _shown(lambda: artifacts.update_progress_artifact(bar, percent))


def _shown(show: Callable[[], Any]) -> Any:
    if _away:
        return None
    try:
        return show()
    except Exception as error:  # noqa: BLE001  # whatever the server or its client throws: nothing depends on it
        _away.append(type(error).__name__)
        _log.warning("Prefect does not take artifacts (%s); the run goes on without", type(error).__name__)
        return None
