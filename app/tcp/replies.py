"""Pending replies: the replies of a line client are written in the order of its lines, and some wait for the log."""

from asyncio import Future
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ..errors import Refused
from ..messages.message import Draft, Receipt
from .dialects.base import Dialect


class PendingReply(Protocol):
    @property
    def lines(self) -> int:
        """The number of lines that it answers."""

    def ready(self) -> bool: ...

    def write(self) -> None:
        """Write it. It is ready, and all earlier replies are written."""

    def discard(self) -> None:
        """The client has disconnected."""


class FutureReply:
    """`write` is ready once the future is done; at once without a future."""

    __slots__ = ("_future", "lines", "write")

    def __init__(self, write: Callable[[], None], future: "Future[Any] | None", lines: int) -> None:
        self.write = write
        self._future = future
        self.lines = lines

    def ready(self) -> bool:
        return self._future is None or self._future.done()

    def discard(self) -> None:
        if self._future is not None:
            self._future.add_done_callback(_ignore_failure)


def _ignore_failure(future: "Future[Any]") -> None:
    """Retrieve the exception, or the loop would log it."""
    if not future.cancelled():
        future.exception()


class Connection(Protocol):
    """The publisher's connection."""

    write: Callable[[bytes], None]

    def reply_ready(self) -> None: ...

    def abort(self) -> None: ...


Failure = Callable[[Dialect, BaseException, int], bytes]  # the replies to so many lines that failed


class PublishReplies:
    """The replies to sends of one topic that were batched: a PendingPublish of the batcher, and a PendingReply."""

    __slots__ = ("_connection", "_data", "_dialect", "_failure", "drafts", "lines", "messages")

    def __init__(self, connection: Connection, dialect: Dialect, drafts: Sequence[Draft], failure: Failure) -> None:
        """Each draft is one line, and has one message."""
        self._connection = connection
        self._dialect = dialect
        self._failure = failure
        self._data: bytes | None = None
        self.drafts = drafts
        self.messages = self.lines = len(drafts)

    # As a PendingPublish

    def accepted(self, receipt: Receipt, start: int) -> None:
        self._set(self._dialect.sent(receipt, start, self.lines))

    def refused(self, error: BaseException) -> None:
        self._set(self._failure(self._dialect, error, self.lines))

    def partly_refused(self, outcomes: Sequence[Receipt | Refused]) -> None:
        self._set(b"".join(map(self._line, outcomes)))

    def _line(self, outcome: Receipt | Refused) -> bytes:
        if isinstance(outcome, Receipt):
            return self._dialect.sent(outcome, 0, 1)
        return self._failure(self._dialect, outcome, 1)

    def _set(self, data: bytes) -> None:
        self._data, self.drafts = data, ()  # the reply may wait for a long time: release the messages
        self._connection.reply_ready()

    def abort(self) -> None:
        self._connection.abort()

    # As a PendingReply

    def ready(self) -> bool:
        return self._data is not None

    def write(self) -> None:
        if self._data:
            self._connection.write(self._data)

    def discard(self) -> None:
        """The messages are published all the same."""
