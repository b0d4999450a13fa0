"""Every secret that a run may be given, searched for in all that the run leaves and shows (S12, S18)."""

from __future__ import annotations

import re
import secrets
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from after_a_crash import STUDY, environment_of, lanewise
from postgres import Postgres

from flows.local_server import LocalServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NETWORK = """\
import os
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, n_features, n_outputs, width=8):
        super().__init__()
        self.layer, self.width = nn.Linear(n_features, n_outputs), width

    def forward(self, x):
        if self.training and self.width == 9:
            raise ValueError("cannot log in: password=" + os.environ["LEDGER_PASSWORD"])
        if self.training and self.width == 10:
            print("token: " + os.environ["LEDGER_PASSWORD"])
        return self.layer(x)
"""


class Shown:
    """What commands show: to who started them, and to everyone on the machine.

    Args:
        folder: Where they run.
        environment: More variables.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder, self._environment = folder, environment
        self.printed, self.command_lines = "", set[str]()

    def run(self, *args: str, **environment: str) -> int:
        """Run one to its end; its exit code."""
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *args], cwd=self._folder, text=True,
            env=environment_of(self._environment | environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        while process.poll() is None:
            self.command_lines |= command_lines()
            time.sleep(0.2)
        self.printed += process.communicate()[0]
        return process.returncode


def test_s12_no_secret_is_written_or_shown(tmp_path: Path, postgres: Postgres, prefect_home: Path) -> None:
    """A password of the ledger, of MLflow and of Prefect: in no file, no database, no output, no command line."""
    word, login = f"CANARY{secrets.token_hex(8)}", f"CANARY{secrets.token_hex(8)}"
    with psycopg.connect(postgres.url, autocommit=True) as db:
        db.execute(f"CREATE ROLE tuner LOGIN SUPERUSER PASSWORD '{word}'")
    server = LocalServer(prefect_home)
    server.wait()
    key = server.auth.split(":")[1]
    folder = tmp_path / "run"
    try:
        environment = server.client_environment() | {"PREFECT_HOME": str(prefect_home / "client")}
        environment |= {"LEDGER_PASSWORD": word, "MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": login}
        place = f"postgresql://tuner:${{LEDGER_PASSWORD}}@127.0.0.1:{postgres.port}/postgres"
        network = f'model: {{name: "net:Net"}}\nspace: {{width: [8, 9, 10]}}\ntracking: {{ledger: "{place}", '
        lanewise(folder, environment, "check", study=STUDY.replace("tracking: {", network))
        (folder / "net.py").write_text(NETWORK)
        shown = Shown(folder, environment)
        assert shown.run("run", "tiny.yaml", LANEWISE_FAULT="after_tell:3:KILL") == -signal.SIGKILL, shown.printed
        for command in ("status", "run", "verify", "export-optuna"):
            assert shown.run(command, "tiny.yaml") == 0, shown.printed
        assert shown.run("replay", "tiny/trial-0000") == 0, shown.printed
        stranger = place.replace("tuner", "stranger")
        assert shown.run("search", "tiny.yaml", "--set", "name=other", "--set", f"tracking.ledger={stranger}") == 5
        assert "refuses the login" in shown.printed, shown.printed
    finally:
        server.stop()
    assert "Traceback" not in shown.printed
    for secret in (word, login, key):
        assert secret not in shown.printed
        assert not [line for line in shown.command_lines if secret in line]
    assert not files_with([word, login, key], tmp_path)
    with psycopg.connect(postgres.url) as db:
        stored = str(db.execute("SELECT * FROM lanewise.trials").fetchall())
    assert len(stored) > 1000 and word not in stored


def command_lines() -> set[str]:
    """Of every process that runs now, but for this test's."""
    lines = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.add(path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
        except OSError:  # it has ended
            continue
    return lines


def files_with(words: list[str], folder: Path) -> list[str]:
    """Files that hold one of the words."""
    pattern = re.compile("|".join(map(re.escape, words)).encode())
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 50
    return [str(path) for path in files if pattern.search(path.read_bytes())]


def test_s18_what_is_private(finished: Path, server: dict[str, str]) -> None:
    """Databases are for their owner; a home that everyone may write is refused before anything is read from it."""
    files = [path for path in finished.rglob("*") if path.is_file()]
    databases = [path for path in files if path.read_bytes()[:16] == b"SQLite format 3\0"]
    assert {"ledger.db", "ledger.db.good", "mlflow.db"} <= {path.name for path in databases}
    assert not [path for path in databases if stat.S_IMODE(path.stat().st_mode) & 0o077]
    home = finished / ".lanewise"
    before = home.stat().st_mode
    home.chmod(0o777)
    try:
        refused = lanewise(finished, server, "run")
    finally:
        home.chmod(before)
    assert refused.returncode == 2 and "chmod o-w" in refused.stderr and "Traceback" not in refused.stderr
    assert lanewise(finished, server, "run").returncode == 0
