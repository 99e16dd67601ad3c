"""Frames in chunks: a frame is the bytes of one record behind their length and checksum, and a chunk is a part of the
row of frames.

So a chunk has the same size whatever is in it, and nobody has more in memory than a chunk and a record.
"""

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Final
from zlib import crc32

CHUNK_BYTES: Final = 1 << 20  # of a chunk but the last: a value that stores like to have, and few of them
_HEAD: Final = Struct("!II")  # of a frame: its length and its checksum


class FrameDamaged(Exception):
    """The bytes of a frame are not those that were written."""


def in_chunks(frames: Iterable[bytes]) -> Iterator[bytes]:
    row = bytearray()
    for frame in frames:
        row += _HEAD.pack(len(frame), crc32(frame))
        row += frame
        while len(row) >= CHUNK_BYTES:
            yield bytes(row[:CHUNK_BYTES])
            del row[:CHUNK_BYTES]
    if row:
        yield bytes(row)


class FrameReader:
    def __init__(self) -> None:
        self._row = bytearray()

    @property
    def is_empty(self) -> bool:
        """No frame has begun."""
        return not self._row

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The frames that end in this chunk. The caller must take all before it feeds the next. Raises
        FrameDamaged."""
        row, begin = self._row, 0
        row += chunk
        while (place := begin + _HEAD.size) <= len(row):
            length, checksum = _HEAD.unpack_from(row, begin)
            end = place + length
            if end > len(row):
                break
            frame = bytes(row[place:end])
            if crc32(frame) != checksum:
                raise FrameDamaged("a checksum is wrong")
            yield frame
            begin = end
        del row[:begin]
