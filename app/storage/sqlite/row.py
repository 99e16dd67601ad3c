"""A row of the message table: a run of messages, or what is left of one."""

import sqlite3
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from typing import Any, Final

import msgspec

from ...log.epochs import Epochs
from ...log.run import MAX_RUN_BYTES, Run, memory_cost
from ...messages.message import Death, Delivery, Envelope, Redrive
from ...messages.ordering import Ordering

COLUMNS: Final = (
    "seq", "topic", "position", "time", "one", "content_type", "data", "sizes", "expires", "event", "line", "death",
    "at", "headers", "redrive", "ordering",
)  # fmt: skip
COMMON_COLUMNS: Final = 8  # the first columns; the others are NULL in most rows, and naming them costs time
MAX_ROW_MESSAGES: Final = 128  # messages in one row
COUNT: Final = "coalesce(length(sizes) / 4, 1)"  # SQL: the number of messages in a row

_encode = msgspec.msgpack.Encoder().encode
_FOR_ONE: Final = 1  # in the column `one`
_FOR_GROUP: Final = 2
_decode_redrive = msgspec.msgpack.Decoder(Redrive).decode
_decode_ordering = msgspec.msgpack.Decoder(Ordering).decode
_decode_death = msgspec.msgpack.Decoder(Death).decode


class Row(msgspec.Struct, gc=False, eq=False):
    """`key`: the seq of the last message that the row had. `run`: what is left of it. `count`: the number of messages
    in the file. `size`: in bytes, as counted by the cache."""

    key: int
    run: Run
    count: int
    size: int = 0

    @classmethod
    def of_run(cls, run: Run) -> "Row":
        return cls(run.key, run, run.live)

    @classmethod
    def of_values(cls, values: tuple[Any, ...], epochs: Epochs) -> "Row":
        """Raises sqlite3.DatabaseError if the sizes do not match the bodies."""
        (
            seq, topic, index, time, one, content_type, data, sizes, expires, event, line, death, at, headers, redrive,
            ordering,
        ) = values  # fmt: skip
        dead = None if death is None else _decode_death(death)
        back = None if redrive is None else _decode_redrive(redrive)
        order = None if ordering is None else _decode_ordering(ordering)
        delivery = Delivery.ONE if one == _FOR_ONE else Delivery.ALL
        at = time if at is None else at
        ttl = None if expires is None else expires - at
        envelope = Envelope(
            topic, content_type, event, delivery, ttl=ttl, line=line, death=dead, headers=headers, redrive=back,
            ordering=order,
        )  # fmt: skip
        bodies = (*_cut(data, sizes),)
        each = memory_cost(envelope)
        live, epoch = len(bodies), epochs.of(seq)
        return cls.of_run(Run(envelope, epoch, seq, seq, index, time, at, expires, bodies, live, len(data), each))

    @property
    def values(self) -> tuple[Any, ...]:
        """The values of COLUMNS. The row must not be fragmented."""
        run, envelope = self.run, self.run.envelope
        bodies = [body for body in run.bodies if body is not None]
        sizes = struct.pack(f"<{len(bodies)}I", *map(len, bodies)) if len(bodies) > 1 else None
        death = None if envelope.death is None else _encode(envelope.death)
        at = None if run.at == run.time else run.at
        redrive = None if envelope.redrive is None else _encode(envelope.redrive)
        ordering = None if envelope.ordering is None else _encode(envelope.ordering)
        shared = 0 if run.for_all else _FOR_GROUP if redrive else _FOR_ONE
        return (
            self.key, envelope.topic, run.index, run.time, shared, envelope.content_type,
            b"".join(bodies), sizes, run.expires, envelope.event, envelope.line, death,
            at, envelope.headers, redrive, ordering,
        )  # fmt: skip

    def set_remaining(self, left: Run | None) -> None:
        """Set what is left of the row."""
        self.run = self.run.part(self.key, ()) if left is None else left

    @property
    def fragmented(self) -> bool:
        """True if messages other than its first ones were removed: it cannot be one row any more."""
        return self.run.live > 0 and not _is_row(self.run)

    def count_removed_after(self, seq: int) -> int:
        """The number of removed messages after `seq`, which is before the key."""
        return min(self.count, self.key - seq) - self.run.count_after(seq)


def origin_of(death: bytes) -> tuple[str, str]:
    """The topic and the group that gave up a dead message."""
    known = _decode_death(death)
    return known.topic, known.group


def priority_of(ordering: bytes) -> int:
    return _decode_ordering(ordering).priority


def rows(runs: Iterable[Run]) -> Iterator[Row]:
    """Rows of what is left of the runs, each as long as allowed."""
    row: list[Run] = []
    live = nbytes = 0
    for run in chain.from_iterable(map(_whole, runs)):
        live += run.live
        nbytes += run.nbytes
        if row and not (live <= MAX_ROW_MESSAGES and nbytes <= MAX_RUN_BYTES and _follows(row[-1], run)):
            yield Row.of_run(_joined(row))
            row, live, nbytes = [], run.live, run.nbytes
        row.append(run)
    if row:
        yield Row.of_run(_joined(row))


def sizes_in(nbytes: int, sizes: bytes | None) -> tuple[int, ...]:
    """The size of each body of a row with `nbytes` bytes of bodies."""
    return (nbytes,) if sizes is None else struct.unpack(f"<{len(sizes) // 4}I", sizes)


def _whole(run: Run) -> Iterator[Run]:
    """What is left of the run, as runs that can be rows."""
    if _is_row(run):
        yield run
        return
    seq = run.first - 1
    for gone, some in groupby(run.bodies, lambda body: body is None):
        bodies = (*some,)
        seq += len(bodies)
        if not gone:
            yield run.part(seq, bodies)


def _is_row(run: Run) -> bool:
    return run.whole and run.seq == run.key


def _follows(run: Run, next_one: Run) -> bool:
    """True if both can be in one row. A message that may be removed out of order has a row of its own."""
    together = (run.epoch, run.time, run.at) == (next_one.epoch, next_one.time, next_one.at)
    alike = together and run.envelope == next_one.envelope
    alone = not run.for_all or run.expires is not None or run.envelope.ordering is not None
    return alike and run.seq + 1 == next_one.first and not alone


def _joined(runs: Sequence[Run]) -> Run:
    bodies = tuple([body for run in runs for body in run.bodies])
    nbytes = sum([run.nbytes for run in runs])
    return msgspec.structs.replace(runs[-1], bodies=bodies, live=len(bodies), nbytes=nbytes)


def _cut(data: bytes, sizes: bytes | None) -> Iterator[bytes]:
    end = 0
    for size in sizes_in(len(data), sizes):
        begin, end = end, end + size
        yield data[begin:end]
    if end != len(data):
        raise sqlite3.DatabaseError("the sizes of some messages are wrong")
