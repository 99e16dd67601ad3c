"""What a file of the log holds, read without the log: a row is one message, or several that follow each other."""

import sqlite3
import struct
from collections.abc import Iterator
from typing import NamedTuple

import msgspec


class Kept(NamedTuple):
    seq: int
    topic: str
    position: int
    body: bytes
    dead: bool


def kept(db: sqlite3.Connection) -> list[Kept]:
    """Every message, in the log's order."""
    rows = db.execute("SELECT seq, topic, position, data, sizes, death IS NOT NULL FROM message ORDER BY seq")
    note = db.execute("SELECT value FROM note WHERE kind = 'left'").fetchone()
    left = msgspec.msgpack.decode(note[0], type=dict[int, int]) if note else {}
    return [message for row in rows for message in _last([*_unpacked(*row)], left.get(row[0]))]


def _last(messages: list[Kept], left: int | None) -> list[Kept]:
    """What is left of a row that had more."""
    return messages if left is None else messages[len(messages) - left :]


def _unpacked(seq: int, topic: str, position: int, data: bytes, sizes: bytes | None, dead: int) -> Iterator[Kept]:
    lengths = [len(data)] if sizes is None else [length for (length,) in struct.iter_unpack("<I", sizes)]
    assert sum(lengths) == len(data)
    for ahead, length in zip(range(len(lengths) - 1, -1, -1), lengths, strict=True):
        yield Kept(seq - ahead, topic, position - ahead, data[:length], bool(dead))
        data = data[length:]
