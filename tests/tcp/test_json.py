"""The JSON dialect, byte for byte: the third version of the original protocol."""

import asyncio
import json
import socket

import pytest

from app.log.topic_log import Limits
from tests.tcp.peer import DEADLINE, DONE, MALFORMED, PARSE, UTF8, Peer, Port, delivered, send, serving, subscribe


async def test_a_subscriber_gets_the_send_object_with_its_index(peer: Peer, other: Peer) -> None:
    assert await peer.ask(subscribe("foo")) == DONE
    for index, text in enumerate(["blah", "", "x y"]):
        await other.do(send("foo", text))
        assert await peer.line() == delivered("foo", text, index)


async def test_the_sender_gets_the_reply_first_and_then_its_message(peer: Peer) -> None:
    peer.send(subscribe("foo"), send("foo", "blah"))
    assert await peer.lines(3) == [DONE, DONE, delivered("foo", "blah", 0)]


async def test_a_subscriber_gets_retained_messages_then_new_ones(peer: Peer, other: Peer) -> None:
    await other.do(send("foo", "a"), send("foo", "b"))
    assert await peer.ask(subscribe("foo")) == DONE
    await other.do(send("foo", "c"))
    assert await peer.lines(3) == [delivered("foo", text, index) for index, text in enumerate("abc")]


async def test_only_retained_messages_are_replayed(peer: Peer, keeps: int) -> None:
    await peer.do(*(send("foo", str(index)) for index in range(5)))
    assert await peer.ask(subscribe("foo")) == DONE
    kept = range(max(0, 5 - keeps), 5)
    assert await peer.lines(len(kept)) == [delivered("foo", str(index), index) for index in kept]
    await peer.assert_quiet()


async def test_the_reply_and_the_replay_are_sent_in_one_write(port: Port, other: Peer) -> None:
    await other.do(send("foo", "a"), send("foo", "b"))
    loop = asyncio.get_running_loop()
    with socket.create_connection(("127.0.0.1", port.number)) as sock:
        sock.setblocking(False)
        await loop.sock_sendall(sock, subscribe("foo").encode() + b"\r\n")
        async with asyncio.timeout(DEADLINE):
            first = await loop.sock_recv(sock, 65536)
    assert first == DONE + delivered("foo", "a", 0) + delivered("foo", "b", 1)


async def test_no_old_message_is_replayed_without_the_cache(peer: Peer, other: Peer) -> None:
    await other.do(send("foo", "old"))
    assert await peer.ask(subscribe("foo", ',"cache":false')) == DONE
    await other.do(send("foo", "new"))
    assert await peer.line() == delivered("foo", "new", 1)


@pytest.mark.parametrize("cache", ["", ',"cache":false', ',"cache":true'])
@pytest.mark.parametrize("last_seen", [-(10**30), -1, 0, 2, 3, 4, 5, 99, 10**30])
async def test_last_seen_replays_newer_retained_messages(
    peer: Peer, other: Peer, keeps: int, cache: str, last_seen: int
) -> None:
    await other.do(*(send("foo", str(index)) for index in range(5)))
    assert await peer.ask(subscribe("foo", f',"last_seen":{last_seen}{cache}')) == DONE
    await other.do(send("foo", "5"))
    first = min(max(last_seen + 1, 5 - keeps, 0), 5)
    assert await peer.lines(6 - first) == [delivered("foo", str(index), index) for index in range(first, 6)]
    await peer.assert_quiet()


async def test_a_message_with_cache_false_reaches_only_present_subscribers(peer: Peer, other: Peer) -> None:
    await peer.do(subscribe("foo"))
    await other.do('{"command":"send","topic":"foo","msg":"now","delivery":"all","cache":false}')
    await other.do(subscribe("foo"))
    assert await peer.line() == delivered("foo", "now", 0)
    await other.assert_quiet()


