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
    `time`: Unix seconds by the journal's clock; where it is earlier than that of the entry before, that one counts.
    `data`: commands."""

    number: int
    link: bytes
    before: bytes
    time: float
    data: bytes


class Head(msgspec.Struct, frozen=True, gc=False):
    """The newest entry (0 and empty if there is none), and whether the present incarnation of the journal has begun: a
    new primary is another one, and nothing is appended there before a node has begun it. `forgotten`: the entry is
    older than all that this node could give back."""

    number: int
    link: bytes
    begun: bool
    forgotten: bool = False


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """What all entries up to `number` have led to. `link`: of that entry. `chunks` may raise JournalLost."""

    number: int
    link: bytes
    chunks: AsyncIterator[bytes]


class JournalLost(Exception):
    """The journal cannot be reached. What was appended last may be in it, or not."""


class Journal(ABC):
    durability: str
    """What a receipt promises."""

    needs_snapshot: bool = False
    """Somebody has removed entries that are in no snapshot: nodes that live have what they led to."""

    healed_entries: int = 0
    """How many entries this node has given back to a journal that had lost them."""

    @abstractmethod
    async def open(self) -> Head:
        """Connect, again after JournalLost too. A journal that has not begun gets back what it lacks and this node has.
        Raises JournalLost; StoreUnusable if the journal can never serve."""

    @abstractmethod
    async def close(self) -> None:
        """Idempotent."""

    @abstractmethod
    async def head(self) -> Head:
        """The head at a time after this call. Raises JournalLost."""

    @abstractmethod
    def append(self, link: bytes, data: bytes) -> Future[None]:
        """Append an entry. Done when the entry is as durable as promised. Entries of one node keep their order. Fails
        with JournalLost; with OutcomeUnknown if the entry is in the journal, but less durable than promised; with
        LogFull or StorageFailed if the journal has refused it."""

    @abstractmethod
    async def begin(self, seen: Head, link: bytes, data: bytes) -> bool:
        """Append an entry, and with it begin the present incarnation, if the newest entry is still `seen`. False:
        another node was first. Raises JournalLost."""

    @abstractmethod
    def tail(self, after: int) -> AsyncIterator[Sequence[Entry]]:
        """All entries after that number, then new ones as they come. Raises JournalLost."""

    # Snapshots. A journal need not keep any: then it keeps all entries.

    async def reserve_snapshot(self, number: int) -> bool:  # noqa: ARG002
        """True for one of the nodes: it makes the snapshot of what all entries up to this one have led to. Raises
        JournalLost."""
        return False

    async def save_snapshot(self, number: int, link: bytes, chunks: AsyncIterator[bytes]) -> None:
        """Keep a snapshot. It counts when all chunks are there, unless there is a newer one. Raises JournalLost, and
        what `chunks` raises: then it does not count."""
        raise NotImplementedError

    async def load_snapshot(self) -> Snapshot | None:
        """The newest snapshot; None if there is none. Raises JournalLost."""
        return None

    async def restore(self, seen: Head, number: int, link: bytes, time: float, chunks: AsyncIterator[bytes]) -> bool:
        """Put a snapshot in the place of all that the journal has, if that has not begun and its newest entry is still
        `seen`. `number`, `link` and `time`: of the entry that the snapshot ends with. False: nothing was changed, since
        another node does this now. Raises as save_snapshot()."""
        raise NotImplementedError

    async def trim(self, before: int) -> None:
        """Remove the entries before that number, which must be in a snapshot. Raises JournalLost."""
        raise NotImplementedError
