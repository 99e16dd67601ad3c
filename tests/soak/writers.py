"""Those who publish in a soak, through every door, and those who only come and go."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import Any

import httpx

from tests.harness import ServerProcess, lines
from tests.soak.book import LOSABLE, ONE, SURE, Book
from tests.soak.readers import LOST, cut

Publish = Callable[[str], Awaitable[None]]


def size() -> int:
    """Bytes of a body: mostly small, a few of two kibibytes."""
    return int(2.0 ** random.uniform(5, 11))


class HttpPublisher:
    """One message each time, in one of the ways that HTTP has for it."""

    def __init__(self, http: httpx.AsyncClient, book: Book) -> None:
        self._http = http
        self._book = book
        self._keys = count()
        self._ways: dict[Publish, int] = {
            self.plainly: 50, self.in_a_batch: 8, self.for_a_while: 12, self.later: 6, self.twice: 6, self.live: 10
        }  # fmt: skip

    async def publish(self, topic: str) -> None:
        (way,) = random.choices([*self._ways], [*self._ways.values()])
        await way(topic)

    async def plainly(self, topic: str) -> None:
        await self._send(topic, {})

    async def for_a_while(self, topic: str) -> None:
        await self._send(topic, {"ttl": "60s", "event": "shortlived"})

    async def later(self, topic: str) -> None:
        await self._send(topic, {"delay": "3s"}, expected=202)

    async def live(self, topic: str) -> None:
        await self._send(topic, {"retain": "false"}, kind=LOSABLE)

    async def for_one(self, topic: str) -> None:
        await self._send(topic, {"delivery": "one"}, kind=ONE)

    async def twice(self, topic: str) -> None:
        """The second time it is a repetition, and stores nothing."""
        number, text = self._book.new(topic, size=size())
        headers = {"Idempotency-Key": f"soak-{next(self._keys)}"}
        await self._post(topic, [number], text, {}, headers, 201)
        await self._post(topic, [number], text, {}, headers, 200)

    async def in_a_batch(self, topic: str) -> None:
        batch = [self._book.new(topic, size=size()) for _ in range(random.randint(2, 20))]
        numbers, texts = zip(*batch, strict=True)
        await self._post(topic, [*numbers], "\n".join(texts), {}, {"Content-Type": "application/x-ndjson"}, 201)

    async def _send(self, topic: str, options: dict[str, str], kind: str = SURE, expected: int = 201) -> None:
        number, text = self._book.new(topic, kind, size())
        await self._post(topic, [number], text, options, {}, expected)

    async def _post(
        self, topic: str, numbers: list[int], text: str, options: dict[str, str], headers: dict[str, str], expected: int
    ) -> None:
        try:
            answer = await self._http.post(f"/topics/{topic}/messages", content=text, params=options, headers=headers)
        except httpx.TransportError:  # a kept connection that the server was about to close: nobody knows the outcome
            self._book.notes["publishes without an answer"] += 1
            return
        if answer.status_code == expected:
            self._book.confirm(*numbers)
        else:
            self._book.faults[f"publish answered {answer.status_code}"] += 1


async def publish_lines(
    server: ServerProcess, book: Book, topics: list[str], pause: Callable[[], Awaitable[Any]]
) -> None:
    """Through the line port, in each of its dialects."""
    async with lines(server) as peer:
        while True:
            await pause()
            topic, dialect = random.choice(topics), random.choice([*_SENDS])
            number, text = book.new(topic, size=size())
            peer.send(_SENDS[dialect](topic, text), '{"command":"ping"}')
            while (answer := await peer.next()) != b'{"success": true}\r\n' or dialect == "json":
                if not answer.startswith((b"OK ", b'{"success": true}')):
                    book.faults[f"a line was answered {answer[:60]!r}"] += 1
                if dialect == "json":
                    dialect = "ping"
            book.confirm(number)


_SENDS: dict[str, Callable[[str, str], str]] = {
    "words": lambda topic, text: f"pub {topic} {text}",
    "json": lambda topic, text: json.dumps({"command": "send", "topic": topic, "msg": text, "delivery": "all"}),
    "literal": lambda topic, text: f"{ {'command': 'send', 'topic': topic, 'msg': text} }",
}


async def come_and_go(server: ServerProcess, http: httpx.AsyncClient, pause: Callable[[], Awaitable[Any]]) -> None:
    """Connections of every kind that do not last, and topics that do not."""
    for number in count():
        await pause()
        with suppress(*LOST):
            await _drop_in(server, random.choice(_VISITS))
            topic = f"temporary.{number}"
            await http.post(f"/topics/{topic}/messages", content="x", params={"ttl": "10s"})
            if number % 2:
                await http.delete(f"/topics/{topic}")  # the others go when they have been idle for long enough


_VISITS: list[tuple[bool, bytes]] = [
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


async def _drop_in(server: ServerProcess, visit: tuple[bool, bytes]) -> None:
    through_http, request = visit
    reader, writer = await asyncio.open_connection(server.host, server.port if through_http else server.tcp_port)
    writer.write(request)
    with suppress(TimeoutError):
        async with asyncio.timeout(random.uniform(0, 1)):
            await reader.read(1 << 16)
    cut(writer)
