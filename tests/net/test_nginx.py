"""Behind nginx, set up as the README says: streams come through at once, and so does the client's address."""

import asyncio
import getpass
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path

import httpx
import pytest

from app.web.forwarded import Caller, Proxies
from tests.harness import DEADLINE, ROOT, Stream, free_port, start_server
from tests.net.authority import Authority
from tests.net.recorder import recording

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not NGINX, reason="nginx is not installed (Debian package nginx)"),
]

CONFIGURATION = """
daemon off; worker_processes 1; pid {folder}/pid; error_log stderr crit;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {certificate}; ssl_certificate_key {key};
        {snippet}
    }}
}}
"""


def snippet() -> str:
    match = re.search(r"<!-- nginx -->\n```nginx\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert match
    return match[1]


@asynccontextmanager
async def nginx(folder: Path, authority: Authority, upstream: int) -> AsyncIterator[int]:
    port = free_port()
    text = CONFIGURATION.format(
        folder=folder,
        port=port,
        certificate=authority.certificate,
        key=authority.key,
        snippet=snippet().replace("127.0.0.1:8000", f"127.0.0.1:{upstream}"),
    )
    (folder / "nginx.conf").write_text(text)
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


async def test_streams_come_through_at_once_and_nginx_says_who_asks(
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


async def test_a_client_s_address_comes_through_on_the_short_cut_too(tmp_path: Path, authority: Authority) -> None:
    trusted = Proxies((ip_network("127.0.0.1"),))
    async with recording(trusted) as (upstream, short, long), nginx(tmp_path, authority, upstream) as port:
        long.clear()  # the question whether nginx is up
        transport = httpx.AsyncHTTPTransport(verify=authority.trust(), local_address="127.0.0.5")
        async with httpx.AsyncClient(base_url=f"https://localhost:{port}", transport=transport) as http:
            made_up = {"X-Forwarded-For": "198.51.100.9", "X-Forwarded-Proto": "http"}
            assert (await http.post("/topics/foo/messages", content=b"x", headers=made_up)).status_code == 201
            assert (await http.get("/topics/foo", headers=made_up)).status_code == 200
    assert short == long == [Caller("127.0.0.5", 0, "https")]
