"""Gradient-based search: chains of trials that follow the hypergradient of the validation loss; asked by the loop.

A trial trains with constant hyperparameters, and its reports carry the loss on the validation rows and its
derivatives (engine/hypergradient.py). When it has ended, the next trial of its chain moves each continuous
hyperparameter a step against the sign of its derivative. Everything else a chain keeps from its start, which
is the default or TPE's proposal. Chains are read from the history alone: nothing is remembered.

Sources: the steps: Riedmiller and Braun 1993, "A direct adaptive method for faster backpropagation learning:
the RPROP algorithm", without steps back (iRprop-, Igel and Hüsken 2000); hypergradients that explode where training is
chaotic: Metz et al. 2019, "Understanding and correcting pathologies in the training of learned optimizers".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lanewise.engine.hypergradient import CONTINUOUS, LOSS, PREFIX
from lanewise.errors import StudyError
from lanewise.parameter import Parameter
from lanewise.pruning import Direction
from lanewise.search.records import Told
from lanewise.search.tpe import TPE
from lanewise.space import Config, Space
from lanewise.study import TRAINING, Study, Value

# Steps, in shares of a range on its own scale: Rprop's with a growth that crosses a range in six trials.
FIRST, LARGEST, SMALLEST = 0.1, 0.3, 0.02
GROWTH, SHRINKAGE = 1.5, 0.5
# A derivative by ln(h) larger than this many losses says that training is chaotic there, not where to go: below
# it lay every derivative on digits at rates to 3e-3, above it, up to 1e9 and of either sign, most from 1e-2 on.
BELIEVED = 10.0
_DIGITS = 6  # of a proposed value: another machine's last bit must not make it another configuration


@dataclass(frozen=True)
class Point:
    """What a trial says of the way on.

    Args:
        config: Its configuration.
        signs: Hyperparameter -> -1, 0 or 1, where its value should go from here.
    """

    config: Config
    signs: Mapping[str, int]


@dataclass(frozen=True)
class Chain:
    """A chain after one of its trials.

    Args:
        start: Number of its first trial.
        last: Its last complete trial; steps lead from it.
        steps: Hyperparameter -> length of its next step, as a share of its range.
    """

    start: int
    last: Point
    steps: Mapping[str, float]


class Gradient:
    """Chains along hypergradients; the next trial of the oldest waiting chain, else the start of another.

    A chain ends when its steps have become small, and does not begin from a trial that failed or was pruned:
    the derivatives of a short training lead to rates for short trainings (Wu et al. 2018, "Understanding
    short-horizon bias in stochastic meta-optimization").

    Raises:
        StudyError: Trials may be validated with averaged weights, or trained with a loss of the user's: nobody
            computes their derivatives.
    """

    def __init__(self, study: Study, space: Space, direction: Direction) -> None:
        _refuse_without_slopes(study, space)
        self._space, self._starts = space, TPE(study, space, direction)
        searched = space.searched()
        self.slopes = tuple(n for n in CONTINUOUS if n in searched and _dense(space.parameters[n]))

    def ask(self, number: int, history: Sequence[Told]) -> Config:
        """The next trial of a chain that waits for one, else a start."""
        waiting = self._waiting(history)
        return waiting[0] if waiting else self._starts.ask(number, history)

    def _waiting(self, history: Sequence[Told]) -> list[Config]:
        """The next trial of every chain whose last one has ended, oldest chain first."""
        waiting: dict[str, tuple[Config, Chain]] = {}  # by the key of the configuration
        seen: set[str] = set()
        for trial in history:
            key = self._space.key(trial.config)
            seen.add(key)
            _, chain = waiting.pop(key, (None, None))
            if trial.state == "running":
                continue
            chain = self._after(trial, chain)
            following = None if chain is None else self._next(chain, seen)
            if following is not None:
                waiting[self._space.key(following[0])] = following
        return [config for config, _ in sorted(waiting.values(), key=lambda pair: pair[1].start)]

    def _after(self, trial: Told, chain: Chain | None) -> Chain | None:
        """The chain after one of its trials, or the one that begins with it."""
        point = self._point(trial) if trial.state == "complete" else None
        if chain is None:
            return None if point is None else Chain(trial.number, point, dict.fromkeys(self.slopes, FIRST))
        if point is None:
            return Chain(chain.start, chain.last, {n: step * SHRINKAGE for n, step in chain.steps.items()})
        # Whether the loss fell is not asked: the two differ by their seeds too, at a tiny rate by nothing else.
        turned = {name: point.signs[name] * chain.last.signs[name] < 0 for name in self.slopes}
        steps = {
            name: step * SHRINKAGE if turned[name] else min(step * GROWTH, LARGEST)
            for name, step in chain.steps.items()
        }
        return Chain(chain.start, point, steps)

    def _next(self, chain: Chain, seen: set[str]) -> tuple[Config, Chain] | None:
        """The next configuration of a chain; shorter steps where it is known already, None where it ends."""
        steps = dict(chain.steps)
        while max(steps.values(), default=0.0) >= SMALLEST:
            config = dict(chain.last.config)
            for name, sign in chain.last.signs.items():
                if sign:
                    config[name] = _moved(self._space.parameters[name], config[name], sign * steps[name])
            config = self._space.active(config)
            if self._space.key(config) not in seen:
                return config, Chain(chain.start, chain.last, steps)
            steps = {name: step * SHRINKAGE for name, step in steps.items()}
        return None

    def _point(self, trial: Told) -> Point | None:
        """Where a trial's derivatives lead, at its epoch of lowest loss; None where it has none."""
        rows = [(loss, row) for row in trial.rows if (loss := row.get(LOSS)) is not None]
        if not rows or not self.slopes:
            return None
        loss, row = min(rows, key=lambda pair: pair[0])
        relative: dict[str, float] = {}
        for name in self.slopes:
            slope = row.get(PREFIX + name)
            unit = _unit(self._space.parameters[name], trial.config.get(name, 0.0))
            relative[name] = math.inf if slope is None else slope * unit
        signs = {name: -_sign(slope) if name in trial.config else 0 for name, slope in relative.items()}
        if any(abs(slope) > BELIEVED * loss for slope in relative.values()):
            signs = {name: -1 if name == "lr" else 0 for name in self.slopes}  # a lower rate is less chaotic
        return Point(trial.config, signs)


def _refuse_without_slopes(study: Study, space: Space) -> None:
    """Refuse what the engine has no derivatives of."""
    for name, what in (("averaging", "averaged weights"), ("loss", "a loss of your own")):
        known = TRAINING[name].choices if name == "loss" else ("none",)
        if any(value not in known for value in space.parameters[name].listed):
            raise StudyError(
                f"`strategy: gradient` cannot follow {what}", where=study.where("space", name),
                given=space.parameters[name].text(), rule=f"`{name}` is one of: " + ", ".join(known),
                remedy=f"remove `{name}`, or choose another strategy",
            )  # fmt: skip
    if study.model.pretrained:
        raise StudyError(
            "`strategy: gradient` cannot follow pretrained weights", where=study.where("model", "pretrained"),
            given=study.model.pretrained, rule="it follows trainings from scratch",
            remedy="remove `pretrained`, or choose another strategy",
        )  # fmt: skip


def _dense(parameter: Parameter) -> bool:
    return parameter.kind == "float" and parameter.step is None


def _unit(parameter: Parameter, value: Value) -> float:
    """What a derivative is multiplied by: the value on a logarithmic scale, else the range's length."""
    low, high = parameter.bounds
    return _number(value) if parameter.log else high - low


def _moved(parameter: Parameter, value: Value, step: float) -> float:
    """A value moved by a share of its range on its own scale, at most to an end of it."""
    low, high = parameter.bounds
    start = min(max(_number(value), low), high)
    moved = start * (high / low) ** step if parameter.log else start + (high - low) * step
    return min(max(float(f"{moved:.{_DIGITS}g}"), low), high)


def _number(value: Value) -> float:
    assert isinstance(value, int | float)  # what has a derivative is a number
    return float(value)


def _sign(x: float) -> int:
    return (x > 0) - (x < 0)
