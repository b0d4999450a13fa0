"""`lanewise ui`: both servers are there, for this machine and this address only, and end with Ctrl-C (S1, S2, S3)."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

FOREIGN = ["evil.example", "evil.example:{port}", "192.168.5.5", "192.168.5.5:{port}", "10.0.0.1:{port}", "127.0.0.1:1"]


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def ask(port: int, method: str, path: str, **headers: str) -> tuple[int, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): text for name, text in headers.items()})
        answer = connection.getresponse()
        return answer.status, {name.lower(): text for name, text in answer.getheaders()}
    finally:
        connection.close()


def listens(port: int) -> set[str]:
    """Local addresses of a port, as proc(5) writes them."""
    tables = [Path(f"/proc/net/{table}").read_text().splitlines()[1:] for table in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table]
    return {row[1] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"}


@pytest.fixture
def ui(start_lanewise: Callable[..., subprocess.Popen[str]]) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """The command with the ports of MLflow and of Prefect, both answering."""
    mlflow, prefect = free_ports(2)
    process = start_lanewise("ui", "--mlflow-port", str(mlflow), "--prefect-port", str(prefect))
    deadline = time.monotonic() + 120
    for port, path in ((mlflow, "/health"), (prefect, "/api/health")):
        while True:
            try:
                ask(port, "GET", path)
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, process.communicate()
                time.sleep(0.3)
    yield process, mlflow, prefect
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def test_pages_are_for_this_machine_only(ui: tuple[subprocess.Popen[str], int, int]) -> None:
    process, mlflow, prefect = ui
    paths = {mlflow: "/", prefect: "/"}
    for port, path in paths.items():
        assert listens(port) == {f"0100007F:{port:04X}"}
        for host in (f"127.0.0.1:{port}", f"localhost:{port}"):
            assert ask(port, "GET", path, Host=host)[0] == 200
        for host in FOREIGN:
            assert ask(port, "GET", path, Host=host.format(port=port))[0] == 403, (port, host)
    create = "/api/2.0/mlflow/experiments/create"
    assert ask(mlflow, "POST", create, Origin="http://evil.example", Content_Type="application/json")[0] == 403
    assert ask(prefect, "POST", "/api/flows/", Origin="http://evil.example")[0] in (401, 403)
    for port, path in ((mlflow, "/version"), (prefect, "/api/version")):
        _, headers = ask(port, "GET", path, Origin="http://evil.example")
        assert headers.get("access-control-allow-origin") not in ("*", "http://evil.example")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and f"http://127.0.0.1:{mlflow}" in out
    assert not listens(mlflow) and not listens(prefect)
