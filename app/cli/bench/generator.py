"""One process of a load: connects, publishes and counts deliveries.

It does as little as possible for each delivery, so that the server is measured and not the generator.
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

from ...net.sockets import raise_open_files
from .connections import Connection, ConnectionFailed, Publisher, Subscriber
from .load import Share

MAX_SAMPLES: Final = 50_000  # deliveries of which every latency is measured: that costs more than counting
SAMPLED_READERS: Final = 20  # whose latencies are measured if there are more deliveries
SOURCE_ADDRESSES: Final = 64  # loopback addresses to connect from: each has its own range of ports
DELIVERY_TIMEOUT: Final = 5_000_000_000  # nanoseconds without a delivery: the missing ones will not come

_IP_BIND_ADDRESS_NO_PORT: Final = 24  # Linux: connect() chooses the port, so that sockets to other peers may share it


class JoinReport(NamedTuple):
    """Times are nanoseconds of the monotonic clock; latencies are nanoseconds."""

    begin: int
    end: int
    latencies: "array[int]"  # from the connect to the first answer
    cpu: float  # seconds of this process


class PublishReport(NamedTuple):
    """Units as in JoinReport."""

    begin: int
    end: int
    published: int  # messages
    delivered: int
    latencies: "array[int]"
    answer_latencies: "array[int]"
    last_latencies: dict[int, int]  # the time a message was due → its latency to the last reader; only if all measured
    cpu: float


class Scoreboard:
    """Shared memory in which each process of a load writes its progress, each to its own slot."""

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


def generate(share: Share, scoreboard: Scoreboard, pipe: Pipe) -> None:
    """Do a share of the load: connect, and publish, each when the pipe has a command; send the reports to the pipe.

    If something fails, a sentence about it is sent in place of the report.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends this process
    gc.disable()
    raise_open_files()
    if share.load.cpus:
        os.sched_setaffinity(0, share.load.cpus)
    with suppress(EOFError, BrokenPipeError):  # the parent is gone
        try:
            generator = Generator(share, scoreboard)
            pipe.send(None)
            pipe.recv()
            pipe.send(generator.join())
            pipe.recv()
            pipe.send(generator.publish())
            pipe.recv()
        except (ConnectionFailed, OSError) as error:
            pipe.send(str(error))


