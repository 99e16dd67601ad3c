"""A transaction that was committed and then cannot be confirmed: the answer is 504, later ones are 503."""

import asyncio
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from app import errors
from app.client import Client, OutcomeUnknown
from tests.harness import DEADLINE, ServerProcess, draft, start_server
from tests.storage.reopening import LogFile, append

LAST: Final = 3  # the number of the publish after whose commit the -wal is emptied
STATED: Final = "it is unknown whether this request was carried out"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def server(path: Path) -> Iterator[ServerProcess]:
    program = ["tests.storage.change_points", str(path), str(LAST)]
    with start_server("--engine", f"sqlite:{path}", program=program) as process:
        for number in range(LAST - 1):
            publish(process, f"{number}").raise_for_status()
        yield process


def publish(server: ServerProcess, body: str, key: str = "") -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return httpx.post(f"{server.url}/topics/a/messages", content=body, headers=headers, timeout=DEADLINE)


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_a_publish_that_is_committed_and_then_not_confirmed_is_unknown_and_later_ones_are_refused(
    server: ServerProcess, path: Path
) -> None:
    answer = publish(server, "unknown")
    assert told(answer) == (504, "outcome_unknown")
    assert f"{path}-wal was changed by another program" in answer.json()["detail"]
    assert (
        f"{STATED}. When the server is ready again, repeat it; a publish with the same Idempotency-Key" in answer.text
    )
    assert answer.headers["Retry-After"] == "5"
    assert [told(publish(server, "refused")) for _ in range(3)] == [(503, "storage_failed")] * 3
    metrics = httpx.get(f"{server.url}/metrics").text
    assert 'plainmq_refusals_total{code="outcome_unknown"} 1.0' in metrics


def test_a_subscriber_does_not_get_an_unknown_message(server: ServerProcess) -> None:
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE) as subscriber:
        subscriber.sendall(b"GET /topics/a/stream?since=earliest HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert told(publish(server, "unknown"))[0] == 504
        server.stop()
        content = b"".join(iter(lambda: subscriber.recv(1 << 16), b""))
    assert b"data: 1\n" in content
    assert b"unknown" not in content


LINES: Final = {
    "text": (b"pub a unknown", b"ERR outcome_unknown ", b"ERR storage_failed "),
    "json": (
        b'{"command":"send","topic":"a","msg":"unknown","delivery":"all"}',
        STATED.encode(),
        b"nothing is confirmed",
    ),
    "literal": (b"{'command':'send','topic':'a','msg':'unknown'}", STATED.encode(), b"nothing is confirmed"),
}


@pytest.mark.parametrize("dialect", LINES)
def test_a_line_that_is_committed_and_then_not_confirmed_is_unknown(server: ServerProcess, dialect: str) -> None:
    line, unknown, refused = LINES[dialect]
    with socket.create_connection(("127.0.0.1", server.tcp_port), DEADLINE) as peer, peer.makefile("rb") as replies:
        for expected in (unknown, refused):
            peer.sendall(line + b"\n")
            assert expected in replies.readline()


def test_the_client_repeats_a_publish_and_says_at_the_end_that_it_is_unknown(server: ServerProcess) -> None:
    with Client(server.url, retry_for=0.1) as client, pytest.raises(OutcomeUnknown, match=STATED):
        client.publish("a", "unknown")


async def test_a_request_of_the_same_transaction_that_was_refused_keeps_its_reason(tmp_path: Path) -> None:
    log_file = LogFile(tmp_path)
    async with log_file.open() as node:
        await append(node, "a", "first")
        answers: list[asyncio.Future[Any]] = [
            node.engine.append([draft("a", b"unknown")]),
            node.engine.pause_group("a", "none", True),
            node.engine.inspect(lambda _core: os.truncate(f"{log_file.path}-wal", 0)),
        ]
        kinds = [type(answer) for answer in await asyncio.gather(*answers, return_exceptions=True)]
        assert kinds == [errors.OutcomeUnknown, errors.NotFound, errors.StorageFailed]


async def test_a_change_in_slices_that_the_disk_interrupts_is_unknown(tmp_path: Path) -> None:
    """Some of it has been committed."""
    log_file = LogFile(tmp_path)
    async with log_file.open() as node:
        change = node.engine.change_for_ever()
        await append(node, "a", "first")
        with closing(sqlite3.connect(log_file.path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(errors.StorageFailed):
                await append(node, "a", "second")
            with pytest.raises(errors.OutcomeUnknown, match="locked"):
                await change


async def test_a_change_in_slices_that_a_stop_interrupts_is_unknown(tmp_path: Path) -> None:
    async with LogFile(tmp_path).open() as node:
        change = node.engine.change_for_ever()
        await append(node, "a", "first")
        await node.engine.close()
        with pytest.raises(errors.OutcomeUnknown, match="the server stopped"):
            await change


@contextmanager
def failing_sync(server: ServerProcess, report: Path) -> Iterator[None]:
    """The disk fails when it is to make the bytes lasting."""
    pid, calls = str(server.process.pid), "fsync,fdatasync"
    command = ["strace", "-f", "-p", pid, "-o", str(report), "-e", f"trace={calls}", "-e", f"inject={calls}:error=EIO"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        if "attached" not in tracer.stderr.readline():
            pytest.skip("a process cannot be traced here")
        yield
        server.stop(signal.SIGKILL)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace injects the fault")
def test_a_publish_whose_sync_failed_is_unknown_and_stored_once_when_it_is_repeated(path: Path, tmp_path: Path) -> None:
    flags = ["--engine", f"sqlite:{path}"]
    with start_server(*flags, tcp_port=0) as server:
        publish(server, "first").raise_for_status()
        with failing_sync(server, tmp_path / "calls"):
            unknown = publish(server, "second", "k")
            assert told(unknown) == (504, "outcome_unknown")
            assert STATED in unknown.json()["detail"]
    with start_server(*flags, tcp_port=0) as server:
        assert publish(server, "second", "k").is_success
        page = httpx.get(f"{server.url}/topics/a/messages").json()
        assert [message["data"] for message in page["messages"]] == ["first", "second"]
