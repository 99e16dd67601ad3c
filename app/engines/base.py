"""The seam behind which the log lives: an ordered log, and nothing about who listens to it.

The promise, the same for every engine and held by one test suite: every message accepted anywhere reaches `deliver`
once, in log order, and only when it is as durable as its receipt says. Verbs answer with futures, because a disk or
another machine may have to be asked; an engine that knows the answer returns a future that is done.
"""

from abc import ABC, abstractmethod
from asyncio import Future, get_running_loop
from collections.abc import Callable, Mapping, Sequence
from typing import Self, TypeVar

from ..log import Page
from ..message import Draft, Id, Message, Receipt, Scheduled
from ..position import Cursor, Start
from ..topic import Selector
from ..topiclog import TopicState

T = TypeVar("T")

Deliver = Callable[[Message], int]
"""Hands a message to who listens here and answers how many; for delivery=one, whether anybody took it (1 or 0)."""


class Engine(ABC):
    durability: str
    """What a receipt promises: `memory`, `disk` or `redis:<policy>`."""

    epoch: str
    """One life of the log. It changes whenever an acknowledged message may be gone."""

    @abstractmethod
    async def open(self, deliver: Deliver) -> Self:
        """Make the log ready; from now on what it accepts goes to `deliver`."""

    @abstractmethod
    async def close(self) -> None:
        """Give everything back. Idempotent."""

    @abstractmethod
    def append(self, drafts: Sequence[Draft]) -> Future[Receipt | Scheduled]:
        """Accept drafts for one topic and with the same key and delay, all or none. Those with a delay are Scheduled.
        Fails with MessageTooLarge, TopicLimit or LogFull."""

    @abstractmethod
    def locate(self, selector: Selector, start: Start) -> Future[Cursor]:
        """The cursor from which a reader of the selection finds what it asked for."""

    @abstractmethod
    def read(
        self, selector: Selector, cursor: Cursor, *, upto: int, limit: int, octets: int, take: bool
    ) -> Future[Page]:
        """A page of the log after the cursor, to place `upto`, at most `limit` messages and about `octets`
        bytes of bodies; with `take`, also what was kept for one subscriber, which is thereby handed out."""

    @abstractmethod
    def get(self, id: Id) -> Future[Message | None]:
        """The retained message with this id."""

    @abstractmethod
    def topics(self, selector: Selector | None) -> Future[list[TopicState]]:
        """The topics that are selected (None: every one), by name."""

    @abstractmethod
    def topic(self, name: str) -> Future[TopicState]:
        """Fails with NotFound."""

    @abstractmethod
    def configure(self, name: str, changes: Mapping[str, float]) -> Future[None]:
        """Change fields of a topic's Retention; the topic is made if there is none. Fails with TopicLimit."""

    @abstractmethod
    def drop(self, name: str) -> Future[None]:
        """Forget a topic and its messages; who resumes there is told of a gap. Fails with NotFound."""


def done(value: T) -> Future[T]:
    """A future that has its result."""
    future: Future[T] = get_running_loop().create_future()
    future.set_result(value)
    return future


def attempt(action: Callable[[], T]) -> Future[T]:
    """A future that has the action's result or its error."""
    future: Future[T] = get_running_loop().create_future()
    try:
        future.set_result(action())
    except Exception as error:
        future.set_exception(error)
    return future
