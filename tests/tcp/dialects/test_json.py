"""The JSON dialect from outside, byte for byte."""

import asyncio
import socket
from contextlib import AsyncExitStack

import pytest

from tests.harness import DEADLINE, ServerProcess
from tests.tcp.dialects.conftest import is_closed
from tests.tcp.peer import Peer, connect

DONE = b'{"success": true}\r\n'
UTF8 = b'{"success": false, "reason": "Could not decode input as UTF-8"}\r\n'
PARSE = b'{"success": false, "reason": "Could not parse json"}\r\n'
MALFORMED = b'{"success": false, "reason": "Malformed json message"}\r\n'


def subscribe(topic: str, more: str = "") -> str:
    return f'{{"command":"subscribe","topic":"{topic}"{more}}}'


def unsubscribe(topic: str) -> str:
    return f'{{"command":"unsubscribe","topic":"{topic}"}}'


def send(topic: str, msg: str, delivery: str = "all", more: str = "") -> str:
    return f'{{"command":"send","topic":"{topic}","msg":"{msg}","delivery":"{delivery}"{more}}}'


def message(topic: str, msg: str, index: int, delivery: str = "all") -> bytes:
    line = f'{{"command":"send","topic":"{topic}","msg":"{msg}","delivery":"{delivery}","index":{index}}}\r\n'
    return line.encode()


async def test_a_subscriber_gets_each_send_with_its_index_from_0(peer: Peer, other: Peer, topic: str) -> None:
    assert await peer.ask(subscribe(topic)) == DONE
    for index, text in enumerate(["blah", "", "x y"]):
        assert await other.ask(send(topic, text)) == DONE
        assert await peer.line() == message(topic, text, index)


async def test_the_sender_gets_its_own_message_after_the_reply(peer: Peer, topic: str) -> None:
    peer.send(subscribe(topic), send(topic, "blah"))
    assert await peer.lines(3) == [DONE, DONE, message(topic, "blah", 0)]


async def test_indices_count_per_topic_over_all_endpoints(peer: Peer, other: Peer, topic: str) -> None:
    await peer.do(subscribe(topic), subscribe(f"{topic}.b"))
    await other.do(send(topic, "a"), send(f"{topic}.b", "b"))
    await other.ask(f"pub {topic} c")
    other.send(f"{{'command':'send', 'topic':'{topic}', 'msg':'d'}}")
    await other.do(send(topic, "e"))
    assert await peer.lines(5) == [
        message(topic, "a", 0), message(f"{topic}.b", "b", 0),
        message(topic, "c", 1), message(topic, "d", 2), message(topic, "e", 3),
    ]  # fmt: skip


async def test_retained_messages_come_first_then_new_ones(peer: Peer, other: Peer, topic: str, keeps: int) -> None:
    await other.do(*(send(topic, str(index)) for index in range(5)))
    assert await peer.ask(subscribe(topic)) == DONE
    await other.do(send(topic, "5"))
    expected = range(max(0, 5 - keeps), 6)
    assert await peer.lines(len(expected)) == [message(topic, str(index), index) for index in expected]
    await peer.assert_quiet()


async def test_one_read_returns_the_reply_and_the_replay(server: ServerProcess, other: Peer, topic: str) -> None:
    await other.do(send(topic, "a"), send(topic, "b"))
    loop = asyncio.get_running_loop()
    with socket.create_connection((server.host, server.tcp_port)) as sock:
        sock.setblocking(False)
        await loop.sock_sendall(sock, subscribe(topic).encode() + b"\r\n")
        async with asyncio.timeout(DEADLINE):
            first = await loop.sock_recv(sock, 65536)
    assert first == DONE + message(topic, "a", 0) + message(topic, "b", 1)


async def test_without_the_cache_only_new_messages_arrive(peer: Peer, other: Peer, topic: str) -> None:
    await other.do(send(topic, "old"))
    assert await peer.ask(subscribe(topic, ',"cache":false')) == DONE
    await other.do(send(topic, "new"))
    assert await peer.line() == message(topic, "new", 1)


@pytest.mark.parametrize("more", ["", ',"cache":true', ',"cache":false'])
@pytest.mark.parametrize("last_seen", [-1, 0, 3, 4, 99])
async def test_last_seen_replays_newer_messages(
    peer: Peer, other: Peer, topic: str, keeps: int, last_seen: int, more: str
) -> None:
    await other.do(*(send(topic, str(index)) for index in range(5)))
    assert await peer.ask(subscribe(topic, f',"last_seen":{last_seen}{more}')) == DONE
    await other.do(send(topic, "5"))
    expected = range(min(max(last_seen + 1, 5 - keeps, 0), 5), 6)
    assert await peer.lines(len(expected)) == [message(topic, str(index), index) for index in expected]
    await peer.assert_quiet()


async def test_a_message_sent_without_the_cache_reaches_only_present_subscribers(
    peer: Peer, other: Peer, topic: str
) -> None:
    await peer.do(subscribe(topic))
    await other.do(send(topic, "now", more=',"cache":false'))
    assert await peer.line() == message(topic, "now", 0)
    await other.do(subscribe(topic))
    await other.assert_quiet()


