"""Messages in the file: a Ring for each topic's, and the Order of all. What is accepted is gathered, and written in few
statements; whoever looks makes sure first that it was. What is given up may stay in the file for a while, as noted.
"""

import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from types import MappingProxyType
from typing import Any, Final

from ..core.epochs import Epochs
from ..core.notes import Changed, forget
from ..message import Message
from .rows import parts
from .run import COLUMNS, COUNT, MOSTLY, Run, runs, sizes_in

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


class DiskHistory:
    """A row whose first messages are gone may stay as it is for a while, and so may one that has none any more: `left`,
    which is noted with each commit, says how many of a row's last messages are still there."""

    def __init__(
        self, db: sqlite3.Connection, epochs: Epochs, left: Mapping[int, int] = MappingProxyType({}),
        changed: Changed = forget,
    ) -> None:  # fmt: skip
        """`left`: as it was noted. `changed` hears when it is to be noted anew."""
        self.order = DiskOrder(self)
        self._db = db
        self._epochs = epochs
        self._changed: Changed = forget
        self._new: dict[int, Message] = {}  # accepted, not written yet; by seq
        self._less: dict[int, Run] = {}  # have fewer messages than their rows
        self._torn = False  # one of them has lost others than its first ones: `left` cannot say that
        self._cache: OrderedDict[int, Run] = OrderedDict()  # the newest that were written or read
        self._known: dict[int, Run] = {}  # the same, by the seq of each message
        self._cached = 0  # bytes that all in there had when they came
        for seq, count in left.items():
            run = self.run(seq)
            if count > run.count:
                raise sqlite3.DatabaseError("a row is noted to have more messages than it has")
            self.take(run, run.count - count)
        self._changed = changed

    def ring(self, topic: str) -> "DiskRing":
        return DiskRing(self, topic)

    @property
    def left(self) -> dict[int, int]:
        """How many messages are left of those rows that have had more."""
        return {seq: len(run.messages) for seq, run in self._less.items()}

    # Changes

    def add(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self._new[message.seq] = message

    def remove(self, seq: int) -> bool:
        """False when it is gone already."""
        if self._new.pop(seq, None):
            return True
        if self.get(seq) is None:
            return False
        run = self._known.pop(seq)
        del run.messages[seq]
        self._lessen(run)
        self._torn = self._torn or run.torn
        return True

    def take(self, run: Run, count: int) -> list[Message]:
        """Give up the first messages of a run that was just read, at most so many."""
        taken = [*islice(run.messages.values(), count)]
        for message in taken:
            del run.messages[message.seq], self._known[message.seq]
        self._lessen(run)
        return taken

    def _lessen(self, run: Run) -> None:
        if not run.messages:
            self._forget(run)
        self._less[run.seq] = run
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
            torn = [run for run in less.values() if run.torn]
            for run in torn:
                self._forget(run)
            self._delete([run.seq for run in less.values() if run.torn or not run.messages])
            shorter = [run for run in less.values() if run.messages and not run.torn]
            self._put([*shorter, *runs([message for run in torn for message in run.messages.values()])])
            self._changed("left", ())
        self._put_new()

    def _put_new(self) -> None:
        if self._new:
            new, self._new = self._new, {}
            self._put([*runs(new.values())])

    def _delete(self, seqs: Sequence[int]) -> None:
        for places in parts(seqs):
            self._db.execute(f"DELETE FROM message WHERE seq IN ({', '.join('?' * len(places))})", places)

    def _put(self, these: Sequence[Run]) -> None:
        rows = [run.row() for run in these]
        width = MOSTLY if all(row[MOSTLY:] == _NOTHING for row in rows) else len(COLUMNS)
        for part in parts(rows):
            self._db.execute(_insert(width, len(part)), [value for row in part for value in row[:width]])
        for run, row in zip(these, rows, strict=True):
            run.count = len(run.messages)
            self._remember(run, len(row[_DATA]))

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
                self._put_new()

    def descending(self, where: str, values: tuple[Any, ...]) -> Iterator[Message]:
        """Messages, newest first, read page by page."""
        self._put_new()
        seq = last = 1 << 62
        size = _FIRST_PAGE
        while found := self._select(f"{where} AND seq < ? ORDER BY seq DESC", (*values, seq), size):
            # A row may have become several since its messages were yielded.
            page = [message for run in found for message in reversed(run.messages.values()) if message.seq < last]
            yield from page
            seq, size = found[-1].seq, min(2 * size, _LAST_PAGE)
            last = page[-1].seq if page else last

    def before(self, time: float, head: int) -> int:
        """By bisection: time never falls as seq rises."""
        self._put_new()
        low, high = 0, head  # every message up to `low` is older; every one behind `high` is not
        while low < high:
            row = self._db.execute(
                "SELECT seq, time FROM message WHERE seq > ? ORDER BY seq LIMIT 1", ((low + high) // 2,)
            ).fetchone()
            if row is None or row[1] >= time:
                high = (low + high) // 2
            else:
                low = row[0]
        first = next(self.ascending("TRUE", (), low), None)
        return head if first is None else first.seq - 1

    def count(self, topic: str, seq: int) -> int:
        self._put_new()
        sql = f"SELECT coalesce(sum(min({COUNT}, seq - ?)), 0) FROM message WHERE topic = ? AND seq > ? AND NOT one"
        count: int = self._db.execute(sql, (seq, topic, seq)).fetchone()[0]
        return count - sum(run.gone(seq) for run in self._less.values() if run.topic == topic and run.for_all)

    def sizes(self, topic: str) -> Iterator[tuple[int, int]]:
        self._put_new()
        sql = "SELECT seq, length(data), sizes FROM message WHERE topic = ? AND NOT one"
        for last, octets, sizes in self._db.execute(sql, (topic,)):
            if run := self._less.get(last):
                yield from [(message.seq, len(message.data)) for message in run.messages.values()]
            else:
                each = sizes_in(octets, sizes)
                yield from enumerate(each, last - len(each) + 1)

    def rows(self, topic: str, seq: int) -> list[int]:
        """The keys of the topic's next rows behind that one. Each stays until take() has emptied it, or a message is
        removed; so nothing that is only noted may be among them."""
        self.flush()
        sql = "SELECT seq FROM message WHERE topic = ? AND seq > ? ORDER BY seq LIMIT ?"
        return [key for (key,) in self._db.execute(sql, (topic, seq, _NEXT))]

    def run(self, key: int) -> Run:
        """What is left of the row, which is there."""
        return self._cache.get(key) or self._select("seq = ?", (key,), 1)[0]

    def _select(self, where: str, values: tuple[Any, ...], limit: int) -> list[Run]:
        """What is written, and is left: so many rows, or a page of them. Some may have no messages any more."""
        found: list[Run] = []
        octets = 0
        cursor = self._db.execute(f"{_SELECT} WHERE {where} LIMIT ?", (*values, limit))
        for row in cursor:
            seq = row[0]
            found.append(run := self._cache.get(seq) or self._less.get(seq) or Run.of(row, self._epochs))
            size = len(row[_DATA])
            self._remember(run, size)
            octets += size
            if octets > _PAGE_BYTES:
                break
        cursor.close()
        return found

    def _remember(self, run: Run, octets: int) -> None:
        """`octets`: of all its bodies."""
        if run.messages and run.seq not in self._cache:
            self._cache[run.seq] = run
            self._known.update(dict.fromkeys(run.messages, run))
            run.size = octets + _OVERHEAD * len(run.messages)
            self._cached += run.size
        while self._cached > _CACHE and len(self._cache) > 1:
            self._forget(next(iter(self._cache.values())))

    def _forget(self, run: Run) -> None:
        if self._cache.pop(run.seq, None):
            self._cached -= run.size
            for seq in run.messages:
                del self._known[seq]


@lru_cache
def _insert(width: int, rows: int) -> str:
    columns, places = ", ".join(COLUMNS[:width]), ", ".join("?" * width)
    return f"INSERT OR REPLACE INTO message ({columns}) VALUES {', '.join([f'({places})'] * rows)}"


class DiskRing:
    """One topic's messages. `live` is kept by whoever makes the ring. A topic has one ring at a time, by which alone
    its messages go: so what it knows of their rows stays true."""

    __slots__ = ("_history", "_next", "_past", "_topic", "live")

    def __init__(self, history: DiskHistory, topic: str) -> None:
        self.live = 0
        self._history = history
        self._topic = topic
        self._past = 0  # all is behind this place
        self._next: list[int] = []  # the keys of the oldest rows, as far as they are known; the oldest last

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
        self._next.clear()  # its row may become several
        return True

    def shift(self, count: int) -> list[Message]:
        taken: list[Message] = []
        while len(taken) < count and (run := self._first_run()):
            taken += self._history.take(run, count - len(taken))
            if not run.messages:
                self._past = self._next.pop()
        self.live -= len(taken)
        return taken

    def _first_run(self) -> Run | None:
        if not self._next:
            self._next = self._history.rows(self._topic, self._past)[::-1]
        return self._history.run(self._next[-1]) if self._next else None

    def get(self, seq: int) -> Message | None:
        message = self._history.get(seq)
        return message if message is not None and message.topic == self._topic else None

    def after(self, seq: int) -> Iterator[Message]:
        return self._history.ascending("topic = ?", (self._topic,), max(seq, self._past))

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
