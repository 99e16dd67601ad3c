"""The subscribers of a soak, by every protocol. After a disconnection each resumes at its position."""

import json
from ast import literal_eval
from collections.abc import Callable

from app.messages.topic import TopicFilter
from tests.event_stream import SseParser, Stream, stream
from tests.harness import ServerProcess, http_client
from tests.line_client import lines
from tests.soak.client import Client, next_line
from tests.soak.ledger import SoakLedger, SubscriberRecord


class Subscriber(Client):
    record: SubscriberRecord


class StreamSubscriber(Subscriber):
    """Server-sent events, raw or as JSON."""

    def __init__(self, server: ServerProcess, ledger: SoakLedger, name: str, path: str, *topics: str) -> None:
        super().__init__(server, ledger, name)
        self.path = path
        self.record = SubscriberRecord(name, TopicFilter(topics))
        self._last_id = ""

    async def connect(self) -> None:
        headers = {"Last_Event_ID": self._last_id} if self._last_id else {}
        async with stream(self.server, self.path, **headers) as events:
            assert events.status == 200, events.status
            events.parser = SseParser(self._last_id, id=self._last_id)  # an EventSource keeps its last id too
            self.opened(events.writer)
            await self._read(events)

    def disconnect(self) -> None:
        if self._last_id:  # otherwise it could not resume
            super().disconnect()

    async def _read(self, events: Stream) -> None:
        while (event := await events.next()) is not None:
            if event.type in {"gap", "busy"}:
                self.record.faults[event.type] += 1
            elif event.type != "bye":
                raw = "format=raw" in self.path
                self.record.receive(event.data if raw else json.loads(event.data)["data"], event.last_event_id)
            self._last_id = events.parser.last_event_id


class LineSubscriber(Subscriber):
    """The line port, in one of its dialects."""

    def __init__(self, server: ServerProcess, ledger: SoakLedger, topic: str, dialect: str) -> None:
        super().__init__(server, ledger, f"{dialect} {topic}")
        self.topic = topic
        self.dialect = dialect
        self.record = SubscriberRecord(self.name, TopicFilter([topic]), reconnects=dialect != "literal")
        self._position = ""

    async def connect(self) -> None:
        async with lines(self.server) as peer:
            peer.send(_SUBSCRIBE[self.dialect](self.topic, self._position))
            if self.dialect == "literal":
                await peer.synchronise()
            else:
                assert (await peer.next()).startswith((b"OK ", b'{"success": true}'))
            self.opened(peer.writer)
            while line := (await next_line(peer)).decode():
                text, id, self._position = _PARSE[self.dialect](line)
                self.record.receive(text, id)

    def disconnect(self) -> None:
        if self._position:  # otherwise it could not resume
            super().disconnect()


def _parse_text(line: str) -> tuple[str, str, str]:
    """The message's text, its id, and the position after it; each empty if the line does not have it."""
    verb, _, id, text = line.rstrip("\r\n").split(" ", 3)
    return (text, id, id) if verb == "MSG" else ("", "", id)


def _parse_json(line: str) -> tuple[str, str, str]:
    message = json.loads(line)
    return message["msg"], "", str(message["index"])


def _parse_literal(line: str) -> tuple[str, str, str]:
    return literal_eval(line)["msg"], "", ""


_SUBSCRIBE: dict[str, Callable[[str, str], str]] = {
    "text": lambda topic, position: f"sub {topic} {position}",
    "json": lambda topic, position: json.dumps(
        {"command": "subscribe", "topic": topic} | ({"last_seen": int(position)} if position else {"cache": False})
    ),
    "literal": lambda topic, _: f"{ {'command': 'subscribe', 'topic': topic} }",
}
_PARSE = {"text": _parse_text, "json": _parse_json, "literal": _parse_literal}


class LongPollSubscriber(Subscriber):
    """Long polls: each starts at the `next` of the page before it."""

    def __init__(self, server: ServerProcess, ledger: SoakLedger, topic: str) -> None:
        super().__init__(server, ledger, f"pages of {topic}")
        self.topic = topic
        self.record = SubscriberRecord(self.name, TopicFilter([topic]))

    async def connect(self) -> None:
        async with http_client(self.server.url) as http:
            position = (await http.get(f"/topics/{self.topic}/messages", params={"since": "latest"})).json()["next"]
            self.ready.set()
            while True:
                options = {"since": position, "wait": "5s", "limit": "100"}
                page = (await http.get(f"/topics/{self.topic}/messages", params=options)).json()
                self.record.faults["gap"] += "gap" in page
                for message in page["messages"]:
                    self.record.receive(message["data"], message["id"])
                position = page["next"]
