"""What durability costs: messages on the disk before their publisher is answered, by plainmq, Redis and NATS.

    python -m benchmarks.durable [--rounds N] [--seconds S] [--size BYTES] [--folder PATH]

Starts `plainmq serve` with the engine sqlite, and `redis-server` and `nats-server` (2.10 or newer) where they are
installed, with their data below one folder on one disk. Each has its disk sync before it answers: `--synchronous full`,
`appendfsync always`, `sync_interval: always`. Every publisher sends the same body to one topic (XADD to one stream of
Redis, one JetStream stream), which keeps 1,000 messages. A row has so many connections, each with so many messages on
the way.

Then the fan-out of plainmq, in memory and with sqlite: 200 event streams, 16 publishers by HTTP, and at most 64
messages on the way to the readers.

Each row is measured for some time, in turn; the figures are messages (or deliveries) per second, and per second of the
server's CPU time, all its threads: the best of several rounds, and the median. The generator is one process, the same
for all; the fastest rows wait for it.

What is unfair: the others are written in C and Go, and speak no HTTP or JSON. NATS syncs every message by itself, where
plainmq and Redis let all that came together share a sync.
"""

import argparse
import shlex
import shutil
import socket
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from selectors import EVENT_READ, BaseSelector, DefaultSelector
from time import monotonic
from typing import Final, NamedTuple

from benchmarks.lines_vs_http import cpu_seconds, receive_some
from tests.harness import DEADLINE, ServerProcess, free_port, start_server

KEPT: Final = 1_000  # messages: what a topic of plainmq keeps by default
READERS, WINDOW = 200, 64

_STREAM: Final = b"GET /topics/foo/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
_NATS: Final = """
listen: "127.0.0.1:%d"
jetstream {store_dir: "%s", sync_interval: always}
"""
_JETSTREAM: Final = b'{"name":"foo","subjects":["foo"],"storage":"file","max_msgs":%d}' % KEPT


class Door(NamedTuple):
    """Where and how to publish: what a connection says first, and what ends the answer to it; a publish, and what is
    just once in the answer to one that was stored, and in no other. `<n>` in them is the connection's number."""

    pid: int
    port: int
    publish: bytes
    stored: bytes
    hello: bytes = b""
    welcome: bytes = b""

    def connect(self, number: int) -> "Talk":
        talk = Talk(self.port, self.publish.replace(b"<n>", b"%d" % number), self.stored)
        talk.ask(self.hello.replace(b"<n>", b"%d" % number), self.welcome)
        return talk


class Talk:
    """A connection on which something is counted as it comes in."""

    def __init__(self, port: int, publish: bytes, counted: bytes) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._publish = publish
        self._counted = counted
        self._rest = b""

    def ask(self, question: bytes, end: bytes) -> None:
        self.sock.sendall(question)
        answer = b""
        while end not in answer:
            answer += receive_some(self.sock)

    def publish(self, count: int = 1) -> None:
        self.sock.sendall(self._publish * count)

    def receive(self) -> int:
        *counted, self._rest = (self._rest + receive_some(self.sock)).split(self._counted)
        return len(counted)


class Figure(NamedTuple):
    per_second: float
    per_cpu_second: float


class Stopwatch:
    """What was counted, in how many seconds and how many of the server's CPU time."""

    def __init__(self, pid: int, seconds: float) -> None:
        self.count = 0
        self._pid = pid
        self._cpu, self._begin = cpu_seconds(pid), monotonic()
        self._end = self._begin + seconds

    def runs(self) -> bool:
        return monotonic() < self._end

    def figure(self) -> Figure:
        return Figure(self.count / (monotonic() - self._begin), self.count / (cpu_seconds(self._pid) - self._cpu))


def publish(door: Door, connections: int, at_once: int, seconds: float) -> Figure:
    """As fast as it goes: each answer makes room for another message."""
    talks = [door.connect(number) for number in range(connections)]
    with listening(talks) as heard:
        watch = Stopwatch(door.pid, seconds)
        for talk in talks:
            talk.publish(at_once)
        while watch.runs():
            for talk in heard():
                count = talk.receive()
                watch.count += count
                talk.publish(count)
        figure = watch.figure()
        missing = connections * at_once
        while missing:
            missing -= sum(talk.receive() for talk in heard())
    return figure


def fan_out(door: Door, connections: int, at_once: int, seconds: float) -> Figure:
    """Deliveries: every reader gets every message, and at most WINDOW are on the way to them."""
    reading = door._replace(stored=b"\ndata: ", hello=_STREAM, welcome=b"retry: ")
    readers = {reading.connect(number) for number in range(READERS)}
    idle = [door.connect(number) for number in range(connections)] * at_once
    published = 0
    with listening([*readers, *idle]) as heard:
        watch = Stopwatch(door.pid, seconds)
        while watch.runs():
            while idle and published - watch.count / READERS < WINDOW:
                idle.pop().publish()
                published += 1
            for talk in heard():
                if talk in readers:
                    watch.count += talk.receive()
                else:
                    idle += [talk] * talk.receive()
        return watch.figure()


