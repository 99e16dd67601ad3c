"""Work queues: the server's CPU time to publish, pull and ack a message, by HTTP and the line port; and beanstalkd's.

    python -m benchmarks.groups [--messages N] [--connections N] [--rounds N] [--size BYTES] [--redis]

Starts `plainmq serve`, and `beanstalkd` if it is installed. Each connection has its own topic, with one
group. Each row does one operation with the same number of messages. The figure is the CPU time of all threads of the
server, in microseconds a message: the best of the rounds, and the median. The generator's CPU time does not count.

What is unfair: beanstalkd is written in C, does not use HTTP or JSON, and forgets a job when it is deleted, while a
topic retains it for other groups and subscribers. On the other hand, beanstalkd returns one job a command, and a pull
returns a hundred. Its commands are pipelined here, as lines are; its puts are also measured one at a time, as publishes
by HTTP are.
"""

import argparse
import re
import shutil
import socket
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from app.cli.bench.process_tree import ProcessTree
from benchmarks.deployments import running_redis
from benchmarks.harness import child, connect, receive_some
from tests.harness import ServerProcess, free_port, start_server

AT_ONCE = 100  # messages in a batch and a pull, credit of a consumer, commands in a pipeline
PUBLISH, BATCH, PULL = "HTTP: publish, one a request", "HTTP: publish, 100 a batch", "HTTP: pull and ack, 100 each"
GROUPED, LINES = "HTTP: publish, one a request, to a group", "line port: receive and ack, credit 100"
PUT_ONE, PUT, RESERVE = (
    "beanstalkd: put, one at a time",
    "beanstalkd: put",
    "beanstalkd: reserve and delete",
)

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_LEASE = re.compile(rb'"lease":"([^"]+)"')
_LINE_ID = re.compile(rb'"id":"([^"]+)"')


@dataclass
class Connection:
    """A connection with its topic and the body that it publishes. `received` is not processed yet."""

    sock: socket.socket
    topic: str
    body: bytes
    received: bytes = b""

    def read_until(self, end: bytes) -> bytes:
        """Read up to the first `end`, inclusive."""
        while end not in self.received:
            self.received += receive_some(self.sock)
        found, _, self.received = self.received.partition(end)
        return found + end

    def read_exactly(self, size: int) -> bytes:
        while len(self.received) < size:
            self.received += receive_some(self.sock)
        found, self.received = self.received[:size], self.received[size:]
        return found

    def request(self, method: str, path: str, body: bytes = b"", content_type: str = "text/plain") -> bytes:
        """Returns the body of the answer. Ends the program if the request is refused."""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
        self.sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = self.read_until(b"\r\n\r\n")
        length = _LENGTH.search(answer)
        content = self.read_exactly(int(length[1]) if length else 0)
        if not answer.startswith(b"HTTP/1.1 2"):
            raise SystemExit(f"{method} {path} was refused: {content[:200]!r}")
        return content

    @property
    def group(self) -> str:
        return f"/topics/{self.topic}/groups/work"

    @property
    def messages(self) -> str:
        return f"/topics/{self.topic}/messages"


Operation = Callable[[Connection, int], object]


def publish(connection: Connection, count: int) -> None:
    for _ in range(count):
        connection.request("POST", connection.messages, connection.body)


