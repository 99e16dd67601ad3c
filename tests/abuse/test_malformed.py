"""Malformed HTTP and malformed lines: each gets an error or a close, and affects no other client."""

import asyncio
import gzip
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.abuse.subscribers import connect_subscribers, delivery_faults, publish
from tests.harness import DEADLINE, ServerProcess, http_client, start_server

HEAD = "POST /topics/evil/messages HTTP/1.1\r\n"
HOST = "Host: localhost\r\n"
SMUGGLED = "0\r\n\r\n" + HEAD + HOST + "Content-Length: 1\r\n\r\nx"


def chunked(body: str) -> str:
    return f"{HEAD}{HOST}Transfer-Encoding: chunked\r\n\r\n{body}"


HTTP: dict[str, str | bytes] = {
    "a length and a coding": f"{HEAD}{HOST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n{SMUGGLED}",
    "a coding and a length": f"{HEAD}{HOST}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n{SMUGGLED}",
    "two lengths": f"{HEAD}{HOST}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello{SMUGGLED}",
    "a negative length": f"{HEAD}{HOST}Content-Length: -1\r\n\r\nx",
    "a length with a plus": f"{HEAD}{HOST}Content-Length: +1\r\n\r\nx",
    "a length in hex": f"{HEAD}{HOST}Content-Length: 0x5\r\n\r\nhello",
    "a huge length": f"{HEAD}{HOST}Content-Length: {'9' * 40}\r\n\r\nx",
    "another transfer coding": f"{HEAD}{HOST}Transfer-Encoding: gzip\r\n\r\nx",
    "an invalid chunk length": chunked("zz\r\nhello\r\n0\r\n\r\n"),
    "a chunk longer than its length": chunked("2\r\nhello\r\n0\r\n\r\n"),
    "a huge chunk length": chunked(f"{'f' * 40}\r\nx"),
    "a chunk of a negative length": chunked("-1\r\nx\r\n0\r\n\r\n"),
    "a space before the colon": f"{HEAD}{HOST}Content-Length : 1\r\n\r\nx",
    "a header without a colon": f"{HEAD}{HOST}nonsense\r\n\r\n",
    "NUL in a header": f"{HEAD}{HOST}X: a\0b\r\nContent-Length: 1\r\n\r\nx",
    "NUL in the target": HEAD.replace("evil", "e\0il") + HOST + "Content-Length: 1\r\n\r\nx",
    "no host": f"{HEAD}Content-Length: 1\r\n\r\nx",
    "two hosts": f"{HEAD}{HOST}{HOST}Content-Length: 1\r\n\r\nx",
    "an invalid host": f"{HEAD}Host: a b\r\nContent-Length: 1\r\n\r\nx",
    "a foreign host": f"{HEAD}Host: evil.example\r\nContent-Length: 1\r\n\r\nx",
    "a foreign origin": f"{HEAD}{HOST}Origin: https://evil.example\r\nContent-Length: 1\r\n\r\nx",
    "a header of 4 MiB": f"{HEAD}{HOST}X: {'y' * (4 << 20)}\r\n\r\n",
    "20,000 headers": HEAD + HOST + "A: b\r\n" * 20_000 + "\r\n",
    "a target of 1 MiB": HEAD.replace("evil", "e" * (1 << 20)) + HOST + "\r\n",
    "an invalid method": f"{HEAD.replace('POST', 'P@ST')}{HOST}\r\n",
    "another version": f"{HEAD.replace('1.1', '9.9')}{HOST}Content-Length: 1\r\n\r\nx",
    "the preface of HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
    "a line of the line port": '{"command":"send","topic":"evil","msg":"x","delivery":"all"}\n',
    "bytes": bytes(range(256)) * 100,
    "a bomb": (
        f"{HEAD}{HOST}Content-Encoding: gzip\r\nContent-Length: 103000\r\n\r\n".encode()
        + gzip.compress(b"\0" * (100 << 20))[:103_000]
    ),
}


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with start_server("--head-timeout", "2s", "--body-timeout", "2s") as process:
        yield process


async def exchange(host: str, port: int, request: bytes) -> bytes:
    """Send the request, and return everything that is received until the server closes the connection."""
    reader, writer = await asyncio.open_connection(host, port)
    answer = b""
    with suppress(ConnectionError):
        writer.write(request)
        while part := await reader.read(1 << 16):
            answer += part
    writer.close()
    return answer