async def test_a_message_for_one_reaches_one_subscriber(server: ServerProcess, topic: str) -> None:
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(connect(server.tcp_port)) for _ in range(5)]
        for peer in peers:
            await peer.do(subscribe(topic))
        sender = await stack.enter_async_context(connect(server.tcp_port))
        await sender.do(*(send(topic, str(index), "one") for index in range(60)))
        got = [await peer.synchronise() for peer in peers]
        assert sorted(line for lines in got for line in lines) == sorted(
            message(topic, str(index), index, "one") for index in range(60)
        )
        assert sum(map(bool, got)) > 1  # chosen at random


async def test_messages_for_one_wait_for_the_first_subscriber(peer: Peer, other: Peer, topic: str, keeps: int) -> None:
    await other.do(*(send(topic, str(index), "one") for index in range(3)))
    assert await peer.ask(subscribe(topic)) == DONE
    expected = range(max(0, 3 - keeps), 3)
    assert await peer.lines(len(expected)) == [message(topic, str(index), index, "one") for index in expected]
    await other.do(subscribe(topic, ',"last_seen":-1'))
    await other.assert_quiet()
    await peer.assert_quiet()


async def test_unsubscribe_ends_the_messages_and_always_succeeds(peer: Peer, other: Peer, topic: str) -> None:
    await peer.do(unsubscribe(topic), subscribe(topic), unsubscribe(topic), unsubscribe(topic))
    await other.do(send(topic, "x"))
    await peer.assert_quiet()


async def test_a_second_subscribe_replaces_the_first(peer: Peer, other: Peer, topic: str) -> None:
    await peer.do(subscribe(topic), subscribe(topic))
    await other.do(send(topic, "x"))
    assert await peer.line() == message(topic, "x", 0)
    await peer.assert_quiet()


async def test_ping_succeeds(peer: Peer) -> None:
    assert await peer.ask('{"command":"ping"}') == DONE


@pytest.mark.parametrize(
    "line",
    [
        b'{"delivery":"all","msg":"x","topic":"TOPIC","command":"send"}\n',
        b' \t{ "command" : "send", "topic" : "TOPIC", "msg" : "x", "delivery" : "all" } \r\n',
        b'{"\\u0063ommand":"send","topic":"TOPIC","msg":"\\u0078","delivery":"all"}\r\n',
    ],
)
async def test_a_line_may_end_in_crlf_and_use_any_json_notation(peer: Peer, topic: str, line: bytes) -> None:
    await peer.do(subscribe(topic))
    peer.send(line.replace(b"TOPIC", topic.encode()))
    assert await peer.lines(2) == [DONE, message(topic, "x", 0)]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"\xff", UTF8),
        (b'{"command":"send","topic":"foo","msg":"\xc0\xaf","delivery":"all"}', UTF8),
        (b'{"command":"subscribe","topic":"\xed\xa0\x80"}', UTF8),
        (b"{", PARSE),
        (b'{"command":"ping"} {"command":"ping"}', PARSE),
        (b'{"command":"send","topic":"foo","msg":NaN,"delivery":"all"}', PARSE),
        (b'{"command":"send","topic":"foo","msg":"\\ud800","delivery":"all"}', PARSE),
        (b"[" * 100_000, PARSE),
        (b"[]", MALFORMED),
        (b"null", MALFORMED),
        (b"{}", MALFORMED),
        (b'{"command":"nothing","topic":"foo"}', MALFORMED),
        (b'{"command":"send","topic":"foo","msg":"x"}', MALFORMED),
        (b'{"command":"send","topic":"foo","delivery":"all"}', MALFORMED),
        (b'{"command":"send","msg":"x","delivery":"all"}', MALFORMED),
        (b'{"command":"send","topic":"foo","msg":"x","delivery":"none"}', MALFORMED),
        (b'{"command":"send","topic":"foo","msg":1,"delivery":"all"}', MALFORMED),
        (b'{"command":"send","topic":"foo","msg":"x","delivery":"all","cache":1}', MALFORMED),
        (b'{"command":"send","topic":"foo","msg":"x","delivery":"all","more":1}', MALFORMED),
        (b'{"command":"subscribe"}', MALFORMED),
        (b'{"command":"subscribe","topic":"foo","last_seen":"1"}', MALFORMED),
        (b'{"command":"subscribe","topic":"foo","last_seen":1.5}', MALFORMED),
        (b'{"command":"subscribe","topic":"foo","cache":"yes"}', MALFORMED),
        (b'{"command":"subscribe","topic":"foo","more":1}', MALFORMED),
        (b'{"command":"subscribe","topic":"a b"}', MALFORMED),
        (b'{"command":"subscribe","topic":"a..b"}', MALFORMED),
        (b'{"command":"subscribe","topic":"a.*"}', MALFORMED),
        (b'{"command":"subscribe","topic":"%b"}' % (b"x" * 1025), MALFORMED),
        (b'{"command":"unsubscribe","topic":"foo","more":1}', MALFORMED),
        (b'{"command":"unsubscribe"}', MALFORMED),
    ],
    ids=lambda value: repr(value[:70]),
)
async def test_an_error_has_a_fixed_reason_and_the_connection_stays_open(
    peer: Peer, topic: str, line: bytes, answer: bytes
) -> None:
    peer.send(line + b"\n", send(topic, "x"), line + b"\r\n", subscribe(topic))
    assert await peer.lines(5) == [answer, DONE, answer, DONE, message(topic, "x", 0)]
    await peer.assert_quiet()


