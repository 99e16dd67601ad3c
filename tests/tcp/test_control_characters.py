"""No line of the line port contains characters that control a terminal: a person may read any of them."""

import json
from ast import literal_eval
from collections.abc import AsyncIterator

import pytest

from app.messages.control_characters import CODES
from app.messages.message import Draft, Envelope
from tests.tcp.peer import Peer, Port, serving, subscribe

EVIL = "".join(chr(code) for code in sorted(CODES - {0x00, 0x0D})) + "\x1b]0;title\x07\x9b2J\u202etxt"
TABOO = [chr(code).encode() for code in CODES if code != 0x0D]


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    async with serving() as port:
        yield port


def assert_harmless(line: bytes) -> None:
    text = line.removesuffix(b"\n").removesuffix(b"\r")
    assert b"\r" not in text
    assert not [code for code in TABOO if code in text]


LITERALS = [
    f"{{'command':'send', 'topic':'foo', 'msg':'{EVIL}'}}",
    "{'command':'send', 'topic':'foo', 'msg':'a'}  # \x1b[2\u202e",
    f"{{'command':'send', 'topic':'foo', 'msg':r'\\{EVIL}'}}",
    f"{{'command':'send', 'topic':'foo', 'msg':['{EVIL}', {{'x': (1, b'\x1b')}}]}}",
    "{'command':'send',\x0c'topic':'foo', 'msg':'a'}",
    "{'command':'send', 'topic':'foo', 'msg':'a'}\x0c",
]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("line", LITERALS)
async def test_a_literal_with_control_characters_arrives_as_its_repr(
    peer: Peer, other: Peer, line: str, end: str
) -> None:
    peer.send("{'command':'subscribe', 'topic':'foo'}")
    await peer.assert_quiet()
    for _ in range(2):  # first without, then with a cached head
        other.send((line + end).encode())
        seen = await peer.line()
        assert_harmless(seen)
        assert literal_eval(seen.decode()) == literal_eval(line.strip("\x0c"))


@pytest.mark.parametrize(
    "line",
    [
        "{'command':'send', 'topic':'foo', 'msg':'größe \u2028 \\x1b \t \u200d'}\n",
        "{'command':'send', 'topic':'foo', 'msg':1}\r\n",
    ],
)
async def test_any_other_literal_arrives_as_it_was_sent(peer: Peer, line: str) -> None:
    peer.send("{'command':'subscribe', 'topic':'foo'}")
    for _ in range(2):
        assert await peer.ask(line.encode()) == line.encode()


async def test_a_message_from_another_endpoint_is_harmless_in_text_and_literals(
    port: Port, peer: Peer, other: Peer
) -> None:
    assert await peer.ask("sub foo") == b"OK subscribed to foo\r\n"
    other.send("{'command':'subscribe', 'topic':'foo'}")
    await other.assert_quiet()
    await port.broker.publish([Draft(Envelope("foo"), [f"{EVIL}\x00\r\n".encode()])])
    for line in (await peer.line(), await other.line()):
        assert_harmless(line)
        assert b"202e" in line


@pytest.mark.parametrize("raw", [True, False])
async def test_a_message_in_json_has_escapes_and_the_same_value(port: Port, peer: Peer, other: Peer, raw: bool) -> None:
    """Sent in JSON, with the characters raw or as escapes, and from another endpoint; to a subscriber and a worker."""
    text = f'{EVIL}größe \u2028 \t"\\\\ {{}}'
    assert await peer.ask(subscribe("foo")) == b'{"success": true}\r\n'
    assert await other.ask(subscribe("foo", ',"group":"g"')) == b'{"success": true}\r\n'
    async with port.connect() as publisher:
        line = json.dumps({"command": "send", "topic": "foo", "msg": text, "delivery": "all"}, ensure_ascii=not raw)
        publisher.send(line)
        assert await publisher.line() == b'{"success": true}\r\n'
    await port.broker.publish([Draft(Envelope("foo"), [text.encode()])])
    for reader in (peer, other):
        for _ in range(2):
            seen = await reader.line()
            assert_harmless(seen)
            assert json.loads(seen)["msg"] == text
            assert "größe \u2028".encode() in seen  # nothing else is escaped


async def test_each_character_that_controls_a_terminal_is_an_escape_in_json_by_itself(port: Port, peer: Peer) -> None:
    assert await peer.ask(subscribe("foo")) == b'{"success": true}\r\n'
    for code in sorted(CODES | {ord("a"), ord("é"), 0x2028, 0x10FFFF}):
        for text in (chr(code), f"é{chr(code)}"):
            await port.broker.publish([Draft(Envelope("foo"), [text.encode()])])
            seen = await peer.line()
            assert_harmless(seen)
            assert json.loads(seen)["msg"] == text
            assert (f"\\u{code:04x}".encode() in seen) is (code in CODES - {0x08, 0x0C, 0x0D})  # \b, \f and \r


@pytest.mark.parametrize(
    "line", [EVIL, f"sub {EVIL}", f"sub foo {EVIL}", f"{{'a':{EVIL}}}", f"{{'{EVIL}':1}}", f"'{EVIL}'"]
)
async def test_no_error_text_controls_a_terminal(peer: Peer, line: str) -> None:
    for start in ("", "x", "pub "):
        assert_harmless(await peer.ask(start + line))
