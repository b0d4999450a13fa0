"""What a person sees of a run: live rows of the stages in a terminal, plain lines elsewhere.

Listens to the events of tasks/progress.py, between the run and the last words of the command line. It
computes nothing a record does not hold.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tasks.progress import STAGES, Event

if TYPE_CHECKING:
    from lanewise.search.records import Progress

LINE_EVERY_S = 10.0  # between two lines about a search in a log
FRAMES_PER_S = 4

_MARKS = {"waiting": ("·", "dim"), "started": ("▶", "cyan"), "done": ("✓", "green"), "reused": ("✓", "blue")}


def plain_number(value: float) -> str:
    """Four significant digits."""
    return f"{value:.4g}"


def clock(seconds: float) -> str:
    """1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def counts(p: Progress, total: int) -> str:
    """Trials of a search in words.

    Args:
        p: Where it stands.
        total: Trials in all; 0 where another budget ends the search.
    """
    ended = p.done + p.pruned + p.failed + p.duplicates
    parts = [f"{ended} of {total} trials ended" if total else f"{ended} trials ended"]
    words = ((p.done, "complete"), (p.pruned, "pruned"), (p.failed, "failed"), (p.duplicates, "repeated"))
    parts += [f"{number} {word}" for number, word in words if number]
    return ", ".join([*parts, f"{p.running} in lanes"])


def spent(p: Progress) -> str:
    """Epochs of a search against those of one without pruning."""
    return f"{p.epochs_spent:,} epochs trained; without pruning all trials take {p.epochs_full:,}"


def best(p: Progress) -> str:
    """The best trial so far."""
    if p.best_number is None or p.best_value is None:
        return "no score yet"
    return f"best {plain_number(p.best_value)} (trial {p.best_number})"


class Lines:
    """One line for each event, with the time; for logs and pipes.

    Args:
        quiet: Notes only.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._searched = -LINE_EVERY_S
        self._noted: list[Event] = []

    def __call__(self, event: Event) -> None:
        """Write the event, if it is worth a line."""
        if event.kind == "searching" and event.progress is not None:
            now = time.monotonic()
            if self._quiet or now - self._searched < LINE_EVERY_S:
                return
            self._searched = now
            p = event.progress
            left = f"; {clock(p.eta_s)} left" if p.eta_s is not None else ""
            self._write(event.stage, f"{counts(p, event.total)}; {best(p)}; {spent(p)}{left}")
        elif event.kind == "note":
            if event not in self._noted:  # many searches of one study would say the same of its data
                self._noted.append(event)
                self._write(event.stage, event.text)
        elif not self._quiet and (event.kind in ("reused", "done") or (event.kind == "started" and event.text)):
            self._write(
                event.stage, f"unchanged, reused: {event.text}" if event.kind == "reused" else event.text
            )

    @staticmethod
    def _write(stage: str, text: str) -> None:
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {stage}: {text}\n")
        sys.stderr.flush()


class Rows:
    """The stages as rows that change in place, for terminals.

    Args:
        title: Above them.
        console: Where they are drawn.
        stages: Those that the command runs.
    """

    def __init__(self, title: str, console: Console, stages: Sequence[str] = STAGES) -> None:
        self._title, self._console, self._stages = title, console, stages
        self._noted: list[Event] = []
        self._begin("")

    def _begin(self, text: str) -> None:
        self._above = text
        self._state = dict.fromkeys(self._stages, "waiting")
        self._text = dict.fromkeys(self._stages, "")
        self._begun: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        self._work: Event | None = None

    def __call__(self, event: Event) -> None:
        """Take the event in; `Live` draws at its own pace."""
        stage = event.stage
        if event.kind == "note":
            if event not in self._noted:
                self._noted.append(event)
                self._console.print(Text(f"{stage}: {event.text}"), highlight=False)
        elif event.kind == "started" and stage not in STAGES:
            self._begin(event.text)  # one of several runs
        elif event.kind in ("working", "searching"):
            self._work = event
        elif stage in self._state:
            self._state[stage], self._text[stage] = event.kind, event.text
            if event.kind == "started":
                self._begun[stage], self._work = time.monotonic(), None
            else:
                self._seconds[stage] = time.monotonic() - self._begun.get(stage, time.monotonic())
                self._work = None

    def __rich__(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1)
        table.add_column(justify="right", no_wrap=True)
        for stage, state in self._state.items():
            mark, style = _MARKS[state]
            text: RenderableType = Text(self._text[stage])
            if state == "started" and self._work is not None and self._work.stage == stage:
                text = _search_rows(self._work) if self._work.progress else _work_row(self._work)
            elif state == "reused":
                text = Text.assemble(("unchanged, reused  ", "blue"), self._text[stage])
            running = (
                time.monotonic() - self._begun[stage] if state == "started" else self._seconds.get(stage)
            )
            table.add_row(
                Text(mark, style=style),
                Text(stage, style="dim" if state == "waiting" else "bold"),
                text,
                Text("" if running is None or state == "reused" else f"{running:.1f} s", style="dim"),
            )
        return Group(Text.assemble((self._title, "bold"), f"  {self._above}" if self._above else ""), table)


def _work_row(event: Event) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_row(ProgressBar(total=max(event.total, 1), completed=event.done, width=30), Text(event.text))
    return grid


def _search_rows(event: Event) -> RenderableType:
    p = event.progress
    assert p is not None  # a "searching" event
    grid = Table.grid(padding=(0, 2))
    left = f"{clock(p.eta_s)} left" if p.eta_s is not None else ""
    grid.add_row(
        ProgressBar(total=max(p.elapsed_s + (p.eta_s or 0.0), 1e-9), completed=p.elapsed_s, width=30),
        Text(left),
    )
    return Group(grid, Text(counts(p, event.total)), Text(best(p), style="bold"), Text(spent(p), style="dim"))


@contextmanager
def shown(title: str, stages: Sequence[str] = STAGES, *, quiet: bool = False) -> Iterator[None]:
    """Show the run's events meanwhile: rows in a terminal, lines elsewhere, notes only when quiet.

    Args:
        title: Of the rows.
        stages: Those that the command runs.
        quiet: Only notes.
    """
    from tasks.progress import listening

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        with listening(Lines(quiet=quiet)):
            yield
        return
    rows = Rows(title, console, stages)
    with Live(rows, console=console, refresh_per_second=FRAMES_PER_S), listening(rows):
        yield
