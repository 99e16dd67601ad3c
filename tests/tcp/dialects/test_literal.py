"""The dialect of Python literals from outside, byte for byte."""

from contextlib import AsyncExitStack

import pytest

from tests.harness import ServerProcess
from tests.tcp.dialects.conftest import is_closed
from tests.tcp.peer import Peer, connect


def subscribe(topic: str, more: str = "") -> str:
    return f"{{'command':'subscribe', 'topic':{topic!r}{more}}}"


def send(topic: str, msg: object, more: str = "") -> str:
    return f"{{'command':'send', 'topic':{topic!r}, 'msg':{msg!r}{more}}}"


def line(*of: str) -> bytes:
    return "".join(text + "\n" for text in of).encode()


def refusal(reason: str) -> bytes:
    """The repr of that dict."""
    quote = '"' if "'" in reason else "'"
    return f"{{'success': False, 'reason': {quote}{reason}{quote}}}\n".encode()


async def do(peer: Peer, *lines: str) -> None:
    """Send lines that succeed: there is no reply."""
    peer.send(*lines)
    await peer.assert_quiet()


@pytest.mark.parametrize(
    "sent",
    [
        "{'command':'send', 'topic':'TOPIC', 'msg':'blah'}\n",
        "{'command':'send', 'topic':'TOPIC', 'msg':'blah'}\r\n",
        " {  'msg' : \"it's\",\t'topic':\"TOPIC\" ,'command':'send' , }  \n",
        "{'command':'send', 'topic':'TOPIC', 'msg':'größe \U0001f600 \u2028 \\u2028 \\n \\x00 \\d'}\n",
        "{'command':'send', 'topic':'TOPIC', 'msg':b'\\xff', 'delivery':'all', 'cache':True}\n",
        "{'command':'send', 'topic':'TOPIC', 'msg':[1, -2.5, None, {'a': (True, {3})}]}\n",
    ],
)
async def test_every_subscriber_gets_the_line_as_it_was_sent(peer: Peer, other: Peer, topic: str, sent: str) -> None:
    await do(peer, subscribe(topic))
    await do(other, subscribe(topic))
    encoded = sent.replace("TOPIC", topic).encode()
    peer.send(encoded)
    assert await other.line() == encoded
    assert await peer.line() == encoded  # the sender too
    await peer.assert_quiet()


async def test_success_has_no_reply(peer: Peer, topic: str) -> None:
    await do(peer, send(topic, "x"), send(topic, "x", ", 'cache':False"), subscribe(topic), subscribe(topic))


async def test_without_last_seen_only_new_messages_arrive(peer: Peer, other: Peer, topic: str) -> None:
    await do(other, send(topic, "old"))
    await do(peer, subscribe(topic))
    await do(other, send(topic, "new"))
    assert await peer.line() == line(send(topic, "new"))
    await peer.assert_quiet()


@pytest.mark.parametrize("last_seen", [-1, 0, 2, 3, 99])
async def test_last_seen_replays_newer_messages_then_new_ones(
    peer: Peer, other: Peer, topic: str, keeps: int, last_seen: int
) -> None:
    await do(other, *(send(topic, index) for index in range(4)))
    peer.send(subscribe(topic, f", 'last_seen':{last_seen}"))
    replayed = range(min(max(last_seen + 1, 4 - keeps, 0), 4), 4)
    assert await peer.lines(len(replayed)) == [line(send(topic, index)) for index in replayed]
    await peer.assert_quiet()
    await do(other, send(topic, 4))
    assert await peer.line() == line(send(topic, 4))


async def test_a_message_sent_without_the_cache_reaches_only_present_subscribers(
    peer: Peer, other: Peer, topic: str
) -> None:
    await do(peer, subscribe(topic))
    sent = send(topic, "now", ", 'cache':False")
    await do(other, sent)
    assert await peer.line() == line(sent)
    await do(other, subscribe(topic, ", 'last_seen':-1"))


