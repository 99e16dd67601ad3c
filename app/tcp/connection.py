"""A connection of the line port: it cuts bytes into lines, gives them to its session, and writes the replies in the
order of the lines. Memory is bounded:

    socket ──▶ LineSplitter ──▶ backlog ──▶ session.handle() ──▶ pending replies ──▶ cork ──▶ socket
      ▲                                                                                         │
      └── paused while the socket is full (pause_writing), or MAX_PENDING lines wait for a reply ◀──┘

A client may pipeline any number of lines before it reads. One read may bring 100,000 lines: they are handled in several
turns of the event loop, and other clients are served in between.
"""

from asyncio import BaseTransport, Future, Protocol, Transport, get_running_loop
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, cast
from typing import Protocol as Interface

from ..net.progress import ALL, Progress, last_progress, progress
from ..net.sockets import acknowledged
from .replies import FutureReply, PendingReply
from .splitter import LineSplitter
from .telnet import IAC, NUL, Telnet

TLS: Final = b"\x16\x03"  # the first bytes of a TLS handshake
MAX_WRITE_BYTES: Final = 64 << 10  # joined writes are flushed beyond this; also the high-water mark of the transport
TURN: Final = 0.01  # seconds of lines at a time, then other clients are served
LONG_TURN: Final = 0.001  # seconds of lines after which the connection is not read before the next turn
MAX_PENDING: Final = 1_000  # lines that may wait for their reply: several commits' worth


class Session:
    """What a connection calls. Here, each method does nothing."""

    __slots__ = ()

    def opened(self, connection: "Connection") -> None:
        """The client has connected."""

    def handle(self, line: bytes) -> None:
        """A line, without its LF. A line longer than `max_line` is cut, but still longer than that."""

    def flush_batch(self) -> None:
        """Carry out the commands that were batched: no more lines are handled in this turn."""

    def partial_line(self, partial: bytearray) -> None:
        """The connection holds the beginning of a line."""

    def pause(self) -> None:
        """The socket is full."""

    def resume(self) -> None:
        """The socket has drained."""

    def ending(self, reason: str) -> None:
        """A subscription ends the connection: all that was written is sent first."""

    def closing(self) -> None:
        """All lines are answered, and the connection is about to close: write the last bytes."""

    def closed(self) -> None:
        """The connection is gone."""


CLOSED: Final = Session()
"""The session of a closed connection: connection and session no longer refer to each other."""


class Owner(Interface):
    """The owner of connections counts them, and ends them."""

    def opened(self, connection: "Connection") -> None: ...

    def closed(self, connection: "Connection") -> None: ...


