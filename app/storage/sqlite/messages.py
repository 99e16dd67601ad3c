"""Messages in the file. Accepted messages are collected and written in few statements; every read makes sure first that
they are written. Removed messages may stay in the file for a while, which is recorded.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

import msgspec

from ...log.changes import OnChange, ignore_change
from ...log.epochs import Epochs
from ...log.run import Run
from ...log.run_list import RunList
from ...messages.message import Message
from .parts import parts
from .row import COLUMNS, COMMON_COLUMNS, COUNT, Row, rows, sizes_in
from .row_cache import RowCache

_FIRST_PAGE: Final = 2  # rows of the first page; each following page is twice as long
_LAST_PAGE: Final = 256
_PAGE_BYTES: Final = 1 << 20  # of bodies, after which a page ends
_MAX_SHRUNK_ROWS: Final = 32  # rows with removed messages that are only recorded: rewriting each at once costs more
_KEYS_AT_ONCE: Final = 16  # keys of a topic's rows that are read together

_SELECT: Final = f"SELECT {', '.join(COLUMNS)} FROM message"
_DATA: Final = COLUMNS.index("data")
_NOTHING: Final = (None,) * (len(COLUMNS) - COMMON_COLUMNS)


class DiskMessageStore:
    """A row whose first messages, or all, were removed may stay as it is for a while. `remaining`, which is recorded
    with each commit, says how many of its last messages are still there."""

    def __init__(
        self, db: sqlite3.Connection, epochs: Epochs, left: Mapping[int, int] = MappingProxyType({}),
        changed: OnChange = ignore_change,
    ) -> None:  # fmt: skip
        """`left`: `remaining` as it was recorded. `changed` is called when it must be recorded again."""
        self.messages = DiskLogMessages(self)
        self._db = db
        self._epochs = epochs
        self._changed: OnChange = ignore_change
        self._unwritten = RunList()  # accepted and not written yet
        self._shrunk: dict[int, Row] = {}  # rows that have fewer messages than in the file
        self._fragmented = False  # one of them has lost messages other than its first ones: `remaining` cannot say that
        self._cache = RowCache()
        for seq, count in left.items():
            row = self.row(seq)
            if count > row.count:
                raise sqlite3.DatabaseError("a row is noted to have more messages than it has")
            if count < row.count:
                self.take(row, row.count - count)
        self._changed = changed

    def of_topic(self, topic: str) -> "DiskTopicMessages":
        return DiskTopicMessages(self, topic)

    @property
    def remaining(self) -> dict[int, int]:
        """The number of messages left in each row that has lost some, by key."""
        return {seq: row.run.live for seq, row in self._shrunk.items()}

    # Changes

    def add(self, runs: Sequence[Run]) -> None:
        for run in runs:
            self._unwritten.append(run)

    def remove(self, seq: int) -> Run | None:
        """Remove a message. None if it was removed already."""
        if run := self._unwritten.find(seq):
            gone, left = run.without(seq)
            self._unwritten.put(run.key, left)
            return gone
        if row := self._find(seq):
            gone, left = row.run.without(seq)
            self._replace(row, gone, left)
            return gone
        return None

    def take(self, row: Row, count: int) -> Run:
        """Remove the first `count` messages of a row that was just read. Returns them as a run."""
        gone, left = row.run.split(count)
        self._replace(row, gone, left)
        return gone

    def _replace(self, row: Row, gone: Run, left: Run | None) -> None:
        self._cache.discard_messages(gone.seqs)
        row.set_remaining(left)
        self._fragmented = self._fragmented or row.fragmented
        self._record_shrunk(row)

    def _record_shrunk(self, row: Row) -> None:
        if not row.run.live:
            self._cache.discard(row)
        self._shrunk[row.key] = row
        self._changed("left", ())

    def write(self) -> None:
        """Write the accepted messages. Shrunk rows are rewritten only when there are many."""
        if self._fragmented or len(self._shrunk) > _MAX_SHRUNK_ROWS:
            self.flush()
        else:
            self._put_new()

    def flush(self) -> None:
        """Write the accepted messages and rewrite all shrunk rows."""
        if self._shrunk:
            less, self._shrunk, self._fragmented = self._shrunk, {}, False
            torn = [row for row in less.values() if row.fragmented]
            for row in torn:
                self._cache.discard(row)
            self._delete([seq for seq, row in less.items() if row.fragmented or not row.run.live])
            shorter = [row for row in less.values() if row.run.live and not row.fragmented]
            self._put([*shorter, *rows(row.run for row in torn)])
            self._changed("left", ())
        self._put_new()

    def _put_new(self) -> None:
        if self._unwritten:
            new, self._unwritten = self._unwritten, RunList()
            self._put([*rows(new.after(0))])

    def _delete(self, seqs: Sequence[int]) -> None:
        for places in parts(seqs):
            self._db.execute(f"DELETE FROM message WHERE seq IN ({', '.join('?' * len(places))})", places)

    def _put(self, these: Sequence[Row]) -> None:
        every = [row.values for row in these]
        width = COMMON_COLUMNS if all(values[COMMON_COLUMNS:] == _NOTHING for values in every) else len(COLUMNS)
        for part in parts(every):
            self._db.execute(_insert(width, len(part)), [value for values in part for value in values[:width]])
        for row, values in zip(these, every, strict=True):
            row.count = row.run.live
            self._cache.add(row, len(values[_DATA]))

    # Reading

    def find(self, seq: int) -> Run | None:
        """The run that has the message; None if it was removed."""
        if run := self._unwritten.find(seq):
            return run
        row = self._find(seq)
        return None if row is None else row.run

    def _find(self, seq: int) -> Row | None:
        """The written row that has the message."""
        row = self._cache.by_seq.get(seq) or next(iter(self._select("seq >= ? ORDER BY seq", (seq,), 1)), None)
        return row if row is not None and row.run.has(seq) else None

    def get(self, seq: int) -> Message | None:
        run = self.find(seq)
        return None if run is None else run.get(seq)

    def ascending(self, where: str, values: tuple[Any, ...], seq: int) -> Iterator[Run]:
        """Runs with messages after `seq`, oldest first, read page by page."""
        size = _FIRST_PAGE
        while (found := self._select(f"{where} AND seq > ? ORDER BY seq", (*values, seq), size)) or self._unwritten:
            for row in found:
                if row.run.live and row.run.seq > seq:
                    yield row.run
            if found:
                seq, size = found[-1].key, min(2 * size, _LAST_PAGE)
            else:  # unwritten messages come last
                self._put_new()

    def descending(self, where: str, values: tuple[Any, ...]) -> Iterator[Run]:
        """Runs, newest first, read page by page."""
        self._put_new()
        seq = last = 1 << 62
        size = _FIRST_PAGE
        while found := self._select(f"{where} AND seq < ? ORDER BY seq DESC", (*values, seq), size):
            for row in found:
                if row.run.live and row.run.seq < last:  # the row may have been divided since its run was yielded
                    last = row.run.first
                    yield row.run
            seq, size = found[-1].key, min(2 * size, _LAST_PAGE)

    def before(self, time: float, head: int, own: bool) -> int:
        """By bisection: both times only rise with seq."""
        column = "coalesce(at, time)" if own else "time"
        self._put_new()
        low, high = 0, head  # all messages up to `low` are older; none after `high` is
        while low < high:
            row = self._db.execute(
                f"SELECT seq, {column} FROM message WHERE seq > ? ORDER BY seq LIMIT 1", ((low + high) // 2,)
            ).fetchone()
            if row is None or row[1] >= time:
                high = (low + high) // 2
            else:
                low = row[0]
        first = next(self.ascending("TRUE", (), low), None)
        return head if first is None else first.first - 1

    def count(self, topic: str, seq: int) -> int:
        self._put_new()
        sql = f"SELECT coalesce(sum(min({COUNT}, seq - ?)), 0) FROM message WHERE topic = ? AND seq > ? AND NOT one"
        count: int = self._db.execute(sql, (seq, topic, seq)).fetchone()[0]
        less = [row for key, row in self._shrunk.items() if key > seq and row.run.envelope.topic == topic]
        return count - sum(row.count_removed_after(seq) for row in less if row.run.for_all)

    def sizes(self, topic: str, seq: int) -> Iterator[tuple[int, int]]:
        self._put_new()
        sql = (
            "SELECT seq, length(data), sizes FROM message WHERE topic = ? AND seq > ? AND NOT one ORDER BY seq LIMIT ?"
        )
        last = seq
        while found := self._db.execute(sql, (topic, last, _LAST_PAGE)).fetchall():
            for last, nbytes, sizes in found:
                for place, size in self._sizes_of(last, nbytes, sizes):
                    if place > seq:
                        yield place, size

    def _sizes_of(self, last: int, nbytes: int, sizes: bytes | None) -> Iterable[tuple[int, int]]:
        if row := self._shrunk.get(last):
            return row.run.sizes()
        each = sizes_in(nbytes, sizes)
        return enumerate(each, last - len(each) + 1)

    def rows(self, topic: str, seq: int) -> list[int]:
        """The keys of the topic's next rows after `seq`. Each stays valid until take() has emptied the row or a message
        is removed. Shrunk rows are rewritten first, so that empty ones are not among them."""
        self.flush()
        sql = "SELECT seq FROM message WHERE topic = ? AND seq > ? ORDER BY seq LIMIT ?"
        return [key for (key,) in self._db.execute(sql, (topic, seq, _KEYS_AT_ONCE))]

    def row(self, key: int) -> Row:
        """The row with this key, without removed messages. It must exist."""
        return self._cache.by_key.get(key) or self._select("seq = ?", (key,), 1)[0]

    def _select(self, where: str, values: tuple[Any, ...], limit: int) -> list[Row]:
        """Written rows, without removed messages: at most `limit`, or a page of them. Some may be empty."""
        found: list[Row] = []
        nbytes, cached = 0, self._cache.by_key
        cursor = self._db.execute(f"{_SELECT} WHERE {where} LIMIT ?", (*values, limit))
        for written in cursor:
            key = written[0]
            found.append(row := cached.get(key) or self._shrunk.get(key) or Row.of_values(written, self._epochs))
            size = len(written[_DATA])
            self._cache.add(row, size)
            nbytes += size
            if nbytes > _PAGE_BYTES:
                break
        cursor.close()
        return found


@lru_cache
def _insert(width: int, rows: int) -> str:
    columns, places = ", ".join(COLUMNS[:width]), ", ".join("?" * width)
    return f"INSERT OR REPLACE INTO message ({columns}) VALUES {', '.join([f'({places})'] * rows)}"


class DiskTopicMessages(msgspec.Struct, gc=False, eq=False):
    """The messages of one topic. Its creator sets `live`. A topic has one such object at a time, and its messages are
    removed through it alone, so cached keys stay valid. The garbage collector does not track it."""

    _store: DiskMessageStore
    _topic: str
    live: int = 0
    _before: int = 0  # all messages are after this seq
    _next_keys: list[int] = msgspec.field(default_factory=list)  # keys of the oldest rows, if known; the oldest last

    @property
    def ends(self) -> tuple[str, str]:
        oldest, newest = next(self.after(0)), next(self.newest())
        return f"{oldest.epoch}-{oldest.first}", f"{newest.epoch}-{newest.seq}"

    @property
    def first(self) -> Run:
        row = self._first_row()
        assert row is not None
        return row.run

    def extend(self, runs: Sequence[Run]) -> None:
        self._store.add(runs)
        for run in runs:
            self.live += run.live

    def remove(self, seq: int) -> Run | None:
        taken = self._store.remove(seq)
        if taken is not None:
            self.live -= 1
            self._next_keys.clear()  # its row may be divided
        return taken

    def shift(self, count: int) -> list[Run]:
        taken: list[Run] = []
        while count > 0 and (row := self._first_row()):
            taken.append(self._store.take(row, count))
            count -= taken[-1].live
            self.live -= taken[-1].live
            if not row.run.live:
                self._before = self._next_keys.pop()
        return taken

    def _first_row(self) -> Row | None:
        if not self._next_keys:
            self._next_keys = self._store.rows(self._topic, self._before)[::-1]
        return self._store.row(self._next_keys[-1]) if self._next_keys else None

    def find(self, seq: int) -> Run | None:
        run = self._store.find(seq)
        return run if run is not None and run.envelope.topic == self._topic else None

    def get(self, seq: int) -> Message | None:
        run = self.find(seq)
        return None if run is None else run.get(seq)

    def after(self, seq: int) -> Iterator[Run]:
        return self._store.ascending("topic = ?", (self._topic,), max(seq, self._before))

    def newest(self) -> Iterator[Run]:
        return self._store.descending("topic = ?", (self._topic,))

    def count_after(self, seq: int) -> int:
        return self._store.count(self._topic, seq)

    def sizes_after(self, seq: int) -> Iterator[tuple[int, int]]:
        return self._store.sizes(self._topic, seq)


class DiskLogMessages:
    """All retained messages, for reading in log order."""

    def __init__(self, history: DiskMessageStore) -> None:
        self._store = history

    def get(self, seq: int) -> Message | None:
        return self._store.get(seq)

    def after(self, seq: int) -> Iterator[Run]:
        return self._store.ascending("TRUE", (), seq)

    def newest(self) -> Iterator[Run]:
        return self._store.descending("TRUE", ())

    def position_before(self, time: float, head: int, own: bool) -> int:
        return self._store.before(time, head, own)
