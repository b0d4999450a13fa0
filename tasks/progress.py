"""What a run says while it goes on, and whether it was asked to stop; said by tasks, heard by a terminal.

A listener is a function of one `Event`. With none, events go to the `lanewise` log, where Prefect's own
log of the flow run finds them. This module shows nothing itself.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lanewise.search.records import Progress

STAGES = ("prepare", "lr_range", "search", "evaluate", "register", "report")

log = logging.getLogger("lanewise.run")


@dataclass(frozen=True)
class Event:
    """One thing a run has to say.

    Args:
        stage: The stage it is about.
        kind: "started" (with a text: one of several runs, whose stages follow), "working" (a count), "searching"
            (with `progress`), "note" (worth a line of its own), "reused" or "done" (the stage's end, with its
            result in words).
        text: For people.
        done: Units of work done, for "working".
        total: Units of work in all, for "working"; trials in all, for "searching", 0 if not known.
        progress: Where the search stands, for "searching".
    """

    stage: str
    kind: Literal["started", "working", "searching", "note", "reused", "done"]
    text: str = ""
    done: int = 0
    total: int = 0
    progress: Progress | None = None


Listener = Callable[[Event], None]
_listeners: list[Listener] = []
_stop = threading.Event()
_anywhere: list[bool] = []  # not empty: inside `interruptible`


class Stopped(KeyboardInterrupt):
    """The run was asked to stop, did so between two steps, and can be continued.

    It is no Exception: whoever handles failures of a trial or a stage must let it pass.
    """


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Give every event to `listener` meanwhile."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def say(event: Event) -> None:
    """Tell all listeners; without one, the log, but for mere counts."""
    for listener in _listeners:
        listener(event)
    if not _listeners and event.kind not in ("working", "searching"):
        log.info("%s: %s", event.stage, event.text or event.kind)


def ask_to_stop() -> None:
    """Ask the run in this process to stop after the present step, or at once where nothing can be half done.

    For signal handlers, which run in the main thread, as the tasks do.

    Raises:
        Stopped: The present work may be left anywhere.
    """
    _stop.set()
    if _anywhere:
        raise Stopped("stopped in work that leaves nothing behind")


@contextmanager
def interruptible() -> Iterator[None]:
    """Work that writes nothing until its end: a stop may cut it off anywhere."""
    stop_here()
    _anywhere.append(True)
    try:
        yield
    finally:
        _anywhere.pop()


@contextmanager
def ended_gently() -> Iterator[None]:
    """SIGTERM once: stop after the present step, then end as if it had come only now. Twice: at once.

    Slurm, `docker stop` and a cancelled Prefect run send it and wait before they kill. Prefect's own answer,
    which comes after ours, is to leave the flow wherever it is; each of its flows sets a handler of its own,
    so this belongs into tasks.
    """
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return
    asked = False
    before = signal.getsignal(signal.SIGTERM)

    def once(_: int, __: FrameType | None) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGTERM, before)
        sys.stderr.write("\nasked to end: stopping after this step; once more stops at once\n")
        ask_to_stop()

    signal.signal(signal.SIGTERM, once)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if asked:
            os.kill(os.getpid(), signal.SIGTERM)


def stop_asked() -> bool:
    """Whether the run was asked to stop."""
    return _stop.is_set()


def forget_stop() -> None:
    """Begin a run that nobody has asked to stop."""
    _stop.clear()


def stop_here() -> None:
    """Stop if asked to; called between steps, where nothing is half done.

    Raises:
        Stopped: The run was asked to stop.
    """
    if _stop.is_set():
        raise Stopped("stopped between two steps")
