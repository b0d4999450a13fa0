"""Lanewise tunes PyTorch networks: many trials train side by side as lanes of one loop.

Reading order, which is also the data's way: `errors`, `study` (what to tune), `space` (the
hyperparameters), `data` (rows, splits, the seal), `model` (what a network fulfils), `metrics`, `engine`
(trains the lanes), `lr_range`, `pruning`, `ledger`, `search`, `evaluate` (is the winner really better?),
`refit`, `registry` (what is stored), `report`, `tracking`, and `testing` for people who write networks.
The whole run is one page: flows/tune.py.

Names are imported when first used, so `import lanewise` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lanewise.errors import LanewiseError
    from lanewise.registry import load, predict
    from lanewise.space import Space
    from lanewise.study import Study, load_study
    from lanewise.testing import check_model

__all__ = ["LanewiseError", "Space", "Study", "check_model", "load", "load_study", "predict"]

_HOMES = {
    "LanewiseError": "lanewise.errors",
    "Space": "lanewise.space",
    "Study": "lanewise.study",
    "check_model": "lanewise.testing",
    "load": "lanewise.registry",
    "load_study": "lanewise.study",
    "predict": "lanewise.registry",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'lanewise' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
