"""What was trained, on disk until it is no longer needed: running lanes of a search, finished ones of a stage.

Before it stands the engine, whose lanes it keeps; after it the trainer and `search.lanes`. A file is written
under a temporary name, forced to the disk and renamed; its SHA-256 stands behind it. What is kept here only
saves time: what was reported is the ledger's, and a lane with nothing kept is trained from its start.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from lanewise.engine import Lane, LaneResult, LaneState
from lanewise.fault_points import fault

PRESENT, PREVIOUS = "lanes.ckpt", "lanes.previous.ckpt"
RUNG_S = 5.0  # a rung that stopped trials is worth a checkpoint, but no more often than this
SHARE = 0.015  # of the time, at most, goes into writing: a large checkpoint comes less often

_INDEX = "index"
_ASIDE = "aside-{}.ckpt"
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
        self._writer: threading.Thread | None = None

    def due(self, *, at_rung: bool = False, stopping: bool = False) -> bool:
        """Whether it is time for the next one; always before the search is stopped."""
        if self._every_s <= 0:
            return False
        if stopping:
            return True
        if self._writer is not None and self._writer.is_alive():
            return False
        wait = min(self._every_s, RUNG_S) if at_rung else self._every_s
        return time.monotonic() - self._written_at >= max(wait, self._cost_s / SHARE)

    def write(self, states: States) -> None:
        """Keep where lanes stand; a disk that refuses costs a warning, the one before stays.

        The training waits while the states are copied. They are hashed, written and forced to the disk beside it.
        """
        self.finish()
        begun = time.monotonic()
        stacked, index = _stacked(states)
        self._written_at = time.monotonic()
        self._cost_s = self._written_at - begun
        self._writer = threading.Thread(target=self._put, args=(stacked, index), name="checkpoint")
        self._writer.start()

    def finish(self) -> None:
        """Wait until what was given to `write` is on the disk."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None

    def _put(self, stacked: Mapping[str, torch.Tensor], index: Sequence[Mapping[str, Any]]) -> None:
        try:
            _write(self._folder / PRESENT, pack(stacked, index), self._folder / PREVIOUS)
        except OSError as error:
            if not self._warned:
                _log.warning("%s: no checkpoint (%s); training goes on", self._folder, error.strerror)
            self._warned = True
        self._cost_s += time.thread_time()  # on one core the training waits for this, too

    def find(self, lane: str, at_most: int) -> LaneState | None:
        """The latest kept state of a lane that is not past an epoch, None where there is none."""
        if self._found is None:
            self.finish()
            asides = sorted(path.name for path in self._folder.glob(_ASIDE.format("*")))
            self._found = [_states(self._folder / name) for name in (PRESENT, PREVIOUS, *asides)]
        kept = [states[lane] for states in self._found if lane in states]
        return max((s for s in kept if s.epoch <= at_most), key=lambda state: state.epoch, default=None)

    def put_aside(self, lane: str, state: LaneState) -> None:
        """Keep where one lane stands, whatever is kept of the others; a disk that refuses costs a warning."""
        try:
            _write(self._aside(lane), encode({lane: state}))
        except OSError as error:
            _log.warning("%s: a lane is not kept (%s)", self._folder, error.strerror)
        self.reread()

    def forget_aside(self, lane: str) -> None:
        """Take away what `put_aside` kept."""
        self._aside(lane).unlink(missing_ok=True)

    def _aside(self, lane: str) -> Path:
        return self._folder / _ASIDE.format(hashlib.sha256(lane.encode()).hexdigest()[:16])

    def reread(self) -> None:
        """Look at the files again when the next lane is sought."""
        self._found = None

    def forget(self) -> None:
        """Free what was read; nothing is resumed any more."""
        self._found = [{}]

    def remove(self) -> None:
        """Take the files away: the search is over."""
        self.finish()
        for path in (self._folder / PRESENT, self._folder / PREVIOUS, *self._folder.glob(_ASIDE.format("*"))):
            path.unlink(missing_ok=True)


