"""What an operator can see: records on standard error, for people and for programs."""

import asyncio
import json
import re
import resource
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from app.telemetry.accesslog import MAX_ERRORS as MOST_A_SECOND
from tests.event_stream import stream
from tests.harness import DEADLINE, ROOT, start_server
from tests.line_client import lines
from tests.telemetry.server_log import ALL, FORMATS, HUMAN, JSON, ServerLog, client, raw, stop

# Requests, streams, connections


async def test_a_request_that_went_wrong_has_a_record_and_one_that_did_not_has_none() -> None:
    with start_server(*JSON, tcp_port=0) as server:
        logged = ServerLog(server)
        async with client(server) as http:
            assert (await http.post("/topics/a/messages", content="hello")).status_code == 201
            assert (await http.get("/topics/a")).status_code == 200
            answer = await http.get("/topics/b", headers={"X-Request-ID": "from-a-proxy.1"})
        record = await logged.until("request")
        assert re.fullmatch(r"[\d.]+:\d+", record.pop("client"))
        assert record.pop("seconds") >= 0
        assert HUMAN.fullmatch(f"{record.pop('time')} info x")
        assert answer.headers["x-request-id"] == "from-a-proxy.1"
        assert record == {
            "level": "info", "message": "request", "door": "http", "method": "GET", "path": "/topics/b",
            "status": 404, "code": "not_found", "bytes_in": 0, "bytes_out": len(answer.content),
            "request": "from-a-proxy.1",
        }  # fmt: skip


async def test_all_requests_have_one_when_that_is_asked_for() -> None:
    with start_server(*JSON, *ALL, tcp_port=0) as server:
        logged = ServerLog(server)
        async with client(server) as http:
            answer = await http.post("/topics/a/messages", content="hello")  # by the fast path
            record = await logged.until("request", method="POST")
            assert (record["path"], record["status"]) == ("/topics/a/messages", 201)
            assert (record["bytes_in"], record["bytes_out"]) == (5, len(answer.content))
            await http.post("/topics/a/messages?event=x", content="hello!")
            record = await logged.until("request", method="POST")
            assert (record["path"], record["bytes_in"]) == ("/topics/a/messages?event=x", 6)


async def test_none_has_one_when_that_is_asked_for() -> None:
    with start_server(*JSON, "--access-log", "none") as server:
        async with client(server) as http, lines(server) as peer:
            assert (await http.get("/topics/b")).status_code == 404
            peer.send(b"GET / HTTP/1.1\n")
            assert await peer.next() == b""
        assert await stop(server) == 0
        records = await ServerLog(server).records()
        assert [record["message"] for record in records] == [
            "starting", "listening", "stopping", "draining", "stopped"
        ]  # fmt: skip


TURNED_AWAY = [
    (b"GARBAGE\r\n\r\n", 400, "not_http", ""),
    (b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414, "target_too_long", "/xxx"),
    (b"GET /a HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n", 431, "head_too_large", "/a"),
    (b"GET /b HTTP/1.1\r\nHost: elsewhere\r\nConnection: close\r\n\r\n", 421, "host_unknown", "/b"),
    (b"CONNECT c:80 HTTP/1.1\r\nHost: c:80\r\n\r\n", 501, "upgrade_unsupported", "c:80"),
    (
        b"POST /topics/a/messages HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 99999999\r\n\r\n",
        413, "message_too_large", "/topics/a/messages",
    ),
]  # fmt: skip


async def test_a_request_refused_before_any_handler_has_one_too() -> None:
    with start_server(*JSON, tcp_port=0) as server:
        logged = ServerLog(server)
        for sent, status, code, path in TURNED_AWAY:
            assert f" {status} ".encode() in await raw(server, sent)
            record = await logged.until("request")
            assert (record["status"], record["code"]) == (status, code)
            assert record["path"].startswith(path)
            assert len(record["path"]) < 1_000


async def test_a_request_that_comes_too_slowly_has_one_and_only_one() -> None:
    with start_server(*JSON, "--body-timeout", "1s", tcp_port=0) as server:
        head = b"POST /topics/a/messages?event=x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(head)
        async with asyncio.timeout(DEADLINE):
            assert b" 408 " in await reader.read()
        writer.close()
        assert await stop(server) == 0
        requests = [record for record in await ServerLog(server).records() if record["message"] == "request"]
        assert [(record["status"], record["code"]) for record in requests] == [(408, "request_timeout")]


