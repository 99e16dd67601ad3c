"""Limits, other protocols and slow clients: each gets a reply or a close, and no other client is affected."""

import asyncio
import gc
import json
import resource
import socket
import struct
import tracemalloc
from contextlib import suppress
from itertools import pairwise

import msgspec
import pytest

from app.broker.broker import Timing
from app.tcp.connection import MAX_WRITE_BYTES, Connection
from app.tcp.dialects.text import HELP
from app.tcp.session import LineSession
from tests.harness import OPEN
from tests.tcp.peer import (
    DEADLINE,
    DONE,
    MAX_LINE,
    PARSE,
    ObservedConnection,
    Peer,
    Port,
    delivered,
    keeping,
    send,
    serving,
    subscribe,
)

ANSWER = HELP.encode().replace(b"\n", b"\r\n")


# Lines


@pytest.mark.parametrize(
    ("start", "answer"),
    [
        (b'{"command":"send","topic":"foo","msg":"', b'{"success": false, "reason": "a line has at most '),
        (b"[", b'{"success": false, "reason": "a line has at most '),
        (b"\xff", b'{"success": false, "reason": "a line has at most '),
        (b"{'command':'send', 'topic':'foo', 'msg':'", b"{'success': False, 'reason': 'a line has at most "),
        (b"pub foo ", b"ERR message_too_large a line has at most "),
    ],
)
async def test_a_line_that_is_too_long_gets_one_error_in_its_dialect(peer: Peer, start: bytes, answer: bytes) -> None:
    peer.send(start, b"x" * MAX_LINE, b"\n")
    assert (await peer.line()).startswith(answer)
    await peer.assert_quiet()


async def test_the_longest_line_is_accepted() -> None:
    line = send("foo", "x").encode()
    async with serving(max_line=len(line)) as port, port.connect() as peer:
        assert await peer.ask(line + b"\n") == DONE
        assert b"at most" in await peer.ask(line + b" \n")


async def test_ten_megabytes_without_an_lf_do_not_grow_memory(peer: Peer) -> None:
    chunk = b"x" * 100_000
    assert (await peer.ask(chunk * 16)).startswith(b"ERR message_too_large ")
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(100):
            peer.send(chunk)
            await peer.writer.drain()
        peer.send("")
        await peer.assert_quiet()
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


async def test_a_line_in_many_small_pieces_is_one_line(peer: Peer) -> None:
    for byte in send("foo", "x").encode() + b"\r\n":
        peer.send(bytes([byte]))
        await peer.writer.drain()
    assert await peer.line() == DONE


async def test_a_last_line_without_lf_is_answered(peer: Peer) -> None:
    peer.send(subscribe("foo"), send("foo", "x").encode())
    peer.writer.write_eof()
    assert await peer.rest() == DONE + DONE + delivered("foo", "x", 0)


async def test_a_message_published_before_quit_arrives_before_the_close(peer: Peer) -> None:
    peer.send("sub foo", "pub foo x", "quit")
    answers = await peer.rest()
    assert answers.count(b"\r\n") == 3
    assert b"MSG foo " in answers


# Other protocols


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nHost: localhost:7777\r\nContent-Type: text/plain\r\n\r\n",
        b"GET /topics/foo HTTP/1.0\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\n",
        b"get /?%s HTTP/1.1\r\n" % (b"x" * 100_000),
        b"POST /%s HTTP/1.1\r\n" % (b"x" * MAX_LINE),
        b"GET http://localhost/ HTTP/1.1\r\n",
        b"CONNECT localhost:7777 HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x16\x03\x01\n\x00\x01",
        b"\x16",
    ],
    ids=lambda head: repr(head[:20]),
)
async def test_another_protocol_is_closed_and_nothing_is_carried_out(peer: Peer, other: Peer, head: bytes) -> None:
    await other.do(subscribe("foo"))
    peer.send(head)
    if head == b"\x16":
        await peer.writer.drain()
        await other.assert_quiet()
        peer.send(b"\x03\x01")
    peer.send(send("foo", "x"), "pub foo x")
    with suppress(ConnectionError):  # a reset, because the server has not read everything
        assert await peer.rest() == b""
    await other.assert_quiet()


