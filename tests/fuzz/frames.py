"""The encoder of server-sent events: a parser by the standard reads every message back, byte for byte.

The first line of an input is the event name, the second the content type (both latin-1), the rest the body.
"""

import json
from base64 import b64decode
from typing import Final

from app.errors import OptionInvalid
from app.log.run import make_runs
from app.messages.message import Message, parse_event
from app.messages.position import Gap, GapReason
from app.web.publish_request import read_content_type
from app.web.sse import CHUNKED_JSON, CHUNKED_RAW, SSE_JSON, SSE_RAW, SseEncoder, control_event
from tests.event_stream import SseEvent, SseParser
from tests.harness import draft

PREAMBLE: Final = b": plainmq\nretry: 1000\n"


def events(data: bytes) -> None:
    event, content_type, body = (*data.split(b"\n", 2), b"", b"")[:3]
    try:
        parsed_type = read_content_type(content_type.decode("latin-1") or "text/plain")
        published = draft(
            "a.b", body, content_type=parsed_type, event=parse_event(event.decode("latin-1")) if event else None
        )
    except OptionInvalid:
        return
    (run,) = make_runs(published, "k3f9a2", 42, 7, 1.8e9)
    (message,) = run.messages
    for encoder, chunked in ((SSE_RAW, CHUNKED_RAW), (SSE_JSON, CHUNKED_JSON)):
        frames = [
            encoder.encode(message),
            encoder.position_event("k3f9a2-43"),
            encoder.encode(message),
            encoder.keep_alive,
        ]
        written = encoder.join(frames)
        assert _without_chunks(chunked.join(frames) + chunked.keep_alive) == written + encoder.keep_alive
        _check_stream(encoder, message, written, step=len(body) % 7 + 1)
    _check_gap(body)


def _check_stream(encoder: SseEncoder[Message], message: Message, written: bytes, step: int) -> None:
    parser = SseParser()
    stream = PREAMBLE + written
    first, position, last = [
        event for start in range(0, len(stream), step) for event in parser.feed(stream[start : start + step])
    ]
    assert (position.type, position.last_event_id, position.data) == ("place", "k3f9a2-43", '{"place":"k3f9a2-43"}')
    messages = [first, last]
    assert [(event.type, event.last_event_id) for event in messages] == [(message.event or "message", "k3f9a2-42")] * 2
    assert (parser.retry, parser.comments) == (1_000, ["plainmq", ""])
    for event in messages:
        assert _body_of(encoder, event, message) == message.data


def _body_of(encoder: SseEncoder[Message], event: SseEvent, message: Message) -> bytes:
    content_type = message.content_type
    if encoder is SSE_JSON:
        record = json.loads(event.data)
        assert (record["content_type"], record["event"] or "message") == (content_type, event.type)
        return b64decode(record["data_base64"]) if "data_base64" in record else record["data"].encode()
    prefix = f"data:{content_type};base64,"
    if _needs_url(message.data):
        assert event.data.startswith(prefix)
        return b64decode(event.data.removeprefix(prefix), validate=True)
    return event.data.encode()


def _needs_url(body: bytes) -> bool:
    """True if `data` lines cannot carry the body: they have no carriage returns, and only UTF-8."""
    try:
        return "\r" in body.decode()
    except UnicodeDecodeError:
        return True


def _without_chunks(data: bytes) -> bytes:
    """Decode the chunked coding (RFC 9112, section 7.1)."""
    body = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        length = int(size, 16)
        assert length
        assert rest[length : length + 2] == b"\r\n"
        body, data = body + rest[:length], rest[length + 2 :]
    return body


def _check_gap(text: bytes) -> None:
    """Events of the server do not change the subscriber's last event id, whatever they quote."""
    gap = Gap(text.decode("latin-1"), GapReason.TRIMMED, 3, None)
    parser = SseParser(id="k3f9a2-42")
    (event,) = parser.feed(control_event("gap", gap))
    assert (event.type, event.last_event_id) == ("gap", "k3f9a2-42")
    assert json.loads(event.data)["requested"] == text.decode("latin-1")
