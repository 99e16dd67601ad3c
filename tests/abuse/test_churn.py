"""Clients that connect and disconnect, with a close or a reset, leave no files, tasks, subscribers or memory behind."""

import asyncio
import signal
import socket
import struct
from typing import Final

import pytest

from tests.abuse.subscribers import metric, publish
from tests.harness import DEADLINE, ServerProcess, http_client, start_server

RATE: Final = 200  # a second
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: close() resets the connection
STREAM: Final = b"GET /topics/foo/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
LINE: Final = b"sub foo\n"


async def visit(server: ServerProcess, number: int) -> None:
    """Subscribe by HTTP or the line port, and disconnect."""
    port, request = [(server.port, STREAM), (server.tcp_port, LINE)][number // 2 % 2]
    reader, writer = await asyncio.open_connection(server.host, port)
    writer.write(request)
    if number % 3:  # the others do not wait for an answer
        await reader.read(1)
    if number % 2:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.close()


async def churn(server: ServerProcess, seconds: int) -> None:
    """Visit RATE times a second, or as fast as this machine can."""
    for second in range(seconds):
        pause = asyncio.ensure_future(asyncio.sleep(1))
        for number in range(RATE):
            await visit(server, second * RATE + number)
        await pause


async def resources(server: ServerProcess) -> tuple[int, int]:
    """The numbers of open files and of tasks that the server has."""
    server.process.send_signal(signal.SIGUSR1)
    assert server.process.stderr
    line = await asyncio.to_thread(server.process.stderr.readline)
    return server.open_files(), int(line.removeprefix("tasks "))


async def run(warm_up: int, seconds: int, slack: int) -> None:
    with start_server(program=("tests.abuse.task_count",)) as server:
        async with http_client(server.url) as http:
            await publish(http)
            base = await resources(server)
            await churn(server, warm_up)
            memory_before = server.resident()
            await churn(server, seconds)
            async with asyncio.timeout(DEADLINE):
                while await metric(http, "plainmq_subscribers") or await resources(server) != base:
                    pass
            grown = server.resident() - memory_before
            visits = seconds * RATE
            print(f"{visits} visits: {grown / 1024:+.0f} KiB of memory, files and tasks as before: {base}")
            assert grown < slack
            assert (await http.post("/topics/foo/messages", content=b"x")).json()["subscribers"] == 0


async def test_clients_that_come_and_go_leave_nothing() -> None:
    await run(2, 4, 8 << 20)


@pytest.mark.slow
async def test_clients_that_come_and_go_for_minutes_leave_nothing() -> None:
    """`pytest -m slow -s tests/abuse/test_churn.py`"""
    await run(30, 180, 8 << 20)
