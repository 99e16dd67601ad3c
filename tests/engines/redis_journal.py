"""A journal in a real Redis, with a clock that the test moves."""

import asyncio
import atexit
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from secrets import token_hex

from app.storage.replicated.journal import Head
from app.storage.replicated.redis.address import Address
from app.storage.replicated.redis.journal import RedisJournal
from tests.redis_server import RedisServer, redis_server


class ClockedJournal(RedisJournal):
    """In Redis, with the time of the test's clock in place of Redis's own."""

    def __init__(self, address: Address, clock: Callable[[], float]) -> None:
        super().__init__(address, new_node_pause=0.0)
        self._clock = clock
        self._clock_key = f"{{plainmq:{address.name}}}:clock"

    def _script(self, script: str) -> str:
        return script.replace("redis.call('TIME')", f"cjson.decode(redis.call('GET', '{self._clock_key}'))")

    def append(self, link: bytes, data: bytes) -> asyncio.Future[None]:
        self._set_clock()
        return super().append(link, data)

    async def begin(self, seen: Head, link: bytes, data: bytes) -> bool:
        self._set_clock()
        return await super().begin(seen, link, data)

    def _set_clock(self) -> None:
        now = round(self._clock() * 1e6)
        self._current().writer.send(lambda _reply: None, "SET", self._clock_key, f"[{now // 10**6},{now % 10**6}]")


@cache
def shared_redis() -> RedisServer:
    """One for all tests of this process, each of which has a journal of its own there."""
    servers = ExitStack()
    atexit.register(servers.close)
    return servers.enter_context(redis_server())


def clocked_journal(clock: Callable[[], float]) -> RedisJournal:
    """A new one."""
    return ClockedJournal(Address((("127.0.0.1", shared_redis().port),), name=token_hex(8)), clock)
