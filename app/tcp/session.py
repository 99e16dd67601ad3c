"""A session of the line port: it carries out one client's commands, and owns its subscriptions and its grant."""

from asyncio import CancelledError, Future, TimerHandle, ensure_future, get_running_loop
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from ..access.authenticator import MAX_TOKEN, Authenticator
from ..access.grant import ANONYMOUS, UNAUTHENTICATED, UNAUTHORISED, Grant, Right, authorise
from ..broker.broker import Broker
from ..errors import MessageTooLarge, PlainmqError, Unauthorised
from ..fanout.subscriber import Subscriber
from ..limits.quotas import client_of, holder_name
from ..messages.byte_order_mark import BYTE_ORDER_MARK
from ..messages.lease import Outcome
from ..messages.message import Draft
from ..messages.position import Gap
from ..messages.topic import TopicFilter
from .connection import MAX_PENDING, TLS, Connection, Session
from .dialects.base import Dialect
from .dialects.commands import (
    Auth,
    Batchable,
    Command,
    Help,
    Ping,
    Quit,
    Send,
    Settle,
    Subscribe,
    Unsubscribe,
    Work,
)
from .dialects.detect import BY_START, TEXT, choose
from .dialects.operator_words import OPERATOR_HELP
from .dialects.text import HELP
from .operations import OPERATIONS
from .permissions import check
from .replies import PublishReplies
from .subscriptions import Subscriptions

MAX_AUTH_LINE: Final = MAX_TOKEN + 200  # bytes of a line with a token, in any dialect
CLOSE_TIMEOUT: Final = 2.0  # seconds to receive the last bytes, for a client whose time is over


