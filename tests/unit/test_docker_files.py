"""What the container files promise: loopback ports, pinned images, no root, no secret in sight."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_service_is_closed(name: str) -> None:
    service = SERVICES[name]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[a-z]+:\d+\.\d+(\.\d+)?(-[a-z]+)?", service["image"]), "pinned by version"
    assert not service.get("privileged")


def test_secrets_come_from_files_only() -> None:
    assert all(set(secret) == {"file"} for secret in COMPOSE["secrets"].values())
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            assert key.endswith("_FILE") or not re.search(r"(?i)password|secret|key|auth_string", key), key
            assert "@" not in str(value)
    ignored = (ROOT / ".gitignore").read_text().split()
    assert "/docker/secrets/" in ignored


def test_services_get_only_the_secrets_they_read() -> None:
    """What the entry point reads for a command is what compose hands to its service."""
    cases = re.split(r"^(\S+)\)$", (DOCKER / "entrypoint.sh").read_text(), flags=re.M)
    read = {
        command: set(re.findall(r"\$\(secret (\w+)\)", body))
        for command, body in zip(cases[1::2], cases[2::2], strict=True)
    }
    for service in SERVICES.values():
        if "command" in service:
            assert set(service["secrets"]) == read[service["command"][0]]


def test_image_is_pinned_and_not_root() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    stages = re.split(r"^FROM ", text, flags=re.M)[1:]
    for stage in stages:
        name = re.search(r" AS (\w+)", stage)
        assert name is not None
        if name[1] in ("cpu", "cuda"):
            assert re.search(r"^USER 10001:10001$", stage, re.M)
            assert "COPY lanewise" not in stage, "the wheel is installed, no source tree"
    assert re.search(r"^ARG PYTHON_VERSION=\d+\.\d+\.\d+$", text, re.M)
    assert ":latest" not in text


def test_lock_pins_everything_that_is_declared() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements.lock").read_text().splitlines()
    pinned = {
        line.split("==")[0].lower().replace("_", "-").replace(".", "-") for line in lock if "==" in line
    }
    assert all("==" in line for line in lock if line and not line.startswith("#"))
    declared = project["dependencies"] + [
        one for extra in project["optional-dependencies"].values() for one in extra
    ]
    names = {re.split(r"[\s<>=!~\[;]", one)[0].lower().replace("_", "-") for one in declared}
    assert names <= pinned
    assert "torch==2.13.0" in lock, "without a local label, so that both CPU and CUDA wheels fit"
