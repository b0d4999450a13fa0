"""What a person sees of a run, as text."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from flows.terminal import Lines, Rows, clock
from lanewise.search import Progress
from tasks.progress import Event, Stopped, ask_to_stop, forget_stop, interruptible, listening, say, stop_here

HALF = Progress(
    done=20, pruned=12, failed=1, duplicates=2, running=8, best_number=17, best_value=0.04123,
    epochs_spent=1204, epochs_full=2500, ticks=60, elapsed_s=12.0, eta_s=12.4,
)  # fmt: skip


def test_clock() -> None:
    assert [clock(s) for s in (0, 59.6, 61, 3723)] == ["0:00", "1:00", "1:01", "1:02:03"]


def test_lines_say_each_end_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    lines(Event("prepare", "started"))
    lines(Event("prepare", "reused", "300 rows"))
    lines(Event("search", "searching", total=50, progress=HALF))
    lines(Event("search", "searching", total=50, progress=HALF))  # too soon after the one before
    lines(Event("search", "done", "50 trials"))
    found = [line.partition(" ")[2] for line in capsys.readouterr().err.splitlines()]
    assert found == [
        "prepare: unchanged, reused: 300 rows",
        "search: 35 of 50 trials ended, 20 complete, 12 pruned, 1 failed, 2 repeated, 8 in lanes; "
        "best 0.04123 (trial 17); 1,204 epochs trained; without pruning all trials take 2,500; 0:12 left",
        "search: 50 trials",
    ]


def test_quiet_lines_are_notes_only(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(quiet=True)
    lines(Event("search", "searching", progress=HALF))
    lines(Event("search", "done", "50 trials"))
    lines(Event("search", "note", "beware"))
    assert [line.partition(" ")[2] for line in capsys.readouterr().err.splitlines()] == ["search: beware"]


def drawn(*events: Event) -> str:
    console = Console(file=io.StringIO(), width=110, force_terminal=False)
    rows = Rows("penguins", console)
    for event in events:
        rows(event)
    console.print(rows)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_rows_show_every_stage_and_where_the_search_is() -> None:
    text = drawn(
        Event("prepare", "started"),
        Event("prepare", "reused", "300 rows"),
        Event("lr_range", "started"),
        Event("lr_range", "done", "lr between 1e-4 and 1e-2"),
        Event("search", "started"),
        Event("search", "searching", progress=HALF),
    )
    for words in (
        "penguins", "✓  prepare", "unchanged, reused  300 rows", "lr between 1e-4 and 1e-2",
        "▶  search", "0:12 left", "35 trials ended", "best 0.04123 (trial 17)", "1,204 epochs trained", "·  report",
    ):  # fmt: skip
        assert words in text, text


def test_many_runs_begin_anew_and_repeat_no_note(capsys: pytest.CaptureFixture[str]) -> None:
    events = [
        event
        for n in (1, 2)
        for event in (
            Event("compare", "started", f"search {n} of 2"),
            Event("prepare", "started"),
            Event("prepare", "note", "pixel 0 is constant"),
            Event("prepare", "done", f"rows of {n}"),
        )
    ]
    text = drawn(*events, Event("search", "started"))
    assert text.count("pixel 0 is constant") == 1 and "penguins  search 2 of 2" in text
    assert "rows of 2" in text and "rows of 1" not in text
    lines = Lines()
    for event in events:
        lines(event)
    assert [line.partition(" ")[2] for line in capsys.readouterr().err.splitlines()] == [
        "compare: search 1 of 2", "prepare: pixel 0 is constant", "prepare: rows of 1",
        "compare: search 2 of 2", "prepare: rows of 2",
    ]  # fmt: skip


def test_rows_are_those_of_the_command() -> None:
    console = Console(file=io.StringIO(), width=110, force_terminal=False)
    console.print(Rows("penguins", console, ("prepare", "lr_range")))
    assert isinstance(console.file, io.StringIO)
    assert "lr_range" in console.file.getvalue() and "search" not in console.file.getvalue()


def test_listeners_hear_only_while_they_listen() -> None:
    heard: list[Event] = []
    with listening(heard.append):
        say(Event("search", "note", "one"))
    say(Event("search", "note", "two"))
    assert [event.text for event in heard] == ["one"]


def test_stop_between_steps_or_anywhere() -> None:
    forget_stop()
    try:
        stop_here()
        ask_to_stop()  # outside of interruptible work nothing happens yet
        with pytest.raises(Stopped):
            stop_here()
        forget_stop()
        with pytest.raises(Stopped), interruptible():
            ask_to_stop()
    finally:
        forget_stop()
