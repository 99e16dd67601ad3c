"""Who has a file: one plainmq at a time, by whatever name it came, and only as long as the name leads to that file.

A lock on the file itself holds for every name of it. One on `<file>.lock` holds for its place, where there may be no
file yet, or another one soon. What SQLite keeps beside the file (-wal, -shm) it finds by the file's name: so a file
that has two names of which neither leads to the other is not served, for each name would hide what the other has.
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from ...errors import PlainmqError
from ...errors.denied import reason

_BESIDE: Final = ("", ".lock", "-wal", "-shm")  # the file, and what is beside it while it is served
_MOUNTS: Final = Path("/proc/self/mountinfo")  # of Linux; elsewhere no file can be mounted by itself

_Identity = tuple[int, int]


class StoreUnusable(PlainmqError):
    """The file cannot be served; the text says what to do."""

    code = "store_unusable"


class Displaced(OSError):
    """What a name leads to is not what was opened."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is not the file that was opened: it was removed, or another was put in its place. "
            f"Put it back, or start the server anew"
        )


def real(path: Path) -> Path:
    """The name to which all links to the file lead. Raises StoreUnusable when something else than a file is there."""
    found = Path(os.path.realpath(path))
    try:
        about = found.stat()
    except FileNotFoundError:
        return found
    except OSError as error:
        raise StoreUnusable(unusable(path, error)) from None
    if not stat.S_ISREG(about.st_mode):
        kind = "a folder" if stat.S_ISDIR(about.st_mode) else "a device or a pipe"
        raise StoreUnusable(f"{path} is not a file, it is {kind}: choose a file that can be written")
    return found


def check_names(path: Path) -> None:
    """Raises StoreUnusable when the file, which is there, has another name with a -wal of its own."""
    if (names := path.stat().st_nlink) > 1:
        raise StoreUnusable(
            f"{path} has {names} names (hard links), and what is newest is beside one of them: remove the others"
        )
    if str(path) in _mounts():
        raise StoreUnusable(
            f"{path} is mounted by itself: mount its folder, for what is newest is beside the file, not in it"
        )


def _mounts() -> Iterator[str]:
    with suppress(OSError):
        for line in os.fsdecode(_MOUNTS.read_bytes()).splitlines():
            yield _unescaped(line.split(" ")[4])


def _unescaped(text: str) -> str:
    """`a\\040b` → `a b`"""
    for escape in (r"\040", r"\011", r"\012", r"\134"):
        text = text.replace(escape, chr(int(escape[1:], 8)))
    return text


class Held:
    """A file and its place, locked."""

    def __init__(self, path: Path, create: bool = True) -> None:
        """`path`: a real() one. Without `create`, the file need not be there. Raises StoreUnusable."""
        self.path = path
        self._files: list[int] = []
        self._known: dict[Path, _Identity] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.lock = self._take(Path(f"{path}.lock"))
            if create or path.exists():
                self._take(path)
            self.look()
        except BaseException as error:
            self.release()
            if isinstance(error, OSError):
                raise StoreUnusable(_sentence(path, error)) from None
            raise

    def _take(self, path: Path) -> int:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)  # messages are nobody else's business
        self._files.append(file)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._known[path] = _identity(os.fstat(file))
        return file

    def watch(self) -> None:
        """From now on all that is beside the file is to stay what it is."""
        beside = [Path(f"{self.path}{suffix}") for suffix in _BESIDE]
        self._known = {path: self._known.get(path) or _identity(path.stat()) for path in beside}

    def look(self) -> None:
        """Raises Displaced when a name does not lead to what was opened."""
        for path, known in self._known.items():
            try:
                found = _identity(path.stat())
            except OSError:
                raise Displaced(path) from None
            if found != known:
                raise Displaced(path)

    def release(self) -> None:
        """SQLite must have closed the file: its locks end when anybody in this process closes it."""
        for file in self._files:
            os.close(file)
        self._files.clear()


def _identity(about: os.stat_result) -> _Identity:
    return about.st_dev, about.st_ino


def _sentence(path: Path, error: OSError) -> str:
    if isinstance(error, Displaced):
        return str(error)
    if isinstance(error, BlockingIOError):
        return f"{path} is in use by another plainmq: stop that one, or choose another file"
    return unusable(path, error)


def unusable(path: Path, error: OSError) -> str:
    return f"{path} cannot be used: {reason(path, error)}; choose a file in a folder that can be written{_hint(path)}"


def _hint(path: Path) -> str:
    """Who writes `sqlite:///log.db` may mean a file in this folder, and it is one at the root."""
    begin = Path(*path.parts[:2])
    if not path.is_absolute() or (begin != path and begin.exists()):
        return ""
    return f" ({path} begins at the root of the file system; sqlite:{path.relative_to('/')} is in this folder)"
