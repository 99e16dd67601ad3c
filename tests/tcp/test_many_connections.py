"""Many connections to the line port of a server that was started as a user starts it: each message once, at the right
one. The clients are plain protocols in this process; nothing here measures time."""

import asyncio
import re
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import msgspec
import pytest

from tests.harness import DEADLINE, ROOT, ServerProcess, free_port, start_server
from tests.tcp.peer import connect

SPARE = 200  # open files for everything but the connections
SOURCES = 4  # addresses to connect from: one has 28,000 ports, and those of the last test may still be taken
ABREAST = 200  # connections that are being opened at once
DONE = b'{"success": true}\r\n'


@pytest.fixture(autouse=True)
def many_files() -> Iterator[int]:
    """As many open files as the system lets us, for us and for the server, which may have as many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Delivered(msgspec.Struct, forbid_unknown_fields=True):
    """A message as it comes, exactly these keys."""

    command: str
    topic: str
    msg: str
    delivery: str
    index: int


_decode = msgspec.json.Decoder(Delivered).decode


class Client(asyncio.Protocol):
    """Connection `number` of many: it subscribes to a topic of its own and keeps what comes, line by line."""

    def __init__(self, number: int) -> None:
        self.topic = f"topic.{number}"
        self.answers = 0
        self.messages: list[Delivered] = []
        self._rest = b""
        self._wanted = (0, 0)
        self._reached: asyncio.Future[None] | None = None  # somebody waits
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line + b"\n" == DONE:
                self.answers += 1
            else:
                self.messages.append(_decode(line))
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._lost = True
        self._look()

    async def has(self, answers: int, messages: int) -> None:
        """Return when so many have come. Raises ConnectionError when no more can."""
        self._wanted = (answers, messages)
        self._reached = asyncio.get_running_loop().create_future()
        self._look()
        await self._reached

    def _look(self) -> None:
        if self._reached is None or self._reached.done():
            return
        if self.answers >= self._wanted[0] and len(self.messages) >= self._wanted[1]:
            self._reached.set_result(None)
        elif self._lost:
            self._reached.set_exception(ConnectionError(f"the connection of {self.topic} was closed"))


async def open_clients(server: ServerProcess, count: int) -> list[Client]:
    loop = asyncio.get_running_loop()
    clients: list[Client] = []

    async def open_one(number: int) -> Client:
        source = (f"127.0.0.{2 + number % SOURCES}", 0)
        make: Callable[[], Client] = lambda: Client(number)  # noqa: E731
        return (await loop.create_connection(make, server.host, server.tcp_port, local_addr=source))[1]

    for first in range(0, count, ABREAST):
        clients += await asyncio.gather(*map(open_one, range(first, min(first + ABREAST, count))))
    return clients


def line_of(sender: int, turn: int, receiver: int) -> bytes:
    msg = f"{sender} {turn}"
    return f'{{"command":"send","topic":"topic.{receiver}","msg":"{msg}","delivery":"all"}}\n'.encode()


def receiver_of(sender: int, turn: int, connections: int) -> int:
    """Somebody else, another one each turn; seen from the receivers, everybody gets as many."""
    return (sender + 1 + turn * 7) % connections


def senders_to(receiver: int, turns: int, connections: int) -> list[str]:
    """The messages that this connection must get."""
    return [f"{(receiver - 1 - turn * 7) % connections} {turn}" for turn in range(turns)]


async def gather(server: ServerProcess, connections: int, turns: int, read_while_sending: bool) -> None:
    """Each connection subscribes to a topic of its own and sends to others' topics, all at once; then all must have
    come, each once, each at the right one, and nothing else."""
    clients = await open_clients(server, connections)
    try:
        await send_to_one_another(server, clients, turns, read_while_sending)
    finally:
        for client in clients:
            client.transport.abort()  # a reset, so that its port is free at once


async def send_to_one_another(
    server: ServerProcess, clients: list[Client], turns: int, read_while_sending: bool
) -> None:
    connections = len(clients)
    for client in clients:
        client.transport.write(f'{{"command":"subscribe","topic":"{client.topic}"}}\n'.encode())
    await asyncio.gather(*(client.has(1, 0) for client in clients))
    for client in clients:
        if not read_while_sending:
            client.transport.pause_reading()
    for number, client in enumerate(clients):
        lines = [line_of(number, turn, receiver_of(number, turn, connections)) for turn in range(turns)]
        client.transport.write(b"".join(lines))
    if not read_while_sending:
        await published(server, connections * turns)
        assert sum(len(client.messages) for client in clients) == 0
        for client in clients:
            client.transport.resume_reading()
    await asyncio.gather(*(client.has(1 + turns, turns) for client in clients))
    for client in clients:  # whatever else would come comes before the answer to this
        client.transport.write(b'{"command":"ping"}\n')
    await asyncio.gather(*(client.has(2 + turns, turns) for client in clients))
    faults: Counter[str] = Counter()
    for number, client in enumerate(clients):
        check(faults, client, senders_to(number, turns, connections))
    assert not faults


async def published(server: ServerProcess, count: int) -> None:
    """Return when the server has so many messages."""
    async with connect(server.tcp_port) as peer:
        peer.deadline *= 10  # its question waits behind all that was sent
        total = -1
        while total != count:
            topics = int((await peer.ask("topics")).split(b"=")[1])
            total = sum(int(line.split(b" ")[2].removeprefix(b"messages=")) for line in await peer.lines(topics))


def check(faults: Counter[str], client: Client, expected: list[str]) -> None:
    got = Counter(message.msg for message in client.messages)
    faults["lost"] += (Counter(expected) - got).total()
    faults["twice or never sent to it"] += (got - Counter(expected)).total()
    faults["of another topic"] += sum(message.topic != client.topic for message in client.messages)
    faults["not as it was sent"] += sum((m.command, m.delivery) != ("send", "all") for m in client.messages)
    indices = [message.index for message in client.messages]
    faults["out of order"] += indices != list(range(len(expected)))
    for fault in [fault for fault, count in faults.items() if not count]:
        del faults[fault]


async def exchange(connections: int, turns: int, hard_limit: int, read_while_sending: bool = True) -> None:
    if hard_limit < connections + SPARE:
        pytest.fail(
            f"{connections} connections need {connections + SPARE} open files, here and in the server, and the hard "
            f"limit is {hard_limit}: raise it (ulimit -Hn)"
        )
    with start_server() as server:
        async with asyncio.timeout(10 * DEADLINE):
            await gather(server, connections, turns, read_while_sending)
        assert server.stop() == 0
        assert server.complaints() == []


async def test_a_thousand_connections_send_ten_messages_each_to_others(many_files: int) -> None:
    await exchange(1_000, 10, many_files)


async def test_ten_thousand_connections_send_ten_messages_each_to_others(many_files: int) -> None:
    """As many as the server takes by default, each with a topic of its own."""
    await exchange(10_000, 10, many_files)


async def test_a_thousand_connections_pipeline_a_hundred_messages_each_and_read_at_the_end(many_files: int) -> None:
    await exchange(1_000, 100, many_files, read_while_sending=False)


# Open files


@contextmanager
def limited_server(soft: int, hard: int) -> Iterator[tuple[ServerProcess, str]]:
    """`plainmq serve` under these limits of open files, and its banner's first line."""
    port = free_port()
    serve = [sys.executable, "-m", "app", "serve", "--port", "0", "--tcp-port", str(port)]
    command = ["sh", "-c", f'ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$@"', "sh", *serve]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stderr
        said = [process.stderr.readline()]
        while "telnet://" not in said[-1]:
            assert process.poll() is None, "the server did not start"
            said.append(process.stderr.readline())
        yield ServerProcess(process, 0, port, "".join(said)), next(line for line in said if line.startswith("plainmq "))
    finally:
        process.kill()
        process.wait(DEADLINE)
        assert process.stderr
        process.stderr.close()