async def test_text_lines_that_resemble_http_are_text(peer: Peer, other: Peer) -> None:
    await other.do(subscribe("foo"))
    assert (await peer.ask("pub foo GET / HTTP/1.1")).startswith(b"OK ")
    assert await other.line() == delivered("foo", "GET / HTTP/1.1", 0)
    assert (await peer.ask("GET /")).startswith(b"ERR unknown_command ")
    assert (await peer.ask("sub /foo")).startswith(b"ERR topic_invalid ")


@pytest.mark.parametrize(
    "line",
    [
        b"\x00", b"\xff", b"x" * 200_000, b"1", b"null", b"[]", b"[" * 100_000, b'{"a":' * 100_000, b"-" * 20_000,
        b"{'a':" + b"-" * 20_000, b"9" * 100_000, b'{"a":' + b"9" * 100_000 + b"}", b"NaN", b"-Infinity", b'{"a":NaN}',
        b'{"command":"send","command":"nothing"}', b'{"topic":"a","topic":"b"}', b"{'a':1,'a':2}", b"\x00" * 70_000,
        b"\xef\xbb\xbf{}", b"{", b"}", b'"', b"'", b"\\", b"\x1b[2J", b"\xf0\x9f\x98\x80", b"{\x00}", b"{'\x00'}",
        b"{'a':" + b"(" * 100_000, b"{'a':9**9**9}", b"()", b"{()}", b"b''", b"//", b"<x>", b"\x7f", b"True", b"{[]:1}",
    ],
    ids=lambda line: repr(line[:20]),
)  # fmt: skip
async def test_a_malformed_line_gets_one_error_and_harms_nobody(peer: Peer, other: Peer, line: bytes) -> None:
    await other.do(subscribe("foo"))
    answer = await peer.ask(line + b"\n")
    assert answer.startswith((b"ERR ", b'{"success": false', b"{'success': False"))
    assert b"Traceback" not in answer
    assert len(answer) < 500
    await peer.do(send("foo", "x"))
    await peer.assert_quiet()
    assert await other.line() == delivered("foo", "x", 0)


async def test_blank_lines_get_no_reply(peer: Peer) -> None:
    peer.send(b"\n" * 10_000, b"\r\n" * 10_000, b" \t\r\n")
    await peer.assert_quiet()


# Too many clients


async def test_one_client_too_many_gets_an_error_and_is_closed() -> None:
    async with serving(max_clients=2) as port, port.connect() as first:
        async with port.connect() as second:
            await first.assert_quiet()
            await second.assert_quiet()
            async with port.connect() as third:
                answer = await third.rest()
            assert answer.startswith(b"ERR busy there are 2 clients")
            assert answer.count(b"\r\n") == 1
            second.send("quit")
            assert await second.rest() == b""
        await first.assert_quiet()
        async with port.connect() as third:
            await third.assert_quiet()


async def test_a_refused_subscription_ends_no_other(port: Port) -> None:
    async with serving(max_subscribers=1) as small, small.connect() as peer:
        await peer.do(subscribe("foo"))
        assert (await peer.ask("sub bar")).startswith(b"ERR subscriber_limit ")
        await peer.do(subscribe("foo"), send("foo", "x"))
        assert await peer.line() == delivered("foo", "x", 0)
    assert port


async def test_closed_connections_leave_nothing_behind(port: Port, peer: Peer) -> None:
    for number in range(100):
        async with port.connect() as passing:
            await passing.do(subscribe("foo"))
            passing.send("sub bar.*")
            if number % 2:
                reset = struct.pack("ii", 1, 0)
                passing.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    await peer.ask("sub foo")
    while not (await peer.ask("pub foo x")).endswith(b"subscribers=1\r\n"):
        await peer.line()  # the last resets may still be on their way
    await peer.line()
    gc.collect()
    sessions = [thing for thing in gc.get_objects() if isinstance(thing, LineSession)]
    assert len(sessions) == 1


# Slow clients


async def test_a_client_may_read_all_replies_at_the_end(port: Port) -> None:
    async with port.connect() as peer:
        sends = 5_000
        peer.send(*(send("foo", str(number)) for number in range(sends)))
        assert await peer.lines(sends) == [DONE] * sends


