"""One hyperparameter: its value, choices or range, and the arithmetic of ranges; before study and space.

All that knows about scales, steps and legal values is here, so that sampling, narrowing and recognising
equal configurations agree. It draws nothing but uniform values and knows no other hyperparameter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from lanewise.fields import EXACT, Condition, Flag, Number, Scalar, Section, Value, shown, word, wrong

_ON_GRID = 1e-6  # how far from a whole number of steps a value may lie, in steps


class Parameter(Section):
    """One hyperparameter: a fixed `value`, or `choices`, or a range `low` to `high`.

    Short forms in the study file: `lr: 0.01` fixes it, `width: [32, 64]` lists its choices.
    """

    value: Scalar | None = Field(default=None, description="The fixed value.")
    choices: tuple[Scalar, ...] | None = Field(default=None, description="The values to choose from.")
    low: Number | None = Field(default=None, description="Smallest value of the range, included.")
    high: Number | None = Field(default=None, description="Largest value of the range, included.")
    log: Flag = Field(default=False, description="Search on a logarithmic scale; needs low > 0.")
    step: Number | None = Field(
        default=None, description="Distance between values; high - low is a multiple of it."
    )
    when: Condition = Field(
        default={}, description="Active only while each named hyperparameter has (one of) the given value(s)."
    )

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, data: Any) -> Any:
        if isinstance(data, list | tuple):
            return {"choices": list(data)}
        if isinstance(data, str | int | float | bool):
            return {"value": data}
        if data is None:
            raise wrong(
                "empty", "a value, a list of choices or a range", "write for example {low: 1e-4, high: 1e-1}"
            )
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Parameter:
        ranged = self.low is not None or self.high is not None
        forms = {"value": self.value is not None, "choices": self.choices is not None, "low and high": ranged}
        given = [form for form, there in forms.items() if there]
        if len(given) != 1:
            raise wrong(
                " and ".join(given) + " together" if given else "neither a value nor choices nor a range",
                "exactly one of value, choices, or low with high", "keep one of them",
            )  # fmt: skip
        if not ranged and (self.log or self.step is not None):
            raise wrong(
                "`log` or `step` without a range",
                "they belong to low and high",
                "remove them, or give low and high",
            )
        if self.choices is not None:
            _check_choices(self.choices)
        if ranged:
            _check_range(self.low, self.high, self.log, self.step)
        if any(not values for values in self.when.values()):
            raise wrong(
                "`when` with an empty list", "at least one value", "list the values at which it is active"
            )
        return self

    @property
    def kind(self) -> Literal["fixed", "choice", "int", "float"]:
        """`int` only when low, high and step (if given) are whole numbers."""
        if self.value is not None:
            return "fixed"
        if self.choices is not None:
            return "choice"
        return "int" if all(isinstance(x, int | None) for x in (self.low, self.high, self.step)) else "float"

    @property
    def listed(self) -> tuple[Value, ...]:
        """The values of a fixed parameter or of choices; empty for a range."""
        return (self.value,) if self.value is not None else self.choices or ()

    @property
    def bounds(self) -> tuple[float, float]:
        """Low and high of a range; both the value where narrowing left only one."""
        if self.low is not None and self.high is not None:
            return self.low, self.high
        assert isinstance(self.value, int | float)  # only ranges have bounds, or were narrowed to a value
        return self.value, self.value

    def legal(self, value: Value) -> bool:
        """Whether the parameter may have this value."""
        if self.listed:
            return any(same(value, one) for one in self.listed)
        if isinstance(value, bool | str) or not math.isfinite(value):
            return False
        low, high = self.bounds
        if not self._step:
            return low <= value <= high
        steps = (value - low) / self._step
        return abs(steps - round(steps)) < _ON_GRID and 0 <= round(steps) <= self._steps

    def canonical(self, value: Value) -> Value:
        """The one spelling of a value: 1 and 1.0, or 0.3 and 0.1 + 0.2 on a grid, are one configuration."""
        if self.listed:
            return next((one for one in self.listed if same(one, value)), value)
        return self.nearest(value) if self.legal(value) else value

    def nearest(self, value: Value) -> Value:
        """The legal value nearest to `value`; the first choice or the middle where none is near."""
        text = isinstance(value, bool | str)
        if self.listed:
            found = [one for one in self.listed if same(one, value)]
            if found or text or any(isinstance(one, bool | str) for one in self.listed):
                return (found or self.listed)[0]
            return min(self.listed, key=lambda one: abs(float(one) - float(value)))
        if isinstance(value, bool | str):
            return self.middle()
        low, high = self.bounds
        clipped = min(max(value, low), high)
        return (
            self._at(round((clipped - low) / self._step)) if self._step else float(clipped) + 0.0
        )  # never -0.0

    def middle(self) -> Value:
        """The middle of a range on its scale; the first of choices."""
        if self.listed:
            return self.listed[0]
        low, high = self.bounds
        return self.nearest(math.sqrt(low) * math.sqrt(high) if self.log else low + (high - low) / 2)

    def draw(self, rng: np.random.Generator) -> Value:
        """One uniform draw on the parameter's scale, from exactly one call of the generator."""
        return self.at(float(rng.random()))

    def at(self, share: float) -> Value:
        """The value at a place on the parameter's scale; equal parts of 0..1 hold equally many values.

        Args:
            share: The place, at least 0 and below 1.
        """
        if self.listed:
            return self.listed[_part(share, len(self.listed))]
        low, high = self.bounds
        if self.log:  # a whole number gets the part of the scale that rounds to it
            by = 0.5 if self._step else 0.0
            first, last = math.log(low - by), math.log(high + by)
            return self.nearest(math.exp(first + share * (last - first)))
        if self._step:
            return self._at(_part(share, self._steps + 1))
        return self.nearest(low + share * (high - low))

    def share(self, value: Value) -> float:
        """The place of a number on the scale of a range, 0..1: the middle of the part that `at` gives the value.

        Args:
            value: A legal value of the range.
        """
        low, high = self.bounds
        number = float(value)
        if self.log:
            by = 0.5 if self._step else 0.0
            first, last = math.log(low - by), math.log(high + by)
            return (math.log(number) - first) / (last - first)
        if self._step:
            return (round((number - low) / self._step) + 0.5) / (self._steps + 1)
        return (number - low) / (high - low)

    def every(self) -> Iterator[Value] | None:
        """Every value it may have, in order, where these are listed, stepped or whole; None where they are dense."""
        if self.listed:
            return iter(self.listed)
        return map(self._at, range(self._steps + 1)) if self._step else None

    def spread(self, points: int) -> tuple[Value, ...]:
        """Values of a range evenly apart on its scale, both ends among them: a logarithmic one is geometric.

        Args:
            points: How many, at least 2; steps and whole numbers that coincide count once.
        """
        low, high = self.bounds
        last = points - 1
        inner = (
            low * math.exp(i / last * (math.log(high) - math.log(low)))
            if self.log
            else low + i / last * (high - low)
            for i in range(1, last)
        )
        # As short as a user would write it: 1e-3, not 0.0009999999999999998.
        return tuple(
            dict.fromkeys(self.nearest(v) for v in (low, *(float(f"{v:.12g}") for v in inner), high))
        )

    def cut(self, low: float, high: float) -> Parameter | None:
        """The part of this range in low..high, to whole steps; a fixed value if one is left, else None."""
        first, last = self.bounds
        low, high = max(low, first), min(high, last)
        if self._step and low <= high:
            low = self._at(math.ceil((low - first) / self._step - _ON_GRID))
            high = self._at(math.floor((high - first) / self._step + _ON_GRID))
        if not low <= high:  # also where one is NaN
            return None
        if low == high:
            return Parameter(value=low, when=self.when)
        return self.model_copy(update={"low": low, "high": high})

    def text(self) -> str:
        """What it may be, in words."""
        if self.value is not None:
            return f"always {word(self.value)}"
        return "one of " + ", ".join(map(word, self.listed)) if self.listed else f"{self.low} .. {self.high}"

    @property
    def _step(self) -> float:
        """Distance between values; 0 where they are dense."""
        return self.step or (1 if self.kind == "int" else 0)

    @property
    def _steps(self) -> int:
        """Steps from low to high."""
        low, high = self.bounds
        return round((high - low) / self._step)

    def _at(self, count: int) -> float:
        """The value `count` steps above low, as short as a user would write it: 0.1 + 2 * 0.1 is 0.3."""
        low, high = self.bounds
        if count <= 0 or count >= self._steps:
            return low if count <= 0 else high
        value = low + count * self._step
        short = float(f"{value:.15g}")
        return short if self.kind == "float" and abs(short - value) < _ON_GRID / 2 * self._step else value


