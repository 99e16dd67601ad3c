"""`plainmq top`: what a server does, again and again, on a screen that somebody looks at."""

import asyncio
from collections import deque
from contextlib import AbstractContextManager
from typing import Final, Protocol

import msgspec

from .aio.client import AsyncClient
from .answers.groups import GroupState
from .answers.server import Sample, ServerState, Stats
from .attention import Attention, attention
from .commands import Server, Terminal, failed
from .errors import ClientError, Unavailable, Unreachable, not_plainmq
from .operations import IMPOSSIBLE, TIMEOUT, hint

INTERVAL: Final = 2.0  # seconds between two looks at the groups
SHOWN: Final = 100  # groups, of each order: more are on no screen
HISTORY: Final = 300  # samples
SILENCE: Final = 3.0  # seconds without a sample, of which there is one a second


class Frame:
    """What the screen shows. `trouble`: why it is not up to date."""

    def __init__(self, url: str, stats: Stats) -> None:
        self.url = url
        self.server: ServerState = stats.server
        self.samples: deque[Sample] = deque(stats.history, maxlen=HISTORY)
        self.groups: list[GroupState] = []
        self.attention: list[Attention] = []  # the most urgent of them
        self.attention_total = 0
        self.trouble: str | None = None
        self.received = 0  # samples
        if stats.now is not None:
            self.add(stats.now)

    def add(self, sample: Sample) -> None:
        self.samples.append(sample)
        self.received += 1


class Screen(Protocol):
    """Draws frames until `closed`, which waits until somebody has seen enough, and returns the exit status."""

    def open(self) -> AbstractContextManager[object]: ...
    def draw(self, frame: Frame) -> None: ...
    async def closed(self) -> int: ...


def top(server: Server, screen: Screen, terminal: Terminal) -> int:
    return asyncio.run(_top(server, screen, terminal))


async def _top(server: Server, screen: Screen, terminal: Terminal) -> int:
    silent = msgspec.structs.replace(terminal, tell=lambda _sentence: None)  # the screen shows troubles
    try:
        async with server.client(silent, retry_for=0, timeout=TIMEOUT) as client:
            frame = Frame(client.url, await client.stats(history=True))
            await _look(client, frame)
            with screen.open():
                screen.draw(frame)
                return await _until_closed(client, frame, screen)
    except OverflowError:
        return failed(not_plainmq(IMPOSSIBLE), IMPOSSIBLE, terminal)
    except ClientError as error:
        return failed(error, f"{error}{hint(error)}", terminal)


async def _until_closed(client: AsyncClient, frame: Frame, screen: Screen) -> int:
    """The exit status. Raises ClientError if the server refuses to go on."""
    closed = asyncio.create_task(screen.closed())
    steps = (_watch(client, frame, screen), _notice_silence(client, frame, screen))
    tasks = [closed, *map(asyncio.create_task, steps)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
        return closed.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _watch(client: AsyncClient, frame: Frame, screen: Screen) -> None:
    """A server that restarts is looked for until it is there again."""
    while True:
        try:
            await _follow(client, frame, screen)
        except (Unreachable, Unavailable) as error:
            frame.trouble = str(error)
            screen.draw(frame)
            await asyncio.sleep(INTERVAL)


async def _notice_silence(client: AsyncClient, frame: Frame, screen: Screen) -> None:
    """Say so when the figures are no longer those of now."""
    loop = asyncio.get_running_loop()
    seen, since = 0, loop.time()
    while True:
        await asyncio.sleep(1.0)
        if frame.received != seen:
            seen, since = frame.received, loop.time()
        elif loop.time() - since >= SILENCE:
            frame.trouble = frame.trouble or f"{client.url} sends nothing; waiting for it"
            screen.draw(frame)


async def _follow(client: AsyncClient, frame: Frame, screen: Screen) -> None:
    """Raises ClientError; Unreachable also when the server ends the stream."""
    loop = asyncio.get_running_loop()
    looked = 0.0
    async with client.watch_stats(retry_for=0) as samples:
        async for sample in samples:
            frame.add(sample)
            frame.trouble = None
            if loop.time() - looked >= INTERVAL:
                await _look(client, frame)
                looked = loop.time()
            screen.draw(frame)


async def _look(client: AsyncClient, frame: Frame) -> None:
    """Look at the server, and at the groups that are furthest behind."""
    stats = await client.stats()
    behind = await client.group_page(sort="-lag", limit=SHOWN)
    frame.server = stats.server
    frame.groups = behind.groups
    frame.attention = attention(stats.attention)
    frame.attention_total = stats.attention_total
