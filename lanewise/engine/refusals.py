"""Why a network or a loss does not run as stacked lanes, in a line, and what to change; used by pool and own_losses."""

from __future__ import annotations

_REMEDIES = {  # what vmap says -> what would make it stack
    "dropout inside": "use recurrent layers of one layer each, with nn.Dropout between them",
    "random": "draw with nn.Dropout modules only, not torch.rand, F.dropout or dropout inside attention",
    "generator": "draw with nn.Dropout modules only, not numpy or random",
    ".item()": "keep numbers as tensors: no .item(), float(), int() or print of a value",
    "data-dependent control flow": "choose with torch.where, not with `if` on a tensor's value",
    "dynamic shape": "use torch.where in place of a mask as an index or nonzero()",
    "nonzero": "use torch.where in place of a mask as an index or nonzero()",
    "inplace": "make tensors from the inputs (x.new_zeros, torch.cat) in place of writing into ones made beforehand",
    "data pointer": "use torch in place of numpy",
    "numpy": "use torch in place of numpy",
    "out=": "use the operation without out=",
}


class NotStackableError(Exception):
    """The network cannot run as stacked lanes; the message says why."""


def why(error: BaseException) -> str:
    """What refused it, and what to change, in one line."""
    said = (str(error).strip() or repr(error)).splitlines()[0].removeprefix("vmap: ").rstrip(".")
    who = "" if isinstance(error, NotStackableError) else "vmap says: "
    remedy = next((remedy for sign, remedy in _REMEDIES.items() if sign in said), None)
    return f"{who}{said}" + (f". To have them stacked, {remedy}" if remedy else "")
