"""Messages in the file: a Ring for each topic's, and the Order of all. What is accepted or given up is gathered, and
written in few statements; whoever looks makes sure first that it was.
"""

import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from ..core.epochs import Epochs
from ..message import Message
from .rows import parts
from .run import COLUMNS, COUNT, MOSTLY, Run, runs, sizes_in

_FIRST_PAGE: Final = 2  # rows that are read at first; then twice as many each time
_LAST_PAGE: Final = 256
_CACHE: Final = 16 << 20  # bytes of messages that are remembered, so that an ack need not look for them
_OVERHEAD: Final = 512  # bytes of each besides its body
_PAGE_BYTES: Final = 1 << 20  # of bodies, after which a page ends

_SELECT: Final = f"SELECT {', '.join(COLUMNS)} FROM message"
_DATA: Final = COLUMNS.index("data")
_NOTHING: Final = (None,) * (len(COLUMNS) - MOSTLY)


class DiskHistory:
    def __init__(self, db: sqlite3.Connection, epochs: Epochs) -> None:
        self.order = DiskOrder(self)
        self._db = db
        self._epochs = epochs
        self._new: dict[int, Message] = {}  # accepted, not written yet; by seq
        self._less: dict[int, Run] = {}  # have given up messages, which is not written yet
        self._cache: OrderedDict[int, Run] = OrderedDict()  # the newest that were written or read
        self._known: dict[int, Run] = {}  # the same, by the seq of each message
        self._cached = 0  # bytes of bodies in there

    def ring(self, topic: str) -> "DiskRing":
        return DiskRing(self, topic)

    # Changes

    def add(self, messages: Iterable[Message]) -> None:
        self._new.update([(message.seq, message) for message in messages])

    def remove(self, seq: int) -> bool:
        """False when it is gone already."""
        if self._new.pop(seq, None):
            return True
        if self.get(seq) is None:
            return False
        self._take(self._known.pop(seq), seq)
        return True

    def drop(self, messages: Iterable[Message]) -> None:
        """Give up these, which were just read."""
        for message in messages:
            if run := self._known.pop(message.seq, None):
                self._take(run, message.seq)
            else:  # so many were read that it is forgotten again
                self.remove(message.seq)

    def _take(self, run: Run, seq: int) -> None:
        self._cached -= _size(run.messages.pop(seq))
        self._less[run.seq] = run

    def flush(self) -> None:
        """Write down what was gathered."""
        if self._less or self._new:
            less, self._less = self._less, {}
            new, self._new = self._new, {}
            broken = [run for run in less.values() if not run.whole]
            for run in broken:
                self._forget(run)
            left = [message for run in broken for message in run.messages.values()]
            shorter = [run for run in less.values() if run.whole]
            written = {run.seq: run for run in (*shorter, *runs([*left, *new.values()]))}
            self._delete([seq for seq in less if seq not in written])
            self._put([*written.values()])

    def _delete(self, seqs: Sequence[int]) -> None:
        for places in parts(seqs):
            self._db.execute(f"DELETE FROM message WHERE seq IN ({', '.join('?' * len(places))})", places)

    def _put(self, these: Sequence[Run]) -> None:
        rows = [run.row() for run in these]
        width = MOSTLY if all(row[MOSTLY:] == _NOTHING for row in rows) else len(COLUMNS)
        columns, places = ", ".join(COLUMNS[:width]), ", ".join("?" * width)
        for part in parts(rows):
            values = [value for row in part for value in row[:width]]
            many = ", ".join([f"({places})"] * len(part))
            self._db.execute(f"INSERT OR REPLACE INTO message ({columns}) VALUES {many}", values)
        for run in these:
            self._remember(run)

    # Reading

    def get(self, seq: int) -> Message | None:
        if message := self._new.get(seq):
            return message
        run = self._known.get(seq) or next(iter(self._select("seq >= ? ORDER BY seq", (seq,), 1)), None)
        return run.messages.get(seq) if run else None

    def ascending(self, where: str, values: tuple[Any, ...], seq: int) -> Iterator[Message]:
        """Messages behind that place, oldest first, read page by page."""
        size = _FIRST_PAGE
        while (found := self._select(f"{where} AND seq > ? ORDER BY seq", (*values, seq), size)) or self._new:
            page = [message for run in found for message in run.messages.values() if message.seq > seq]
            yield from page
            if found:
                seq, size = found[-1].seq, min(2 * size, _LAST_PAGE)
            else:  # what is new comes last
                self.flush()

    def descending(self, where: str, values: tuple[Any, ...]) -> Iterator[Message]:
        """Messages, newest first, read page by page."""
        self.flush()
        seq, size = 1 << 62, _FIRST_PAGE
        while found := self._select(f"{where} AND seq < ? ORDER BY seq DESC", (*values, seq), size):
            page = [message for run in found for message in reversed(run.messages.values())]
            yield from page
            seq, size = found[-1].seq, min(2 * size, _LAST_PAGE)

    def before(self, time: float, head: int) -> int:
        """By bisection: time never falls as seq rises."""
        self.flush()
        low, high = 0, head  # every message up to `low` is older; every one behind `high` is not
        while low < high:
            row = self._db.execute(
                "SELECT seq, time FROM message WHERE seq > ? ORDER BY seq LIMIT 1", ((low + high) // 2,)
            ).fetchone()
            if row is None or row[1] >= time:
                high = (low + high) // 2
            else:
                low = row[0]
        sql = f"SELECT seq - {COUNT} FROM message WHERE seq > ? ORDER BY seq LIMIT 1"
        place = self._db.execute(sql, (low,)).fetchone()
        return place[0] if place else head

    def count(self, topic: str, seq: int) -> int:
        self.flush()
        sql = f"SELECT coalesce(sum(min({COUNT}, seq - ?)), 0) FROM message WHERE topic = ? AND seq > ? AND NOT one"
        count: int = self._db.execute(sql, (seq, topic, seq)).fetchone()[0]
        return count

    def sizes(self, topic: str) -> Iterator[tuple[int, int]]:
        self.flush()
        sql = "SELECT seq, length(data), sizes FROM message WHERE topic = ? AND NOT one"
        for last, octets, sizes in self._db.execute(sql, (topic,)):
            each = sizes_in(octets, sizes)
            yield from enumerate(each, last - len(each) + 1)

    def _select(self, where: str, values: tuple[Any, ...], limit: int) -> list[Run]:
        """What is written, and is left: so many rows, or a page of them. Some may have no messages any more."""
        found: list[Run] = []
        octets = 0
        cursor = self._db.execute(f"{_SELECT} WHERE {where} LIMIT ?", (*values, limit))
        for row in cursor:
            seq = row[0]
            found.append(self._cache.get(seq) or self._less.get(seq) or Run.of(row, self._epochs))
            octets += len(row[_DATA])
            if octets > _PAGE_BYTES:
                break
        cursor.close()
        for run in found:
            self._remember(run)
        return found

    def _remember(self, run: Run) -> None:
        if run.seq not in self._cache:
            self._cache[run.seq] = run
            self._known.update(dict.fromkeys(run.messages, run))
            self._cached += sum(map(_size, run.messages.values()))
        while self._cached > _CACHE and len(self._cache) > 1:
            self._forget(next(iter(self._cache.values())))

    def _forget(self, run: Run) -> None:
        if self._cache.pop(run.seq, None):
            for seq, message in run.messages.items():
                del self._known[seq]
                self._cached -= _size(message)


def _size(message: Message) -> int:
    return len(message.data) + _OVERHEAD


class DiskRing:
    """One topic's messages. `live` is kept by whoever makes the ring."""

    def __init__(self, history: DiskHistory, topic: str) -> None:
        self.live = 0
        self._history = history
        self._topic = topic

    def __iter__(self) -> Iterator[Message]:
        return self.after(0)

    @property
    def oldest(self) -> Message:
        return next(iter(self))

    def extend(self, messages: Sequence[Message]) -> None:
        self._history.add(messages)
        self.live += len(messages)

    def remove(self, message: Message) -> bool:
        if not self._history.remove(message.seq):
            return False
        self.live -= 1
        return True

    def shift(self, count: int) -> list[Message]:
        taken = [*islice(self, count)]
        self._history.drop(taken)
        self.live -= len(taken)
        return taken

    def get(self, seq: int) -> Message | None:
        message = self._history.get(seq)
        return message if message is not None and message.topic == self._topic else None

    def after(self, seq: int) -> Iterator[Message]:
        return self._history.ascending("topic = ?", (self._topic,), seq)

    def newest(self) -> Iterator[Message]:
        return self._history.descending("topic = ?", (self._topic,))

    def count(self, seq: int) -> int:
        return self._history.count(self._topic, seq)

    def sizes(self) -> Iterator[tuple[int, int]]:
        return self._history.sizes(self._topic)


class DiskOrder:
    """Every retained message. Rings write them; here they are read."""

    def __init__(self, history: DiskHistory) -> None:
        self._history = history

    def extend(self, messages: Sequence[Message]) -> None:
        """Their ring has them."""

    def remove(self, messages: Sequence[Message]) -> None:
        """Their ring has given them up."""

    def get(self, seq: int) -> Message | None:
        return self._history.get(seq)

    def after(self, seq: int) -> Iterator[Message]:
        return self._history.ascending("TRUE", (), seq)

    def newest(self) -> Iterator[Message]:
        return self._history.descending("TRUE", ())

    def before(self, time: float, head: int) -> int:
        return self._history.before(time, head)
