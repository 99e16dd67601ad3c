"""Snapshots in JetStream: chunks, and which of them are the newest snapshot.

Each is the only message of its subject."""

from collections.abc import AsyncIterator
from secrets import token_hex
from typing import Final

import msgspec

from ..journal import JournalLost, Snapshot
from . import api
from .connection import Connection, is_status
from .streams import Streams, ask, last_message, publish_after

_NOT_FOUND: Final = "404"


class Newest(msgspec.Struct, frozen=True, array_like=True):
    """`place`: what the subjects of its chunks have in common, before their numbers."""

    number: int
    link: bytes
    place: str
    count: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Newest).decode
_decode_number = msgspec.msgpack.Decoder(int).decode


class Snapshots:
    """All methods raise JournalLost."""

    def __init__(self, connection: Connection, streams: Streams) -> None:
        self._connection, self._streams = connection, streams

    async def reserve(self, number: int) -> bool:
        """True for one node: nobody has reserved this snapshot, or a newer one."""
        last = await self._last(self._streams.reserved)
        if last is not None and _decode_number(last.data) >= number:
            return False
        return await self._replace(self._streams.reserved, last, _encode(number))

    async def save(self, number: int, link: bytes, chunks: AsyncIterator[bytes]) -> None:
        """Chunks that were written before those of this snapshot are removed: of the one before it, and of those that
        were never finished."""
        place, count, first = f"{self._streams.chunks}.{token_hex(8)}", 0, 0
        async for chunk in chunks:
            stored = await ask(self._connection, f"{place}.{count}", chunk)
            first, count = first or stored.seq, count + 1
        if await self._commit(Newest(number, link, place, count)):
            await self._purge(api.Purge(first, f"{self._streams.chunks}.>"))
        else:
            await self._purge(api.Purge(filter=f"{place}.>"))

    async def _commit(self, snapshot: Newest) -> bool:
        """False: there is a newer one."""
        while True:
            last = await self._last(self._streams.newest)
            if last is not None and _decode(last.data).number > snapshot.number:
                return False
            if await self._replace(self._streams.newest, last, _encode(snapshot)):
                return True

    async def newest(self) -> Newest | None:
        last = await self._last(self._streams.newest)
        return None if last is None else _decode(last.data)

    async def load(self) -> Snapshot | None:
        if (newest := await self.newest()) is None:
            return None
        return Snapshot(newest.number, newest.link, self._chunks(newest))

    async def _chunks(self, snapshot: Newest) -> AsyncIterator[bytes]:
        for index in range(snapshot.count):
            subject = f"{snapshot.place}.{index}"
            chunk = await self._connection.ask(api.get_directly(self._streams.snapshots, subject))
            if is_status(chunk, _NOT_FOUND):
                raise JournalLost("the snapshot in JetStream was replaced by another while it was read")
            yield chunk.data

    async def _last(self, subject: str) -> api.StoredMessage | None:
        return await last_message(self._connection, self._streams.snapshots, subject)

    async def _replace(self, subject: str, last: api.StoredMessage | None, body: bytes) -> bool:
        return await publish_after(self._connection, subject, body, last.seq if last else 0, of_subject=True)

    async def _purge(self, messages: api.Purge) -> None:
        await ask(self._connection, api.purge(self._streams.snapshots), messages)