async def test_a_client_that_does_not_read_is_paused_and_goes_on_once_it_reads() -> None:
    """Each `help` is 5 bytes in and over 1,000 out: the server must not buffer replies without bound."""
    count = 100_000
    async with serving(send_buffer=16 << 10) as port, port.connect() as peer, port.connect() as other:
        peer.stop_reading()
        peer.send(b"help\n" * count)
        transport = (await only_connection_that_is_full()).transport
        assert transport.get_write_buffer_size() < 4 * MAX_WRITE_BYTES
        assert not transport.is_reading()
        await other.assert_quiet()
        peer.read_again()
        expected = b"OK " + ANSWER + b"\r\n"
        async with asyncio.timeout(4 * DEADLINE):
            for _ in range(count):
                assert await peer.reader.readexactly(len(expected)) == expected


async def only_connection_that_is_full() -> ObservedConnection:
    """The connection whose socket is full, once there is one."""
    async with asyncio.timeout(DEADLINE):
        while True:
            for thing in gc.get_objects():
                if isinstance(thing, ObservedConnection) and thing.paused:
                    return thing
            await asyncio.sleep(0)


async def test_a_stalled_subscriber_delays_no_other_and_catches_up() -> None:
    size, count = 10_000, 800
    async with (
        serving(keeping(1_000), send_buffer=16 << 10) as port,
        port.connect() as slow,
        port.connect() as quick,
        port.connect() as publisher,
    ):
        await slow.do(subscribe("foo"))
        await quick.do(subscribe("foo"))
        slow.stop_reading()
        for number in range(count):
            text = f"{number:{size}}"
            await publisher.do(send("foo", text))
            assert await quick.line() == delivered("foo", text, number)
        connection = await only_connection_that_is_full()
        assert connection.transport.get_write_buffer_size() < 8 * MAX_WRITE_BYTES
        slow.read_again()
        for number in range(count):
            assert await slow.line() == delivered("foo", f"{number:{size}}", number)
        await publisher.do(send("foo", "live"))
        assert await slow.line() == delivered("foo", "live", count)


async def test_a_subscriber_that_catches_up_on_many_topics_misses_nothing() -> None:
    topics, count, size = 8, 50, 10_000
    async with serving(send_buffer=16 << 10) as port, port.connect() as slow, port.connect() as publisher:
        await slow.do(*(subscribe(f"t{topic}") for topic in range(topics)))
        slow.stop_reading()
        for number in range(count):
            await publisher.do(*(send(f"t{topic}", f"{number:{size}}") for topic in range(topics)))
        slow.read_again()
        got: dict[str, list[int]] = {}
        for line in await slow.lines(topics * count):
            message = json.loads(line)
            got.setdefault(message["topic"], []).append(message["index"])
        assert got == {f"t{topic}": list(range(count)) for topic in range(topics)}
        await slow.assert_quiet()


async def test_only_the_subscriber_that_reads_nothing_is_cut_off() -> None:
    async with (
        serving(timing=Timing(stall=0.2), send_buffer=16 << 10) as port,
        port.connect() as stalled,
        port.connect() as quick,
        port.connect() as publisher,
    ):
        await stalled.do(subscribe("foo"))
        await quick.do(subscribe("foo", ',"cache":false'))
        stalled.stop_reading()
        number = 0
        async with asyncio.timeout(DEADLINE):
            while not (await publisher.ask("pub foo " + "x" * 50_000)).endswith(b"subscribers=1\r\n"):
                await quick.line()
                number += 1
        assert number > 0
        await quick.line()
        await quick.assert_quiet()


@pytest.mark.parametrize("last", [[], ["ping"]])
async def test_the_stop_of_the_server_closes_every_connection(last: list[str]) -> None:
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port.number)
        peer = Peer(reader, writer)
        await peer.do(subscribe("foo"))
        peer.send(b"pub foo this line has no en")
        peer.send(*last)
        await settle(port)
    rest = await peer.rest()
    assert b"MSG" not in rest
    writer.close()
    await writer.wait_closed()


async def settle(port: Port) -> None:
    async with port.connect() as other:
        for _ in range(5):
            await other.assert_quiet()


