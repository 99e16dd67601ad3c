"""A process that takes a snapshot while this one goes on.

It is forked, so it has the state as it is now, and shares the memory of what does not change meanwhile. It does nothing
but write the chunks into a pipe, and ends.
"""

import gc
import os
import signal
import warnings
from asyncio import IncompleteReadError, StreamReader, StreamReaderProtocol, get_running_loop
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final, NoReturn

from ...log.snapshot.frames import CHUNK_BYTES
from .fold import Fold
from .fold_snapshot import take

PRIORITY: Final = 10  # of 19, the lowest: the nodes of this machine come first
_STREAMS: Final = 3  # standard input, output and error
_MAX_FILES: Final = 1 << 20


class SnapshotFailed(Exception):
    """The process has ended before all was written."""


class SnapshotProcess:
    def __init__(self, fold: Fold) -> None:
        """As for take(). Raises OSError."""
        self._read, write = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # other threads hold no lock that the process needs
            self._pid = os.fork()
        if not self._pid:
            _write_and_exit(fold, write)
        os.close(write)

    async def chunks(self) -> AsyncIterator[bytes]:
        """To be iterated once. Raises SnapshotFailed behind the last chunk if some are missing."""
        reader = StreamReader(CHUNK_BYTES)
        pipe = os.fdopen(self._read, "rb", buffering=0)
        transport, _ = await get_running_loop().connect_read_pipe(lambda: StreamReaderProtocol(reader), pipe)
        try:
            while chunk := await _next_chunk(reader):
                yield chunk
            if self._wait():
                raise SnapshotFailed("the process that takes the snapshot has failed")
        finally:
            transport.close()

    def end(self) -> None:
        """Idempotent."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            self._wait()

    def _wait(self) -> int:
        """The status of the process. It closes the pipe when it ends, so this takes no time behind the last chunk."""
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        return status


async def _next_chunk(reader: StreamReader) -> bytes:
    """Empty at the end."""
    try:
        return await reader.readexactly(CHUNK_BYTES)
    except IncompleteReadError as last:
        return last.partial


def _write_and_exit(fold: Fold, write: int) -> NoReturn:
    """Nothing of the process that was forked runs here: no end of it, no handler of signals, no file but the pipe."""
    try:
        with suppress(ValueError):  # of another thread than the main one
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
        gc.disable()
        os.closerange(_STREAMS, write)
        os.closerange(write + 1, _MAX_FILES)
        os.nice(PRIORITY)
        for chunk in take(fold):
            left = memoryview(chunk)
            while left:
                left = left[os.write(write, left) :]
        os._exit(0)
    finally:
        os._exit(1)