@contextmanager
def listening(talks: Iterable[Talk]) -> Iterator[Callable[[], list[Talk]]]:
    """Answers, whenever it is asked, where something has come in; closes the connections in the end."""
    with ExitStack() as stack:
        selector = stack.enter_context(DefaultSelector())
        for talk in talks:
            stack.enter_context(talk.sock)
            selector.register(talk.sock, EVENT_READ, talk)
        yield lambda: _heard(selector)


def _heard(selector: BaseSelector) -> list[Talk]:
    keys = selector.select(DEADLINE)
    if not keys:
        raise SystemExit("a server is silent, or refuses what is published")
    return [key.data for key, _ in keys]


# The servers


def by_http(server: ServerProcess, body: bytes) -> Door:
    head = b"POST /topics/foo/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    return Door(server.process.pid, server.port, head + body, b'"durability":')


def by_lines(server: ServerProcess, body: bytes) -> Door:
    line = b'{"command":"send","topic":"foo","msg":"%b","delivery":"all"}\n' % body
    return Door(server.process.pid, server.tcp_port, line, b'{"success": true}\r\n')


@contextmanager
def redis(program: str, folder: Path, body: bytes) -> Iterator[Door]:
    port = free_port()
    flags = f"--bind 127.0.0.1 --port {port} --dir {folder} --save '' --appendonly yes --appendfsync always"
    words = (b"XADD", b"foo", b"MAXLEN", b"~", b"%d" % KEPT, b"*", b"data", body)
    add = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    with child([program, *shlex.split(flags)], port) as pid:
        yield Door(pid, port, add, b"$")


@contextmanager
def nats(program: str, folder: Path, body: bytes) -> Iterator[Door]:
    port = free_port()
    configuration = folder / "nats.conf"
    configuration.write_text(_NATS % (port, folder))
    hello = b'CONNECT {"verbose":false}\r\nSUB answers.<n> 1\r\nPING\r\n'
    add = b"PUB foo answers.<n> %d\r\n%b\r\n" % (len(body), body)
    with child([program, "-c", str(configuration)], port) as pid:
        door = Door(pid, port, add, b'"seq":', hello, b"PONG\r\n")
        create = b"PUB $JS.API.STREAM.CREATE.foo answers.0 %d\r\n%b\r\n" % (len(_JETSTREAM), _JETSTREAM)
        door.connect(0).ask(create, b'"created":')
        yield door


PEERS: Final = {"redis-server": ("Redis XADD", redis), "nats-server": ("NATS JetStream", nats)}


@contextmanager
def child(command: list[str], port: int) -> Iterator[int]:
    """Its process id, once it listens."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:  # noqa: S603
        try:
            while process.poll() is None:
                with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), DEADLINE):
                    break
            else:
                raise SystemExit(f"{command[0]} did not start")
            yield process.pid
        finally:
            process.terminate()


class Row(NamedTuple):
    name: str
    measure: Callable[[Door, int, int, float], Figure]
    door: Door
    connections: int
    at_once: int  # messages on the way, of each connection


def rows(folder: Path, body: bytes, stack: ExitStack) -> Iterator[Row]:
    """All servers started; what is compared stands together."""
    memory = stack.enter_context(start_server())
    sqlite = stack.enter_context(start_server("--engine", f"sqlite://{folder}/plainmq.db"))
    single = {"plainmq HTTP": by_http(sqlite, body)}
    piped = {"plainmq line port": by_lines(sqlite, body)}
    for program, (name, serve) in PEERS.items():
        if path := shutil.which(program):
            below = folder / program
            below.mkdir()
            single[name] = piped[name] = stack.enter_context(serve(path, below, body))
    for name, door in single.items():
        yield Row(f"{name}: 64 connections, 1 each", publish, door, 64, 1)
    for name, door in piped.items():
        yield Row(f"{name}: 8 connections, 200 each", publish, door, 8, 200)
    for name, server in (("memory", memory), ("sqlite", sqlite)):
        yield Row(f"fan-out, {name}: to 200 streams", fan_out, by_http(server, body), 16, 1)


def report(figures: dict[str, list[Figure]]) -> None:
    print(f"{'':44s} {'per second':^21s} {'per server-CPU-second':^21s}")  # noqa: T201
    print(f"{'':44s} {'best':>10s} {'median':>10s} {'best':>10s} {'median':>10s}")  # noqa: T201
    for name, rounds in figures.items():
        columns = [
            f"{pick(column):10,.0f}" for column in zip(*rounds, strict=True) for pick in (max, statistics.median)
        ]
        print(f"  {name:42s} {' '.join(columns)}")  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="short ones, since the machine may have other work")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each row in a round")
    parser.add_argument("--size", type=int, default=64, help="bytes in a message")
    parser.add_argument("--folder", default="/var/tmp", help="on the disk to measure, not in memory")  # noqa: S108
    options = parser.parse_args()
    figures: dict[str, list[Figure]] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, ExitStack() as stack:
        all_rows = [*rows(Path(folder), b"x" * options.size, stack)]
        for _ in range(options.rounds):
            for row in all_rows:
                figure = row.measure(row.door, row.connections, row.at_once, options.seconds)
                figures.setdefault(row.name, []).append(figure)
    report(figures)


if __name__ == "__main__":
    main()
