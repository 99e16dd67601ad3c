"""Chromium's EventSource with a ticket, on a page of another site: it comes back as long as its token is good."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.access.claims import every_right
from app.access.tokens import make_token
from tests.clients.proxy import CUTS, EXPECTED, Proxy, proxy, resumed
from tests.clients.test_chromium import CHROMIUM, SUBSCRIBE, Page
from tests.harness import DEADLINE, ServerProcess, free_port, http_client, start_server

pytest.importorskip("playwright.async_api", reason="playwright is not installed (PyPI package playwright)")

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed (Debian package chromium)")

# A page that has a token, and nothing of the server's: it gets a ticket, and opens a stream with it.
OPEN = f"""async ([url, path, token]) => {{
    const answer = await fetch(url + '/tickets', {{ method: 'POST', headers: {{ Authorization: 'Bearer ' + token }} }})
    const subscribe = {SUBSCRIBE.replace("const source", "const source = window.source")}
    await subscribe(url + path + 'ticket=' + (await answer.json()).ticket)
}}"""
CLOSED = "() => window.source.readyState === EventSource.CLOSED"


class Site:
    """A server with two tokens, under a port that stays, and the page of another site."""

    def __init__(self, folder: Path) -> None:
        self.tokens = folder / "tokens"
        self.good, self.page_s = (make_token(self.tokens, name, every_right()) for name in ("good", "page"))
        self.port, self.origin = free_port(), f"http://127.0.0.1:{free_port()}"
        engine = ("--engine", f"sqlite://{folder}/log.db")
        self.flags = ("--tokens", str(self.tokens), "--allowed-origins", self.origin, *engine)

    def start(self) -> AbstractContextManager[ServerProcess]:
        return start_server(*self.flags, port=self.port, tcp_port=0)

    async def publish(self, topic: str, *bodies: str) -> None:
        headers = {"Authorization": f"Bearer {self.good}"}
        async with http_client(f"http://127.0.0.1:{self.port}", headers=headers) as http:
            for body in bodies:
                (await http.post(f"/topics/{topic}/messages", content=body)).raise_for_status()

    @asynccontextmanager
    async def page(self, browser: Any, middle: Proxy, path: str) -> AsyncIterator[Page]:
        tab = await browser.new_page()
        try:
            async with await asyncio.start_server(_show_page, "127.0.0.1", int(self.origin.rpartition(":")[2])):
                await tab.goto(self.origin)
                page = Page(tab)
                await page.run(OPEN, [middle.url, path, self.page_s])
                yield page
        finally:
            await tab.close()


async def _show_page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The answer to every request."""
    await reader.readuntil(b"\r\n\r\n")
    html = b"<!doctype html><title>theirs</title>"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(html)
    writer.write(head + html)
    await writer.drain()
    writer.close()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def data(page: Page, count: int) -> list[str]:
    """Of the next messages; what the server says of itself is left out, and there is no gap."""
    found: list[str] = []
    while len(found) < count:
        kind, text, _ = await page.next()
        assert kind in {"message", "bye"}
        found += [text] if kind == "message" else []
    return found


async def test_it_comes_back_after_cuts_without_hole_or_duplicate(site: Site, browser: Any, topic: str) -> None:
    with site.start():
        async with (
            proxy(site.port, *CUTS) as middle,
            site.page(browser, middle, f"/topics/{topic}/stream?since=earliest&") as page,
        ):
            await site.publish(topic, *EXPECTED)
            assert await data(page, len(EXPECTED)) == EXPECTED
            assert resumed(middle)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_it_comes_back_after_restarts_of_the_server(
    site: Site, browser: Any, topic: str, number: signal.Signals
) -> None:
    async with proxy(site.port) as middle, AsyncExitStack() as stack:
        server = stack.enter_context(site.start())
        async with site.page(browser, middle, f"/stream?topic={topic}&format=raw&") as page:
            for body in ("1", "2", "3"):
                await site.publish(topic, body)
                assert await data(page, 1) == [body]
                await asyncio.to_thread(server.stop, number)
                server = stack.enter_context(site.start())
            assert len(middle.requests) >= 3


async def test_it_is_closed_for_good_when_its_token_is_taken_out(site: Site, browser: Any, topic: str) -> None:
    with site.start():
        async with (
            proxy(site.port) as middle,
            site.page(browser, middle, f"/topics/{topic}/stream?") as page,
        ):
            await site.publish(topic, "1")
            assert await data(page, 1) == ["1"]
            lines = site.tokens.read_bytes().splitlines(True)
            site.tokens.write_bytes(b"".join(line for line in lines if b'"page"' not in line))
            kind, text, _ = await page.next()
            assert (kind, json.loads(text)["reason"]) == ("bye", "revoked")
            async with asyncio.timeout(DEADLINE):
                while not await page.run(CLOSED):
                    pass
