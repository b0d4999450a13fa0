"""Pretrained weights of a study and the network they go into: what is taken, what is frozen, what must be fixed.

After the network and the file (pretrained_file.py), before the trainer, which starts lanes from them. A tensor is taken
by its name and shape. The output layer may differ, as the classes do; nothing else may. It trains nothing: when
frozen layers thaw, and how fast they train, is the engine's.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lanewise.errors import ModelError, StudyError
from lanewise.fields import shown, word
from lanewise.model import Network, resolve
from lanewise.names import nearest
from lanewise.parameter import Parameter, same
from lanewise.pretrained_file import Origin, read_weights, weights_path
from lanewise.space import Config, Space, build_space
from lanewise.study import TRAINING, Study, Value
from lanewise.training import layer_names

if TYPE_CHECKING:
    from lanewise.data import Dataset

PRETRAINED = "pretrained: "  # begins every sentence of `words`
_SHOWN = 20  # layers named in one message
_SHAPES = 64  # configurations whose shapes are compared with the file's
_SEED = 0


@dataclass(frozen=True)
class Match:
    """How a file's tensors fit one module.

    Args:
        taken: Tensors of equal name and shape, in the module's order.
        trained: Those of them that are trained, without the output layer's.
        other: name -> (shape in the file, shape in the network) where these differ, but for the output layer's.
        own: Tensors of the module that keep their own start.
        head: Those of them that are the output layer's, with the file's shape; None where it has none.
        unused: Tensors of the file that the module does not take.
    """

    taken: tuple[str, ...]
    trained: tuple[str, ...]
    other: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    own: tuple[str, ...]
    head: Mapping[str, tuple[int, ...] | None]
    unused: tuple[str, ...]


@dataclass(frozen=True)
class Taken:
    """What a lane started from: names of its parameters.

    Args:
        layers: From the file, but for the output layer's.
        frozen: Those of them that do not train until they thaw.
    """

    layers: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()


def study_network(study: Study) -> Network:
    """The study's network; of pretrained weights that say whose they are, with their architecture fixed.

    Raises:
        ModelError: There is no such network, or the weights cannot be read.
        StudyError: The study asks for another architecture than that of the weights.
    """
    network = resolve(study.model.name, study.model.args, search_path=[study.base_dir])
    path = weights_path(study)
    origin = read_weights(path).origin if path else None
    return network if origin is None else _narrowed(study, network, origin)


def _narrowed(study: Study, network: Network, origin: Origin) -> Network:
    if origin.network != network.name:
        raise StudyError(
            "the pretrained weights are of another network", where=study.where("model", "pretrained"),
            given=f"weights of `{origin.network}` for `{network.name}`", rule="both are of one network",
            remedy=f"write `name: {origin.network}`, or name other weights",
        )  # fmt: skip
    theirs = {**origin.args, **origin.config}
    for name, value in {**study.model.args, **origin.args}.items():
        known = name in theirs or name in network.defaults
        if name in study.model.args and known and theirs.get(name) != study.model.args[name]:
            raise _another(study, ("model", "args"), name, shown(study.model.args[name]), theirs.get(name))
        if name not in study.model.args and name not in network.defaults:
            raise _another(study, ("model", "args"), name, "not given", value)
    fixed = {
        name: theirs.get(name, default)
        for name, default in network.defaults.items()
        if name not in network.lane_parameters
    }
    for name, value in fixed.items():
        asked = study.space.get(name)
        if asked is not None and not (asked.value is not None and same(asked.value, value)):
            raise _another(study, ("space",), name, asked.text(), value)
    space = {**network.space, **{n: _fixed(network.space.get(n), v) for n, v in fixed.items()}}
    return replace(network, space=space, defaults={**network.defaults, **fixed})


def _fixed(given: Any, value: Value) -> dict[str, Any]:
    when = given.get("when") if isinstance(given, Mapping) else None
    return {"value": value} | ({"when": when} if when else {})


def _another(study: Study, keys: tuple[str, ...], name: str, given: str, value: Any) -> StudyError:
    return StudyError(
        f"the pretrained weights decide `{name}`", where=study.where(*keys, name), given=given,
        rule=f"they are of a network with {name}: {word(value)}",
        remedy=f"write `{name}: {word(value)}` under `{': '.join(keys)}:`"
        + (", or leave it out" if keys == ("space",) else ""),
    )  # fmt: skip


class Pretrained:
    """The pretrained weights of a study, matched with its network.

    Args:
        study: With `model: pretrained:`.
        network: Of `study_network`.
        dataset: Decides the network's inputs and outputs.

    Raises:
        ModelError: The file cannot be read, or its shapes do not fit the network, layer by layer.
        StudyError: Hyperparameters that decide shapes are searched, or `freeze` names no pretrained layer.
    """

    def __init__(self, study: Study, network: Network, dataset: Dataset) -> None:
        path = weights_path(study)
        assert path is not None  # the caller asks a study that has them
        self.file = read_weights(path)
        self._study, self._network, self._dataset = study, network, dataset
        space = build_space(study, network.space, network.defaults)
        self.match = self._fitting(space)
        self._tensors = self.file.tensors(self.match.taken)
        self._check_freeze(space.wide("freeze"))

    @classmethod
    def of(cls, study: Study, network: Network, dataset: Dataset) -> Pretrained | None:
        """Those of the study; None where it has none."""
        return cls(study, network, dataset) if study.model.pretrained else None

    def start(self, module: nn.Module, config: Mapping[str, Value]) -> Taken:
        """Write the weights into a module that is to start from them; names of what was taken and is frozen.

        Args:
            module: Built for `config`; its output layer and what the file lacks stay as they are.
            config: With `start` and `freeze`.
        """
        if config["start"] != "pretrained":
            return Taken()
        tensors = module.state_dict()
        with torch.no_grad():
            for name, tensor in self._tensors.items():
                tensors[name].copy_(tensor)
        return Taken(self.match.trained, _frozen(self.match.trained, str(config["freeze"])))

    def words(self) -> Iterator[str]:
        """What was done with the file, in sentences for terminal and report."""
        match, count = self.match, len(self.match.taken) + len(self.match.own)
        text = f"{PRETRAINED}{len(match.taken)} of {count} tensors from {self.file.path.name}"
        text += f" (SHA-256 {self.file.sha256[:12]})"
        if match.own:
            text += "; at their own start: " + ", ".join(self._own_start())
        yield text
        if match.unused:
            yield f"{PRETRAINED}not in the network, so not used: {_few(match.unused)}"
        if self.file.origin is not None:
            kept = {n: p["value"] for n, p in self._network.space.items() if n not in self._network.lane_parameters}
            said = ", ".join(f"{name} {word(value)}" for name, value in kept.items())
            yield f"{PRETRAINED}the space is narrowed to the architecture of the weights: {said}"
        if self._default["start"] == "scratch":
            yield f"{PRETRAINED}the default, trial 0, is the same network from scratch"

    def _own_start(self) -> list[str]:
        shapes = {name: tuple(t.shape) for name, t in self._module(self._default).state_dict().items()}
        said = []
        for name in self.match.own[:_SHOWN]:
            theirs = self.match.head.get(name)
            why = "" if theirs is None else f" ({_shape(theirs)} in the file, {_shape(shapes[name])} here)"
            if theirs == shapes[name]:
                why = " (the classes are others)"
            said.append(name + why)
        more = len(self.match.own) - _SHOWN
        return [*said, f"and {more} more"] if more > 0 else said

    def _module(self, config: Config, more_outputs: int = 0) -> nn.Module:
        return self._network.build(self._dataset.layout, self._dataset.n_outputs + more_outputs, config, _SEED)

    def _match(self, config: Config) -> Match:
        """How the file fits the network of one configuration."""
        module = self._module(config)
        tensors = module.state_dict()
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        head = self._head(config, shapes)
        theirs = self.file.shapes
        fits = {
            name for name, shape in shapes.items()
            if theirs.get(name) == shape and (name in self.file.floating) == tensors[name].is_floating_point()
        }  # fmt: skip
        origin = self.file.origin
        if origin is not None and origin.classes != tuple(self._dataset.classes):
            fits -= head
        taken = tuple(name for name in shapes if name in fits)
        own = tuple(name for name in shapes if name not in fits)
        trained = {name for name, p in module.named_parameters() if p.requires_grad} - head
        return Match(
            taken=taken,
            trained=tuple(name for name in taken if name in trained),
            other={n: (theirs[n], shapes[n]) for n in own if n in theirs and n not in head},
            own=own,
            head={name: theirs.get(name) for name in own if name in head},
            unused=tuple(name for name in theirs if name not in shapes),
        )

    def _head(self, config: Config, shapes: Mapping[str, tuple[int, ...]]) -> set[str]:
        """The output layer's tensors: those that another number of outputs changes."""
        try:
            larger = self._module(config, 1).state_dict()
        except ModelError:  # a network for just this number of classes
            return set()
        return {name for name, shape in shapes.items() if name not in larger or tuple(larger[name].shape) != shape}

    def _fitting(self, space: Space) -> Match:
        """The one way in which the file fits all networks of the space."""
        self._default = space.default()
        network = self._network
        searched = space.searched()
        names = [n for n in network.defaults if n in searched and n not in network.lane_parameters]
        configs = [self._default, *_shapes(space, names)]
        matches = [self._match(config) for config in configs]
        if all(match == matches[0] for match in matches) and not matches[0].other and matches[0].taken:
            return matches[0]
        best = max(range(len(configs)), key=lambda i: (not matches[i].other, len(matches[i].taken)))
        fits = not matches[best].other and bool(matches[best].taken)
        fix = {name: configs[best].get(name) for name in names} if fits else {}
        if matches[0].other or not matches[0].taken or not fits:
            raise self._misfit(matches[0], fix)
        raise StudyError(
            "the shape of the network is searched, and pretrained weights have one shape",
            where=self._study.where("space"), given="searched: " + ", ".join(names),
            rule="what decides which tensors are taken is fixed", remedy=_fix(fix),
        )  # fmt: skip

    def _misfit(self, match: Match, fix: Mapping[str, Value | None]) -> ModelError:
        if not match.other:
            given = f"the file has {_few(tuple(self.file.shapes))}; the network has {_few(match.own)}"
            return ModelError(
                "no tensor of the file has name and shape of one of the network's", where=self.file.path, given=given,
                rule="a tensor is taken by its name and shape", remedy="rename the tensors in the file",
            )  # fmt: skip
        rows = [("layer", "file", "network")]
        rows += [(name, _shape(file), _shape(ours)) for name, (file, ours) in [*match.other.items()][:_SHOWN]]
        first, second = (max(len(row[i]) for row in rows) for i in (0, 1))
        lines = [f"    {name:<{first}}  {file:<{second}}  {ours}" for name, file, ours in rows]
        if len(match.other) > _SHOWN:
            lines.append(f"    and {len(match.other) - _SHOWN} more")
        return ModelError(
            "the pretrained weights do not fit the network", where=self.file.path,
            given="".join(f"\n{line}" for line in lines),
            rule="tensors of one name have one shape; only the output layer may differ",
            remedy=_fix(fix) if fix else "give the network the architecture of the file, in `space` or `model: args:`",
        )  # fmt: skip

    def _check_freeze(self, freeze: Parameter) -> None:
        for value in freeze.listed:
            if value in TRAINING["freeze"].choices:
                continue
            for name in layer_names(str(value)):
                if not _frozen(self.match.trained, name):
                    known = sorted({part for layer in self.match.trained for part in _parents(layer)})
                    near = nearest(name, [*TRAINING["freeze"].choices, *known])
                    raise StudyError(
                        f"`freeze` names `{name}`, which is no pretrained layer",
                        where=self._study.where("space", "freeze"), given=shown(value),
                        rule="none, all, or layers of: " + _few(tuple(known)),
                        remedy=f"write `{near}`" if near else "choose one of these",
                    )  # fmt: skip


