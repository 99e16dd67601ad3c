"""Batches: what this node appends as one entry, and who waits for it."""

from asyncio import Future
from collections.abc import Callable, Iterator, Sequence
from secrets import token_bytes
from typing import Any, Final

from ...log.commands.command import Command, Effect
from ...log.commands.groups import Settle
from ...log.commands.tick import Tick
from ...messages.lease import Action

LINK_BYTES: Final = 8  # random bytes that name an entry
_RETURNS: Final = {Action.RETURN, Action.EXCUSE}  # of leases whose consumer has gone
MAX_COMMANDS: Final = 1_000  # in one entry: each node carries them out in one go
MAX_BYTES: Final = 1 << 20  # of bodies in one entry, unless one command has more: others wait while it is sent


def new_link() -> bytes:
    """The name of an entry."""
    return token_bytes(LINK_BYTES)


class Batch:
    """Commands, each with the future of its result, and the questions to answer right behind them. Who asked before
    a command must not see what it did, so no command is added behind a question."""

    def __init__(self) -> None:
        self.link = new_link()
        self.commands: list[Command] = []
        self._body_bytes = 0
        self.futures: list[Future[Any]] = []
        self.asked_at = 0.0  # on the loop's clock: the first question
        self.questions: list[Callable[[], None]] = []
        self.results: Sequence[Any] | None = None  # once it is carried out here
        self.confirmed = False  # by the journal
        self.sent_at = 0.0
        self.refused = False  # whoever waits was told an error

    @property
    def is_closed(self) -> bool:
        return bool(self.questions) or len(self.commands) >= MAX_COMMANDS or self._body_bytes >= MAX_BYTES

    def add(self, command: Command, future: "Future[Any]") -> None:
        self.commands.append(command)
        self._body_bytes += command.body_bytes
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
        self.refuse(error)
        self.ask()
        return [(command, future) for command, future in self._with_futures() if must_be_done(command)]

    def refuse(self, error: Exception) -> None:
        """Whoever waits for a result gets the error."""
        self.refused = True
        for command, future in self._with_futures():
            if not (isinstance(command, Tick) or must_be_done(command) or future.done()):
                future.set_exception(error)

    def _with_futures(self) -> "Iterator[tuple[Command, Future[Any]]]":
        return zip(self.commands, self.futures, strict=True)

    def ask(self) -> None:
        questions, self.questions = self.questions, []
        for ask in questions:
            ask()


def lost_batch(commands: Sequence[Command]) -> Batch:
    """One that is known no more: whoever waited was told so."""
    batch = Batch()
    batch.commands += commands
    batch.refused = True
    return batch


def must_be_done(command: Command) -> bool:
    """Whether it records what has happened: then it waits for a journal that is away, and nobody is told an error. A
    Tick does not: the engine makes another one."""
    if isinstance(command, Settle):
        return command.action in _RETURNS
    return isinstance(command, Effect) and not isinstance(command, Tick)
