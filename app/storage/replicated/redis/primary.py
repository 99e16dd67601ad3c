"""The way to the primary: redis-py asks the Sentinels and reads certificates; users log in."""

import asyncio
from asyncio import get_running_loop
from contextlib import AsyncExitStack
from ssl import SSLContext
from typing import Any

import hiredis
from redis.asyncio import Sentinel, SSLConnection
from redis.exceptions import RedisError

from ...unusable import StoreUnusable
from ..journal import JournalLost
from .address import Address
from .connection import Connection

_LOGIN_ERRORS = ("WRONGPASS", "NOAUTH", "NOPERM", "ERR AUTH", "ERR DB index", "ERR Client sent AUTH")


class Primary:
    def __init__(self, address: Address, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._tls: SSLContext | None = None

    async def find(self) -> tuple[str, int]:
        """Its address. Raises JournalLost."""
        address = self._address
        if not address.service:
            return address.hosts[0]
        tls = {"ssl": True, **address.tls} if address.tls is not None else {}
        options: dict[str, Any] = {"socket_timeout": self._timeout / 2, **tls, **address.sentinel}
        async with AsyncExitStack() as stack:
            sentinel = Sentinel(address.hosts, sentinel_kwargs=options)
            for client in sentinel.sentinels:
                stack.push_async_callback(client.aclose)
            try:
                host, port = await sentinel.discover_master(address.service)
            except (RedisError, OSError) as error:
                raise JournalLost(f"no Sentinel knows a primary of {address.service}: {error}") from None
        return str(host), int(port)

    async def connect(self, host: str, port: int) -> Connection:
        """A connection of our user, to our database. Raises JournalLost, StoreUnusable."""
        try:
            _, connection = await get_running_loop().create_connection(
                Connection, host, port, ssl=await self._context()
            )
        except OSError as error:
            raise JournalLost(f"Redis at {host}:{port} cannot be reached: {error.strerror or error}") from None
        try:
            await self._log_in(connection)
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _context(self) -> SSLContext | None:
        if self._address.tls is not None and self._tls is None:
            options: dict[str, Any] = {"ssl_check_hostname": True, **self._address.tls}
            try:
                self._tls = await asyncio.to_thread(SSLConnection(**options).ssl_context.get)
            except (OSError, RedisError) as error:
                raise StoreUnusable(f"the certificates for Redis at {self._address} cannot be read: {error}") from None
        return self._tls

    async def _log_in(self, connection: Connection) -> None:
        address = self._address
        try:
            if address.password:
                await connection.ask("AUTH", *([address.username] if address.username else []), address.password)
            if address.db:
                await connection.ask("SELECT", address.db)
            await connection.ask("PING")
        except hiredis.ReplyError as error:
            if str(error).startswith(_LOGIN_ERRORS):
                raise StoreUnusable(f"Redis at {address} refuses the user or the database: {error}") from None
            raise JournalLost(f"Redis at {address} does not serve now: {error}") from None
