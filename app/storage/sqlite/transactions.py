"""The core on a file: what was decided counts when it is committed, and what was not is as if it had never been."""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ...log.changes import Records
from ...log.epochs import new_epoch
from ...log.log import LogRecord
from ...log.state import LogStateMachine, Pending
from ...log.topic_log import Limits
from .file import StoreFile, Synchronous, explained
from .messages import DiskMessageStore
from .state import StateRecords, read_notes


class Store:
    """For one thread."""

    def __init__(self, path: Path, synchronous: Synchronous, limits: Limits) -> None:
        """Raises StoreUnusable."""
        self.file = StoreFile(path, synchronous)
        self.stale = True  # the core is not what the file has
        self._life = new_epoch()  # of this server: however often the core is made anew, its connections are there
        self._pending = Pending({}, {})  # when the last transaction began
        self._limits = limits
        try:
            with explained(path):
                notes = read_notes(self.file.db)
                head: LogRecord = notes["log"].get((), LogRecord())
                self.epochs = self.file.begin(head.head)
                self.load(notes)
                self.core.trimmer.find_over_retention()
        except BaseException:
            self.file.abandon()
            raise

    def load(self, notes: Records | None = None) -> None:
        """Make the core anew, as the file has it. `notes`: when they have been read already. Raises sqlite3.Error; then
        it is stale."""
        self.stale = True
        db, notes = self.file.db, notes or read_notes(self.file.db)
        left = notes["left"].get((), {})
        self._notes = StateRecords(db)
        self._history = DiskMessageStore(db, self.epochs, left, self._notes.changed)
        self.core = self._notes.core = LogStateMachine(
            self._limits, self.epochs, self._history, self._notes.changed, self._life
        )
        # What is for one, expires or is dead is alone in its row: if that is noted to have less, it is gone.
        waiting = db.execute("SELECT topic, seq FROM message WHERE one ORDER BY seq")
        expiries = db.execute("SELECT seq, expires FROM message WHERE expires IS NOT NULL")
        dead = db.execute("SELECT topic, seq, length(data) FROM message WHERE death IS NOT NULL ORDER BY seq")
        self.core.restore(
            notes,
            ((topic, seq) for topic, seq in waiting if seq not in left),
            ((seq, expires) for seq, expires in expiries if seq not in left),
            ((topic, seq, nbytes) for topic, seq, nbytes in dead if seq not in left),
        )
        self.core.resume(self._pending)
        self.stale = False

    def newest_time(self) -> float:
        """When the newest retained message was accepted; 0 when there is none."""
        row = self.file.db.execute("SELECT time FROM message ORDER BY seq DESC LIMIT 1").fetchone()
        return row[0] if row else 0.0

    def commit(self, decide: Callable[[LogStateMachine], None], tidily: bool = False) -> bool:
        """Decide in one transaction, and have it on the disk: whether there was anything to write. `tidily`: also what
        could wait. Raises sqlite3.Error; then nothing was decided."""
        db = self.file.db
        if self.stale:
            self.load()
        self._pending = self.core.pending
        try:
            db.execute("BEGIN")
            decide(self.core)
            (self._history.flush if tidily else self._history.write)()
            changed = self._notes.write()
            db.execute("COMMIT")
        except BaseException:
            self._undo()
            raise
        if changed:
            self.file.mark(self.epochs.current, self.core.log.head)
        return changed

    @property
    def needs_vacuum(self) -> bool:
        """Something that went is still in the file."""
        return not self.stale and bool(self._history.left)

    def _undo(self) -> None:
        self.stale = True
        if self.file.db.in_transaction:
            self.file.db.execute("ROLLBACK")
        self.load()

    def close(self) -> None:
        try:
            if self.needs_vacuum:
                with suppress(sqlite3.Error):  # then the next one does it
                    self.commit(lambda _core: None, tidily=True)
        finally:
            self.file.close()
