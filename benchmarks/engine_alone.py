"""The engine without tracking and orchestration: the same random configurations, trained and scored.

Run by bench_trials.py: `python engine_alone.py STUDY`; prints the seconds of the training loop.
"""

from __future__ import annotations

import sys
import time

from lanewise.data import prepare
from lanewise.metrics import find_metric
from lanewise.model import resolve
from lanewise.search import search
from lanewise.search.lanes import SearchLanes
from lanewise.space import build_space
from lanewise.study import load_study
from lanewise.trainer import Trainer


def main(path: str) -> None:
    """Prepare outside the clock, search inside it."""
    study = load_study(path)
    dataset = prepare(study).dataset
    network = resolve(study.model.name, study.model.args)
    space = build_space(study, network.space, network.defaults)
    lanes = SearchLanes(Trainer(study, network, dataset))
    direction = find_metric(dataset.metric, dataset.task).direction
    start = time.perf_counter()
    for progress in search(study, space, lanes, metric=dataset.metric, direction=direction):
        last = progress
    print(f"seconds {time.perf_counter() - start:.3f} trials {last.done}")


if __name__ == "__main__":
    main(sys.argv[1])
