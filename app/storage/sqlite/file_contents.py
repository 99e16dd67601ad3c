"""Notices that another program writes into the files of a served store, such as `cp backup.db log.db`.

The names still lead to the same files then. But SQLite writes to the file itself only in a checkpoint, which it notes
in its index (the -shm file), and the index says what the -wal must contain: https://sqlite.org/walformat.html.
"""

import os
from pathlib import Path
from struct import Struct
from time import monotonic
from typing import Final

from .file_lock import ForeignChange

CHECK_INTERVAL: Final = 0.002  # seconds between checks: with that, they take less than 1 % of the time
_INDEX: Final = Struct("=14xHI12x8s56xI28xI")  # page size, frames in the -wal, salt, pages checkpointed and attempted
_WAL_HEADER: Final = 32  # bytes
_FRAME_HEADER: Final = 24
_SALT: Final = 16  # its place in the -wal


class FileChanged(ForeignChange):
    """A file does not contain what the server wrote."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} was changed by another program while the server used it, and messages may be lost. Stop the "
            f"server, and restore a backup with `plainmq restore`"
        )


class FileContents:
    """What the files contain, as far as a few calls of the system can say."""

    def __init__(self, path: Path) -> None:
        """The three files exist."""
        self._path = path
        self._main, self._wal, self._index = [
            os.open(f"{path}{suffix}", os.O_RDONLY | os.O_CLOEXEC) for suffix in ("", "-wal", "-shm")
        ]
        self._seen: tuple[int, int] | None = None  # size and time of the file itself
        self._checkpoint: tuple[bytes, int, int] | None = None  # the last one that was begun
        self.change: FileChanged | None = None
        self._check_at = 0.0  # on the monotonic clock
        self.check()

    def check(self) -> None:
        """Call it between transactions. Raises FileChanged, from the first change on."""
        if self.change is None and monotonic() >= self._check_at:
            self.change = self._find_change()
            self._check_at = monotonic() + CHECK_INTERVAL
        if self.change:
            raise self.change

    def _find_change(self) -> FileChanged | None:
        main, index = os.fstat(self._main), os.pread(self._index, _INDEX.size, 0)
        if len(index) < _INDEX.size:
            return FileChanged(Path(f"{self._path}-shm"))
        page_size, frames, *checkpoint = _INDEX.unpack(index)
        seen, begun = (main.st_size, main.st_mtime_ns), (*checkpoint,)
        if self._seen is not None and seen != self._seen and begun == self._checkpoint:
            return FileChanged(self._path)
        self._seen, self._checkpoint = seen, begun
        if frames and not self._has_frames(frames, page_size, begun[0]):
            return FileChanged(Path(f"{self._path}-wal"))
        return None

    def _has_frames(self, frames: int, page_size: int, salt: bytes) -> bool:
        """Whether the -wal is as long as it must be, and has the header that SQLite wrote."""
        end = _WAL_HEADER + frames * (_FRAME_HEADER + page_size)
        return os.pread(self._wal, len(salt), _SALT) == salt and os.fstat(self._wal).st_size >= end

    def release(self) -> None:
        """Call it after SQLite has closed the files: closing a file ends SQLite's locks on it."""
        for file in (self._main, self._wal, self._index):
            os.close(file)