async def test_an_index_counts_every_message_of_its_topic(peer: Peer, other: Peer) -> None:
    await other.do(send("foo", "a"), send("bar", "b"), send("foo", "c"), send("bar", "d"))
    peer.send(subscribe("foo"), subscribe("bar"))
    assert await peer.lines(6) == [
        DONE, delivered("foo", "a", 0), delivered("foo", "c", 1),
        DONE, delivered("bar", "b", 0), delivered("bar", "d", 1),
    ]  # fmt: skip


async def test_a_message_for_one_waits_for_the_first_subscriber(peer: Peer, other: Peer) -> None:
    await peer.do(send("foo", "job", "one"))
    assert await peer.ask(subscribe("foo")) == DONE
    assert await peer.line() == delivered("foo", "job", 0, "one")
    await other.do(subscribe("foo"))
    await other.assert_quiet()


async def test_a_waiting_message_is_delivered_without_the_cache_too(peer: Peer) -> None:
    await peer.do(send("foo", "job", "one"), send("foo", "news"))
    assert await peer.ask(subscribe("foo", ',"cache":false')) == DONE
    assert await peer.line() == delivered("foo", "job", 0, "one")
    await peer.assert_quiet()


async def test_each_message_for_one_reaches_exactly_one_subscriber(port: Port, peer: Peer) -> None:
    async with port.peers(5) as subscribers:
        for subscriber in subscribers:
            await subscriber.do(subscribe("foo"))
        await peer.do(*(send("foo", str(number), "one") for number in range(100)))
        received = []
        for subscriber in subscribers:
            received += [json.loads(line)["index"] for line in await subscriber.synchronise()]
        assert sorted(received) == list(range(100))


async def test_unsubscribe_ends_the_messages_and_always_succeeds(peer: Peer, other: Peer) -> None:
    unsubscribe = '{"command":"unsubscribe","topic":"foo"}'
    await peer.do(unsubscribe, subscribe("foo"), unsubscribe, unsubscribe)
    await other.do(send("foo", "x"))
    await peer.assert_quiet()


async def test_a_message_sent_before_an_unsubscribe_arrives(peer: Peer) -> None:
    peer.send(subscribe("foo"), send("foo", "a"), '{"command":"unsubscribe","topic":"foo"}', send("foo", "b"))
    assert sorted(await peer.lines(5)) == sorted([DONE, DONE, DONE, DONE, delivered("foo", "a", 0)])
    await peer.assert_quiet()


async def test_subscribing_again_replaces_the_subscription(peer: Peer, other: Peer) -> None:
    await peer.do(subscribe("foo"), subscribe("foo"), subscribe("foo"))
    await other.do(send("foo", "once"))
    assert await peer.line() == delivered("foo", "once", 0)
    await peer.assert_quiet()


async def test_a_message_sent_just_before_subscribing_again_is_not_lost(peer: Peer) -> None:
    live = subscribe("foo", ',"cache":false')
    peer.send(live, send("foo", "a"), live)
    assert sorted(await peer.lines(4)) == sorted([DONE, DONE, DONE, delivered("foo", "a", 0)])


async def test_ping_succeeds(peer: Peer) -> None:
    await peer.do('{"command":"ping"}')


@pytest.mark.parametrize(
    "line",
    [
        b'{"topic":"foo", "delivery":"all","msg":"x", "command" : "send"}',
        b'  \t {"command":"send","topic":"foo","msg":"x","delivery":"all"}  \r',
        b'{"\\u0063ommand":"send","topic":"f\\u006fo","msg":"\\u0078","delivery":"all"}',
    ],
)
async def test_json_means_the_same_however_it_is_written(peer: Peer, other: Peer, line: bytes) -> None:
    await other.do(subscribe("foo"))
    assert await peer.ask(line + b"\n") == DONE
    assert await other.line() == delivered("foo", "x", 0)


