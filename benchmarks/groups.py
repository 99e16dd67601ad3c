"""What a message costs the server in a work queue: published, pulled and acked, by each endpoint; beanstalkd beside it.

    python -m benchmarks.groups [--messages N] [--connections N] [--rounds N] [--size BYTES]

Starts `plainmq serve`, and `beanstalkd` if it is installed. Each connection has a topic of its own, with one group;
each row does one thing with the same number of messages. The figure is microseconds of the server's CPU time for each
message, all its threads, so the cost of this generator does not count: the best of several rounds, and the median.

What is unfair: beanstalkd is written in C, speaks no HTTP or JSON, and forgets a job when it is deleted, where a topic
keeps it for other groups and readers; but it hands out one job a command, where a pull brings a hundred. Its commands
are pipelined here, as lines are; its puts are also measured one at a time, as a publish by HTTP is.
"""

import argparse
import re
import shutil
import socket
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from app.bench.process_tree import ProcessTree
from benchmarks.harness import child, connect, receive_some
from tests.harness import ServerProcess, free_port, start_server

AT_ONCE = 100  # messages in a batch and a pull, a worker's credit, commands in a pipeline
PUBLISH, BATCH, PULL = "HTTP: publish, one a request", "HTTP: publish, 100 a batch", "HTTP: pull and ack, 100 each"
GROUPED, LINES = "HTTP: publish, one a request, to a group", "line port: receive and ack, credit 100"
PUT_ONE, PUT, RESERVE = "beanstalkd: put, one at a time", "beanstalkd: put", "beanstalkd: reserve and delete"

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_LEASE = re.compile(rb'"lease":"([^"]+)"')
_LINE_ID = re.compile(rb'"id":"([^"]+)"')


@dataclass
class Talk:
    """One connection: what was received and is not used yet."""

    sock: socket.socket
    topic: str
    text: bytes
    rest: bytes = b""

    def until(self, end: bytes) -> bytes:
        """What comes, to the first `end`."""
        while end not in self.rest:
            self.rest += receive_some(self.sock)
        found, _, self.rest = self.rest.partition(end)
        return found + end

    def exactly(self, size: int) -> bytes:
        while len(self.rest) < size:
            self.rest += receive_some(self.sock)
        found, self.rest = self.rest[:size], self.rest[size:]
        return found

    def ask(self, method: str, path: str, body: bytes = b"", content_type: str = "text/plain") -> bytes:
        """The body of the answer."""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
        self.sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = self.until(b"\r\n\r\n")
        length = _LENGTH.search(answer)
        content = self.exactly(int(length[1]) if length else 0)
        if not answer.startswith(b"HTTP/1.1 2"):
            raise SystemExit(f"{method} {path} was refused: {content[:200]!r}")
        return content

    @property
    def group(self) -> str:
        return f"/topics/{self.topic}/groups/work"

    @property
    def messages(self) -> str:
        return f"/topics/{self.topic}/messages"


Work = Callable[[Talk, int], object]


def publish(talk: Talk, count: int) -> None:
    for _ in range(count):
        talk.ask("POST", talk.messages, talk.text)


