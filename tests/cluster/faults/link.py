"""The cable between a node and Redis."""

import asyncio
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from typing import Self

BUFFER = 1 << 16


class Link:
    """A port of this machine whose connections go to another. While it is cut, nothing passes and nobody is told."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._whole = asyncio.Event()
        self._whole.set()
        self._writers: set[StreamWriter] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.mend()
        self.lead_to(self._target)
        while self._writers:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    def lead_to(self, target: int) -> None:
        """New connections go there; the present ones end."""
        self._target = target
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._whole.wait()
            with suppress(OSError):
                await self._relay(reader, writer)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _relay(self, reader: StreamReader, writer: StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers.add(back)
        try:
            await asyncio.wait(
                [asyncio.create_task(self._pass(reader, back)), asyncio.create_task(self._pass(there, writer))],
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            self._writers.discard(back)
            back.transport.abort()
            writer.transport.abort()

    async def _pass(self, source: StreamReader, sink: StreamWriter) -> None:
        with suppress(OSError, RuntimeError):  # uvloop: the other side is closed
            while data := await source.read(BUFFER):
                await self._whole.wait()
                sink.write(data)
                await sink.drain()
