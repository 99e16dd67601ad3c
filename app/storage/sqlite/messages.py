"""Messages in the file: a Ring for each topic's, and the Order of all. What is accepted is gathered, and written in few
statements; whoever looks makes sure first that it was. What is given up may stay in the file for a while, as noted.
"""

import sqlite3
from collections import OrderedDict
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
from .row import COLUMNS, COUNT, MOSTLY, Row, rows, sizes_in

_FIRST_PAGE: Final = 2  # rows that are read at first; then twice as many each time
_LAST_PAGE: Final = 256
_CACHE: Final = 16 << 20  # bytes of messages that are remembered, so that an ack need not look for them
_OVERHEAD: Final = 512  # bytes of each besides its body
_PAGE_BYTES: Final = 1 << 20  # of bodies, after which a page ends
_LEFT: Final = 32  # rows that may be noted to have less than they say: it would cost more to change each at once
_NEXT: Final = 16  # rows of a topic that are looked up together

_SELECT: Final = f"SELECT {', '.join(COLUMNS)} FROM message"
_DATA: Final = COLUMNS.index("data")
_NOTHING: Final = (None,) * (len(COLUMNS) - MOSTLY)


class DiskMessageStore:
    """A row whose first messages are gone may stay as it is for a while, and so may one that has none any more: `left`,
    which is noted with each commit, says how many of a row's last messages are still there."""

    def __init__(
        self, db: sqlite3.Connection, epochs: Epochs, left: Mapping[int, int] = MappingProxyType({}),
        changed: OnChange = ignore_change,
    ) -> None:  # fmt: skip
        """`left`: as it was noted. `changed` hears when it is to be noted anew."""
        self.messages = DiskLogMessages(self)
        self._db = db
        self._epochs = epochs
        self._changed: OnChange = ignore_change
        self._new = RunList()  # accepted, not written yet
        self._less: dict[int, Row] = {}  # have fewer messages than the file says
        self._torn = False  # one of them has lost others than its first ones: `left` cannot say that
        self._cache: OrderedDict[int, Row] = OrderedDict()  # the newest that were written or read
        self._known: dict[int, Row] = {}  # the same, by the seq of each message
        self._cached = 0  # bytes that all in there had when they came
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
    def left(self) -> dict[int, int]:
        """How many messages are left of those rows that have had more."""
        return {seq: row.run.live for seq, row in self._less.items()}

    # Changes

    def add(self, runs: Sequence[Run]) -> None:
        self._new.extend(runs)

    def remove(self, seq: int) -> Run | None:
        """None when it is gone already."""
        if run := self._new.find(seq):
            gone, left = run.without(seq)
            self._new.put(run.key, left)
            return gone
        if row := self._find(seq):
            gone, left = row.run.without(seq)
            self._part(row, gone, left)
            return gone
        return None

    def take(self, row: Row, count: int) -> Run:
        """Give up the first messages of a row that was just read, at most so many: a run of them."""
        gone, left = row.run.split(count)
        self._part(row, gone, left)
        return gone

    def _part(self, row: Row, gone: Run, left: Run | None) -> None:
        for seq in gone.seqs:
            del self._known[seq]
        row.keep(left)
        self._torn = self._torn or row.torn
        self._lessen(row)

    def _lessen(self, row: Row) -> None:
        if not row.run.live:
            self._forget(row)
        self._less[row.key] = row
        self._changed("left", ())

    def write(self) -> None:
        """Write down what was gathered; what `left` says for now, only when it is much."""
        if self._torn or len(self._less) > _LEFT:
            self.flush()
        else:
            self._put_new()

    def flush(self) -> None:
        """Write down all that was gathered."""
        if self._less:
            less, self._less, self._torn = self._less, {}, False
            torn = [row for row in less.values() if row.torn]
            for row in torn:
                self._forget(row)
            self._delete([seq for seq, row in less.items() if row.torn or not row.run.live])
            shorter = [row for row in less.values() if row.run.live and not row.torn]
            self._put([*shorter, *rows(row.run for row in torn)])
            self._changed("left", ())
        self._put_new()

    def _put_new(self) -> None:
        if self._new:
            new, self._new = self._new, RunList()
            self._put([*rows(new.after(0))])

    def _delete(self, seqs: Sequence[int]) -> None:
        for places in parts(seqs):
            self._db.execute(f"DELETE FROM message WHERE seq IN ({', '.join('?' * len(places))})", places)

    def _put(self, these: Sequence[Row]) -> None:
        every = [row.values for row in these]
        width = MOSTLY if all(values[MOSTLY:] == _NOTHING for values in every) else len(COLUMNS)
        for part in parts(every):
            self._db.execute(_insert(width, len(part)), [value for values in part for value in values[:width]])
        for row, values in zip(these, every, strict=True):
            row.count = row.run.live
            self._remember(row, len(values[_DATA]))

    # Reading

    def find(self, seq: int) -> Run | None:
        """The run that has the message; None when it is gone."""
        if run := self._new.find(seq):
            return run
        row = self._find(seq)
        return None if row is None else row.run

    def _find(self, seq: int) -> Row | None:
        """The row that has the message, when it was written."""
        row = self._known.get(seq) or next(iter(self._select("seq >= ? ORDER BY seq", (seq,), 1)), None)
        return row if row is not None and row.run.has(seq) else None

    def get(self, seq: int) -> Message | None:
        run = self.find(seq)
        return None if run is None else run.get(seq)

    def ascending(self, where: str, values: tuple[Any, ...], seq: int) -> Iterator[Run]:
        """Runs that have messages behind that place, oldest first, read page by page."""
        size = _FIRST_PAGE
        while (found := self._select(f"{where} AND seq > ? ORDER BY seq", (*values, seq), size)) or self._new:
            for row in found:
                if row.run.live and row.run.seq > seq:
                    yield row.run
            if found:
                seq, size = found[-1].key, min(2 * size, _LAST_PAGE)
            else:  # what is new comes last
                self._put_new()

    def descending(self, where: str, values: tuple[Any, ...]) -> Iterator[Run]:
        """Runs, newest first, read page by page."""
        self._put_new()
        seq = last = 1 << 62
        size = _FIRST_PAGE
        while found := self._select(f"{where} AND seq < ? ORDER BY seq DESC", (*values, seq), size):
            for row in found:
                if row.run.live and row.run.seq < last:  # a row may have become several since its run was yielded
                    last = row.run.first
                    yield row.run
            seq, size = found[-1].key, min(2 * size, _LAST_PAGE)

    def before(self, time: float, head: int, own: bool) -> int:
        """By bisection: neither time ever falls as seq rises."""
        column = "coalesce(at, time)" if own else "time"
        self._put_new()
        low, high = 0, head  # every message up to `low` is older; every one behind `high` is not
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
        less = [row for key, row in self._less.items() if key > seq and row.run.envelope.topic == topic]
        return count - sum(row.gone(seq) for row in less if row.run.for_all)

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
        if row := self._less.get(last):
            return row.run.sizes()
        each = sizes_in(nbytes, sizes)
        return enumerate(each, last - len(each) + 1)

    def rows(self, topic: str, seq: int) -> list[int]:
        """The keys of the topic's next rows behind that one. Each stays until take() has emptied it, or a message is
        removed; so nothing that is only noted may be among them."""
        self.flush()
        sql = "SELECT seq FROM message WHERE topic = ? AND seq > ? ORDER BY seq LIMIT ?"
        return [key for (key,) in self._db.execute(sql, (topic, seq, _NEXT))]

    def row(self, key: int) -> Row:
        """What is left of the row, which is there."""
        return self._cache.get(key) or self._select("seq = ?", (key,), 1)[0]

    def _select(self, where: str, values: tuple[Any, ...], limit: int) -> list[Row]:
        """What is written, and is left: so many rows, or a page of them. Some may have no messages any more."""
        found: list[Row] = []
        nbytes = 0
        cursor = self._db.execute(f"{_SELECT} WHERE {where} LIMIT ?", (*values, limit))
        for written in cursor:
            key = written[0]
            found.append(row := self._cache.get(key) or self._less.get(key) or Row.of(written, self._epochs))
            size = len(written[_DATA])
            self._remember(row, size)
            nbytes += size
            if nbytes > _PAGE_BYTES:
                break
        cursor.close()
        return found

    def _remember(self, row: Row, nbytes: int) -> None:
        """`nbytes`: of all its bodies."""
        run = row.run
        if run.live and row.key not in self._cache:
            self._cache[row.key] = row
            self._known.update(dict.fromkeys(run.seqs, row))
            row.size = nbytes + _OVERHEAD * run.live
            self._cached += row.size
        while self._cached > _CACHE and len(self._cache) > 1:
            self._forget(next(iter(self._cache.values())))

    def _forget(self, row: Row) -> None:
        if self._cache.pop(row.key, None):
            self._cached -= row.size
            for seq in row.run.seqs:
                del self._known[seq]