async def test_a_stream_has_one_when_it_ends_that_says_why() -> None:
    path = "/topics/a/stream?since=earliest&timeout="
    with start_server(*JSON, *ALL, tcp_port=0) as server:
        logged = ServerLog(server)
        async with stream(server, f"{path}10ms", X_Request_ID="mine") as events:
            assert events.headers["x-request-id"] == "mine"
            assert await events.next() is None
        record = await logged.until("stream ended")
        assert (record["why"], record["path"], record["request"]) == ("timeout", f"{path}10ms", "mine")
        async with stream(server, f"{path}1h"):
            pass
        assert (await logged.until("stream ended"))["why"] == "client_left"
        async with stream(server, f"{path}10ms", Origin="http://localhost") as events:
            assert await events.next() is None  # through ASGI
        assert (await logged.until("stream ended"))["why"] == "timeout"
        async with stream(server, f"{path}1h") as events:
            server.process.send_signal(signal.SIGTERM)
            assert (await events.take(1))[0].type == "bye"
        assert (await logged.until("stream ended"))["why"] == "draining"


async def test_a_connection_of_the_line_port_has_one_when_it_ends_that_says_why() -> None:
    with start_server(*JSON, *ALL) as server:
        logged = ServerLog(server)
        ways = {"quit": b"ping\nquit\n", "another_protocol": b"GET / HTTP/1.1\n", "client_left": None}
        for why, words in ways.items():
            async with lines(server) as peer:
                if words is not None:
                    peer.send(words)
                    assert (await peer.take(2))[1] in (b"", b"OK bye\r\n")
            record = await logged.until("connection ended")
            assert (record["why"], record["door"]) == (why, "line")
            assert record["lines"] == {"quit": 2, "another_protocol": 1, "client_left": 0}[why]
        async with lines(server) as peer:
            peer.send("ping")
            await peer.next()
            server.process.send_signal(signal.SIGTERM)
            assert await peer.next() == b""
        assert (await logged.until("connection ended"))["why"] == "draining"


async def test_a_subscriber_that_is_cut_off_causes_a_warning() -> None:
    with start_server(*JSON, "--stall-timeout", "200ms", "--send-buffer", "4096", tcp_port=0) as server:
        async with client(server) as http:
            with closing(socket.socket()) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.connect((server.host, server.port))
                sock.sendall(b"GET /topics/a/stream?since=earliest HTTP/1.1\r\nHost: localhost\r\n\r\n")
                for _ in range(4):
                    await http.post("/topics/a/messages", content=b"x" * 1_000_000)
                record = await ServerLog(server).until("stream ended")
                assert (record["why"], record["level"], record["door"]) == ("cut_off", "warning", "http")


