"""One process of a load: connects, publishes, counts. It does as little as it can for each delivery, so that what is
measured is the server.
"""

import gc
import os
import select
import signal
import socket
from array import array
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from ctypes import c_int64
from math import floor
from multiprocessing import get_context
from time import monotonic_ns, process_time
from typing import Any, Final, NamedTuple, Protocol

from ..net.sockets import raise_open_files
from .clients import Connection, Publisher, Reader, Trouble
from .load import Share

SAMPLES: Final = 50_000  # deliveries whose latency is read: reading costs more than counting
SAMPLED: Final = 20  # readers for which it is read, where there are more deliveries
SOURCES: Final = 64  # loopback addresses to come from: each has ports of its own
GIVE_UP: Final = 5_000_000_000  # nanoseconds without a delivery: what is missing will not come

_IP_BIND_ADDRESS_NO_PORT: Final = 24  # Linux: the port is chosen at the connect, so that it may be another's too


class Joined(NamedTuple):
    """Times are nanoseconds of the monotonic clock, latencies nanoseconds."""

    begin: int
    end: int
    latencies: "array[int]"  # from the connect to the first answer
    cpu: float  # seconds of this process


class Report(NamedTuple):
    begin: int
    end: int
    published: int  # messages
    delivered: int
    latencies: "array[int]"
    answers: "array[int]"
    last: dict[int, int]  # the time a message was due → its latency to the last reader; empty where not all were read
    cpu: float


class Board:
    """Where the processes of a load write how far they are: each in its own column."""

    def __init__(self, processes: int) -> None:
        context = get_context("forkserver")
        self._processes = range(processes)
        self.joined = context.RawArray(c_int64, processes)
        self.published = context.RawArray(c_int64, processes)
        self.delivered = context.RawArray(c_int64, processes)
        self.finished = context.RawArray(c_int64, processes)

    def state(self) -> tuple[int, int, int]:
        return sum(self.joined), sum(self.published), sum(self.delivered)

    def all_finished(self) -> bool:
        return all(self.finished[number] for number in self._processes)


class Pipe(Protocol):
    def send(self, _value: Any, /) -> None: ...
    def recv(self) -> Any: ...


