"""The contract a network fulfils, and how a study's `model:` becomes one; used by search, evaluate and refit.

A network is a plain nn.Module class whose constructor takes data arguments (DATA_ARGUMENTS), constants (the
study's `model: args:`) and hyperparameters; their default values are the default configuration. This module
finds the class, reads its contract and builds modules. It runs no forward (smoke does) and trains nothing.
"""

from __future__ import annotations

import importlib
import inspect
import json
import random
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import nn

from lanewise.data.proposals import NETWORKS
from lanewise.errors import ModelError
from lanewise.names import nearest
from lanewise.process_guard import unchanged_process
from lanewise.study import TRAINING, Value
from lanewise.user_code import load_object, traceback_text

ENTRY_POINTS = "lanewise.models"
DATA_ARGUMENTS = ("n_numeric", "cardinalities", "n_outputs", "n_features", "input_shape", "n_tokens")
TABLE = frozenset({"table"})  # what a network takes that does not say
DATA_KINDS = ("table", "image", "series", "text")
_SAID_ELSEWHERE = {  # what other projects call the data arguments
    "n_features": ("in_features", "n_inputs", "input_dim", "input_size", "in_dim", "d_in", "num_features"),
    "n_outputs": (
        "out_features",
        "output_dim",
        "output_size",
        "out_dim",
        "d_out",
        "n_classes",
        "num_classes",
    ),
    "n_numeric": ("n_num_features", "num_numeric", "n_continuous", "n_cont"),
    "cardinalities": ("cat_cardinalities", "categories", "cat_dims"),
    "input_shape": ("image_shape", "image_size", "in_shape", "in_channels", "seq_len", "sequence_length"),
    "n_tokens": ("vocab_size", "vocabulary_size", "num_embeddings", "n_words"),
}