async def test_malformed_http_gets_an_error_or_a_close_and_stores_nothing(server: ServerProcess) -> None:
    async with http_client(server.url) as http, asyncio.timeout(4 * DEADLINE):
        (subscriber,) = await connect_subscribers(server, 1)
        raw = [text if isinstance(text, bytes) else text.encode("latin-1") for text in HTTP.values()]
        answers = await asyncio.gather(*(exchange(server.host, server.port, text) for text in raw))
        for name, answer in zip(HTTP, answers, strict=True):
            statuses = [line.split()[1] for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
            assert len(statuses) <= 1, name
            expected = b"505" if name == "another version" else b"4"
            assert all(status.startswith(expected) for status in statuses), (name, answer[:500])
            assert b"Traceback" not in answer, name
        assert (await http.get("/topics/evil")).status_code == 404
        await subscriber.wait_for(await publish(http))
        subscriber.abort()


LINES: dict[str, bytes] = {
    "NUL": b"\x00" * 1_000, "0xFF": b"\xff" * 1_000, "a lone LF": b"", "200 KB without LF": b"x" * 200_000,
    "2 MB": b"x" * 2_000_000, "1": b"1", "null": b"null", "[]": b"[]", "depth 100k": b"[" * 100_000,
    "objects 100k deep": b'{"a":' * 100_000, "literals 100k deep": b"{'a':" + b"(" * 100_000, "minus": b"-" * 20_000,
    "minus in a literal": b"{'a':" + b"-" * 20_000, "a huge integer": b'{"a":' + b"9" * 100_000 + b"}",
    "a huge integer in a literal": b"{'a':" + b"9" * 8_000 + b"}", "a power": b"{'a':9**9**9}", "NaN": b'{"a":NaN}',
    "a key twice": b'{"command":"send","command":"send"}', "many strings": b"{" + b"''" * 4_000,
    "many names": b"{'a':" + b"a " * 60_000, "an f-string": b"{'a': f'{1}'}",
    "a comment": b"{'a': 1} #" + b"x" * 100_000,
    "much escaping": b"{'a': '" + b"\\'" * 60_000 + b"'}", "an open string": b"{'a': '" + b"\\" * 100_001,
    "a set": b"{" + b"1," * 4_000 + b"}", "bytes of a literal": b"{'a': b'" + b"\\x00" * 30_000 + b"'}",
}  # fmt: skip
CLOSED: dict[str, bytes] = {
    "HTTP": b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n{'command':'send', 'topic':'evil', 'msg':'x'}\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500 + b"\n",
}


async def test_malformed_lines_use_no_memory_and_affect_no_other_client(server: ServerProcess) -> None:
    async with http_client(server.url) as http, asyncio.timeout(8 * DEADLINE):
        subscribers = await connect_subscribers(server, 5)
        first = await publish(http)
        await _send_all_lines(server)
        before = server.resident()
        for _ in range(10):
            await asyncio.gather(*(_send_all_lines(server) for _ in range(5)))
            last = await publish(http)
        await asyncio.gather(*(subscriber.wait_for(last) for subscriber in subscribers))
        grown = server.resident() - before
        print(f"resident memory grew by {grown / (1 << 20):.1f} MiB")
        assert grown <= 16 << 20
        assert delivery_faults(subscribers, first, last) == {}
        assert (await http.get("/topics/evil")).status_code == 404
        for subscriber in subscribers:
            subscriber.abort()


async def _send_all_lines(server: ServerProcess) -> None:
    for name, line in LINES.items():
        answer = await exchange(server.host, server.tcp_port, line + b"\nquit\n")
        assert answer.count(b"\n") == (0 if name == "a lone LF" else 1), name
        assert b"Traceback" not in answer
        assert len(answer) < 500
    for line in CLOSED.values():
        assert await exchange(server.host, server.tcp_port, line) == b""


async def test_hostile_literals_are_cheap(server: ServerProcess) -> None:
    """A hundred of each are answered within the deadline, and a subscriber is served meanwhile."""
    async with http_client(server.url) as http, asyncio.timeout(2 * DEADLINE):
        (subscriber,) = await connect_subscribers(server, 1)
        hostile = [line for line in LINES.values() if line.startswith(b"{'")]
        exchanged = asyncio.ensure_future(
            exchange(server.host, server.tcp_port, b"\n".join([*hostile * 100, b"quit\n"]))
        )
        while not exchanged.done():
            await subscriber.wait_for(await publish(http))
        assert (await exchanged).count(b"\n") == 100 * len(hostile)
        subscriber.abort()