async def test_delivery_is_to_all_by_default(server: ServerProcess, topic: str) -> None:
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(connect(server.tcp_port)) for _ in range(5)]
        for peer in peers:
            await do(peer, subscribe(topic))
        sender = await stack.enter_async_context(connect(server.tcp_port))
        ones = [send(topic, index, ", 'delivery':'one'") for index in range(60)]
        await do(sender, *ones)
        await do(sender, send(topic, "all"), send(topic, "all", ", 'delivery':'all'"))
        got = [await peer.synchronise() for peer in peers]
        for lines in got:
            assert [lines.pop() for _ in range(2)] == [
                line(send(topic, "all", ", 'delivery':'all'")),
                line(send(topic, "all")),
            ]
        assert sorted(one for lines in got for one in lines) == sorted(map(line, ones))
        assert sum(map(bool, got)) > 1


async def test_messages_for_one_wait_for_the_first_subscriber(peer: Peer, other: Peer, topic: str, keeps: int) -> None:
    ones = [send(topic, index, ", 'delivery':'one'") for index in range(3)]
    await do(other, *ones)
    peer.send(subscribe(topic))
    expected = ones[-keeps:]
    assert await peer.lines(len(expected)) == [line(one) for one in expected]
    await do(other, subscribe(topic, ", 'last_seen':-1"))


async def test_a_message_from_another_endpoint_looks_like_a_send(peer: Peer, other: Peer, topic: str) -> None:
    await do(peer, subscribe(topic))
    await other.ask(f"pub {topic} it's")
    assert await peer.line() == f"{{'command': 'send', 'topic': '{topic}', 'msg': \"it's\"}}\n".encode()


TOPIC_RULE = (
    "expected printable ASCII without spaces, in segments separated by '.' or '/', none of them empty, without '*'"
)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"{'command':'send', 'topic':'foo', 'msg':'\xff'}", "Could not decode input as UTF-8"),
        (b"{'command':'send', 'topic':'a b', 'msg':'x'}", f"'a b' is not a topic: {TOPIC_RULE}"),
        (b"{'command':'subscribe', 'topic':'a.*'}", f"'a.*' is not a topic: {TOPIC_RULE}"),
        (
            b"{'command':'send', 'topic':'foo', 'msg':open('x')}",
            "'open' is a name: a literal has only strings, numbers, True, False and None",
        ),
        (b"{'command':'send', 'topic':'foo', 'msg':%b" % (b"[" * 60_000), "a literal has at most 8192 characters"),
        (b"{'a':'%b'}" % (b"x" * (128 << 10)), "a Python literal has at most 131072 bytes: longer messages can be"),
        (b"{'command':'send', 'topic':'foo'}", ""),
        (b"{'command':'send', 'msg':'x'}", ""),
        (b"{'command':'send', 'topic':'foo', 'msg':'x', 'delivery':'none'}", ""),
        (b"{'command':'send', 'topic':'foo', 'msg':'x', 'cache':1}", ""),
        (b"{'command':'send', 'topic':'foo', 'msg':'x', 'more':1}", ""),
        (b"{'command':'nothing', 'topic':'foo'}", ""),
        (b"{'command':'subscribe', 'topic':'foo', 'last_seen':'1'}", ""),
        (b"{'command':'subscribe', 'topic':1}", ""),
        (b"{'command':", ""),
        (b"{'a':1}\r{'a':1}", "a carriage return is not part of a literal: write it as "),
        (b"{'", ""),
        (b"('a',)", ""),
    ],
    ids=lambda value: repr(value[:60]),
)
async def test_an_error_is_one_line_with_a_reason_and_the_connection_stays_open(
    peer: Peer, topic: str, sent: bytes, reason: str
) -> None:
    await do(peer, subscribe(topic))
    peer.send(sent + b"\n", send(topic, "x"))
    answer, message = await peer.lines(2)
    assert answer.startswith((b"{'success': False, 'reason': '", b"{'success': False, 'reason': \""))
    assert answer.endswith((b"'}\n", b'"}\n'))
    assert reason in answer.decode()
    assert message == line(send(topic, "x"))
    await peer.assert_quiet()


