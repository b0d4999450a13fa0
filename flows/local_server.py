"""A Prefect server for one run, started before anything else and stopped after it; for who has none.

The command line starts it and goes on importing torch while it boots; `tune` then finds its address in the
settings. It keeps its history under one home, so the next run and `lanewise ui` show it. Prefect's own
temporary server is slower (it rewrites task history row by row, which SQLite answers with waits of two
seconds), can lose that history when it is stopped, and lets any web page on the machine write to it.

It must not import prefect before the server process runs: that import is a third of a run's fixed time.

    parent: bind, listen --> start child --> import torch ... --> first request waits in the backlog
    child:  import prefect server --> lock, migrate --> accept --> serve until the parent closes its pipe
"""

from __future__ import annotations

import base64
import fcntl
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lanewise.errors import StudyError, TrackingError

START_TIMEOUT_S = 180.0  # a first start creates the database: 8 s on an idle machine, minutes on a busy one
STOP_TIMEOUT_S = 30.0
RESTARTS = 3

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}

# The recorder writes each task-run event in a transaction of its own by default, and the API's requests
# then meet a locked database and come back after 2, 4, 8 ... seconds. In batches they never meet.
_BATCHED = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "1000",
}


def quiet_environment() -> None:
    """No telemetry and no unpickling, here and in child processes; a user's own choice stays."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def reach_loopback_directly() -> None:
    """Keep a proxy that is set for the outside world from being asked for 127.0.0.1."""
    for name in ("NO_PROXY", "no_proxy"):
        known = [host for host in os.environ.get(name, "").split(",") if host]
        os.environ[name] = ",".join(dict.fromkeys([*known, "127.0.0.1", "localhost"]))


def configured_url() -> str | None:
    """The Prefect server the user chose: PREFECT_API_URL, or that of the active profile; None without one."""
    if "PREFECT_API_URL" in os.environ:
        return os.environ["PREFECT_API_URL"] or None
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    path = Path(os.environ.get("PREFECT_PROFILES_PATH", home / "profiles.toml"))
    try:
        profiles: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return None
    name = os.environ.get("PREFECT_PROFILE", profiles.get("active"))
    profile = profiles.get("profiles", {}).get(name, {})
    url = profile.get("PREFECT_API_URL")
    return str(url) if url else None


class LocalServer:
    """A Prefect server as a child process on a loopback port of its own.

    Returns from the constructor at once; `connected` waits until it serves.

    Args:
        home: Its folder: database, log. PREFECT_HOME, where set, is used instead, so that several
            projects may share one history.
        port: 0 for a free one.
        ui: Serve Prefect's pages, run its scheduler, and ask for no password that a browser would not know.
    """

    def __init__(self, home: Path, *, port: int = 0, ui: bool = False) -> None:
        self.home = Path(os.environ.get("PREFECT_HOME") or home).expanduser().absolute()
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.log = self.home / "server.log"
        self.auth = f"lanewise:{secrets.token_urlsafe(24)}"
        self._ui, self._ready, self._stopping = ui, False, False
        self._guard = threading.Lock()
        # Ours for as long as the run: while a server that died is replaced, connections wait here.
        self._listener = _listen(port)
        self.port = int(self._listener.getsockname()[1])
        self._process = self._spawn()
        threading.Thread(target=self._replace_the_dead, daemon=True).start()

    def _spawn(self) -> subprocess.Popen[bytes]:
        fd = self._listener.fileno()
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", __file__, str(fd), "ui" if self._ui else "run"],
                pass_fds=[fd],
                stdin=subprocess.PIPE,  # never written to: its end tells the child that we are gone
                stdout=log,
                stderr=log,
                env=self._environment(self._ui),
                start_new_session=True,  # Ctrl-C is ours to handle; it outlives the run
            )

    def _replace_the_dead(self) -> None:
        """Start the server again when it was killed; one that never served is not tried twice."""
        for left in range(RESTARTS, -1, -1):
            self._process.wait()
            with self._guard:
                if self._stopping:
                    return
                if not left or not self._ready:
                    self._listener.close()  # whoever waits for an answer is told now
                    return
                self._process = self._spawn()

    @property
    def url(self) -> str:
        """Address of the API."""
        return f"http://127.0.0.1:{self.port}/api"

    def client_environment(self) -> dict[str, str]:
        """What a Prefect client in this process needs to reach the server."""
        return {
            "PREFECT_HOME": str(self.home),
            "PREFECT_API_URL": self.url,
            "PREFECT_API_AUTH_STRING": self.auth,
        }

    def wait(self) -> None:
        """Return as soon as the server answers.

        Raises:
            TrackingError: It ended, or did not answer in time.
        """
        reach_loopback_directly()
        request = urllib.request.Request(f"{self.url}/health")  # noqa: S310  # our own loopback address
        request.add_header("Authorization", "Basic " + base64.b64encode(self.auth.encode()).decode())
        try:
            # Our own listening socket took the connection already: this waits, it does not poll.
            with urllib.request.urlopen(request, timeout=START_TIMEOUT_S) as answer:  # noqa: S310
                answer.read()
            self._ready = True
        except (OSError, urllib.error.URLError) as error:
            self.stop()
            raise TrackingError(
                f"the local Prefect server did not start: {error}", where=self.log,
                given=_tail(self.log), rule="a server on a loopback port with its database in its home",
                remedy="see the log; or start one with `prefect server start` and set PREFECT_API_URL",
            ) from error  # fmt: skip

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Stop it by its process id; it writes what it still holds before it ends."""
        with self._guard:
            self._stopping = True
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self.alive():
            self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.close()

    def _environment(self, ui: bool) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"}
        address = f"http://127.0.0.1:{self.port}"
        return (
            kept
            | QUIET
            | _BATCHED
            | {
                "PREFECT_HOME": str(self.home),
                "PREFECT_SERVER_API_PORT": str(self.port),
                "PREFECT_SERVER_API_AUTH_STRING": self.auth,
                "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
                "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": address,
                "PREFECT_UI_API_URL": f"{address}/api",
                "PREFECT_SERVER_UI_ENABLED": str(ui).lower(),
                "PREFECT_LOGGING_LEVEL": "WARNING",
            }
        )


