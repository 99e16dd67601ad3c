"""The npm package `eventsource` in node."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.clients.proxy import CUTS, EXPECTED, proxy, publish, publish_numbers, resumed
from tests.harness import DEADLINE, ServerProcess, free_port, http_client, start_server

pytestmark = [
    pytest.mark.skipif(not shutil.which("node"), reason="node is not installed (Debian package nodejs)"),
    pytest.mark.skipif(not shutil.which("npm"), reason="npm is not installed (Debian package npm)"),
]

PACKAGE = "eventsource@4"
SCRIPT = """
import { EventSource } from 'eventsource'
const source = new EventSource(process.argv[2])
const say = event => console.log(JSON.stringify([event.type, event.data, event.lastEventId]))
for (const type of ['message', 'gap', 'bye']) source.addEventListener(type, say)
source.addEventListener('open', () => console.log(JSON.stringify(['open'])))
"""


@pytest.fixture(scope="session")
def script(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program with the package beside it, which is installed once and kept in pytest's cache, if there is one."""
    cache = getattr(request.config, "cache", None)
    folder: Path = cache.mkdir("npm-eventsource") if cache else tmp_path_factory.mktemp("npm-eventsource")
    if not (folder / "node_modules" / "eventsource").is_dir():
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", PACKAGE], cwd=folder, check=True, timeout=120)
    program = folder / "subscribe.mjs"
    program.write_text(SCRIPT)
    return program


class Events:
    """What the program says, a line each."""

    def __init__(self, lines: asyncio.StreamReader) -> None:
        self._lines = lines

    async def next(self, *types: str) -> list[Any]:
        """The next event of one of these types: [type, data, lastEventId]."""
        async with asyncio.timeout(DEADLINE):
            while line := await self._lines.readline():
                event: list[Any] = json.loads(line)
                if event[0] in types:
                    return event
        raise AssertionError("node has ended")


@asynccontextmanager
async def node(script: Path, url: str) -> AsyncIterator[Events]:
    process = await asyncio.create_subprocess_exec("node", str(script), url, stdout=asyncio.subprocess.PIPE)
    assert process.stdout
    try:
        yield Events(process.stdout)
    finally:
        process.kill()
        await process.communicate()


async def test_it_resumes_without_hole_or_duplicate(server: ServerProcess, topic: str, script: Path) -> None:
    async with (
        proxy(server.port, *CUTS) as middle,
        node(script, f"{middle.url}/topics/{topic}/stream?since=earliest") as events,
    ):
        await publish_numbers(server.url, topic)
        assert [(await events.next("message"))[1] for _ in EXPECTED] == EXPECTED
        assert resumed(middle)


async def test_it_comes_back_after_an_orderly_end(topic: str, script: Path) -> None:
    with start_server("--keep-alive", "50ms", "--stream-age", "100ms", tcp_port=0) as server:
        async with (
            http_client(server.url) as http,
            proxy(server.port) as middle,
            node(script, f"{middle.url}/topics/{topic}/stream?since=earliest") as events,
        ):
            for number in EXPECTED[:3]:
                await events.next("bye")
                id = await publish(http, topic, number)
                assert await events.next("message") == ["message", number, id]
            assert resumed(middle)


async def test_a_restart_of_the_server_is_a_gap_before_anything_else(topic: str, script: Path) -> None:
    port = free_port()
    async with (
        proxy(port) as middle,
        http_client(f"http://127.0.0.1:{port}") as http,
    ):
        with start_server(port=port, tcp_port=0) as server:
            async with node(script, f"{middle.url}/topics/{topic}/stream?since=earliest") as events:
                before = await publish(http, topic, "before")
                assert await events.next("message", "gap") == ["message", "before", before]
                server.process.kill()
                server.process.wait(DEADLINE)
                with start_server(port=port, tcp_port=0):
                    after = await publish(http, topic, "after")
                    kind, data, _ = await events.next("message", "gap")
                    assert (kind, json.loads(data)["reason"]) == ("gap", "epoch")
                    assert await events.next("message", "gap") == ["message", "after", after]