class Generator:
    """The Context of its connections."""

    def __init__(self, share: Share, scoreboard: Scoreboard) -> None:
        self.load = share.load
        self.script = self.load.script
        self.buffer = bytearray(1 << 18)
        self.sampled = 0
        self.latencies, self.answer_latencies = array("q"), array("q")
        self.last_latencies: dict[int, int] = {}
        self.delivered = 0
        self.unanswered: set[Publisher] = set()
        self.idle: deque[Publisher] = deque()
        self._share, self._scoreboard = share, scoreboard
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._epoll = select.epoll()
        self._family, self._source = _family(self.load.host)
        self._connections: list[Connection] = []
        self._connecting = 0
        self._join_latencies = array("q")
        self._publishes = 0
        self._last_event = 0

    # Joining

    def join(self) -> JoinReport:
        """Open all connections, `max_connecting` at a time."""
        begin, cpu = monotonic_ns(), process_time()
        kinds: deque[type[Connection]] = deque(
            [Subscriber] * self._share.readers + [Publisher] * self._share.publishers
        )
        while kinds or self._connecting:
            while kinds and self._connecting < self.load.max_connecting:
                self._connect(kinds.popleft())
            self._poll(0.1)
            self._scoreboard.joined[self._share.number] = len(self._join_latencies)
        return JoinReport(begin, monotonic_ns(), self._join_latencies, process_time() - cpu)

    def _connect(self, kind: "type[Connection]") -> None:
        number = self._share.number + len(self._connections) * self.load.processes
        sock = socket.socket(self._family, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._source:
            sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((self._source % (2 + number % SOURCE_ADDRESSES), 0))
        connection = kind(self, sock, number)
        self._connections.append(connection)
        self._connecting += 1
        sock.connect_ex((self.load.host, self._port(kind, number)))
        self._callbacks[sock.fileno()] = connection.connected
        self._epoll.register(sock, select.EPOLLOUT)

    def _port(self, kind: "type[Connection]", number: int) -> int:
        ports = self.load.reader_ports if kind is Subscriber else self.load.publisher_ports
        return ports[number % len(ports)] if ports else self.load.port

    def on_readable(self, sock: socket.socket, callback: Callable[[], None]) -> None:
        self._callbacks[sock.fileno()] = callback
        self._epoll.modify(sock, select.EPOLLIN)

    def connection_ready(self, latency: int | None) -> None:
        self._connecting -= 1
        if latency is not None:
            self._join_latencies.append(latency)

    def needs_sample(self) -> bool:
        load, share = self.load, self._share
        messages = min(load.messages, load.rate * load.seconds * load.script.messages or load.messages)
        wanted = load.readers if load.readers * messages <= MAX_SAMPLES else SAMPLED_READERS
        return self.sampled < -(-wanted * share.readers // load.readers)

    # Publishing

    def publish(self) -> PublishReport:
        """Publish this process's share, and receive until all processes have finished and everything is delivered."""
        begin, cpu = monotonic_ns(), process_time()
        self._last_event = begin
        end = begin + int(self.load.seconds * 1e9)
        publishing = self._share.publishes > 0
        while publishing or not self._all_delivered():
            now = monotonic_ns()
            if publishing:
                self._publish_some(begin, now)
                remaining = self._share.publishes - self._publishes
                publishing = remaining > 0 and now < end
            if not publishing and not self.unanswered:
                self._scoreboard.finished[self._share.number] = 1
            if now - self._last_event > DELIVERY_TIMEOUT and not publishing and not self.unanswered:
                break
            self._wait(begin, publishing)
        all_sampled = self.sampled == self._share.readers
        return PublishReport(
            begin if self._publishes else 0,
            self._last_event,
            self._publishes * self.script.messages,
            self.delivered,
            self.latencies,
            self.answer_latencies,
            self.last_latencies if all_sampled else {},
            process_time() - cpu,
        )

    def _all_delivered(self) -> bool:
        published = sum(self._scoreboard.published)
        return self._scoreboard.all_finished() and self.delivered >= published * self._share.readers

    def _publish_some(self, begin: int, now: int) -> None:
        """Publish as much as the limits and the idle publishers allow now."""
        allowed = self._allowed(begin, now)
        pipelines = self.load.at_once > 1 and bool(self.script.answer)
        while allowed > 0 and self.idle:
            publisher = self.idle.popleft()
            count = min(allowed, publisher.credit) if pipelines else 1
            publisher.publish([self._next_due(begin) for _ in range(count)])
            allowed -= count
        self._scoreboard.published[self._share.number] = self._publishes * self.script.messages

    def _next_due(self, begin: int) -> int:
        """The time the next publish is due. At a fixed rate it is the scheduled time, even if it is late: latencies
        then include the delay that a slow server causes."""
        number, self._publishes = self._publishes, self._publishes + 1
        return self._scheduled(begin, number) if self._share.rate else monotonic_ns()

    def _scheduled(self, begin: int, number: int) -> int:
        """When publish `number` of this process is due at its rate. The processes are offset against each other."""
        return begin + int((number / self._share.rate + self._share.number / self.load.rate) * 1e9)

    def _allowed(self, begin: int, now: int) -> int:
        """How many publishes the number of messages, the rate and the window still allow."""
        allowed = self._share.publishes - self._publishes
        if self._share.rate:
            elapsed = (now - self._scheduled(begin, 0)) / 1e9
            allowed = min(allowed, floor(elapsed * self._share.rate) + 1 - self._publishes)
        if self.load.window and self.load.readers:
            board = self._scoreboard
            undelivered = sum(board.published) - sum(board.delivered) / self.load.readers
            allowed = min(allowed, int((self.load.window - undelivered) / self.script.messages))
        return allowed

    def _wait(self, begin: int, publishing: bool) -> None:
        """Wait until a socket is readable or a publish is due."""
        timeout = 0.001 if self.load.processes > 1 else 0.05
        if publishing and self._share.rate and self.idle:
            due = (self._scheduled(begin, self._publishes) - monotonic_ns()) / 1e9
            # select() has a resolution of microseconds, epoll of milliseconds.
            select.select((self._epoll,), (), (), min(max(due, 0.0), timeout))
            timeout = 0.0
        self._poll(timeout)
        self._scoreboard.delivered[self._share.number] = self.delivered

    def _poll(self, timeout: float) -> None:
        events = self._epoll.poll(timeout)
        for file, _ in events:
            self._callbacks[file]()
        if events:
            self._last_event = monotonic_ns()


def _family(host: str) -> tuple[int, str]:
    """The address family of a numeric address, and a pattern of source addresses; empty: the system chooses."""
    if ":" in host:
        return socket.AF_INET6, ""
    return socket.AF_INET, "127.0.0.%d" if host.startswith("127.") else ""