@contextmanager
def connected(server: LocalServer | None) -> Iterator[None]:
    """Run flows against `server`, or where it is None against the one the user configured.

    Prefect's heartbeat holds every synchronous flow for a second at its end; a run watched from its own
    terminal needs none.

    Raises:
        TrackingError: No server answers.
        StudyError: The user's server is of another version of Prefect.
    """
    if server is not None:
        os.environ |= server.client_environment()  # before prefect is imported, where it is not yet
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    import prefect.settings as settings

    updates: dict[Any, Any] = {settings.PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    if server is None:
        _check_version(str(settings.PREFECT_API_URL.value()))
    else:
        server.wait()
        updates |= {
            settings.PREFECT_HOME: server.home,
            settings.PREFECT_API_URL: server.url,
            settings.PREFECT_API_AUTH_STRING: server.auth,
        }
    with settings.temporary_settings(updates):
        try:
            yield
        finally:
            if server is not None:
                _drain()


def _drain() -> None:
    """Hand every event to the server before it is stopped: task runs are recorded from events."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    EventsWorker.drain_all(timeout=STOP_TIMEOUT_S)
    APILogWorker.drain_all(timeout=STOP_TIMEOUT_S)


def _check_version(url: str) -> None:
    """Refuse a server that is away, or whose interface differs from this client's."""
    import httpx
    import prefect
    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            answer = client.request("GET", "/admin/version")
            answer.raise_for_status()
            theirs = str(answer.json())
    except httpx.HTTPError as error:
        refused = isinstance(error, httpx.HTTPStatusError) and error.response.status_code in (401, 403)
        raise TrackingError(
            "the Prefect server refused the login" if refused else "the Prefect server does not answer",
            where="PREFECT_API_URL", given=str(error)[:200],
            remedy="set PREFECT_API_AUTH_STRING" if refused else "start it, or unset PREFECT_API_URL",
        ) from error  # fmt: skip
    if theirs.split(".")[:2] != prefect.__version__.split(".")[:2]:
        raise StudyError(
            "the Prefect server is of another version",
            where=url,
            given=f"server {theirs}, client {prefect.__version__}",
            rule="equal major and minor version",
            remedy="install the server's version here, or upgrade the server",
        )


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise TrackingError(
            f"port {port} is taken",
            where=f"127.0.0.1:{port}",
            given=str(error),
            remedy="choose another with --port",
        ) from error
    listener.listen(128)
    return listener


def _tail(path: Path, size: int = 2000) -> str:
    try:
        text = path.read_bytes()[-size:].decode("utf-8", "replace")
    except OSError:
        return "no log"
    return text.strip() or "an empty log"


# ---- the child ----


def _follow_parent(pipe: IO[bytes]) -> None:
    """End this process as if asked to when the parent is gone, however it went."""

    def watch() -> None:
        pipe.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


class HostCheck:
    """Answers only requests that name this server by its own loopback address.

    A page on another site may resolve its own name to 127.0.0.1 (DNS rebinding); the Host header then gives
    it away. Prefect itself does not look.
    """

    def __init__(self, app: Any, hosts: frozenset[bytes]) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] == "lifespan" or dict(scope["headers"]).get(b"host") in self._hosts:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await send(
                {"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]}
            )
            await send({"type": "http.response.body", "body": b"unknown host\n"})


def hardened_app() -> Any:
    """Prefect's server behind the host check, for `uvicorn --factory`; LANEWISE_HOSTS has its names."""
    from prefect.server.api.server import create_app

    names = [name.strip() for name in os.environ["LANEWISE_HOSTS"].split(",")]
    return HostCheck(create_app(final=True), frozenset(name.encode() for name in names))


def _serve(fd: int, ui: bool) -> None:
    _follow_parent(sys.stdin.buffer)
    os.umask(0o077)  # the database and the log are for their owner
    listener = socket.socket(fileno=fd)
    port = listener.getsockname()[1]
    import uvicorn
    from prefect.server.api.server import create_app

    home = Path(os.environ["PREFECT_HOME"])
    lock = (home / "server.lock").open("w")

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            # One at a time through the migrations: several at once leave a broken database behind.
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                await super().startup(sockets)
            finally:
                fcntl.flock(lock, fcntl.LOCK_UN)

    app = create_app(ephemeral=not ui, final=True)
    hosts = frozenset(f"{name}:{port}".encode() for name in ("127.0.0.1", "localhost"))
    config = uvicorn.Config(
        HostCheck(app, hosts),
        log_level="warning",
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=5,
    )
    started = time.monotonic()
    Server(config).run(sockets=[listener])
    print(f"stopped after {time.monotonic() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), ui=sys.argv[2] == "ui")
