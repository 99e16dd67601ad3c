"""A run: messages that took their places one after the other and differ in nothing but their bodies. It is one row of
the file, because a row costs far more than a body of usual size.
"""

import sqlite3
import struct
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from ..core.epochs import Epochs
from ..message import Death, Delivery, Message

COLUMNS: Final = (
    "seq", "topic", "position", "time", "one", "content_type", "data", "sizes", "expires", "event", "line", "death",
)  # fmt: skip
MOSTLY: Final = 8  # of them: the others are NULL in most rows, and each that is named costs time
COUNT: Final = "coalesce(length(sizes) / 4, 1)"  # how many messages a row is

_LONGEST: Final = 64  # messages in a row
_LARGEST: Final = 16 << 10  # bytes of bodies in a row: if some of them go, it is written anew
_ALL: Final = Delivery.ALL  # an enum's member is dear to look up

_encode = msgspec.msgpack.Encoder().encode
_decode_death = msgspec.msgpack.Decoder(Death).decode


class Run:
    """The messages of one row that are still there, by seq. `seq` is that of the last there was, and the row's key: so
    what lies behind a place is in the rows behind it, and in no other."""

    __slots__ = ("count", "for_all", "messages", "seq", "size", "topic")

    def __init__(self, messages: list[Message]) -> None:
        """There is at least one."""
        self.messages = {message.seq: message for message in messages}
        self.seq = messages[-1].seq
        self.topic = messages[-1].topic
        self.for_all = messages[-1].delivery is _ALL
        self.count = len(messages)  # in the row, as it was read or written last
        self.size = 0  # bytes for which a cache holds it

    @classmethod
    def of(cls, row: tuple[Any, ...], epochs: Epochs) -> "Run":
        """Raises sqlite3.DatabaseError when the bodies are not what the sizes say."""
        seq, topic, index, time, one, content_type, data, sizes, expires, event, line, death = row
        delivery, dead = Delivery.ONE if one else _ALL, None if death is None else _decode_death(death)
        bodies = [data] if sizes is None else [*_cut(data, sizes)]
        ahead = range(1 - len(bodies), 1)
        return cls([
            Message(
                epochs.of(seq + n), seq + n, index + n, topic, body, content_type, event, time,
                delivery, expires, line, True, dead,
            )
            for n, body in zip(ahead, bodies, strict=True)
        ])  # fmt: skip

    @property
    def torn(self) -> bool:
        """It cannot be a row as it is: others are gone than its first messages."""
        return bool(self.messages) and next(iter(self.messages)) + len(self.messages) - 1 != self.seq

    def gone(self, seq: int) -> int:
        """How many of the row's messages behind that place are not there any more."""
        return max(min(self.count, self.seq - seq), 0) - sum(left > seq for left in self.messages)

    def row(self) -> tuple[Any, ...]:
        *_, last = messages = [*self.messages.values()]
        bodies = [message.data for message in messages]
        sizes = struct.pack(f"<{len(bodies)}I", *map(len, bodies)) if len(bodies) > 1 else None
        death = None if last.death is None else _encode(last.death)
        return (
            last.seq, last.topic, last.index, last.time, int(last.delivery is not _ALL), last.content_type,
            b"".join(bodies), sizes, last.expires, last.event, last.line, death,
        )  # fmt: skip


def runs(messages: Iterable[Message]) -> Iterator[Run]:
    """All the messages, in runs that are as long as a row may be."""
    run: list[Message] = []
    octets, next_seq, alike = 0, 0, None
    for message in messages:
        octets += len(message.data)
        before, alike = alike, _likeness(message)
        follows = message.seq == next_seq and alike is not None and alike == before
        if run and not (follows and len(run) < _LONGEST and octets <= _LARGEST):
            yield Run(run)
            run, octets = [], len(message.data)
        run.append(message)
        next_seq = message.seq + 1
    if run:
        yield Run(run)


def sizes_in(octets: int, sizes: bytes | None) -> tuple[int, ...]:
    """Of each body in a row whose bodies are so many bytes."""
    return (octets,) if sizes is None else struct.unpack(f"<{len(sizes) // 4}I", sizes)


def _likeness(message: Message) -> tuple[Any, ...] | None:
    """What is the same for neighbours that can be in one row. What may go before its turn has a row of its own."""
    if message.delivery is not _ALL or message.expires is not None or message.line is not None or message.death:
        return None
    return message.topic, message.time, message.content_type, message.event


def _cut(data: bytes, sizes: bytes) -> Iterator[bytes]:
    end = 0
    for size in sizes_in(len(data), sizes):
        begin, end = end, end + size
        yield data[begin:end]
    if end != len(data):
        raise sqlite3.DatabaseError("the sizes of some messages are wrong")
