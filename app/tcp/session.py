"""One client of the line port: its commands done, its subscriptions held, its messages written."""

from asyncio import BaseTransport, CancelledError, Future, TimerHandle, get_running_loop
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from ..access.authenticator import MAX_TOKEN, Authenticator
from ..access.grant import ANONYMOUS, UNAUTHENTICATED, UNAUTHORISED, Grant, Right, authorise
from ..broker.broker import Broker
from ..consumers.push import PushConsumer
from ..errors import MessageTooLarge, PlainmqError, SubscriberLimit, Unauthorised
from ..fanout.cohort import Subscriber
from ..fanout.encoder import Encoder, LeaseEncoder
from ..limits.quotas import client_of
from ..messages.lease import Outcome
from ..messages.message import Draft
from ..messages.position import Gap
from ..messages.topic import TopicFilter
from .connection import MAX_DUE, TLS, Connection
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
    Topics,
    Unsubscribe,
    Work,
)
from .dialects.detect import USUAL, WORDS, choose
from .dialects.text import HELP, describe
from .permissions import check
from .replies import PublishReplies

MAX_SUBSCRIPTIONS: Final = 1_000  # of one connection, so that a single client cannot take every subscriber's place
LOGIN: Final = MAX_TOKEN + 200  # bytes of a line that shows a token, whatever the dialect
LINGER: Final = 2.0  # seconds that a client whose time is over has to take its last bytes
Place = tuple[str, str | None]  # a topic or pattern, and the group whose work it is, if any


