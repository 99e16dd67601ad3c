"""What a client is told in its turn, as soon as it is known."""

from asyncio import Future
from collections.abc import Callable
from typing import Any, Protocol


class Due(Protocol):
    @property
    def lines(self) -> int:
        """How many it answers."""

    def done(self) -> bool:
        """Whether it can be said."""

    def say(self) -> None: ...

    def forget(self) -> None:
        """Nobody is left to be told."""


class Answer:
    """`act` says it, once the future is done; None: at once."""

    __slots__ = ("_act", "_future", "lines")

    def __init__(self, act: Callable[[], None], future: "Future[Any] | None", lines: int) -> None:
        self._act = act
        self._future = future
        self.lines = lines

    def done(self) -> bool:
        return self._future is None or self._future.done()

    def say(self) -> None:
        self._act()

    def forget(self) -> None:
        if self._future is not None:
            self._future.add_done_callback(_look_away)


def _look_away(future: "Future[Any]") -> None:
    """It does not matter how it failed, and the loop shall not tell of it."""
    if not future.cancelled():
        future.exception()