async def test_an_error_byte_for_byte(peer: Peer) -> None:
    assert await peer.ask("{'command':'subscribe', 'topic':'a b'}") == refusal(f"'a b' is not a topic: {TOPIC_RULE}")
    assert await peer.ask(b"{'\xff'}\n") == refusal("Could not decode input as UTF-8")


@pytest.mark.parametrize("name", ["'", '"', "\"'`'''\"\"\"", "\\'", "y" * 1024], ids=lambda name: name[:20])
async def test_topics_with_quotes_and_of_1024_characters_work(peer: Peer, name: str) -> None:
    peer.send(subscribe(name), send(name, "x"))
    assert await peer.line() == line(send(name, "x"))


@pytest.mark.parametrize("length", [64 << 10, (128 << 10) + 1])
async def test_lines_of_64_kib_and_of_128_kib_work(peer: Peer, topic: str, length: int) -> None:
    """The limit counts the line without its line end."""
    sent = line(send(topic, "x" * (length - len(line(send(topic, ""))))))
    assert len(sent) == length
    await do(peer, subscribe(topic))
    peer.send(sent)
    assert await peer.line() == sent


async def test_a_line_of_1_mib_is_refused_with_a_sentence(peer: Peer, topic: str) -> None:
    await do(peer, subscribe(topic))
    peer.send(send(topic, "x" * (1 << 20)), send(topic, "y"))
    assert await peer.lines(2) == [
        refusal("a Python literal has at most 131072 bytes: longer messages can be sent as JSON"),
        line(send(topic, "y")),
    ]


async def test_many_sends_at_once_are_each_delivered_in_order(peer: Peer, other: Peer, topic: str) -> None:
    await do(peer, subscribe(topic))
    await do(other, *(send(topic, index) for index in range(350)))
    assert await peer.lines(350) == [line(send(topic, index)) for index in range(350)]
    await peer.assert_quiet()


async def test_blank_lines_are_ignored(peer: Peer, topic: str) -> None:
    await do(peer, subscribe(topic))
    peer.send(b"\n\r\n \n\t \r\n", send(topic, "x"), b"\n\n")
    assert await peer.line() == line(send(topic, "x"))
    await peer.assert_quiet()


async def test_quit_closes_after_earlier_lines_and_drops_later_ones(peer: Peer, other: Peer, topic: str) -> None:
    await do(other, subscribe(topic))
    peer.send(send(topic, "before"), b"quit\r\n", send(topic, "after"))
    assert await peer.rest() == b""
    assert await other.line() == line(send(topic, "before"))
    await other.assert_quiet()


async def test_a_client_that_closes_its_sending_side_gets_every_reply_also_to_a_line_without_lf(
    peer: Peer, other: Peer, topic: str
) -> None:
    await do(other, subscribe(topic))
    peer.send(send(topic, "a"), b"{'\xff'}\n", send(topic, "b").encode())
    peer.writer.write_eof()
    assert await peer.rest() == refusal("Could not decode input as UTF-8")
    assert await other.lines(2) == [line(send(topic, "a")), line(send(topic, "b"))]


@pytest.mark.parametrize("head", ["POST / HTTP/1.1", "OPTIONS * HTTP/1.1", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc"])
async def test_a_browser_cannot_publish_here(peer: Peer, other: Peer, topic: str, head: str) -> None:
    await do(other, subscribe(topic))
    peer.send(head.encode() + b"\r\nHost: localhost:7777\r\nContent-Length: 80\r\n\r\n", send(topic, "x"))
    assert await is_closed(peer)
    await other.assert_quiet()
