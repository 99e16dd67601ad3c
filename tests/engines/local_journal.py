"""A journal in this process, which several nodes can share."""

import asyncio
from asyncio import Future
from collections.abc import AsyncIterator, Callable, Sequence

from app.storage.replicated.journal import Entry, Head, Journal, JournalLost


class SharedLog:
    """The entries, and who waits for the next."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.entries: list[Entry] = []
        self.news = asyncio.Event()

    @property
    def link(self) -> bytes:
        return self.entries[-1].link if self.entries else b""

    def append(self, link: bytes, data: bytes) -> None:
        time = max(self._clock(), self.entries[-1].time if self.entries else 0.0)
        self.entries.append(Entry(len(self.entries) + 1, link, self.link, time, data))
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

    async def open(self) -> Head:
        self._check()
        return Head(len(self._log.entries), self._log.link, bool(self._log.entries))

    async def close(self) -> None:
        pass

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
        if seen.number != len(self._log.entries):
            return False
        self._log.append(link, data)
        return True

    async def tail(self, after: int) -> AsyncIterator[Sequence[Entry]]:
        while True:
            news = self._log.news
            self._check()
            if self.held:
                await news.wait()
            elif entries := self._log.entries[after:]:
                after += len(entries)
                yield entries
            else:
                await news.wait()
