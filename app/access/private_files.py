"""Private files: they are made with mode 0600, and refused if other users can use them.

Who changes a file that has more than one writer locks it: a server and `plainmq token` may change the tokens at a time.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Final

from ..errors import PlainmqError
from ..errors.denied import reason
from ..net.flush import flush_to_disk
from ..net.regular_file import USUAL, read_regular

PRIVATE: Final = 0o600
_OTHERS: Final = 0o077
LOCK_TIMEOUT: Final = 5.0  # seconds: who has the lock reads and writes a few MB
_LOCK_POLL: Final = 0.01  # seconds


class FileInvalid(PlainmqError):
    code = "file_invalid"


def read_private(path: Path) -> bytes:
    """Raises FileInvalid if the file is missing, or if other users may read or write it."""
    data, mode = read_with_mode(path)
    check_mode(path, mode)
    return data


def read_with_mode(path: Path, most: int = USUAL) -> tuple[bytes, int]:
    """The contents and the mode. Raises FileInvalid, also for more than `most` bytes."""
    try:
        return read_regular(path, most)
    except OSError as error:
        raise FileInvalid(f"{path} cannot be read: {reason(path, error)}") from None


def check_mode(path: Path, mode: int) -> None:
    """Raises FileInvalid if other users may read or write the file."""
    if mode & _OTHERS:
        raise FileInvalid(f"{path} has the mode {mode:04o}, so others may use it: chmod 600 {path}")


def check_place(path: Path) -> None:
    """Raises FileInvalid when it can be known beforehand that the file cannot be written. Nothing is made."""
    try:
        place = next(place for place in (path, *path.absolute().parents) if place.exists())
        if place == path and not path.is_file():
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if place != path and not place.is_dir():
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(place, os.W_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise FileInvalid(f"{path} cannot be written: {reason(path, error)}") from None


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Raises FileInvalid for an OSError within."""
    try:
        yield
    except OSError as error:
        raise FileInvalid(f"{path} cannot be written: {reason(path, error)}") from None


@contextmanager
def locked(path: Path) -> Iterator[FileIO]:
    """The file, open to append to it, and locked against others that do the same. The file and its folder are made if
    need be. Raises FileInvalid, also when others have it locked for long."""
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        with _opened(path) as file:
            if _is_locked(path, file):
                yield file
                return
        if time.monotonic() > deadline:
            raise FileInvalid(f"{path} cannot be written: another process has had it locked for {LOCK_TIMEOUT:g} s")
        time.sleep(_LOCK_POLL)


def _opened(path: Path) -> FileIO:
    with _writing(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.fdopen(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, PRIVATE), "rb+", buffering=0)


def _is_locked(path: Path, file: FileIO) -> bool:
    """Lock it. False if others have the lock, or have replaced the file meanwhile."""
    with _writing(path):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.path.samestat(os.fstat(file.fileno()), path.stat())
        except (BlockingIOError, FileNotFoundError):
            return False


@contextmanager
def held(path: Path) -> Iterator[None]:
    """The file is locked within the block, or until the process ends in any way. If it cannot be locked, nothing is."""
    with ExitStack() as stack:
        with suppress(OSError, FileInvalid):
            _is_locked(path, stack.enter_context(path.open("rb", buffering=0)))
        yield


def remove_abandoned(path: Path) -> None:
    """Remove the file, unless another process holds it."""
    with suppress(OSError, FileInvalid), path.open("rb", buffering=0) as file:
        if _is_locked(path, file):
            path.unlink()


def append_line(path: Path, file: FileIO, line: bytes) -> None:
    """Append a line to a locked file, in one write. Raises FileInvalid."""
    with _writing(path):
        whole = not file.seek(0, os.SEEK_END) or os.pread(file.fileno(), 1, file.tell() - 1) == b"\n"
        file.write(line + b"\n" if whole else b"\n" + line + b"\n")
        os.fsync(file.fileno())


def rewrite(path: Path, file: FileIO, data: bytes) -> None:
    """Replace a locked file atomically; its owner stays. Raises FileInvalid."""
    target = path.resolve()  # not the link to it
    new = _beside(target)
    with _writing(path), _removed_on_error(new):
        _write(new, data, os.fstat(file.fileno()).st_uid)
        new.replace(target)
        flush_to_disk(target.parent)


def write_private(path: Path, data: bytes, replace: bool) -> None:
    """Write the file atomically. `replace`: overwrite an existing file, or else leave it as it is. The folder is made
    if need be. Raises FileInvalid."""
    new = _beside(path)
    with _writing(path), _removed_on_error(new):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(new, data, os.geteuid())
        if replace:
            new.replace(path)
        else:
            with suppress(FileExistsError):
                os.link(new, path)
            new.unlink()


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}")


@contextmanager
def _removed_on_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError:
        with suppress(OSError):
            path.unlink()
        raise


def _write(path: Path, data: bytes, owner: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE), "wb") as file:
        if owner != os.geteuid():  # so root does not take a file away from the server's user
            os.fchown(file.fileno(), owner, -1)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