@lru_cache
def _insert(width: int, rows: int) -> str:
    columns, places = ", ".join(COLUMNS[:width]), ", ".join("?" * width)
    return f"INSERT OR REPLACE INTO message ({columns}) VALUES {', '.join([f'({places})'] * rows)}"


class DiskTopicMessages(msgspec.Struct, gc=False, eq=False):
    """One topic's messages. `live` is kept by whoever makes the ring. A topic has one ring at a time, by which alone
    its messages go: so what it knows of their rows stays true. The garbage collector does not track it."""

    _history: DiskMessageStore
    _topic: str
    live: int = 0
    _past: int = 0  # all is behind this place
    _next: list[int] = msgspec.field(default_factory=list)  # the oldest rows' keys, if they are known; the oldest last

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
        self._history.add(runs)
        for run in runs:
            self.live += run.live

    def remove(self, seq: int) -> Run | None:
        taken = self._history.remove(seq)
        if taken is not None:
            self.live -= 1
            self._next.clear()  # its row may become several
        return taken

    def shift(self, count: int) -> list[Run]:
        taken: list[Run] = []
        while count > 0 and (row := self._first_row()):
            taken.append(self._history.take(row, count))
            count -= taken[-1].live
            self.live -= taken[-1].live
            if not row.run.live:
                self._past = self._next.pop()
        return taken

    def _first_row(self) -> Row | None:
        if not self._next:
            self._next = self._history.rows(self._topic, self._past)[::-1]
        return self._history.row(self._next[-1]) if self._next else None

    def find(self, seq: int) -> Run | None:
        run = self._history.find(seq)
        return run if run is not None and run.envelope.topic == self._topic else None

    def get(self, seq: int) -> Message | None:
        run = self.find(seq)
        return None if run is None else run.get(seq)

    def after(self, seq: int) -> Iterator[Run]:
        return self._history.ascending("topic = ?", (self._topic,), max(seq, self._past))

    def newest(self) -> Iterator[Run]:
        return self._history.descending("topic = ?", (self._topic,))

    def count_after(self, seq: int) -> int:
        return self._history.count(self._topic, seq)

    def sizes_after(self, seq: int) -> Iterator[tuple[int, int]]:
        return self._history.sizes(self._topic, seq)


class DiskLogMessages:
    """Every retained message. Rings write them; here they are read."""

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
