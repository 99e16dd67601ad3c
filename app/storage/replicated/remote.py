"""What all journals on a server have in common: they are opened again for as long as the server cannot be used, and
what an incarnation lacks is given back to it before it begins."""

import asyncio
from abc import abstractmethod
from asyncio import Future
from collections.abc import Sequence
from logging import WARNING
from time import monotonic
from typing import Final

from ...telemetry.log import log_event
from ..unusable import StoreUnusable
from .journal import Entry, Head, Journal, JournalLost
from .recent import RecentEntries

TIMEOUT: Final = 5.0  # seconds for an answer: a server that stops for 2 s loses nobody
CHECK: Final = 1.0  # seconds between two looks at the head: the log may have been deleted
HEAL_PAUSE: Final = 0.3  # seconds before a node begins an incarnation: others may have more to give back
NEW_NODE_PAUSE: Final = 2 * CHECK  # the same for a node that has read nothing: those that live notice meanwhile
RETRY: Final = 0.2  # seconds between two attempts of the first open
HEAL_BYTES: Final = 4 << 20  # of entries given back in one step
HEAL_ENTRIES: Final = 1_000


class RemoteJournal(Journal):
    def __init__(self, timeout: float, new_node_pause: float) -> None:
        self._timeout, self._new_node_pause = timeout, new_node_pause
        self._recent = RecentEntries()
        self._served = False  # it was open once

    async def open(self) -> Head:
        head = await (self._open_again() if self._served else self._open_first())
        self._served = True
        return head

    async def _open_first(self) -> Head:
        end = monotonic() + self._timeout
        while True:
            try:
                return await self._open()
            except JournalLost as error:
                if monotonic() >= end:
                    raise StoreUnusable(f"{error}; expected an answer within {self._timeout:g} s") from None
            await asyncio.sleep(RETRY)

    async def _open_again(self) -> Head:
        """A server that cannot be used may become the one that can: a replica is promoted."""
        try:
            return await self._open()
        except (StoreUnusable, JournalLost) as error:
            raise JournalLost(str(error)) from None

    @abstractmethod
    async def _open(self) -> Head:
        """Connect anew, check the server, and give back what it lacks. Raises JournalLost, StoreUnusable."""

    async def _give_back_all(self, head: Head) -> Head:
        """Give back what the log lacks, and let others do so. Raises JournalLost."""
        given = 0
        while entries := self._recent.first_after(head.number, head.link, HEAL_ENTRIES, HEAL_BYTES):
            given += await self._give_back(head, entries)
            if (head := await self.head()).begun:
                break
        if given:
            self.healed_entries += given
            log_event("the journal lacked entries, which were given back", WARNING, entries=given)
        return head if head.begun else await self._settled(head)

    async def _settled(self, head: Head) -> Head:
        """The head when no other node has given anything back for a while. Raises JournalLost."""
        while True:
            before = head.number
            await asyncio.sleep(HEAL_PAUSE if self._recent.newest else self._new_node_pause)
            head = await self.head()
            if head.begun or head.number == before:
                return head

    @abstractmethod
    async def _give_back(self, head: Head, entries: Sequence[Entry]) -> int:
        """Append entries as they were, for as long as no other node does. How many were. Raises JournalLost."""


def settle(future: "Future[None]", error: Exception | None = None) -> None:
    """Idempotent: the first outcome counts."""
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
