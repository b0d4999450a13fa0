"""A file of pretrained weights: which tensors it has and, where Lanewise wrote it, of which network they are.

Named by the study's `model: pretrained:`; after the study, before the network is matched with it
(pretrained.py). Reads safetensors only, which hold numbers and no code; it trains nothing and writes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError

from lanewise.errors import ModelError
from lanewise.study import Study, weights_kind

MAX_BYTES = 16 * 2**30
ORIGIN = "lanewise"  # key of the file's own metadata
_REMEDY = "write it with safetensors.torch.save_file(module.state_dict(), 'weights.safetensors')"


@dataclass(frozen=True)
class Origin:
    """Whose weights they are.

    Args:
        network: Name of the network, as a study says it.
        args: Its constant constructor arguments.
        config: The configuration it was trained with.
        classes: Names of its outputs in the order of their codes; empty for numbers.
    """

    network: str
    args: Mapping[str, Any]
    config: Mapping[str, Any]
    classes: tuple[str, ...]

    def to_text(self) -> str:
        """As it stands in the file."""
        return json.dumps({**vars(self), "classes": list(self.classes)}, sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> Origin:
        """Reads what `to_text` wrote.

        Raises:
            ValueError: It is no such text.
        """
        try:
            found = json.loads(text)
            return cls(
                str(found["network"]), dict(found["args"]), dict(found["config"]), tuple(map(str, found["classes"]))
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"no origin: {error}") from error


@dataclass(frozen=True)
class WeightsFile:
    """What a file holds, without the numbers.

    Args:
        path: Where it lies.
        shapes: Tensor -> its shape, in the order of the file.
        floating: Names of those that are floating-point numbers.
        origin: Whose they are; None for a file that does not say.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    floating: frozenset[str]
    origin: Origin | None

    @cached_property
    def sha256(self) -> str:
        """Of the whole file."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def tensors(self, names: Collection[str]) -> dict[str, torch.Tensor]:
        """Some tensors, on the CPU.

        Raises:
            ModelError: One holds a number that is not finite, or the file is not what it was.
        """
        try:
            with safetensors.safe_open(self.path, framework="pt") as file:
                found: dict[str, torch.Tensor] = {name: file.get_tensor(name) for name in names}
        except (OSError, SafetensorError) as error:
            raise _unreadable(self.path, str(error)) from error
        for name, tensor in found.items():
            if not bool(torch.isfinite(tensor).all()):
                raise ModelError(
                    "pretrained weights are not finite", where=f"{self.path}: {name}",
                    given=f"{int((~torch.isfinite(tensor)).sum())} of {tensor.numel()} numbers",
                    remedy="take the weights of an earlier epoch",
                )  # fmt: skip
        return found


def weights_path(study: Study) -> Path | None:
    """Where the study's pretrained weights lie; None where it has none.

    Those of a registered model or of a function lie in the home, where the study keeps what it began with.
    """
    text = study.model.pretrained
    if text is None or weights_kind(text) == "file":
        return study.base_dir / text if text else None
    name = f"{study.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.safetensors"
    return Path(study.tracking.home).absolute() / "pretrained" / name


def encode_weights(tensors: Mapping[str, torch.Tensor], origin: Origin | None) -> bytes:
    """A file of weights, to be written."""
    own = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    content: bytes = safetensors.torch.save(own, {ORIGIN: origin.to_text()} if origin else None)
    return content


def weights_digest(study: Study) -> str:
    """SHA-256 of the study's pretrained weights, "none" where it has none.

    Raises:
        ModelError: They cannot be read.
    """
    path = weights_path(study)
    return "none" if path is None else read_weights(path).sha256


def read_weights(path: Path) -> WeightsFile:
    """What a file holds.

    Raises:
        ModelError: It is not there, too large, or no safetensors file.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ModelError(
            "the file of pretrained weights cannot be read", where=path, given=error.strerror,
            rule="a path that is absolute, or starts at the study's folder", remedy="correct `model: pretrained:`",
        ) from error  # fmt: skip
    if not path.is_file() or size > MAX_BYTES:
        given = f"{size:,} bytes" if path.is_file() else "a folder"
        raise ModelError(
            "this is no file of pretrained weights", where=path, given=given,
            rule=f"one safetensors file of at most {MAX_BYTES:,} bytes", remedy=_REMEDY,
        )  # fmt: skip
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
            shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
            floating = frozenset(n for n, part in slices.items() if str(part.get_dtype()).startswith(("F", "BF")))
            said = (file.metadata() or {}).get(ORIGIN)
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, str(error)) from error
    try:
        origin = None if said is None else Origin.from_text(said)
    except ValueError as error:
        raise ModelError(
            "what the file says of its network cannot be read", where=path, given=error,
            rule=f"the metadata `{ORIGIN}` as Lanewise writes it", remedy="write the file without metadata",
        ) from error  # fmt: skip
    return WeightsFile(path, shapes, floating, origin)


def _unreadable(path: Path, said: str) -> ModelError:
    return ModelError(
        "this is no safetensors file, or a damaged one", where=path, given=said.splitlines()[0] if said else None,
        rule="weights are read as safetensors only: other formats can run code", remedy=_REMEDY,
    )  # fmt: skip
