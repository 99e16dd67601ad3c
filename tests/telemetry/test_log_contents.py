"""What a client sends: no secret of it stands in the log, nothing forges a record, and a record names its token."""

import asyncio
import json
import re
import signal
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest

from app.access.startup import FIRST_TOKEN_FILE
from tests.event_stream import stream
from tests.harness import DEADLINE, start_server, start_uvicorn
from tests.line_client import lines
from tests.telemetry.server_log import ALL, FORMATS, HUMAN, JSON, ServerLog, client, raw, stop

SECRET = "hunter2.Zm9vYmFyLWNhbmFyeQ"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJlLWNhbmFyeQ"


@FORMATS
@pytest.mark.parametrize("secret", [SECRET, JWT])
@pytest.mark.parametrize("auth", ["none", "required"])
async def test_a_secret_that_a_client_gives_stands_nowhere(format: str, secret: str, auth: str, tmp_path: Path) -> None:
    heads = [
        f"Authorization: Bearer {secret}", f"Authorization: Basic {secret}", f"Proxy-Authorization: Bearer {secret}",
        f"Cookie: plainmq={secret}; other={secret}", f"Set-Cookie: a={secret}",
        f"Authorization: Bearer {secret}\r\nX-Request-ID: {secret} {secret}",
    ]  # fmt: skip
    queries = [f"{name}={secret}" for name in ("ticket", "token", "access_token", "tokn", "api_key", "%74oken")]
    queries += [f"since=earliest&ticket={secret}", f"token={secret}&token={secret}", secret]
    paths = ["/topics/a", "/topics/a/stream", "/topics/a/messages", "/nothing"]
    requests = [f"GET {path}?timeout=1ms HTTP/1.1\r\nHost: localhost\r\n{head}" for path in paths for head in heads]
    requests += [f"GET {path}?timeout=1ms&{query} HTTP/1.1\r\nHost: localhost" for path in paths for query in queries]
    requests += [f"POST {paths[2]}?ticket={secret} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1"]
    requests += [f"GET http://user:{secret}@localhost/topics/b HTTP/1.1\r\nHost: localhost"]
    requests += [f"GET /?token={secret} HTTP/1.1\r\nHost: user:{secret}@localhost", f"BREW /?token={secret} HTTP/1.1"]
    requests += [f"GET /?token={secret} HTTP/1.1\r\nHost: localhost\r\nUpgrade: x\r\nConnection: Upgrade"]
    words = [f"auth {secret}", f"AUTH {secret}", f'{{"command":"auth","token":"{secret}"}}']
    words += [f"{{'command':'auth', 'token':'{secret}'}}", f"GET /?token={secret} HTTP/1.1"]
    flags = ("--log-format", format, "--log-level", "debug", "--auth", auth, "--data-dir", str(tmp_path))
    with start_server(*flags, *ALL) as server:
        shown = []
        for request in requests:
            answer = await raw(server, f"{request}\r\nConnection: close\r\n\r\nx".encode())
            if f"Host: user:{secret}" not in request and f"&{secret}" not in request:  # these it reads itself
                shown.append(answer.decode())
        for line in words:
            async with lines(server) as peer:
                peer.send(line, "quit")
                with suppress(ConnectionResetError):  # it hangs up on HTTP, while there is more on its way
                    async with asyncio.timeout(DEADLINE):
                        shown.append((await peer.reader.read()).decode())
        async with client(server) as http:
            shown.append((await http.get("/metrics")).text)
        assert await stop(server) == 0
        logged = await ServerLog(server).rest()
    assert sum("request" in line for line in logged) > len(requests) // 2
    assert not [line for line in logged if secret in line or secret[:14] in line]
    assert not [text for text in shown if secret in text]


