"""Divides rows among statements. Each statement releases the GIL and may wait long for it, so they should be few."""

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

_ROWS: Final = (256, 128, 64, 32, 16, 8, 4, 3, 2, 1)  # in one statement: few lengths, each prepared once

T = TypeVar("T")


def parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """The items in parts of the allowed lengths."""
    place = 0
    while place < len(items):
        length = next(length for length in _ROWS if length <= len(items) - place)
        yield items[place : place + length]
        place += length