class FinishedLanes:
    """Trainings of a stage that have ended, so that a stage that was cut off trains only the others.

    Args:
        folder: Where they lie, a file for each tick in which lanes ended.
        context: All that their results depend on beside the lane itself: data and code, in one text.
    """

    def __init__(self, folder: Path, context: str) -> None:
        self._folder, self._context = folder, context
        self._found: dict[str, LaneResult | None] = {}
        for path in sorted(folder.glob("*.lanes")):
            tensors, index = _read(path) or ({}, [])
            for number, entry in enumerate(index):
                self._found[entry["lane"]] = _result(entry, number, tensors)

    def find(self, lane: Lane, rows: str) -> tuple[LaneResult | None] | None:
        """What became of a lane, its result or None for one that failed; no tuple: it was not kept."""
        text = self._identity(lane, rows)
        if text not in self._found:
            return None
        kept = self._found[text]
        return (None if kept is None else replace(kept, key=lane.key),)

    def keep(self, ended: Sequence[tuple[Lane, str, LaneResult | None]]) -> None:
        """Keep lanes that ended in one tick: (lane, hash of its split's rows, result or None where it failed)."""
        index: list[dict[str, Any]] = []
        tensors: dict[str, torch.Tensor] = {}
        for number, (lane, rows, result) in enumerate(ended):
            entry: dict[str, Any] = {"lane": self._identity(lane, rows), "failed": result is None}
            if result is not None:
                entry |= {"best_epoch": result.best_epoch, "epochs": result.epochs}
                tensors[f"{number}/outputs"] = result.outputs.contiguous()
                tensors |= {f"{number}/weights/{n}": w.contiguous() for n, w in result.weights.items()}
            index.append(entry)
        name = hashlib.sha256(json.dumps(index).encode()).hexdigest()[:16]
        try:
            _write(self._folder / f"{name}.lanes", pack(tensors, index))
        except OSError as error:
            _log.warning("%s: finished trainings are not kept (%s)", self._folder, error.strerror)
        fault("between_folds")

    def remove(self) -> None:
        """Take the files away: the stage's result is there."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _identity(self, lane: Lane, rows: str) -> str:
        """All but the key, the module (made from configuration and seed) and the split's place in a list."""
        told = {n: v for n, v in vars(lane).items() if n not in ("key", "module", "split")}
        return json.dumps([self._context, rows, told], sort_keys=True)


def _result(entry: Mapping[str, Any], number: int, tensors: Mapping[str, torch.Tensor]) -> LaneResult | None:
    if entry["failed"]:
        return None
    start = f"{number}/weights/"
    weights = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
    return LaneResult("", weights, entry["best_epoch"], entry["epochs"], tensors[f"{number}/outputs"])


def encode(states: States) -> bytes:
    """Lane states as one file."""
    return pack(*_stacked(states))


def _stacked(states: States) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """A copy of lane states; lanes whose tensors have the same shapes are stacked into a handful of tensors."""
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
    return stacked, index


def decode(content: bytes) -> dict[str, LaneState]:
    """The lane states of a file.

    Raises:
        ValueError: It is damaged.
    """
    return _decoded(*unpack(content))


def _decoded(stacked: Mapping[str, torch.Tensor], index: Sequence[Mapping[str, Any]]) -> dict[str, LaneState]:
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


def pack(tensors: Mapping[str, torch.Tensor], index: Sequence[Mapping[str, Any]]) -> bytes:
    """Tensors and what is said of them as one safetensors file, with its SHA-256 behind it."""
    text = json.dumps(index, separators=(",", ":"), allow_nan=False).encode()
    content = safetensors.torch.save(
        {**tensors, _INDEX: torch.frombuffer(bytearray(text), dtype=torch.uint8)}
    )
    return content + hashlib.sha256(content).digest()


def unpack(content: bytes) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """What `pack` made a file of.

    Raises:
        ValueError: It is damaged.
    """
    body, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        raise ValueError("its SHA-256 is wrong")
    try:
        tensors = safetensors.torch.load(body)
        return tensors, json.loads(bytes(tensors.pop(_INDEX).tolist()))
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"it is of another kind ({error})") from error


def _write(path: Path, content: bytes, previous: Path | None = None) -> None:
    """Put a file in place whole or not at all; the one it replaces becomes `previous`."""
    new = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fault("ckpt_before_rename")
        if previous is not None and path.exists():
            path.replace(previous)
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def _read(path: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]] | None:
    try:
        return unpack(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _log.warning("%s is not used: %s", path, error)
        return None


def _states(path: Path) -> dict[str, LaneState]:
    found = _read(path)
    return {} if found is None else _decoded(*found)
