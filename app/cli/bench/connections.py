"""Connections of a load, on raw sockets: subscribers count deliveries; publishers send, and read the answers."""

import os
import re
import socket
from array import array
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic_ns
from typing import Final, Protocol

import msgspec

from ...errors.wording import quoted
from .load import Load
from .wire_script import DIGITS, MARK, MIN_BODY, NUMBER, WireScript

LARGE_PUBLISH: Final = 1_000  # bytes a message: marks are so far apart that find() is faster than count()
ERROR_TIMEOUT: Final = 0.3  # seconds without data after which an error answer is complete
SEND_TIMEOUT: Final = 20.0  # seconds

_MARK_AND_DUE: Final = re.compile(rb"%c(\d{%d})" % (MARK, DIGITS))
_ERROR: Final = re.compile(rb'HTTP/1\.1 [45]\d\d|"success": ?[Ff]alse|^-ERR|^ERR ', re.MULTILINE)
_REASON: Final = re.compile(rb'"(?:detail|reason)": ?("(?:[^"\\]|\\.)*")|^(?:-ERR|ERR \w+) (.*)', re.MULTILINE)
_NO_TOKEN: Final = re.compile(rb"\AHTTP/1\.1 401|ERR unauthorised|needs a token")


def error_sentence(answer: bytes) -> str:
    """The server's error answer, as a sentence for the person who started the load."""
    if _NO_TOKEN.search(answer):
        return "the server asks for a token: give a valid one with --token or PLAINMQ_TOKEN"
    if match := _REASON.search(answer):
        return f"the server refuses: {msgspec.json.decode(match[1]) if match[1] else match[2].decode(errors='replace')}"
    return f"the server refuses: {quoted(answer.splitlines()[0], 200)}"


class ConnectionFailed(Exception):
    """A connection was refused, closed or answered with an error; the text is a sentence that says which."""


class Context(Protocol):
    """What the connections of a process share: its poll, and what was measured. Latencies are in nanoseconds."""

    load: Load
    script: WireScript
    buffer: bytearray
    delivered: int
    sampled: int  # subscribers that measure latencies
    latencies: "array[int]"  # of deliveries
    answer_latencies: "array[int]"
    last_latencies: dict[int, int]  # the time a message was due → its latency to the last subscriber so far
    unanswered: "set[Publisher]"
    idle: "deque[Publisher]"

    def on_readable(self, sock: socket.socket, callback: Callable[[], None]) -> None:
        """Call it whenever the socket has data."""

    def connection_ready(self, latency: int | None) -> None:
        """Count a connection as ready. A subscriber gives the time it took to join."""

    def needs_sample(self) -> bool:
        """True if one more subscriber is to measure latencies."""


class Connection:
    def __init__(self, context: Context, sock: socket.socket, number: int) -> None:
        self._context = context
        self._script = context.script
        self._sock = sock
        self._number = b"%d" % number
        self._begin = monotonic_ns()
        self._received = b""  # and not processed yet

    def connected(self) -> None:
        if error := self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise ConnectionFailed(f"a connection failed: {os.strerror(error)}")
        self._connected()

    def _connected(self) -> None:
        raise NotImplementedError

    def _receive(self) -> bytes:
        data = self._sock.recv(1 << 16)
        if not data:
            raise self._closed()
        self._received += data
        return data

    def _check_for_error(self) -> None:
        """Raises ConnectionFailed if an error answer was received."""
        if match := _ERROR.search(self._received):
            self._receive_rest()
            raise ConnectionFailed(error_sentence(self._received[match.start() :]))

    def _receive_rest(self) -> None:
        self._sock.settimeout(ERROR_TIMEOUT)
        with suppress(OSError):
            while data := self._sock.recv(1 << 16):
                self._received += data

    def _closed(self) -> ConnectionFailed:
        if not self._received:
            return ConnectionFailed(
                "the server closed a connection without an answer: is that the port of another protocol?"
            )
        last = quoted(self._received[-200:], 200)
        return ConnectionFailed(f"the server closed a connection; the last bytes that it sent are {last}")

    def _send(self, data: bytes) -> None:
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._sock.settimeout(SEND_TIMEOUT)
            self._sock.sendall(data[sent:])
            self._sock.setblocking(False)


class Subscriber(Connection):
    def _connected(self) -> None:
        self._context.on_readable(self._sock, self._join)
        self._send(self._script.join.replace(NUMBER, self._number))

    def _join(self) -> None:
        self._receive()
        if self._script.joined not in self._received:
            self._check_for_error()
            return
        context = self._context
        context.connection_ready(monotonic_ns() - self._begin)
        self._received = b""
        if context.needs_sample():
            context.sampled += 1
            context.on_readable(self._sock, self._measure)
        else:
            large = len(self._script.publish) // self._script.messages >= LARGE_PUBLISH
            context.on_readable(self._sock, self._find_marks if large else self._count_marks)

    def _count_marks(self) -> None:
        context = self._context
        size = self._sock.recv_into(context.buffer)
        if not size:
            raise self._closed()
        context.delivered += context.buffer.count(MARK, 0, size)

    def _find_marks(self) -> None:
        context, buffer = self._context, self._context.buffer
        size = self._sock.recv_into(buffer)
        if not size:
            raise self._closed()
        index = buffer.find(MARK, 0, size)
        while index >= 0:
            context.delivered += 1
            index = buffer.find(MARK, index + 1, size)

    def _measure(self) -> None:
        """Count deliveries and measure their latency."""
        context = self._context
        data = self._receive()
        now = monotonic_ns()
        context.delivered += data.count(MARK)
        end, last = 0, context.last_latencies
        for match in _MARK_AND_DUE.finditer(self._received):
            end, due = match.end(), int(match[1])
            context.latencies.append(now - due)
            last[due] = now - due if due not in last else max(last[due], now - due)
        mark = self._received.rfind(MARK, end)
        self._received = self._received[mark:] if 0 <= mark > len(self._received) - MIN_BODY else b""


class Publisher(Connection):
    def __init__(self, context: Context, sock: socket.socket, number: int) -> None:
        super().__init__(context, sock, number)
        self._script = self._script._replace(publish=self._script.publish.replace(NUMBER, self._number))
        self.credit = context.load.at_once  # publishes that it may send before an answer comes
        self._unanswered: deque[int] = deque()  # the times they were due

    def _connected(self) -> None:
        self._context.on_readable(self._sock, self._read_answers)
        self._send(self._script.hello.replace(NUMBER, self._number))
        self._context.idle.append(self)
        self._context.connection_ready(None)

    def publish(self, due: list[int]) -> None:
        """Publish once for each time. The caller took it from `idle`; the number is within its credit."""
        self._send(b"".join(map(self._script.publish_due, due)))
        if self._script.answer:
            self._unanswered += due
            self.credit -= len(due)
            self._context.unanswered.add(self)
        if self.credit:
            self._context.idle.append(self)

    def _read_answers(self) -> None:
        data = self._receive()
        if not self._script.answer:
            self._check_for_error()
            self._received = b""
            return
        *answers, rest = self._received.split(self._script.answer)
        if not answers or b"alse" in data:
            self._check_for_error()
        self._received = rest
        if answers:
            self._record_answers(len(answers))

    def _record_answers(self, count: int) -> None:
        context, now = self._context, monotonic_ns()
        context.answer_latencies.extend([now - self._unanswered.popleft() for _ in range(count)])
        if not self.credit:
            context.idle.append(self)
        self.credit += count
        if not self._unanswered:
            context.unanswered.discard(self)
