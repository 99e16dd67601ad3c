"""The text dialect: commands that people type, and replies that they can understand."""

import re

import pytest

from app.tcp.dialects.text import HELP
from tests.line_client import screen_of
from tests.tcp.peer import DONE, Peer, Port, send, serving, subscribe

ID = rb"[a-z0-9]+-\d+"


async def test_publish_and_subscribe(peer: Peer, other: Peer) -> None:
    assert await peer.ask("sub foo") == b"OK subscribed to foo\r\n"
    answer = await other.ask("pub foo hello, world")
    assert re.fullmatch(rb"OK %b subscribers=1\r\n" % ID, answer)
    assert await peer.line() == b"MSG foo %b hello, world\r\n" % answer.split()[1]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("pub foo x", "x"),
        ("pub foo   x  y  ", "x  y"),
        ("  PUB\tfoo\tx\r", "x"),
        ("pub foo {'not': \"parsed\"}", "{'not': \"parsed\"}"),
        ("pub foo größe \U0001f600", "größe \U0001f600"),
        ("pub foo a\\nb\tc", "a\\\\nb\\tc"),
        ("pub foo \x1b[31mred\x00\x7f\x85", "\\x1b[31mred\\x00\\x7f\\x85"),
        ("pub foo a\rb", "a\\rb"),
    ],
)
async def test_the_text_is_the_rest_of_the_line_and_is_written_as_one_line(peer: Peer, line: str, text: str) -> None:
    await peer.ask("sub foo")
    id = (await peer.ask(line)).split()[1]
    assert await peer.line() == b"MSG foo %b %b\r\n" % (id, text.encode())


@pytest.mark.parametrize(
    ("since", "texts"),
    [("", ""), (" latest", ""), (" earliest", "bc"), (" last:1", "c"), (" 10m", "bc"), (" 2020-01-01T00:00:00Z", "bc")],
)
async def test_since_sets_the_start(peer: Peer, since: str, texts: str) -> None:
    await peer.do(send("foo", "b"), send("foo", "c"))
    assert await peer.ask(f"sub foo{since}") == b"OK subscribed to foo\r\n"
    assert [(await peer.line()).split()[3] for _ in texts] == [text.encode() for text in texts]
    await peer.assert_quiet()


async def test_an_id_resumes_after_it(peer: Peer) -> None:
    first, second = [(await peer.ask(f"pub foo {text}")).split()[1].decode() for text in "ab"]
    await peer.ask(f"sub foo {first}")
    assert await peer.line() == f"MSG foo {second} b\r\n".encode()


async def test_a_position_that_is_gone_is_reported() -> None:
    async with serving() as port, port.connect() as peer:
        await peer.ask("pub foo x")
        await peer.ask("sub foo other-5")
        assert (await peer.line()).startswith(b"GAP messages after other-5 are gone (epoch); it goes on at ")
        assert (await peer.line()).endswith(b" x\r\n")


@pytest.mark.parametrize(
    ("pattern", "topics"), [("a.*", "a.b"), ("a.**", "a.b a.b.c a.b/c"), ("**", "a.b a.b.c a.b/c z"), ("*", "z")]
)
async def test_a_pattern_selects_topics(peer: Peer, pattern: str, topics: str) -> None:
    assert await peer.ask(f"sub {pattern}") == f"OK subscribed to {pattern}\r\n".encode()
    await peer.assert_quiet()
    peer.send(*(send(topic, "x") for topic in ("a.b", "a.b.c", "a.b/c", "z")))
    got = [line.split()[1].decode() for line in await peer.lines(4 + len(topics.split())) if line.startswith(b"MSG")]
    assert got == topics.split()


async def test_unsub_ends_the_messages(peer: Peer, other: Peer) -> None:
    await peer.ask("sub foo")
    await peer.ask("sub foo.*")
    assert await peer.ask("unsub foo") == b"OK unsubscribed from foo\r\n"
    assert await peer.ask("unsub foo.*") == b"OK unsubscribed from foo.*\r\n"
    assert await peer.ask("unsub never") == b"OK unsubscribed from never\r\n"
    await other.do(send("foo", "x"), send("foo.a", "x"))
    await peer.assert_quiet()


async def test_topics_are_listed_with_their_contents(peer: Peer, keeps: int) -> None:
    assert await peer.ask("topics") == b"OK topics=0\r\n"
    await peer.ask("sub b/c")
    ids = [(await peer.ask(f"pub a {text}")).split()[1] for text in ("x", "yy", "zzz")]
    await peer.do('{"command":"send","topic":"b/c","msg":"x","delivery":"all","cache":false}')
    assert (await peer.line()).startswith(b"MSG b/c ")
    kept = ids[-keeps:]
    nbytes = sum((1, 2, 3)[-keeps:])
    assert await peer.ask("topics") == b"OK topics=2\r\n"
    assert await peer.lines(2) == [
        b"TOPIC a messages=%d bytes=%d first=%b last=%b subscribers=0\r\n" % (len(kept), nbytes, kept[0], kept[-1]),
        b"TOPIC b/c messages=0 bytes=0 first=- last=- subscribers=1\r\n",
    ]