def same(a: Value, b: Value) -> bool:
    """Equality that keeps true and 1 apart."""
    return isinstance(a, bool) == isinstance(b, bool) and a == b


def _part(share: float, parts: int) -> int:
    """Which of equal parts of 0..1 `share` < 1 is in; the product may round up to `parts`."""
    return min(int(share * parts), parts - 1)


def _check_choices(choices: tuple[Value, ...]) -> None:
    if not choices:
        raise wrong("no choices", "at least one choice", "list the values, for example [32, 64]")
    for position, choice in enumerate(choices):
        if choice in choices[:position]:  # == on purpose: 1, 1.0 and true would be one value to Python
            raise wrong(
                f"the choice {shown(choice)} appears twice",
                "choices differ, and 1, 1.0 and true are equal",
                "remove one of the two",
            )


def _check_range(low: float | None, high: float | None, log: bool, step: float | None) -> None:
    if low is None or high is None:
        missing = "low" if low is None else "high"
        raise wrong(f"a range without `{missing}`", "a range needs low and high", f"add `{missing}`")
    if not low < high:
        raise wrong(
            f"low is {low!r} and high is {high!r}", "low < high", "swap them, or write a single value"
        )
    if not math.isfinite(high - low):
        raise wrong(
            f"the range {low!r} .. {high!r} is too wide", "high - low fits a float", "write smaller bounds"
        )
    if log and not low > 0:
        raise wrong(
            f"a logarithmic range from {low!r}", "log: true needs low > 0", "raise low above 0, or remove log"
        )
    if step is None:
        return
    if log:
        raise wrong("`step` together with `log`", "a logarithmic range has no step", "remove one of the two")
    steps = (high - low) / step if step > 0 else math.nan
    if not (steps > 0.5 and abs(steps - round(steps)) < 1e-6 and steps <= EXACT):
        raise wrong(
            f"the step {step!r} does not lead from {low!r} to {high!r}",
            "step > 0, and high - low is a multiple of it",
            "change step or high",
        )  # fmt: skip
