"""A journal in this process, which several nodes can share."""

import asyncio
from asyncio import Future
from collections.abc import AsyncIterator, Callable, Sequence

from app.storage.replicated.journal import Entry, Head, Journal, JournalLost, Snapshot
from app.storage.replicated.recent import RecentEntries

_BEFORE_ALL = Entry(0, b"", b"", 0.0, b"")


def _lost() -> JournalLost:
    return JournalLost("the test has cut the connection")


class SharedLog:
    """The entries that were not trimmed, the newest snapshot, and who waits for the next entry."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.entries: list[Entry] = []
        self.trimmed = 0  # so many entries
        self.snapshot: tuple[int, bytes, list[bytes]] | None = None
        self.reserved: set[int] = set()  # snapshots that a node makes
        self.news = asyncio.Event()
        self.silent: asyncio.Event | None = None  # until it is set, the head is told to nobody
        self.incarnation = 0
        self.begun = False
        self._newest = _BEFORE_ALL

    @property
    def number(self) -> int:
        return self._newest.number

    @property
    def link(self) -> bytes:
        return self._newest.link

    @property
    def head(self) -> Head:
        return Head(self.number, self.link, self.begun)

    def append(self, link: bytes, data: bytes) -> None:
        time = max(self._clock(), self._newest.time)
        self.restore(Entry(self.number + 1, link, self.link, time, data))

    def restore(self, entry: Entry) -> None:
        self._newest = entry
        self.entries.append(entry)
        self.wake()

    def lose_after(self, number: int) -> None:
        """As a failover to a copy that lacks the entries after this one."""
        del self.entries[max(number - self.trimmed, 0) :]
        self._newest = self.entries[-1] if self.entries else _BEFORE_ALL
        self.incarnation += 1
        self.begun = False
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

    def wake(self) -> None:
        self.news.set()
        self.news = asyncio.Event()


class LocalJournal(Journal):
    durability = "memory"

    def __init__(self, log: SharedLog) -> None:
        self._log = log
        self._incarnation = -1  # that this node has opened
        self._recent = RecentEntries()
        self.heals = False  # it gives back what a new incarnation lacks
        self.cut = False  # the node cannot reach the log
        self.held = False  # what others append does not arrive
        self.unconfirmed: list[Future[None]] | None = None  # entries that it does not confirm, if it is such a journal
        self.heads = 0  # how often the head was asked for
        self.on_open: Callable[[], object] = lambda: None

    async def open(self) -> Head:
        self.on_open()
        if self.cut:
            raise _lost()
        self._incarnation = self._log.incarnation
        if self.heals and not self._log.begun:
            for entry in self._recent.missing_after(self._log.number, self._log.link):
                self._log.restore(entry)
                self.healed_entries += 1
        return self._log.head

    async def close(self) -> None:
        pass

    async def head(self) -> Head:
        self.heads += 1
        await self._log.answers()
        self._check()
        return self._log.head

    def _check(self) -> None:
        if self.cut or self._incarnation != self._log.incarnation:
            raise _lost()

    def append(self, link: bytes, data: bytes) -> "Future[None]":
        future: Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._check()
        except JournalLost as error:
            future.set_exception(error)
        else:
            self._log.append(link, data)
            if self.unconfirmed is None:
                future.set_result(None)
            else:
                self.unconfirmed.append(future)
        return future

    def lose(self) -> None:
        """What is not confirmed never will be."""
        self.cut = True
        for future in self.unconfirmed or ():
            future.set_exception(_lost())
        self.unconfirmed = None
        self._log.wake()

    async def begin(self, seen: Head, link: bytes, data: bytes) -> bool:
        if seen != self._log.head or seen.begun:
            return False
        self._log.begun = True
        self._log.append(link, data)
        return True

    async def tail(self, after: int) -> AsyncIterator[Sequence[Entry]]:
        while True:
            news = self._log.news
            self._check()
            if self.held:
                await news.wait()
            elif entries := self._log.after(after):
                for entry in entries:
                    self._recent.add(entry)
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