async def test_lines_after_topics_are_answered_after_it(peer: Peer) -> None:
    peer.send("topics", "sub foo", "topics", "pub foo x", "ping", subscribe("bar"), "topics")
    lines = await peer.lines(9)
    assert [line.split()[0] for line in lines if not line.startswith(b"MSG")] == [
        b"OK", b"OK", b"OK", b"OK", b"OK", b'{"success":', b"OK", b"TOPIC",
    ]  # fmt: skip
    assert [line.split()[3] for line in lines if line.startswith(b"MSG")] == [b"x"]


async def test_ping(peer: Peer) -> None:
    assert await peer.ask("Ping\r") == b"OK pong\r\n"


async def test_help_fits_a_screen_and_shows_all_dialects(peer: Peer) -> None:
    peer.send("help", "quit")
    text = (await peer.rest()).decode()
    assert screen_of(text)[0].startswith("OK ")
    assert text.replace("\r\n", "\n") == f"OK {HELP}\n"
    for shown in ("sub TOPIC [since]", '"command":"subscribe"', "'command':'subscribe'", "topics", "quit"):
        assert shown in text


async def test_the_examples_of_the_help_work(peer: Peer) -> None:
    examples = [line.strip() for line in HELP.splitlines() if line.strip().startswith("{")]
    assert len(examples) == 6
    for line in examples:
        peer.send(line)
        assert not [answer for answer in await peer.synchronise() if b"reason" in answer]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("subb foo", "sub TOPIC [since]"), ("subscribe foo", "sub TOPIC [since]"), ("hepl", "help"),
        ("pbu foo x", "pub TOPIC TEXT..."),
        ("publish foo x", "pub TOPIC TEXT..."), ("topic", "topics"), ("exit", "quit"), ("qiut", "quit"), ("?", "help"),
        ("unsubscribe foo", "unsub TOPIC [group]"), ("send foo x", "pub TOPIC TEXT..."), ("pong", "ping"),
    ],
)  # fmt: skip
async def test_a_typo_gets_a_suggestion(peer: Peer, typed: str, meant: str) -> None:
    answer = (await peer.ask(typed)).decode()
    assert answer.startswith("ERR unknown_command ")
    assert f"did you mean '{meant}" in answer
    await peer.assert_quiet()


@pytest.mark.parametrize(
    ("line", "code", "expected"),
    [
        ("xyzzy", "unknown_command", "'help'"),
        ("x" * 5_000, "unknown_command", "'help'"),
        ("@@@", "unknown_command", "'help'"),
        ("sub", "bad_arguments", "sub TOPIC [since]"),
        ("unsub", "bad_arguments", "unsub TOPIC [group]"),
        ("unsub foo bar baz", "bad_arguments", "unsub TOPIC [group]"),
        ("pub", "bad_arguments", "pub TOPIC TEXT..."),
        ("pub foo", "bad_arguments", "pub TOPIC TEXT..."),
        ("ping pong", "bad_arguments", "ping"),
        ("quit now", "bad_arguments", "quit"),
        ("topics foo", "bad_arguments", "topics"),
        ("sub a..b", "topic_invalid", "'a..b'"),
        ("sub /a", "topic_invalid", "'/a'"),
        ("sub \u00e9", "topic_invalid", "'\\xe9'"),
        ("pub a.* x", "topic_invalid", "'a.*'"),
        ("unsub a.**.b", "topic_invalid", "'a.**.b'"),
        ("sub foo yesterday", "option_invalid", "'yesterday'"),
        ("sub foo last:x", "option_invalid", "'last:x'"),
    ],
)
async def test_an_error_has_a_code_and_a_sentence(peer: Peer, line: str, code: str, expected: str) -> None:
    answer = (await peer.ask(line)).decode()
    assert answer.startswith(f"ERR {code} ")
    assert expected in answer
    assert answer.endswith("\r\n")
    assert len(answer) < 400
    await peer.assert_quiet()


async def test_a_text_line_that_is_not_utf8_is_refused(peer: Peer) -> None:
    assert await peer.ask(b"pub foo \xff\n") == b"ERR not_utf8 Could not decode input as UTF-8\r\n"


async def test_a_text_subscriber_gets_bye_when_the_broker_drains(port: Port, peer: Peer, other: Peer) -> None:
    await peer.ask("sub foo")
    await other.do(subscribe("foo"))
    await other.ask("pub foo last")
    port.broker.drain()
    assert re.fullmatch(rb"MSG foo %b last\r\nBYE draining\r\n" % ID, await peer.rest())
    assert (await other.rest()).count(b"\r\n") == 1


async def test_a_subscription_counts_as_a_subscriber_until_it_ends(peer: Peer, other: Peer) -> None:
    async def count() -> bytes:
        return (await other.ask("pub foo x")).split(b"=")[1].strip()

    await peer.ask("sub foo")
    assert await count() == b"1"
    assert (await peer.line()).startswith(b"MSG")
    assert await peer.ask(subscribe("foo", ',"cache":false')) == DONE
    assert await count() == b"1"
    peer.send("quit")
    await peer.rest()
    assert await count() == b"0"
