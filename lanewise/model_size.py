"""How large a network is by exact counts: after the model, before the search, whose further objectives these are.

Both counts are functions of the configuration, so a search that minimises them stays repeatable; seconds are not.
It trains nothing, and leaves the process as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lanewise.errors import ModelError
from lanewise.model import Layout, Network, seed_generators
from lanewise.process_guard import unchanged_process
from lanewise.smoke import example_inputs
from lanewise.user_code import traceback_text


def model_size(
    network: Network, layout: Layout, n_outputs: int, hyper: Mapping[str, Any], wanted: Collection[str]
) -> dict[str, float]:
    """The counts that a study asks for, by name.

    Args:
        network: What `resolve` found.
        layout: Of the data.
        n_outputs: Number of classes, or 1 for regression.
        hyper: A configuration.
        wanted: Names from `study.OBJECTIVES`.

    Raises:
        ModelError: The network cannot be built, or does not take a row.
    """
    if not wanted:
        return {}
    module = network.build(layout, n_outputs, hyper, seed=0)
    counts: dict[str, Callable[[], int]] = {
        "parameters": lambda: parameters(module),
        "multiply_adds": lambda: multiply_adds(network, module, layout),
    }
    return {name: float(counts[name]()) for name in wanted}


def parameters(module: nn.Module) -> int:
    """Trainable parameters; one that is used twice counts once."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def multiply_adds(network: Network, module: nn.Module, layout: Layout) -> int:
    """Multiplications that are added up, for the prediction of one row.

    Those of matrix products, convolutions and attention, where the time goes; what is done element by element (an
    activation, a normalisation) or looked up does not count.

    Raises:
        ModelError: The forward pass raised.
    """
    # Attention is counted as the matrix products it is made of: torch does not count its fused form on a CPU.
    with unchanged_process(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        seed_generators(0)
        try:
            module.eval()(*example_inputs(network, layout, rows=1))
        except (Exception, SystemExit) as error:
            raise ModelError(
                f"forward of network `{network.name}` raised {type(error).__name__} for one row in evaluation",
                given=traceback_text(error), rule="any number of rows has a prediction",
                remedy="correct forward, or remove `multiply_adds` from `search: objectives:`",
            ) from error  # fmt: skip
    return int(counter.get_total_flops()) // 2  # it counts the addition, too
