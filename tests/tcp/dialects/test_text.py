"""The text dialect from outside, byte for byte."""

import re
from contextlib import AsyncExitStack
from signal import SIGTERM

import pytest

from app.tcp.dialects.operator_words import OPERATOR_USAGE
from tests.harness import DEADLINE, ServerProcess, start_server
from tests.line_client import screen_of
from tests.tcp.dialects.conftest import is_closed
from tests.tcp.peer import Peer, connect

ID = r"[a-z0-9]{1,16}-[1-9][0-9]*"
TOPIC_RULE = "expected printable ASCII without spaces, in segments separated by '.' or '/', none of them empty"


async def pub(peer: Peer, topic: str, text: str, subscribers: int = 0) -> str:
    """Publish, and return the id."""
    answer = (await peer.ask(f"pub {topic} {text}")).decode()
    match = re.fullmatch(rf"OK ({ID}) subscribers={subscribers}\r\n", answer)
    assert match, answer
    return match[1]


def msg_line(topic: str, id: str, text: str) -> bytes:
    return f"MSG {topic} {id} {text}\r\n".encode()


async def sub(peer: Peer, topic: str, since: str = "") -> None:
    assert await peer.ask(f"sub {topic} {since}") == f"OK subscribed to {topic}\r\n".encode()


async def test_a_message_has_its_topic_its_id_and_its_text(peer: Peer, other: Peer, topic: str) -> None:
    await sub(peer, topic)
    for text in ("hello, world", "it's \"quoted\" {'not': 'parsed'}", "größe \U0001f600 \u2028"):
        id = await pub(other, topic, text, subscribers=1)
        assert await peer.line() == msg_line(topic, id, text)


async def test_ids_are_dense_in_the_order_of_publishing(peer: Peer, topic: str) -> None:
    ids = [await pub(peer, f"{topic}.{name}", "x") for name in "abcab"]
    epoch, first = ids[0].split("-")
    assert ids == [f"{epoch}-{int(first) + index}" for index in range(5)]


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("  pub  TOPIC   x  y  ", "x  y"),
        ("PUB\tTOPIC\tx\r", "x"),
        ("pub TOPIC a\\nb\tc\rd", "a\\\\nb\\tc\\rd"),
        ("pub TOPIC \x1b[31m\x00\x7f\x85", "\\x1b[31m\\x00\\x7f\\x85"),
    ],
)
async def test_the_text_is_the_rest_of_the_line_and_is_written_as_one_line(
    peer: Peer, topic: str, typed: str, text: str
) -> None:
    await sub(peer, topic)
    answer = await peer.ask(typed.replace("TOPIC", topic))
    assert await peer.line() == msg_line(topic, answer.decode().split()[1], text)


@pytest.mark.parametrize(
    ("since", "first"),
    [("", 4), ("latest", 4), ("earliest", 0), ("last:1", 3), ("last:3", 1), ("10m", 0), ("2020-01-01T00:00:00Z", 0)],
)
async def test_since_sets_the_start(peer: Peer, other: Peer, topic: str, keeps: int, since: str, first: int) -> None:
    ids = [await pub(other, topic, str(index)) for index in range(4)]
    await sub(peer, topic, since)
    ids.append(await pub(other, topic, "4", subscribers=1))
    told_of_the_loss = keeps < 4 and since in {"10m", "2020-01-01T00:00:00Z"}
    if told_of_the_loss:
        assert re.fullmatch(
            rf"GAP messages after \S+ are gone \(trimmed\); it goes on at {ids[2]}\r\n", (await peer.line()).decode()
        )
    indices = range(min(max(first, 4 - keeps), 4), 5)
    assert await peer.lines(len(indices)) == [msg_line(topic, ids[index], str(index)) for index in indices]
    await peer.assert_quiet()


async def test_an_id_resumes_after_it_and_a_loss_is_reported(peer: Peer, topic: str, keeps: int) -> None:
    ids = [await pub(peer, topic, str(index)) for index in range(4)]
    await sub(peer, topic, ids[0])
    if keeps == 2:
        gap = f"GAP messages after {ids[0]} are gone (trimmed); it goes on at {ids[2]}\r\n"
        assert await peer.line() == gap.encode()
    indices = range(1 if keeps > 2 else 2, 4)
    assert await peer.lines(len(indices)) == [msg_line(topic, ids[index], str(index)) for index in indices]
    await peer.assert_quiet()


