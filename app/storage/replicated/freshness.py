"""Freshness: a node says that something does not exist only when it has carried out all that is in the journal.

A client may have an id from another node, which was faster.
"""

import asyncio
from asyncio import Future
from collections.abc import Callable
from typing import Final, TypeVar

from ...errors import Behind, NotFound
from .journal import Journal, JournalLost

AHEAD_WAIT: Final = 2.0  # seconds for what is in the journal to arrive: more than a node that works is ever late

T = TypeVar("T")


class Freshness:
    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._number = 0  # of the last entry that was carried out here
        self._waiting: list[tuple[int, Future[None]]] = []  # for entries
        self._lock = asyncio.Lock()  # while the journal is asked
        self._asked = self._answered = 0  # questions for the head, in their order
        self._head = 0  # the last answer
        self._closed = False

    def carried_out(self, number: int) -> None:
        self._number = number
        if self._waiting:
            self._answer()

    def close(self) -> None:
        """Whoever waits is told that nobody knows."""
        self._closed = True
        self._answer()

    def find(self, ask: Callable[[], "Future[T]"]) -> "Future[T]":
        """Ask, and if the answer is NotFound, ask again when this node is level with the journal."""
        found = ask()
        if found.done() and not (found.cancelled() or isinstance(found.exception(), NotFound)):
            return found
        return asyncio.ensure_future(self._find_again(found, ask))

    async def _find_again(self, found: "Future[T]", ask: Callable[[], "Future[T]"]) -> T:
        try:
            return await found
        except NotFound:
            return await self._when_level(ask)

    def when_level(self, ask: Callable[[], "Future[T]"]) -> "Future[T]":
        """Ask when this node is level with the journal. Fails with Behind."""
        return asyncio.ensure_future(self._when_level(ask))

    async def _when_level(self, ask: Callable[[], "Future[T]"]) -> T:
        try:
            async with asyncio.timeout(AHEAD_WAIT):
                await self._reach(await self._newest())
        except (JournalLost, TimeoutError):
            raise Behind("another server may have it, and this one cannot know: try again in a few seconds") from None
        return await ask()

    async def _newest(self) -> int:
        """The number of the newest entry, by a question that begins after this call. All who call while the journal
        is asked share the next question."""
        self._asked = mine = self._asked + 1
        async with self._lock:
            if self._answered < mine:
                asked = self._asked
                head = await self._journal.head()
                if not head.begun:
                    raise JournalLost("it has not begun: what it lacks may be given back")
                self._answered, self._head = asked, head.number
        return self._head

    async def _reach(self, number: int) -> None:
        if self._number < number:
            future: Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((number, future))
            self._answer()
            await future

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        for number, future in waiting:
            if future.done():  # nobody waits any more
                continue
            if number <= self._number:
                future.set_result(None)
            elif self._closed:
                future.set_exception(JournalLost("this node stops"))
            else:
                self._waiting.append((number, future))
