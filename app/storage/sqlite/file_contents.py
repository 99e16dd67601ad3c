"""Notices that another program removes the files of a served store, or writes to them: through SQLite, or without it
(`cp backup.db log.db`).

SQLite counts the transactions of all connections in its index (the -shm file), which also says what the -wal must
contain: https://sqlite.org/walformat.html. It writes to the file itself only in a checkpoint, which it notes there.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import Struct
from time import monotonic
from typing import Final

from .file_lock import FileReplaced, ForeignChange

CHECK_INTERVAL: Final = 0.002  # seconds between checks, besides those of commits: they take less than 1 % of the time
_INDEX: Final = Struct("=8xI2xHI12x8s56xI28xI")  # transactions, page size, frames, salt, pages checkpointed, attempted
_SUFFIXES: Final = ("", "-wal", "-shm")
_WAL_HEADER: Final = 32  # bytes
_FRAME_HEADER: Final = 24
_SALT: Final = 16  # its place in the -wal


class FileChanged(ForeignChange):
    """A file does not contain what the server wrote."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} was changed by another program while the server used it, and messages may be lost. Restart "
            f"the server, which checks the file; if it is refused or lacks messages, restore a backup with "
            f"`plainmq restore`"
        )


class FileContents:
    """What the files contain, as far as a few calls of the system can say."""

    def __init__(self, path: Path) -> None:
        """The three files exist, and only the server has written to them."""
        self._paths = [Path(f"{path}{suffix}") for suffix in _SUFFIXES]
        self._files = [os.open(each, os.O_RDONLY | os.O_CLOEXEC) for each in self._paths]
        self._seen: tuple[int, int] | None = None  # size and time of the file itself
        self._checkpoint: tuple[bytes, int, int] | None = None  # the last one that was begun
        self._transactions: int | None = None  # how many there must be; None: as many as there are
        self._check_at = 0.0  # on the monotonic clock
        self.change: FileChanged | None = None
        self.check()

    def check(self) -> None:
        """Call it between transactions. Raises FileReplaced; or FileChanged, from the first change on."""
        if self.change is None and monotonic() >= self._check_at:
            self._check_at = monotonic() + CHECK_INTERVAL
            self.change = self._find_change()
        if self.change:
            raise self.change

    def check_commit(self) -> None:
        """Likewise after a transaction that has written."""
        if self._transactions is not None:
            self._transactions = (self._transactions + 1) & 0xFFFF_FFFF
        self._check_now()

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """The server makes transactions that nobody counts. Raises what check() does."""
        self._check_now()
        self._transactions = None
        yield
        self._check_now()

    def _check_now(self) -> None:
        self._check_at = 0.0
        self.check()

    @property
    def may_checkpoint(self) -> bool:
        """False if a checkpoint would mix what the server wrote with what another program did, or write it to a file
        that was removed."""
        main, _, index = map(os.fstat, self._files)
        return self.change is None and main.st_nlink > 0 and index.st_nlink > 0

    def _find_change(self) -> FileChanged | None:
        main, wal, index = map(os.fstat, self._files)
        if not (main.st_nlink and wal.st_nlink and index.st_nlink):
            raise FileReplaced(self._paths[[main.st_nlink, wal.st_nlink, index.st_nlink].index(0)])
        content = os.pread(self._files[2], _INDEX.size, 0)
        if len(content) < _INDEX.size:
            return FileChanged(self._paths[2])
        transactions, page_size, frames, *checkpoint = _INDEX.unpack(content)
        seen, begun = (main.st_size, main.st_mtime_ns), (*checkpoint,)
        if self._seen is not None and seen != self._seen and begun == self._checkpoint:
            return FileChanged(self._paths[0])
        if self._transactions is not None and transactions != self._transactions:
            return FileChanged(self._paths[0])
        self._seen, self._checkpoint, self._transactions = seen, begun, transactions
        if frames and not self._has_frames(wal.st_size, frames, page_size, begun[0]):
            return FileChanged(self._paths[1])
        return None

    def _has_frames(self, size: int, frames: int, page_size: int, salt: bytes) -> bool:
        """Whether the -wal is as long as it must be, and has the header that SQLite wrote."""
        end = _WAL_HEADER + frames * (_FRAME_HEADER + page_size)
        return os.pread(self._files[1], len(salt), _SALT) == salt and size >= end

    def release(self) -> None:
        """Call it after SQLite has closed the files: closing a file ends SQLite's locks on it."""
        for file in self._files:
            os.close(file)
