"""The local server: hardened, on loopback only, gone with its parent, any number of them at once."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from flows.local_server import LocalServer, configured_url, connected
from lanewise.errors import StudyError, TrackingError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(prefect_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    import shutil

    home = Path(shutil.copytree(prefect_template, tmp_path_factory.mktemp("server") / "home"))
    made = LocalServer(home)
    made.wait()
    yield made
    made.stop()


def ask(server: LocalServer, method: str, path: str, **headers: str) -> tuple[int, dict[str, str]]:
    import base64

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    if headers.pop("login", "yes") == "yes":
        headers["Authorization"] = "Basic " + base64.b64encode(server.auth.encode()).decode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body=b"{}" if method == "POST" else None, headers=names)
    answer = connection.getresponse()
    answer.read()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}"])
def test_answers_to_its_own_name(server: LocalServer, host: str) -> None:
    assert ask(server, "GET", "/api/version", Host=host.format(port=server.port))[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "192.168.5.5:{port}", "127.0.0.1:1"]
)
def test_refuses_other_names(server: LocalServer, host: str) -> None:
    assert ask(server, "GET", "/api/version", Host=host.format(port=server.port))[0] == 403


def test_wants_a_login(server: LocalServer) -> None:
    assert ask(server, "GET", "/api/admin/settings")[0] == 200
    assert ask(server, "GET", "/api/admin/settings", login="no")[0] == 401
    assert (
        ask(server, "GET", "/api/admin/settings", login="no", Authorization="Basic bGFuZXdpc2U6eA==")[0]
        == 401
    )


def test_web_pages_cannot_write(server: LocalServer) -> None:
    """CSRF: a write without the token is refused; CORS: no page elsewhere may read answers."""
    assert ask(server, "POST", "/api/flows/", Content_Type="application/json")[0] == 403
    _, headers = ask(server, "GET", "/api/version", Origin="http://evil.example")
    assert headers.get("access-control-allow-origin") not in ("*", "http://evil.example")


def test_listens_on_loopback_only(server: LocalServer) -> None:
    port = f"{server.port:04X}"
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    addresses = {row[1] for row in rows if row[1].endswith(f":{port}") and row[3] == "0A"}
    assert addresses == {f"0100007F:{port}"}


def test_two_first_starts_at_once(tmp_path: Path) -> None:
    """Migrations of an empty database by two processes at once break it; here one waits for the other."""
    home = tmp_path / "new"
    servers = [LocalServer(home), LocalServer(home)]
    try:
        for each in servers:
            each.wait()
    finally:
        for each in servers:
            each.stop()
    assert (home / "prefect.db").stat().st_mode & 0o077 == 0


def test_ends_with_its_parent(prefect_home: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from flows.local_server import LocalServer\n"
        "s = LocalServer(Path(sys.argv[1])); s.wait()\n"
        "print(s._process.pid, flush=True); input()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(prefect_home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()


def test_says_why_it_did_not_start(tmp_path: Path) -> None:
    (tmp_path / "prefect.db").write_text("this is no database " * 100)
    broken = LocalServer(tmp_path)
    with pytest.raises(TrackingError, match="file is not a database"):
        broken.wait()
    assert not broken.alive()


def test_taken_port(server: LocalServer, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=f"port {server.port} is taken"):
        LocalServer(tmp_path, port=server.port)


def test_user_server_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    assert configured_url() is None
    (tmp_path / "profiles.toml").write_text(
        'active = "work"\n[profiles.work]\nPREFECT_API_URL = "http://there/api"\n'
    )
    assert configured_url() == "http://there/api"
    monkeypatch.setenv("PREFECT_PROFILE", "other")
    assert configured_url() is None
    monkeypatch.setenv("PREFECT_API_URL", "http://here/api")
    assert configured_url() == "http://here/api"


@pytest.mark.parametrize(("version", "error"), [("2.20.0", StudyError), ("", TrackingError)])
def test_other_version_is_refused(
    version: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reply(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if version else 401)
            self.end_headers()
            self.wfile.write(f'"{version}"'.encode())

        do_POST = do_GET

        def log_message(self, *args: object) -> None:
            pass

    from prefect.settings import PREFECT_API_URL, temporary_settings

    fake = HTTPServer(("127.0.0.1", 0), Reply)
    threading.Thread(target=fake.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{fake.server_port}/api"
        with temporary_settings({PREFECT_API_URL: url}), pytest.raises(error), connected(None):
            pass
    finally:
        fake.shutdown()
        fake.server_close()
