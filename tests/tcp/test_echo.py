"""`plainmq echo`: every line that is not blank comes back as it was sent."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.tcp.echo import EchoSession, serve_echo
from tests.tcp.peer import DEADLINE, Peer, bound_socket, connect, serving

LIMIT = 1_000


@pytest.fixture
async def echo() -> AsyncIterator[Peer]:
    async with serving(max_line=LIMIT, session=lambda _: EchoSession()) as port, port.connect() as peer:
        yield peer


@pytest.mark.parametrize(
    "line", [b"hello\n", b"hello\r\n", b"  \xff\x00 \n", b"QUIT\n", b"quit now\n", b"x" * LIMIT + b"\n"]
)
async def test_a_line_comes_back_as_it_was_sent(echo: Peer, line: bytes) -> None:
    assert await echo.ask(line) == line


async def test_blank_lines_do_not_come_back(echo: Peer) -> None:
    assert await echo.ask(b"\n\r\n \t \nx\n") == b"x\n"


@pytest.mark.parametrize("quit", [b"quit\n", b"quit\r\n"])
async def test_quit_closes(echo: Peer, quit: bytes) -> None:
    echo.send(b"a\n", quit, b"b\n")
    assert await echo.rest() == b"a\n"


async def test_a_last_line_without_lf_comes_back_as_it_was_sent(echo: Peer) -> None:
    echo.send(b"a\nb")
    echo.writer.write_eof()
    assert await echo.rest() == b"a\nb"


async def test_a_line_that_is_too_long_gets_one_error(echo: Peer) -> None:
    assert (await echo.ask(b"x" * 100_000 + b"\n")).startswith(b"ERR message_too_large ")
    assert await echo.ask(b"y\n") == b"y\n"


async def test_it_serves_until_it_is_stopped() -> None:
    sock, stopped = bound_socket(), asyncio.Event()
    number = sock.getsockname()[1]
    serving = asyncio.create_task(serve_echo(sock, LIMIT, stopped))
    await asyncio.sleep(0)
    async with connect(number) as peer:
        assert await peer.ask("x") == b"x\n"
        stopped.set()
        assert await peer.rest() == b""
    async with asyncio.timeout(DEADLINE):
        await serving