def generate(share: Share, board: Board, pipe: Pipe) -> None:
    """Do the share, each part of it when told; report through the pipe, or say in a sentence what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who started us, who ends us
    gc.disable()
    raise_open_files()
    if share.load.cpus:
        os.sched_setaffinity(0, share.load.cpus)
    with suppress(EOFError, BrokenPipeError):  # who started us is gone
        try:
            generator = Generator(share, board)
            pipe.send(None)
            pipe.recv()
            pipe.send(generator.join())
            pipe.recv()
            pipe.send(generator.publish())
            pipe.recv()
        except (Trouble, OSError) as error:
            pipe.send(str(error))


class Generator:
    """The Work of its connections."""

    def __init__(self, share: Share, board: Board) -> None:
        self.load = share.load
        self.speech = self.load.speech
        self.buffer = bytearray(1 << 18)
        self.sampled = 0
        self.latencies, self.answers = array("q"), array("q")
        self.last: dict[int, int] = {}
        self.delivered = 0
        self.waiting: set[Publisher] = set()
        self.idle: deque[Publisher] = deque()
        self._share, self._board = share, board
        self._heard: dict[int, Callable[[], None]] = {}
        self._epoll = select.epoll()
        self._family, self._source = _family(self.load.host)
        self._connections: list[Connection] = []
        self._opening = 0
        self._join_latencies = array("q")
        self._publishes = 0
        self._heard_at = 0

    # Joining

    def join(self) -> Joined:
        """All connections, so many at once."""
        begin, cpu = monotonic_ns(), process_time()
        kinds: deque[type[Connection]] = deque([Reader] * self._share.readers + [Publisher] * self._share.publishers)
        while kinds or self._opening:
            while kinds and self._opening < self.load.connecting:
                self._open(kinds.popleft())
            self._turn(0.1)
            self._board.joined[self._share.number] = len(self._join_latencies)
        return Joined(begin, monotonic_ns(), self._join_latencies, process_time() - cpu)

    def _open(self, kind: "type[Connection]") -> None:
        number = self._share.number + len(self._connections) * self.load.processes
        sock = socket.socket(self._family, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._source:
            sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((self._source % (2 + number % SOURCES), 0))
        connection = kind(self, sock, number)
        self._connections.append(connection)
        self._opening += 1
        sock.connect_ex((self.load.host, self.load.port))
        self._heard[sock.fileno()] = connection.connected
        self._epoll.register(sock, select.EPOLLOUT)

    def hear(self, sock: socket.socket, heard: Callable[[], None]) -> None:
        self._heard[sock.fileno()] = heard
        self._epoll.modify(sock, select.EPOLLIN)

    def opened(self, latency: int | None) -> None:
        self._opening -= 1
        if latency is not None:
            self._join_latencies.append(latency)

    def samples(self) -> bool:
        load, share = self.load, self._share
        messages = min(load.messages, load.rate * load.seconds * load.speech.messages or load.messages)
        wanted = load.readers if load.readers * messages <= SAMPLES else SAMPLED
        return self.sampled < -(-wanted * share.readers // load.readers)

    # Publishing

    def publish(self) -> Report:
        """Messages and their deliveries, until there is no more to publish and all was heard."""
        begin, cpu = monotonic_ns(), process_time()
        self._heard_at = begin
        end = begin + int(self.load.seconds * 1e9)
        publishing = self._share.publishes > 0
        while publishing or not self._complete():
            now = monotonic_ns()
            if publishing:
                self._offer(begin, now)
                left = self._share.publishes - self._publishes
                publishing = left > 0 and now < end
            if not publishing and not self.waiting:
                self._board.finished[self._share.number] = 1
            if now - self._heard_at > GIVE_UP and not publishing and not self.waiting:
                break
            self._wait(begin, publishing)
        all_read = self.sampled == self._share.readers
        return Report(
            begin if self._publishes else 0,
            self._heard_at,
            self._publishes * self.speech.messages,
            self.delivered,
            self.latencies,
            self.answers,
            self.last if all_read else {},
            process_time() - cpu,
        )

    def _complete(self) -> bool:
        published = sum(self._board.published)
        return self._board.all_finished() and self.delivered >= published * self._share.readers

    def _offer(self, begin: int, now: int) -> None:
        """Publish what may be published now."""
        room = self._room(begin, now)
        pipelines = self.load.at_once > 1 and bool(self.speech.answer)
        while room > 0 and self.idle:
            publisher = self.idle.popleft()
            count = min(room, publisher.credit) if pipelines else 1
            publisher.publish([self._due(begin) for _ in range(count)])
            room -= count
        self._board.published[self._share.number] = self._publishes * self.speech.messages

    def _due(self, begin: int) -> int:
        """When the next publish was to be sent: at a fixed rate that does not depend on whether it could be."""
        number, self._publishes = self._publishes, self._publishes + 1
        return self._turn_of(begin, number) if self._share.rate else monotonic_ns()

    def _turn_of(self, begin: int, number: int) -> int:
        """When that publish is due at the rate of this process, which takes turns with the others."""
        return begin + int((number / self._share.rate + self._share.number / self.load.rate) * 1e9)

    def _room(self, begin: int, now: int) -> int:
        """Publishes that the bounds leave."""
        room = self._share.publishes - self._publishes
        if self._share.rate:
            over = (now - self._turn_of(begin, 0)) / 1e9
            room = min(room, floor(over * self._share.rate) + 1 - self._publishes)
        if self.load.window and self.load.readers:
            on_the_way = sum(self._board.published) - sum(self._board.delivered) / self.load.readers
            room = min(room, int((self.load.window - on_the_way) / self.speech.messages))
        return room

    def _wait(self, begin: int, publishing: bool) -> None:
        """For something to be heard, or to be published."""
        patience = 0.001 if self.load.processes > 1 else 0.05
        if publishing and self._share.rate and self.idle:
            due = (self._turn_of(begin, self._publishes) - monotonic_ns()) / 1e9
            # select() waits for microseconds, where epoll's smallest step is a thousand of them.
            select.select((self._epoll,), (), (), min(max(due, 0.0), patience))
            patience = 0.0
        self._turn(patience)
        self._board.delivered[self._share.number] = self.delivered

    def _turn(self, patience: float) -> None:
        events = self._epoll.poll(patience)
        for file, _ in events:
            self._heard[file]()
        if events:
            self._heard_at = monotonic_ns()


def _family(host: str) -> tuple[int, str]:
    """The address family of a numeric address, and a pattern of the addresses to come from; empty: any."""
    if ":" in host:
        return socket.AF_INET6, ""
    return socket.AF_INET, "127.0.0.%d" if host.startswith("127.") else ""
