"""Lanes that train in a child process: those of a network the user wrote; `guarded` trains through it.

A network that crashes, exits or hangs ends the child (`worker`) and not this process, which holds the ledger.
The child is started when it is first needed and anew after each end; orders and answers are lines of JSON.
What the network prints goes into a file, up to a limit and without secrets.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from lanewise import errors
from lanewise.fault_points import TRACE_VARIABLE, VARIABLE
from lanewise.ledger import Report
from lanewise.search.causes import LaneProcessError, without_secrets
from lanewise.search.records import LaneRequest

OUTPUT_BYTES = 64 * 1024  # of one child
_FILE_BYTES = 1024 * 1024  # of all children
EPOCHS = ("tick", "ramp", "folds", "refit")  # orders whose time is that of an epoch
_START_S = 600.0  # importing, and preparing the data
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from lanewise.search.worker import main; "
    "main(int(sys.argv[2]), int(sys.argv[3]))"
)


class ChildLanes:
    """A `guarded.Restartable` in a process of its own.

    Args:
        order: What `worker.Worker` reads: study, overrides, definition, data, lanes, checkpoints, every_s.
        output: The file for what the network prints.
        limit_s: Longest time for an epoch of all lanes.
    """

    def __init__(self, order: Mapping[str, Any], output: Path, limit_s: float) -> None:
        self._order, self._output, self._limit_s = dict(order), output, limit_s
        self._chunk: int | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._answers = -1
        self._numbers: set[int] = set()  # trials in the child's lanes
        self._buffer = b""
        self._awaited = "epoch"

    @property
    def active(self) -> int:
        """Number of occupied lanes."""
        return len(self._numbers)

    def free(self, request: LaneRequest) -> bool:
        """Whether there is an empty lane; every lane takes every shape."""
        return len(self._numbers) < int(self._order["lanes"])

    def saved(self, request: LaneRequest, at_most: int) -> int:
        """Epochs from which the trial can go on."""
        return int(self._ask("saved", request=vars(request), at_most=at_most))

    def add(self, request: LaneRequest, epoch: int = 0) -> None:
        """Put the trial into an empty lane."""
        self._ask("add", request=vars(request), epoch=epoch)
        self._numbers.add(request.number)

    def tick(self) -> Sequence[Report]:
        """One epoch of every lane.

        Raises:
            LaneProcessError: The child has ended, or took too long and was ended.
        """
        return [Report(**told) for told in self._ask("tick")]

    def smoke(self, hyper: Mapping[str, Any]) -> int:
        """Try one batch; number of the network's parameters.

        Raises:
            ModelError: The network does not fit the data.
            LaneProcessError: It ended the child, or blocked it.
        """
        return int(self._ask("smoke", hyper=dict(hyper)))

    def stage(self, name: str, **given: Any) -> Any:
        """Train a whole stage, as `whole_stages.WholeStages` does; what it answers.

        Raises:
            LaneProcessError: The network ended the child, or took too long for an epoch.
            LanewiseError: As the stage itself does.
        """
        return self._ask(name, **given)

    def drop(self, number: int) -> None:
        """Empty the trial's lane."""
        self._numbers.discard(number)
        if self._child is not None:
            self._ask("drop", number=number)

    def keep(self, *, at_rung: bool, stopping: bool) -> None:
        """Write down where the lanes stand, if it is time."""
        if self._child is not None:
            self._ask("keep", at_rung=at_rung, stopping=stopping)

    def put_aside(self, number: int) -> None:
        """Write down where a lane stands."""
        self._ask("put_aside", number=number)

    def forget(self, number: int) -> None:
        """The lane's state is not asked for again."""
        if self._child is not None:
            self._ask("forget", number=number)

    def restart(self, chunk: int | None) -> None:
        """End the child; the next order starts another."""
        self.close()
        self._chunk = chunk

    @property
    def notes(self) -> list[str]:
        """What a user should know about how lanes run."""
        if self._child is None:
            return []
        try:
            return list(self._ask("notes"))
        except LaneProcessError:
            return []

    def close(self) -> None:
        """End the child and all it has started."""
        child, self._child = self._child, None
        self._numbers.clear()
        if child is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        if child.stdin is not None:
            with suppress(OSError):
                child.stdin.close()
        os.close(self._answers)
        self._buffer = b""

    def _ask(self, act: str, **given: Any) -> Any:
        if self._child is None:
            self._start()
        self._awaited = "epoch" if act in EPOCHS else "answer"
        return self._answer({"do": act, "with": given}, self._limit_s)

    def _start(self) -> None:
        self._answers, theirs = os.pipe()
        environment = {n: v for n, v in os.environ.items() if n not in (VARIABLE, TRACE_VARIABLE)}
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, json.dumps(sys.path), str(theirs), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(theirs,),
            env=environment,
            start_new_session=True,  # Ctrl-C is ours to answer, and what the network starts ends with it
        )
        os.close(theirs)
        self._child = child
        assert child.stdout is not None  # a pipe was asked for
        threading.Thread(target=_drain, args=(child.stdout, self._output), daemon=True).start()
        self._answer({**self._order, "chunk": self._chunk}, max(_START_S, self._limit_s))

    def _answer(self, order: Mapping[str, Any], limit_s: float) -> Any:
        child = self._child
        assert child is not None and child.stdin is not None  # it was started
        try:
            child.stdin.write(json.dumps(order).encode() + b"\n")
            child.stdin.flush()
        except OSError:  # it has ended meanwhile
            raise self._ended(child) from None
        while "alive" in (answer := json.loads(self._line(child, limit_s))):
            pass  # an epoch has ended, another one has all the time again
        if "error" in answer:
            kind = getattr(errors, answer["error"], errors.LanewiseError)
            raise kind(answer["text"])
        return answer["ok"]

    def _line(self, child: subprocess.Popen[bytes], limit_s: float) -> bytes:
        until = time.monotonic() + limit_s
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                with suppress(ProcessLookupError):
                    child.send_signal(signal.SIGUSR1)  # it writes where it hangs into the file
                    time.sleep(0.2)
                self.close()
                raise LaneProcessError(
                    f"timeout: no {self._awaited} within {limit_s:g} s", worth_another=False
                )
            found = os.read(self._answers, 1 << 16)
            if not found:
                raise self._ended(child)
            self._buffer += found
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    def _ended(self, child: subprocess.Popen[bytes]) -> LaneProcessError:
        try:
            code = child.wait(5.0)
        except subprocess.TimeoutExpired:
            code = 0  # it lives, but speaks no more: as if it had ended
        self.close()
        if code >= 0:
            return LaneProcessError(
                f"exit: the network ended its process with code {code}", worth_another=False
            )
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        why = " (out of memory?)" if name == "SIGKILL" else ""
        return LaneProcessError(f"killed by {name}{why}", worth_another=True)


def _drain(printed: IO[bytes], path: Path) -> None:
    """Write what a child prints into a file until it is long enough, then throw the rest away."""
    left = OUTPUT_BYTES
    with printed, suppress(OSError):
        while line := printed.readline(8192):
            if left <= 0:
                continue
            text = without_secrets(line.decode("utf-8", "replace"))[: 2 * left]
            left -= len(line)
            if left <= 0:
                text += f"\n[what it prints beyond {OUTPUT_BYTES // 1024} KiB is thrown away]\n"
            with suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                if not path.exists() or path.stat().st_size < _FILE_BYTES:
                    with path.open("a", encoding="utf-8") as file:
                        file.write(text)
