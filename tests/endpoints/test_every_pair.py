"""Published by X, received by Y, to the byte: every pair of endpoints and dialects, on one server and one topic.

What Y must receive is written down here from the contract, not taken from the code that says it.
"""

import asyncio
import json
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.event_stream import SseParser
from tests.harness import DEADLINE, ServerProcess, start_server
from tests.tcp.peer import DONE, Peer, connect

UTF8 = "text/plain; charset=utf-8"
IMAGE = "image/png"
SIZE_UNITS = "application/octet-stream"

TEXTS: dict[str, str] = {
    "plain": "hello, world",
    "quotes": "it's \"quoted\" ''' \"\"\" and 'more'",
    "backslashes": "\\ \\\\ \\n \\' \\\" \\u0041 C:\\new\\",
    "emoji and wide": "größer \U0001f600 日本 \u2028 \u2029 \ufeff.",
    "like a command": "{'command':'send'} {\"command\":\"send\"} data: id: 1 quit",
    "controls": "a" + "".join(chr(code) for code in range(0xA0) if chr(code) not in "\n\r" and not 32 <= code < 127),
    "newlines": "one\ntwo\n\n three\n",
    "carriage returns": "one\r\ntwo\rthree",
    "empty": "",
}
BYTES = b"\xff\x00'\"\\\n\xe2\x80"
ONE_LINE = [name for name, text in TEXTS.items() if text and "\n" not in text]


@dataclass
class Sent:
    """A message as it was published: its bytes, their type, and the line it came in."""

    data: bytes
    content_type: str
    line: bytes | None = None  # in the literal dialect

    @property
    def url(self) -> str:
        return f"data:{self.content_type};base64,{b64encode(self.data).decode()}"

    @property
    def text(self) -> str:
        """For those who can only have text."""
        try:
            return self.data.decode()
        except UnicodeDecodeError:
            return self.url


# X: how it is published


async def by_literal(endpoints: "Endpoints", topic: str, value: str | bytes) -> Sent:
    line = f"{{'command':'send', 'topic':'{topic}', 'msg':{value!r}}}\r\n".encode()
    endpoints.publisher.send(line)
    await endpoints.publisher.assert_quiet()
    data = value.encode() if isinstance(value, str) else value
    return Sent(data, UTF8 if isinstance(value, str) else SIZE_UNITS, line)


async def by_json(endpoints: "Endpoints", topic: str, value: str) -> Sent:
    command = {"command": "send", "topic": topic, "msg": value, "delivery": "all"}
    assert await endpoints.publisher.ask(json.dumps(command, ensure_ascii=False)) == DONE
    return Sent(value.encode(), UTF8)


async def by_words(endpoints: "Endpoints", topic: str, value: str) -> Sent:
    assert (await endpoints.publisher.ask(f"pub {topic} {value}")).startswith(b"OK ")
    return Sent(value.encode(), UTF8)


async def by_http(endpoints: "Endpoints", topic: str, value: str | bytes) -> Sent:
    data, kind = (value.encode(), UTF8) if isinstance(value, str) else (value, IMAGE)
    fields = f"Host: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}"
    head = f"POST /topics/{topic}/messages HTTP/1.1\r\n{fields}"
    endpoints.http.send(f"{head}\r\n\r\n".encode() + data)
    answer = b"".join([line async for line in head_of(endpoints.http)])
    assert answer.startswith(b"HTTP/1.1 201 ")
    length = re.search(rb"(?i)content-length: (\d+)", answer)
    assert length
    async with asyncio.timeout(DEADLINE):
        await endpoints.http.reader.readexactly(int(length[1]))
    return Sent(data, kind)


async def head_of(peer: Peer) -> AsyncIterator[bytes]:
    while (line := await peer.line()) != b"\r\n":
        assert line, "the server has closed"
        yield line


Publish = Callable[["Endpoints", str, Any], Any]
PUBLISH: dict[str, tuple[Publish, list[str]]] = {
    "literal": (by_literal, [*TEXTS, "bytes"]),
    "json": (by_json, [*TEXTS]),
    "words": (by_words, ONE_LINE),
    "http": (by_http, [*TEXTS, "bytes"]),
}
SENT = [(x, name) for x, (_, names) in PUBLISH.items() for name in names]


# Y: what is received


@dataclass
class Place:
    """What the log gave the message."""

    topic: str
    index: int
    id: str
    time: str = ""


