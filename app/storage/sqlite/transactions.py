"""Transactions: decisions of the state machine count once they are committed; otherwise they are undone."""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ...log.changes import Records
from ...log.groups.groups import Settled
from ...log.log import LogRecord
from ...log.state import LogStateMachine, Pending
from ...log.topic_log import Limits
from .file import StoreFile, Synchronous, explaining_errors
from .file_contents import FileChanged, FileContents
from .file_lock import ForeignChange
from .messages import DiskMessageStore
from .row import origin_of, priority_of
from .state import StateRecords, check_counts, read_notes


class Unconfirmed(Exception):
    """A transaction was committed, but then the files were found changed: it may be lost. The cause says how."""

    def __init__(self, change: ForeignChange) -> None:
        super().__init__(str(change))
        self.change = change


class Store:
    """The state machine and its file. For use in one thread."""

    def __init__(self, path: Path, synchronous: Synchronous, limits: Limits, server_run: str) -> None:
        """`server_run` names this run of the server: its connections outlive a reload of the state machine. Raises
        StoreUnusable."""
        self.file = StoreFile(path, synchronous)
        self.stale = True  # the state machine differs from the file
        self._server_run = server_run
        self._pending = Pending({}, {}, Settled())  # at the beginning of the last transaction
        self._limits = limits
        try:
            with explaining_errors(path):
                notes = read_notes(self.file.db)
                check_counts(self.file.db, notes)
                head: LogRecord = notes["log"].get((), LogRecord())
                self.epochs = self.file.begin(head.head)
                self.load(notes)
                self.core.trimmer.find_over_retention()
        except BaseException:
            self.file.abandon()
            raise

    def load(self, notes: Records | None = None) -> None:
        """Load the state machine from the file. `notes`: the records, if they have been read already. Raises
        sqlite3.Error; then the state is stale."""
        self.stale = True
        db, notes = self.file.db, notes or read_notes(self.file.db)
        left = notes["left"].get((), {})
        self._records = StateRecords(db)
        self._messages = DiskMessageStore(db, self.epochs, left, self._records.changed)
        self.core = self._records.core = LogStateMachine(
            self._limits, self.epochs, self._messages, self._records.changed
        )
        # A message of delivery=one, with a ttl, with an ordering or dead is alone in its row: if the row has
        # shrunk, it is removed.
        waiting = db.execute("SELECT topic, seq FROM message WHERE one AND one = 1 ORDER BY seq")
        expiries = db.execute("SELECT seq, expires FROM message WHERE expires IS NOT NULL")
        ordered = db.execute("SELECT topic, seq, ordering, one FROM message WHERE ordering IS NOT NULL ORDER BY seq")
        dead = db.execute("SELECT topic, seq, length(data), death FROM message WHERE death IS NOT NULL ORDER BY seq")
        self.core.restore(
            notes,
            ((topic, seq) for topic, seq in waiting if seq not in left),
            ((seq, expires) for seq, expires in expiries if seq not in left),
            ((topic, seq, nbytes, origin_of(death)) for topic, seq, nbytes, death in dead if seq not in left),
            ((topic, seq, priority_of(value), not one) for topic, seq, value, one in ordered if seq not in left),
            server_run=self._server_run,
        )
        self.core.resume(self._pending)
        self.stale = False

    def newest_time(self) -> float:
        """When the newest retained message was accepted; 0 if there is none."""
        row = self.file.db.execute("SELECT time FROM message ORDER BY seq DESC LIMIT 1").fetchone()
        return row[0] if row else 0.0

    def commit(self, decide: Callable[[LogStateMachine], None], tidily: bool = False) -> bool:
        """Decide in one transaction and commit it. Returns whether anything was written. `tidily`: also write what
        could wait. Raises sqlite3.Error or ForeignChange, and nothing was decided; or Unconfirmed."""
        db = self.file.db
        self.check_contents()
        if self.stale:
            self.load()
        self._pending = self.core.pending
        try:
            db.execute("BEGIN")
            decide(self.core)
            (self._messages.flush if tidily else self._messages.write)()
            changed = self._records.write()
            db.execute("COMMIT")
        except BaseException:
            self._undo()
            raise
        if changed:
            self.file.mark(self.epochs.current, self.core.log.head)
            self._check_commit()
        return changed

    def _check_commit(self) -> None:
        """Raises Unconfirmed. Messages of the transaction are not delivered then."""
        try:
            self.check_contents(FileContents.check_commit)
        except ForeignChange as change:
            self.core.take_outbox()
            raise Unconfirmed(change) from change

    def check_contents(self, check: Callable[[FileContents], None] = FileContents.check) -> None:
        """Raises FileReplaced; or FileChanged, after which nothing is read from the file either."""
        assert self.file.contents is not None
        try:
            check(self.file.contents)
        except FileChanged:
            self.stale = True
            raise

    @property
    def needs_vacuum(self) -> bool:
        """True if removed messages are still in the file."""
        return not self.stale and bool(self._messages.remaining)

    def _undo(self) -> None:
        self.stale = True
        if self.file.db.in_transaction:
            self.file.db.execute("ROLLBACK")
        self.load()

    def close(self) -> None:
        try:
            if self.needs_vacuum:
                with suppress(sqlite3.Error):  # the next start does it
                    self.commit(lambda _core: None, tidily=True)
        finally:
            self.file.close()
