"""Who a request comes from behind proxies: their word counts, anybody else's does not."""

import asyncio
import json
import sys
from ipaddress import ip_network

import pytest

from app.web.middleware.forwarded import Caller, Proxies
from tests.harness import DEADLINE, http_client, start_server
from tests.net.recorder import recording

OURS = Proxies(tuple(map(ip_network, ("10.0.0.0/8", "127.0.0.1", "fd00::/8"))))
FOR, PROTO = b"x-forwarded-for", b"x-forwarded-proto"


@pytest.mark.parametrize(
    ("direct", "headers", "caller"),
    [
        ("10.0.0.2", [], ("10.0.0.2", 5, "http")),
        ("10.0.0.2", [(FOR, b"203.0.113.7")], ("203.0.113.7", 0, "http")),
        ("10.0.0.2", [(FOR, b"203.0.113.7:4711"), (PROTO, b"https")], ("203.0.113.7", 4711, "https")),
        ("fd00::1", [(FOR, b"[2001:db8::7]:4711")], ("2001:db8::7", 4711, "http")),
        ("10.0.0.2", [(FOR, b"2001:db8::7")], ("2001:db8::7", 0, "http")),
        ("::ffff:10.0.0.2", [(FOR, b"::ffff:203.0.113.7")], ("203.0.113.7", 0, "http")),
        # several proxies; what stands before the first stranger is the stranger's word
        ("10.0.0.2", [(FOR, b"198.51.100.9, 203.0.113.7, 10.0.0.3")], ("203.0.113.7", 0, "http")),
        ("10.0.0.2", [(FOR, b"198.51.100.9"), (FOR, b"203.0.113.7")], ("203.0.113.7", 0, "http")),
        ("10.0.0.2", [(FOR, b"10.0.0.4, 10.0.0.3")], ("10.0.0.4", 0, "http")),
        ("10.0.0.2", [(PROTO, b"https, http")], ("10.0.0.2", 5, "http")),
        # nonsense: nobody knows more than who said it
        ("10.0.0.2", [(FOR, b"unknown")], ("10.0.0.2", 5, "http")),
        ("10.0.0.2", [(FOR, b"203.0.113.7, evil, 10.0.0.3")], ("10.0.0.3", 0, "http")),
        ("10.0.0.2", [(FOR, b"")], ("10.0.0.2", 5, "http")),
        ("10.0.0.2", [(FOR, b"1" * 10_000)], ("10.0.0.2", 5, "http")),
        ("10.0.0.2", [(FOR, b"\xff\xff, [::1, 1.2.3.4:99999999")], ("1.2.3.4", 0, "http")),
        ("10.0.0.2", [(PROTO, b"gopher")], ("10.0.0.2", 5, "http")),
        # strangers are not believed
        ("203.0.113.7", [(FOR, b"10.0.0.9"), (PROTO, b"https")], ("203.0.113.7", 5, "http")),
        ("", [(FOR, b"10.0.0.9")], ("", 5, "http")),
    ],
)
def test_the_client_is_the_first_that_is_no_proxy(
    direct: str, headers: list[tuple[bytes, bytes]], caller: tuple[str, int, str]
) -> None:
    assert OURS.caller(Caller(direct, 5, "http"), headers) == Caller(*caller)


def test_without_trusted_proxies_forwarded_addresses_are_ignored() -> None:
    direct = Caller("127.0.0.1", 5, "http")
    assert Proxies().caller(direct, [(FOR, b"203.0.113.7"), (PROTO, b"https")]) == direct


@pytest.mark.parametrize("wrong", ["10.0.0.1/8", "proxy.example", "10.0.0.1;10.0.0.2", "*"])
async def test_what_is_no_address_is_a_sentence_at_the_start(wrong: str) -> None:
    command = [sys.executable, "-m", "app", "serve", "--port", "0", "--tcp-port", "0", "--trusted-proxies", wrong]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(DEADLINE):
        _, said = await process.communicate()
    assert process.returncode == 1
    assert b"--trusted-proxies" in said
    assert b"Traceback" not in said


@pytest.mark.parametrize("query", ["", "?retain=true"], ids=["fast path", "long way"])
async def test_a_publish_comes_from_the_address_that_the_proxy_names(query: str) -> None:
    async with recording(OURS) as (port, short, long):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for client in ("203.0.113.7", "203.0.113.8"):
            head = f"POST /topics/foo/messages{query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n"
            writer.write(f"{head}X-Forwarded-For: {client}\r\nX-Forwarded-Proto: https\r\n\r\nx".encode())
            async with asyncio.timeout(DEADLINE):
                assert b" 201 " in await reader.readuntil(b"\r\n\r\n")
                assert json.loads(await reader.readline())["topic"] == "foo"
        writer.close()
        expected = [Caller("203.0.113.7", 0, "https"), Caller("203.0.113.8", 0, "https")]
        assert (short, long) == ((expected, []) if not query else ([], expected))


@pytest.mark.parametrize(("trusted", "secure"), [("127.0.0.1", True), ("10.0.0.1", False)])
async def test_https_at_the_proxy_is_https_for_us(trusted: str, secure: bool) -> None:
    flags = ["--trusted-proxies", trusted, "--public-url", "https://mq.example.org", "--auth", "none"]
    with start_server(*flags, tcp_port=0) as server:
        async with http_client(server.url) as http:
            headers = {"Host": "mq.example.org", "X-Forwarded-Proto": "https"}
            answer = await http.get("/livez", headers=headers)
            assert ("strict-transport-security" in answer.headers) == secure
            for other in ({"Host": "localhost"}, {"X-Forwarded-Proto": "http"}):
                answer = await http.get("/livez", headers=headers | other)
                assert "strict-transport-security" not in answer.headers
