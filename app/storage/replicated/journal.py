"""The interface of journals: one order of entries that many nodes append to and read.

Entries form a chain: each has the next number, and names the link of the entry before it. So a node notices when the
journal is not the one that it has read, for instance after a failover to a copy that lacks the newest entries.
"""

from abc import ABC, abstractmethod
from asyncio import Future
from collections.abc import AsyncIterator, Sequence

import msgspec


class Entry(msgspec.Struct, frozen=True, gc=False):
    """`number` counts from 1. `link` is a name that its writer chose at random, `before` that of the entry before.
    `time`: Unix seconds by the journal's clock, never earlier than that of the entry before. `data`: commands."""

    number: int
    link: bytes
    before: bytes
    time: float
    data: bytes


class Head(msgspec.Struct, frozen=True, gc=False):
    """The newest entry (0 and empty if there is none), and whether the present incarnation of the journal has begun: a
    new primary is another one, and nothing is appended there before a node has begun it."""

    number: int
    link: bytes
    begun: bool


class JournalLost(Exception):
    """The journal cannot be reached. What was appended last may be in it, or not."""


class Journal(ABC):
    durability: str
    """What a receipt promises."""

    @abstractmethod
    async def open(self) -> Head:
        """Connect, again after JournalLost too. Raises JournalLost; StoreUnusable if the journal can never serve."""

    @abstractmethod
    async def close(self) -> None:
        """Idempotent."""

    @abstractmethod
    def append(self, link: bytes, data: bytes) -> Future[None]:
        """Append an entry. Done when the entry is as durable as promised. Entries of one node keep their order. Fails
        with JournalLost."""

    @abstractmethod
    async def begin(self, seen: Head, link: bytes, data: bytes) -> bool:
        """Append an entry, and with it begin the present incarnation, if the newest entry is still `seen`. False:
        another node was first. Raises JournalLost."""

    @abstractmethod
    def tail(self, after: int) -> AsyncIterator[Sequence[Entry]]:
        """All entries after that number, then new ones as they come. Raises JournalLost."""
