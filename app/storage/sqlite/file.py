"""The file: a SQLite database that one process serves at a time, checked when it is opened, and of a schema we know.

Beside it lies `<file>.lock`, which holds the epoch and seq of the newest commit. A file that has less than that was put
back from an older copy.
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
from .file_lock import Held, StoreUnusable, check_names, real, unusable
from .schema import APPLICATION, NEWEST, migrate

Synchronous = Literal["full", "relaxed"]

PAGE: Final = 4_096  # bytes of the database's pages
CACHE: Final = 16 << 20  # bytes of pages that SQLite keeps in memory
BUSY: Final = 250  # milliseconds to wait for somebody else's lock: nobody should have one
SPARE: Final = 256  # free pages, 1 MiB, that stay for what comes
VACUUM: Final = 128  # those that are given back at a time: half a MiB, so that no pause is long
WAL: Final = 16 << 20  # bytes of the -wal file that stay when it has been longer


class StoreFile:
    """Opened in one thread, and used in that one only."""

    def __init__(self, path: Path, synchronous: Synchronous) -> None:
        """Raises StoreUnusable."""
        self.path = path = real(path)  # an absolute path is never anything else to SQLite
        self._synchronous = synchronous
        self.held = Held(path)
        try:
            check_names(path)
            with explained(path):
                _examine(path)
                self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
                _tune(self.db, synchronous)
                migrate(self.db)
        except BaseException:
            self.held.release()
            raise

    # One life of the log

    def begin(self, head: int) -> Epochs:
        """The epochs of a log whose newest message was `head`; with a new one if the last may have lost its end."""
        with explained(self.path):
            rows = self.db.execute("SELECT name, last FROM epoch ORDER BY number").fetchall()
            self.db.execute("BEGIN IMMEDIATE")
            if rows and self._may_be_cut(rows[-1][0], head):
                self.db.execute("UPDATE epoch SET last = ? WHERE last IS NULL", (head,))
                rows[-1] = (rows[-1][0], head)
            if not rows:  # a slip in the path would be seen by nothing else
                log_event("a new log begins, for there was none", file=str(self.path))
            if not rows or rows[-1][1] is not None:
                rows.append((new_epoch(), None))
                self.db.execute("INSERT INTO epoch (name) VALUES (?)", (rows[-1][0],))
            self._set_state("running", self._synchronous)
            self._set_state("copy", "no")
            self.db.execute("COMMIT")
            self.held.watch()
        self.mark(rows[-1][0], head)
        return Epochs(rows[-1][0], rows[:-1])

    def _may_be_cut(self, epoch: str, head: int) -> bool:
        """Whether confirmed messages at the end may be missing: relaxed and not closed, or an older copy."""
        marked, _, seq = os.pread(self.held.lock, 100, 0).decode("ascii", "replace").strip().partition(" ")
        older = bool(marked) and (marked != epoch or not seq.isdigit() or int(seq) > head)
        return older or self._state("running") == "relaxed" or self._state("copy") == "yes"

    def mark(self, epoch: str, seq: int) -> None:
        """Leave word beside the file of how far it goes."""
        with suppress(OSError):  # then an older copy may go unnoticed, and nothing else is lost
            os.pwrite(self.held.lock, f"{epoch} {seq:<20}\n".encode(), 0)

    def _state(self, name: str) -> str:
        row = self.db.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return row[0] if row else ""

    def _set_state(self, name: str, value: str) -> None:
        self.db.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, value))

    # Upkeep

    def vacuum(self) -> bool:
        """Give back some of the pages that are free, if they are many: whether they were."""
        free = self.db.execute("PRAGMA freelist_count").fetchone()[0]
        many: bool = free > SPARE and free * 4 > self.db.execute("PRAGMA page_count").fetchone()[0]
        if many:
            # execute() would give back one page only; the file is shorter when the -wal is in it
            self.db.executescript(f"PRAGMA incremental_vacuum({VACUUM}); PRAGMA wal_checkpoint")
        return many

    def free_disk(self) -> int:
        """Bytes that are left on the file's disk."""
        disk = os.statvfs(self.path)
        return disk.f_bavail * disk.f_frsize

    def close(self) -> None:
        with suppress(sqlite3.Error):  # then the next start finds a file that was not closed
            self._set_state("running", "")
        with suppress(sqlite3.Error):
            self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.abandon()

    def abandon(self) -> None:
        """Give it back without a word in it: it was not served."""
        self.db.close()
        self.held.release()


def reading(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing, not even what a -wal would put into the file."""
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)


def identify(db: sqlite3.Connection, path: Path) -> None:
    """Whether it is ours, before anything in it is changed. Raises StoreUnusable."""
    known = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    empty = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    if not empty and known != APPLICATION:
        raise StoreUnusable(f"{path} is a database of another program: give plainmq a file of its own")
    if version > NEWEST:
        raise StoreUnusable(f"{path} was written by a newer plainmq (schema {version}): use that one")


def check(db: sqlite3.Connection) -> None:
    """Raises sqlite3.DatabaseError when pages or rows do not fit together."""
    problems = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if problems != "ok":
        raise sqlite3.DatabaseError(problems.splitlines()[-1])


def _examine(path: Path) -> None:
    """Whether it can be served: by a connection that only reads, or it might put a -wal into a file that cannot."""
    with closing(reading(path)) as db:
        identify(db, path)
        check(db)


def _tune(db: sqlite3.Connection, synchronous: Synchronous) -> None:
    for pragma in (
        f"busy_timeout = {BUSY}", f"page_size = {PAGE}", "auto_vacuum = INCREMENTAL", "journal_mode = WAL",
        f"synchronous = {'FULL' if synchronous == 'full' else 'NORMAL'}", f"cache_size = -{CACHE >> 10}",
        f"journal_size_limit = {WAL}", "trusted_schema = OFF", "secure_delete = FAST",
    ):  # fmt: skip
        db.execute(f"PRAGMA {pragma}")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """What SQLite says, as a sentence for people."""
    try:
        yield
    except OSError as error:
        raise StoreUnusable(unusable(path, error)) from None
    except sqlite3.OperationalError as error:
        raise StoreUnusable(
            f"{path} cannot be used ({error}): see that its disk has room and can be written, "
            f"and that no other program has it open"
        ) from None
    except (sqlite3.DatabaseError, msgspec.DecodeError, LookupError) as error:
        raise StoreUnusable(
            f"{path} is damaged ({error}): nothing was changed in it. Restore a backup with `plainmq restore`, "
            f"or move the file and {path}-wal away to start with an empty log"
        ) from None
