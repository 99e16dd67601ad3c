"""A byte order mark, which Windows programs put before a text, is part of no line, body or message."""

import httpx
import pytest

from tests.harness import ServerProcess
from tests.tcp.peer import connect

MARK = b"\xef\xbb\xbf"
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"ping", b"OK pong\r\n"),
        (b'{"command":"ping"}', b'{"success": true}\r\n'),
        (b" ping", b"OK pong\r\n"),
        (b"{'command':'nonsense'}", b"{'success': False, "),
        (b"xyzzy", b"ERR unknown_command 'xyzzy' is not"),
        (b"", b""),
        (b"\r", b""),
    ],
)
async def test_a_line_that_begins_with_one_is_the_line_without_it(
    server: ServerProcess, line: bytes, answer: bytes
) -> None:
    async with connect(server.tcp_port) as peer:
        for _ in range(2):  # not only the first line of a connection: a file may be appended to another
            peer.send(MARK + line + b"\n")
            if answer:
                assert (await peer.line()).startswith(answer)
            assert await peer.ask("ping") == b"OK pong\r\n"


async def test_a_literal_arrives_without_it(server: ServerProcess, topic: str) -> None:
    async with connect(server.tcp_port) as peer:
        peer.send(f"{{'command':'subscribe', 'topic':'{topic}'}}")
        line = f"{{'command':'send', 'topic':'{topic}', 'msg':'a'}}\n".encode()
        assert await peer.ask(MARK + line) == line


async def test_one_within_a_line_or_a_message_is_a_character(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    async with connect(server.tcp_port) as peer:
        await peer.ask(f"pub {topic} \ufeffa")
    await http.post(f"/topics/{topic}/messages", content=MARK + b"b")
    read = (await http.get(f"/topics/{topic}/messages")).json()["messages"]
    assert [message["data"] for message in read] == ["\ufeffa", "\ufeffb"]


async def test_a_body_in_json_may_begin_with_one(http: httpx.AsyncClient, topic: str) -> None:
    answer = await http.put(f"/topics/{topic}", content=MARK + b'{"max_messages":5}', headers=JSON)
    assert answer.is_success
    assert (await http.get(f"/topics/{topic}")).json()["retention"]["max_messages"] == 5
    assert (await http.put(f"/topics/{topic}/groups/g", content=MARK, headers=JSON)).is_success
    twice = await http.put(f"/topics/{topic}", content=2 * MARK + b"{}", headers=JSON)
    assert twice.status_code == 400


async def test_the_first_message_of_a_batch_has_none(http: httpx.AsyncClient, topic: str) -> None:
    headers = {"Content-Type": "application/x-ndjson"}
    answer = await http.post(f"/topics/{topic}/messages", content=MARK + b'{"a":1}\n{"a":2}\n', headers=headers)
    assert answer.json()["count"] == 2
    read = (await http.get(f"/topics/{topic}/messages")).json()["messages"]
    assert [message["data"] for message in read] == ['{"a":1}', '{"a":2}']
