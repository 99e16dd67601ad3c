"""Tickets at several servers of one Redis."""

import asyncio
from pathlib import Path

from app.access.claims import every_right
from app.access.tokens import make_token
from tests.cluster.test_redis_servers import on
from tests.event_stream import stream as open_stream
from tests.harness import DEADLINE, ServerProcess, http_client, start_server
from tests.redis_server import RedisServer

STEP = 0.05  # seconds between two attempts


async def ticket_of(server: ServerProcess, token: str) -> str:
    async with http_client(server.url, headers={"Authorization": f"Bearer {token}"}) as http:
        return str((await http.post("/tickets")).json()["ticket"])


async def until(server: ServerProcess, path: str, status: int) -> None:
    async with asyncio.timeout(DEADLINE):
        while True:
            async with open_stream(server, path) as stream:
                if stream.status == status:
                    return
            await asyncio.sleep(STEP)


async def test_a_ticket_of_one_server_opens_one_stream_at_any(redis: RedisServer, tmp_path: Path) -> None:
    token = make_token(tmp_path / "tokens", "page", every_right())
    flags = on(redis, "--tokens", str(tmp_path / "tokens"))
    with start_server(*flags) as first, start_server(*flags) as second:
        path = f"/topics/foo/stream?ticket={await ticket_of(first, token)}"
        async with open_stream(second, path) as stream:
            assert stream.status == 200
            id = ""
            while not id:
                await stream.feed()
                id = stream.parser.id
            await until(first, path, 401)
            async with open_stream(second, path) as again:
                assert again.status == 401
            async with open_stream(first, path, Last_Event_ID=id) as back:
                assert back.status == 200