@pytest.mark.parametrize("topic", ["x" * 1024, "''", '\\"', '\\"\\"\\"', "'\\\"'", "{}[],:", "\\\\", "a.b/c", "$&+~|"])
async def test_long_and_strange_topics_work(peer: Peer, topic: str) -> None:
    await peer.do(send(topic, "x"))
    assert await peer.ask(subscribe(topic)) == DONE
    assert await peer.line() == delivered(topic, "x", 0)


@pytest.mark.parametrize("size", [64 << 10, 1 << 20])
async def test_large_messages_work(peer: Peer, size: int) -> None:
    text = "x" * (size - 1) + "y"
    await peer.do(send("foo", text))
    assert await peer.ask(subscribe("foo")) == DONE
    assert await peer.line() == delivered("foo", text, 0)


@pytest.mark.parametrize(
    "line",
    [
        "1", "null", "true", "[]", '"send"', "-1.5e3", "[1,2]", "{}", '{"command":1}', '{"command":null}',
        '{"command":"nothing"}', '{"command":"SEND","topic":"foo","msg":"x","delivery":"all"}',
        '{"command":"subscribe"}', '{"command":"subscribe","topic":1}', '{"command":"subscribe","topic":null}',
        '{"command":"subscribe","topic":""}', '{"command":"subscribe","topic":"a b"}',
        '{"command":"subscribe","topic":"a.*"}', '{"command":"subscribe","topic":"\u00e9"}',
        '{"command":"subscribe","topic":"a\\nb"}', f'{{"command":"subscribe","topic":"{"x" * 1025}"}}',
        '{"command":"subscribe","topic":"a..b"}', '{"command":"subscribe","topic":["foo"]}',
        '{"command":"subscribe","topic":"foo","last_seen":true}',
        '{"command":"subscribe","topic":"foo","last_seen":"1"}',
        '{"command":"subscribe","topic":"foo","last_seen":1.0}',
        '{"command":"subscribe","topic":"foo","last_seen":null}',
        '{"command":"subscribe","topic":"foo","cache":1}', '{"command":"subscribe","topic":"foo","cache":"yes"}',
        '{"command":"subscribe","topic":"foo","msg":"x"}', '{"command":"unsubscribe"}',
        '{"command":"unsubscribe","topic":"foo","x":1}', '{"command":"unsubscribe","topic":"*"}',
        '{"command":"send","topic":"foo","msg":"x"}', '{"command":"send","topic":"foo","delivery":"all"}',
        '{"command":"send","msg":"x","delivery":"all"}', '{"command":"send","topic":"foo","msg":1,"delivery":"all"}',
        '{"command":"send","topic":"foo","msg":null,"delivery":"all"}',
        '{"command":"send","topic":"foo","msg":["x"],"delivery":"all"}',
        '{"command":"send","topic":"foo","msg":"x","delivery":"none"}',
        '{"command":"send","topic":"foo","msg":"x","delivery":"ALL"}',
        '{"command":"send","topic":"foo","msg":"x","delivery":1}',
        '{"command":"send","topic":"foo","msg":"x","delivery":"all","index":0}',
        '{"command":"send","topic":"foo","msg":"x","delivery":"all","cache":0}',
        '{"command":"send","topic":"foo","msg":"x","delivery":"all","priority":10}',
        '{"command":"send","topic":"foo","msg":"x","delivery":"all","priority":-1}',
        '{"command":"send","topic":"foo","msg":"x","delivery":"all","priority":"1"}',
        '{"command":"send","topic":"foo","msg":"x","delivery":"all","key":""}',
        '{"command":"send","topic":"foo","msg":"x","delivery":"all","key":null}',
        '{"command":"send","topic":"foo","msg":"x","delivery":"one","priority":3}',
        '{"command":"send","topic":"foo","msg":"x","delivery":"one","key":"k"}',
        '{"command":"send","topic":"foo","msg":"x","delivery":"all","cache":false,"priority":3}',
        '{"command":"send","topic":"foo","msg":"x","delivery":"all","cache":false,"key":"k"}',
        '{"command":"ping","x":1}', "1" * 5000,
    ],
)  # fmt: skip
async def test_json_that_is_not_a_command_is_malformed(peer: Peer, line: str) -> None:
    assert await peer.ask(line) == MALFORMED
    await peer.assert_quiet()


