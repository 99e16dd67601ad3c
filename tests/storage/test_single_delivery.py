"""What is for one subscriber is gone once that one's machine has it, and not before: whoever leaves, or is killed.

A client with a tiny receive buffer asks and reads nothing. When it is gone, another one takes what is left: all that
the first one's machine has not taken must be there, perhaps twice.
"""

import asyncio
import json
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from tests.event_stream import stream
from tests.harness import DEADLINE, ServerProcess, http_client, start_server, start_uvicorn_with, take_nothing
from tests.line_client import lines

COUNT: Final = 600
SIZE: Final = 1_000  # bytes of each
BODIES: Final = [f"{n:04}".ljust(SIZE, "x") for n in range(COUNT)]
END: Final = "end"
LIMITS: Final = {"max_messages": "100000", "max_bytes": "64MiB", "min_free_disk": "0", "stall_timeout": "1s"}

Start = Callable[[], ServerProcess]


def engine(name: str, folder: Path) -> str:
    return name if name == "memory" else f"sqlite:{folder}/log.db"


@pytest.fixture(params=["memory", "sqlite", "uvicorn"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    if request.param == "uvicorn":
        variables = {f"PLAINMQ_{name.upper()}": value for name, value in LIMITS.items()}
        with start_uvicorn_with(PLAINMQ_ENGINE=engine("sqlite", tmp_path), **variables) as server:
            yield server
    else:
        with start_server("--engine", engine(request.param, tmp_path), *flags()) as server:
            yield server


def flags() -> list[str]:
    return [part for name, value in LIMITS.items() for part in (f"--{name.replace('_', '-')}", value)]


async def publish(server: ServerProcess, bodies: Sequence[str], **options: str) -> None:
    async with http_client(server.url) as http:
        for start in range(0, len(bodies), 100):
            answer = await http.post(
                "/topics/t/messages",
                params=options,
                content="\n".join(bodies[start : start + 100]),
                headers={"Content-Type": "application/x-ndjson"},
            )
            answer.raise_for_status()


HTTP: Final = b"GET /topics/t/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
LINE: Final = b'{"command":"subscribe","topic":"t"}\n'


def connect(server: ServerProcess, endpoint: str) -> socket.socket:
    return take_nothing(server.port, HTTP) if endpoint == "http" else take_nothing(server.tcp_port, LINE)


async def until_it_has(client: socket.socket, what: bytes) -> None:
    """Its machine has received that; nobody has read it."""
    async with asyncio.timeout(DEADLINE):
        while what not in (seen := await asyncio.to_thread(client.recv, 2_048, socket.MSG_PEEK)):
            assert seen, "the connection has ended"
            await asyncio.sleep(0.01)  # what is there already is seen again at once


async def taken_by_another(server: ServerProcess) -> list[str]:
    """All that another subscriber gets before the topic is empty."""
    got: list[str] = []
    async with stream(server, "/topics/t/stream") as events:

        async def read() -> None:
            while (event := await events.next()) and event.data != END:
                got.append(event.data)

        reading = asyncio.create_task(read())
        async with http_client(server.url) as http, asyncio.timeout(DEADLINE):
            while (await http.get("/topics/t")).json()["messages"]:
                pass
        await publish(server, [END])
        await reading
    return got


def lost(got: Sequence[str]) -> int:
    """Bytes that nobody else got."""
    assert set(got) <= set(BODIES)
    return SIZE * (COUNT - len(set(got)))


def room(client: socket.socket) -> int:
    """Bytes that its machine takes for it while it reads nothing."""
    return client.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


@pytest.mark.parametrize("endpoint", ["http", "line"])
@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "is cut off"])
async def test_a_subscriber_that_reads_nothing_of_the_backlog_removes_nothing(
    server: ServerProcess, endpoint: str, leaves: bool
) -> None:
    await publish(server, BODIES, delivery="one")
    with connect(server, endpoint) as client:
        await until_it_has(client, b"0000xx")
        if leaves:
            client.close()
            got = await taken_by_another(server)
            assert lost(got) <= 8_192
        else:
            got = await taken_by_another(server)
            assert lost(got) <= room(client)


@pytest.mark.parametrize("endpoint", ["http", "line"])
async def test_a_live_subscriber_that_reads_nothing_removes_nothing(server: ServerProcess, endpoint: str) -> None:
    with connect(server, endpoint) as client:
        await until_it_has(client, b"\n")
        await publish(server, BODIES, delivery="one")
        most = room(client)
    got = await taken_by_another(server)
    assert lost(got) <= most


@pytest.mark.parametrize("endpoint", ["http", "line"])
@pytest.mark.parametrize("live", [True, False], ids=["live", "waiting"])
async def test_a_kill_removes_nothing_that_its_subscriber_did_not_receive(
    tmp_path: Path, endpoint: str, live: bool
) -> None:
    with ExitStack() as stack:
        options = ("--engine", engine("sqlite", tmp_path), *flags())
        server = stack.enter_context(start_server(*options))
        if not live:
            await publish(server, BODIES, delivery="one")
        with connect(server, endpoint) as client:
            await until_it_has(client, b"\n")
            if live:
                await publish(server, BODIES, delivery="one")
            await until_it_has(client, b"0000xx")
            server.process.kill()
            server.process.wait(DEADLINE)
            most = room(client)
        server = stack.enter_context(start_server(*options))
        assert lost(await taken_by_another(server)) <= most


@pytest.mark.parametrize("live", [True, False], ids=["live", "waiting"])
async def test_a_subscriber_with_a_limit_that_leaves_causes_no_duplicate(server: ServerProcess, live: bool) -> None:
    few = BODIES[:20]
    got: list[str] = []
    if not live:
        await publish(server, few, delivery="one")
    while len(got) < len(few):
        async with stream(server, "/topics/t/stream?limit=4") as events:
            if live:
                await publish(server, few[len(got) : len(got) + 4], delivery="one")
            got += await events.data(4)
            assert await events.next() is None
    assert sorted(got) == few
    assert await taken_by_another(server) == []


async def test_a_message_that_a_line_client_received_before_it_quits_is_not_delivered_again(
    server: ServerProcess,
) -> None:
    few = BODIES[:20]
    await publish(server, few, delivery="one")
    async with lines(server) as line:
        line.send(LINE)
        got: list[dict[str, Any]] = [json.loads(line) for line in await line.take(1 + len(few))]
        line.send("quit")
        assert await line.next() == b""
    assert [each["msg"] for each in got[1:]] == few
    assert await taken_by_another(server) == []