def limits_of(process: int) -> tuple[str, str]:
    """Soft and hard limit of open files."""
    found = re.search(r"Max open files +(\d+) +(\d+)", Path(f"/proc/{process}/limits").read_text())
    assert found
    return found[1], found[2]


async def test_the_server_raises_its_limit_of_open_files_and_says_how_many_connections_are_possible() -> None:
    with limited_server(soft=100, hard=400) as (server, banner):
        assert limits_of(server.process.pid) == ("400", "400")
        said = re.search(r", room for (\d+) connections$", banner.rstrip("\n"))
        assert said
        possible = int(said[1])
        assert 300 < possible < 400
        clients = await open_clients(server, possible)
        for client in clients:
            client.transport.write(b'{"command":"ping"}\n')
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*(client.has(1, 0) for client in clients))
        assert server.open_files() <= 400
        for client in clients:
            client.transport.abort()


async def test_more_connections_than_open_files_harm_nobody() -> None:
    with limited_server(soft=100, hard=200) as (server, _):
        async with connect(server.tcp_port) as early:
            assert await early.ask("sub foo") == b"OK subscribed to foo\r\n"
            crowd = await open_clients(server, 300)
            assert (await early.ask("pub foo x")).endswith(b" subscribers=1\r\n")
            assert (await early.line()).endswith(b" x\r\n")
            for client in crowd:
                client.transport.abort()
            async with asyncio.timeout(DEADLINE):
                while not await answers(server):
                    pass
            assert (await early.ask("pub foo y")).endswith(b" subscribers=1\r\n")


async def answers(server: ServerProcess) -> bool:
    """Whether a new connection is served."""
    async with connect(server.tcp_port) as peer:
        try:
            return await peer.ask("ping") == b"OK pong\r\n"
        except ConnectionError:
            return False
