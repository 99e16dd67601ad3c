"""However a request is written and cut, the fast path does with it what plain ASGI does: see tests/fuzz/heads.py."""

import asyncio
import random
from collections import Counter

import httpx
import pytest

from tests.fuzz.heads import compare, run
from tests.harness import DEADLINE, ServerProcess

SEED = 20
FAMILIES = 60


def test_generated_requests_get_the_same_answers_as_by_plain_asgi() -> None:
    chance = random.Random(SEED)
    statuses: Counter[str] = Counter()
    for _ in range(FAMILIES):
        statuses += compare(random.Random(chance.getrandbits(64)), every=False).statuses
    assert {"201", "400 close", "401", "413", "421"} <= statuses.keys()  # or they would not be worth much


@pytest.mark.slow
def test_generated_requests_in_every_segmentation_get_the_same_answers_as_by_plain_asgi() -> None:
    families, requests, _ = run(random.randrange(1 << 32), seconds=180)
    assert families
    assert requests


SPELLINGS = [
    "Content-Length", "content-length", "Content-length", "CONTENT-LENGTH", "content-Length", "Content-Length:",
    "Content-Length: ",
]  # fmt: skip


@pytest.mark.parametrize("name", SPELLINGS)
async def test_a_body_is_never_a_request_however_its_length_is_spelled(
    server: ServerProcess, http: httpx.AsyncClient, topic: str, name: str
) -> None:
    """The head was seen before, whole in one segment; its body comes in a second."""
    await http.post(f"/topics/{topic}.victim/messages", content="stays")
    body = f"DELETE /topics/{topic}.victim HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    spelled = name if ":" in name else f"{name}: "
    head = f"POST /topics/{topic}/messages HTTP/1.1\r\nHost: localhost\r\n{spelled}{len(body)}\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection(server.host, server.port)
    async with asyncio.timeout(DEADLINE):
        for pieces in ([head + body], [head, body], [head, body], [head + body]):
            for piece in pieces:
                writer.write(piece)
                await http.get("/livez")  # so the server has read it
            assert b" 201 " in await reader.readuntil(b"}\n")
    writer.close()
    page = (await http.get(f"/topics/{topic}/messages")).json()["messages"]
    assert [message["data"].encode() for message in page] == [body] * 4
    assert (await http.get(f"/topics/{topic}.victim")).json()["messages"] == 1
