"""Asked to end, once and twice, by a signal to its whole group and by Ctrl-C on a terminal (rows A11, A12, A13)."""

from __future__ import annotations

import os
import pty
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from lanewise.testing import toy_classification

ROOT = Path(__file__).parents[2]
STUDY = """\
data: {source: rows.csv, target: kind}
search: {trials: 4000, lanes: 2, pruner: none}
train: {epochs: 200, patience: 0}
lr_range: {enabled: false}
tracking: {checkpoint_seconds: 3600}
"""
LEDGER = ".lanewise/studies/tiny/rows-*/ledger.db"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    frame = toy_classification(120)
    frame.columns = [*frame.columns[:-1], "kind"]
    frame.to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "tiny.yaml").write_text(STUDY)
    return tmp_path


class Run:
    """`lanewise run` on a terminal of its own, as a person has it."""

    def __init__(self, folder: Path, home: Path, **environment: str) -> None:
        self.folder, self._seen = folder, b""
        self._terminal, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "run", "tiny.yaml"],
            cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            preexec_fn=_take_terminal,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(home), **environment},
        )  # fmt: skip
        os.close(theirs)

    def wait_for(self, text: str) -> None:
        while text not in self.screen():
            assert self.process.poll() is None, self._seen.decode()
            time.sleep(0.05)

    def screen(self) -> str:
        os.set_blocking(self._terminal, False)
        with suppress(BlockingIOError, OSError):  # nothing new; or nobody writes any more
            while part := os.read(self._terminal, 65536):
                self._seen += part
        return self._seen.decode("utf-8", "replace")

    def wait_for_ticks(self, more_than: int = 0) -> int:
        """Number of ticks in the ledger, once there are more."""
        while (found := ticks(self.folder)) <= more_than:
            assert self.process.poll() is None, self.screen()
            self.screen()
            time.sleep(0.05)
        return found

    def press_ctrl_c(self) -> None:
        os.write(self._terminal, b"\x03")

    def ends(self, within_s: float) -> tuple[int, str]:
        deadline = time.monotonic() + within_s
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.screen()
            self.screen()
            time.sleep(0.05)
        return self.process.returncode, self.screen()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._terminal)


def _take_terminal() -> None:
    """Make the standard input this session's terminal, so that Ctrl-C typed there is a signal here."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def start(folder: Path, prefect_home: Path) -> Iterator[object]:
    started: list[Run] = []

    def begin(**environment: str) -> Run:
        started.append(Run(folder, prefect_home, **environment))
        return started[-1]

    yield begin
    for run in started:
        run.close()


def states(database: Path, query: str) -> set[str]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        return {row[0] for row in db.execute(query)}


def ticks(folder: Path) -> int:
    """The last tick in the ledger; 0 when there is none."""
    found = list(folder.glob(LEDGER))
    if not found:
        return 0
    try:
        return max(map(int, states(found[0], "select tick from ticks")), default=0)
    except sqlite3.OperationalError:  # made a moment ago
        return 0


def nothing_runs(folder: Path, home: Path) -> None:
    """Neither MLflow nor Prefect shows as running what has stopped, although nothing was started since."""
    assert states(folder / "mlruns" / "mlflow.db", "select status from runs") == {"KILLED"}
    assert "RUNNING" not in states(home / "prefect.db", "select state_type from flow_run")
    assert list(folder.glob(".lanewise/studies/tiny/rows-*/checkpoints/*")), "kept where the lanes stood"


def test_a11_sigterm_to_the_whole_group(start, folder: Path, prefect_home: Path) -> None:
    """A11: Slurm, `docker stop`, Prefect: everyone in the group gets it, once."""
    run = start()
    run.wait_for_ticks()
    os.killpg(run.process.pid, signal.SIGTERM)
    code, said = run.ends(within_s=10)
    assert code == 143, said
    assert "stopping after this step" in said and "the same command continues" in said
    assert "Traceback" not in said
    nothing_runs(folder, prefect_home)


def test_a12_ctrl_c_once(start, folder: Path, prefect_home: Path) -> None:
    """A12: the step is finished, and what is kept is said."""
    run = start()
    run.wait_for_ticks()
    run.press_ctrl_c()
    code, said = run.ends(within_s=10)
    assert code == 130, said
    assert "Ctrl-C again stops at once" in said and "the same command continues" in said
    assert "Traceback" not in said
    nothing_runs(folder, prefect_home)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a12_twice_stops_at_once(start, number: int, code: int) -> None:
    """A11, A12: a step that does not end is waited for after the first, not after the second."""
    run = start(LANEWISE_FAULT="before_tell:2:HANG", LANEWISE_FAULT_TRACE="trace")
    while not (run.folder / "trace").exists() or "before_tell" not in (run.folder / "trace").read_text():
        assert run.process.poll() is None, run.screen()
        time.sleep(0.05)
    time.sleep(1.0)  # now it hangs
    run.process.send_signal(number)
    run.wait_for("stopping after this step")
    time.sleep(1.0)
    assert run.process.poll() is None, "it still waits for its step"
    run.process.send_signal(number)
    ended, said = run.ends(within_s=10)
    assert ended == code, said
    assert "the same command continues" in said and "Traceback" not in said


def test_a13_stopped_and_continued(start, folder: Path, lanewise) -> None:
    """A13: a process that was stopped holds its study; nothing is counted twice when it goes on."""
    run = start()
    run.wait_for_ticks()
    run.process.send_signal(signal.SIGSTOP)
    second = lanewise("run", "tiny.yaml")
    assert second.returncode == 75, second.stderr
    assert f"held by process {run.process.pid} on " in second.stderr
    before = ticks(folder)
    run.process.send_signal(signal.SIGCONT)
    run.wait_for_ticks(more_than=before)
    run.process.send_signal(signal.SIGTERM)
    code, said = run.ends(within_s=10)
    assert code == 143, said
    (ledger,) = folder.glob(LEDGER)
    assert len(states(ledger, "select tick from ticks")) == ticks(folder), "each step once, none left out"
