"""The lock of a store: one process serves a file at a time, by whatever name it opened the file.

There are two locks. One is on the file itself, and so holds for all its names. The other is on `<file>.lock`, and holds
for the name: there may be no file yet, and the file may be replaced. SQLite finds its -wal and -shm files by the file's
name. So a file with two hard links is not served: under one name, messages in the -wal of the other would be missing.
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from ...errors.denied import reason
from ..unusable import StoreUnusable

_SUFFIXES: Final = ("", ".lock", "-wal", "-shm")  # the file, and those beside it while it is served
_NOT_A_STORE: Final = ("-wal", "-shm", "-journal", ".lock")  # behind the name of a store: a file of that one
_MOUNTS: Final = Path("/proc/self/mountinfo")  # on Linux; elsewhere a single file cannot be mounted

_Identity = tuple[int, int]


class ForeignChange(OSError):
    """Another program has changed a file that is served. The text says what to do."""


class FileReplaced(ForeignChange):
    """A name does not lead to the file that was opened."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is not the file that was opened: it was removed, or another was put in its place. "
            f"Put it back, or restart the server"
        )


def real_path(path: Path) -> Path:
    """The path without symbolic links. Raises StoreUnusable if it exists and is not a regular file."""
    found = Path(os.path.realpath(path))
    try:
        status = found.stat()
    except FileNotFoundError:
        return found
    except OSError as error:
        raise StoreUnusable(unusable(path, error)) from None
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device or a pipe"
        raise StoreUnusable(f"{path} is {kind}, not a file: choose a file that can be written")
    return found


def check_names(path: Path) -> None:
    """Raises StoreUnusable if the file, which must exist, has another name, under which there may be another -wal."""
    if (names := path.stat().st_nlink) > 1:
        raise StoreUnusable(
            f"{path} has {names} names (hard links), and its newest messages are in a file beside one of them: "
            f"remove the others"
        )
    if str(path) in _mounts():
        raise StoreUnusable(
            f"{path} is mounted as a single file: mount its folder, because the newest messages are in a file beside it"
        )


def _check_suffix(path: Path) -> None:
    """Raises StoreUnusable for `log.db-wal`: a server on `log.db` has its newest messages there."""
    for suffix in _NOT_A_STORE:
        if path.name.endswith(suffix) and path.name != suffix:
            store = path.name.removesuffix(suffix)
            raise StoreUnusable(f"{path} is a file that belongs to {store}: choose one that does not end in {suffix}")


def _mounts() -> Iterator[str]:
    with suppress(OSError):
        for line in os.fsdecode(_MOUNTS.read_bytes()).splitlines():
            yield _unescaped(line.split(" ")[4])


def _unescaped(text: str) -> str:
    """`a\\040b` → `a b`"""
    for escape in (r"\040", r"\011", r"\012", r"\134"):
        text = text.replace(escape, chr(int(escape[1:], 8)))
    return text


class FileLock:
    """The locks of a store."""

    def __init__(self, path: Path, create: bool = True) -> None:
        """`path`: from real_path(). Without `create`, the file need not exist. Raises StoreUnusable."""
        _check_suffix(path)
        self.path = path
        self._files: list[int] = []
        self._identities: dict[Path, _Identity] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.lock_file = self._lock(real_path(Path(f"{path}.lock")))
            if create:
                self._check_lost()
            if create or path.exists():
                self._lock(path)
            self.check()
        except BaseException as error:
            self.release()
            if isinstance(error, OSError):
                raise StoreUnusable(_sentence(path, error)) from None
            raise

    def _lock(self, path: Path) -> int:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)  # messages are private
        self._files.append(file)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._identities[path] = _identity(os.fstat(file))
        return file

    def _check_lost(self) -> None:
        """Raises StoreUnusable if the file is empty, and another beside it shows that it was not. SQLite would remove
        the -wal, which has the newest messages, or all. A file that is missing was removed on purpose."""
        wal, exists = Path(f"{self.path}-wal"), self.path.exists()
        if exists and self.path.stat().st_size:
            return
        if wal.exists() and wal.stat().st_size:
            raise StoreUnusable(_lost(self.path, wal))
        if exists:
            self.check_new()
        os.ftruncate(self.lock_file, 0)  # a start that ends before it has written the file can be repeated

    def check_new(self) -> None:
        """Call it if the file has no tables. Raises StoreUnusable if the lock file shows that it had them: until the
        first checkpoint, all are in the -wal."""
        if os.fstat(self.lock_file).st_size:
            raise StoreUnusable(_lost(self.path, Path(f"{self.path}.lock")))

    def watch(self) -> None:
        """From now on, check() checks the -wal and -shm files too."""
        paths = [Path(f"{self.path}{suffix}") for suffix in _SUFFIXES]
        self._identities = {path: self._identities.get(path) or _identity(path.stat()) for path in paths}

    def check(self) -> None:
        """Raises FileReplaced if a name does not lead to the file that was opened."""
        for path, opened in self._identities.items():
            try:
                found = _identity(path.stat())
            except OSError:
                raise FileReplaced(path) from None
            if found != opened:
                raise FileReplaced(path)

    def release(self) -> None:
        """Call it after SQLite has closed the file: closing a file ends all locks that SQLite has on it in this
        process."""
        for file in self._files:
            os.close(file)
        self._files.clear()


def _lost(path: Path, witness: Path) -> str:
    return (
        f"{path} is empty or missing, or has lost its -wal, but {witness} shows that there was a log: restore a "
        f"backup with `plainmq restore`, or move {path}, {path}-wal and {path}.lock away to begin a new log"
    )


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino


def _sentence(path: Path, error: OSError) -> str:
    if isinstance(error, FileReplaced):
        return str(error)
    if isinstance(error, BlockingIOError):
        return f"{path} is in use by another plainmq: stop that one, or choose another file"
    return unusable(path, error)


def unusable(path: Path, error: OSError) -> str:
    return f"{path} cannot be used: {reason(path, error)}; choose a file in a folder that can be written{_hint(path)}"


def _hint(path: Path) -> str:
    """`sqlite:///log.db` is a file at the root; the user may mean one in the working directory."""
    top = Path(*path.parts[:2])
    if not path.is_absolute() or (top != path and top.exists()):
        return ""
    return f" ({path} begins at the root of the file system; sqlite:{path.relative_to('/')} is in this folder)"