def in_literal(sent: Sent, place: Place) -> bytes:
    """The very line; from another endpoint, the send as Python writes it."""
    if sent.line is not None:
        return sent.line
    msg = repr(sent.data) if sent.text == sent.url else repr(sent.text)
    return f"{{'command': 'send', 'topic': '{place.topic}', 'msg': {msg}}}\n".encode()


_JSON_ESCAPES = {code: f"\\u{code:04x}" for code in range(0x20)}
_JSON_ESCAPES |= {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}


def quoted(text: str) -> str:
    """A JSON string that escapes what RFC 8259 demands, and nothing else."""
    return '"' + text.translate(_JSON_ESCAPES) + '"'


_TERMINAL_ESCAPES = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}


def in_json(sent: Sent, place: Place) -> bytes:
    """The send object with `index` added, exactly those keys, and CRLF. What a terminal obeys is escaped."""
    text = quoted(sent.text).translate(_TERMINAL_ESCAPES)
    keys = f'"command":"send","topic":"{place.topic}","msg":{text},"delivery":"all"'
    return f'{{{keys},"index":{place.index}}}\r\n'.encode()


_WORDS_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_WORDS_ESCAPES |= {9: "\\t", 10: "\\n", 13: "\\r", 92: "\\\\"}


def in_words(sent: Sent, place: Place) -> bytes:
    return f"MSG {place.topic} {place.id} {sent.text.translate(_WORDS_ESCAPES)}\r\n".encode()


def in_sse_raw(sent: Sent, place: Place) -> bytes:
    """A `data:` per line of the body; a body with a carriage return cannot be said so."""
    text = sent.url if "\r" in sent.text else sent.text
    fields = "".join(f"data: {line}\n" for line in text.split("\n"))
    return f"id: {place.id}\n{fields}\n".encode()


_LINE_END_ESCAPES = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}


def in_sse_json(sent: Sent, place: Place) -> bytes:
    """What some libraries take for the end of a line is escaped."""
    body = f'"data":{quoted(sent.text).translate(_LINE_END_ESCAPES)}'
    if sent.text == sent.url:
        body = f'"data_base64":"{b64encode(sent.data).decode()}"'
    return (
        f'id: {place.id}\ndata: {{"id":"{place.id}","topic":"{place.topic}","index":{place.index},'
        f'"time":"{place.time}","event":null,"content_type":"{sent.content_type}",{body}}}\n\n'
    ).encode()


EXPECTED = {
    "literal": in_literal,
    "json": in_json,
    "words": in_words,
    "sse raw": in_sse_raw,
    "sse json": in_sse_json,
}


class LineReader:
    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def message(self) -> bytes:
        return await self._peer.line()


class StreamReader:
    """The bytes of an event stream, without its transfer coding, cut behind each event."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._rest = b""

    async def open(self, path: str) -> None:
        self._peer.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = b"".join([line async for line in head_of(self._peer)])
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"transfer-encoding: chunked" in head.lower()

    async def message(self) -> bytes:
        """The next message, without what stands before it (comments, `retry:`, the position of a new subscriber)."""
        while True:
            while b"\n\n" not in self._rest:
                async with asyncio.timeout(DEADLINE):
                    size = int(await self._peer.reader.readline(), 16)
                    chunk = await self._peer.reader.readexactly(size + 2)
                assert chunk.endswith(b"\r\n")
                self._rest += chunk[:-2]
            block, _, self._rest = self._rest.partition(b"\n\n")
            if b"\nevent: place\n" not in block:
                return block[re.match(rb"(:.*\n|retry: .*\n)*", block).end() :] + b"\n\n"  # type: ignore[union-attr]


@dataclass
class Endpoints:
    """A topic's subscribers, one of each kind, and a connection to publish by."""

    publisher: Peer
    http: Peer
    readers: dict[str, LineReader | StreamReader]


@asynccontextmanager
async def connected(server: ServerProcess, topic: str) -> AsyncIterator[Endpoints]:
    async with AsyncExitStack() as stack:
        literal, in_words, in_json, publisher = [
            await stack.enter_async_context(connect(server.tcp_port)) for _ in range(4)
        ]
        raw, record, http = [await stack.enter_async_context(connect(server.port)) for _ in range(3)]
        literal.send(f"{{'command':'subscribe', 'topic':'{topic}'}}")
        await literal.assert_quiet()
        assert await in_json.ask(f'{{"command":"subscribe","topic":"{topic}"}}') == DONE
        assert await in_words.ask(f"sub {topic}") == f"OK subscribed to {topic}\r\n".encode()
        streams = StreamReader(raw), StreamReader(record)
        for stream, form in zip(streams, ("raw", "json"), strict=True):
            await stream.open(f"/topics/{topic}/stream?format={form}")
        readers: list[LineReader | StreamReader] = [*map(LineReader, (literal, in_json, in_words)), *streams]
        yield Endpoints(publisher, http, dict(zip(EXPECTED, readers, strict=True)))


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with start_server() as process:
        yield process