@FORMATS
async def test_no_bytes_of_a_client_make_a_record_or_colour_a_terminal(format: str) -> None:
    forged = [
        "\x1b[31mred",
        "2026-01-01T00:00:00.000Z error forged",
        '","level":"error',
        "\u2028",
        "\x9b31m",
        "\x7f",
        "\0",
    ]
    bad = [b"\n2026-01-01T00:00:00.000Z error forged", b'\r\n{"message":"forged"}', b"\x1b]0;title\x07", b"\xff\x7f"]
    with start_server("--log-format", format, *ALL) as server:
        async with client(server) as http:
            for text in forged:
                await http.get(f"/topics/{quote(text)}", params={"since": text, text: text})
                await http.post("/topics/x/messages", params={"event": text}, content=b"x")
        for data in bad:
            head = b"GET /topics/" + data + b"?topic=" + data + b" HTTP/1.1\r\nHost: localhost\r\n"
            await raw(server, head + b"\r\n")
            given = b"X-Request-ID: a" + data.replace(b"\n", b"").replace(b"\r", b"")
            await raw(
                server, b"GET /topics/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + given + b"\r\n\r\n"
            )
            async with lines(server) as peer:
                peer.send(data + b"\n")
        assert await stop(server) == 0
        logged = await ServerLog(server).rest()
    for line in logged:
        assert line.isprintable(), ascii(line)
    if format == "json":
        messages = {json.loads(line)["message"] for line in logged}
        assert messages == {"starting", "listening", "request", "connection ended", "stopping", "draining", "stopped"}
    else:
        own = [line for line in logged if line not in server.banner.splitlines()[1:]]
        assert all(map(HUMAN.fullmatch, own)), own
        assert not [line for line in own if line.startswith("2026-01-01")]


async def test_a_record_names_the_token_that_a_client_came_with(tmp_path: Path) -> None:
    flags = ("--auth", "required", "--data-dir", str(tmp_path))
    with start_server(*JSON, *ALL, *flags) as server:
        token, logged = (tmp_path / FIRST_TOKEN_FILE).read_text().strip(), ServerLog(server)
        headers = {"Authorization": f"Bearer {token}"}
        async with client(server) as http:
            assert (await http.get("/topics/a")).status_code == 401
            assert "token" not in await logged.until("request", status=401)
            for _ in range(2):  # the second one by the fast path, which knows the token now
                assert (await http.post("/topics/a/messages", content="x", headers=headers)).status_code == 201
                assert (await logged.until("request", status=201))["token"] == "admin"
        for _ in range(2):
            async with stream(server, "/topics/a/stream?timeout=1ms", Authorization=f"Bearer {token}") as events:
                assert await events.next() is None
            assert (await logged.until("stream ended"))["token"] == "admin"
        async with lines(server) as peer:
            peer.send(f"auth {token}", "quit")
            assert b"admin" in await peer.next()
            assert await peer.next() == b""
        assert (await logged.until("connection ended"))["token"] == "admin"
        assert await stop(server) == 0
        assert not [line for line in await logged.rest() if token in line]


async def test_a_request_id_that_is_not_lawful_is_replaced() -> None:
    with start_server(*JSON, tcp_port=0) as server:
        logged = ServerLog(server)
        async with client(server) as http:
            for given in ("two words", "x" * 129, 'a"b', ""):
                answer = await http.get("/topics/none", headers={"X-Request-ID": given})
                made = answer.headers["x-request-id"]
                assert re.fullmatch(r"[0-9a-f]{16}", made)
                assert (await logged.until("request"))["request"] == made


async def test_under_another_server_the_records_are_the_same() -> None:
    with start_uvicorn() as server:
        async with client(server) as http:
            await http.get("/topics/none?token=hunter2hunter2")
            await http.get("/see://user:hunter2@here")
        assert await stop(server) in (0, -signal.SIGTERM)
        logged = await ServerLog(server).rest()
    (record,) = [line for line in logged if "/topics/none" in line]
    assert HUMAN.fullmatch(record)
    assert "path=/topics/none?token=*** status=400" in record
    assert [line for line in logged if "path=/see://***@here status=404" in line]
