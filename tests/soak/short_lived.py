"""Short-lived connections and topics of a soak: clients that connect, send something valid or not, and disconnect."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import Any, Final

import httpx

from tests.harness import ServerProcess
from tests.soak.client import CONNECTION_ERRORS, abort


async def connect_and_leave(
    server: ServerProcess, http: httpx.AsyncClient, pause: Callable[[], Awaitable[Any]]
) -> None:
    """Open connections of every kind that do not last, and topics that do not, with `pause` before each."""
    for number in count():
        await pause()
        with suppress(*CONNECTION_ERRORS):
            await _visit(server, *random.choice(_VISITS))
            topic = f"temporary.{number}"
            await http.post(f"/topics/{topic}/messages", content="x", params={"ttl": "10s"})
            if number % 2:
                await http.delete(f"/topics/{topic}")  # the server deletes the others once they were idle long enough


_VISITS: Final[list[tuple[bool, bytes]]] = [  # by HTTP rather than the line port, and the bytes to send
    (True, b""),
    (True, b"GET /topics/soak.a.0/stream?since=earliest HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (True, b"GET /topics/soak.**/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (True, b"GET /topics/soak.a.1/messages?wait=60s&since=latest HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (True, b"POST /topics/soak.nothing/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf"),
    (True, b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
    (True, b"\x16\x03\x01\x02\x00"),
    (False, b""),
    (False, b"sub soak.a.0 earliest\nsub soak.** earliest\n"),
    (False, b'{"command":"subscribe","topic":"soak.a.2"}\n'),
    (False, b"{'command':'subscribe', 'topic':'soak.a.3', 'last_seen':-1}\n{'command':"),
    (False, b"nonsense\n\xff\n{]\ntopics\nhelp\nquit\n"),
]


async def _visit(server: ServerProcess, by_http: bool, request: bytes) -> None:
    reader, writer = await asyncio.open_connection(server.host, server.port if by_http else server.tcp_port)
    writer.write(request)
    with suppress(TimeoutError):
        async with asyncio.timeout(random.uniform(0, 1)):
            await reader.read(1 << 16)
    abort(writer)