@pytest.mark.parametrize(
    "line",
    [
        "{", "[", '"', "[1,]", '{"command":"send"', '{"command":"send",}', '{"a" 1}', "[1] x", "0x1", "01", "-", "--1",
        '{"command":"subscribe","topic":"foo"} {}', '{"command":1} x', '"\\q"', '"\\u12"', '"\x01"', '{"a":NaN}',
        "{command:1}", '{"command":"send","topic":"foo","msg":"\\ud800","delivery":"all"}',
        '{"command":"send","topic":"foo","msg":"\\udc00","delivery":"all"}',
        '{"command":"send","topic":"foo","msg":"\\ud800\\ud800","delivery":"all"}',
        "-" * 20_000, "[" * 100_000, '{"a":' * 100_000, "\x00", "\x7f", "\u2028", "é",
    ],
)  # fmt: skip
async def test_a_line_that_is_not_json_cannot_be_parsed(peer: Peer, line: str) -> None:
    assert await peer.ask(line) == PARSE
    await peer.assert_quiet()


@pytest.mark.parametrize(
    "line",
    [
        b"\xff", b"{\xff", b'"\xff"', b'{"\xff":1}', b'{"command":"send","topic":"foo","msg":"\xff","delivery":"all"}',
        b'{"command":"send","topic":"foo","msg":"\xed\xa0\x80","delivery":"all"}', b'{"command":"nothing","x":"\xc0"}',
        b"[1]\x80", b"\x80" * 70_000,
    ],
)  # fmt: skip
async def test_a_line_that_is_not_utf8_cannot_be_decoded(peer: Peer, line: bytes) -> None:
    assert await peer.ask(line + b"\n") == UTF8
    await peer.assert_quiet()


async def test_a_refused_send_is_not_stored(peer: Peer) -> None:
    lone = '{"command":"send","topic":"foo","msg":"\\ud800","delivery":"all"}'
    assert await peer.ask(lone) == PARSE
    assert await peer.ask(subscribe("foo")) == DONE
    await peer.assert_quiet()


async def refusal(peer: Peer, line: str) -> str:
    answer = await peer.ask(line)
    assert answer.startswith(b'{"success": false, "reason": "')
    assert answer.endswith(b"\r\n")
    reason: str = json.loads(answer)["reason"]
    return reason


async def test_errors_of_the_log_are_sentences() -> None:
    async with serving(Limits(topics=1), max_message=10, max_subscribers=1) as port, port.connect() as peer:
        await peer.do(send("foo", "x" * 10), subscribe("foo", ',"cache":false'))
        assert "1 topics" in await refusal(peer, send("bar", "x"))
        assert "at most 10 bytes; this one has 11" in await refusal(peer, send("foo", "x" * 11))
        assert "1 subscribers" in await refusal(peer, subscribe("bar"))
        await peer.assert_quiet()


async def test_a_full_log_refuses_and_stores_nothing() -> None:
    async with serving(Limits(total_bytes=10_000)) as port, port.connect() as peer:
        assert "max_total_bytes" in await refusal(peer, send("foo", "x" * 20_000))
        assert await peer.ask(subscribe("foo")) == DONE
        await peer.assert_quiet()


async def test_a_draining_broker_refuses_publishes_with_an_error(port: Port, peer: Peer) -> None:
    await peer.do(send("foo", "x"))
    port.broker.drain()
    assert "stopping" in await refusal(peer, send("foo", "y"))
    assert "stopping" in await refusal(peer, subscribe("foo"))
