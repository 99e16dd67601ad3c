"""Chromium and a message that was published to harm the person who looks at it."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from tests.harness import DEADLINE, ServerProcess, start_server

playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed (PyPI package playwright)")

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed (Debian package chromium)")

# It publishes in the name of the person who looks at it, if it may.
EVIL = """document.title = 'ran'; fetch('/topics/%s/messages', {method: 'POST', body: document.location.origin})"""
PAGE = '<!doctype html><title>harmless</title><body><script>%s</script><img src=x onerror="%s"></body>'


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """One is enough: tests/web/test_security_headers.py sees that all say the same."""
    with start_server(tcp_port=0) as process:
        yield process


@pytest.fixture
async def tab(browser: Any) -> AsyncIterator[Any]:
    page = await browser.new_page()
    page.set_default_timeout(DEADLINE * 1_000)
    yield page
    await page.close()


async def publish(http: httpx.AsyncClient, topic: str, body: str, content_type: str) -> str:
    """The message's path."""
    sent = await http.post(f"/topics/{topic}/messages", content=body, headers={"Content-Type": content_type})
    assert sent.status_code == 201
    path: str = sent.headers["location"]
    return path


async def stolen(http: httpx.AsyncClient, topic: str) -> int:
    """How many messages were published in the name of the person who looked."""
    return len((await http.get(f"/topics/{topic}.stolen/messages")).json().get("messages", []))


@pytest.mark.parametrize("content_type", ["text/html", "image/svg+xml", "x/y"])
async def test_a_message_s_script_does_not_run_when_it_is_opened(
    server: ServerProcess, http: httpx.AsyncClient, topic: str, tab: Any, content_type: str
) -> None:
    script = EVIL % f"{topic}.stolen"
    body = PAGE % (script, script)
    if "svg" in content_type:
        body = f'<svg xmlns="http://www.w3.org/2000/svg"><script>{script}</script></svg>'
    path = await publish(http, topic, body, content_type)
    if content_type == "x/y":  # a browser that does not know it offers to save it
        async with tab.expect_download():
            with pytest.raises(playwright.Error, match="Download"):
                await tab.goto(server.url + path)
    else:
        await tab.goto(server.url + path)
        assert await tab.evaluate("self.origin") == "null"  # not ours
        assert await tab.title() != "ran"
    assert await stolen(http, topic) == 0


async def test_a_form_or_a_frame_in_a_message_reaches_nothing(
    server: ServerProcess, http: httpx.AsyncClient, topic: str, tab: Any
) -> None:
    form = f'<form method=post action="/topics/{topic}.stolen/messages"><button id=b>Go</button></form>'
    await tab.goto(server.url + await publish(http, topic, form, "text/html"))
    await tab.click("#b")
    await tab.evaluate("0")
    assert await stolen(http, topic) == 0


async def test_a_page_of_ours_that_was_tricked_cannot_load_a_message_as_a_script(
    server: ServerProcess, http: httpx.AsyncClient, topic: str, tab: Any
) -> None:
    """As if somebody had smuggled markup into a page of ours that has no policy of its own."""
    path = await publish(http, topic, EVIL % f"{topic}.stolen", "text/javascript")
    worker = f"navigator.serviceWorker.register({path!r}).then(() => 'in', () => 'out')"
    html = f"<!doctype html><title>ours</title><script src={path} onerror=\"document.title='refused'\"></script>"
    await tab.route("**/console", lambda route: route.fulfill(content_type="text/html", body=html))
    await tab.goto(f"{server.url}/console")
    assert await tab.title() == "refused"
    assert await tab.evaluate(worker) == "out"
    assert await stolen(http, topic) == 0


async def test_the_trap_would_close_if_the_message_were_a_page(
    server: ServerProcess, http: httpx.AsyncClient, topic: str, tab: Any
) -> None:
    """The test of the test: the same page, served without the headers, does steal."""
    script = EVIL % f"{topic}.stolen"
    page = PAGE % (script, "")
    await tab.route("**/console", lambda route: route.fulfill(content_type="text/html", body=page))
    await tab.goto(f"{server.url}/console")
    assert await tab.title() == "ran"
    async with asyncio.timeout(DEADLINE):
        while not await stolen(http, topic):
            pass


async def test_no_page_of_another_site_shows_a_message(
    server: ServerProcess, http: httpx.AsyncClient, topic: str, tab: Any
) -> None:
    pixel = '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'
    url = server.url + await publish(http, topic, pixel, "image/svg+xml")
    outcome = "onload=\"document.title='seen'\" onerror=\"document.title='not'\""
    html = f"<!doctype html><title>waiting</title><img src={url} {outcome}>"
    for origin, seen in (("http://evil.example", "not"), (server.url, "seen")):
        await tab.route(f"{origin}/page", lambda route: route.fulfill(content_type="text/html", body=html))
        await tab.goto(f"{origin}/page")
        await tab.wait_for_function("document.title != 'waiting'")
        assert await tab.title() == seen


async def test_a_picture_on_a_page_of_another_site_takes_nothing(
    server: ServerProcess, http: httpx.AsyncClient, topic: str, tab: Any
) -> None:
    assert (await http.post(f"/topics/{topic}/messages?delivery=one", content=b"for one")).status_code == 201
    paths = (f"/topics/{topic}/stream?limit=1", f"/topics/{topic}/groups/g/stream?credit=100")
    images = "".join(f'<img src="{server.url}{path}">' for path in paths)

    page = f"<!doctype html>{images}".encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n" + page)
        writer.close()

    asked: asyncio.Queue[str] = asyncio.Queue()
    for event in ("requestfinished", "requestfailed"):
        tab.on(event, lambda request: asked.put_nowait(request.url))
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as other, asyncio.timeout(DEADLINE):
        await tab.goto(f"http://localhost:{other.sockets[0].getsockname()[1]}/page")
        ended = {(await asked.get()).removeprefix(server.url) for _ in range(3)}
    assert ended >= set(paths)
    state = (await http.get(f"/topics/{topic}")).json()
    assert (state["messages"], state["groups"]) == (1, [])
