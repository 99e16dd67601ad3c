"""The connections of a load, each on a raw socket: readers count what comes, publishers send and hear the answers."""

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

from ..errors.wording import quoted
from .load import Load
from .speech import DIGITS, MARK, NUMBER, SMALLEST, Speech

LARGE: Final = 1_000  # bytes of a publish: marks are so far apart that they are better looked for than counted
SILENCE: Final = 0.3  # seconds after which a refusal has no more to say
SEND_DEADLINE: Final = 20.0  # seconds for a publish to go out

_DUE: Final = re.compile(rb"%c(\d{%d})" % (MARK, DIGITS))
_REFUSED: Final = re.compile(rb'HTTP/1\.1 [45]\d\d|"success": ?[Ff]alse|^-ERR|^ERR ', re.MULTILINE)


_SENTENCE: Final = re.compile(rb'"(?:detail|reason)": ?("(?:[^"\\]|\\.)*")|^(?:-ERR|ERR \w+) (.*)', re.MULTILINE)
_NO_TOKEN: Final = re.compile(rb"\AHTTP/1\.1 401|ERR unauthorised|needs a token")


def refusal(said: bytes) -> str:
    """What the server has said, for who has started the load."""
    if _NO_TOKEN.search(said):
        return "the server asks for a token: give a good one with --token or PLAINMQ_TOKEN"
    if match := _SENTENCE.search(said):
        return f"the server refuses: {msgspec.json.decode(match[1]) if match[1] else match[2].decode(errors='replace')}"
    return f"the server refuses: {quoted(said.splitlines()[0], 200)}"


class Trouble(Exception):
    """The server does not do its part; the text says how."""


class Work(Protocol):
    """What the connections of a process have in common. Latencies are in nanoseconds."""

    load: Load
    speech: Speech
    buffer: bytearray
    delivered: int
    sampled: int  # readers that read latencies
    latencies: "array[int]"
    answers: "array[int]"
    last: dict[int, int]  # the time a message was due → its latency to the last of those
    waiting: "set[Publisher]"  # for answers
    idle: "deque[Publisher]"

    def hear(self, sock: socket.socket, heard: Callable[[], None]) -> None:
        """Call it whenever something comes in."""

    def opened(self, latency: int | None) -> None:
        """A connection is ready; a reader says after how long."""

    def samples(self) -> bool:
        """Whether one more reader shall read latencies."""


class Connection:
    """What is ready when `_greet` has seen what it waits for."""

    def __init__(self, work: Work, sock: socket.socket, number: int) -> None:
        self._work = work
        self._speech = work.speech
        self._sock = sock
        self._number = b"%d" % number
        self._begin = monotonic_ns()
        self._rest = b""

    def connected(self) -> None:
        if error := self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise Trouble(f"a connection failed: {os.strerror(error)}")
        self._connected()

    def _connected(self) -> None:
        raise NotImplementedError

    def _receive(self) -> bytes:
        data = self._sock.recv(1 << 16)
        if not data:
            raise self._closed()
        self._rest += data
        return data

    def _refuse(self) -> None:
        """Look for a refusal in what was heard. Raises Trouble."""
        if match := _REFUSED.search(self._rest):
            self._receive_rest()
            raise Trouble(refusal(self._rest[match.start() :]))

    def _receive_rest(self) -> None:
        """What else it says, until it is silent."""
        self._sock.settimeout(SILENCE)
        with suppress(OSError):
            while data := self._sock.recv(1 << 16):
                self._rest += data

    def _closed(self) -> Trouble:
        if not self._rest:
            return Trouble("the server has closed a connection without a word: is that the port of another protocol?")
        return Trouble(f"the server has closed a connection; the last that it said is {quoted(self._rest[-200:], 200)}")

    def _send(self, data: bytes) -> None:
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._sock.settimeout(SEND_DEADLINE)
            self._sock.sendall(data[sent:])
            self._sock.setblocking(False)


class Reader(Connection):
    def _connected(self) -> None:
        self._work.hear(self._sock, self._greeted)
        self._send(self._speech.join.replace(NUMBER, self._number))

    def _greeted(self) -> None:
        self._receive()
        if self._speech.joined not in self._rest:
            self._refuse()
            return
        work = self._work
        work.opened(monotonic_ns() - self._begin)
        self._rest = b""
        if work.samples():
            work.sampled += 1
            work.hear(self._sock, self._read)
        else:
            large = len(self._speech.publish) // self._speech.messages >= LARGE
            work.hear(self._sock, self._look if large else self._count)

    def _count(self) -> None:
        work = self._work
        size = self._sock.recv_into(work.buffer)
        if not size:
            raise self._closed()
        work.delivered += work.buffer.count(MARK, 0, size)

    def _look(self) -> None:
        work, buffer = self._work, self._work.buffer
        size = self._sock.recv_into(buffer)
        if not size:
            raise self._closed()
        place = buffer.find(MARK, 0, size)
        while place >= 0:
            work.delivered += 1
            place = buffer.find(MARK, place + 1, size)

    def _read(self) -> None:
        """Count, and read how long it took."""
        work = self._work
        data = self._receive()
        now = monotonic_ns()
        work.delivered += data.count(MARK)
        end = 0
        for match in _DUE.finditer(self._rest):
            end, due = match.end(), int(match[1])
            work.latencies.append(now - due)
            work.last[due] = now - due if due not in work.last else max(work.last[due], now - due)
        mark = self._rest.rfind(MARK, end)
        self._rest = self._rest[mark:] if 0 <= mark > len(self._rest) - SMALLEST else b""


class Publisher(Connection):
    def __init__(self, work: Work, sock: socket.socket, number: int) -> None:
        super().__init__(work, sock, number)
        self._speech = self._speech._replace(publish=self._speech.publish.replace(NUMBER, self._number))
        self.credit = work.load.at_once  # publishes that may go out before an answer comes
        self._due: deque[int] = deque()

    def _connected(self) -> None:
        self._work.hear(self._sock, self._answered)
        self._send(self._speech.hello.replace(NUMBER, self._number))
        self._work.idle.append(self)
        self._work.opened(None)

    def publish(self, due: list[int]) -> None:
        """It is idle, and so many publishes are within its credit."""
        self._send(b"".join(map(self._speech.due, due)))
        if self._speech.answer:
            self._due += due
            self.credit -= len(due)
            self._work.waiting.add(self)
        if self.credit:
            self._work.idle.append(self)

    def _answered(self) -> None:
        data = self._receive()
        if not self._speech.answer:
            self._refuse()
            self._rest = b""
            return
        *answers, rest = self._rest.split(self._speech.answer)
        if not answers or b"alse" in data:
            self._refuse()
        self._rest = rest
        if answers:
            self._settle(len(answers))

    def _settle(self, answers: int) -> None:
        work, now = self._work, monotonic_ns()
        work.answers.extend([now - self._due.popleft() for _ in range(answers)])
        if not self.credit:
            work.idle.append(self)
        self.credit += answers
        if not self._due:
            work.waiting.discard(self)
