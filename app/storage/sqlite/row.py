"""A row of the file: a run of messages, or what is left of one."""

import sqlite3
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from typing import Any, Final

import msgspec

from ...log.epochs import Epochs
from ...log.run import MAX_RUN_BYTES, Run, memory_cost
from ...messages.message import Death, Delivery, Envelope

COLUMNS: Final = (
    "seq", "topic", "position", "time", "one", "content_type", "data", "sizes", "expires", "event", "line", "death",
    "at",
)  # fmt: skip
MOSTLY: Final = 8  # of them: the others are NULL in most rows, and each that is named costs time
LONGEST: Final = 128  # messages in a row
COUNT: Final = "coalesce(length(sizes) / 4, 1)"  # how many messages a row is

_encode = msgspec.msgpack.Encoder().encode
_decode_death = msgspec.msgpack.Decoder(Death).decode


class Row(msgspec.Struct, gc=False, eq=False):
    """What is left of a row, whose key is the seq of the last message it had; how many messages the file says it has;
    and for how many bytes a cache holds it."""

    key: int
    run: Run
    count: int
    size: int = 0

    @classmethod
    def made_of(cls, run: Run) -> "Row":
        return cls(run.key, run, run.live)

    @classmethod
    def of(cls, values: tuple[Any, ...], epochs: Epochs) -> "Row":
        """Raises sqlite3.DatabaseError when the bodies are not what the sizes say."""
        seq, topic, index, time, one, content_type, data, sizes, expires, event, line, death, at = values
        dead = None if death is None else _decode_death(death)
        delivery = Delivery.ONE if one else Delivery.ALL
        at = time if at is None else at
        ttl = None if expires is None else expires - at
        envelope = Envelope(topic, content_type, event, delivery, ttl=ttl, line=line, death=dead)
        bodies = (*_cut(data, sizes),)
        each = memory_cost(line, dead, ttl)
        live, epoch = len(bodies), epochs.of(seq)
        return cls.made_of(Run(envelope, epoch, seq, seq, index, time, at, expires, bodies, live, len(data), each))

    @property
    def values(self) -> tuple[Any, ...]:
        """Of the COLUMNS. It is not torn."""
        run, envelope = self.run, self.run.envelope
        bodies = [body for body in run.bodies if body is not None]
        sizes = struct.pack(f"<{len(bodies)}I", *map(len, bodies)) if len(bodies) > 1 else None
        death = None if envelope.death is None else _encode(envelope.death)
        at = None if run.at == run.time else run.at
        return (
            self.key, envelope.topic, run.index, run.time, int(not run.for_all), envelope.content_type,
            b"".join(bodies), sizes, run.expires, envelope.event, envelope.line, death,
            at,
        )  # fmt: skip

    def keep(self, left: Run | None) -> None:
        """This is left of it."""
        self.run = self.run.part(self.key, ()) if left is None else left

    @property
    def torn(self) -> bool:
        """It cannot be a row as it is: others are gone than its first messages."""
        return self.run.live > 0 and not _is_row(self.run)

    def gone(self, seq: int) -> int:
        """How many of the row's messages behind that place, which is before its key, are not there any more."""
        return min(self.count, self.key - seq) - self.run.count_after(seq)


def rows(runs: Iterable[Run]) -> Iterator[Row]:
    """All that is left of the runs, in rows as long as they may be."""
    row: list[Run] = []
    live = nbytes = 0
    for run in chain.from_iterable(map(_whole, runs)):
        live += run.live
        nbytes += run.nbytes
        if row and not (live <= LONGEST and nbytes <= MAX_RUN_BYTES and _follows(row[-1], run)):
            yield Row.made_of(_joined(row))
            row, live, nbytes = [], run.live, run.nbytes
        row.append(run)
    if row:
        yield Row.made_of(_joined(row))


def sizes_in(nbytes: int, sizes: bytes | None) -> tuple[int, ...]:
    """Of each body in a row whose bodies are so many bytes."""
    return (nbytes,) if sizes is None else struct.unpack(f"<{len(sizes) // 4}I", sizes)


def _whole(run: Run) -> Iterator[Run]:
    """What is left of it, in runs that can be rows."""
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
    """Whether it can be in the same row. What may go before its turn has a row of its own."""
    together = (run.epoch, run.time, run.at) == (next_one.epoch, next_one.time, next_one.at)
    alike = together and run.envelope == next_one.envelope
    return alike and run.seq + 1 == next_one.first and run.for_all and run.expires is None


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
