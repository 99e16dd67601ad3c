"""Batches: what this node appends as one entry, and who waits for it."""

from asyncio import Future
from collections.abc import Callable, Sequence
from secrets import token_bytes
from typing import Any, Final

from ...log.commands.command import Command, Effect

LINK_BYTES: Final = 8  # random bytes that name an entry
MAX_COMMANDS: Final = 1_000  # in one entry: each node carries them out in one go


def new_link() -> bytes:
    """The name of an entry."""
    return token_bytes(LINK_BYTES)


class Batch:
    """Commands, each with the future of its result, and the questions to answer right behind them. Who asked before
    a command must not see what it did, so no command is added behind a question."""

    def __init__(self) -> None:
        self.link = new_link()
        self.commands: list[Command] = []
        self.futures: list[Future[Any]] = []
        self.questions: list[Callable[[], None]] = []
        self.results: Sequence[Any] | None = None  # once it is carried out here
        self.confirmed = False  # by the journal

    @property
    def is_closed(self) -> bool:
        return bool(self.questions) or len(self.commands) >= MAX_COMMANDS

    def add(self, command: Command, future: "Future[Any]") -> None:
        self.commands.append(command)
        self.futures.append(future)

    def answer(self) -> None:
        """Set the results, once there are some and the journal has confirmed the entry."""
        if self.results is None or not self.confirmed:
            return
        for future, result in zip(self.futures, self.results, strict=True):
            if future.done():
                continue
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)

    def fail(self, error: Exception) -> "list[tuple[Command, Future[Any]]]":
        """Nobody knows whether it was carried out, or it was not. Returns the effects, which cannot fail."""
        effects: list[tuple[Command, Future[Any]]] = []
        for command, future in zip(self.commands, self.futures, strict=True):
            if isinstance(command, Effect):
                effects.append((command, future))
            elif not future.done():
                future.set_exception(error)
        self.ask()
        return effects

    def ask(self) -> None:
        questions, self.questions = self.questions, []
        for ask in questions:
            ask()