@pytest.mark.parametrize("name", ["\\\"'`''\\\"\\\"", "'''", '\\"', "x" * 1024], ids=lambda name: name[:20])
async def test_topics_with_quotes_and_of_1024_characters_work(peer: Peer, keeps: int, name: str) -> None:
    """The topic is not random, but no other test of the shared server uses it."""
    await peer.do(*(send(name, str(index)) for index in range(2)))
    peer.send(subscribe(name), unsubscribe(name))
    lines = await peer.lines(4)
    assert lines == [DONE, message(name, "0", 0), message(name, "1", 1), DONE]
    assert keeps >= 2


@pytest.mark.parametrize("length", [64 << 10, 1 << 20])
async def test_lines_of_64_kib_and_of_1_mib_work(peer: Peer, topic: str, length: int) -> None:
    text = "x" * (length - len(send(topic, "")) - 1)
    line = send(topic, text) + "\n"
    assert len(line) == length
    await peer.do(subscribe(topic))
    peer.send(line.encode())
    assert await peer.lines(2) == [DONE, message(topic, text, 0)]


async def test_a_message_of_1_mib_works_and_one_byte_more_is_refused(peer: Peer, topic: str) -> None:
    text = "x" * (1 << 20)
    assert await peer.ask(send(topic, text + "y")) == (
        b'{"success": false, "reason": "a message has at most 1048576 bytes; this one has 1048577"}\r\n'
    )
    await peer.do(send(topic, text), subscribe(topic))
    assert await peer.line() == message(topic, text, 0)


async def test_a_line_that_is_too_long_is_answered_once_and_skipped(peer: Peer, topic: str) -> None:
    peer.send(send(topic, "x" * (4 << 20)), send(topic, "y"), subscribe(topic))
    assert await peer.lines(4) == [
        b'{"success": false, "reason": "a line has at most 1572864 bytes; the rest of this one was skipped"}\r\n',
        DONE, DONE, message(topic, "y", 0),
    ]  # fmt: skip


async def test_replies_come_in_the_order_of_the_lines(peer: Peer, topic: str) -> None:
    lines: list[str | bytes] = [send(topic, "x"), "{", '{"command":"ping"}', "[]", b"\xff\n"]
    peer.send(*lines * 200)
    assert await peer.lines(1_000) == [DONE, PARSE, DONE, MALFORMED, UTF8] * 200


async def test_many_sends_at_once_are_each_answered_and_each_delivered_in_order(
    peer: Peer, other: Peer, topic: str
) -> None:
    """They fit into the buffers of a connection, so that retention trims none before it is written."""
    await peer.do(subscribe(topic))
    other.send(*(send(topic, str(index)) for index in range(350)))
    assert await other.lines(350) == [DONE] * 350
    assert await peer.lines(350) == [message(topic, str(index), index) for index in range(350)]
    await other.assert_quiet()
    await peer.assert_quiet()


async def test_blank_lines_are_ignored(peer: Peer, topic: str) -> None:
    peer.send(b"\n\r\n \n\t \r\n", subscribe(topic), b"\n\n", send(topic, "x"), b"\r\n")
    assert await peer.lines(3) == [DONE, DONE, message(topic, "x", 0)]
    await peer.assert_quiet()


async def test_quit_closes_after_the_replies_and_drops_later_lines(peer: Peer, other: Peer, topic: str) -> None:
    await other.do(subscribe(topic))
    peer.send(send(topic, "before"), "quit", send(topic, "after"))
    assert await peer.rest() == DONE
    assert await other.line() == message(topic, "before", 0)
    await other.assert_quiet()


async def test_a_client_that_closes_its_sending_side_gets_every_reply_also_to_a_line_without_lf(
    peer: Peer, topic: str
) -> None:
    peer.send(send(topic, "a"), "{", send(topic, "b"), subscribe(topic).encode())
    peer.writer.write_eof()
    messages = message(topic, "a", 0) + message(topic, "b", 1)
    assert await peer.rest() == DONE + PARSE + DONE + DONE + messages


@pytest.mark.parametrize("line", ["POST / HTTP/1.1", "GET /topics HTTP/1.0", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc"])
async def test_a_browser_cannot_publish_here(peer: Peer, other: Peer, topic: str, line: str) -> None:
    await other.do(subscribe(topic))
    peer.send(line.encode() + b"\r\nHost: localhost:7777\r\nContent-Length: 80\r\n\r\n", send(topic, "x"))
    assert await is_closed(peer)
    await other.assert_quiet()


async def test_a_tls_handshake_is_closed_at_once_without_waiting_for_lf(peer: Peer) -> None:
    peer.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    assert await is_closed(peer)
