"""From each dialect to each dialect, byte for byte, and all of them on one connection."""

import json
from collections.abc import Callable

import pytest

from tests.tcp.peer import DONE, Peer, subscribe

TEXTS = {
    "plain": "hello, world",
    "quotes": "it's \"quoted\" ''' \"\"\" and 'more'",
    "backslashes": "\\ \\\\ \\n \\' \\\" \\u0041 C:\\new",
    "newlines": "one\ntwo\r\nthree\n",
    "wide": "größer \U0001f600 日本 \u2028 \u2029 \ufeff",
    "controls": "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0)))),
    "braces": "{'command':'send'} {\"command\":\"send\"} quit",
    "empty": "",
}
ONE_LINE = {name: text for name, text in TEXTS.items() if name not in ("newlines", "controls", "empty")}


def as_literal(text: str) -> bytes:
    return f"{{'command':'send', 'topic':'foo', 'msg':{text!r}}}\r\n".encode()


def as_json(text: str) -> bytes:
    return json.dumps({"command": "send", "topic": "foo", "msg": text, "delivery": "all"}).encode() + b"\n"


def as_text(text: str) -> bytes:
    return f"pub foo {text}\n".encode()


def in_literal(text: str, sent: bytes) -> bytes:
    if sent.startswith(b"{'"):
        return sent
    return f"{ {'command': 'send', 'topic': 'foo', 'msg': text} }\n".encode()


_SHORT = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
_JSON = {code: f"\\u{code:04x}" for code in (*range(0x20), *range(0x7F, 0xA0))} | _SHORT


def in_json(text: str, _sent: bytes) -> bytes:
    """With the escapes that RFC 8259 requires, those of control characters, and no others."""
    escaped = text.translate(_JSON)
    return f'{{"command":"send","topic":"foo","msg":"{escaped}","delivery":"all","index":0}}\r\n'.encode()


_NAMED = {9: "\\t", 10: "\\n", 13: "\\r", 92: "\\\\"}
_TEXT = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))} | _NAMED


def in_text(text: str, _sent: bytes) -> bytes:
    return f"MSG foo ID {text.translate(_TEXT)}\r\n".encode()


SUBSCRIBES = {"literal": "{'command':'subscribe', 'topic':'foo'}", "json": subscribe("foo"), "text": "sub foo"}
RECEIVED = {"literal": in_literal, "json": in_json, "text": in_text}
SENT = [
    *((as_literal, name) for name in TEXTS),
    *((as_json, name) for name in TEXTS),
    *((as_text, name) for name in ONE_LINE),
]


@pytest.mark.parametrize("dialect", RECEIVED)
@pytest.mark.parametrize(("send", "name"), SENT, ids=[f"{send.__name__}-{name}" for send, name in SENT])
async def test_a_message_sent_in_one_dialect_is_received_in_another(
    peer: Peer, other: Peer, send: Callable[[str], bytes], name: str, dialect: str
) -> None:
    peer.send(SUBSCRIBES[dialect])
    await peer.synchronise()
    line = send(TEXTS[name])
    other.send(line)
    await other.synchronise()
    got = await peer.line()
    if dialect == "text":
        id = got.split(b" ")[2]
        got = got.replace(id, b"ID", 1)
    assert got == RECEIVED[dialect](TEXTS[name], line)
    await peer.assert_quiet()


@pytest.mark.parametrize("name", TEXTS)
async def test_json_returns_the_same_text(peer: Peer, name: str) -> None:
    peer.send(as_json(TEXTS[name]))
    assert await peer.line() == DONE
    assert await peer.ask(subscribe("foo")) == DONE
    assert json.loads(await peer.line())["msg"] == TEXTS[name]


async def test_bytes_that_are_not_utf8_become_a_data_url(peer: Peer) -> None:
    line = b"{'command':'send', 'topic':'foo', 'msg':b'\\xff\\x00'}\n"
    peer.send(line)
    assert await peer.ask(subscribe("foo")) == DONE
    assert json.loads(await peer.line())["msg"] == "data:application/octet-stream;base64,/wA="
    await peer.ask("sub foo earliest")
    assert (await peer.line()).endswith(b" data:application/octet-stream;base64,/wA=\r\n")
    assert await peer.ask("{'command':'subscribe', 'topic':'foo', 'last_seen':-1}") == line


async def test_a_connection_receives_each_topic_in_the_dialect_of_its_subscribe(peer: Peer, other: Peer) -> None:
    peer.send("{'command':'subscribe', 'topic':'a'}", subscribe("b"), "sub c")
    assert await peer.synchronise() == [DONE, b"OK subscribed to c\r\n"]
    for topic in "abc":
        await other.ask(f"pub {topic} x")
    a, b, c = await peer.lines(3)
    assert a == b"{'command': 'send', 'topic': 'a', 'msg': 'x'}\n"
    assert b == b'{"command":"send","topic":"b","msg":"x","delivery":"all","index":0}\r\n'
    assert c.startswith(b"MSG c ")


async def test_a_subscribe_in_another_dialect_replaces_the_subscription(peer: Peer, other: Peer) -> None:
    peer.send("sub foo", subscribe("foo"), "{'command':'subscribe', 'topic':'foo'}")
    await peer.synchronise()
    await other.ask("pub foo x")
    assert await peer.line() == b"{'command': 'send', 'topic': 'foo', 'msg': 'x'}\n"
    await peer.assert_quiet()


async def test_replies_come_in_the_order_and_the_dialects_of_the_lines(peer: Peer) -> None:
    peer.send("ping", '{"command":"ping"}', "{'?'}", "{", "nothing", "topics", "pub foo x", as_json("y"), "[")
    assert [line.split()[0] for line in await peer.lines(9)] == [
        b"OK", b'{"success":', b"{'success':", b'{"success":', b"ERR", b"OK", b"OK", b'{"success":', b'{"success":',
    ]  # fmt: skip
