"""Checkpoints of a search's lanes: written between ticks, read when a search that was cut off goes on.

Before it stands the trainer, whose lanes it keeps; after it `search.lanes`. One file holds every running lane;
it is written under a temporary name, forced to the disk and renamed, and the one before it is kept. A
checkpoint only saves time: what was reported is the ledger's, and a lane with none is trained from its start.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from lanewise.engine import LaneState
from lanewise.fault_points import fault

PRESENT, PREVIOUS = "lanes.ckpt", "lanes.previous.ckpt"
RUNG_S = 5.0  # a rung that stopped trials is worth a checkpoint, but no more often than this
SHARE = 0.01  # writing takes at most this share of the time: a large checkpoint comes less often

_INDEX = "index"
_DIGEST_BYTES = hashlib.sha256().digest_size
_log = logging.getLogger(__name__)

States = Mapping[str, LaneState]  # what a lane is, in one text -> where it stands


class Checkpoints:
    """The checkpoints of one search.

    Args:
        folder: Where they lie; made at the first one.
        every_s: At most so many seconds of training are lost; 0 keeps none.
    """

    def __init__(self, folder: Path, every_s: float) -> None:
        self._folder, self._every_s = folder, every_s
        self._written_at, self._cost_s = time.monotonic(), 0.0
        self._found: list[dict[str, LaneState]] | None = None
        self._warned = False

    def due(self, *, at_rung: bool = False) -> bool:
        """Whether it is time for the next one."""
        if self._every_s <= 0:
            return False
        wait = min(self._every_s, RUNG_S) if at_rung else self._every_s
        return time.monotonic() - self._written_at >= max(wait, self._cost_s / SHARE)

    def write(self, states: States) -> None:
        """Keep where lanes stand; a disk that refuses costs a warning, the one before stays."""
        begun = time.monotonic()
        content = encode(states)
        new = self._folder / f"{PRESENT}.new"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with new.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            fault("ckpt_before_rename")
            if (self._folder / PRESENT).exists():
                (self._folder / PRESENT).replace(self._folder / PREVIOUS)
            new.replace(self._folder / PRESENT)
        except OSError as error:
            new.unlink(missing_ok=True)
            if not self._warned:
                _log.warning("%s: no checkpoint (%s); training goes on", self._folder, error.strerror)
            self._warned = True
        self._written_at = time.monotonic()
        self._cost_s = self._written_at - begun

    def find(self, lane: str, at_most: int) -> LaneState | None:
        """The latest kept state of a lane that is not past an epoch, None where there is none."""
        if self._found is None:
            self._found = [self._read(self._folder / name) for name in (PRESENT, PREVIOUS)]
        kept = [states[lane] for states in self._found if lane in states]
        return max((s for s in kept if s.epoch <= at_most), key=lambda state: state.epoch, default=None)

    def forget(self) -> None:
        """Free what was read; nothing is resumed any more."""
        self._found = [{}]

    def remove(self) -> None:
        """Take the files away: the search is over."""
        for name in (PRESENT, PREVIOUS):
            (self._folder / name).unlink(missing_ok=True)

    def _read(self, path: Path) -> dict[str, LaneState]:
        try:
            return decode(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            _log.warning("%s is not used: %s", path, error)
            return {}


def encode(states: States) -> bytes:
    """Lane states as one safetensors file with its SHA-256 behind it.

    Lanes whose tensors have the same shapes are stacked, so a pool is a handful of tensors.
    """
    groups: dict[tuple[Any, ...], list[str]] = {}
    for lane, state in states.items():
        tensors = state.rows | state.buffers
        form = tuple((name, tuple(t.shape), str(t.dtype)) for name, t in sorted(tensors.items()))
        groups.setdefault(form, []).append(lane)
    index: list[dict[str, Any]] = []
    stacked: dict[str, torch.Tensor] = {}
    for number, lanes in enumerate(groups.values()):
        first = states[lanes[0]]
        for part in ("rows", "buffers"):
            for name in getattr(first, part):
                rows = [getattr(states[lane], part)[name] for lane in lanes]
                stacked[f"{number}/{part}/{name}"] = torch.stack(rows).cpu()
        index += [_entry(lane, states[lane], number, row) for row, lane in enumerate(lanes)]
    text = json.dumps(index, separators=(",", ":"), allow_nan=False).encode()
    stacked[_INDEX] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    content = safetensors.torch.save(stacked)
    return content + hashlib.sha256(content).digest()


def decode(content: bytes) -> dict[str, LaneState]:
    """The lane states of a file.

    Raises:
        ValueError: It is damaged.
    """
    body, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        raise ValueError("its SHA-256 is wrong")
    try:
        stacked = safetensors.torch.load(body)
        index = json.loads(bytes(stacked.pop(_INDEX).tolist()))
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"it is of another kind ({error})") from error
    found: dict[str, LaneState] = {}
    for entry in index:
        parts: dict[str, dict[str, torch.Tensor]] = {"rows": {}, "buffers": {}}
        for place, tensor in stacked.items():
            group, part, name = place.split("/", 2)
            if int(group) == entry["group"]:
                parts[part][name] = tensor[entry["row"]]
        plateau = entry["plateau"]
        found[entry["lane"]] = LaneState(
            entry["epoch"],
            entry["best_epoch"],
            tuple(float.fromhex(v) for v in entry["best_score"]),
            None if plateau is None else (*(float.fromhex(v) for v in plateau[:2]), plateau[2]),
            **parts,
        )
    return found


def _entry(lane: str, state: LaneState, group: int, row: int) -> dict[str, Any]:
    """Floats in hexadecimal: exact, and -inf too."""
    plateau = state.plateau
    return {
        "lane": lane, "group": group, "row": row, "epoch": state.epoch, "best_epoch": state.best_epoch,
        "best_score": [float(v).hex() for v in state.best_score],
        "plateau": None if plateau is None else [plateau[0].hex(), plateau[1].hex(), plateau[2]],
    }  # fmt: skip
