"""Behind nginx, set up as docs/deployment.md says: streams come through at once, and so does the client's address."""

import asyncio
import getpass
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.web.middleware.forwarded import Caller, Proxies
from tests.docs.pages import all_pages
from tests.event_stream import SseParser, Stream
from tests.harness import DEADLINE, free_port, start_server
from tests.net.authority import Authority
from tests.net.recorder import recording

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
pytestmark = pytest.mark.skipif(not NGINX, reason="nginx is not installed (Debian package nginx)")

needs_chromium = pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")

CONFIGURATION = """
daemon off; worker_processes 1; pid {folder}/pid; error_log stderr crit;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    {snippet}
}}
"""


def snippet() -> str:
    match = re.search(r"<!-- nginx -->\n```nginx\n(.*?)```", all_pages(), re.DOTALL)
    assert match
    return match[1]


@asynccontextmanager
async def nginx(folder: Path, authority: Authority, upstream: int) -> AsyncIterator[int]:
    port = free_port()
    shown = snippet()
    for there, here in (
        ("127.0.0.1:8000", f"127.0.0.1:{upstream}"),
        ("listen 443 ", f"listen 127.0.0.1:{port} "),
        ("/etc/nginx/cert.pem", str(authority.certificate)),
        ("/etc/nginx/key.pem", str(authority.key)),
        ("retry: 5000", "retry: 50"),  # so that tests need not wait
    ):
        assert there in shown
        shown = shown.replace(there, here)
    (folder / "nginx.conf").write_text(CONFIGURATION.format(folder=folder, snippet=shown))
    assert NGINX
    process = subprocess.Popen(  # noqa: ASYNC220
        [NGINX, "-p", str(folder), "-c", "nginx.conf", "-g", f"user {getpass.getuser()};"]
    )
    try:
        async with asyncio.timeout(DEADLINE), httpx.AsyncClient(verify=authority.trust()) as http:
            while True:
                try:
                    await http.get(f"https://localhost:{port}/livez")
                    break
                except httpx.ConnectError:
                    assert process.poll() is None, "nginx did not start"
                    await asyncio.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(DEADLINE)


async def test_streams_pass_at_once_and_nginx_forwards_the_client_address(
    tmp_path: Path, authority: Authority, topic: str
) -> None:
    flags = [
        "--public-url",
        "https://mq.example.org",
        "--trusted-proxies",
        "127.0.0.1",
        "--auth",
        "none",
        "--keep-alive",
        "1h",
    ]
    with start_server(*flags, "--keep-alive", "1h", tcp_port=0) as server:
        async with nginx(tmp_path, authority, server.port) as port:
            base = f"https://localhost:{port}"
            reader, writer = await asyncio.open_connection("localhost", port, ssl=authority.trust())
            events = await Stream(reader, writer).open(f"/topics/{topic}/stream", {})
            async with httpx.AsyncClient(base_url=base, verify=authority.trust(), timeout=DEADLINE) as http:
                for number in range(3):
                    sent = await http.post(f"/topics/{topic}/messages", content=str(number))
                    assert sent.json()["subscribers"] == 1
                    assert await events.data(1) == [str(number)]
                ours = await http.get(f"/topics/{topic}", headers={"Origin": base})
                assert ours.status_code == 200  # the page and the server share a name
                public = await http.get("/livez", headers={"Host": "mq.example.org"})
                assert "strict-transport-security" in public.headers  # it is known that https was spoken
                foreign = await http.get("/livez", headers={"Host": "evil.example"})
                assert foreign.status_code == 421
                batch = await http.post(
                    f"/topics/{topic}.batch/messages",
                    content=b"\n".join([b"x" * 1_000_000] * 15),
                    headers={"Content-Type": "application/x-ndjson"},
                )
                assert batch.status_code in {201, 507}  # nginx lets it through; the topic keeps less
            writer.transport.abort()


async def test_a_client_s_address_comes_through_on_the_fast_path_too(tmp_path: Path, authority: Authority) -> None:
    trusted = Proxies((ip_network("127.0.0.1"),))
    async with recording(trusted) as (upstream, short, long), nginx(tmp_path, authority, upstream) as port:
        long.clear()  # the question whether nginx is up
        transport = httpx.AsyncHTTPTransport(verify=authority.trust(), local_address="127.0.0.5")
        async with httpx.AsyncClient(base_url=f"https://localhost:{port}", transport=transport) as http:
            made_up = {"X-Forwarded-For": "198.51.100.9", "X-Forwarded-Proto": "http"}
            assert (await http.post("/topics/foo/messages", content=b"x", headers=made_up)).status_code == 201
            assert (await http.get("/topics/foo", headers=made_up)).status_code == 200
    assert short == long == [Caller("127.0.0.5", 0, "https")]


