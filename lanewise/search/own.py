"""A strategy the user wrote, named by its import path; stands between it and the loop, which trusts what it gets.

It is loaded as a network is (lanewise.user_code). What it does to this process is undone, what it raises or
answers wrongly ends the search with one error. It knows no other strategy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lanewise.errors import ModelError
from lanewise.process_guard import unchanged_process
from lanewise.pruning import Direction
from lanewise.search.records import Strategy, Told
from lanewise.space import Config, Space
from lanewise.study import Study
from lanewise.user_code import load_object, traceback_text


def load_strategy(target: str, search_path: Sequence[str | Path]) -> Callable[..., Any]:
    """The class, or a function that makes a strategy.

    Args:
        target: "pkg.module:Class".
        search_path: Folders to look in after the installed packages.

    Raises:
        ModelError: It cannot be imported, or cannot be called.
    """
    factory = load_object(target, search_path=search_path)
    if not callable(factory):
        raise ModelError(
            "this is not a strategy", where=target, given=f"it is a {type(factory).__name__}",
            rule="a class whose constructor takes (study, space, direction)", remedy="name the class itself",
        )  # fmt: skip
    return factory  # type: ignore[no-any-return]  # callable, and OwnStrategy checks what it makes


class OwnStrategy:
    """A user's strategy, held to the contract of `records.Strategy` as far as one answer can show it.

    Args:
        name: As the study says it, for errors.
        factory: What `load_strategy` gave.

    Raises:
        ModelError: The constructor raised, or what it made has no `ask`.
    """

    def __init__(
        self, name: str, factory: Callable[..., Any], study: Study, space: Space, direction: Direction
    ) -> None:
        self._name, self._space = name, space
        with unchanged_process():
            try:
                self._strategy: Strategy = factory(study, space, direction)
            except (Exception, SystemExit) as error:
                raise ModelError(
                    f"making the strategy raised {type(error).__name__}", where=name,
                    given=traceback_text(error), rule="its constructor takes (study, space, direction)",
                ) from error  # fmt: skip
        if not callable(getattr(self._strategy, "ask", None)):
            raise ModelError(
                "the strategy has no `ask`", where=name, remedy="write ask(self, number, history)"
            )

    def ask(self, number: int, history: Sequence[Told]) -> Config | None:
        """The strategy's answer, in the space's order and spelling.

        Raises:
            ModelError: It raised, or its answer is not a legal and complete configuration.
        """
        with unchanged_process():
            try:
                answer = self._strategy.ask(number, tuple(history))
            except (Exception, SystemExit) as error:
                raise ModelError(
                    f"the strategy raised {type(error).__name__} when asked for trial {number}",
                    where=self._name, given=traceback_text(error),
                    remedy="try it with lanewise.testing.check_strategy",
                ) from error  # fmt: skip
        if answer is None:
            return None
        if not isinstance(answer, Mapping) or not self._space.contains(answer):
            raise ModelError(
                f"the strategy's answer for trial {number} is no configuration of the space",
                where=self._name, given=repr(answer)[:300],
                rule="a value inside its range for every hyperparameter that is active",
                remedy="let space.complete() and space.active() make it",
            )  # fmt: skip
        return self._space.active(answer)