async def test_an_id_of_another_epoch_is_reported_as_gone(peer: Peer, topic: str) -> None:
    id = await pub(peer, topic, "x")
    await sub(peer, topic, "other-5")
    gap = f"GAP messages after other-5 are gone (epoch); it goes on at {id}\r\n"
    assert await peer.lines(2) == [gap.encode(), msg_line(topic, id, "x")]


@pytest.mark.parametrize(("pattern", "names"), [("*", ["a"]), ("**", ["a", "a.b", "a/b"]), ("a.*", ["a.b"])])
async def test_a_subscription_accepts_a_pattern(
    peer: Peer, other: Peer, topic: str, pattern: str, names: list[str]
) -> None:
    await sub(peer, f"{topic}.{pattern}")
    for name in ("a", "a.b", "a/b"):
        await pub(other, f"{topic}.{name}", name, subscribers=int(name in names))
    assert [(await peer.line()).split()[1].decode() for _ in names] == [f"{topic}.{name}" for name in names]
    await peer.assert_quiet()


async def test_unsub_ends_the_messages_and_always_succeeds(peer: Peer, other: Peer, topic: str) -> None:
    for name in (topic, f"{topic}.*"):
        await sub(peer, name)
        for _ in range(2):
            assert await peer.ask(f"unsub {name}") == f"OK unsubscribed from {name}\r\n".encode()
    await pub(other, topic, "x")
    await pub(other, f"{topic}.a", "x")
    await peer.assert_quiet()


async def test_a_second_sub_replaces_the_first(peer: Peer, other: Peer, topic: str) -> None:
    await sub(peer, topic)
    await sub(peer, topic)
    id = await pub(other, topic, "x", subscribers=1)
    assert await peer.line() == msg_line(topic, id, "x")
    await peer.assert_quiet()


async def test_messages_for_one_reach_one_subscriber_or_wait_for_the_first(server: ServerProcess, topic: str) -> None:
    async with AsyncExitStack() as stack:
        sender, *peers = [await stack.enter_async_context(connect(server.tcp_port)) for _ in range(4)]
        job = f'{{"command":"send","topic":"{topic}","msg":"job","delivery":"one"}}'
        await sender.do(job)
        for peer in peers:
            await sub(peer, topic)
        assert [len(await peer.synchronise()) for peer in peers] == [1, 0, 0]
        await sender.do(*[job] * 60)
        got = [await peer.synchronise() for peer in peers]
        lines = [line for lines in got for line in lines]
        assert len(set(lines)) == len(lines) == 60
        assert all(re.fullmatch(rf"MSG {topic} {ID} job\r\n", line.decode()) for line in lines)
        assert sum(map(bool, got)) > 1


async def test_topics_lists_the_topics(peer: Peer, topic: str, keeps: int) -> None:
    texts = ["x", "yy", "zzz"]
    ids = [await pub(peer, f"{topic}.a", text) for text in texts]
    await sub(peer, f"{topic}.b")
    await peer.do(f'{{"command":"send","topic":"{topic}.b","msg":"x","delivery":"all","cache":false}}')
    await peer.line()
    head = re.fullmatch(r"OK topics=(\d+)\r\n", (await peer.ask("topics")).decode())
    assert head
    lines = await peer.lines(int(head[1]))
    assert lines == sorted(lines)
    kept = ids[-keeps:]
    size = sum(map(len, texts[-keeps:]))
    assert [line.decode() for line in lines if topic.encode() in line] == [
        f"TOPIC {topic}.a messages={len(kept)} bytes={size} first={kept[0]} last={kept[-1]} subscribers=0\r\n",
        f"TOPIC {topic}.b messages=0 bytes=0 first=- last=- subscribers=1\r\n",
    ]
    await peer.assert_quiet()


async def test_ping(peer: Peer) -> None:
    assert await peer.ask("ping") == b"OK pong\r\n"
    assert await peer.ask(b"Ping\r\n") == b"OK pong\r\n"


