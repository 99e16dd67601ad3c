"""The entries of a log as JetStream sends them. It sends more only when those before were taken."""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from nats.aio.msg import Msg

from . import api
from .connection import Connection
from .streams import ask

MAX_TAKEN: Final = 256  # messages at a time

_ENTRY: Final = "$JS.ACK."  # what the reply of a message of the stream begins with
_STALLED: Final = "Nats-Consumer-Stalled"  # the header of a heartbeat that names whom to tell that all was taken


class Feed:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._messages: deque[Msg] = deque()
        self._news = asyncio.Event()
        connection.on_lost = self._news.set

    async def open(self, stream: str, first: int) -> None:
        """Begin with this message, or the next one that there is. Raises JournalLost."""
        subject = await self._connection.subscribe(self._on_message)
        config = api.ConsumerConfig(subject, first)
        await ask(self._connection, api.create_consumer(stream), api.CreateConsumer(stream, config))

    def _on_message(self, message: Msg) -> None:
        self._messages.append(message)
        self._news.set()

    async def take(self, seconds: float) -> Sequence[Msg]:
        """What has come; none if nothing comes within this time, or the connection is lost."""
        if not self._messages:
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(0 if self._connection.is_lost else seconds):
                    await self._news.wait()
        taken: list[Msg] = []
        while self._messages and len(taken) < MAX_TAKEN:
            message = self._messages.popleft()
            if message.reply.startswith(_ENTRY):
                taken.append(message)
            elif waiting := message.reply or (message.headers or {}).get(_STALLED):
                self._connection.publish(waiting)
        return taken
