"""The health of the disk: whether it stores what it gets, has space, and still has the files that were opened."""

import sqlite3
from errno import ENOSPC
from logging import ERROR
from time import monotonic
from typing import Final, TypeVar

from ...errors import LogFull, PlainmqError, StorageFailed
from ...log.state import LogStateMachine
from ...telemetry.log import log_event
from ..turns import Operation
from .file_lock import ForeignChange
from .transactions import Store

T = TypeVar("T")

CHECK_INTERVAL: Final = 0.05  # seconds between checks of the disk and the names: one costs as much as a message
BACKOFF: Final = 1.0  # seconds without another attempt to write after a failure


class DiskHealth:
    """Used by the writer thread. A failure is logged once when it begins, and once when the disk has recovered."""

    def __init__(self, min_free: int) -> None:
        """`min_free`: in bytes; with less on the disk, publishes are refused."""
        self.failures = 0
        self.failure: PlainmqError = StorageFailed("the disk did not store it")  # for what is refused now
        self.why = ""  # the reason of it
        self.unready = ""  # why no messages are accepted until an operator helps
        self.retry_at = 0.0  # on the monotonic clock: no attempt to write before
        self.write_failed = False  # the last transaction failed
        self._min_free = min_free
        self._full = False  # less than min_free is left
        self._check_at = 0.0  # on the monotonic clock
        self._since: float | None = None  # the start of the failure that is logged

    def check(self, store: Store) -> None:
        """Raises ForeignChange, OSError."""
        if monotonic() >= self._check_at:
            self._check_at = monotonic() + CHECK_INTERVAL
            self.check_files(store)
            self._full = store.file.free_disk() < self._min_free
            if self._full:
                self._begin(f"the disk has less than {self._min_free} bytes left (min_free_disk)")

    def check_files(self, store: Store) -> None:
        """Raises ForeignChange if another program has moved, replaced or changed the file: new messages would get
        lost."""
        try:
            store.file.lock.check()
            store.check_contents()
        except ForeignChange as error:
            self._found(error)
            raise
        self.unready = ""

    def _found(self, change: ForeignChange) -> None:
        self.unready = str(change)
        self._begin(self.unready)

    def unless_full(self, operation: Operation[T], core: LogStateMachine, now: float) -> T:
        """Run an operation that publishes. Raises LogFull."""
        if self._full:
            raise LogFull(f"the disk has less than {self._min_free} bytes left, which min_free_disk keeps free")
        return operation(core, now)

    def failed(self, error: Exception) -> None:
        """A transaction could not be written."""
        self.failures += 1
        self.write_failed = True
        if isinstance(error, ForeignChange):
            self._found(error)
        self.why = str(error)
        self._begin(self.why)
        self.retry_at = monotonic() + BACKOFF
        self.failure = _refusal(error)

    def written(self) -> None:
        """A transaction was written. If the disk is full, publishes are refused, so the failure is not over."""
        self.write_failed = False
        if self._since is not None and not self._full:
            log_event("storage recovered", seconds=monotonic() - self._since)
            self._since = None

    def _begin(self, why: str) -> None:
        if self._since is None:
            self._since = monotonic()
            log_event("storage failed", ERROR, why=why)


def _refusal(error: Exception) -> PlainmqError:
    """The error that clients get for a failure of the disk."""
    full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL or getattr(error, "errno", None) == ENOSPC
    if isinstance(error, ForeignChange):
        return StorageFailed(f"{error}; until then, nothing is confirmed")
    if full:
        return LogFull(f"the disk is full ({error}): nothing was stored")
    return StorageFailed(f"the disk did not take it ({error}): nothing was stored; try again in a few seconds")
