"""Standard error that nobody reads, that is closed or full: the server goes on, and loses no record without a word."""

import asyncio
import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from app.telemetry.log import MAX_QUEUED as MOST_WAITING
from tests.harness import DEADLINE, ROOT, ServerProcess, free_port, start_server
from tests.telemetry.server_log import ALL, FORMATS, JSON, ServerLog, client, stop


async def publish_many(server: ServerProcess, count: int) -> None:
    one = b"POST /topics/a/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"
    reader, writer = await asyncio.open_connection(server.host, server.port)
    async with asyncio.timeout(4 * DEADLINE):
        for _ in range(count // 100):
            writer.write(one * 100)
            for _ in range(100):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 201 ")
                await reader.readuntil(b"}\n")
    writer.close()


async def dropped(server: ServerProcess) -> int:
    async with client(server) as http:
        text = (await http.get("/metrics")).text
    match = re.search(r"^plainmq_log_records_dropped_total (\S+)$", text, re.MULTILINE)
    assert match
    return int(float(match[1]))


async def test_an_unread_pipe_stops_nothing_and_dropped_lines_are_counted_later() -> None:
    with start_server(*JSON, *ALL, tcp_port=0) as server:
        assert server.process.stderr
        fcntl.fcntl(server.process.stderr, fcntl.F_SETPIPE_SZ, 4096)
        await publish_many(server, MOST_WAITING + 500)
        before = await dropped(server)
        assert before > 0
        logged = ServerLog(server)
        assert (await logged.until("records were dropped"))["count"] >= before
        assert await stop_while_read(server, logged) == 0


async def stop_while_read(server: ServerProcess, logged: ServerLog) -> int:
    status, _ = await asyncio.gather(stop(server), logged.rest())
    return status


async def test_an_unread_pipe_does_not_delay_the_end() -> None:
    with start_server(*JSON, *ALL, tcp_port=0) as server:
        assert server.process.stderr
        fcntl.fcntl(server.process.stderr, fcntl.F_SETPIPE_SZ, 4096)
        await publish_many(server, 500)
        assert await stop(server) == 0


async def test_a_closed_standard_error_stops_nothing() -> None:
    with start_server(*JSON, *ALL, tcp_port=0) as server:
        assert server.process.stderr
        server.process.stderr.close()
        await publish_many(server, 200)
        async with asyncio.timeout(DEADLINE):
            while await dropped(server) < 200:
                pass
        assert await stop(server) == 0


@contextmanager
def start_with(redirection: str, *flags: str) -> Iterator[ServerProcess]:
    """A server with its standard error elsewhere; it may not listen yet."""
    port = free_port()
    words = [sys.executable, "-m", "app", "serve", "--port", str(port), "--tcp-port", "0", *flags]
    process = subprocess.Popen(["sh", "-c", f'exec "$@" {redirection}', "sh", *words], cwd=ROOT, text=True)
    try:
        yield ServerProcess(process, port, 0, "")
    finally:
        process.kill()
        process.wait(DEADLINE)


async def until_it_listens(server: ServerProcess) -> None:
    async with asyncio.timeout(DEADLINE), client(server) as http:
        while True:
            with suppress(httpx.TransportError):
                await http.get("/livez")
                return


@FORMATS
async def test_a_standard_error_that_is_closed_stops_nothing_and_no_file_gets_its_number(
    format: str, tmp_path: Path
) -> None:
    with start_with("2>&-", "--log-format", format, *ALL, "--engine", f"sqlite:{tmp_path}/log.db") as server:
        await until_it_listens(server)
        await publish_many(server, 100)
        assert server.file_of(2) == os.devnull
        assert await stop(server) == 0


async def test_nothing_is_lost_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / "stderr"
    with start_with(f"2>'{file}'", *JSON, *ALL) as server:
        await until_it_listens(server)
        await publish_many(server, 1_000)
        assert await stop(server) == 0
    records: list[dict[str, Any]] = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert sum(record.get("method") == "POST" for record in records) == 1_000
    assert records[-1]["message"] == "stopped"
