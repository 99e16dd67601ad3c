"""Messages in the file: a Ring for each topic's, and the Order of all. What is accepted or given up is gathered, and
written in few statements; whoever looks makes sure first that it was.
"""

import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

import msgspec

from ..core.epochs import Epochs
from ..message import Death, Delivery, Message
from .rows import parts

_COLUMNS: Final = (
    "seq", "topic", "position", "time", "one", "content_type", "data", "expires", "event", "line", "death",
)  # fmt: skip
_MOSTLY: Final = 7  # of them: the others are NULL in most messages, and each that is named costs time
_FIRST_PAGE: Final = 8  # messages that are read at first; then twice as many each time
_LAST_PAGE: Final = 256
_CACHE: Final = 16 << 20  # bytes of messages that are remembered, so that an ack need not look for them
_OVERHEAD: Final = 512  # bytes of each besides its body
_PAGE_BYTES: Final = 1 << 20  # of bodies, after which a page ends

_encode = msgspec.msgpack.Encoder().encode
_decode_death = msgspec.msgpack.Decoder(Death).decode


class DiskHistory:
    def __init__(self, db: sqlite3.Connection, epochs: Epochs) -> None:
        self.order = DiskOrder(self)
        self._db = db
        self._epochs = epochs
        self._new: dict[int, Message] = {}  # accepted, not written yet; by seq
        self._gone: set[int] = set()  # given up, not written yet
        self._cache: OrderedDict[int, Message] = OrderedDict()  # the newest that were accepted or read; all are there
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
        self._cached -= len(self._cache.pop(seq).data) + _OVERHEAD
        self._gone.add(seq)
        return True

    def flush(self) -> None:
        """Write down what was gathered."""
        if self._new:
            messages, self._new = [*self._new.values()], {}
            self._insert([_row(message) for message in messages])
            self._remember(messages)
        if self._gone:
            seqs, self._gone = [*self._gone], set()
            for places in parts(seqs):
                self._db.execute(f"DELETE FROM message WHERE seq IN ({', '.join('?' * len(places))})", places)

    def _insert(self, rows: Sequence[tuple[Any, ...]]) -> None:
        width = _MOSTLY if all(row[_MOSTLY:] == _NOTHING for row in rows) else len(_COLUMNS)
        columns, places = ", ".join(_COLUMNS[:width]), ", ".join("?" * width)
        for part in parts(rows):
            values = [value for row in part for value in row[:width]]
            self._db.execute(f"INSERT INTO message ({columns}) VALUES {', '.join([f'({places})'] * len(part))}", values)

    # Reading

    def get(self, seq: int) -> Message | None:
        if seq in self._gone:
            return None
        known = self._new.get(seq) or self._cache.get(seq)
        return known or next(iter(self._select("seq = ?", (seq,), 1)), None)

    def ascending(self, where: str, values: tuple[Any, ...], seq: int) -> Iterator[Message]:
        """Messages behind that place, oldest first, read page by page."""
        size = _FIRST_PAGE
        while page := self._select(f"{where} AND seq > ? ORDER BY seq", (*values, seq), size):
            yield from page
            seq, size = page[-1].seq, min(2 * size, _LAST_PAGE)

    def descending(self, where: str, values: tuple[Any, ...]) -> Iterator[Message]:
        """Messages, newest first, read page by page."""
        seq, size = 1 << 62, _FIRST_PAGE
        while page := self._select(f"{where} AND seq < ? ORDER BY seq DESC", (*values, seq), size):
            yield from page
            seq, size = page[-1].seq, min(2 * size, _LAST_PAGE)

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
        first = self._db.execute("SELECT seq FROM message WHERE seq > ? ORDER BY seq LIMIT 1", (low,)).fetchone()
        return first[0] - 1 if first else head

    def count(self, topic: str, seq: int) -> int:
        self.flush()
        sql = "SELECT count(*) FROM message WHERE topic = ? AND seq > ? AND NOT one"
        count: int = self._db.execute(sql, (topic, seq)).fetchone()[0]
        return count

    def sizes(self, topic: str) -> Iterator[tuple[int, int]]:
        self.flush()
        return self._db.execute("SELECT seq, length(data) FROM message WHERE topic = ? AND NOT one", (topic,))

    def _select(self, where: str, values: tuple[Any, ...], limit: int) -> list[Message]:
        self.flush()
        messages: list[Message] = []
        octets = 0
        cursor = self._db.execute(f"{_SELECT} WHERE {where} LIMIT ?", (*values, limit))
        for row in cursor:
            message = self._cache.get(row[0]) or self._message(row)
            messages.append(message)
            octets += len(message.data)
            if octets > _PAGE_BYTES:
                break
        cursor.close()
        self._remember(messages)
        return messages

    def _remember(self, messages: Iterable[Message]) -> None:
        for message in messages:
            if message.seq not in self._cache:
                self._cache[message.seq] = message
                self._cached += len(message.data) + _OVERHEAD
        while self._cached > _CACHE and len(self._cache) > 1:
            self._cached -= len(self._cache.popitem(last=False)[1].data) + _OVERHEAD

    def _message(self, row: tuple[Any, ...]) -> Message:
        seq, topic, position, time, one, content_type, data, expires, event, line, death = row
        return Message(
            self._epochs.of(seq), seq, position, topic, data, content_type, event, time,
            Delivery.ONE if one else Delivery.ALL, expires, line, True, None if death is None else _decode_death(death),
        )  # fmt: skip


_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM message"
_NOTHING: Final = (None,) * (len(_COLUMNS) - _MOSTLY)


def _row(message: Message) -> tuple[Any, ...]:
    death = None if message.death is None else _encode(message.death)
    return (
        message.seq, message.topic, message.index, message.time, int(message.delivery is Delivery.ONE),
        message.content_type, message.data, message.expires, message.event, message.line, death,
    )  # fmt: skip


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
        for message in taken:
            self.remove(message)
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