def publish_batches(talk: Talk, count: int) -> None:
    for _ in range(count // AT_ONCE):
        talk.ask("POST", talk.messages, (talk.text + b"\n") * AT_ONCE, "application/x-ndjson")


def pull(talk: Talk, count: int) -> None:
    while count:
        leases = _LEASE.findall(talk.ask("POST", f"{talk.group}/pull?max={AT_ONCE}"))
        talk.ask("POST", f"{talk.group}/ack", b'{"ids":["%b"]}' % b'","'.join(leases))
        count -= len(leases)


def work_by_lines(talk: Talk, count: int) -> None:
    """Acks are sent for whatever has come, without waiting for their answers."""
    fields = b'"topic":"%b","group":"work"' % talk.topic.encode()
    talk.sock.sendall(b'{"command":"subscribe",%b,"credit":%d}\n' % (fields, AT_ONCE))
    answers = count + 1  # the first is for the subscription
    while answers:
        lines = (talk.rest + receive_some(talk.sock)).split(b"\r\n")
        talk.rest = lines.pop()
        ids = [match[1] for line in lines if (match := _LINE_ID.search(line))]
        talk.sock.sendall(b"".join(b'{"command":"ack",%b,"id":"%b"}\n' % (fields, id) for id in ids))
        answers -= lines.count(b'{"success": true}')


def put_one(talk: Talk, count: int) -> None:
    for _ in range(count):
        _put(talk, 1)


def put(talk: Talk, count: int) -> None:
    for _ in range(count // AT_ONCE):
        _put(talk, AT_ONCE)


def _put(talk: Talk, count: int) -> None:
    talk.sock.sendall((b"put 0 0 60 %d\r\n%b\r\n" % (len(talk.text), talk.text)) * count)
    for _ in range(count):
        talk.until(b"\r\n")


def reserve(talk: Talk, count: int) -> None:
    for _ in range(count // AT_ONCE):
        talk.sock.sendall(b"reserve\r\n" * AT_ONCE)
        ids = [_reserved(talk) for _ in range(AT_ONCE)]
        talk.sock.sendall(b"".join(b"delete %b\r\n" % id for id in ids))
        for _ in ids:
            talk.until(b"\r\n")


def _reserved(talk: Talk) -> bytes:
    _, id, size = talk.until(b"\r\n").split()
    talk.exactly(int(size) + 2)
    return id


@dataclass
class Run:
    """`figures`: each row's microseconds for a message, one of each round."""

    connections: int
    share: int  # messages of each connection
    text: bytes
    figures: dict[str, list[float]] = field(default_factory=dict)

    def plainmq(self, server: ServerProcess) -> None:
        """A round. What is published in batches is pulled, and then once more by another group."""
        retention = b'{"max_messages":%d,"max_bytes":%d}' % (self.share, self.share * len(self.text))
        pid, port = server.process.pid, server.port

        def prepare(method: str, below: str = "", body: bytes = b"") -> None:
            self.everybody(port, lambda talk, _: talk.ask(method, f"/topics/{talk.topic}{below}", body))

        prepare("PUT", body=retention)
        self.measure(PUBLISH, pid, port, publish)
        self.measure(BATCH, pid, port, publish_batches)
        self.measure(PULL, pid, port, pull)
        prepare("DELETE", "/groups/work")
        self.measure(LINES, pid, server.tcp_port, work_by_lines)
        prepare("DELETE")
        prepare("PUT", body=retention)
        prepare("PUT", "/groups/work")
        self.measure(GROUPED, pid, port, publish)
        prepare("DELETE")

    def beanstalkd(self, pid: int, port: int) -> None:
        """A round, which leaves nothing behind."""
        for name, work in ((PUT_ONE, put_one), (RESERVE, reserve), (PUT, put), (RESERVE, reserve)):
            self.measure(name, pid, port, work)

    def measure(self, name: str, pid: int, port: int, work: Work) -> None:
        begin = ProcessTree(pid).cpu_seconds()
        self.everybody(port, work)
        spent = ProcessTree(pid).cpu_seconds() - begin
        self.figures.setdefault(name, []).append(spent / (self.share * self.connections) * 1e6)

    def everybody(self, port: int, work: Work) -> None:
        """Do it on every connection at once; the connections are new ones."""
        with ThreadPoolExecutor(self.connections) as pool:
            for future in [pool.submit(self._alone, port, work, f"jobs.{n}") for n in range(self.connections)]:
                future.result()

    def _alone(self, port: int, work: Work, topic: str) -> None:
        with connect(port) as sock:
            work(Talk(sock, topic, self.text), self.share)

    def report(self) -> None:
        print(f"{'microseconds of server CPU per message':42s} {'best':>8s} {'median':>8s}")  # noqa: T201
        for name, figures in self.figures.items():
            print(f"  {name:40s} {min(figures):8.2f} {statistics.median(figures):8.2f}")  # noqa: T201
        for name in (PULL, LINES):
            ratio = min(self.figures[name]) / min(self.figures[PUBLISH])
            print(f"  {f'({name}) / (publish)':49s} {ratio:8.2f}")  # noqa: T201


@contextmanager
def beanstalkd() -> Iterator[tuple[int, int] | None]:
    """Its process id and port; None where it is not installed."""
    program = shutil.which("beanstalkd")
    if program is None:
        yield None
        return
    port = free_port()
    with child([program, "-l", "127.0.0.1", "-p", str(port)], [port]) as pid:
        yield pid, port


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=8_000, help="in each row of a round")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7, help="short ones, since the machine may have other work")
    parser.add_argument("--size", type=int, default=64, help="bytes in a message")
    options = parser.parse_args()
    share = max(1, options.messages // options.connections // AT_ONCE) * AT_ONCE
    run = Run(options.connections, share, b"x" * options.size)
    with start_server() as server, beanstalkd() as other:
        for _ in range(options.rounds):
            run.plainmq(server)
            if other is not None:
                run.beanstalkd(*other)
    run.report()


if __name__ == "__main__":
    main()
