"""In the dialects that people read, text and literals, no line contains characters that control a terminal."""

from ast import literal_eval
from collections.abc import AsyncIterator

import pytest

from app.messages.control_characters import CODES
from app.messages.message import Draft, Envelope
from tests.tcp.peer import Peer, Port, serving

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


@pytest.mark.parametrize(
    "line", [EVIL, f"sub {EVIL}", f"sub foo {EVIL}", f"{{'a':{EVIL}}}", f"{{'{EVIL}':1}}", f"'{EVIL}'"]
)
async def test_no_error_text_controls_a_terminal(peer: Peer, line: str) -> None:
    for start in ("", "x", "pub "):
        assert_harmless(await peer.ask(start + line))
