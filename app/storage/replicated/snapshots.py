"""Snapshots of the log in the journal: when one is due, which node makes it, what is trimmed then, and loading one."""

import asyncio
from asyncio import Task
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from logging import WARNING
from typing import Final

from ...log.snapshot.snapshot import SnapshotInvalid
from ...telemetry.log import log_event
from ..turns import in_turns
from ..unusable import StoreUnusable
from .fold import Fold
from .fold_snapshot import FoldLoader
from .journal import Entry, Head, Journal, JournalLost
from .snapshot_process import SnapshotFailed, SnapshotProcess

SNAPSHOT_BYTES: Final = 64 << 20  # of entries since the last snapshot: a node that starts reads about as many
SNAPSHOT_ENTRIES: Final = 100_000  # likewise: it carries them out in a few seconds


class Snapshots:
    """Every node counts the entries, so a snapshot is due on all of them at once. One of them makes it."""

    def __init__(self, journal: Journal, known_level: int) -> None:
        """`known_level`: the newest that this node knows."""
        self._journal = journal
        self._known_level = known_level
        self._entries = self._nbytes = 0  # since the last one was due
        self._saving: Task[None] | None = None

    def count(self, entry: Entry) -> None:
        self._entries += 1
        self._nbytes += len(entry.data)

    @property
    def is_due(self) -> bool:
        return self._entries >= SNAPSHOT_ENTRIES or self._nbytes >= SNAPSHOT_BYTES or self._journal.needs_snapshot

    def hurry(self) -> None:
        """One is due now."""
        self._entries = SNAPSHOT_ENTRIES

    async def make(self, fold: Fold) -> None:
        """Begin a snapshot, unless another node makes it. As for take(). Raises JournalLost."""
        self._entries = self._nbytes = 0
        if self._saving is not None or not await self._journal.reserve_snapshot(fold.number):
            return
        try:
            process = SnapshotProcess(fold)
        except OSError as error:  # such as no memory for another process
            _warn(error)
            return
        self._saving = asyncio.create_task(self._save(process, fold.number, fold.link))

    async def load(self) -> Fold | None:
        """The fold of the newest snapshot; None if there is none. Raises JournalLost, StoreUnusable, NewerVersion."""
        if (snapshot := await self._journal.load_snapshot()) is None:
            return None
        loader = FoldLoader()
        try:
            async for chunk in snapshot.chunks:
                await in_turns(loader.feed(chunk))
            return loader.finish(self._known_level)
        except SnapshotInvalid as error:
            raise StoreUnusable(f"the log cannot be read from the journal: {error}") from error

    async def give_back(self, fold: Fold, seen: Head) -> bool:
        """Put a snapshot in the place of what the journal has, whose newest entry is `seen`. As for take(). False:
        another node does. Raises JournalLost."""
        try:
            async with aclosing(_chunks_of(fold)) as chunks:
                given = await self._journal.restore(seen, fold.number, fold.link, fold.time, chunks)
        except (OSError, SnapshotFailed) as error:
            raise JournalLost(f"no snapshot can be given back to the journal: {error}") from error
        if given:
            log_event("the journal lacked entries, for which a snapshot was given back", WARNING, entry=fold.number)
        return given

    async def close(self) -> None:
        if self._saving is not None:
            self._saving.cancel()
            with suppress(asyncio.CancelledError):
                await self._saving

    async def _save(self, process: SnapshotProcess, number: int, link: bytes) -> None:
        """The entries behind the snapshot before this one stay, for nodes that are late."""
        try:
            before = await self._journal.load_snapshot()
            await self._journal.save_snapshot(number, link, process.chunks())
            if before is not None:
                await self._journal.trim(before.number + 1)
            log_event("a snapshot of the log was saved", entry=number)
        except (JournalLost, SnapshotFailed) as error:
            _warn(error)
        finally:
            process.end()
            self._saving = None


async def _chunks_of(fold: Fold) -> AsyncGenerator[bytes, None]:
    """Raises OSError, SnapshotFailed."""
    process = SnapshotProcess(fold)
    try:
        async for chunk in process.chunks():
            yield chunk
    finally:
        process.end()


def _warn(error: Exception) -> None:
    log_event("no snapshot of the log was saved: another is made later", WARNING, detail=str(error))
