"""Stopping: every stream ends in good order, nothing that was accepted is lost on the way, and the exit status is 0."""

import asyncio
import json
import signal
import sys

import pytest

from tests.event_stream import stream
from tests.harness import http_client, start_server, start_uvicorn
from tests.line_client import lines


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_every_stream_in_good_order_and_the_status_is_0(number: signal.Signals) -> None:
    with start_server() as server:
        async with (
            stream(server, "/topics/foo/stream") as one,
            stream(server, "/topics/bar/stream") as two,
            lines(server) as words,
        ):
            words.send("sub foo")
            assert (await words.next()).startswith(b"OK")
            server.process.send_signal(number)
            for events in (one, two):
                (bye,) = await events.take(1)
                assert (bye.type, json.loads(bye.data)) == ("bye", {"reason": "draining"})
                assert events.parser.retry in range(1_000, 30_001)
                assert await events.next() is None
                assert events.ended_in_order
            assert await words.next() == b"BYE draining\r\n"
            assert await words.next() == b""
        assert await asyncio.to_thread(server.process.wait, 10) == 0


async def test_what_was_published_before_the_signal_is_written_before_the_last_event() -> None:
    with start_server(tcp_port=0) as server:
        async with stream(server, "/topics/foo/stream") as events, http_client(server.url) as client:
            for n in range(100):
                await client.post("/topics/foo/messages", content=str(n))
            server.process.send_signal(signal.SIGTERM)
            *messages, bye = await events.take(101)
            assert [event.data for event in messages] == [str(n) for n in range(100)]
            assert bye.type == "bye"


async def test_a_stalled_stream_does_not_hold_the_stop_up() -> None:
    with start_server("--drain-timeout", "1s", tcp_port=0) as server:
        async with stream(server, "/topics/foo/stream") as events, http_client(server.url) as client:
            for _ in range(40):
                await client.post("/topics/foo/messages", content=b"x" * (1 << 18))
            events.writer.transport.pause_reading()  # type: ignore[attr-defined]
            assert await asyncio.to_thread(server.stop) == 0


async def test_readiness_and_publishes_are_refused_while_an_open_request_is_finished() -> None:
    with start_server(tcp_port=0) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(b"POST /topics/foo/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf ")
        async with stream(server, "/topics/foo/stream") as events:
            server.process.send_signal(signal.SIGTERM)
            assert (await events.take(1))[0].type == "bye"
        writer.write(b"whole")
        async with asyncio.timeout(10):
            answer = await reader.read()
        assert b"503 Service Unavailable" in answer
        assert b'"code":"draining"' in answer
        writer.close()


async def test_a_pull_that_waits_returns_and_one_that_begins_is_refused_when_the_server_stops() -> None:
    with start_server(tcp_port=0) as server:
        async with http_client(server.url) as client:
            await client.put("/topics/foo/groups/g", json={})
            reader, writer = await asyncio.open_connection(server.host, server.port)
            pull = b"POST /topics/foo/groups/g/pull?wait=20s HTTP/1.1\r\nHost: localhost\r\n\r\n"
            writer.write(pull * 2)  # the second begins when the first has been answered
            async with asyncio.timeout(20):
                while (await client.get("/topics/foo/groups/g")).json()["workers"] != 1:
                    pass
        server.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            first, second = (await reader.read()).split(b"HTTP/1.1 ")[1:]
        writer.close()
        assert first.startswith(b"200 OK")
        assert b'{"messages":[]}' in first
        assert second.startswith(b"503 Service Unavailable")
        assert b"retry-after: 5" in second
        assert b'"code":"draining"' in second
        assert await asyncio.to_thread(server.process.wait, 20) == 0


async def test_a_second_signal_ends_the_process_at_once() -> None:
    with start_server("--drain-timeout", "1h", tcp_port=0) as server:
        _, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(b"POST /topics/foo/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf ")
        async with stream(server, "/topics/foo/stream") as events:
            server.process.send_signal(signal.SIGTERM)
            assert (await events.take(1))[0].type == "bye"
            assert server.process.poll() is None
            server.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(server.process.wait, 10) == 1
        writer.close()


async def test_a_port_in_use_is_a_sentence_not_a_traceback() -> None:
    with start_server() as server:
        command = [sys.executable, "-m", "app", "serve", "--port", str(server.port), "--tcp-port", "0"]
        other = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        async with asyncio.timeout(20):
            _, stderr = await other.communicate()
        assert other.returncode == 1
        assert b"cannot listen on 127.0.0.1" in stderr
        assert b"Traceback" not in stderr


async def test_uvicorn_alone_ends_its_streams_too() -> None:
    with start_uvicorn() as server:
        async with stream(server, "/topics/foo/stream") as events:
            server.process.terminate()
            (bye,) = await events.take(1)
            assert (bye.type, json.loads(bye.data)) == ("bye", {"reason": "draining"})
            assert await events.next() is None
            assert events.ended_in_order
        await asyncio.to_thread(server.process.wait, 10)
