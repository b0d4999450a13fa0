"""Why a lane could not be trained, in words for its record; used by `guarded`. Decides nothing."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import torch

LONGEST = 300  # characters of a reason
_SECRET_NAME = re.compile(r"PASSW|SECRET|TOKEN|API_?KEY|CREDENTIAL|ACCESS_?KEY|AUTH_STRING", re.IGNORECASE)
_LOGIN = re.compile(r"(\w+://[^/\s:@]*):[^/\s@]+@")
_SHORTEST_SECRET = 4
_OUT_OF_MEMORY = ("DefaultCPUAllocator", "CUDA out of memory", "not enough memory")


class LaneProcessError(Exception):
    """The process that trained the lanes has ended, or had to be ended; the text says how."""

    def __init__(self, text: str, *, worth_another: bool) -> None:
        super().__init__(text)
        self.worth_another = worth_another


@dataclass(frozen=True)
class Cause:
    """Why a tick was cut off.

    Args:
        reason: One line, without secrets.
        worth_another: It may have been an accident (the kernel chose a process to kill), not the lane's doing.
    """

    reason: str
    worth_another: bool = False


def cause_of(error: BaseException) -> Cause:
    """What to say of an exception that came out of training."""
    line = without_secrets((str(error).strip().splitlines() or [""])[0])
    if isinstance(error, LaneProcessError):
        return Cause(line[:LONGEST], error.worth_another)
    if is_out_of_memory(error):
        return Cause(f"oom: {line}"[:LONGEST].rstrip(": "))
    if isinstance(error, SystemExit):
        return Cause(f"exit: the network called sys.exit({line})"[:LONGEST])
    return Cause(f"exception: {type(error).__name__}: {line}"[:LONGEST].rstrip(": "))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the host had no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)


def without_secrets(text: str) -> str:
    """A text without passwords in addresses and without what secret variables of the environment hold."""
    text = _LOGIN.sub(r"\1:***@", text)
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, "***")
    return text
