"""The consumers of a soak: they lease messages of a group by pull, stream and line port, and mostly ack them."""

import json
import random
from collections import Counter
from typing import Any

import httpx

from tests.event_stream import stream
from tests.harness import ServerProcess, http_client
from tests.line_client import Lines, lines
from tests.soak.client import Client, next_line
from tests.soak.ledger import SoakLedger


def choose_action() -> str:
    """What to do with a lease. `forget`: nothing, so that it expires and another consumer gets the message."""
    return random.choices(("ack", "nack", "extend", "forget"), (90, 4, 3, 3))[0]


class Consumer(Client):
    def __init__(self, server: ServerProcess, ledger: SoakLedger, group: str) -> None:
        super().__init__(server, ledger, f"{type(self).__name__} of {group}")
        self.group = group
        self.acked = ledger.acked.setdefault(group, Counter())

    def _maybe_acked(self, *numbers: int) -> None:
        """Record acks that got no answer."""
        self.ledger.maybe_acked.setdefault(self.group, set()).update(numbers)


class HttpConsumer(Consumer):
    """Settles its leases by HTTP."""

    async def _settle(self, http: httpx.AsyncClient, lease: dict[str, Any]) -> None:
        action, number = choose_action(), int(lease["data"].split()[0])
        if action == "forget":
            return
        if action == "extend":
            await self._post(http, "extend", lease)
            action = "ack"
        try:
            outcome = await self._post(http, action, lease)
        except httpx.TransportError:
            self._maybe_acked(number)
            raise
        if action == "ack" and outcome == "done":
            self.acked[number] += 1

    async def _post(self, http: httpx.AsyncClient, action: str, lease: dict[str, Any]) -> str:
        path = f"/topics/{self.ledger.work_topic}/groups/{self.group}/{action}"
        answer = (await http.post(path, json={"ids": [lease["lease"]]})).json()
        outcome: str = answer["results"][lease["lease"]]
        self.ledger.counts[f"{action} {outcome}"] += 1
        return outcome


class PullConsumer(HttpConsumer):
    async def connect(self) -> None:
        async with http_client(self.server.url) as http:
            self.ready.set()
            while True:
                options = {"max": "5", "wait": "5s", "lease": "3s"}
                path = f"/topics/{self.ledger.work_topic}/groups/{self.group}/pull"
                answer = await http.post(path, params=options)
                for lease in answer.raise_for_status().json()["messages"]:
                    await self._settle(http, lease)


class StreamConsumer(HttpConsumer):
    async def connect(self) -> None:
        path = f"/topics/{self.ledger.work_topic}/groups/{self.group}/stream?credit=5&lease=3s"
        async with http_client(self.server.url) as http, stream(self.server, path) as events:
            assert events.status == 200, events.status
            self.opened(events.writer)
            while (event := await events.next()) is not None:
                if event.type == "message":
                    await self._settle(http, json.loads(event.data))


class LineConsumer(Consumer):
    """Leases and settles by the line port. Answers come in the order of the lines, between messages."""

    async def connect(self) -> None:
        group = {"topic": self.ledger.work_topic, "group": self.group}
        pending: list[tuple[str, int]] = []  # actions and numbers that have no answer yet
        async with lines(self.server) as peer:
            peer.send(json.dumps({"command": "subscribe", "credit": 5, "lease": "3s"} | group))
            assert await peer.next() == b'{"success": true}\r\n'
            self.opened(peer.writer)
            try:
                while line := await next_line(peer):
                    message = json.loads(line)
                    if "msg" in message:
                        self._settle(peer, message, group, pending)
                    else:
                        self._answered(*pending.pop(0), message)
            finally:
                self._maybe_acked(*(number for action, number in pending if action == "ack"))

    @staticmethod
    def _settle(peer: Lines, message: dict[str, Any], group: dict[str, str], pending: list[tuple[str, int]]) -> None:
        chosen = choose_action()
        actions = {"forget": [], "extend": ["extend", "ack"]}.get(chosen, [chosen])
        for action in actions:
            peer.send(json.dumps({"command": action, "id": f"{message['id']}-{message['attempt']}"} | group))
            pending.append((action, int(message["msg"].split()[0])))

    def _answered(self, action: str, number: int, answer: dict[str, Any]) -> None:
        self.ledger.counts[f"{action} {answer.get('reason', 'done')}"] += 1
        if action == "ack" and answer["success"]:
            self.acked[number] += 1
