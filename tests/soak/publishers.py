"""The publishers of a soak, by every protocol and with every option."""

import json
import random
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import httpx

from tests.harness import ServerProcess
from tests.line_client import lines
from tests.soak.ledger import BEST_EFFORT, GUARANTEED, ONE, SoakLedger

Publish = Callable[[str], Awaitable[None]]


def random_size() -> int:
    """Bytes of a body: mostly few, at most 2 KiB."""
    return int(2.0 ** random.uniform(5, 11))


class HttpPublisher:
    """Publishes with a random choice of the options."""

    def __init__(self, http: httpx.AsyncClient, ledger: SoakLedger) -> None:
        self._http = http
        self._ledger = ledger
        self._keys = count()
        self._weights: dict[Publish, int] = {
            self.plain: 50, self.batch: 8, self.with_ttl: 12, self.delayed: 6, self.idempotent: 6, self.not_retained: 10
        }  # fmt: skip

    async def publish(self, topic: str) -> None:
        (publish,) = random.choices([*self._weights], [*self._weights.values()])
        await publish(topic)

    async def plain(self, topic: str) -> None:
        await self._send(topic, {})

    async def with_ttl(self, topic: str) -> None:
        await self._send(topic, {"ttl": "60s", "event": "shortlived"})

    async def delayed(self, topic: str) -> None:
        await self._send(topic, {"delay": "3s"}, expected=202)

    async def not_retained(self, topic: str) -> None:
        await self._send(topic, {"retain": "false"}, kind=BEST_EFFORT)

    async def delivery_one(self, topic: str) -> None:
        await self._send(topic, {"delivery": "one"}, kind=ONE)

    async def idempotent(self, topic: str) -> None:
        """Publish twice with the same key. The second publish stores nothing."""
        number, text = self._ledger.next_message(topic, size=random_size())
        headers = {"Idempotency-Key": f"soak-{next(self._keys)}"}
        await self._post(topic, [number], text, {}, headers, 201)
        await self._post(topic, [number], text, {}, headers, 200)

    async def batch(self, topic: str) -> None:
        batch = [self._ledger.next_message(topic, size=random_size()) for _ in range(random.randint(2, 20))]
        numbers, texts = zip(*batch, strict=True)
        await self._post(topic, [*numbers], "\n".join(texts), {}, {"Content-Type": "application/x-ndjson"}, 201)

    async def _send(self, topic: str, options: dict[str, str], kind: str = GUARANTEED, expected: int = 201) -> None:
        number, text = self._ledger.next_message(topic, kind, random_size())
        await self._post(topic, [number], text, options, {}, expected)

    async def _post(
        self, topic: str, numbers: list[int], text: str, options: dict[str, str], headers: dict[str, str], expected: int
    ) -> None:
        try:
            answer = await self._http.post(f"/topics/{topic}/messages", content=text, params=options, headers=headers)
        except httpx.TransportError:  # the server was closing the idle connection: the outcome is not known
            self._ledger.counts["publishes without an answer"] += 1
            return
        if answer.status_code == expected:
            self._ledger.confirm(*numbers)
        else:
            self._ledger.faults[f"publish answered {answer.status_code}"] += 1


async def publish_lines(
    server: ServerProcess, ledger: SoakLedger, topics: list[str], pause: Callable[[], Awaitable[Any]]
) -> None:
    """Publish by the line port, in each of its dialects, with `pause` before each message."""
    async with lines(server) as peer:
        while True:
            await pause()
            topic, dialect = random.choice(topics), random.choice([*_SENDS])
            number, text = ledger.next_message(topic, size=random_size())
            peer.send(_SENDS[dialect](topic, text), '{"command":"ping"}')
            while (answer := await peer.next()) != b'{"success": true}\r\n' or dialect == "json":
                if not answer.startswith((b"OK ", b'{"success": true}')):
                    ledger.faults[f"a line was answered {answer[:60]!r}"] += 1
                if dialect == "json":
                    dialect = "ping"
            ledger.confirm(number)


_SENDS: dict[str, Callable[[str, str], str]] = {
    "text": lambda topic, text: f"pub {topic} {text}",
    "json": lambda topic, text: json.dumps({"command": "send", "topic": topic, "msg": text, "delivery": "all"}),
    "literal": lambda topic, text: f"{ {'command': 'send', 'topic': topic, 'msg': text} }",
}