async def test_the_server_stops_although_a_client_does_not_read() -> None:
    async with serving(send_buffer=16 << 10) as port:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", port.number))
        peer.stop_reading()
        peer.send(b"help\n" * 100_000)
        connection = await only_connection_that_is_full()
    assert connection.transport.is_closing()
    peer.writer.transport.abort()
    with suppress(ConnectionError):
        await peer.writer.wait_closed()


class Transport(asyncio.Transport):
    """A transport whose buffer is as full as the test sets it, and which records the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.filled = 0
        self.writes: list[bytes] = []
        self.reading = True
        self.closed = False

    def get_write_buffer_size(self) -> int:
        return self.filled

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


async def test_all_replies_to_one_read_are_sent_in_one_write(port: Port, peer: Peer) -> None:
    await peer.do(send("foo", "a"), send("foo", "b"))
    connection, transport = Connection(LineSession(port.broker, 1_000, OPEN, 10.0), 1_000), Transport()
    connection.connection_made(transport)
    connection.data_received(f"ping\n{subscribe('foo')}\nping\n".encode())
    messages = delivered("foo", "a", 0) + delivered("foo", "b", 1)
    assert transport.writes == [b"OK pong\r\n" + DONE + messages + b"OK pong\r\n"]
    connection.connection_lost(None)


async def test_the_server_does_not_read_while_the_socket_is_full(port: Port) -> None:
    connection, transport = Connection(LineSession(port.broker, 1_000, OPEN, 10.0), 1_000), Transport()
    connection.connection_made(transport)
    connection.pause_writing()
    assert not transport.reading
    connection.data_received(b"ping\n" * 3)
    assert transport.writes == []
    connection.resume_writing()
    assert transport.writes == [b"OK pong\r\n" * 3]
    assert transport.reading


async def test_pending_falls_whenever_the_socket_accepts_bytes_however_it_is_refilled(port: Port) -> None:
    """A subscription that waits for its turn on a busy connection must not look stalled."""
    connection, transport = Connection(LineSession(port.broker, 100, OPEN, 10.0), 100), Transport()
    connection.connection_made(transport)
    seen = []
    for full, left in ((100, 10), (500, 20), (90, 0), (80_000, 79_999)):
        transport.filled = full
        connection.pause_writing()
        seen.append(connection.pending())
        transport.filled = left
        seen.append(connection.pending())
        connection.resume_writing()
    falls = [before - after for before, after in pairwise(seen)]
    assert falls == [90, 0, 480, 0, 90, 0, 1]


# Many connections


async def exchange(connections: int, sends: int) -> None:
    """Each connection subscribes to one topic, and sends to others without reading. All messages arrive once."""
    async with serving(max_subscribers=connections) as port, port.peers(connections) as peers:
        for number, peer in enumerate(peers):
            peer.send(subscribe(f"topic.{number}", ',"cache":false'))
        for peer in peers:
            assert await peer.line() == DONE
        for number, peer in enumerate(peers):
            topics = (f"topic.{(number + 1 + count) % connections}" for count in range(sends))
            peer.send(b"".join(send(topic, str(number)).encode() + b"\n" for topic in topics))
        for number, peer in enumerate(peers):
            lines = await peer.lines(2 * sends)
            assert lines.count(DONE) == sends
            messages = [msgspec.json.decode(line) for line in lines if line != DONE]
            assert {message["topic"] for message in messages} == {f"topic.{number}"}
            senders = sorted(int(message["msg"]) for message in messages)
            assert senders == sorted((number - 1 - count) % connections for count in range(sends))
            assert sorted(message["index"] for message in messages) == list(range(sends))
        for peer in peers:
            await peer.assert_quiet()


async def test_a_thousand_connections_pipeline_a_hundred_sends_each_and_read_at_the_end() -> None:
    await exchange(1_000, 100)


@pytest.mark.slow
async def test_ten_thousand_connections_send_ten_messages_each() -> None:
    """As many as open files allow: both ends of each connection are in this process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    await exchange(min(10_000, (hard - 200) // 2), 10)


async def test_thousands_of_malformed_lines_are_each_refused(peer: Peer) -> None:
    peer.send(b"[\n" * 20_000)
    assert await peer.lines(20_000) == [PARSE] * 20_000
