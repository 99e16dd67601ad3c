"""What a lost connection has received is asked of the system only where somebody needs to know."""

import asyncio
from asyncio import StreamReader, StreamWriter
from socket import socket

import pytest

from app.messages.message import Delivery
from app.net import progress
from app.net.sockets import bytes_acknowledged
from app.web.middleware.forwarded import Proxies
from tests.harness import DEADLINE, draft
from tests.net.recorder import recording
from tests.tcp.peer import Port, serving


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The sockets that the system was asked about."""
    sockets: list[object] = []

    def ask(sock: socket) -> int:
        sockets.append(sock)
        return bytes_acknowledged(sock)

    monkeypatch.setattr(progress, "bytes_acknowledged", ask)
    return sockets


async def connect(port: int, request: bytes, answer: bytes) -> tuple[StreamReader, StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(DEADLINE):
        await reader.readuntil(answer)
    return reader, writer


async def leave(port: Port, writer: StreamWriter) -> None:
    """Without a word, as a machine does that is gone."""
    writer.transport.abort()
    async with asyncio.timeout(DEADLINE):
        while any(port.broker.subscribers().values()):  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("delivery", Delivery)
async def test_a_disconnected_line_subscriber_is_checked_if_it_got_a_message_for_one(
    delivery: Delivery, asked: list[object]
) -> None:
    async with serving() as port:
        reader, writer = await connect(port.number, b"sub a\n", b"OK subscribed to a\r\n")
        await port.broker.publish([draft("a", b"hello", delivery=delivery)])
        async with asyncio.timeout(DEADLINE):
            await reader.readuntil(b"hello")
        await leave(port, writer)
        assert bool(asked) == (delivery is Delivery.ONE)


async def test_a_disconnected_http_subscriber_is_not_checked_without_a_message_for_one(asked: list[object]) -> None:
    async with recording(Proxies()) as (number, _, _):
        request = b"GET /topics/a/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
        reader, writer = await connect(number, request, b"retry: ")
        publish = b"POST /topics/a/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
        _, publisher = await connect(number, publish, b"201")
        async with asyncio.timeout(DEADLINE):
            await reader.readuntil(b"hello")
        for each in (writer, publisher):
            each.transport.abort()
    assert not asked


def test_what_is_written_after_the_end_does_not_count_as_received() -> None:
    left = progress.NOTHING
    assert (left.open, left.taken) == (False, 0)
    assert left.end - (1 << 40) > left.taken  # however many bytes were written behind it
