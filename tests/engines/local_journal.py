"""A journal in this process, which several nodes can share."""

import asyncio
from asyncio import Future
from collections.abc import AsyncIterator, Callable, Sequence

from app.storage.replicated.journal import Entry, Head, Journal, JournalLost, Snapshot


class SharedLog:
    """The entries that were not trimmed, the newest snapshot, and who waits for the next entry."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.entries: list[Entry] = []
        self.trimmed = 0  # so many entries
        self.snapshot: tuple[int, bytes, list[bytes]] | None = None
        self.reserved: set[int] = set()  # snapshots that a node makes
        self.begun = False
        self.news = asyncio.Event()
        self.silent: asyncio.Event | None = None  # until it is set, the head is told to nobody
        self._newest = Entry(0, b"", b"", 0.0, b"")

    @property
    def number(self) -> int:
        return self._newest.number

    @property
    def link(self) -> bytes:
        return self._newest.link

    def append(self, link: bytes, data: bytes) -> None:
        time = max(self._clock(), self._newest.time)
        self._newest = Entry(self.number + 1, link, self.link, time, data)
        self.entries.append(self._newest)
        self.wake()

    def after(self, number: int) -> Sequence[Entry]:
        return self.entries[max(number - self.trimmed, 0) :]

    def trim(self, before: int) -> None:
        count = max(before - 1 - self.trimmed, 0)
        del self.entries[:count]
        self.trimmed += count

    async def answers(self) -> None:
        if self.silent is not None:
            await self.silent.wait()

    def lose_after(self, number: int) -> None:
        """As a failover to a copy that lacks the newest entries."""
        del self.entries[number - self.trimmed :]
        self._newest = self.entries[-1]
        self.begun = False
        self.wake()

    def wake(self) -> None:
        self.news.set()
        self.news = asyncio.Event()


class LocalJournal(Journal):
    durability = "memory"

    def __init__(self, log: SharedLog) -> None:
        self._log = log
        self.cut = False  # the node cannot reach the log
        self.held = False  # what others append does not arrive
        self.heads = 0  # how often the head was asked for
        self.on_open: Callable[[], object] = lambda: None

    async def open(self) -> Head:
        self.on_open()
        self._check()
        return Head(self._log.number, self._log.link, self._log.begun)

    async def close(self) -> None:
        pass

    async def head(self) -> Head:
        self.heads += 1
        await self._log.answers()
        return await self.open()

    def _check(self) -> None:
        if self.cut:
            raise JournalLost("the test has cut the connection")

    def append(self, link: bytes, data: bytes) -> "Future[None]":
        future: Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._check()
        except JournalLost as error:
            future.set_exception(error)
        else:
            self._log.append(link, data)
            future.set_result(None)
        return future

    async def begin(self, seen: Head, link: bytes, data: bytes) -> bool:
        if seen.number != self._log.number:
            return False
        self._log.begun = True
        self._log.append(link, data)
        return True

    async def tail(self, after: int) -> AsyncIterator[Sequence[Entry]]:
        while True:
            news = self._log.news
            self._check()
            if not self._log.begun:
                raise JournalLost("another primary was chosen")
            if self.held:
                await news.wait()
            elif entries := self._log.after(after):
                after = entries[-1].number
                yield entries
            else:
                await news.wait()

    async def reserve_snapshot(self, number: int) -> bool:
        self._check()
        is_first = number not in self._log.reserved
        self._log.reserved.add(number)
        return is_first

    async def save_snapshot(self, number: int, link: bytes, chunks: AsyncIterator[bytes]) -> None:
        self._check()
        saved = [chunk async for chunk in chunks]
        self._check()
        if self._log.snapshot is None or self._log.snapshot[0] <= number:
            self._log.snapshot = (number, link, saved)

    async def load_snapshot(self) -> Snapshot | None:
        self._check()
        if self._log.snapshot is None:
            return None
        number, link, chunks = self._log.snapshot
        return Snapshot(number, link, self._each(chunks))

    async def _each(self, chunks: Sequence[bytes]) -> AsyncIterator[bytes]:
        for chunk in chunks:
            self._check()
            yield chunk

    async def trim(self, before: int) -> None:
        self._check()
        self._log.trim(before)
