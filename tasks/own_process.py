"""The child process for a network the user wrote, as a job needs it; for the stages that try or train one.

A network that comes with Lanewise needs none. What runs in the child is lanewise.search.worker's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lanewise.errors import ModelError
from lanewise.search.causes import LaneProcessError
from lanewise.search.child import ChildLanes
from lanewise.trainer import choose_device, lane_count

if TYPE_CHECKING:
    from tasks.job import Workshop

SMOKE_LIMIT_S = 120.0
OUTPUT = "network-output.txt"


def needs_child(shop: Workshop) -> bool:
    """Whether the study's network is the user's own."""
    return ":" in shop.study.model.name


def child_lanes(shop: Workshop, lanes: int, limit_s: float) -> ChildLanes:
    """Lanes in a child process, which is started when they are first used."""
    study = shop.study
    order = {
        "study": shop.job.study, "overrides": dict(shop.job.overrides), "definition": study.definition(),
        "data": shop.prepared.dataset.split_fingerprint, "lanes": lanes,
        "checkpoints": str(shop.records / "checkpoints"), "every_s": study.tracking.checkpoint_seconds,
    }  # fmt: skip
    return ChildLanes(order, shop.records / OUTPUT, limit_s)


def smoke_in_child(shop: Workshop) -> int:
    """Try one batch through the default network in a child; number of its parameters.

    Raises:
        ModelError: It does not fit the data, or ends or blocks the process.
    """
    study = shop.study
    child = child_lanes(shop, lane_count(study, choose_device(study)), SMOKE_LIMIT_S)
    try:
        return child.smoke(shop.space.default())
    except LaneProcessError as error:
        raise ModelError(
            f"network `{study.model.name}` cannot be tried on one batch",
            given=str(error),
            rule="a forward and a backward pass with its default configuration",
            remedy=f"look at {shop.records / OUTPUT}",
        ) from error
    finally:
        child.close()