def value_of(name: str) -> str | bytes:
    return BYTES if name == "bytes" else TEXTS[name]


def resume_id_of(received: dict[str, bytes], topic: str, index: int, epoch: str) -> Place:
    """Id and time, which only the server knows, each from where they stand; everything else is compared."""
    id = received["words"].split(b" ")[2].decode()
    assert re.fullmatch(rf"{epoch}-[1-9][0-9]*", id)
    time = re.search(rb'"time":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)"', received["sse json"])
    assert time
    return Place(topic, index, id, time[1].decode())


def epoch_of(server: ServerProcess) -> str:
    match = re.search(r"epoch ([a-z0-9]+)", server.banner)
    assert match
    return match[1]


@pytest.mark.parametrize(("x", "name"), SENT, ids=[f"{x}-{name}" for x, name in SENT])
async def test_what_one_publishes_each_receives_in_its_own_form(
    server: ServerProcess, topic: str, x: str, name: str
) -> None:
    async with connected(server, topic) as endpoints:
        sent = await PUBLISH[x][0](endpoints, topic, value_of(name))
        received = {y: await reader.message() for y, reader in endpoints.readers.items()}
        place = resume_id_of(received, topic, 0, epoch_of(server))
        assert received == {y: expected(sent, place) for y, expected in EXPECTED.items()}


@pytest.mark.parametrize("name", TEXTS)
async def test_decoding_a_received_message_gives_the_text_that_was_sent(
    server: ServerProcess, topic: str, name: str
) -> None:
    async with connected(server, topic) as endpoints:
        await by_http(endpoints, topic, TEXTS[name])
        received = {y: await reader.message() for y, reader in endpoints.readers.items()}
        assert json.loads(received["json"])["msg"] == TEXTS[name]
        raw, record = (SseParser().feed(received[y]) for y in ("sse raw", "sse json"))
        assert json.loads(record[0].data)["data"] == TEXTS[name]
        if name not in ("carriage returns", "empty"):  # a data: URL, and an event that browsers do not dispatch
            assert raw[0].data == TEXTS[name]


async def test_all_of_it_mixed_on_one_topic_reaches_every_subscriber_in_one_order(
    server: ServerProcess, topic: str
) -> None:
    async with connected(server, topic) as endpoints:
        rounds = max(len(names) for _, names in PUBLISH.values())
        mixed = [(x, names[n]) for n in range(rounds) for x, (_, names) in PUBLISH.items() if n < len(names)]
        assert len(mixed) == len(SENT)
        sent = [await PUBLISH[x][0](endpoints, topic, value_of(name)) for x, name in mixed]
        first = 0
        for index, message in enumerate(sent):
            received = {y: await reader.message() for y, reader in endpoints.readers.items()}
            place = resume_id_of(received, topic, index, epoch_of(server))
            number = int(place.id.split("-")[1])
            first = first or number
            assert number == first + index
            assert received == {y: expected(message, place) for y, expected in EXPECTED.items()}, mixed[index]


async def test_lines_of_all_dialects_in_one_write_reach_every_subscriber_in_their_order(
    server: ServerProcess, topic: str
) -> None:
    async with connected(server, topic) as endpoints:
        texts = [f"{x} {name}" for name in "abc" for x in ("literal", "json", "words")]
        lines = {
            "literal": "{{'command':'send', 'topic':'{}', 'msg':'{}'}}\n",
            "json": '{{"command":"send","topic":"{}","msg":"{}","delivery":"all"}}\n',
            "words": "pub {} {}\n",
        }
        sent = []
        for text in texts:
            x = text.split()[0]
            line = lines[x].format(topic, text).encode()
            sent.append((line, Sent(text.encode(), UTF8, line if x == "literal" else None)))
        endpoints.publisher.send(b"".join(line for line, _ in sent))
        answers = await endpoints.publisher.lines(6)
        assert [answer == DONE for answer in answers] == [True, False] * 3
        for index, (_, message) in enumerate(sent):
            received = {y: await reader.message() for y, reader in endpoints.readers.items()}
            place = resume_id_of(received, topic, index, epoch_of(server))
            assert received == {y: expected(message, place) for y, expected in EXPECTED.items()}
