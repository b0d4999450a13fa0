"""The child process in which lanes of a user's network train; `child` starts it and speaks with it, nobody else.

It prepares the data anew from the study file, takes one order a line and answers with one line of JSON. The
parent keeps ledger and tracking: whatever a network does in here, it can end no more than this process.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import IO, Any

from lanewise.checkpoints import Checkpoints
from lanewise.data import prepare
from lanewise.errors import DataError, LanewiseError, StudyError
from lanewise.prediction_time import prediction_ms
from lanewise.pretrained import study_network
from lanewise.process_guard import unchanged_process
from lanewise.search.guarded import GuardedLanes
from lanewise.search.lanes import SearchLanes, identity
from lanewise.search.records import LaneRequest
from lanewise.search.whole_stages import WholeStages
from lanewise.smoke import smoke
from lanewise.study import load_study
from lanewise.trainer import Trainer

_PR_SET_PDEATHSIG = 1


def main(answers: int, parent: int) -> None:
    """Answer orders until the parent has no more.

    Args:
        answers: Descriptor to write answers to.
        parent: Process id of the parent, with which this process ends.
    """
    _end_with(parent)
    os.set_inheritable(answers, False)
    # The network's own input and output are not the ones we speak through.
    orders = os.fdopen(os.dup(0), encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)  # the parent asks where a network hangs
    worker: Worker | None = None
    with os.fdopen(answers, "w", encoding="utf-8") as out:
        for line in orders:
            order = json.loads(line)
            answer: dict[str, Any]
            try:
                if worker is None:
                    worker, answer = Worker(order, partial(_say, out, {"alive": True})), {"ok": None}
                else:
                    answer = {"ok": worker.do(order["do"], order["with"])}
            except LanewiseError as error:
                answer = {"error": type(error).__name__, "text": str(error)}
            _say(out, answer)
    os._exit(0)  # threads the network started must not hold the process


def _say(out: IO[str], answer: Mapping[str, Any]) -> None:
    out.write(json.dumps(answer) + "\n")
    out.flush()


def _end_with(parent: int) -> None:
    """End when the parent does, however it ends (prctl(2)); it may have ended before we asked for that."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


class Worker:
    """The lanes in this process.

    Args:
        order: What `child` says at the start.
        alive: Called after every epoch of an order that has many.

    Raises:
        StudyError: The study file is another one by now.
        DataError: So are its rows.
    """

    def __init__(self, order: Mapping[str, Any], alive: Callable[[], None]) -> None:
        study = load_study(order["study"], order["overrides"])
        if study.definition() != order["definition"]:
            raise StudyError(
                "the study was changed while it runs",
                where=order["study"],
                remedy="run the same command again",
            )
        with unchanged_process():
            network = study_network(study)
        dataset = prepare(study).dataset
        if dataset.split_fingerprint != order["data"]:
            raise DataError(
                "the rows were changed while the study runs", where=study.data.source,
                remedy="run the same command again: changed rows begin a new search",
            )  # fmt: skip
        self._trainer = Trainer(study, network, dataset, lanes=order["lanes"])
        self._trainer.restart(order["chunk"])
        self._checkpoints = Checkpoints(Path(order["checkpoints"]), order["every_s"])
        self._inner = SearchLanes(self._trainer, self._checkpoints, remember=True)
        self._lanes = GuardedLanes(self._inner, order["lanes"])
        self._texts: dict[int, str] = {}
        stages = WholeStages(study, network, dataset, alive)
        self._acts: dict[str, Callable[..., Any]] = {
            "saved": self._saved, "add": self._add, "drop": self._lanes.drop, "tick": self._tick,
            "keep": self._lanes.keep, "put_aside": self._put_aside, "forget": self._forget,
            "notes": lambda: self._trainer.notes, "smoke": self._smoke, "prediction_ms": self._prediction_ms,
            "ramp": stages.ramp, "folds": stages.folds, "refit": stages.refit,
        }  # fmt: skip

    def do(self, act: str, given: Mapping[str, Any]) -> Any:
        """Follow an order; what the network does to this process meanwhile is undone."""
        with unchanged_process():
            return self._acts[act](**given)

    def _saved(self, request: Mapping[str, Any], at_most: int) -> int:
        return self._lanes.saved(LaneRequest(**request), at_most)

    def _add(self, request: Mapping[str, Any], epoch: int) -> None:
        wanted = LaneRequest(**request)
        self._texts[wanted.number] = identity(wanted)
        self._lanes.add(wanted, epoch)

    def _tick(self) -> list[dict[str, Any]]:
        return [asdict(report) for report in self._lanes.tick()]

    def _smoke(self, hyper: Mapping[str, Any]) -> int:
        layout, outputs = self._trainer.dataset.layout, self._trainer.dataset.n_outputs
        return smoke(self._trainer.network, layout, outputs, hyper)

    def _prediction_ms(self, hyper: Mapping[str, Any]) -> float:
        layout, outputs = self._trainer.dataset.layout, self._trainer.dataset.n_outputs
        return prediction_ms(self._trainer.network, layout, outputs, hyper)

    def _put_aside(self, number: int) -> None:
        self._checkpoints.put_aside(*self._inner.remembered(number))

    def _forget(self, number: int) -> None:
        text = self._texts.pop(number, None)
        if text is not None:
            self._checkpoints.forget_aside(text)