class LineSession(Connection):
    """A client, and the sink of its readers and workers. Answers come in the order of the lines; a topic has one
    subscription, and so has each of its groups."""

    __slots__ = (
        "_auth_timeout", "_broker", "_client", "_dialect", "_farewell", "_grant", "_held", "_keeper", "_kin",
        "_max_message", "_refilled", "_remained", "_sent_to", "_speaks", "_takers", "_timer", "_together",
    )  # fmt: skip

    def __init__(
        self, broker: Broker, max_line: int, max_message: int, authenticator: Authenticator, auth_timeout: float
    ) -> None:
        """`max_line` and `max_message` are in bytes, `auth_timeout` in seconds."""
        super().__init__(max_line)
        self._broker = broker
        self._max_message = int(max_message)
        self._keeper = authenticator
        self._auth_timeout = auth_timeout
        self._grant = UNAUTHENTICATED
        self._timer: TimerHandle | None = None  # to the end of the client's time
        self._takers: dict[Place, Subscriber | PushConsumer] = {}
        self._together: list[Any] = []  # commands of one kin that came together, not done yet
        self._kin: object = None
        self._dialect: Dialect = WORDS  # they came in
        self._sent_to: str | None = None  # the topic of the last sends, which may still be in the batcher
        self._speaks: Dialect = WORDS  # the last line's
        self._farewell = b""
        self._client: str | None = None  # in quotas
        self._held = 0  # bytes of a line that is not whole
        self._remained = 0  # bytes that were left in the transport when it was last found empty enough
        self._refilled = 0  # bytes written to it between that and the next time it was full, all times together

    # Whose it is, and for how long

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self._client = client_of(None, _host(transport, "peername"))
        if self._keeper.open or self._keeper.is_anonymous_allowed(_host(transport, "sockname")):
            self._grant = ANONYMOUS
        else:
            self._leave_in(self._auth_timeout, "unauthorised")

    def _leave_in(self, seconds: float | None, reason: str) -> None:
        """None: no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = get_running_loop().call_later(seconds, self._time_is_over, reason)

    def revoke(self) -> None:
        self._leave_in(0, "revoked")

    def _time_is_over(self, reason: str) -> None:
        self.because(reason)
        self._timer = get_running_loop().call_later(LINGER, self.abort)
        self._farewell = self._speaks.bye(reason)
        for taker in self._takers.values():
            if isinstance(taker, PushConsumer):
                taker.excuse()
        self.close()

    # The line's way

    def hold(self, nbytes: int) -> None:
        if nbytes and self._lines.rest.startswith(TLS):  # a hello need not contain an LF
            self.because("another_protocol")
            self.close()
        if nbytes != self._held:
            try:
                self._broker.inbound.grow(self._held, nbytes)
                self._held = nbytes
            except PlainmqError as error:
                self.say(self._refusal(WORDS, error))
                self.close()

    def handle(self, line: bytes) -> None:
        dialect = USUAL.get(line[:2]) or self._choose(line)
        if dialect is None:
            return
        self._speaks = dialect
        try:
            if len(line) > self.max_line:
                raise MessageTooLarge(f"a line has at most {self.max_line} bytes; the rest of this one was skipped")
            if self._grant is UNAUTHENTICATED and len(line) > LOGIN:  # to read it would cost more than to refuse it
                raise Unauthorised(UNAUTHORISED)
            command = dialect.parse(line)
            if self._grant is not ANONYMOUS:  # as authorise() knows too, but this is once for each line
                check(self._grant, command)
            if isinstance(command, Batchable):
                self._put_off(dialect, command)
            else:
                self._do(dialect, command, line)
        except PlainmqError as error:
            self.catch_up()
            self._refuse(dialect, error)

    def _choose(self, line: bytes) -> Dialect | None:
        """None when there is nothing to do for it."""
        if not line or line.isspace():
            return None
        dialect = choose(line)
        if dialect is None:
            self.because("another_protocol")
            self.close()
        return dialect

    def _do(self, dialect: Dialect, command: Command, line: bytes) -> None:
        self.catch_up()
        if self.busy:
            self.wait(line)  # only what travels together may go on while the log is busy: it can do that at once
        else:
            _HANDLERS[type(command)](self, dialect, command)

    def _answer(self, dialect: Dialect, future: "Future[Any]", success: Callable[[Any], bytes], lines: int = 1) -> None:
        """Answer what comes of the future, when its turn has come. So many lines asked; a success answers them all."""
        self.in_turn(partial(self._say_outcome, dialect, future, success, lines), future, lines)

    def say(self, answer: bytes) -> None:
        if answer:
            self.write(answer)

    def _say_outcome(
        self, dialect: Dialect, future: "Future[Any]", success: Callable[[Any], bytes], lines: int
    ) -> None:
        try:
            answer = success(future.result())
        except (Exception, CancelledError) as error:
            answer = self.failure(dialect, error, lines)
        self.say(answer)

    def failure(self, dialect: Dialect, error: BaseException, lines: int) -> bytes:
        if not isinstance(error, PlainmqError):
            context = {"message": "a line was not answered: the log failed", "exception": error}
            get_running_loop().call_exception_handler(context)
            error = PlainmqError("the server failed; nobody knows whether this was done")
        return self._refusal(dialect, error, lines)

    def _refuse(self, dialect: Dialect, error: PlainmqError, lines: int = 1) -> None:
        """Answer so many lines in their turn."""
        self.in_turn(partial(self.say, self._refusal(dialect, error, lines)), lines=lines)

    def _refusal(self, dialect: Dialect, error: PlainmqError, lines: int = 1) -> bytes:
        self._broker.counters.refusals[error.code] += lines
        return dialect.error(error) * lines

    # Sends and acks. Those that came together travel together: the log takes many at once for half the work.

    def _put_off(self, dialect: Dialect, command: Batchable) -> None:
        if type(command) is Send and (size := len(command.data)) > self._max_message:
            raise MessageTooLarge(f"a message has at most {self._max_message} bytes; this one has {size}")
        batch_key = command.batch_key
        if not self._together or batch_key != self._kin or dialect is not self._dialect:
            self.catch_up()
            if (
                self._sent_to is not None and batch_key != self._sent_to
            ):  # what was sent is published before this is done
                self._broker.batcher.flush_topic(self._sent_to)
                self._sent_to = None
            self._kin, self._dialect = batch_key, dialect
        self._together.append(command)
        if len(self._together) + self._owed >= MAX_DUE:
            self.catch_up()

    def catch_up(self) -> None:
        if self._together:
            commands, self._together = self._together, []
            _HANDLERS[type(commands[0])](self, self._dialect, commands)

    def _send(self, dialect: Dialect, commands: list[Send]) -> None:
        try:
            self._broker.quotas.publish(self._client, len(commands))
        except PlainmqError as error:
            if len(commands) == 1:
                self._refuse(dialect, error)
            else:  # some of them may be within the client's share
                for command in commands:
                    self._send(dialect, [command])
        else:
            sends = PublishReplies(self, dialect, [Draft(command.envelope, (command.data,)) for command in commands])
            self._sent_to = sends.drafts[0].envelope.topic
            self.owe(sends)
            self._broker.batcher.add(sends)

    def _settle(self, dialect: Dialect, commands: list[Settle]) -> None:
        one = commands[0]
        ids = [command.id for command in commands]
        outcomes = self._broker.settle(one.topic, one.group, one.action, ids, one.seconds)
        self._answer(dialect, outcomes, partial(_settled, dialect, commands), len(commands))

    # Commands

    def _subscribe(self, dialect: Dialect, command: Subscribe) -> None:
        place = command.topic, None
        self._make_room(place)
        reader = self._broker.subscribe(TopicFilter([command.topic]), dialect.form, self, client=self._client)
        self._takers[place] = reader
        self.say(dialect.success(f"subscribed to {command.topic}"))
        reader.start(command.start)

    def _join(self, dialect: Dialect, command: Work) -> None:
        joined = self._broker.join(command.topic, command.group, self._grant.may_make_group(command.topic))
        self._answer(dialect, joined, lambda gap: self._begin(dialect, command, gap))
        self.wait()

    def _begin(self, dialect: Dialect, command: Work, gap: Gap | None) -> bytes:
        """The group is there: its worker gets something as soon as the answer was said."""
        place = command.topic, command.group
        self._make_room(place)
        worker = self._broker.push(
            *place, dialect.lease_form, self, credit=command.credit, lease=command.lease, client=self._client
        )
        self._takers[place] = worker
        worker.start()  # it takes nothing in this turn
        return dialect.success(f"working on {command.topic} as {command.group}") + worker.gap_frame(gap)

    def _unsubscribe(self, dialect: Dialect, command: Unsubscribe) -> None:
        self._forget((command.topic, command.group))
        as_whom = f" as {command.group}" if command.group else ""
        self.say(dialect.success(f"unsubscribed from {command.topic}{as_whom}"))

    def _auth(self, dialect: Dialect, command: Auth) -> None:
        """A later token takes the place of an earlier one, if it is good for what the client has subscribed to."""
        grant = self._admitted(command.token)
        for topic, group in self._takers:
            authorise(grant, Right.SUBSCRIBE if group is None else Right.CONSUME, topic)
        self._grant, self.token = grant, grant.name
        if grant is not ANONYMOUS:
            self._client = client_of(grant.name, None)
        self._leave_in(self._keeper.seconds_left(grant), "expired")
        self._keeper.unregister(self)
        self._keeper.register(self, grant)
        self.say(dialect.success(f"you are {grant.name}"))

    def _admitted(self, token: str) -> Grant:
        if self._grant is ANONYMOUS:
            return ANONYMOUS
        return self._keeper.authenticate(token, _host(self._transport, "peername") or "")

    def _topics(self, dialect: Dialect, _command: Topics) -> None:
        topics = get_running_loop().create_task(self._broker.topics())
        self._answer(dialect, topics, lambda topics: dialect.success(describe(topics)))
        self.wait()

    def _ping(self, dialect: Dialect, _command: Ping) -> None:
        self.say(dialect.success("pong"))

    def _help(self, dialect: Dialect, _command: Help) -> None:
        self.say(dialect.success(HELP))

    def _quit(self, _dialect: Dialect, _command: Quit) -> None:
        self.because("quit")
        self.close()

    # The readers' and workers' sink

    def pending(self) -> int:
        """Bytes the socket has not taken yet, less what was added whenever it had taken enough: so it falls as long as
        the socket takes anything, and one reader that fills it again does not make another look stalled."""
        return self.unsent() - self._refilled

    def pause_writing(self) -> None:
        self._refilled += self._transport.get_write_buffer_size() - self._remained
        super().pause_writing()
        for taker in self._takers.values():
            taker.pause()

    def resume_writing(self) -> None:
        self._remained = self._transport.get_write_buffer_size()
        super().resume_writing()
        for place, taker in tuple(self._takers.items()):
            if self._paused:
                break
            self._takers[place] = self._takers.pop(place)  # to the end: those that must wait come first next time
            taker.resume()

    def end(self, reason: str) -> None:
        if any(_form(taker) in _WORDS for taker in self._takers.values()):
            self._farewell = WORDS.bye(reason)
        self.because(reason)
        self.finish()

    def leave(self) -> None:
        for place in tuple(self._takers):
            self._forget(place)
        self.say(self._farewell)

    def connection_lost(self, exc: Exception | None) -> None:
        self.hold(0)
        self._leave_in(None, "")
        self._keeper.unregister(self)
        for taker in self._takers.values():
            taker.detach()
        self._takers.clear()
        super().connection_lost(exc)

    def _make_room(self, place: Place) -> None:
        """For a subscription, which takes the place of an earlier one. Raises SubscriberLimit."""
        self._forget(place)
        if len(self._takers) >= MAX_SUBSCRIPTIONS:
            raise SubscriberLimit(f"a connection has at most {MAX_SUBSCRIPTIONS} subscriptions")

    def _forget(self, place: Place) -> None:
        """End the subscription, if there is one; what was published before gets through, leases return."""
        if taker := self._takers.pop(place, None):
            if isinstance(taker, Subscriber):
                taker.cohort.flush()
            taker.detach()


def _host(transport: BaseTransport, which: str) -> str | None:
    """`peername` or `sockname`: the address of that end."""
    address = transport.get_extra_info(which)
    return address[0] if isinstance(address, tuple) else None


def _settled(dialect: Dialect, commands: Sequence[Settle], outcomes: Sequence[Outcome]) -> bytes:
    return b"".join(map(dialect.settled, commands, outcomes))


def _form(taker: Subscriber | PushConsumer) -> Encoder | LeaseEncoder:
    return taker.cohort.encoder if isinstance(taker, Subscriber) else taker.encoder


_WORDS: Final = (WORDS.form, WORDS.lease_form)
_HANDLERS: Final[dict[type[Command], Callable[[LineSession, Dialect, Any], None]]] = {
    Subscribe: LineSession._subscribe,
    Work: LineSession._join,
    Unsubscribe: LineSession._unsubscribe,
    Send: LineSession._send,
    Settle: LineSession._settle,
    Auth: LineSession._auth,
    Topics: LineSession._topics,
    Ping: LineSession._ping,
    Help: LineSession._help,
    Quit: LineSession._quit,
}