async def test_help_fits_a_screen_of_24_by_80_and_shows_every_dialect(peer: Peer) -> None:
    peer.send("help", "quit")
    lines = screen_of((await peer.rest()).decode())
    assert lines[0].startswith("OK ")
    assert all(" " <= character <= "~" for line in lines for character in line)
    words = [
        "sub TOPIC [since]", "unsub TOPIC [group]", "pub TOPIC TEXT...", "work TOPIC GROUP [credit]",
        "ack TOPIC GROUP ID", "nack TOPIC GROUP ID [delay] [reason...]", "extend TOPIC GROUP ID [lease]",
        "topics", "ping", "help", "quit",
    ]  # fmt: skip
    json = ['{"command":"subscribe",', '{"command":"send",', '{"command":"unsubscribe",']
    literals = ["{'command':'subscribe',", "{'command':'send',"]
    starts = [line.strip() for line in lines]
    assert [shown for shown in (*words, *json, *literals) if not any(map(str.startswith, starts, [shown] * 24))] == []


async def test_the_page_of_an_operator_fits_a_screen_and_shows_every_word(peer: Peer) -> None:
    peer.send("help operations", "quit")
    lines = screen_of((await peer.rest()).decode())
    assert lines[0].startswith("OK ")
    starts = [line.strip() for line in lines]
    assert [usage for usage in OPERATOR_USAGE.values() if not any(start.startswith(usage) for start in starts)] == []


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("subb foo", "sub TOPIC [since]"),
        ("subscribe foo", "sub TOPIC [since]"),
        ("unsubscribe foo", "unsub TOPIC [group]"),
        ("publish foo x", "pub TOPIC TEXT..."),
        ("pbu foo x", "pub TOPIC TEXT..."),
        ("topic", "topics"),
        ("pong", "ping"),
        ("hepl", "help [operations]"),
        ("?", "help [operations]"),
        ("exit", "quit"),
    ],
)
async def test_a_typo_gets_a_suggestion(peer: Peer, typed: str, meant: str) -> None:
    word = typed.split(maxsplit=1)[0]
    answer = f"ERR unknown_command '{word}' is not a command; did you mean '{meant}'? 'help' lists the commands\r\n"
    assert await peer.ask(typed) == answer.encode()
    await peer.assert_quiet()


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("xyzzy", "unknown_command 'xyzzy' is not a command; 'help' lists the commands"),
        ("sub", "bad_arguments expected: sub TOPIC [since]"),
        ("unsub", "bad_arguments expected: unsub TOPIC [group]"),
        ("unsub a b c", "bad_arguments expected: unsub TOPIC [group]"),
        ("pub", "bad_arguments expected: pub TOPIC TEXT..."),
        ("pub foo", "bad_arguments expected: pub TOPIC TEXT..."),
        ("topics foo", "bad_arguments expected: topics"),
        ("ping pong", "bad_arguments expected: ping"),
        ("help me", "bad_arguments expected: help [operations]"),
        ("quit now", "bad_arguments expected: quit"),
        ("pub a.* x", f"topic_invalid 'a.*' is not a topic: {TOPIC_RULE}, without '*'"),
        (
            "sub a..b",
            f"topic_invalid 'a..b' is not a topic or pattern: {TOPIC_RULE}; '*' stands for a whole segment, '**' for "
            "the last ones",
        ),
        (f"pub {'x' * 1025} y", "topic_invalid a topic has at most 1024 characters; this one has 1025"),
        (
            "sub foo someday",
            "option_invalid 'someday' is not a place to start: expected an id such as k3f9a2-42, latest, earliest, "
            "last:10, a duration such as 10m or a time such as 2026-01-31T12:00:00Z",
        ),
    ],
    ids=lambda value: value[:40],
)
async def test_an_error_has_a_code_and_a_sentence_and_the_connection_stays_open(
    peer: Peer, typed: str, answer: str
) -> None:
    assert await peer.ask(typed) == f"ERR {answer}\r\n".encode()
    await peer.assert_quiet()


async def test_a_line_that_is_not_utf8_is_refused(peer: Peer, topic: str) -> None:
    assert await peer.ask(f"pub {topic} ".encode() + b"\xff\n") == b"ERR not_utf8 Could not decode input as UTF-8\r\n"
    await sub(peer, topic, "earliest")
    await peer.assert_quiet()


