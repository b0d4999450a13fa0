"""A PostgreSQL of a test's own, from Debian's package: started, stopped and restarted for real."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from pathlib import Path


def binaries() -> Path | None:
    """Folder of its programs; None where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if found:
        return found[-1].parent
    path = shutil.which("pg_ctl")
    return Path(path).parent if path else None


class Postgres:
    """A server on a loopback port, with trust for its own user; it refuses to run as root.

    Args:
        folder: Empty; it becomes the server's.
        settings: More lines of postgresql.conf.
    """

    def __init__(self, folder: Path, settings: str = "") -> None:
        bin_ = binaries()
        assert bin_ is not None
        self._bin, self.data = bin_, folder / "data"
        self._user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"postgresql://{self._user}@127.0.0.1:{self.port}/postgres"
        folder.mkdir(parents=True, exist_ok=True)
        if os.getuid() == 0:
            shutil.chown(folder, "postgres")
        self._run("initdb", "-D", str(self.data), "-A", "trust", "--no-sync", "-U", self._user)
        config = self.data / "postgresql.conf"
        text = f"port = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n{settings}\n"
        config.write_text(config.read_text() + text)
        self.start()

    def start(self) -> None:
        self._run("pg_ctl", "-D", str(self.data), "-w", "-l", str(self.data / "log"), "start")

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "-D", str(self.data), "-w", "-m", mode, "stop")

    def _run(self, program: str, *args: str) -> None:
        before = ["runuser", "-u", self._user, "--"] if os.getuid() == 0 else []
        subprocess.run(
            [*before, str(self._bin / program), *args], check=True, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip
