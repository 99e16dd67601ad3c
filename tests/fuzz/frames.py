"""The encoder of server-sent events: what the standard's parser reads is the message, byte for byte, or it was refused.

The first line of an input is the event, the second the content type, the rest the body; `latin-1` where text is meant.
"""

import json
from base64 import b64decode
from typing import Final

from app.errors import OptionInvalid
from app.log.run import make_runs
from app.messages.message import Message, parse_event
from app.messages.position import Gap, GapReason
from app.web.api.publish import read_content_type
from app.web.sse import CHUNKED_JSON, CHUNKED_RAW, SSE_JSON, SSE_RAW, SseEncoder, control_event
from tests.harness import SseEvent, SseParser, draft

BEFORE: Final = b": plainmq\nretry: 1000\n"


def events(data: bytes) -> None:
    event, content_type, body = (*data.split(b"\n", 2), b"", b"")[:3]
    try:
        kind = read_content_type(content_type.decode("latin-1") or "text/plain")
        it = draft("a.b", body, content_type=kind, event=parse_event(event.decode("latin-1")) if event else None)
    except OptionInvalid:
        return
    (run,) = make_runs(it, "k3f9a2", 42, 7, 1.8e9)
    (message,) = run.messages
    for form, chunked in ((SSE_RAW, CHUNKED_RAW), (SSE_JSON, CHUNKED_JSON)):
        frames = [form.encode(message), form.position_event("k3f9a2-43"), form.encode(message), form.keep_alive]
        written = form.join(frames)
        assert _without_chunks(chunked.join(frames) + chunked.keep_alive) == written + form.keep_alive
        _read(form, message, written, step=len(body) % 7 + 1)
    _control(body)


def _read(form: SseEncoder[Message], message: Message, written: bytes, step: int) -> None:
    parser = SseParser()
    stream = BEFORE + written
    first, place, last = [
        event for start in range(0, len(stream), step) for event in parser.feed(stream[start : start + step])
    ]
    assert (place.type, place.last_event_id, place.data) == ("place", "k3f9a2-43", '{"place":"k3f9a2-43"}')
    got = [first, last]
    assert [(event.type, event.last_event_id) for event in got] == [(message.event or "message", "k3f9a2-42")] * 2
    assert (parser.retry, parser.comments) == (1_000, ["plainmq", ""])
    for event in got:
        assert _body_of(form, event, message) == message.data


def _body_of(form: SseEncoder[Message], event: SseEvent, message: Message) -> bytes:
    content_type = message.content_type
    if form is SSE_JSON:
        record = json.loads(event.data)
        assert (record["content_type"], record["event"] or "message") == (content_type, event.type)
        return b64decode(record["data_base64"]) if "data_base64" in record else record["data"].encode()
    prefix = f"data:{content_type};base64,"
    if _needs_url(message.data):
        assert event.data.startswith(prefix)
        return b64decode(event.data.removeprefix(prefix), validate=True)
    return event.data.encode()


def _needs_url(body: bytes) -> bool:
    """Lines of `data` cannot give back a carriage return, nor what is not UTF-8."""
    try:
        return "\r" in body.decode()
    except UnicodeDecodeError:
        return True


def _without_chunks(data: bytes) -> bytes:
    """RFC 9112, section 7.1."""
    body = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        length = int(size, 16)
        assert length
        assert rest[length : length + 2] == b"\r\n"
        body, data = body + rest[:length], rest[length + 2 :]
    return body


def _control(text: bytes) -> None:
    """Events of our own keep the reader's place, whatever they quote."""
    gap = Gap(text.decode("latin-1"), GapReason.TRIMMED, 3, None)
    parser = SseParser(id="k3f9a2-42")
    (event,) = parser.feed(control_event("gap", gap))
    assert (event.type, event.last_event_id) == ("gap", "k3f9a2-42")
    assert json.loads(event.data)["requested"] == text.decode("latin-1")
