"""A clock that jumps under a run, and a machine without a network (B18, S21)."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from after_a_crash import environment_of, lanewise, outcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# libfaketime shifts the monotonic sleeps of Python too, so the clock of day is shifted inside the interpreter.
CLOCK = """\
import os, time
_seconds, _nanoseconds = time.time, time.time_ns

def _shift():
    with open(os.environ["CLOCK"]) as file:
        return int(file.read())

time.time = lambda: _seconds() + _shift()
time.time_ns = lambda: _nanoseconds() + _shift() * 10**9
"""
HOUR, DAY = 3600, 86400


def test_b18_the_clock_jumps(tmp_path: Path, finished: Path, server: dict[str, str]) -> None:
    """An hour back in mid-search, then a kill, then a day forward: the trials of an undisturbed run, each told once."""
    folder, clock, site = tmp_path / "run", tmp_path / "clock", tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(CLOCK)
    clock.write_text("0")
    lanewise(folder, server, "check")
    path = os.pathsep.join([str(site), environment_of({})["PYTHONPATH"]])
    shifted = {"CLOCK": str(clock), "PYTHONPATH": path}
    run = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "run", "tiny.yaml"], cwd=folder, stderr=subprocess.PIPE, text=True,
        env=environment_of(server | shifted | {"LANEWISE_FAULT": "after_tell:4:STOP"}),
    )  # fmt: skip
    deadline = time.monotonic() + 100
    while Path(f"/proc/{run.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    clock.write_text(str(-HOUR))
    run.send_signal(signal.SIGCONT)
    time.sleep(1.0)
    run.kill()
    run.communicate()
    clock.write_text(str(DAY))
    done = lanewise(folder, server, "run", **shifted)
    assert done.returncode == 0, done.stderr
    assert outcome(folder, "tiny") == outcome(finished, "tiny")
    checked = lanewise(folder, server, "verify", **shifted)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.skipif(
    os.getuid() != 0 or not (shutil.which("strace") and shutil.which("ip")),
    reason="needs root, strace and iproute2, for a network namespace",
)
def test_s21_nothing_is_called_outside(tmp_path: Path, prefect_home: Path) -> None:
    """A whole run where only the loopback exists: it ends as ever, and has not tried to reach anything else."""
    lanewise(tmp_path / "run", {"PREFECT_HOME": str(prefect_home)}, "check")
    trace = tmp_path / "trace"
    command = (
        f"ip link set lo up && exec strace -f -qq --seccomp-bpf -e trace=connect,sendto,sendmsg -o {trace}"
        f" {sys.executable} -m flows.cli run tiny.yaml"
    )
    environment = {k: v for k, v in os.environ.items() if "PROXY" not in k.upper()}
    for name in ("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "PREFECT_SERVER_ANALYTICS_ENABLED"):
        environment.pop(name, None)  # it is Lanewise that sets them
    path = environment_of({})["PYTHONPATH"]
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", command], cwd=tmp_path / "run", capture_output=True, text=True, timeout=250,
        env=environment | {"PYTHONPATH": path, "PREFECT_HOME": str(prefect_home)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    called = set(re.findall(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"', trace.read_text()))
    addresses = {v4 or v6 for v4, v6 in called}
    assert "127.0.0.1" in addresses and addresses <= {"127.0.0.1", "::1", "0.0.0.0", "::"}, addresses
