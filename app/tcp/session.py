"""One client of the line port: its commands done, its subscriptions held, its messages written."""

from asyncio import CancelledError, Future, get_running_loop
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from ..broker import Broker
from ..cohort import Reader
from ..errors import MessageTooLarge, PlainmqError, SubscriberLimit
from ..message import Draft
from ..topic import Selector
from .connection import MAX_DUE, Connection
from .dialects import (
    HELP,
    WORDS,
    Command,
    Dialect,
    Help,
    Ping,
    Quit,
    Send,
    Subscribe,
    Topics,
    Unsubscribe,
    choose,
    describe,
)

TOGETHER: Final = 100  # sends that the log is given at once: more would gain nothing
MAX_SUBSCRIPTIONS: Final = 1_000  # of one connection, so that a single client cannot take every subscriber's place
_TLS: Final = b"\x16\x03"  # a TLS hello need not contain an LF, so it is known by how it starts


class LineSession(Connection):
    """A client, and the sink of its readers. Answers come in the order of the lines; a topic has one subscription."""

    __slots__ = ("_broker", "_dialect", "_drafts", "_farewell", "_max_message", "_readers", "_refilled", "_remained")

    def __init__(self, broker: Broker, max_line: int, max_message: int) -> None:
        """`max_line` and `max_message` are in bytes."""
        super().__init__(max_line)
        self._broker = broker
        self._max_message = int(max_message)
        self._readers: dict[str, Reader] = {}  # by topic or pattern
        self._drafts: list[Draft] = []  # sends to one topic that came together, not published yet
        self._dialect: Dialect = WORDS  # of those sends
        self._farewell = b""
        self._remained = 0  # bytes that were left in the transport when it was last found empty enough
        self._refilled = 0  # bytes written to it between that and the next time it was full, all times together

    # The line's way

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._lines.rest.startswith(_TLS):
            self.close()

    def handle(self, line: bytes) -> None:
        if not line or line.isspace():
            return
        dialect = choose(line)
        if dialect is None:
            self.close()
            return
        try:
            if len(line) > self.max_line:
                raise MessageTooLarge(f"a line has at most {self.max_line} bytes; the rest of this one was skipped")
            self._do(dialect, dialect.parse(line), line)
        except PlainmqError as error:
            self.settle()
            self.in_turn(partial(self._say, dialect.error(error)))

    def _do(self, dialect: Dialect, command: Command, line: bytes) -> None:
        if type(command) is Send:
            self._send(dialect, command.draft)
            return
        self.settle()
        if self.busy:
            self.wait(line)  # only sends may go on while the log is busy: they are what it can do at once
        else:
            _HANDLERS[type(command)](self, dialect, command)

    def _answer(self, dialect: Dialect, future: "Future[Any]", success: Callable[[Any], bytes]) -> None:
        """Answer what comes of the future, when its turn has come."""
        if future.done() and not self.busy:
            self._say_outcome(dialect, future, success)
        else:
            self.in_turn(partial(self._say_outcome, dialect, future, success), future)

    def _say(self, answer: bytes) -> None:
        if answer:
            self.write(answer)

    def _say_outcome(
        self, dialect: Dialect, future: "Future[Any]", success: Callable[[Any], bytes], times: int = 1
    ) -> None:
        """Say it once for each of the `times` lines that asked."""
        try:
            answer = success(future.result())
        except PlainmqError as error:
            answer = dialect.error(error)
        except (Exception, CancelledError) as error:
            context = {"message": "a line was not answered: the log failed", "exception": error}
            get_running_loop().call_exception_handler(context)
            answer = dialect.error(PlainmqError("the server failed; nobody knows whether this was done"))
        self._say(answer * times)

    # Sends. Those that came together travel together: the log takes many at once for half the work.

    def _send(self, dialect: Dialect, draft: Draft) -> None:
        size = len(draft.data)
        if size > self._max_message:
            raise MessageTooLarge(f"a message has at most {self._max_message} bytes; this one has {size}")
        drafts = self._drafts
        if drafts and (draft.topic != drafts[0].topic or dialect is not self._dialect):
            self.settle()
            drafts = self._drafts
        drafts.append(draft)
        self._dialect = dialect
        if dialect.tells_receipt or len(drafts) >= TOGETHER or len(drafts) + len(self._due) >= MAX_DUE:
            self.settle()

    def settle(self) -> None:
        if self._drafts:
            drafts, self._drafts = self._drafts, []
            self._publish(self._dialect, drafts)

    def _publish(self, dialect: Dialect, drafts: list[Draft]) -> None:
        """The log takes all of them or none; if it refuses them at once, each is tried by itself."""
        try:
            future = self._broker.publish(drafts)
        except PlainmqError as error:
            self.in_turn(partial(self._say, dialect.error(error) * len(drafts)))
            return
        if len(drafts) > 1 and _refused(future):
            for draft in drafts:
                self._publish(dialect, [draft])
        elif future.done() and not self.busy:
            self._say_outcome(dialect, future, dialect.sent, len(drafts))
        else:
            for _ in drafts:
                self._answer(dialect, future, dialect.sent)

    # Commands

    def _subscribe(self, dialect: Dialect, command: Subscribe) -> None:
        self._forget(command.topic)
        if len(self._readers) >= MAX_SUBSCRIPTIONS:
            raise SubscriberLimit(f"a connection has at most {MAX_SUBSCRIPTIONS} subscriptions")
        reader = self._broker.subscribe(Selector([command.topic]), dialect.form, self)
        self._readers[command.topic] = reader
        self._say(dialect.success(f"subscribed to {command.topic}"))
        reader.start(command.start)

    def _unsubscribe(self, dialect: Dialect, command: Unsubscribe) -> None:
        self._forget(command.topic)
        self._say(dialect.success(f"unsubscribed from {command.topic}"))

    def _topics(self, dialect: Dialect, _command: Topics) -> None:
        topics = get_running_loop().create_task(self._broker.topics())
        self._answer(dialect, topics, lambda topics: dialect.success(describe(topics)))
        self.wait()

    def _ping(self, dialect: Dialect, _command: Ping) -> None:
        self._say(dialect.success("pong"))

    def _help(self, dialect: Dialect, _command: Help) -> None:
        self._say(dialect.success(HELP))

    def _quit(self, _dialect: Dialect, _command: Quit) -> None:
        self.close()

    # The readers' sink

    def pending(self) -> int:
        """Bytes the socket has not taken yet, less what was added whenever it had taken enough: so it falls as long as
        the socket takes anything, and one reader that fills it again does not make another look stalled."""
        return self._transport.get_write_buffer_size() - self._refilled

    def pause_writing(self) -> None:
        self._refilled += self._transport.get_write_buffer_size() - self._remained
        super().pause_writing()
        for reader in self._readers.values():
            reader.pause()

    def resume_writing(self) -> None:
        self._remained = self._transport.get_write_buffer_size()
        super().resume_writing()
        for topic, reader in tuple(self._readers.items()):
            if self._paused:
                break
            self._readers[topic] = self._readers.pop(topic)  # to the end: those that must wait come first next time
            reader.resume()

    def end(self, reason: str) -> None:
        if any(reader.cohort.form is WORDS.form for reader in self._readers.values()):
            self._farewell = WORDS.bye(reason)
        self.finish()

    def leave(self) -> None:
        for topic in tuple(self._readers):
            self._forget(topic)
        self._say(self._farewell)

    def connection_lost(self, exc: Exception | None) -> None:
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        super().connection_lost(exc)

    def _forget(self, topic: str) -> None:
        """End the subscription, if there is one; what was published before gets through."""
        if reader := self._readers.pop(topic, None):
            reader.cohort.flush()
            reader.close()


def _refused(future: "Future[Any]") -> bool:
    return future.done() and not future.cancelled() and isinstance(future.exception(), PlainmqError)


_HANDLERS: Final[dict[type[Command], Callable[[LineSession, Dialect, Any], None]]] = {
    Subscribe: LineSession._subscribe,
    Unsubscribe: LineSession._unsubscribe,
    Topics: LineSession._topics,
    Ping: LineSession._ping,
    Help: LineSession._help,
    Quit: LineSession._quit,
}