class LineSession(Session):
    __slots__ = (
        "_auth_timeout", "_authenticator", "_batch", "_batch_dialect", "_batch_key", "_broker", "_client",
        "_connection", "_dialect", "_goodbye", "_grant", "_max_message", "_partial_size", "_subscriptions", "_timer",
        "_unflushed_topic",
    )  # fmt: skip

    _connection: Connection

    def __init__(self, broker: Broker, max_message: int, authenticator: Authenticator, auth_timeout: float) -> None:
        """`max_message` is in bytes, `auth_timeout` in seconds."""
        self._broker = broker
        self._max_message = int(max_message)
        self._authenticator = authenticator
        self._auth_timeout = auth_timeout
        self._grant = UNAUTHENTICATED
        self._client: str | None = None  # whose quotas it uses
        self._timer: TimerHandle | None = None  # ends the session
        self._subscriptions = Subscriptions()
        self._dialect: Dialect = TEXT  # of the last line
        self._batch: list[Any] = []  # commands with the same batch key and dialect, not carried out yet
        self._batch_key: object = None
        self._batch_dialect: Dialect = TEXT
        self._unflushed_topic: str | None = None  # the topic of the last sends, which may wait in the batcher
        self._partial_size = 0  # bytes of a partial line, as counted in the server's budget
        self._goodbye = b""

    # Called by the connection

    def opened(self, connection: Connection) -> None:
        self._connection = connection
        self._client = client_of(None, connection.host("peername"))
        if self._authenticator.open or self._authenticator.is_anonymous_allowed(connection.host("sockname")):
            self._grant = ANONYMOUS
        else:
            self._end_in(self._auth_timeout, "unauthorised")

    def partial_line(self, partial: bytearray) -> None:
        if partial and partial.startswith(TLS):  # a TLS handshake need not contain an LF
            self._connection.set_end_reason("another_protocol")
            self._connection.close()
        if len(partial) != self._partial_size:
            self._count_partial(len(partial))

    def handle(self, line: bytes) -> None:
        dialect = BY_START.get(line[:2])
        if dialect is None:
            line = line.removeprefix(BYTE_ORDER_MARK)
            dialect = self._choose(line)
        if dialect is None:
            return
        self._dialect = dialect
        try:
            if len(line) > (max_line := self._connection.max_line):
                raise MessageTooLarge(f"a line has at most {max_line} bytes; the rest of this one was skipped")
            if self._grant is UNAUTHENTICATED and len(line) > MAX_AUTH_LINE:  # parsing costs more than a refusal
                raise Unauthorised(UNAUTHORISED)
            command = dialect.parse(line)
            if self._grant is not ANONYMOUS:  # authorise() checks this too, but per line it is cheaper here
                check(self._grant, command)
            if isinstance(command, Batchable):
                self._add_to_batch(dialect, command)
            else:
                self._carry_out(dialect, command, line)
        except PlainmqError as error:
            self.flush_batch()
            self._refuse(dialect.of_reply(line), error)

    def pause(self) -> None:
        self._subscriptions.pause()

    def resume(self) -> None:
        self._subscriptions.resume(self._connection)

    def ending(self, reason: str) -> None:
        if self._subscriptions.has(TEXT):
            self._goodbye = TEXT.bye(reason)

    def closing(self) -> None:
        self._subscriptions.remove_all()
        self._write(self._goodbye)

    def closed(self) -> None:
        self._count_partial(0)
        self._end_in(None)
        self._authenticator.unregister(self)
        self._subscriptions.detach()

    # Lines

    def _count_partial(self, nbytes: int) -> None:
        try:
            self._broker.inbound.grow(self._partial_size, nbytes)
            self._partial_size = nbytes
        except PlainmqError as error:
            self._write(self._refusal(TEXT, error))
            self._connection.close()

    def _choose(self, line: bytes) -> Dialect | None:
        """The line's dialect. None: the line is blank, or belongs to another protocol; then the connection closes."""
        if not line or line.isspace():
            return None
        dialect = choose(line)
        if dialect is None:
            self._connection.set_end_reason("another_protocol")
            self._connection.close()
        return dialect

    def _carry_out(self, dialect: Dialect, command: Command, line: bytes) -> None:
        self.flush_batch()
        if self._connection.pending_lines:
            self._connection.wait_for_replies(line)  # only batches may overlap while the log is busy
        else:
            _HANDLERS[type(command)](self, dialect, command)

    # Replies

    def _write(self, data: bytes) -> None:
        if data:
            self._connection.write(data)

    def _reply(self, dialect: Dialect, future: "Future[Any]", success: Callable[[Any], bytes], lines: int = 1) -> None:
        """Reply to so many lines when the future is done. `success` makes the reply to all of them from its result."""
        self._connection.in_turn(partial(self._write_outcome, dialect, future, success, lines), future, lines)

    def _write_outcome(
        self, dialect: Dialect, future: "Future[Any]", success: Callable[[Any], bytes], lines: int
    ) -> None:
        try:
            data = success(future.result())
        except (Exception, CancelledError) as error:
            data = self._failure(dialect, error, lines)
        self._write(data)

    def _failure(self, dialect: Dialect, error: BaseException, lines: int) -> bytes:
        """The replies to so many lines that failed. A fault of the server is reported."""
        if not isinstance(error, PlainmqError):
            context = {"message": "a line was not answered: the log failed", "exception": error}
            get_running_loop().call_exception_handler(context)
            error = PlainmqError("the server failed; nobody knows whether this was done")
        return self._refusal(dialect, error, lines)

    def _refuse(self, dialect: Dialect, error: PlainmqError) -> None:
        self._connection.in_turn(partial(self._write, self._refusal(dialect, error)))

    def _refusal(self, dialect: Dialect, error: PlainmqError, lines: int = 1) -> bytes:
        self._broker.counters.refusals[error.code] += lines
        return dialect.error(error) * lines

    # Sends and acks. Consecutive ones are batched: the log accepts many together at half the cost.

    def _add_to_batch(self, dialect: Dialect, command: Batchable) -> None:
        if type(command) is Send and (size := len(command.data)) > self._max_message:
            raise MessageTooLarge(f"a message has at most {self._max_message} bytes; this one has {size}")
        batch_key = command.batch_key
        if not self._batch or batch_key != self._batch_key or dialect is not self._batch_dialect:
            self.flush_batch()
            if self._unflushed_topic is not None and batch_key != self._unflushed_topic:
                self._broker.batcher.flush_topic(self._unflushed_topic)  # earlier sends are published first
                self._unflushed_topic = None
            self._batch_key, self._batch_dialect = batch_key, dialect
        self._batch.append(command)
        if len(self._batch) + self._connection.pending_lines >= MAX_PENDING:
            self.flush_batch()

    def flush_batch(self) -> None:
        if self._batch:
            commands, self._batch = self._batch, []
            _HANDLERS[type(commands[0])](self, self._batch_dialect, commands)

    def _send(self, dialect: Dialect, commands: list[Send]) -> None:
        try:
            self._broker.quotas.count_publishes(self._client, len(commands))
        except PlainmqError as error:
            if len(commands) == 1:
                self._refuse(dialect, error)
            else:  # the quota may have room for some of them
                for command in commands:
                    self._send(dialect, [command])
        else:
            drafts = [Draft(command.envelope, (command.data,)) for command in commands]
            replies = PublishReplies(self._connection, dialect, drafts, self._failure)
            self._unflushed_topic = drafts[0].envelope.topic
            self._connection.add_reply(replies)
            self._broker.batcher.add(replies)

    def _settle(self, dialect: Dialect, commands: list[Settle]) -> None:
        first = commands[0]
        ids = [command.id for command in commands]
        outcomes = self._broker.settle(first.topic, first.group, first.action, ids, first.seconds, reason=first.reason)
        self._reply(dialect, outcomes, partial(_settled, dialect, commands), len(commands))

    # Other commands

    def _subscribe(self, dialect: Dialect, command: Subscribe) -> None:
        key = command.topic, None
        self._subscriptions.make_room(key)
        subscriber = self._broker.subscribe(
            TopicFilter([command.topic]), dialect.encoder, self._connection, client=self._client, who=self._who
        )
        self._subscriptions.add(key, subscriber)
        begin = partial(self._begin, subscriber, dialect.success(f"subscribed to {command.topic}"))
        self._connection.in_turn(begin, subscriber.prepare(command.start))
        self._connection.wait_for_replies()

    def _begin(self, subscriber: Subscriber, success: bytes) -> None:
        """The first messages leave in one write with the reply; without any, the subscriber is live now."""
        self._write(success)
        subscriber.begin()

    def _work(self, dialect: Dialect, command: Work) -> None:
        joined = self._broker.changes.join(command.topic, command.group, self._grant.may_make_group(command.topic))
        self._reply(dialect, joined, partial(self._start_consumer, dialect, command))
        self._connection.wait_for_replies()

    def _start_consumer(self, dialect: Dialect, command: Work, gap: Gap | None) -> bytes:
        """The group exists: start a push consumer. Leases follow the reply."""
        key = command.topic, command.group
        self._subscriptions.make_room(key)
        consumer = self._broker.push(
            *key,
            dialect.lease_encoder,
            self._connection,
            credit=command.credit,
            lease=command.lease,
            client=self._client,
            holder=self._who,
        )
        self._subscriptions.add(key, consumer)
        consumer.start()  # it receives nothing in this turn
        return dialect.success(f"working on {command.topic} as {command.group}") + consumer.gap_frame(gap)

    @property
    def _who(self) -> str:
        client = self._connection.client
        return holder_name(self._connection.token, client and client[0])

    def _unsubscribe(self, dialect: Dialect, command: Unsubscribe) -> None:
        self._subscriptions.remove((command.topic, command.group))
        group = f" as {command.group}" if command.group else ""
        self._write(dialect.success(f"unsubscribed from {command.topic}{group}"))

    def _ping(self, dialect: Dialect, _command: Ping) -> None:
        self._write(dialect.success("pong"))

    def _help(self, dialect: Dialect, command: Help) -> None:
        self._write(dialect.success(OPERATOR_HELP if command.operations else HELP))

    def _operate(self, dialect: Dialect, command: Command) -> None:
        answer = OPERATIONS[type(command)](self._broker, self._grant, command)
        replies = dialect.for_operators
        self._reply(replies, ensure_future(answer), replies.answer)
        self._connection.wait_for_replies()

    def _quit(self, _dialect: Dialect, _command: Quit) -> None:
        self._connection.set_end_reason("quit")
        self._connection.close()

    # Authentication, and the time limit that follows from it

    def _auth(self, dialect: Dialect, command: Auth) -> None:
        """A later token replaces an earlier one, if it permits the subscriptions that exist."""
        grant = self._authenticate(command.token)
        for topic, group in self._subscriptions.keys:
            authorise(grant, Right.SUBSCRIBE if group is None else Right.CONSUME, topic)
        self._grant, self._connection.token = grant, grant.name
        if grant is not ANONYMOUS:
            self._client = client_of(grant.name, None)
        self._end_in(self._authenticator.seconds_left(grant), "expired")
        self._authenticator.unregister(self)
        self._authenticator.register(self, grant)
        self._write(dialect.success(f"you are {grant.name}"))

    def _authenticate(self, token: str) -> Grant:
        if self._grant is ANONYMOUS:
            return ANONYMOUS
        return self._authenticator.authenticate(token, self._connection.host("peername") or "")

    def revoke(self) -> None:
        """Called by the authenticator."""
        self._end_in(0, "revoked")

    def _end_in(self, seconds: float | None, reason: str = "") -> None:
        """End the session after so many seconds, in place of an earlier time limit. None: no limit."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = get_running_loop().call_later(seconds, self._end, reason)

    def _end(self, reason: str) -> None:
        self._connection.set_end_reason(reason)
        self._timer = get_running_loop().call_later(CLOSE_TIMEOUT, self._connection.abort)
        self._goodbye = self._dialect.bye(reason)
        self._subscriptions.excuse()
        self._connection.close()


def _settled(dialect: Dialect, commands: Sequence[Settle], outcomes: Sequence[Outcome]) -> bytes:
    return b"".join(map(dialect.settled, commands, outcomes))


_HANDLERS: Final[dict[type[Command], Callable[[LineSession, Dialect, Any], None]]] = {
    Subscribe: LineSession._subscribe,
    Work: LineSession._work,
    Unsubscribe: LineSession._unsubscribe,
    Send: LineSession._send,
    Settle: LineSession._settle,
    Auth: LineSession._auth,
    Ping: LineSession._ping,
    Help: LineSession._help,
    Quit: LineSession._quit,
    **dict.fromkeys(OPERATIONS, LineSession._operate),
}
