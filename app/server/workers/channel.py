"""A channel between the supervisor and a worker: messages over a pair of sockets."""

from asyncio import IncompleteReadError, StreamReader, StreamWriter, open_unix_connection
from collections.abc import AsyncIterator
from contextlib import suppress
from socket import socket
from typing import Any, Final, Generic, Self, TypeVar

import msgspec

_LENGTH: Final = 4  # bytes in front of each message

Sent = TypeVar("Sent")
Received = TypeVar("Received")


class Channel(Generic[Sent, Received]):
    def __init__(self, reader: StreamReader, writer: StreamWriter, received: Any) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder: msgspec.msgpack.Decoder[Received] = msgspec.msgpack.Decoder(received)

    @classmethod
    async def open(cls, sock: socket, received: Any) -> Self:
        """`received`: the type of the messages that come."""
        return cls(*await open_unix_connection(sock=sock), received)

    def send(self, message: Sent) -> None:
        """Nothing happens if the other end is gone."""
        data = msgspec.msgpack.encode(message)
        self._writer.write(len(data).to_bytes(_LENGTH, "big") + data)

    async def messages(self) -> AsyncIterator[Received]:
        """Until the other end is gone."""
        with suppress(IncompleteReadError, OSError):
            while True:
                length = int.from_bytes(await self._reader.readexactly(_LENGTH), "big")
                yield self._decoder.decode(await self._reader.readexactly(length))

    async def close(self) -> None:
        """Send what has not been sent."""
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()
