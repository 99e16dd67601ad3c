"""Those who read and work in a soak, through every door. Whoever is cut off comes back to its place."""

import asyncio
import json
import random
import socket
import struct
from ast import literal_eval
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import httpx

from app.messages.topic import TopicFilter
from tests.harness import Lines, ServerProcess, SseParser, Stream, http_client, lines, stream
from tests.soak.book import Book, Reader

COMING_BACK: Final = 0.2  # seconds
LOST: Final = (ConnectionError, TimeoutError, asyncio.IncompleteReadError, httpx.TransportError)


def cut(writer: asyncio.StreamWriter) -> None:
    """Be gone without a word, every other time with a reset."""
    sock = writer.get_extra_info("socket")
    if sock is not None and random.random() < 0.5:  # None: it has just been closed
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Client:
    """A connection that is opened again whenever it ends. Subclasses read it."""

    def __init__(self, server: ServerProcess, book: Book, name: str) -> None:
        self.server = server
        self.book = book
        self.name = name
        self.ready = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._cut = False

    async def run(self) -> None:
        while True:
            try:
                await self.connect()
            except LOST as error:
                if not self._cut:
                    self.book.notes[f"{type(error).__name__} at {type(self).__name__}"] += 1
            except Exception as error:
                self.book.faults[f"{type(self).__name__}: {error!r}"[:100]] += 1
            self._cut = False
            self._writer = None
            self.book.notes["connections that ended"] += 1
            await asyncio.sleep(COMING_BACK)

    async def connect(self) -> None:
        """One connection, read until it ends."""
        raise NotImplementedError

    def opened(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.ready.set()

    def cut(self) -> None:
        if self._writer is not None:
            self._cut = True
            cut(self._writer)


class StreamReader(Client):
    """Server-sent events, raw or as JSON."""

    def __init__(self, server: ServerProcess, book: Book, name: str, path: str, *topics: str) -> None:
        super().__init__(server, book, name)
        self.path = path
        self.reader = Reader(name, TopicFilter(topics))
        self._place = ""

    async def connect(self) -> None:
        headers = {"Last_Event_ID": self._place} if self._place else {}
        async with stream(self.server, self.path, **headers) as events:
            assert events.status == 200, events.status
            events.parser = SseParser(self._place, id=self._place)  # as an EventSource keeps it
            self.opened(events.writer)
            await self._read(events)

    def cut(self) -> None:
        if self._place:  # or it would come back to nowhere
            super().cut()

    async def _read(self, events: Stream) -> None:
        while (event := await events.next()) is not None:
            if event.type in {"gap", "busy"}:
                self.reader.faults[event.type] += 1
            elif event.type != "bye":
                raw = "format=raw" in self.path
                self.reader.take(event.data if raw else json.loads(event.data)["data"], event.last_event_id)
            self._place = events.parser.last_event_id


class LineReader(Client):
    """A subscription of the line port in one of its dialects."""

    def __init__(self, server: ServerProcess, book: Book, topic: str, dialect: str) -> None:
        super().__init__(server, book, f"{dialect} {topic}")
        self.topic = topic
        self.dialect = dialect
        self.reader = Reader(self.name, TopicFilter([topic]), away=dialect != "literal")
        self._place = ""

    async def connect(self) -> None:
        async with lines(self.server) as peer:
            peer.send(_SUBSCRIBE[self.dialect](self.topic, self._place))
            if self.dialect == "literal":
                await peer.synchronise()
            else:
                assert (await peer.next()).startswith((b"OK ", b'{"success": true}'))
            self.opened(peer.writer)
            while line := (await _patiently(peer)).decode():
                self._take(line)

    def cut(self) -> None:
        if self._place:  # or it would come back to nowhere
            super().cut()

    def _take(self, line: str) -> None:
        text, id, self._place = _TAKE[self.dialect](line, self._place)
        self.reader.take(text, id)


async def _patiently(peer: Lines) -> bytes:
    """The next line, however long it takes: who left because it was quiet could miss what is not kept."""
    while True:
        try:
            return await peer.next()
        except TimeoutError:
            continue


def _take_words(line: str, _place: str) -> tuple[str, str, str]:
    verb, _, id, text = line.rstrip("\r\n").split(" ", 3)
    return (text, id, id) if verb == "MSG" else ("", "", id)


def _take_json(line: str, _place: str) -> tuple[str, str, str]:
    message = json.loads(line)
    return message["msg"], "", str(message["index"])


def _take_literal(line: str, _place: str) -> tuple[str, str, str]:
    return literal_eval(line)["msg"], "", ""


_SUBSCRIBE: dict[str, Callable[[str, str], str]] = {
    "words": lambda topic, place: f"sub {topic} {place}",
    "json": lambda topic, place: json.dumps(
        {"command": "subscribe", "topic": topic} | ({"last_seen": int(place)} if place else {"cache": False})
    ),
    "literal": lambda topic, _: f"{ {'command': 'subscribe', 'topic': topic} }",
}
_TAKE = {"words": _take_words, "json": _take_json, "literal": _take_literal}


class PageReader(Client):
    """Long polls: each page's `next` is where the following one starts."""

    def __init__(self, server: ServerProcess, book: Book, topic: str) -> None:
        super().__init__(server, book, f"pages of {topic}")
        self.topic = topic
        self.reader = Reader(self.name, TopicFilter([topic]))

    async def connect(self) -> None:
        async with http_client(self.server.url) as http:
            place = (await http.get(f"/topics/{self.topic}/messages", params={"since": "latest"})).json()["next"]
            self.ready.set()
            while True:
                options = {"since": place, "wait": "5s", "limit": "100"}
                page = (await http.get(f"/topics/{self.topic}/messages", params=options)).json()
                self.reader.faults["gap"] += "gap" in page
                for message in page["messages"]:
                    self.reader.take(message["data"], message["id"])
                place = page["next"]


# Work


def fate() -> str:
    """What a worker does with a lease: nearly always its work."""
    return random.choices(("ack", "nack", "extend", "forget"), (90, 4, 3, 3))[0]


class PushConsumer(Client):
    def __init__(self, server: ServerProcess, book: Book, group: str) -> None:
        super().__init__(server, book, f"{type(self).__name__} of {group}")
        self.group = group
        self.acked = book.acked.setdefault(group, Counter())

    async def _settle(self, http: httpx.AsyncClient, lease: dict[str, Any]) -> None:
        """Through HTTP. What is forgotten goes to another when its lease is over."""
        action, number = fate(), int(lease["data"].split()[0])
        if action == "forget":
            return
        if action == "extend":
            await self._tell(http, "extend", lease)
            action = "ack"
        try:
            outcome = await self._tell(http, action, lease)
        except httpx.TransportError:
            self.perhaps_acked(number)
            raise
        if action == "ack" and outcome == "done":
            self.acked[number] += 1

    def perhaps_acked(self, *numbers: int) -> None:
        """The answer did not come: nobody knows."""
        self.book.perhaps_acked.setdefault(self.group, set()).update(numbers)

    async def _tell(self, http: httpx.AsyncClient, action: str, lease: dict[str, Any]) -> str:
        path = f"/topics/{self.book.work}/groups/{self.group}/{action}"
        answer = (await http.post(path, json={"ids": [lease["lease"]]})).json()
        outcome: str = answer["results"][lease["lease"]]
        self.book.notes[f"{action} {outcome}"] += 1
        return outcome


class PullRequest(PushConsumer):
    async def connect(self) -> None:
        async with http_client(self.server.url) as http:
            self.ready.set()
            while True:
                options = {"max": "5", "wait": "5s", "lease": "3s"}
                answer = await http.post(f"/topics/{self.book.work}/groups/{self.group}/pull", params=options)
                for lease in answer.raise_for_status().json()["messages"]:
                    await self._settle(http, lease)


class StreamWorker(PushConsumer):
    async def connect(self) -> None:
        path = f"/topics/{self.book.work}/groups/{self.group}/stream?credit=5&lease=3s"
        async with http_client(self.server.url) as http, stream(self.server, path) as events:
            assert events.status == 200, events.status
            self.opened(events.writer)
            while (event := await events.next()) is not None:
                if event.type == "message":
                    await self._settle(http, json.loads(event.data))


class LineWorker(PushConsumer):
    """Answers come in the order of the lines, between the messages."""

    async def connect(self) -> None:
        about = {"topic": self.book.work, "group": self.group}
        asked: list[tuple[str, int]] = []
        async with lines(self.server) as peer:
            peer.send(json.dumps({"command": "subscribe", "credit": 5, "lease": "3s"} | about))
            assert await peer.next() == b'{"success": true}\r\n'
            self.opened(peer.writer)
            try:
                while line := await _patiently(peer):
                    message = json.loads(line)
                    if "msg" in message:
                        self._do(peer, message, about, asked)
                    else:
                        self._note(*asked.pop(0), message)
            finally:
                self.perhaps_acked(*(number for action, number in asked if action == "ack"))

    @staticmethod
    def _do(peer: Lines, message: dict[str, Any], about: dict[str, str], asked: list[tuple[str, int]]) -> None:
        chosen = fate()
        actions = {"forget": [], "extend": ["extend", "ack"]}.get(chosen, [chosen])
        for action in actions:
            peer.send(json.dumps({"command": action, "id": f"{message['id']}-{message['attempt']}"} | about))
            asked.append((action, int(message["msg"].split()[0])))

    def _note(self, action: str, number: int, answer: dict[str, Any]) -> None:
        self.book.notes[f"{action} {answer.get('reason', 'done')}"] += 1
        if action == "ack" and answer["success"]:
            self.acked[number] += 1


class Consumer(LineReader):
    """One of those of whom exactly one gets a message for one."""

    def __init__(self, server: ServerProcess, book: Book, topic: str) -> None:
        super().__init__(server, book, topic, "json")
        self.reader = Reader(self.name, TopicFilter([topic]))
