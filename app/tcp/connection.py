"""One peer of the line port: its lines in, answers in the order of its lines, and all of it in bounded memory.

    socket ──▶ Lines ──▶ backlog ──▶ handle() ──▶ due: answers that wait for the log ──▶ cork ──▶ socket
      ▲                                                                                             │
      └──── not read while the peer takes no answers (pause_writing), or MAX_DUE of them wait ◀─────┘

A peer may send as much as it likes before it reads; it is read on as soon as it does. A read may bring a hundred
thousand lines: they are done in turns, between which others are served.
"""

from abc import ABC, abstractmethod
from asyncio import BaseTransport, Future, Protocol, Transport, get_running_loop
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, cast
from typing import Protocol as Interface

from ..net.progress import ALL, Progress, progress
from ..net.sockets import acknowledged
from .replies import Answer, Due
from .splitter import LineSplitter
from .telnet import IAC, Telnet

TLS: Final = b"\x16\x03"  # how a TLS hello starts
WRITE: Final = 64 << 10  # bytes: so much is gathered into one write, and may wait in the transport before we stop
TURN: Final = 0.01  # seconds of lines at a time: so much later does everybody else get their turn
LATE: Final = 0.001  # seconds of them after which nothing more is read in the same turn
MAX_DUE: Final = 1_000  # lines that may wait for the log: several commits' worth


class Owner(Interface):
    """Who counts connections and ends them."""

    def opened(self, connection: "Connection") -> None: ...

    def closed(self, connection: "Connection") -> None: ...


