"""Named points at which a test may let this process die, stop or meet a full disk; one-line calls in the code.

Off unless the environment variable LANEWISE_FAULT is set: then `LANEWISE_FAULT=before_tell:3:KILL` sends this
process SIGKILL when it reaches the point for the third time. LANEWISE_FAULT_TRACE names a file to which each
point is appended when it is first reached, so that a test can say that none of them is dead code.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

from lanewise.errors import StudyError

VARIABLE, TRACE_VARIABLE = "LANEWISE_FAULT", "LANEWISE_FAULT_TRACE"

POINTS = {
    "mid_epoch": "between the epochs of two chunks of lanes, nothing of this tick written yet",
    "before_tell": "a tick is trained, not in the ledger yet",
    "after_tell": "a tick is in the ledger, not yet told to MLflow",
    "ckpt_before_rename": "a checkpoint is written under its temporary name",
    "between_folds": "one fold's training has ended and is kept",
    "mid_refit": "the winner is refitted, the seal not opened yet",
    "before_upload": "the model is on this disk, not in MLflow yet",
    "mid_upload": "some of the model's files are in MLflow",
    "after_upload": "the model's files are in MLflow, verified, no version yet",
    "after_version": "the version is made, no alias yet",
    "before_alias": "the gate has decided, the alias lock is held, the alias not moved yet",
    "after_alias": "the alias is moved, the version's record not kept yet",
    "mid_report": "the report is written under its temporary name",
    "in_sweep": "runs of a dead process are found, not closed yet",
    "holding_lock": "the study's lock was taken a moment ago",
}
ACTIONS = ("KILL", "TERM", "INT", "STOP", "HANG", "ENOSPC")

_reached: dict[str, int] = {}
_order: tuple[str, int, str] | None = None
_trace: Path | None = None


def fault(point: str) -> None:
    """Do here what LANEWISE_FAULT asks for; nothing without it.

    Raises:
        OSError: ENOSPC was asked for.
    """
    if _order is None and _trace is None:
        return
    count = _reached[point] = _reached.get(point, 0) + 1
    if _trace is not None and count == 1:
        with _trace.open("a", encoding="utf-8") as file:
            file.write(f"{point}\n")
    if _order is None or _order[:2] != (point, count):
        return
    action = _order[2]
    if action == "ENOSPC":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if action == "HANG":
        time.sleep(1e9)
    os.kill(os.getpid(), getattr(signal, f"SIG{action}"))


def arm(text: str | None, trace: str | None = None) -> None:
    """Read the order, `POINT:COUNT:ACTION`, as it stands in the environment.

    Raises:
        StudyError: There is no such point or action.
    """
    global _order, _trace
    _reached.clear()
    _order, _trace = None, Path(trace) if trace else None
    if not text:
        return
    point, _, rest = text.partition(":")
    count, _, action = rest.partition(":")
    if point not in POINTS or action not in ACTIONS or not count.isdigit() or count == "0":
        raise StudyError(
            "this fault cannot be made", where=VARIABLE, given=text,
            rule=f"POINT:COUNT:ACTION; a point of {', '.join(POINTS)}; an action of {', '.join(ACTIONS)}",
            remedy="unset it, but in a test",
        )  # fmt: skip
    _order = (point, int(count), action)


arm(os.environ.get(VARIABLE), os.environ.get(TRACE_VARIABLE))