class Layout(Protocol):
    """What a network must know of the data.

    A table: names of the columns and number of codes of each category. Else its kind, the shape of one row's input
    and the number of token codes of a text.
    """

    @property
    def numeric(self) -> Sequence[str]: ...
    @property
    def categorical(self) -> Sequence[str]: ...
    @property
    def cardinalities(self) -> Sequence[int]: ...
    @property
    def kind(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def tokens(self) -> int: ...


@dataclass(frozen=True)
class Network:
    """A network class with what the study and the engine need to know of it.

    Args:
        name: As the study says it.
        factory: The class.
        args: Constant constructor arguments.
        space: The class's own search space, plain as in YAML.
        defaults: Default value of every hyperparameter, from the constructor's signature.
        lane_parameters: Hyperparameters that change only dropout rates or initial values, so that trials that
            differ in nothing else may be stacked.
        inputs: "split" for forward(x_num, x_cat), "flat" for forward(x) on one-hot features.
        data_arguments: Those of DATA_ARGUMENTS the constructor takes.
        kinds: Kinds of data it takes, of DATA_KINDS: the class's own attribute `kinds`.
    """

    name: str
    factory: type[nn.Module]
    args: Mapping[str, Any]
    space: Mapping[str, Any]
    defaults: Mapping[str, Value]
    lane_parameters: frozenset[str]
    inputs: Literal["split", "flat"]
    data_arguments: tuple[str, ...]
    kinds: frozenset[str] = TABLE

    def own(self, hyper: Mapping[str, Any]) -> dict[str, Any]:
        """The network's own hyperparameters: the defaults, with what `hyper` says in their place.

        Args:
            hyper: A configuration; training hyperparameters in it are left out.

        Raises:
            ModelError: `hyper` has a name that is neither the network's nor one of training.
        """
        for name in hyper:
            if name not in self.defaults and name not in TRAINING:
                near = nearest(name, [*self.defaults, *TRAINING])
                raise ModelError(
                    f"network `{self.name}` has no hyperparameter `{name}`",
                    rule="one of " + ", ".join(self.defaults) if self.defaults else "it has none",
                    remedy=f"did you mean `{near}`?" if near else "remove it, or add it to the constructor",
                )
        return {name: hyper.get(name, default) for name, default in self.defaults.items()}

    def build(self, layout: Layout, n_outputs: int, hyper: Mapping[str, Any], seed: int) -> nn.Module:
        """One module on the CPU, the same for the same arguments; this process's seeds stay as they are.

        Args:
            layout: Columns of the data.
            n_outputs: Number of classes, or 1 for regression.
            hyper: A configuration; what it leaves out is at its default.
            seed: Seeds torch's, numpy's and Python's generators while the constructor runs.

        Raises:
            ModelError: The network takes no such data, an unknown hyperparameter, or the constructor raised.
        """
        if layout.kind not in self.kinds:
            ours = sorted(n for n, c in _ours().items() if layout.kind in getattr(c, "kinds", TABLE))
            raise ModelError(
                f"network `{self.name}` takes {_plural(self.kinds)}, and the data are {_plural([layout.kind])}",
                rule=f"one of {', '.join(ours)}, or a class whose `kinds` has \"{layout.kind}\"",
                remedy=f"write `model: {{name: {NETWORKS[layout.kind]}}}`",
            )
        data = {
            "n_numeric": len(layout.numeric),
            "cardinalities": tuple(layout.cardinalities),
            "n_outputs": n_outputs,
            "n_features": len(layout.numeric) + sum(layout.cardinalities),
            "input_shape": tuple(layout.shape),
            "n_tokens": layout.tokens,
        }
        own = self.own(hyper)
        with unchanged_process():
            seed_generators(seed)
            try:
                return self.factory(**{name: data[name] for name in self.data_arguments}, **self.args, **own)
            except (Exception, SystemExit) as error:
                told = ", ".join(f"{name}={value!r}" for name, value in own.items())
                raise ModelError(
                    f"the constructor of network `{self.name}` raised {type(error).__name__}",
                    where=told or None,
                    given=traceback_text(error),
                    remedy="correct the hyperparameter or the constructor",
                ) from error

    def static_key(self, hyper: Mapping[str, Any]) -> str:
        """Equal for configurations whose networks have one shape and one code: canonical JSON."""
        static = {name: value for name, value in self.own(hyper).items() if name not in self.lane_parameters}
        return json.dumps(static, sort_keys=True, separators=(",", ":"))


def resolve(
    name: str | type[nn.Module],
    args: Mapping[str, Any] | None = None,
    *,
    search_path: Sequence[str | Path] = (),
) -> Network:
    """Find a network by its name and read its contract.

    Args:
        name: A registered name ("mlp"), "pkg.module:Class", or the class itself.
        args: Constant constructor arguments; they are no longer hyperparameters.
        search_path: Folders to look in for "pkg.module:Class", beside the packages and the working
            directory: the study's folder.

    Raises:
        ModelError: No such network; importing it failed (lanewise.user_code); it is not an nn.Module; its
            constructor or its forward does not fit the contract; `args` has an unknown name.
    """
    if isinstance(name, type):
        factory: Any = name
        name = f"{factory.__module__}:{factory.__qualname__}"
    elif ":" in name:
        factory = load_object(name, search_path=search_path)
    else:
        factory = _registered(name)
    if not (isinstance(factory, type) and issubclass(factory, nn.Module)):
        kind = "is a class" if isinstance(factory, type) else f"is a {type(factory).__name__}"
        raise ModelError(
            "this is not a network",
            where=name,
            given=f"it {kind}",
            rule="a subclass of torch.nn.Module",
            remedy="name the class itself, not an instance or a function"
            if not isinstance(factory, type)
            else "derive it from torch.nn.Module",
        )
    return _read(name, factory, dict(args or {}))


def _registered(name: str) -> type[nn.Module]:
    known: dict[str, Any] = {}
    broken: list[str] = []
    for point in metadata.entry_points(group=ENTRY_POINTS):
        try:
            found = point.load()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a foreign package's; told if it matters
            broken.append(f"{point.name} ({point.value}): {type(error).__name__}: {error}")
            continue
        known |= found if isinstance(found, Mapping) else {point.name: found}
    known |= _ours()  # last: a package may add names, not replace `mlp`
    if name in known:
        return known[name]  # type: ignore[no-any-return]  # resolve checks what it is
    near = nearest(name, known)
    raise ModelError(
        f"there is no network `{name}`",
        given=f"could not be loaded: {'; '.join(broken)}" if broken else None,
        rule=f"one of {', '.join(sorted(known))}, or pkg.module:Class",
        remedy=f"did you mean `{near}`?"
        if near
        else f"put a colon before the class: {':'.join(name.rsplit('.', 1))}"
        if "." in name
        else "write pkg.module:Class for a network of your own",
    )


def _ours() -> Mapping[str, type[nn.Module]]:
    """The networks that ship; read by name, as the core imports no network."""
    ours = importlib.import_module("models")
    if not hasattr(ours, "MODELS"):
        raise ModelError(
            "a file of yours hides Lanewise's package `models`", where=ours.__file__, remedy="rename the file"
        )
    return ours.MODELS  # type: ignore[no-any-return]  # it is what it says


def _plural(kinds: Iterable[str]) -> str:
    names = {"table": "tables", "image": "images", "series": "series", "text": "texts"}
    return " and ".join(names[kind] for kind in sorted(kinds))


def _read(name: str, factory: type[nn.Module], args: dict[str, Any]) -> Network:
    parameters, takes_any = _constructor(name, factory)
    for arg in args:
        if arg in DATA_ARGUMENTS:
            raise ModelError(
                f"`{arg}` is set by the data", where=f"{name}, model: args:", remedy=f"remove `{arg}`"
            )
        if arg not in parameters and not takes_any:
            near = nearest(arg, [p for p in parameters if p not in DATA_ARGUMENTS])
            raise ModelError(
                f"the constructor has no argument `{arg}`",
                where=f"{name}, model: args:",
                remedy=f"did you mean `{near}`?" if near else "remove it, or add it to the constructor",
            )
    defaults: dict[str, Value] = {}
    for own, default in parameters.items():
        if own in DATA_ARGUMENTS or own in args:
            continue
        if default is inspect.Parameter.empty:
            raise _unfilled(name, own)
        if own in TRAINING:
            raise ModelError(
                f"the constructor's argument `{own}` has the name of a hyperparameter of training",
                where=name,
                rule="one name means one thing in a study",
                remedy="rename it, or fix it under `model: args:`",
            )
        if isinstance(default, str | int | float):
            defaults[own] = default
    space: Any = getattr(factory, "space", {})
    lanes: Any = getattr(factory, "lane_parameters", frozenset())
    if not isinstance(space, Mapping):
        raise ModelError(
            f"`space` is a {type(space).__name__}", where=name, rule="it is a dict: name -> range"
        )
    if isinstance(lanes, str) or not isinstance(lanes, Iterable):
        raise ModelError(
            f"`lane_parameters` is a {type(lanes).__name__}", where=name, rule="it is a frozenset of names"
        )
    kinds: Any = getattr(factory, "kinds", TABLE)
    if isinstance(kinds, str) or not isinstance(kinds, Iterable) or not {*kinds} or not {*kinds} <= {*DATA_KINDS}:
        raise ModelError(
            "`kinds` does not say which data the network takes", where=name, given=repr(kinds)[:80],
            rule="a frozenset of " + ", ".join(DATA_KINDS),
        )  # fmt: skip
    for attribute, names in (("space", space), ("lane_parameters", lanes)):
        _refuse_unknown(name, attribute, names, {*defaults, *args})
    return Network(
        name=name, factory=factory, args=args, space={n: r for n, r in space.items() if n not in args},
        defaults=defaults, lane_parameters=frozenset(n for n in lanes if n not in args),
        inputs=_inputs(name, factory), data_arguments=tuple(p for p in parameters if p in DATA_ARGUMENTS),
        kinds=frozenset(kinds),
    )  # fmt: skip


def _constructor(name: str, factory: type[nn.Module]) -> tuple[dict[str, Any], bool]:
    """Name -> default (Parameter.empty for none) of every named argument, and whether it takes any other.

    A constructor that hands **kwargs on is read together with that of the class it inherits from.
    """
    parameters: dict[str, Any] = {}
    for cls in factory.__mro__:
        if "__init__" not in vars(cls):
            continue
        if cls in (nn.Module, object):
            break
        own = list(inspect.signature(cls.__init__).parameters.values())[1:]  # type: ignore[misc]  # read, not called
        for parameter in own:
            if parameter.kind is parameter.POSITIONAL_ONLY:
                raise ModelError(
                    f"the constructor takes `{parameter.name}` by position only",
                    where=name,
                    rule="arguments are given by name",
                    remedy="remove the `/` from its signature",
                )
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                parameters.setdefault(parameter.name, parameter.default)
        if not any(p.kind is p.VAR_KEYWORD for p in own):
            return parameters, False
    return parameters, True


def _unfilled(name: str, argument: str) -> ModelError:
    near = next((ours for ours, others in _SAID_ELSEWHERE.items() if argument in others), None)
    near = near or nearest(argument, DATA_ARGUMENTS)
    return ModelError(
        f"nothing fills the constructor's argument `{argument}`",
        where=name,
        rule="an argument is one of " + ", ".join(DATA_ARGUMENTS) + ", or has a default value",
        remedy=f"rename it to `{near}`"
        if near
        else "give it a default value, or a value under `model: args:`",
    )


def _refuse_unknown(name: str, attribute: str, names: Iterable[Any], known: Collection[str]) -> None:
    """Refuse a class attribute that names what is no hyperparameter of the constructor."""
    for own in names:
        if own not in known:
            near = nearest(str(own), known)
            raise ModelError(
                f"`{attribute}` names `{own}`, which is no hyperparameter of the constructor", where=name,
                rule="a hyperparameter is an argument whose default is a string, a number, true or false",
                remedy=f"did you mean `{near}`?" if near else "add it to the constructor, with a default",
            )  # fmt: skip


def _inputs(name: str, factory: type[nn.Module]) -> Literal["split", "flat"]:
    if factory.forward is nn.Module.forward:
        raise ModelError("the class has no `forward`", where=name, remedy="write forward(self, x_num, x_cat)")
    signature = list(inspect.signature(factory.forward).parameters.values())[1:]
    given = [p for p in signature if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [
        p for p in signature if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if all(p in given for p in needed):
        if len(needed) == 2 or (len(needed) <= 2 <= len(given) and given[1].name == "x_cat"):
            return "split"
        if len(needed) == 1 or (not needed and len(given) == 1):
            return "flat"
    raise ModelError(
        "`forward` does not take the inputs",
        where=name,
        given=f"forward({', '.join(map(str, signature))})",
        rule="forward(x_num, x_cat) for numbers and category codes, or forward(x) for one-hot features",
        remedy="give every further argument a default value",
    )


def seed_generators(seed: int) -> None:
    """Seed torch's, numpy's and Python's global generators; use inside unchanged_process."""
    random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch leaves it so
        torch.cuda.manual_seed_all(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed % 2**32)
