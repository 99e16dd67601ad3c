"""A request is carried out for who may make it when its body is whole, however long that took."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from app.access.claims import LEEWAY
from tests.access.conftest import Guarded
from tests.access.keys import claims, put, signed
from tests.harness import DEADLINE, http_client

EVERY = ["**"]
GOOD_FOR = 4.0  # seconds: a busy machine has read both heads by then
KEYED = "a publish with a key"
REQUESTS = {
    "a publish": ("POST", "/topics/{}/messages", b"late", []),
    KEYED: ("POST", "/topics/{}/messages", b"late", ["Idempotency-Key: k"]),
    "a batch": ("POST", "/topics/{}/messages", b"one\ntwo", ["Content-Type: application/x-ndjson"]),
    "a publish for later": ("POST", "/topics/{}/messages?delay=1ms", b"late", []),
    "a change of a topic": ("PUT", "/topics/{}", b'{"max_messages":7}', []),
    "a new group": ("PUT", "/topics/{}/groups/new", b"{}", []),
    "a pause without options": ("POST", "/topics/{}/pause", b"{}", []),
    "an ack": ("POST", "/topics/{}/groups/g/ack", b'{"leases":["1-1"]}', []),
}


class Waiting:
    """A request whose body has not ended."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rest: bytes) -> None:
        self._reader = reader
        self._writer = writer
        self._rest = rest

    async def end(self) -> tuple[int, str]:
        """Status and code of the answer."""
        self._writer.write(self._rest)
        async with asyncio.timeout(DEADLINE):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
            body = await self._reader.readexactly(int(head.partition("content-length: ")[2].split("\r\n")[0]))
        return int(head.split()[1]), json.loads(body).get("code", "")


@asynccontextmanager
async def begun(protected: Guarded, token: str, kind: str, topic: str) -> AsyncIterator[Waiting]:
    """The server has read all of it but the last byte."""
    method, path, body, headers = REQUESTS[kind]
    lines = [f"{method} {path.format(topic)} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {token}"]
    lines += [f"Content-Length: {len(body)}", *headers, "", ""]
    reader, writer = await asyncio.open_connection(protected.process.host, protected.process.port)
    try:
        writer.write("\r\n".join(lines).encode() + body[:-1])
        async with http_client(protected.process.url) as http:
            await http.get("/livez")
        yield Waiting(reader, writer, body[-1:])
    finally:
        writer.close()


async def refused(protected: Guarded, token: str, topic: str) -> None:
    """Return when the server knows that the token has no right to publish."""
    headers = {"Authorization": f"Bearer {token}"}
    async with http_client(protected.process.url, headers=headers) as http, asyncio.timeout(DEADLINE):
        while (await http.post(f"/topics/{topic}.probe/messages", content=b"x")).status_code not in {401, 403}:
            pass


def rewrite(protected: Guarded, change: Callable[[bytes], bytes]) -> None:
    put(protected.tokens, b"".join(map(change, protected.tokens.read_bytes().splitlines(keepends=True))))


async def stored(protected: Guarded, topic: str) -> int:
    async with http_client(protected.process.url, headers={"Authorization": f"Bearer {protected.good}"}) as http:
        answer = await http.get(f"/topics/{topic}")
        return int(answer.json()["messages"]) if answer.status_code == 200 else 0


async def with_group(protected: Guarded, topic: str) -> None:
    headers = {"Authorization": f"Bearer {protected.good}"}
    async with http_client(protected.process.url, headers=headers) as http:
        assert (await http.put(f"/topics/{topic}/groups/g")).status_code in {200, 201}
        assert (await http.post(f"/topics/{topic}/messages", content=b"job")).status_code == 201


async def test_a_body_that_ends_after_its_token_was_taken_out_is_refused(protected: Guarded, topic: str) -> None:
    await with_group(protected, topic)
    for number, kind in enumerate(REQUESTS):
        name = f"gone.{number}.{topic}"
        token = protected.token(name, publish=EVERY, subscribe=EVERY, consume=EVERY, admin=EVERY)
        await known(protected, token, topic)
        async with begun(protected, token, kind, topic) as waiting:

            def take_out(line: bytes, name: str = name) -> bytes:
                return b"" if f'"{name}"'.encode() in line else line

            rewrite(protected, take_out)
            await refused(protected, token, topic)
            assert (await waiting.end(), kind) == ((401, "unauthorised"), kind)
    assert await stored(protected, topic) == 1
    async with http_client(protected.process.url, headers={"Authorization": f"Bearer {protected.good}"}) as http:
        assert (await http.get(f"/topics/{topic}/groups/new")).status_code == 404


async def known(protected: Guarded, token: str, topic: str) -> None:
    """The server knows the token, as it does on the fast path."""
    headers = {"Authorization": f"Bearer {token}"}
    async with http_client(protected.process.url, headers=headers) as http:
        assert (await http.post(f"/topics/{topic}.probe/messages", content=b"x")).status_code == 201


async def test_a_body_that_ends_after_its_token_lost_the_right_is_refused(protected: Guarded, topic: str) -> None:
    for number, kind in enumerate(("a publish", KEYED)):
        name = f"less.{number}.{topic}"
        token = protected.token(name, publish=EVERY, subscribe=EVERY)
        await known(protected, token, topic)
        async with begun(protected, token, kind, topic) as waiting:

            def narrow(line: bytes, name: str = name) -> bytes:
                record = json.loads(line)
                if record["name"] == name:
                    record["publish"] = ["elsewhere"]
                return json.dumps(record).encode() + b"\n"

            rewrite(protected, narrow)
            await refused(protected, token, topic)
            assert await waiting.end() == (403, "forbidden")
    assert await stored(protected, topic) == 0


async def test_a_body_that_ends_after_its_token_has_expired_is_refused(protected: Guarded, topic: str) -> None:
    token = signed(claims(exp=time.time() + GOOD_FOR - LEEWAY))
    await known(protected, token, topic)
    async with begun(protected, token, "a publish", topic) as short, begun(protected, token, KEYED, topic) as long:
        await refused(protected, token, topic)
        assert [await waiting.end() for waiting in (short, long)] == [(401, "unauthorised")] * 2
    assert await stored(protected, topic) == 0


async def test_a_body_that_ends_while_its_token_is_good_is_taken(protected: Guarded, topic: str) -> None:
    for kind in ("a publish", KEYED):
        async with begun(protected, protected.good, kind, topic) as waiting:
            rewrite(protected, lambda line: line)
            assert await waiting.end() == (201, "")
    assert await stored(protected, topic) == 2
