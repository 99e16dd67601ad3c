"""The file of a store: a SQLite database that one process serves at a time, and that is checked when it is opened.

Beside it is `<file>.lock`, which contains the epoch and seq of the newest commit. A file whose newest message is older
was restored from a copy.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

import msgspec

from ...log.epochs import Epochs, new_epoch
from ...telemetry.log import log_event
from ..unusable import StoreUnusable
from .file_contents import FileContents
from .file_lock import FileLock, check_names, real_path, unusable
from .schema import APPLICATION, NEWEST, migrate

Synchronous = Literal["full", "relaxed"]

PAGE_SIZE: Final = 4_096  # bytes
CACHE_SIZE: Final = 16 << 20  # bytes of pages that SQLite caches
BUSY_TIMEOUT: Final = 250  # milliseconds to wait for the lock of another process; there should be none
MIN_FREE_PAGES: Final = 256  # 1 MiB that stays free in the file, for new messages
VACUUM_PAGES: Final = 128  # half a MiB, freed at a time, so that no pause is long
WAL_SIZE: Final = 16 << 20  # bytes to which a longer -wal file is truncated


class StoreFile:
    """An open store. Only the thread that opened it may use it."""

    def __init__(self, path: Path, synchronous: Synchronous) -> None:
        """Raises StoreUnusable."""
        self.path = path = real_path(path)  # SQLite takes an absolute path for nothing else
        self._synchronous = synchronous
        self.lock = FileLock(path)
        self.contents: FileContents | None = None  # once the file is served
        try:
            check_names(path)
            with explaining_errors(path):
                _examine(path, self.lock)
                self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
                _tune(self.db, synchronous)
                migrate(self.db)
        except BaseException:
            self.lock.release()
            raise

    # Epochs

    def begin(self, head: int) -> Epochs:
        """The epochs of the log, whose newest message is `head`. A new epoch begins if the end of the last one may be
        missing."""
        with explaining_errors(self.path):
            rows = self.db.execute("SELECT name, last FROM epoch ORDER BY number").fetchall()
            self.db.execute("BEGIN IMMEDIATE")
            if rows and self._may_be_cut(rows[-1][0], head):
                self.db.execute("UPDATE epoch SET last = ? WHERE last IS NULL", (head,))
                rows[-1] = (rows[-1][0], head)
            if not rows:  # nothing else would reveal a typo in the path
                log_event("a new log begins, for there was none", file=str(self.path))
            if not rows or rows[-1][1] is not None:
                rows.append((new_epoch(), None))
                self.db.execute("INSERT INTO epoch (name) VALUES (?)", (rows[-1][0],))
            self._set_state("running", self._synchronous)
            self._set_state("copy", "no")
            self.db.execute("COMMIT")
            self.lock.watch()
            self.contents = FileContents(self.path)
        self.mark(rows[-1][0], head)
        return Epochs(rows[-1][0], rows[:-1])

    def _may_be_cut(self, epoch: str, head: int) -> bool:
        """True if confirmed messages at the end may be missing: after a crash in relaxed mode, or in an older copy."""
        marked, _, seq = os.pread(self.lock.lock_file, 100, 0).decode("ascii", "replace").strip().partition(" ")
        older = bool(marked) and (marked != epoch or not seq.isdigit() or int(seq) > head)
        return older or self._state("running") == "relaxed" or self._state("copy") == "yes"

    def mark(self, epoch: str, seq: int) -> None:
        """Write the newest commit to the lock file."""
        with suppress(OSError):  # then an older copy may not be recognised; nothing else is lost
            os.pwrite(self.lock.lock_file, f"{epoch} {seq:<20}\n".encode(), 0)

    def _state(self, name: str) -> str:
        row = self.db.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return row[0] if row else ""

    def _set_state(self, name: str, value: str) -> None:
        self.db.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, value))

    # Maintenance

    def vacuum(self) -> bool:
        """Free VACUUM_PAGES pages if many are unused. Returns True if they were. Raises sqlite3.Error or
        ForeignChange."""
        free = self.db.execute("PRAGMA freelist_count").fetchone()[0]
        many: bool = free > MIN_FREE_PAGES and free * 4 > self.db.execute("PRAGMA page_count").fetchone()[0]
        if many:
            assert self.contents is not None
            with self.contents.uncounted():
                # execute() would free one page only; the checkpoint makes the file shorter
                self.db.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES}); PRAGMA wal_checkpoint")
        return many

    def free_disk(self) -> int:
        """Free bytes on the disk of the file."""
        disk = os.statvfs(self.path)
        return disk.f_bavail * disk.f_frsize

    def close(self) -> None:
        if self.contents is not None and not self.contents.may_checkpoint:
            self._close_unread()
            return
        with suppress(sqlite3.Error):  # then the next start takes it for a crash
            self._set_state("running", "")
        with suppress(sqlite3.Error):
            self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.abandon()

    def abandon(self) -> None:
        """Release the file without a change: it was not served."""
        self.db.close()
        if self.contents is not None:
            self.contents.release()
        self.lock.release()

    def _close_unread(self) -> None:
        """Close without a checkpoint. SQLite makes one when the last connection is closed, unless that is
        read-only."""
        with suppress(sqlite3.Error), closing(open_read_only(self.path)) as last:
            last.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            self.db.close()
        self.abandon()


def open_read_only(path: Path) -> sqlite3.Connection:
    """A read-only connection: it does not even write the -wal into the file."""
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)


def identify(db: sqlite3.Connection, path: Path) -> None:
    """Raises StoreUnusable if the database is of another program, or of a newer plainmq."""
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if has_tables(db) and application != APPLICATION:
        raise StoreUnusable(f"{path} is a database of another program: give plainmq a file of its own")
    if version > NEWEST:
        raise StoreUnusable(f"{path} was written by a newer plainmq (schema {version}): use that one")


def has_tables(db: sqlite3.Connection) -> bool:
    return bool(db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])


def check(db: sqlite3.Connection) -> None:
    """Raises sqlite3.DatabaseError if the database is damaged."""
    problems = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if problems != "ok":
        raise sqlite3.DatabaseError(problems.splitlines()[-1])


def _examine(path: Path, lock: FileLock) -> None:
    """Raises an error if the file cannot be served. The connection is read-only: another one could write a -wal into
    it."""
    with closing(open_read_only(path)) as db:
        identify(db, path)
        check(db)
        if not has_tables(db):
            lock.check_new()


def _tune(db: sqlite3.Connection, synchronous: Synchronous) -> None:
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT}", f"page_size = {PAGE_SIZE}", "auto_vacuum = INCREMENTAL", "journal_mode = WAL",
        f"synchronous = {'FULL' if synchronous == 'full' else 'NORMAL'}", f"cache_size = -{CACHE_SIZE >> 10}",
        f"journal_size_limit = {WAL_SIZE}", "trusted_schema = OFF", "secure_delete = FAST",
    ):  # fmt: skip
        db.execute(f"PRAGMA {pragma}")


@contextmanager
def explaining_errors(path: Path) -> Iterator[None]:
    """Turns errors of SQLite into StoreUnusable, with a sentence for people."""
    try:
        yield
    except OSError as error:
        raise StoreUnusable(unusable(path, error)) from None
    except sqlite3.OperationalError as error:
        raise StoreUnusable(
            f"{path} cannot be used ({error}): see that its disk has space and can be written, "
            f"and that no other program has it open"
        ) from None
    except (sqlite3.DatabaseError, msgspec.DecodeError, LookupError) as error:
        raise StoreUnusable(
            f"{path} is damaged ({error}): nothing was changed in it. Restore a backup with `plainmq restore`, "
            f"or move the file and {path}-wal away to start with an empty log"
        ) from None
