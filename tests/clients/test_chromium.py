"""Chromium's EventSource, driven over the DevTools protocol from a page of the same origin."""

import asyncio
import base64
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.clients.proxy import CUTS, EXPECTED, proxy, publish, publish_numbers, resumed
from tests.docs.pages import all_pages
from tests.harness import DEADLINE, ServerProcess, free_port, http_client, start_server

playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed (PyPI package playwright)")

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed (Debian package chromium)")

# The events as they come, and a promise of the next one.
SUBSCRIBE = """path => {
    const events = [], waiting = []
    const keep = event => {
        const entry = [event.type, event.data, event.lastEventId]
        waiting.length ? waiting.shift()(entry) : events.push(entry)
    }
    const source = new EventSource(path)
    for (const type of ['message', 'gap', 'bye']) source.addEventListener(type, keep)
    window.next = () => events.length ? events.shift() : new Promise(resolve => waiting.push(resolve))
    return new Promise(resolve => source.addEventListener('open', () => resolve(), { once: true }))
}"""

# The bytes of a raw event's data, as a page would take them: text, or a data: URL where text cannot carry them.
BYTES = """async data => {
    const bytes = data.startsWith('data:')
        ? new Uint8Array(await (await fetch(data)).arrayBuffer())
        : new TextEncoder().encode(data)
    return btoa(String.fromCharCode(...bytes))
}"""


class Page:
    """A page with an EventSource, and what it got."""

    def __init__(self, page: Any) -> None:
        self._page = page

    async def run(self, function: str, *arguments: Any) -> Any:
        async with asyncio.timeout(DEADLINE):
            return await self._page.evaluate(function, *arguments)

    async def next(self) -> list[Any]:
        """[type, data, lastEventId]."""
        event: list[Any] = await self.run("() => window.next()")
        return event


@asynccontextmanager
async def subscribed(browser: Any, url: str, path: str) -> AsyncIterator[Page]:
    """A page of that server's own, with an open EventSource on the path."""
    tab = await browser.new_page()
    errors: list[Any] = []
    tab.on("pageerror", lambda error: errors.append(error))  # noqa: PLW0108  (playwright marks the handler)
    try:
        await tab.goto(f"{url}/livez")
        page = Page(tab)
        await page.run(SUBSCRIBE, path)
        yield page
        assert not errors
    finally:
        await tab.close()


async def test_it_resumes_without_hole_or_duplicate(server: ServerProcess, topic: str, browser: Any) -> None:
    async with (
        proxy(server.port, *CUTS) as middle,
        subscribed(browser, middle.url, f"/topics/{topic}/stream?since=earliest") as page,
    ):
        await publish_numbers(server.url, topic)
        assert [(await page.next())[1] for _ in EXPECTED] == EXPECTED
        assert resumed(middle)


async def test_a_page_that_is_cut_off_before_a_first_message_misses_nothing(
    server: ServerProcess, topic: str, browser: Any
) -> None:
    """Neither from `latest`, nor when a cut leaves only half of what tells the place."""
    place = rb"\nevent: place\ndata: [^\n]*\n\n"
    async with (
        http_client(server.url) as http,
        proxy(server.port, place, place[:-4]) as middle,
        subscribed(browser, middle.url, f"/topics/{topic}/stream?format=raw") as page,
    ):
        async with asyncio.timeout(DEADLINE):
            await middle.broken.wait()
        await publish(http, topic, "in between")
        assert (await page.next())[:2] == ["message", "in between"]
        assert b"last-event-id: " in middle.requests[1].lower()


async def test_it_comes_back_after_an_orderly_end(topic: str, browser: Any) -> None:
    with start_server("--keep-alive", "50ms", "--stream-age", "100ms", tcp_port=0) as server:
        async with (
            http_client(server.url) as http,
            proxy(server.port) as middle,
            subscribed(browser, middle.url, f"/topics/{topic}/stream?since=earliest") as page,
        ):
            for number in EXPECTED[:3]:
                assert (await page.next())[0] == "bye"
                id = await publish(http, topic, number)
                while (event := await page.next())[0] == "bye":
                    pass
                assert event == ["message", number, id]
            assert resumed(middle)


async def test_a_restart_of_the_server_is_a_gap_before_anything_else(topic: str, browser: Any) -> None:
    port = free_port()
    async with (
        proxy(port) as middle,
        http_client(f"http://127.0.0.1:{port}") as http,
    ):
        with start_server(port=port, tcp_port=0) as server:
            async with subscribed(browser, middle.url, f"/topics/{topic}/stream?since=earliest") as page:
                before = await publish(http, topic, "before")
                assert await page.next() == ["message", "before", before]
                server.process.kill()
                server.process.wait(DEADLINE)
                with start_server(port=port, tcp_port=0):
                    after = await publish(http, topic, "after")
                    kind, data, _ = await page.next()
                    assert (kind, json.loads(data)["reason"]) == ("gap", "epoch")
                    assert await page.next() == ["message", "after", after]