async def test_refused_requests_do_not_fill_the_log() -> None:
    count = 5 * MOST_A_SECOND
    with start_server(*JSON, tcp_port=0) as server:
        one = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"
        together = one * 49 + one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        answers = b"".join([await raw(server, together) for _ in range(count // 50)])
        assert answers.count(b"HTTP/1.1 404 ") == count
        assert await stop(server) == 0
        records = await ServerLog(server).records()
        single = sum(record["message"] == "request" for record in records)
        rest = sum(record["count"] for record in records if record["message"] == "more went wrong")
        assert single + rest == count
        assert rest > 0


# The server itself


@pytest.mark.parametrize(("trusted", "warnings"), [("0.0.0.0/0", 1), ("10.0.0.1, ::/0", 1), ("10.0.0.0/8", 0)])
async def test_a_server_that_believes_every_client_says_so(trusted: str, warnings: int, tmp_path: Path) -> None:
    flags = ("--auth", "required", "--data-dir", str(tmp_path), "--trusted-proxies", trusted)  # where its token is
    with start_server(*JSON, *flags) as server:
        assert await stop(server) == 0
        said = [record["message"] for record in await ServerLog(server).records()]
    assert len([one for one in said if one.startswith("WARNING: --trusted-proxies has all addresses")]) == warnings


async def test_the_log_covers_a_run_from_its_start_to_its_end() -> None:
    flags = ("--max-topics", "77", "--auth", "none", "--public-url", "https://example.org")
    with start_server(*JSON, *flags) as server:
        async with stream(server, "/topics/a/stream"):
            assert await stop(server) == 0
        records = await ServerLog(server).records()
    starting, warning, listening, stopping, draining, stopped = records
    assert (warning["level"], warning["message"].startswith("WARNING: --auth is none")) == ("warning", True)
    assert "data_dir" in starting["settings"]  # the harness's
    assert {name: value for name, value in starting["settings"].items() if name != "data_dir"} == {
        "port": "0", "tcp_port": str(server.tcp_port), "max_topics": "77", "log_format": "json",
        "public_url": "https://example.org", "auth": "none",
    }  # fmt: skip
    assert (listening["http"], listening["line"]) == (server.url, f"127.0.0.1:{server.tcp_port}")
    assert (stopping["message"], stopping["signal"]) == ("stopping", "SIGTERM")
    assert (draining["message"], draining["subscribers"]["stream"]) == ("draining", 1)
    assert stopped["message"] == "stopped"


async def test_a_second_signal_is_logged_before_the_process_ends() -> None:
    with start_server(*JSON, "--drain-timeout", "1h", tcp_port=0) as server:
        logged = ServerLog(server)
        _, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(b"POST /topics/foo/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf ")
        async with stream(server, "/topics/foo/stream") as events:
            server.process.send_signal(signal.SIGINT)
            assert (await events.take(1))[0].type == "bye"
            server.process.send_signal(signal.SIGTERM)
        assert (await logged.until("stopped at once"))["signal"] == "SIGTERM"
        assert await asyncio.to_thread(server.process.wait, DEADLINE) == 1
        writer.close()


async def test_a_start_that_is_refused_is_a_record_for_programs() -> None:
    with start_server(tcp_port=0) as server:
        command = [sys.executable, "-m", "app", "serve", "--port", str(server.port), "--tcp-port", "0", *JSON]
        other = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        async with asyncio.timeout(DEADLINE):
            _, stderr = await other.communicate()
    record = json.loads(stderr.splitlines()[-1])
    assert (other.returncode, record["message"], record["code"]) == (1, "not started", "address_unavailable")
    assert "cannot listen" in record["detail"]


async def test_a_failing_disk_is_reported_once_and_so_is_its_recovery(tmp_path: Path) -> None:
    flags = ("--engine", f"sqlite://{tmp_path / 'log.db'}", "--min-free-disk", "0B")
    with start_server(*JSON, *flags, tcp_port=0) as server:
        logged = ServerLog(server)
        async with client(server) as http:
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            for _ in range(3):
                assert (await http.post("/topics/a/messages", content=b"x" * 100_000)).status_code in (503, 507)
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            async with asyncio.timeout(DEADLINE):
                while (await http.post("/topics/a/messages", content=b"x")).status_code != 201:
                    pass
        failed = await logged.until("storage failed")
        assert (failed["level"], bool(failed["why"])) == ("error", True)
        assert (await logged.until("storage recovered"))["seconds"] > 0
        assert sum('"storage failed"' in line for line in logged.lines) == 1


async def test_a_stall_of_the_event_loop_is_reported() -> None:
    with start_server(*JSON, tcp_port=0) as server:
        server.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(2)  # a beat a second: one is late by a second at least
        server.process.send_signal(signal.SIGCONT)
        assert (await ServerLog(server).until("the event loop stalled"))["seconds"] > 0.5


OTHERS = """
import asyncio, logging, sys, threading, warnings
from app.telemetry.log import LOG_WRITER, on_loop_error, log_event

async def main():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(on_loop_error)
    try:
        raise ValueError("first line\\n2026-01-01T00:00:00.000Z error forged\\x1b[31m token=hunter2hunter2")
    except ValueError as error:
        loop.call_exception_handler({"message": "a task died", "exception": error, "future": loop.create_future()})
    logging.getLogger("uvicorn.error").error("uvicorn %s", "says", exc_info=KeyError("x"))
    logging.getLogger("asyncio").warning("asyncio says")
    logging.getLogger("starlette").info("starlette says %d", "no number")
    logging.getLogger("uvicorn.access").info("GET /?token=hunter2hunter2")
    warnings.warn("careful")
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()

with LOG_WRITER.writing(sys.argv[1], "info"):
    asyncio.run(main())
"""


@FORMATS
def test_what_others_say_comes_out_in_the_same_form_with_its_traceback(format: str) -> None:
    command = [sys.executable, "-W", "default", "-c", OTHERS, format]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=DEADLINE, cwd=ROOT, check=True)
    assert "hunter2" not in done.stderr
    assert done.stderr.isascii()
    assert "\x1b" not in done.stderr
    if format == "json":
        records = [json.loads(line) for line in done.stderr.splitlines()]
        messages = [record["message"] for record in records]
        traces = [record.get("trace", "") for record in records]
    else:
        plain = [line for line in done.stderr.splitlines() if not line.startswith("  | ")]
        assert all(map(HUMAN.fullmatch, plain))
        messages = [line.split(" ", 2)[2] for line in plain]
        traces = [done.stderr] * len(plain)
    said = [
        "a task died",
        "uvicorn says",
        "asyncio says",
        "starlette says %d (TypeError)",
        "<string>:",
        "a thread died",
    ]
    assert len(messages) == len(said)
    assert all(message.startswith(start) for message, start in zip(messages, said, strict=True)), messages
    assert "Traceback (most recent call last)" in traces[0]
    assert "ZeroDivisionError" in traces[5]
