"""Tracking against real servers: MLflow's own, stopped and started again, and stubs that misbehave."""

from __future__ import annotations

import http.server
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lanewise.errors import TrackingError
from lanewise.tracking import (
    Tracker,
    alias_version,
    deliver,
    ensure_store,
    fetch,
    promote,
    quiet_environment,
    read_trial,
    register,
    server_command,
)

METRICS = ("train/loss", "valid/loss", "valid/accuracy")
START_S = 90


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Server:
    """A real MLflow server on its own SQLite database, which can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.store = ensure_store(f"sqlite:///{folder}/server.db")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = server_command(self.store, self.port)
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env=quiet_environment(),
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while True:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return
            except OSError:
                assert time.monotonic() < deadline, (self.folder / "server.log").read_text()[-2000:]
                assert self.process.poll() is None, (self.folder / "server.log").read_text()[-2000:]
                time.sleep(0.2)

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server"))
    made.start()
    yield made
    made.stop()


def train(tracker: Tracker, trials: range, epochs: int = 5) -> None:
    for number in trials:
        key = f"trial-{number:04d}"
        tracker.start_run(
            key,
            parent="pipeline",
            stage="search",
            params={"lr": 0.1 / (number + 1)},
            config={"lr": 0.1 / (number + 1)},
        )
        for epoch in range(1, epochs + 1):
            tracker.log(key, epoch, dict.fromkeys(METRICS, number + 1 / epoch))
        tracker.end(key, "complete", objective=float(number))


def check(uri: str, study: str, trials: range, epochs: int = 5) -> None:
    """Every point is there, once."""
    for number in trials:
        found = read_trial(f"trial-{number:04d}", uri=uri, study=study)
        curve = [(epoch, number + 1 / epoch) for epoch in range(1, epochs + 1)]
        assert found["metrics"] == dict.fromkeys(METRICS, curve) | {"objective": [(epochs, float(number))]}
        assert (found["status"], found["attempt"]) == ("FINISHED", 1)
        assert found["config"] == {"lr": 0.1 / (number + 1)}


def test_a_study_arrives(server: Server, tmp_path: Path) -> None:
    with Tracker("arrives", server.uri, tmp_path / "spool") as tracker:
        assert tracker.ready(60)
        tracker.start_run("pipeline", stage="pipeline", params={"study.epochs": 5}, tags={"number": 1})
        train(tracker, range(3))
        tracker.artifact("pipeline", "<p>report</p>", "report/index.html")
        tracker.note("pipeline", "Three trials.", ascending=True, best=["trial-0000"])
        tracker.end("pipeline", "complete")
        found = tracker.flush(60)
    assert (found.pending, found.unreachable, found.rejected) == (0, None, {})
    check(server.uri, "arrives", range(3))
    parent = read_trial(found.run_ids["pipeline"], uri=server.uri)
    assert parent["params"] == {"study.epochs": "5"} and parent["tags"]["number"] == "1"
    assert f"#/experiments/{found.experiment_id}/runs?" in parent["tags"]["mlflow.note.content"]
    child = read_trial(found.run_ids["trial-0000"], uri=server.uri)
    assert child["tags"]["mlflow.parentRunId"] == found.run_ids["pipeline"]
    assert [p.read_text() for p in server.folder.rglob("report/index.html")] == ["<p>report</p>"]


@pytest.mark.slow
def test_a_server_that_goes_away_in_mid_trial_and_comes_back_has_everything(
    server: Server, tmp_path: Path
) -> None:
    tracker = Tracker("stopped", server.uri, tmp_path / "spool")
    tracker.start_run("pipeline", stage="pipeline")
    train(tracker, range(2))
    config = {"lr": 0.1 / 3}
    tracker.start_run("trial-0002", parent="pipeline", stage="search", params=config, config=config)
    tracker.log("trial-0002", 1, dict.fromkeys(METRICS, 3.0))
    assert tracker.flush(60).pending == 0
    server.stop()
    try:
        started = time.monotonic()
        for epoch in range(2, 6):
            tracker.log("trial-0002", epoch, dict.fromkeys(METRICS, 2 + 1 / epoch))
        tracker.end("trial-0002", "complete", objective=2.0)
        train(tracker, range(3, 5))
        assert time.monotonic() - started < 0.5  # the training goes on
        away = tracker.flush(60)
        assert away.unreachable and away.pending > 0
    finally:
        server.start()
    tracker.end("pipeline", "complete")
    back = tracker.flush(60)
    assert (back.pending, back.unreachable) == (0, None)
    tracker.close(30)
    check(server.uri, "stopped", range(5))


def test_what_was_kept_while_the_server_was_away_is_delivered_by_sync(server: Server, tmp_path: Path) -> None:
    with Tracker("synced", f"http://127.0.0.1:{free_port()}", tmp_path / "spool") as tracker:
        tracker.start_run("pipeline", stage="pipeline")
        train(tracker, range(2))
        tracker.end("pipeline", "complete")
        assert tracker.close(30).unreachable
    for _ in range(2):  # the second time there is nothing left to do
        assert deliver(tmp_path / "spool", server.uri).pending == 0
        check(server.uri, "synced", range(2))


def test_a_killed_deliverer_makes_no_second_run(server: Server, tmp_path: Path) -> None:
    tracker = Tracker("twice", server.uri, tmp_path / "spool")
    tracker.start_run("pipeline", stage="pipeline")
    for number in range(3):
        train(tracker, range(number, number + 1))
        tracker.flush(0)
        time.sleep((1.2, 1.4, 1.6)[number])  # in the midst of its first requests
        assert tracker._child is not None
        tracker._child.kill()
        tracker._child.wait()
    tracker.end("pipeline", "complete")
    assert tracker.flush(60).pending == 0
    tracker.close(30)
    check(server.uri, "twice", range(3))
    found = read_trial("trial-0000", uri=server.uri, study="twice")
    spool = found["tags"]["lanewise.spool"]
    from lanewise.tracking.store import client

    mlflow = client(server.uri)
    experiment = mlflow.get_experiment_by_name("twice")
    assert experiment is not None
    runs = mlflow.search_runs([experiment.experiment_id], f"tags.`lanewise.spool` = '{spool}'")
    assert sorted(run.info.run_name for run in runs) == ["pipeline", "trial-0000", "trial-0001", "trial-0002"]


def test_a_model_is_registered_and_fetched(server: Server, tmp_path: Path) -> None:
    with Tracker("models", server.uri, tmp_path / "spool") as tracker:
        tracker.start_run("final", stage="register")
        run_id = tracker.flush(60).run_ids["final"]
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(b"weights")
    example = {"columns": [["size", "number"]], "rows": [[1.0]]}
    (folder / "example.json").write_text(
        '{"inputs": %s, "predictions": %s}' % ((str(example).replace("'", '"'),) * 2)
    )
    seen = []

    def verify(found: Path) -> None:
        seen.append((found / "weights.safetensors").read_bytes())

    for _ in range(2):
        version, address = register(folder, "toy", uri=server.uri, run_id=run_id, digest="abc", verify=verify)
        assert (version, address) == ("1", "models:/toy/1")
    assert seen == [b"weights"] * 2
    promote("toy", version, alias="champion", reason="first", expected_previous=None, uri=server.uri)
    assert alias_version("toy", "champion", server.uri) == "1"
    assert (fetch("models:/toy@champion", server.uri) / "weights.safetensors").read_bytes() == b"weights"
    with pytest.raises(TrackingError, match="another run has changed"):
        promote("toy", "2", alias="champion", reason="late", expected_previous=None, uri=server.uri)


# --- servers that misbehave -----------------------------------------------------------------------


@contextmanager
def stub(answer: Callable[[http.server.BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A server that answers every request in the same way."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        do_POST = do_GET

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_address[1]}"
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


def says(
    code: int, body: bytes, kind: str = "application/json"
) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.rfile.read(int(request.headers.get("Content-Length", 0)))
        request.send_response(code)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return answer


@pytest.mark.parametrize(
    ("code", "body"),
    [(429, b'{"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "slow down"}'), (500, b""),
     (502, b"<html>bad gateway"), (200, b"<html>a login page</html>"), (404, b"<html>nothing here")],
)  # fmt: skip
def test_answers_that_are_no_answers_are_waited_out(
    server: Server, tmp_path: Path, code: int, body: bytes
) -> None:
    name = f"stub-{code}"
    with stub(says(code, body)) as address, Tracker(name, address, tmp_path / "spool") as tracker:
        assert tracker.ready(30) is False
        tracker.start_run("pipeline", stage="pipeline")
        train(tracker, range(1))
        tracker.end("pipeline", "complete")
        found = tracker.flush(30)
        assert found.unreachable and found.delivered == 0
    assert deliver(tmp_path / "spool", server.uri).pending == 0
    check(server.uri, name, range(1))


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (401, b"You are not authenticated. Please see ..."),
        (403, b'{"error_code": "PERMISSION_DENIED", "message": "no"}'),
    ],
)
def test_a_refused_login_is_said_before_anything_trains(tmp_path: Path, code: int, body: bytes) -> None:
    address = "http://me:CANARY_9f3@"
    with (
        stub(says(code, body)) as found,
        Tracker("login", found.replace("http://", address), tmp_path / "spool") as tracker,
        pytest.raises(TrackingError, match="refused the login") as error,
    ):
        tracker.ready(30)
    assert error.value.exit_code == 5
    assert "CANARY_9f3" not in str(error.value)
    for file in (tmp_path / "spool").iterdir():
        assert file.is_dir() or b"CANARY_9f3" not in file.read_bytes(), file


def test_a_slow_server_does_not_slow_the_training(tmp_path: Path) -> None:
    def slow(request: http.server.BaseHTTPRequestHandler) -> None:
        time.sleep(5)
        says(200, b"{}")(request)

    with stub(slow) as address:
        tracker = Tracker("slow", address, tmp_path / "spool")
        started = time.monotonic()
        tracker.start_run("pipeline", stage="pipeline")
        train(tracker, range(50))
        assert time.monotonic() - started < 0.5
        tracker.close(1)


def test_a_proxy_that_is_in_the_way_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", "")
    with Tracker("proxy", "http://tracking.invalid", tmp_path / "spool") as tracker:
        assert tracker.ready(30) is False
        assert "by way of http_proxy" in str(tracker.flush(10).unreachable)
