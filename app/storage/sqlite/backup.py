"""Copies of the file: made while it is served or not, and put back in its place.

A copy is what one moment's readers would see. It says of itself that it is one, so that the log which goes on from it
begins a new epoch: what was accepted after that moment is not in it.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec

from .file import PAGE, check, identify, reading
from .file_lock import Held, StoreUnusable, check_names, real
from .schema import migrate
from .state import count_messages

_STEP: Final = 256  # pages between two words of progress: 1 MiB

Progress = Callable[[int, int], None]
"""Told the bytes that are copied, and of how many."""


def backup(path: Path, destination: Path, progress: Progress) -> int:
    """Copy the store, which may be served meanwhile, to a file that is not there yet; answers how many messages it
    has. Raises StoreUnusable."""
    if os.path.lexists(destination):
        raise StoreUnusable(f"{destination} is there already: choose another name for the copy")
    with _copied(path, destination, progress) as (copy, count):
        copy.replace(destination)
    _sync(destination.parent)
    return count


def restore(copy: Path, path: Path, replace: bool, progress: Progress) -> int:
    """Put a copy in the store's place; with `replace`, also where there is one. Answers how many messages it has.
    Raises StoreUnusable; then the store is as it was."""
    path = real(path)
    with _unserved(path):
        if os.path.lexists(path) and not replace:
            raise StoreUnusable(f"{path} is there already: give --replace to put the copy in its place")
        with _copied(copy, path, progress) as (new, count):
            _drop_logs(path)
            new.replace(path)
        _sync(path.parent)
    return count


@contextmanager
def _unserved(path: Path) -> Iterator[None]:
    """No server has the store, and none can start on it."""
    held = Held(path, create=False)
    try:
        yield
    finally:
        held.release()


@contextmanager
def _copied(source: Path, destination: Path, progress: Progress) -> Iterator[tuple[Path, int]]:
    """A whole and checked copy in a folder beside its destination, and how many messages it has."""
    source = real(source)
    if not source.exists():
        raise StoreUnusable(f"{source} is not there: expected the file of a store")
    check_names(source)
    try:
        with TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}.") as folder:
            copy = Path(folder, "copy")
            copy.touch(0o600)  # messages are nobody else's business
            yield copy, _copy(source, copy, progress)
    except (sqlite3.Error, msgspec.DecodeError) as error:
        raise StoreUnusable(f"{source} cannot be copied to {destination}: {error}") from None
    except OSError as error:
        raise StoreUnusable(f"{destination} cannot be written: {error.strerror}") from None


def _copy(source: Path, copy: Path, progress: Progress) -> int:
    with closing(reading(source)) as old, closing(sqlite3.connect(copy, isolation_level=None)) as new:
        identify(old, source)
        old.execute("BEGIN")  # the moment, whatever is published from now on: or each commit would start it anew
        if not old.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            raise StoreUnusable(f"{source} holds no log: it is empty")
        old.backup(
            new, pages=_STEP, progress=lambda _, left, total: progress((total - left) * PAGE, total * PAGE)
        )  # fmt: skip
        new.execute("PRAGMA journal_mode = DELETE")  # one file, without a -wal beside it
        check(new)
        migrate(new)
        new.execute("INSERT OR REPLACE INTO state VALUES ('copy', 'yes')")
        count = count_messages(new)
    _sync(copy)
    return count


def _drop_logs(path: Path) -> None:
    """Remove the -wal of a store that is to go: beside another file it would be written into that one. What it holds
    goes into the old store first, which so stays whole if this is the last that happens."""
    if path.exists():
        with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as old:  # a damaged one just goes
            old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in ("-wal", "-shm", "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """What was written is on the disk: a file's bytes, or a folder's names."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