def publish_batches(connection: Connection, count: int) -> None:
    for _ in range(count // AT_ONCE):
        connection.request("POST", connection.messages, (connection.body + b"\n") * AT_ONCE, "application/x-ndjson")


def pull(connection: Connection, count: int) -> None:
    while count:
        leases = _LEASE.findall(connection.request("POST", f"{connection.group}/pull?max={AT_ONCE}"))
        connection.request("POST", f"{connection.group}/ack", b'{"ids":["%b"]}' % b'","'.join(leases))
        count -= len(leases)


def consume_lines(connection: Connection, count: int) -> None:
    """Receive and ack. Acks are sent without waiting for their answers."""
    fields = b'"topic":"%b","group":"work"' % connection.topic.encode()
    connection.sock.sendall(b'{"command":"subscribe",%b,"credit":%d}\n' % (fields, AT_ONCE))
    answers = count + 1  # the first is for the subscription
    while answers:
        lines = (connection.received + receive_some(connection.sock)).split(b"\r\n")
        connection.received = lines.pop()
        ids = [match[1] for line in lines if (match := _LINE_ID.search(line))]
        connection.sock.sendall(b"".join(b'{"command":"ack",%b,"id":"%b"}\n' % (fields, id) for id in ids))
        answers -= lines.count(b'{"success": true}')


def put_one(connection: Connection, count: int) -> None:
    for _ in range(count):
        _put(connection, 1)


def put(connection: Connection, count: int) -> None:
    for _ in range(count // AT_ONCE):
        _put(connection, AT_ONCE)


def _put(connection: Connection, count: int) -> None:
    connection.sock.sendall((b"put 0 0 60 %d\r\n%b\r\n" % (len(connection.body), connection.body)) * count)
    for _ in range(count):
        connection.read_until(b"\r\n")


def reserve(connection: Connection, count: int) -> None:
    for _ in range(count // AT_ONCE):
        connection.sock.sendall(b"reserve\r\n" * AT_ONCE)
        ids = [_reserved(connection) for _ in range(AT_ONCE)]
        connection.sock.sendall(b"".join(b"delete %b\r\n" % id for id in ids))
        for _ in ids:
            connection.read_until(b"\r\n")


def _reserved(connection: Connection) -> bytes:
    _, id, size = connection.read_until(b"\r\n").split()
    connection.read_exactly(int(size) + 2)
    return id


@dataclass
class Benchmark:
    """`figures`: row → microseconds a message, one value a round."""

    connections: int
    share: int  # messages a connection
    body: bytes
    figures: dict[str, list[float]] = field(default_factory=dict)

    def plainmq(self, server: ServerProcess) -> None:
        """Do a round. The messages of the batches are consumed twice: with pull, then by a new group over lines."""
        retention = b'{"max_messages":%d,"max_bytes":%d}' % (self.share, self.share * len(self.body))
        pid, port = server.process.pid, server.port

        def prepare(method: str, subpath: str = "", body: bytes = b"") -> None:
            self.on_all_connections(
                port, lambda connection, _: connection.request(method, f"/topics/{connection.topic}{subpath}", body)
            )

        prepare("PUT", body=retention)
        self.measure(PUBLISH, pid, port, publish)
        self.measure(BATCH, pid, port, publish_batches)
        self.measure(PULL, pid, port, pull)
        prepare("DELETE", "/groups/work")
        self.measure(LINES, pid, server.tcp_port, consume_lines)
        prepare("DELETE")
        prepare("PUT", body=retention)
        prepare("PUT", "/groups/work")
        self.measure(GROUPED, pid, port, publish)
        prepare("DELETE")

    def beanstalkd(self, pid: int, port: int) -> None:
        """Do a round. It deletes all jobs that it puts."""
        for name, operation in ((PUT_ONE, put_one), (RESERVE, reserve), (PUT, put), (RESERVE, reserve)):
            self.measure(name, pid, port, operation)

    def measure(self, name: str, pid: int, port: int, operation: Operation) -> None:
        begin = ProcessTree(pid).cpu_seconds()
        self.on_all_connections(port, operation)
        cpu = ProcessTree(pid).cpu_seconds() - begin
        self.figures.setdefault(name, []).append(cpu / (self.share * self.connections) * 1e6)

    def on_all_connections(self, port: int, operation: Operation) -> None:
        """Run the operation on new connections, all at the same time."""
        with ThreadPoolExecutor(self.connections) as pool:
            for future in [
                pool.submit(self._on_one_connection, port, operation, f"jobs.{n}") for n in range(self.connections)
            ]:
                future.result()

    def _on_one_connection(self, port: int, operation: Operation, topic: str) -> None:
        with connect(port) as sock:
            operation(Connection(sock, topic, self.body), self.share)

    def report(self) -> None:
        print(f"{'microseconds of server CPU per message':42s} {'best':>8s} {'median':>8s}")  # noqa: T201
        for name, figures in self.figures.items():
            print(f"  {name:40s} {min(figures):8.2f} {statistics.median(figures):8.2f}")  # noqa: T201
        for name in (PULL, LINES):
            ratio = min(self.figures[name]) / min(self.figures[PUBLISH])
            print(f"  {f'({name}) / (publish)':49s} {ratio:8.2f}")  # noqa: T201


@contextmanager
def beanstalkd() -> Iterator[tuple[int, int] | None]:
    """Start beanstalkd, if it is installed. Yields its process id and port."""
    program = shutil.which("beanstalkd")
    if program is None:
        yield None
        return
    port = free_port()
    with child([program, "-l", "127.0.0.1", "-p", str(port)], [port]) as pid:
        yield pid, port


@contextmanager
def server_on_redis(wanted: bool) -> Iterator[ServerProcess | None]:
    if not wanted:
        yield None
        return
    with running_redis() as (_, port), start_server("--engine", f"redis://127.0.0.1:{port}/0") as server:
        yield server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=8_000, help="messages of a row in each round")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each row")
    parser.add_argument("--size", type=int, default=64, help="bytes in a message")
    parser.add_argument("--redis", action="store_true", help="measure a server of plainmq on a Redis too")
    options = parser.parse_args()
    share = max(1, options.messages // options.connections // AT_ONCE) * AT_ONCE
    benchmark = Benchmark(options.connections, share, b"x" * options.size)
    on_redis = replace(benchmark, figures={})
    with start_server() as server, beanstalkd() as other, server_on_redis(options.redis) as third:
        for _ in range(options.rounds):
            benchmark.plainmq(server)
            if other is not None:
                benchmark.beanstalkd(*other)
            if third is not None:
                on_redis.plainmq(third)
    benchmark.report()
    if options.redis:
        print("\non Redis, without the CPU time of Redis:")  # noqa: T201
        on_redis.report()


if __name__ == "__main__":
    main()
