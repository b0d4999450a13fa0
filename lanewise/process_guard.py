"""Keeps what user code does to this process inside a `with`; used wherever such code runs.

It knows no network, and undoes only what it lists.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch


@contextmanager
def unchanged_process() -> Iterator[None]:
    """Undo what the code inside does to seeds, torch's defaults, working directory and environment."""
    numpy = sys.modules.get("numpy")
    environment, folder = dict(os.environ), _working_directory()
    seeds = random.getstate(), torch.get_rng_state(), numpy.random.get_state() if numpy else None
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    cuda = torch.cuda.get_rng_state_all() if started else None
    switches = _switches()
    try:
        yield
    finally:
        for (read, write), value in zip(_SWITCHES, switches, strict=True):
            if read() != value:
                write(value)
        random.setstate(seeds[0])
        torch.set_rng_state(seeds[1])
        if numpy:
            numpy.random.set_state(seeds[2])
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        if folder is not None and _working_directory() != folder:
            os.chdir(folder)
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        for name, text in environment.items():
            if os.environ.get(name) != text:
                os.environ[name] = text


def _working_directory() -> str | None:
    try:
        return str(Path.cwd())
    except FileNotFoundError:  # someone removed it under us; nothing to return to
        return None


def _write_default_device(device: torch.device) -> None:
    # None takes torch's device mode off again; a device, even the CPU, would leave a slow one on.
    torch.set_default_device(None if device.type == "cpu" else device)


def _write_cudnn_benchmark(value: bool) -> None:
    torch.backends.cudnn.benchmark = value


_SWITCHES: tuple[tuple[Any, Any], ...] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_default_device, _write_default_device),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (lambda: torch.backends.cudnn.benchmark, _write_cudnn_benchmark),
)


def _switches() -> list[Any]:
    return [read() for read, _ in _SWITCHES]
