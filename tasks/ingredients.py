"""What decides a trial's bits beside its configuration, as the tags by which every run is recorded.

Written by tasks/job.py when a run begins, compared by tasks/replay.py when it is trained again. The names
stand in lanewise/replay.py. It decides nothing and trains nothing.
"""

from __future__ import annotations

import inspect
import json
import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from lanewise.pretrained_file import weights_digest
from lanewise.replay import INGREDIENTS, NO_FUNCTIONS
from tasks.stages import code_version, digest, file_digest

if TYPE_CHECKING:
    from lanewise.data import Dataset
    from lanewise.model import Network
    from lanewise.study import Study

LIBRARIES = ("numpy", "pandas", "pyarrow", "scikit-learn", "scipy")  # beside torch, which knows its build


def ingredients(study: Study, network: Network, dataset: Dataset) -> dict[str, str]:
    """Tag -> text of everything that decides the bits of a trial, beside its configuration and seed."""
    from lanewise.trainer import choose_device

    found = {
        "data": dataset.fingerprint,
        "split": dataset.split_fingerprint,
        "code": code_version(),
        "network": network_digest(network),
        "functions": functions_digest(study, dataset),
        "pretrained": weights_digest(study),
        "libraries": json.dumps(libraries() | _decoder(dataset), sort_keys=True),
        "threads": str(study.train.threads),
        "device": device_text(choose_device(study)),
    }
    return {tag: found[name] for name, tag in INGREDIENTS.items()}


def _decoder(dataset: Dataset) -> dict[str, str]:
    """What made pixels of image files."""
    return {"pillow": version("pillow")} if dataset.layout.kind == "image" else {}


def network_digest(network: Network) -> str:
    """Hash of the file the network's class stands in; what that file imports is not in it."""
    try:
        path = inspect.getsourcefile(network.factory)
        return file_digest(Path(path))[:16] if path else "no source"
    except (OSError, TypeError):
        return "no source"


def functions_digest(study: Study, dataset: Dataset) -> str:
    """Hash of the files that the study's own losses and metric stand in; what those import is not in it."""
    from lanewise.training_checks import own_losses
    from lanewise.user_code import load_object

    named = sorted({*own_losses(study), *([dataset.metric] if ":" in dataset.metric else [])})
    if not named:
        return NO_FUNCTIONS
    found = []
    for name in named:
        load_object(name, search_path=[study.base_dir])
        file = getattr(sys.modules[name.partition(":")[0]], "__file__", None)
        found.append(f"{name} {file_digest(Path(file)) if file else 'no source'}")
    return digest(found)[:16]


@cache
def libraries() -> dict[str, str]:
    """Versions of what computes, with torch's build (CPU or CUDA) and Python's."""
    import torch

    found = {"python": platform.python_version(), "torch": str(torch.__version__)}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


@cache
def device_text(device: str) -> str:
    """The device by name; of a processor also the vector instructions torch uses on it."""
    import torch

    if device == "cuda":
        return f"cuda, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "cuda, absent"
    return f"cpu, {_processor()}, {torch.backends.cpu.get_cpu_capability()}"


def _processor() -> str:
    """Its name: MKL chooses its ways by the maker, too."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
