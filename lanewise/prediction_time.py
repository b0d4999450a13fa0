"""How long a network takes to predict, measured on this machine: after the model, for the report only.

A time is no objective: it depends on the machine and on what else runs there, so a search that asked by it would not be
repeatable. It is measured once, of the few networks a reader chooses among.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import median
from typing import Any

import torch

from lanewise.model import Layout, Network, seed_generators
from lanewise.process_guard import unchanged_process
from lanewise.smoke import example_inputs

ROWS = 256
PASSES = 9
LIMIT_S = 1.0  # after so long no further pass is begun


def prediction_ms(network: Network, layout: Layout, n_outputs: int, hyper: Mapping[str, Any]) -> float:
    """Milliseconds of the forward pass of `ROWS` random rows on the CPU: the median of `PASSES`, after one to warm up.

    The network alone, in evaluation, with the threads torch has; reading and preparing the rows is not in it.

    Args:
        network: What `resolve` found.
        layout: Of the data.
        n_outputs: Number of classes, or 1 for regression.
        hyper: A configuration.

    Raises:
        ModelError: The network cannot be built.
    """
    module = network.build(layout, n_outputs, hyper, seed=0).eval()
    inputs = example_inputs(network, layout, ROWS)
    with unchanged_process(), torch.inference_mode():
        seed_generators(0)
        module(*inputs)
        taken: list[float] = []
        while len(taken) < PASSES and sum(taken) < LIMIT_S:
            begun = time.perf_counter()
            module(*inputs)
            taken.append(time.perf_counter() - begun)
    return 1000 * median(taken)
