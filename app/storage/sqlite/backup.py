"""Backup and restore: copies of the file, made while it is served or not.

A copy has the state of one moment. It is marked as a copy, so that a log that continues from it begins a new epoch:
messages that were accepted after that moment are missing.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec

from ...net.flush import flush_to_disk
from ..unusable import StoreUnusable
from .file import PAGE_SIZE, check, identify, open_read_only
from .file_lock import FileLock, check_names, real_path
from .schema import migrate
from .state import count_messages

_STEP: Final = 256  # pages, 1 MiB, between two reports of progress

Progress = Callable[[int, int], None]
"""Called with the bytes that are copied, and the total."""


def backup(path: Path, destination: Path, progress: Progress) -> int:
    """Copy a store, which may be served meanwhile, to a new file. Returns the number of messages. Raises
    StoreUnusable."""
    if os.path.lexists(destination):
        raise StoreUnusable(f"{destination} exists already: choose another name for the copy")
    with _copied(path, destination, progress) as (copy, count):
        copy.replace(destination)
    flush_to_disk(destination.parent)
    return count


def restore(copy: Path, path: Path, replace: bool, progress: Progress) -> int:
    """Restore a store from a copy; with `replace`, over an existing one. Returns the number of messages. Raises
    StoreUnusable; the store is unchanged then."""
    path = real_path(path)
    with _unserved(path):
        if os.path.lexists(path) and not replace:
            raise StoreUnusable(f"{path} exists already: give --replace to replace it with the copy")
        with _copied(copy, path, progress) as (new, count):
            _drop_logs(path)
            new.replace(path)
        flush_to_disk(path.parent)
    return count


@contextmanager
def _unserved(path: Path) -> Iterator[None]:
    """No server uses the store, and none can start on it."""
    lock = FileLock(path, create=False)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _copied(source: Path, destination: Path, progress: Progress) -> Iterator[tuple[Path, int]]:
    """A complete and checked copy in a temporary folder beside its destination, and its number of messages."""
    source = real_path(source)
    if not source.exists():
        raise StoreUnusable(f"{source} does not exist: expected the file of a store")
    check_names(source)
    try:
        with TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}.") as folder:
            copy = Path(folder, "copy")
            copy.touch(0o600)  # messages are private
            yield copy, _copy(source, copy, progress)
    except (sqlite3.Error, msgspec.DecodeError) as error:
        raise StoreUnusable(f"{source} cannot be copied to {destination}: {error}") from None
    except OSError as error:
        raise StoreUnusable(f"{destination} cannot be written: {error.strerror}") from None


def _copy(source: Path, copy: Path, progress: Progress) -> int:
    with closing(open_read_only(source)) as old, closing(sqlite3.connect(copy, isolation_level=None)) as new:
        identify(old, source)
        old.execute("BEGIN")  # fixes the moment of the copy: without it, each commit would restart the copy
        if not old.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            raise StoreUnusable(f"{source} contains no log: it is empty")
        old.backup(
            new, pages=_STEP, progress=lambda _, left, total: progress((total - left) * PAGE_SIZE, total * PAGE_SIZE)
        )  # fmt: skip
        new.execute("PRAGMA journal_mode = DELETE")  # one file, without a -wal beside it
        check(new)
        migrate(new)
        new.execute("INSERT OR REPLACE INTO state VALUES ('copy', 'yes')")
        count = count_messages(new)
    flush_to_disk(copy)
    return count


def _drop_logs(path: Path) -> None:
    """Remove the -wal of a store that is replaced: beside the new file, SQLite would write it into that. First the old
    store gets its contents, so that it is complete if the restore ends here."""
    if path.exists():
        with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as old:  # a damaged store needs none
            old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in ("-wal", "-shm", "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    flush_to_disk(path.parent)