def _shapes(space: Space, names: list[str]) -> Iterator[Config]:
    """Configurations that cover the shapes of a space: all combinations, or one change at a time where many."""
    values = {}
    for name in names:
        parameter = space.wide(name)
        every = parameter.every()
        values[name] = list(itertools.islice(every, _SHAPES)) if every is not None else list(parameter.spread(3))
    everything = itertools.product(*values.values())
    found = list(itertools.islice(everything, _SHAPES + 1))
    if len(found) > _SHAPES:
        default = space.default()
        found = [tuple(default.get(n, values[n][0]) if n != name else v for n in names)
                 for name in names for v in values[name]][:_SHAPES]  # fmt: skip
    for combination in found:
        yield space.default(dict(zip(names, combination, strict=True)))


def _frozen(trained: tuple[str, ...], freeze: str) -> tuple[str, ...]:
    """The layers a value of `freeze` means."""
    if freeze in TRAINING["freeze"].choices:
        return trained if freeze == "all" else ()
    prefixes = layer_names(freeze)
    return tuple(n for n in trained if any(n == p or n.startswith(p + ".") for p in prefixes))


def _parents(name: str) -> Iterator[str]:
    """The modules a parameter is in: of `blocks.0.weight` blocks and blocks.0."""
    parts = name.split(".")
    yield from (".".join(parts[:depth]) for depth in range(1, len(parts)))


def _fix(values: Mapping[str, Value | None]) -> str:
    fixed = ", ".join(f"`{name}: {word(value)}`" for name, value in values.items() if value is not None)
    return f"fix in `space`: {fixed}" if fixed else "fix the hyperparameters of the network in `space`"


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "one number"


def _few(names: tuple[str, ...], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
