"""GET /, /docs and the console's files: who gets which, and what a browser may do with them."""

import gzip
import re
from pathlib import Path

import httpx
import pytest

from app import __version__
from tests.harness import ROOT, http_client, start_server

CONSOLE = ROOT / "app" / "web" / "console"
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
IN_PAGES = re.compile(r'(?:src|href)="([^"#:]+)"')
IN_MODULES = re.compile(r"""from ?['"](\.[^'"]+)['"]""")


async def test_curl_gets_commands_for_the_address_that_it_used(http: httpx.AsyncClient) -> None:
    answer = await http.get("/", headers={"Host": "localhost:81"})
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    lines = answer.text.splitlines()
    assert lines[0] == f"plainmq {__version__}: a message queue that needs no client library."
    assert "  publish    curl -d hello http://localhost:81/topics/foo/messages" in lines
    assert "  subscribe  curl -N http://localhost:81/topics/foo/stream" in lines
    assert max(map(len, lines)) < 100
    assert len(lines) < 24


async def test_the_commands_name_the_address_and_the_token_that_users_need(tmp_path: Path) -> None:
    flags = ("--public-url", "https://mq.example.org/queue", "--auth", "required", "--data-dir", str(tmp_path))
    with start_server(*flags, tcp_port=0) as server:
        async with http_client(server.url) as http:
            text = (await http.get("/")).text
    token = '-H "Authorization: Bearer $PLAINMQ_TOKEN"'
    line = f"  publish    curl {token} -d hello https://mq.example.org/queue/topics/foo/messages"
    assert line in text.splitlines()
    assert "the line port is off" in text


async def test_a_browser_gets_the_console(http: httpx.AsyncClient) -> None:
    answer = await http.get("/", headers=HTML)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["vary"] == "Accept"
    assert (CONSOLE / "index.html").read_text() == answer.text


async def test_without_a_console_a_browser_gets_the_commands_too() -> None:
    with start_server("--console", "off") as server:
        async with http_client(server.url) as http:
            answer = await http.get("/", headers=HTML)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "is the console" not in answer.text
    assert "  console  " not in server.banner
    assert f"API reference: {server.url}/docs" in answer.text


@pytest.mark.parametrize("path", ["/", "/docs", "/console/main.js", "/console/console.css"])
async def test_nothing_of_another_host_and_nothing_inline_may_run(http: httpx.AsyncClient, path: str) -> None:
    policy = (await http.get(path, headers=HTML)).headers["content-security-policy"]
    assert policy.startswith(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert policy.endswith("require-trusted-types-for 'script'") == (path == "/")


async def test_every_file_that_the_pages_and_modules_name_is_served(http: httpx.AsyncClient) -> None:
    seen, ahead = set[str](), ["/", "/docs"]
    while ahead:
        path = ahead.pop()
        seen.add(path)
        answer = (await http.get(path, headers=HTML)).raise_for_status()
        if "swagger" in path:  # it is one file
            continue
        names = IN_MODULES if path.endswith(".js") else IN_PAGES
        found = {httpx.URL(f"http://h{path}").join(name).path for name in names.findall(answer.text)}
        ahead += {name for name in found - seen if name.startswith("/console/")}
    modules = {f"/console/{file.relative_to(CONSOLE).as_posix()}" for file in CONSOLE.rglob("*.js")}
    assert modules <= seen


async def test_a_browser_that_has_a_file_is_not_sent_it_again(http: httpx.AsyncClient) -> None:
    first = await http.get("/console/main.js")
    again = await http.get("/console/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    changed = await http.get("/console/main.js", headers={"If-None-Match": '"other"'})
    assert changed.content == first.content


async def test_a_compressed_file_is_sent_as_it_is_or_plain_to_a_client_that_takes_no_gzip(
    http: httpx.AsyncClient,
) -> None:
    stored = (CONSOLE / "vendor" / "swagger-ui.css.gz").read_bytes()
    async with http.stream("GET", "/console/vendor/swagger-ui.css") as answer:
        assert answer.headers["content-encoding"] == "gzip"
        assert b"".join([part async for part in answer.aiter_raw()]) == stored
    plain = await http.get("/console/vendor/swagger-ui.css", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == gzip.decompress(stored)


@pytest.mark.parametrize("name", ["__init__.py", "../main.py", "%2e%2e/main.py", "nothing.js", "vendor/README.md", ""])
async def test_no_other_file_is_served(http: httpx.AsyncClient, name: str) -> None:
    assert (await http.get(f"/console/{name}")).status_code == 404


async def test_the_contract_is_served_as_it_is_written(http: httpx.AsyncClient) -> None:
    answer = await http.get("/openapi.yaml")
    assert answer.headers["content-type"] == "application/yaml"
    assert answer.content == (ROOT / "openapi" / "openapi.yaml").read_bytes()
