"""The pages of MLflow and Prefect on loopback ports, for `lanewise ui`: what runs left behind."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from flows.local_server import LocalServer
from lanewise.errors import TrackingError
from lanewise.study import Tracking
from lanewise.tracking import ensure_store, quiet_environment, server_command

LOOK_EVERY_S = 0.5


def show_pages(mlflow_port: int, prefect_port: int, uri: str | None, *, say: Callable[[str], None]) -> None:
    """Serve both until Ctrl-C.

    Args:
        mlflow_port: Of MLflow.
        prefect_port: Of Prefect.
        uri: What MLflow shows; by default the study file's default.
        say: Takes lines for the terminal.

    Raises:
        TrackingError: A port is taken, or a server ended by itself.
    """
    defaults = Tracking()
    home = Path(defaults.home).absolute()
    home.mkdir(parents=True, exist_ok=True, mode=0o755)
    store = uri or str(defaults.uri)
    prefect = LocalServer(home / "prefect", port=prefect_port, ui=True)
    log_path = home / "mlflow-server.log"
    mlflow: subprocess.Popen[bytes] | None = None
    try:
        if store.startswith(("http://", "https://")):
            say(f"MLflow   {store}")
        else:
            ensure_store(store)
            hosts = f"127.0.0.1:{mlflow_port},localhost:{mlflow_port}"
            command = [*server_command(store, mlflow_port), "--allowed-hosts", hosts]
            with log_path.open("ab") as log:
                mlflow = subprocess.Popen(command, stdout=log, stderr=log, env=quiet_environment())
            say(f"MLflow   http://127.0.0.1:{mlflow_port}")
        prefect.wait()
        say(f"Prefect  http://127.0.0.1:{prefect_port}   password: {prefect.auth}")
        say("on this machine only; Ctrl-C ends both")
        while prefect.alive() and (mlflow is None or mlflow.poll() is None):
            time.sleep(LOOK_EVERY_S)
        which, log_file = ("Prefect", prefect.log) if not prefect.alive() else ("MLflow", log_path)
        raise TrackingError(f"the server of {which} ended by itself", where=log_file, remedy="see the log")
    except KeyboardInterrupt:
        say("")
    finally:
        prefect.stop()
        if mlflow is not None:
            mlflow.terminate()
            mlflow.wait()
