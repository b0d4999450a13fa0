"""Brings pretrained weights that are no file into the home: those of a registered model, or what a function returns.

Done when a job is opened, checked or replayed, before its network is resolved. A study keeps what it began with: what
lies in the home is not fetched again, wherever the alias points by now. It trains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from lanewise import registry, tracking
from lanewise.durable import whole_file, write_told
from lanewise.errors import ModelError
from lanewise.pretrained_file import Origin, encode_weights, weights_path
from lanewise.process_guard import unchanged_process
from lanewise.study import Study, weights_kind
from lanewise.user_code import load_object, traceback_text

Parts = tuple[Mapping[str, torch.Tensor], Origin | None]


def settled(study: Study) -> bool:
    """Whether nothing has to be brought."""
    path = weights_path(study)
    return path is None or weights_kind(study.model.pretrained or "") == "file" or path.is_file()


def settle_weights(study: Study, uri: str | None = None) -> None:
    """Bring the study's pretrained weights into its home, unless they lie there.

    Args:
        study: Its home says where to.
        uri: Tracking address of a registered model; None for the study's.

    Raises:
        TrackingError: There is no such model, or the disk refuses.
        ModelError: There is no such function, it raises, or returns no weights.
    """
    path, target = weights_path(study), study.model.pretrained
    if path is None or target is None or settled(study):
        return
    registered = weights_kind(target) == "registry"
    tensors, origin = _registered(study, target, uri) if registered else _imported(study, target)
    content = encode_weights(tensors, origin)
    with write_told(path, "the pretrained weights"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.write(content)


def _registered(study: Study, target: str, uri: str | None) -> Parts:
    """The first member of a registered model, which says whose weights these are."""
    address = uri or study.tracking.uri
    fitted = registry.load(
        f"models:/{target}", search_path=[study.base_dir], fetch=lambda model: tracking.fetch(model, address)
    )
    network = fitted.network
    own = {name: value for name, value in fitted.config.items() if name in network.defaults}
    return fitted.states[0], Origin(network.name, dict(network.args), own, fitted.classes)


def _imported(study: Study, target: str) -> Parts:
    """What a function returns: a module, or its state_dict."""
    function: Any = load_object(target, search_path=[study.base_dir])
    with unchanged_process():
        try:
            found = function()
        except (Exception, SystemExit) as error:
            raise ModelError(
                f"the function of pretrained weights raised {type(error).__name__}", where=target,
                given=traceback_text(error), rule="a function without arguments", remedy="call it alone first",
            ) from error  # fmt: skip
    tensors = found.state_dict() if isinstance(found, nn.Module) else found
    named = isinstance(tensors, Mapping) and all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in tensors.items()
    )
    if not named or not tensors:
        raise ModelError(
            "the function returned no weights", where=target, given=f"a {type(found).__name__}",
            rule="a torch.nn.Module, or its state_dict()", remedy="return the module with its weights loaded",
        )  # fmt: skip
    return tensors, None