class Connection(ABC, Protocol):
    __slots__ = (
        "_backlog", "_called", "_corked", "_due", "_ended", "_last", "_late", "_left", "_lines", "_out", "_owed",
        "_paused", "_reading", "_said_all", "_size", "_telnet", "_transport", "_unended", "_waiting", "begun", "client",
        "max_line", "owner", "received", "token", "why", "write",
    )  # fmt: skip

    write: Callable[[bytes], None]
    """Sends bytes; they leave in one write with all else that is sent while lines are handled."""

    def __init__(self, max_line: int) -> None:
        self.max_line = int(max_line)  # a setting would show itself as `1536KiB`
        self.owner: Owner | None = None
        self.client: tuple[str, int] | None = None
        self.token: str | None = None  # the name of the one it came in with, for the log
        self.begun = monotonic()
        self.received = 0  # lines
        self.why = ""  # it ends
        self._lines = LineSplitter(max_line)
        self._telnet: Telnet | None = None  # what the client speaks beside its lines, once it has
        # Lists, since an idle connection holds them too and an empty deque takes 600 bytes:
        self._backlog: list[bytes] = []  # the next line is the last one
        self._due: list[Due] = []  # in order; short: pop(0) is cheap
        self._owed = 0  # lines whose answers are in there
        self._out: list[bytes] = []
        self._size = 0  # bytes in there
        self._corked = False
        self._paused = False  # the peer does not take what is written
        self._waiting = False  # the next line must not be handled before all that is due has been said
        self._reading = True
        self._ended = False  # no more lines will come
        self._left = False  # the peer: whether it still reads, nobody knows
        self._said_all = False  # it was closed in good order: what was written is on its way
        self._last: Progress | None = None  # when the connection was lost
        self._unended = False  # the last of them came without its LF
        self._late = False  # this turn has taken long enough
        self._called = False  # the next one comes soon

    @abstractmethod
    def handle(self, line: bytes) -> None:
        """Do what the line says; it is without its LF. One longer than `max_line` was cut short."""

    def catch_up(self) -> None:
        """Do what was put off: no more lines are handled in this turn."""

    def hold(self, nbytes: int) -> None:
        """So many bytes of a line that is not whole are kept."""

    def leave(self) -> None:
        """Say the last things: the connection is about to be closed."""

    def in_turn(self, act: Callable[[], None], future: Future[Any] | None = None, lines: int = 1) -> None:
        """Act now, or once the future is done and all that is due before has been said. It answers so many lines."""
        if self._due or not (future is None or future.done()):
            self.owe(Answer(act, future, lines))
            if future is not None:
                future.add_done_callback(self.told)
        else:
            act()

    def owe(self, due: Due) -> None:
        """Say it when all that is due before has been said; told() tells that it can be."""
        self._due.append(due)
        self._owed += due.lines

    def told(self, *_: object) -> None:
        """Something that is due can be said. No line is handled in it: others are told next, and come first."""
        if self._due and not self._corked:
            self._in_one_write(self._say_what_is_due)
            self._go_on()

    @property
    def ending(self) -> bytes:
        """What followed the line that is handled: its LF, or nothing where the stream ended."""
        return b"" if self._unended and not self._backlog else b"\n"

    @property
    def busy(self) -> bool:
        """Whether earlier lines still wait for their answer."""
        return bool(self._due)

    def wait(self, line: bytes | None = None) -> None:
        """Handle no more lines before all that is due has been said; then this one first."""
        self._waiting = self.busy
        if line is not None:
            self._backlog.append(line)

    def finish(self) -> None:
        """Take no more lines; answer those that are here, then close."""
        self._ended = True
        self._work()

    def close(self) -> None:
        """Take no more lines, forget those that are here, and close once what is due has been said."""
        self._backlog.clear()
        self.finish()

    def because(self, why: str) -> None:
        """It is about to end for that reason, unless there has been one."""
        self.why = self.why or why

    def abort(self) -> None:
        self.because("cut_off")
        self._said_all = False
        self._transport.abort()

    def unsent(self) -> int:
        """Bytes that were written and not taken yet, less all that was ever taken where only that is known (TLS)."""
        return self._transport.get_write_buffer_size() - acknowledged(self._transport)

    def progress(self) -> Progress:
        """How far what was written has come."""
        if self._last is not None:
            return self._last
        known = progress(self._transport)
        return known._replace(waiting=known.waiting + self._size, open=known.open or self._said_all)

    # What the transport calls

    def connection_made(self, transport: BaseTransport) -> None:
        self._transport = cast(Transport, transport)
        peer = transport.get_extra_info("peername")
        self.client = None if peer is None else peer[:2]
        self._transport.set_write_buffer_limits(WRITE)
        self.write = self._transport.write
        if self.owner is not None:
            self.owner.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        if self._telnet is not None or (IAC in data and not data.startswith(TLS)):
            data = self._without_telnet(data)
        self._queue(self._lines.feed(data))
        self.hold(len(self._lines.rest))
        self._work()

    def _without_telnet(self, data: bytes) -> bytes:
        """The client is answered first: after Ctrl-C, telnet shows nothing that comes before."""
        self._telnet = self._telnet or Telnet()
        text, answers = self._telnet.feed(data)
        if answers:
            self.write(answers)
        return text

    def eof_received(self) -> bool:
        """A peer that will send no more still gets its answers, also to a last line without an LF."""
        self._left = True
        if not self._ended:
            lines = self._lines.feed(self._telnet.rest) if self._telnet else []
            last = self._lines.end()
            self._unended = bool(last)
            self._queue(lines + last)
        self.finish()
        return self._transport.can_write_eof()  # TLS cannot be closed on one side: it closes now

    def pause_writing(self) -> None:
        self._paused = True
        self._regulate()

    def resume_writing(self) -> None:
        self._paused = False
        self._work()

    def connection_lost(self, exc: Exception | None) -> None:
        self._last = ALL if self._said_all and exc is None else progress(self._transport).last
        self._ended = True
        self._backlog.clear()
        for due in self._due:
            due.forget()
        self._due.clear()
        self._owed = 0
        if self.owner is not None:
            self.owner.closed(self)

    # One turn

    def _queue(self, lines: list[bytes]) -> None:
        self.received += len(lines)
        lines.reverse()
        self._backlog[:0] = lines

    def _work(self) -> None:
        """Go on as far as the peer and the log let us."""
        if not self._corked:
            self._in_one_write(self._do_lines)
            self._go_on()

    def _do_lines(self) -> None:
        self._say_what_is_due()
        begun = monotonic()
        end = begun + TURN
        while self._backlog and not self._full:
            self.handle(self._backlog.pop())
            if monotonic() > end:
                break
        self.catch_up()
        self._say_what_is_due()  # what came of it by now
        self._late = monotonic() - begun > LATE

    def _in_one_write(self, act: Callable[[], None]) -> None:
        """What is said meanwhile leaves together."""
        self._corked = True
        self.write = self._gather
        try:
            act()
        except BaseException:
            self.because("failed")
            self.abort()  # half of a line was done: nothing more can be right on this connection
            raise
        finally:
            self._corked = False
            self.write = self._transport.write
            self._flush()

    def _go_on(self) -> None:
        """Soon, if there are lines that can be done; others get their turn before."""
        if (self._late or (self._backlog and not self._full)) and not self._called:
            self._called = True
            get_running_loop().call_soon(self._called_soon)
        self._regulate()

    def _called_soon(self) -> None:
        self._called = False
        self._work()

    @property
    def _full(self) -> bool:
        return self._paused or self._waiting or self._owed >= MAX_DUE

    def _say_what_is_due(self) -> None:
        due = self._due
        while due and not self._paused and due[0].done():
            first = due.pop(0)
            self._owed -= first.lines
            first.say()
        self._waiting = self._waiting and bool(due)

    def _gather(self, data: bytes) -> None:
        self._out.append(data)
        self._size += len(data)
        if self._size > WRITE:
            self._flush()

    def _flush(self) -> None:
        if self._out:
            data = b"".join(self._out)
            self._out.clear()
            self._size = 0
            self._transport.write(data)

    def _regulate(self) -> None:
        """Read when there is room for more lines; close when the last has been answered."""
        if self._transport.is_closing() or self._corked:
            return
        if self._ended and not self._backlog and not self._due:
            self.leave()
            self._said_all = not self._left
            self._transport.close()
            return
        reading = not (self._ended or self._backlog or self._full or self._late)
        if reading != self._reading:
            self._reading = reading
            (self._transport.resume_reading if reading else self._transport.pause_reading)()
