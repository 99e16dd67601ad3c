"""Requests that two parsers could read in two ways: each is refused, and nothing that hides behind it is done."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.harness import DEADLINE, ServerProcess, http_client, start_server


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with start_server(tcp_port=0) as process:
        yield process


HIDDEN = "POST /topics/{}/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"
CHUNKED = "Transfer-Encoding: chunked"
DOUBTFUL = {
    "a length and chunks": ["Content-Length: 5", CHUNKED, "", "0\r\n\r\n"],
    "chunks and a length": [CHUNKED, "Content-Length: 5", "", "0\r\n\r\n"],
    "two lengths": ["Content-Length: 0", "Content-Length: 9", "", ""],
    "the same length twice": ["Content-Length: 0", "Content-Length: 0", "", ""],
    "a list of lengths": ["Content-Length: 0, 0", "", ""],
    "a length with a sign": ["Content-Length: +0", "", ""],
    "a length below nothing": ["Content-Length: -1", "", ""],
    "a length beyond numbers": ["Content-Length: 18446744073709551616", "", ""],
    "a length that is none": ["Content-Length: 0x0", "", ""],
    "an empty length": ["Content-Length:", "", ""],
    "a blank before the colon": ["Content-Length : 0", "", ""],
    "a folded header": ["X: a", " b", "Content-Length: 0", "", ""],
    "a bare line feed": ["X: a\nContent-Length: 0", "", ""],
    "a bare carriage return": ["X: a\rContent-Length: 0", "", ""],
    "a NUL": ["X: a\0b", "Content-Length: 0", "", ""],
    "a coding that is not chunked": ["Transfer-Encoding: xchunked", "", "0\r\n\r\n"],
    "chunks that are not last": ["Transfer-Encoding: chunked, identity", "", "0\r\n\r\n"],
    "chunks and another coding": [CHUNKED, "Transfer-Encoding: identity", "", "0\r\n\r\n"],
    "a chunk that is longer than it says": [CHUNKED, "", "1\r\nxy\r\n0\r\n\r\n"],
    "a chunk with a sign": [CHUNKED, "", "+1\r\nx\r\n0\r\n\r\n"],
    "a chunk of hexadecimal with its mark": [CHUNKED, "", "0x1\r\nx\r\n0\r\n\r\n"],
    "a chunk beyond numbers": [CHUNKED, "", "fffffffffffffffff\r\nx\r\n0\r\n\r\n"],
    "a chunk that ends in a bare line feed": [CHUNKED, "", "1\nx\n0\n\n"],
}


@pytest.mark.parametrize("lines", DOUBTFUL.values(), ids=DOUBTFUL)
async def test_a_doubtful_request_is_refused_and_nothing_behind_it_is_done(
    server: ServerProcess, topic: str, lines: list[str]
) -> None:
    head = f"POST /topics/{topic}/messages HTTP/1.1\r\nHost: localhost\r\n"
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write((head + "\r\n".join(lines) + HIDDEN.format(topic + ".hidden")).encode("latin-1"))
    async with asyncio.timeout(DEADLINE):
        answer = await reader.read()
    writer.close()
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.split()[1] in {b"400", b"413", b"415", b"501"}
    async with http_client(server.url) as http:
        for name in (topic, f"{topic}.hidden"):
            assert (await http.get(f"/topics/{name}")).status_code == 404


@pytest.mark.parametrize("waits", [False, True], ids=["alone", "behind a request that waits"])
async def test_a_target_that_is_no_url_is_refused_in_its_turn(server: ServerProcess, topic: str, waits: bool) -> None:
    before = f"GET /topics/{topic}/messages?wait=1s HTTP/1.1\r\nHost: localhost\r\n\r\n" if waits else ""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write((before + "POST http://[ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx").encode())
    async with asyncio.timeout(DEADLINE):
        answers = await reader.read()
    writer.close()
    assert [part.split()[0] for part in answers.split(b"HTTP/1.1 ")[1:]] == [b"200"] * waits + [b"400"]


async def test_an_unknown_transfer_coding_is_refused(server: ServerProcess, topic: str) -> None:
    """It would be stored as it travelled, and not as it was."""
    head = f"POST /topics/{topic}/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(head.encode() + b"1\r\nx\r\n0\r\n\r\n")
    async with asyncio.timeout(DEADLINE):
        assert b"encoding_unsupported" in await reader.readuntil(b"}")
    writer.close()
    async with http_client(server.url) as http:
        assert (await http.get(f"/topics/{topic}")).status_code == 404


async def test_what_is_only_unusual_is_taken(server: ServerProcess, topic: str) -> None:
    head = f"\r\nPOST /topics/{topic}/messages HTTP/1.1\r\nHOST:localhost\r\ntransfer-ENCODING:\tChunked \r\n\r\n"
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write((head + "1;a=b\r\nx\r\n00\r\nTrailer: y\r\n\r\n").encode())
    async with asyncio.timeout(DEADLINE):
        assert (await reader.readline()).startswith(b"HTTP/1.1 201 ")
    writer.close()