@asynccontextmanager
async def counted(upstream: int) -> AsyncIterator[tuple[int, list[None]]]:
    """A port before that one, and who has connected there."""
    seen: list[None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(None)
        answers, requests = await asyncio.open_connection("127.0.0.1", upstream)
        await asyncio.gather(_pass(reader, requests), _pass(answers, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], seen
    finally:
        server.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


OPEN = ["--public-url", "https://mq.example.org", "--trusted-proxies", "127.0.0.1", "--auth", "none"]


async def test_connections_to_the_server_are_used_again(tmp_path: Path, authority: Authority, topic: str) -> None:
    with start_server(*OPEN, tcp_port=0) as server:
        async with (
            counted(server.port) as (upstream, seen),
            nginx(tmp_path, authority, upstream) as port,
            httpx.AsyncClient(base_url=f"https://localhost:{port}", verify=authority.trust(), timeout=DEADLINE) as http,
        ):
            for _ in range(20):
                assert (await http.post(f"/topics/{topic}/messages", content=b"x")).status_code == 201
            assert len(seen) <= 2  # one may have been closed just then


async def test_while_the_server_is_down_an_event_source_is_asked_to_reconnect_and_others_get_an_error(
    tmp_path: Path, authority: Authority, topic: str
) -> None:
    async with (
        nginx(tmp_path, authority, free_port()) as port,
        httpx.AsyncClient(base_url=f"https://localhost:{port}", verify=authority.trust(), timeout=DEADLINE) as http,
    ):
        accepts = {"Accept": "text/event-stream"}
        for path in (f"/topics/{topic}/stream", f"/stream?topic={topic}", f"/topics/{topic}/groups/g/stream?credit=1"):
            away = await http.get(path, headers=accepts)
            assert (away.status_code, away.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
            parser = SseParser()
            (event,) = parser.feed(away.content)
            assert (event.type, json.loads(event.data), event.last_event_id) == ("busy", {"reason": "unreachable"}, "")
            assert parser.retry
            assert (await http.get(path)).status_code == 502
        for answer in (
            await http.get(f"/topics/{topic}/messages", headers=accepts),
            await http.post(f"/topics/{topic}/messages", content=b"x", headers=accepts),
            await http.delete(f"/topics/{topic}/stream", headers=accepts),  # a topic's name may end so
        ):
            assert answer.status_code == 502


KEPT = """url => {
    window.events = []
    window.sources = url.map(path => new EventSource(path))
    for (const source of window.sources)
        for (const type of ['message', 'busy', 'place'])
            source.addEventListener(type, e => window.events.push([type, e.data]))
}"""


@asynccontextmanager
async def page_at(browser: Any, url: str) -> AsyncIterator[Any]:
    context = await browser.new_context(ignore_https_errors=True)
    try:
        page = await context.new_page()
        await page.goto(url)
        yield page
    finally:
        await context.close()


@needs_chromium
async def test_a_browser_s_stream_outlives_a_restart_of_the_server(
    tmp_path: Path, authority: Authority, topic: str, browser: Any
) -> None:
    backend = free_port()
    flags = [*OPEN, "--engine", f"sqlite://{tmp_path / 'log.db'}"]
    async with nginx(tmp_path, authority, backend) as port:
        base = f"https://localhost:{port}"
        async with httpx.AsyncClient(base_url=base, verify=authority.trust(), timeout=DEADLINE) as http:
            with start_server(*flags, port=backend, tcp_port=0) as server:
                async with page_at(browser, f"{base}/livez") as page:
                    await page.evaluate(KEPT, [f"/topics/{topic}/stream"])
                    await page.wait_for_function("() => events.some(([type]) => type === 'place')")  # its id is known
                    server.process.kill()
                    server.process.wait(DEADLINE)
                    await page.wait_for_function("() => events.some(([type]) => type === 'busy')")
                    with start_server(*flags, port=backend, tcp_port=0):
                        assert (await http.post(f"/topics/{topic}/messages", content=b"after")).status_code == 201
                        await page.wait_for_function("() => events.some(([type]) => type === 'message')")
                        seen = await page.evaluate("() => events.filter(([type]) => type === 'message')")
                        assert seen == [["message", "after"]]


@needs_chromium
async def test_a_browser_opens_more_than_six_streams_over_http_2(
    tmp_path: Path, authority: Authority, topic: str, browser: Any
) -> None:
    with start_server(*OPEN, tcp_port=0) as server:
        async with nginx(tmp_path, authority, server.port) as port:
            base = f"https://localhost:{port}"
            async with (
                httpx.AsyncClient(base_url=base, verify=authority.trust(), timeout=DEADLINE) as http,
                page_at(browser, f"{base}/livez") as page,
            ):
                await page.evaluate(
                    KEPT, [f"/topics/{topic}/stream?since=earliest&timeout={n}m" for n in range(20, 30)]
                )
                await page.wait_for_function("() => sources.every(source => source.readyState === 1)")
                await http.post(f"/topics/{topic}/messages", content=b"x")
                await page.wait_for_function("() => events.filter(([type]) => type === 'message').length === 10")
