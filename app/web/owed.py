"""Answers that a connection owes without ASGI. Each stands where uvicorn keeps the current request: so what is
pipelined behind it waits, and a stop lets it finish.
"""

from abc import ABC, abstractmethod
from asyncio import AbstractEventLoop, Event
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from ..broker import Broker
from ..errors import PlainmqError
from ..message import Draft, Receipt
from . import shortcut

CREATED: Final = 201  # as a number: an enum's member is dear to look up, and dearer as a key


class Debtor(Protocol):
    """The connection."""

    broker: Broker
    loop: AbstractEventLoop

    def respond(self, owed: "Owed", status: int, head: bytes, body: bytes) -> None: ...

    def refuse(self, owed: "Owed", error: PlainmqError) -> None: ...


class Owed(ABC):
    scope: Final[Mapping[str, Any]] = {}
    found: shortcut.Found | None = None
    begun: float | None = None  # when that is to be told
    last = False  # nothing comes behind it

    def __init__(self, debtor: Debtor) -> None:
        self.debtor = debtor
        self.response_started = False
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = True
        self.message_event = Event()

    @abstractmethod
    def asked(self) -> tuple[str, bytes, int]:
        """The method, the target and the bytes of the body, for the log."""


class Short(Owed):
    """For a request that took a short cut. A connection has one at a time, and uses it again; a publish waits in it."""

    drafts: Sequence[Draft] = ()
    batch = False
    found: shortcut.Found

    def asked(self) -> tuple[str, bytes, int]:
        short = self.found.shortcut
        return short.method, short.path, self.found.length

    def accepted(self, receipt: Receipt, place: int) -> None:
        durability = self.debtor.broker.engine.durability
        count = len(self.drafts) if self.batch else None
        self.drafts = ()  # a connection that waits holds nothing
        self.debtor.respond(self, CREATED, *shortcut.accepted(receipt, place, durability, count))

    def refused(self, error: BaseException) -> None:
        if not isinstance(error, PlainmqError):
            context = {"message": "a publish was not answered: the log failed", "exception": error}
            self.debtor.loop.call_exception_handler(context)
            error = PlainmqError("the server failed; nobody knows whether the message was stored")
        self.drafts = ()
        self.debtor.refuse(self, error)


class Refusal(Owed):
    """For a request of which nothing is done, and behind which nothing comes. uvicorn runs it in its turn."""

    last = True

    def __init__(self, debtor: Debtor, error: PlainmqError, target: bytes) -> None:
        super().__init__(debtor)
        self.keep_alive = False
        self._target = target
        self._error = error

    def asked(self) -> tuple[str, bytes, int]:
        return "", self._target, 0  # the method may not be known

    async def run_asgi(self, _app: object) -> None:
        self.answer()

    def answer(self) -> None:
        self.debtor.refuse(self, self._error)