class Connection(Protocol):
    """A connection owns its session, and is the sink of the session's subscriptions."""

    __slots__ = (
        "_backlog", "_blocked", "_closed_cleanly", "_corked", "_final_progress", "_half_closed", "_input_ended",
        "_long_turn", "_out", "_out_size", "_reading", "_refilled", "_remained", "_replies", "_scheduled",
        "_session", "_splitter", "_telnet", "_transport", "_unterminated", "_watched", "client", "end_reason",
        "lines_received", "max_line", "owner", "paused", "pending_lines", "started", "token", "write",
    )  # fmt: skip

    write: Callable[[bytes], None]
    """Send bytes. While lines are handled, they are joined to one write."""

    def __init__(self, session: Session, max_line: int) -> None:
        """`max_line` is in bytes."""
        self.max_line = int(max_line)  # a plain number in sentences: str() of a setting is `1536KiB`
        self.owner: Owner | None = None
        self.client: tuple[str, int] | None = None
        self.token: str | None = None  # the name of the client's token, for the access log
        self.started = monotonic()
        self.lines_received = 0
        self.end_reason = ""
        self.paused = False  # the socket is full
        self.pending_lines = 0  # that wait for their reply
        self._session = session
        self._splitter = LineSplitter(max_line)
        self._telnet: Telnet | None = None  # from the client's first IAC or NUL on
        # Lists, because idle connections have them too, and an empty deque takes 600 bytes:
        self._backlog: list[bytes] = []  # lines that are not handled yet; the next one is the last
        self._replies: list[PendingReply] = []  # in order; few, so that pop(0) is cheap
        self._out: list[bytes] = []  # while corked
        self._out_size = 0  # in bytes
        self._corked = False
        self._blocked = False  # no line is handled before all pending replies are written
        self._reading = True
        self._input_ended = False  # no more lines are accepted
        self._half_closed = False  # the client sends no more; whether it still reads is unknown
        self._closed_cleanly = False  # the system delivers what was written
        self._watched = False  # somebody has asked for the progress
        self._final_progress: Progress | None = None  # when the connection was lost
        self._unterminated = False  # the last line came without its LF
        self._long_turn = False  # this turn took longer than LONG_TURN
        self._scheduled = False  # the next turn is
        self._remained = 0  # bytes in the transport when the socket last drained
        self._refilled = 0  # bytes that were added between a drained and a full socket, over all such times

    def host(self, end: str) -> str | None:
        """The address of the client (`peername`) or of the server (`sockname`); None if it is unknown."""
        address = self._transport.get_extra_info(end)
        return address[0] if isinstance(address, tuple) else None

    # Replies

    def in_turn(self, reply: Callable[[], None], future: Future[Any] | None = None, lines: int = 1) -> None:
        """Call `reply` once the future is done and all earlier replies are written. It answers so many lines."""
        if self._replies or not (future is None or future.done()):
            self.add_reply(FutureReply(reply, future, lines))
            if future is not None:
                future.add_done_callback(self.reply_ready)
        else:
            reply()

    def add_reply(self, reply: PendingReply) -> None:
        """Write this reply after all earlier ones. Call reply_ready() when it is ready."""
        self._replies.append(reply)
        self.pending_lines += reply.lines

    def reply_ready(self, *_: object) -> None:
        """A pending reply is ready. No line is handled here: the replies of other clients come first."""
        if self._replies and not self._corked:
            self._in_one_write(self._write_replies)
            self._schedule()

    def wait_for_replies(self, line: bytes | None = None) -> None:
        """Handle no line before all pending replies are written; then this one first."""
        self._blocked = bool(self._replies)
        if line is not None:
            self._backlog.append(line)

    @property
    def line_end(self) -> bytes:
        """What ended the line that is handled: an LF, or nothing at the end of the stream."""
        return b"" if self._unterminated and not self._backlog else b"\n"

    # The end

    def set_end_reason(self, reason: str) -> None:
        """Why the connection ends. The first reason counts."""
        self.end_reason = self.end_reason or reason

    def finish(self) -> None:
        """Accept no more lines, answer those in the backlog, then close."""
        self._input_ended = True
        self._work()

    def close(self) -> None:
        """Accept no more lines, drop the backlog, and close after the pending replies."""
        self._backlog.clear()
        self.finish()

    # As a sink

    def pending(self) -> int:
        """Unsent bytes, minus those that were added after the socket had drained. The number falls whenever the socket
        accepts bytes: a subscriber that fills the socket again does not make another one look stalled."""
        unsent = self._transport.get_write_buffer_size() - acknowledged(self._transport)
        return unsent - self._refilled

    def progress(self) -> Progress:
        if self._final_progress is not None:
            return self._final_progress
        self._watched = True
        known = progress(self._transport)
        return known._replace(waiting=known.waiting + self._out_size, open=known.open or self._closed_cleanly)

    def end(self, reason: str) -> None:
        self._session.ending(reason)
        self.set_end_reason(reason)
        self.finish()

    def abort(self) -> None:
        self.set_end_reason("cut_off")
        self._closed_cleanly = False
        self._transport.abort()

    # Called by the transport

    def connection_made(self, transport: BaseTransport) -> None:
        self._transport = cast(Transport, transport)
        peer = transport.get_extra_info("peername")
        self.client = None if peer is None else peer[:2]
        self._transport.set_write_buffer_limits(MAX_WRITE_BYTES)
        self.write = self._transport.write
        self._session.opened(self)
        if self.owner is not None:
            self.owner.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._input_ended:
            return
        if self._telnet is not None or ((IAC in data or NUL in data) and not data.startswith(TLS)):
            data = self._without_telnet(data)
        self._queue(self._splitter.feed(data))
        self._session.partial_line(self._splitter.partial)
        self._work()

    def _without_telnet(self, data: bytes) -> bytes:
        """The text of the data. Telnet commands are answered at once: after Ctrl-C, a telnet client discards what
        arrives before that answer."""
        self._telnet = self._telnet or Telnet()
        text, answers = self._telnet.feed(data, self._splitter.partial)
        if answers:
            self.write(answers)
        return text

    def eof_received(self) -> bool:
        """A client that has closed its sending side still gets its replies, also to a last line without an LF."""
        self._half_closed = True
        if not self._input_ended:
            lines = self._splitter.feed(self._telnet.partial) if self._telnet else []
            last = self._splitter.end()
            self._unterminated = bool(last)
            self._queue(lines + last)
        self.finish()
        return self._transport.can_write_eof()  # TLS cannot be closed on one side: False closes it now

    def pause_writing(self) -> None:
        self._refilled += self._transport.get_write_buffer_size() - self._remained
        self.paused = True
        self._regulate()
        self._session.pause()

    def resume_writing(self) -> None:
        self._remained = self._transport.get_write_buffer_size()
        self.paused = False
        self._work()
        self._session.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._session.closed()
        self._session = CLOSED
        lost = not self._closed_cleanly or exc is not None
        self._final_progress = last_progress(self._transport, self._watched) if lost else ALL
        self._input_ended = True
        self._backlog.clear()
        for reply in self._replies:
            reply.discard()
        self._replies.clear()
        self.pending_lines = 0
        if self.owner is not None:
            self.owner.closed(self)

    # One turn

    def _queue(self, lines: list[bytes]) -> None:
        self.lines_received += len(lines)
        lines.reverse()
        self._backlog[:0] = lines

    def _work(self) -> None:
        """Handle lines, as far as the client and the log allow."""
        if not self._corked:
            self._in_one_write(self._handle_lines)
            self._schedule()

    def _handle_lines(self) -> None:
        self._write_replies()
        backlog, session = self._backlog, self._session
        begun = monotonic()
        end = begun + TURN
        while backlog and not self._full:
            session.handle(backlog.pop())
            if monotonic() > end:
                break
        session.flush_batch()
        self._write_replies()  # those that are ready by now
        self._long_turn = monotonic() - begun > LONG_TURN

    def _in_one_write(self, act: Callable[[], None]) -> None:
        """All that `act` writes is sent together."""
        self._corked = True
        self.write = self._gather
        try:
            act()
        except BaseException:
            self.set_end_reason("failed")
            self.abort()  # a line may be half done: no later reply could be trusted
            raise
        finally:
            self._corked = False
            self.write = self._transport.write
            self._flush()

    def _schedule(self) -> None:
        """Take another turn if lines can be handled; other clients are served first."""
        if (self._long_turn or (self._backlog and not self._full)) and not self._scheduled:
            self._scheduled = True
            get_running_loop().call_soon(self._next_turn)
        self._regulate()

    def _next_turn(self) -> None:
        self._scheduled = False
        self._work()

    @property
    def _full(self) -> bool:
        return self.paused or self._blocked or self.pending_lines >= MAX_PENDING

    def _write_replies(self) -> None:
        """Write the replies that are ready, in order."""
        replies = self._replies
        while replies and not self.paused and replies[0].ready():
            first = replies.pop(0)
            self.pending_lines -= first.lines
            first.write()
        self._blocked = self._blocked and bool(replies)

    def _gather(self, data: bytes) -> None:
        self._out.append(data)
        self._out_size += len(data)
        if self._out_size > MAX_WRITE_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._out:
            data = b"".join(self._out)
            self._out.clear()
            self._out_size = 0
            self._transport.write(data)

    def _regulate(self) -> None:
        """Read while more lines can be handled; close after the last reply."""
        if self._transport.is_closing() or self._corked:
            return
        if self._input_ended and not self._backlog and not self._replies:
            self._session.closing()
            self._closed_cleanly = not self._half_closed
            self._transport.close()
            return
        reading = not (self._input_ended or self._backlog or self._full or self._long_turn)
        if reading != self._reading:
            self._reading = reading
            (self._transport.resume_reading if reading else self._transport.pause_reading)()