@pytest.mark.parametrize("name", ["\"'`'''", "\\", "z" * 1024], ids=lambda name: name[:20])
async def test_topics_with_quotes_and_of_1024_characters_work(peer: Peer, other: Peer, name: str) -> None:
    await sub(peer, name)
    id = await pub(other, name, "x", subscribers=1)
    assert await peer.line() == msg_line(name, id, "x")


@pytest.mark.parametrize("length", [64 << 10, 1 << 20])
async def test_lines_of_64_kib_and_of_1_mib_work(peer: Peer, other: Peer, topic: str, length: int) -> None:
    text = "x" * (length - len(f"pub {topic} \n"))
    await sub(peer, topic)
    id = await pub(other, topic, text, subscribers=1)
    assert await peer.line() == msg_line(topic, id, text)


async def test_a_line_that_is_too_long_is_answered_once_and_skipped(peer: Peer, topic: str) -> None:
    answer = await peer.ask(f"pub {topic} " + "x" * (4 << 20))
    assert answer == b"ERR message_too_large a line has at most 1572864 bytes; the rest of this one was skipped\r\n"
    await sub(peer, topic, "earliest")
    await peer.assert_quiet()


async def test_blank_lines_are_ignored(peer: Peer) -> None:
    peer.send(b"\n\r\n \n\t \r\n", "ping", b"\n\n")
    assert await peer.line() == b"OK pong\r\n"
    await peer.assert_quiet()


async def test_quit_closes_after_the_replies_and_drops_later_lines(peer: Peer, other: Peer, topic: str) -> None:
    await sub(other, topic)
    peer.send(f"pub {topic} before", "QUIT", f"pub {topic} after")
    assert re.fullmatch(rf"OK {ID} subscribers=1\r\n", (await peer.rest()).decode())
    assert (await other.line()).endswith(b" before\r\n")
    await other.assert_quiet()


async def test_a_client_that_closes_its_sending_side_gets_every_reply_also_to_a_line_without_lf(
    peer: Peer, topic: str
) -> None:
    peer.send("ping", "nothing", f"pub {topic} last".encode())
    peer.writer.write_eof()
    answer = (await peer.rest()).decode()
    assert re.fullmatch(rf"OK pong\r\nERR unknown_command [^\r\n]+\r\nOK {ID} subscribers=0\r\n", answer)


@pytest.mark.parametrize("head", ["POST / HTTP/1.1", "get /x HTTP/1.1", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc"])
async def test_a_browser_cannot_publish_here(peer: Peer, other: Peer, topic: str, head: str) -> None:
    await sub(other, topic)
    peer.send(head.encode() + b"\r\nHost: localhost:7777\r\nContent-Length: 80\r\n\r\n", f"pub {topic} x")
    assert await is_closed(peer)
    await other.assert_quiet()


async def test_text_lines_that_only_resemble_http_are_text(peer: Peer, other: Peer, topic: str) -> None:
    await sub(peer, topic)
    id = await pub(other, topic, "GET / HTTP/1.1", subscribers=1)
    assert await peer.line() == msg_line(topic, id, "GET / HTTP/1.1")


async def test_the_reply_is_in_the_dialect_of_the_line(peer: Peer) -> None:
    peer.send("ping", '{"command":"ping"}', "{'nothing'", "[", "nothing")
    assert [line.split()[0] for line in await peer.lines(5)] == [
        b"OK", b'{"success":', b"{'success':", b'{"success":', b"ERR"
    ]  # fmt: skip


async def test_a_text_subscriber_gets_bye_when_the_server_stops() -> None:
    with start_server() as server:
        async with connect(server.tcp_port) as person, connect(server.tcp_port) as program:
            await sub(person, "foo")
            await program.do('{"command":"subscribe","topic":"foo"}')
            server.process.send_signal(SIGTERM)
            assert await person.rest() == b"BYE draining\r\n"
            assert await program.rest() == b""
        assert server.process.wait(DEADLINE) == 0


async def test_one_connection_cannot_take_every_subscriber_slot(peer: Peer, topic: str) -> None:
    for n in range(1_000):
        await sub(peer, f"{topic}.{n}")
    assert (
        await peer.ask(f"sub {topic}.more") == b"ERR subscriber_limit a connection has at most 1000 subscriptions\r\n"
    )
    await sub(peer, f"{topic}.7", "latest")
