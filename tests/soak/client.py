"""A client of a soak: a connection that is opened again whenever it ends."""

import asyncio
import random
import socket
import struct
from typing import Final

import httpx

from tests.harness import ServerProcess
from tests.line_client import Lines
from tests.soak.ledger import SoakLedger

RECONNECT_DELAY: Final = 0.2  # seconds
CONNECTION_ERRORS: Final = (ConnectionError, TimeoutError, asyncio.IncompleteReadError, httpx.TransportError)


def abort(writer: asyncio.StreamWriter) -> None:
    """Close the connection without any farewell: every other time with a reset."""
    sock = writer.get_extra_info("socket")
    if sock is not None and random.random() < 0.5:  # None: it was closed just now
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def next_line(peer: Lines) -> bytes:
    """The next line, however long it takes: a client that disconnects could miss messages that are not retained."""
    while True:
        try:
            return await peer.next()
        except TimeoutError:
            continue


class Client:
    def __init__(self, server: ServerProcess, ledger: SoakLedger, name: str) -> None:
        self.server = server
        self.ledger = ledger
        self.name = name
        self.ready = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._disconnected = False

    async def run(self) -> None:
        while True:
            try:
                await self.connect()
            except CONNECTION_ERRORS as error:
                if not self._disconnected:
                    self.ledger.counts[f"{type(error).__name__} at {type(self).__name__}"] += 1
            except Exception as error:
                self.ledger.faults[f"{type(self).__name__}: {error!r}"[:100]] += 1
            self._disconnected = False
            self._writer = None
            self.ledger.counts["connections that ended"] += 1
            await asyncio.sleep(RECONNECT_DELAY)

    async def connect(self) -> None:
        """Open a connection, and read it until it ends."""
        raise NotImplementedError

    def opened(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.ready.set()

    def disconnect(self) -> None:
        if self._writer is not None:
            self._disconnected = True
            abort(self._writer)
