"""Who holds a study: host, process, when it started and on which boot; used by whoever takes or reads a lock.

The lock itself is the kernel's (flock), which it takes back from a process however that ends. What is written
into the lock file is for people and for those who may not take the lock to look: a process id alone could be
another process's by now, together with its start and the boot it cannot.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from lanewise.errors import StudyHeldError

PROC = Path("/proc")


@dataclass(frozen=True)
class Owner:
    """A process.

    Args:
        host: Name of its machine.
        pid: Its id there.
        started: When it started, in clock ticks since boot; 0 where the system does not say.
        boot: Id of the boot; empty where the system does not say.
        since: When it took the lock, ISO 8601.
    """

    host: str
    pid: int
    started: int
    boot: str
    since: str

    def alive(self, proc: Path = PROC) -> bool | None:
        """Whether it still runs; None where that cannot be seen from here, on another machine."""
        if self.host != socket.gethostname():
            return None
        return (self.boot, self.started) == (boot_id(proc), start_of(self.pid, proc)) and self.started > 0

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


def myself() -> Owner:
    """This process, from now on."""
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    return Owner(socket.gethostname(), os.getpid(), start_of(os.getpid()), boot_id(), now)


def start_of(pid: int, proc: Path = PROC) -> int:
    """Clock ticks from boot to the start of a process; 0 when there is none (proc_pid_stat(5), field 22)."""
    try:
        text = (proc / str(pid) / "stat").read_text(encoding="utf-8")
    except OSError:
        return 0
    state, *fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return 0 if state in "ZX" else int(fields[18])


def boot_id(proc: Path = PROC) -> str:
    """Id of this boot; empty where there is none."""
    try:
        return (proc / "sys" / "kernel" / "random" / "boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def owner_in(path: Path) -> Owner | None:
    """Who wrote into a lock file last; None when nobody did. It may have ended: ask `alive`."""
    try:
        return Owner(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def held_error(where: object, holder: object | None) -> StudyHeldError:
    """The error for a study that another process holds; `holder` is who it is, as far as one knows."""
    return StudyHeldError(
        "another run holds this study", where=where, given=f"held by {holder or 'another process'}",
        rule="one run of a study at a time", remedy="wait until it ends, or stop it; what is done is kept",
    )  # fmt: skip


def hold(path: Path) -> IO[str]:
    """Take a study's lock and write down who has it; closing the file gives it back.

    Raises:
        StudyHeldError: Another process has it.
        OSError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise held_error(path, owner_in(path)) from None
    except OSError:
        file.close()
        raise
    file.truncate(0)
    file.write(json.dumps(asdict(myself())))
    file.flush()
    return file
