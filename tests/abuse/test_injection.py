"""Line ends, NUL and similar characters in every field of a stream: they are read back unchanged, or are refused.

Streams are parsed by the WHATWG algorithm. tests/clients/test_chromium.py does the same with Chromium, for every byte.
"""

import json
from base64 import b64decode
from urllib.parse import quote

import httpx
import pytest

from tests.event_stream import SseEvent, stream
from tests.harness import ServerProcess
from tests.line_client import lines

EVIL = ["\r", "\n", "\r\n", "\n\n", "\0", "\u2028", "\u2029", "\u0085", "\ufeff", "\x0b", "\x0c", "\x1c", "\x7f"]
PAYLOADS = [
    *EVIL,
    *(f"a{evil}b" for evil in EVIL),
    *(f"a{evil}{evil}event: evil{evil}id: x-1{evil}retry: 1{evil}data: y{evil}{evil}" for evil in EVIL),
    "\ufeffdata: x", "id: x-1", ": comment", "data", " leading", "event: bye\ndata: {}\n\n", "</script>", "0\r\n\r\n",
]  # fmt: skip


async def events(server: ServerProcess, path: str, count: int) -> list[SseEvent]:
    async with stream(server, path) as subscriber:
        taken = await subscriber.take(count)
        assert await subscriber.next() is None
        assert subscriber.parser.retry
        assert subscriber.parser.retry >= 1_000
        assert subscriber.parser.comments == ["plainmq"]
    return taken


async def test_bodies_are_read_back_unchanged_and_add_no_fields(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    bodies = [body.encode() for body in PAYLOADS]
    sent = [(await http.post(f"/topics/{topic}/messages", content=body)).json()["id"] for body in bodies]
    path, count = f"/topics/{topic}/stream?since=earliest&limit={len(PAYLOADS)}", len(PAYLOADS)
    raw, records = await events(server, path, count), await events(server, f"{path}&format=json", count)
    assert [event.last_event_id for event in raw] == [event.last_event_id for event in records] == sent
    assert {event.type for event in (*raw, *records)} == {"message"}
    assert [json.loads(event.data)["data"] for event in records] == PAYLOADS
    for event, payload in zip(raw, PAYLOADS, strict=True):
        if "\r" in payload:  # cannot be in a data line
            data = event.data.removeprefix("data:text/plain; charset=utf-8;base64,")
            assert b64decode(data, validate=True).decode() == payload
        else:
            assert event.data == payload


@pytest.mark.parametrize("field", ["event", "topic", "last_event_id", "since"])
async def test_a_name_with_such_a_character_is_refused(http: httpx.AsyncClient, topic: str, field: str) -> None:
    for evil in EVIL:
        text = quote(f"a{evil}b")
        if field in {"event", "topic"}:
            path = f"{topic}/messages?event={text}" if field == "event" else f"{topic}.{text}/messages"
            answer = await http.post(f"/topics/{path}", content=b"x")
        else:
            answer = await http.get(f"/topics/{topic}/stream?{field}={text}")
        refused = {
            (400, "option_invalid"),
            (400, "topic_invalid"),
            (404, "not_found"),
        }  # 404: a path with a line end matches no route
        assert (answer.status_code, answer.json()["code"]) in refused, repr(evil)
    assert (await http.get(f"/topics?match={topic}.**")).json()["topics"] == []
    assert (await http.get(f"/topics/{topic}")).status_code == 404


@pytest.mark.parametrize("header", [b"Content-Type", b"Idempotency-Key", b"Last-Event-ID"])
async def test_a_header_with_one_is_refused(http: httpx.AsyncClient, topic: str, header: bytes) -> None:
    for evil in (b"\x7f", b"\x85", "\u2028".encode(), "\ufeff".encode(), b"\x01"):
        headers = [(header, b"text/plain" + evil + b"x")]
        if header == b"Last-Event-ID":
            answer = await http.get(f"/topics/{topic}/stream?timeout=1ms", headers=headers)
        else:
            answer = await http.post(f"/topics/{topic}/messages", content=b"x", headers=headers)
        assert answer.status_code == 400, evil
    assert (await http.get(f"/topics/{topic}")).status_code == 404


async def test_a_message_of_the_line_port_cannot_break_out_of_its_event(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    async with lines(server) as client:
        for payload in PAYLOADS:
            client.send(json.dumps({"command": "send", "topic": topic, "msg": payload, "delivery": "all"}))
            assert await client.next() == b'{"success": true}\r\n'
    path = f"/topics/{topic}/stream?since=earliest&limit={len(PAYLOADS)}&format=json"
    received = await events(server, path, len(PAYLOADS))
    assert [(event.type, json.loads(event.data)["data"]) for event in received] == [
        ("message", text) for text in PAYLOADS
    ]
    page = (await http.get(f"/topics/{topic}/messages", headers={"Accept": "application/x-ndjson"})).content
    assert [json.loads(line)["data"] for line in page.removesuffix(b"\n").split(b"\n")] == PAYLOADS