BODIES = {
    "CR": b"a\rb",
    "LF": b"a\nb",
    "CRLF": b"a\r\nb",
    "LF at the end": b"a\n",
    "only LF": b"\n\n",
    "NUL": b"a\0b",
    "U+2028": "a\u2028b\u2029c\x85d".encode(),
    "BOM": "\ufeffa".encode(),
    "leading spaces": b"  a",
    "leading colon": b": a",
    "a field": b"id: 7\n\nevent: b",
    "nothing": b"",
    "beyond the BMP": "🙂".encode(),
    "not UTF-8": bytes(range(256)),
}


async def test_every_byte_arrives_in_the_raw_form(server: ServerProcess, topic: str, browser: Any) -> None:
    async with (
        http_client(server.url) as http,
        subscribed(browser, server.url, f"/topics/{topic}/stream") as page,
    ):
        for name, body in BODIES.items():
            id = await publish(http, topic, body)
            kind, data, last_event_id = await page.next()
            assert (name, kind, last_event_id) == (name, "message", id)
            assert (name, base64.b64decode(await page.run(BYTES, data))) == (name, body)


async def test_every_byte_arrives_in_the_json_form(server: ServerProcess, topic: str, browser: Any) -> None:
    async with (
        http_client(server.url) as http,
        subscribed(browser, server.url, f"/topics/{topic}/stream?format=json") as page,
    ):
        for name, body in BODIES.items():
            await publish(http, topic, body)
            record = await page.run("data => JSON.parse(data)", (await page.next())[1])
            text = record.get("data")
            data = base64.b64decode(record["data_base64"]) if text is None else text.encode()
            assert (name, data) == (name, body)


def shown(*words: str) -> str:
    """The block of the pages' JavaScript that has these words."""
    blocks = re.findall(r"```js\n(.*?)```", all_pages(), re.DOTALL)
    (block,) = [block for block in blocks if all(word in block for word in words)]
    return str(block)


@asynccontextmanager
async def console(browser: Any, url: str) -> AsyncIterator[tuple[Any, asyncio.Queue[str]]]:
    """A page of that address, and what it writes to its console."""
    tab = await browser.new_page()
    lines: asyncio.Queue[str] = asyncio.Queue()
    tab.on("console", lambda message: lines.put_nowait(message.text))
    try:
        await tab.goto(url)
        yield tab, lines
    finally:
        await tab.close()


async def until(lines: asyncio.Queue[str], *words: str) -> str:
    async with asyncio.timeout(DEADLINE):
        while True:
            line = await lines.get()
            if all(word in line for word in words):
                return line


@asynccontextmanager
async def another_site() -> AsyncIterator[str]:
    """Where a page of somebody else's is."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<p>a page")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_page_whose_stream_is_refused_finds_out_why_as_the_readme_says(
    topic: str, browser: Any, tmp_path: Path, elsewhere: bool
) -> None:
    """Also a page of another site that may use the server: without a token, and under a name that is none of ours."""
    handler = shown("stream.onerror")
    flags = ["--auth", "required", "--data-dir", str(tmp_path), "--allowed-origins", "*"]
    with start_server(*flags, tcp_port=0) as strict:
        refusals = {strict.url: "unauthorised"}
        if elsewhere:
            refusals[f"http://not-ours.localhost:{strict.port}"] = "host_unknown"
        async with (
            another_site() as site,
            console(browser, site if elsewhere else f"{strict.url}/livez") as (tab, lines),
        ):
            for base, code in refusals.items():
                script = f"() => {{ const stream = new EventSource('{base}/topics/{topic}/stream'); {handler} }}"
                await tab.evaluate(script)
                await until(lines, f'"code":"{code}"')


async def test_several_topics_come_on_one_stream_as_the_readme_says(
    server: ServerProcess, topic: str, browser: Any
) -> None:
    script = shown("/stream?topic=").replace("foo", topic).replace("rooms", f"{topic}.rooms")
    async with (
        http_client(server.url) as http,
        console(browser, f"{server.url}/livez") as (tab, lines),
    ):
        opened = "return new Promise(resolve => stream.addEventListener('open', () => resolve(), { once: true }))"
        await tab.evaluate(f"() => {{ {script}; {opened} }}")
        for name in (topic, f"{topic}.rooms.42"):
            await publish(http, name, "hello")
            await until(lines, f"{name} hello")
